"""Batches of every size from one compilation: `python benchmarks/symbolic_batch.py [mlp cnn] [--sizes 1 64]`.

Each network is declared with a batch of None and with a batch of each size, and the same step is timed in turn.  Prints
microseconds (medians over rounds), their ratio (1.15 is the aim), and how often the symbolic one was compiled.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np

import graphflow as tf
from graphflow.compiler import pipeline

Step = Callable[[], Any]
ROUNDS, SECONDS = 7, 0.04


def weights(*shape: int, scale: float = 0.05) -> tf.Variable:
    return tf.Variable(np.random.default_rng(sum(shape)).standard_normal(shape).astype(np.float32) * scale)


def mlp(x: Any) -> Any:
    hidden = tf.nn.relu(tf.matmul(x, weights(784, 128)) + weights(128))
    return tf.matmul(hidden, weights(128, 10)) + weights(10)


def cnn(x: Any) -> Any:
    for inputs, outputs in ((1, 16), (16, 32)):
        x = tf.nn.conv2d(x, weights(3, 3, inputs, outputs), strides=[1, 1, 1, 1], padding="SAME")
        x = tf.nn.max_pool(tf.nn.relu(x + weights(outputs)), [1, 2, 2, 1], [1, 2, 2, 1], "SAME")
    return tf.matmul(tf.reshape(x, [-1, 7 * 7 * 32]), weights(7 * 7 * 32, 10)) + weights(10)


def transformer(x: Any, length: int = 64, width: int = 128, heads: int = 4) -> Any:
    def dense(v: Any, inputs: int, outputs: int) -> Any:
        flat = tf.matmul(tf.reshape(v, [-1, inputs]), weights(inputs, outputs)) + weights(outputs)
        return tf.reshape(flat, [-1, length, outputs])

    def norm(v: Any) -> Any:
        centred = v - tf.reduce_mean(v, axis=-1, keepdims=True)
        return centred * tf.rsqrt(tf.reduce_mean(tf.square(centred), axis=-1, keepdims=True) + 1e-5) * weights(width)

    def split(v: Any) -> Any:
        return tf.transpose(tf.reshape(v, [-1, length, heads, width // heads]), [0, 2, 1, 3])

    n = norm(x)
    q, k, v = (split(dense(n, width, width)) for _ in range(3))
    attention = tf.nn.softmax(tf.matmul(q, k, transpose_b=True) * (width // heads) ** -0.5)
    context = tf.reshape(tf.transpose(tf.matmul(attention, v), [0, 2, 1, 3]), [-1, length, width])
    x = x + dense(context, width, width)
    x = x + dense(tf.tanh(dense(norm(x), width, 4 * width)), 4 * width, width)
    return tf.matmul(tf.reduce_mean(x, axis=1), weights(width, 10)) + weights(10)


NETWORKS: dict[str, tuple[Callable[[Any], Any], tuple[int, ...]]] = {
    "mlp": (mlp, (784,)),
    "cnn": (cnn, (28, 28, 1)),
    "transformer": (transformer, (64, 128)),
}


def training(name: str, batch: int | None) -> Callable[[int], Step]:
    """A function from a size to one training step with a batch of it; all share a session."""
    network, shape = NETWORKS[name]
    graph = tf.Graph()
    with graph.as_default():
        x, y = tf.placeholder(tf.float32, [batch, *shape]), tf.placeholder(tf.int32, [batch])
        loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels=y, logits=network(x)))
        train = tf.train.AdamOptimizer(1e-6).minimize(loss)
        session = tf.Session(graph=graph)
        session.run(tf.global_variables_initializer())
    call = session.make_callable([train, loss], [x, y])

    def step(size: int) -> Step:
        rng = np.random.default_rng(size)
        images, labels = rng.random((size, *shape), np.float32), rng.integers(0, 10, size, np.int32)
        return lambda: call(images, labels)

    return step


def medians(steps: list[Step]) -> list[float]:
    """Microseconds of each, timed in turn."""
    samples: list[list[float]] = [[] for _ in steps]
    for step in steps:
        step()
    for _ in range(ROUNDS):
        for step, times in zip(steps, samples, strict=True):
            one, end = [], time.perf_counter() + SECONDS
            while time.perf_counter() < end or len(one) < 3:
                start = time.perf_counter()
                step()
                one.append(time.perf_counter() - start)
            times.append(statistics.median(one))
    return [1e6 * statistics.median(times) for times in samples]


def compilations(run: Callable[[], None]) -> int:
    """How often the compiler is entered while `run` runs."""
    entered, original = 0, pipeline.capture

    def counted(*arguments: Any) -> Any:
        nonlocal entered
        entered += 1
        return original(*arguments)

    pipeline.capture = counted
    try:
        run()
    finally:
        pipeline.capture = original
    return entered


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", nargs="*", default=list(NETWORKS))
    parser.add_argument("--sizes", nargs="+", type=int, default=[1, 2, 4, 8, 16, 32, 64])
    options = parser.parse_args()
    for name in options.networks:
        symbolic = training(name, None)
        entered = compilations(lambda symbolic=symbolic: [symbolic(size)() for size in options.sizes])
        print(f"{name}: {entered} compilation(s) for batches of {options.sizes}")
        for size in options.sizes:
            one, static = medians([symbolic(size), training(name, size)(size)])
            print(f"  {size:4d}   symbolic {one:9.1f} us   static {static:9.1f} us   x{one / static:.2f}", flush=True)


if __name__ == "__main__":
    main()
