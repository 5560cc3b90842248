"""The workloads in TensorFlow-1 names: one text for graphflow, TensorFlow 1.15, compat.v1, and the same with XLA.

    step = make_step(tf, workload)      # tf is any of them
    step()                              # runs once, returns a NumPy value

A formula is a function of `tf`, the fed placeholders, and the weights.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from importlib import import_module
from typing import Any

from graphflow.bench.ocean import isoneutral_mixing, sea_water_density
from graphflow.bench.workloads import HEADS, LEARNING_RATE, STEPS, Workload


def load(framework: str) -> tuple[Callable[[Workload], Callable[[], Any]], str]:
    """Import graphflow, TensorFlow 1 ("tf115"), TensorFlow 2 by compat.v1 ("tf"), or that with XLA ("tf-xla")."""
    if framework == "graphflow":
        tf = import_module("graphflow")
        return lambda workload: make_step(tf, workload), tf.__version__
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    if framework == "tf-xla":
        os.environ["TF_XLA_FLAGS"] = "--tf_xla_auto_jit=2 --tf_xla_cpu_global_jit"
    tensorflow = import_module("tensorflow")
    tf = tensorflow.compat.v1
    tf.logging.set_verbosity(tf.logging.ERROR)
    if framework != "tf115":
        tf.disable_v2_behavior()
    return lambda workload: make_step(tf, workload), tensorflow.__version__


class Program:
    """A workload declared in a graph of its own, and a session to run it."""

    def __init__(self, tf: Any, workload: Workload) -> None:
        fed, weights = workload.arrays()
        with tf.Graph().as_default():
            feeds = [tf.placeholder(tf.as_dtype(a.dtype.name), a.shape) for a in fed]
            variables = [tf.Variable(w) for w in weights]
            self.result = FORMULAS[workload.kind](tf, *feeds, *variables)
            train = optimizer(tf, workload.optimizer)
            self.fetches = [train.minimize(self.result), self.result] if train else self.result
            self.session = tf.Session()
            self.session.run(tf.global_variables_initializer())
        self.feeds, self.values = feeds, list(fed)

    def step(self, plain_run: bool) -> Callable[[], Any]:
        """What a user would call in a loop."""
        if plain_run:
            feed = dict(zip(self.feeds, self.values))  # noqa: B905  (Python 3.7)
            return lambda: self.session.run(self.fetches, feed_dict=feed)
        call = self.session.make_callable(self.fetches, feed_list=self.feeds)
        if isinstance(self.fetches, list):
            return lambda: call(*self.values)[1]
        return lambda: call(*self.values)


def make_step(tf: Any, workload: Workload) -> Callable[[], Any]:
    """A function that runs the workload once and returns its value. KeyError if there is no text for it."""
    return Program(tf, workload).step(plain_run=workload.kind == "call_run")


def optimizer(tf: Any, name: str) -> Any:
    """The optimizer that a workload names, or None."""
    if name == "adam":
        return tf.train.AdamOptimizer(LEARNING_RATE)
    if name == "momentum":
        return tf.train.MomentumOptimizer(LEARNING_RATE, 0.9)
    return tf.train.GradientDescentOptimizer(LEARNING_RATE) if name else None


def chain(tf: Any, x: Any, w: Any) -> Any:
    return tf.tanh(x * w + 0.5) * tf.sigmoid(x) + tf.exp(-w * w)


def gelu(tf: Any, x: Any) -> Any:
    return 0.5 * x * (1.0 + tf.tanh(0.7978845608 * (x + 0.044715 * x * x * x)))


def normalized(tf: Any, x: Any, scale: Any, shift: Any) -> Any:
    mean = tf.reduce_mean(x, axis=-1, keepdims=True)
    variance = tf.reduce_mean(tf.square(x - mean), axis=-1, keepdims=True)
    return (x - mean) * tf.rsqrt(variance + 1e-5) * scale + shift


def cross_entropy(tf: Any, labels: Any, logits: Any) -> Any:
    return tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits))


def conv(tf: Any, x: Any, w: Any, padding: str = "SAME") -> Any:
    return tf.nn.conv2d(x, w, strides=[1, 1, 1, 1], padding=padding)


def depthwise(tf: Any, x: Any, w: Any) -> Any:
    return tf.nn.depthwise_conv2d(x, w, strides=[1, 1, 1, 1], padding="SAME")


def bottleneck(tf: Any, x: Any, w1: Any, b1: Any, w2: Any, b2: Any, w3: Any, b3: Any) -> Any:
    y = tf.nn.relu(conv(tf, x, w1) + b1)
    y = tf.nn.relu(conv(tf, y, w2) + b2)
    return tf.nn.relu(conv(tf, y, w3) + b3 + x)


def attention(tf: Any, q: Any, k: Any, v: Any) -> Any:
    depth = q.shape.as_list()[-1]
    return tf.matmul(tf.nn.softmax(tf.matmul(q, k, transpose_b=True) * depth**-0.5), v)


def mlp(tf: Any, x: Any, y: Any, w1: Any, b1: Any, w2: Any, b2: Any) -> Any:
    return cross_entropy(tf, y, tf.matmul(tf.nn.relu(tf.matmul(x, w1) + b1), w2) + b2)


def cnn(tf: Any, x: Any, y: Any, k1: Any, c1: Any, k2: Any, c2: Any, w1: Any, b1: Any, w2: Any, b2: Any) -> Any:
    for k, c in ((k1, c1), (k2, c2)):
        x = tf.nn.relu(conv(tf, x, k, "VALID") + c)
        x = tf.nn.max_pool(x, ksize=[1, 2, 2, 1], strides=[1, 2, 2, 1], padding="VALID")
    return mlp(tf, tf.reshape(x, [-1, 320]), y, w1, b1, w2, b2)


def lstm(tf: Any, x: Any, y: Any, w: Any, b: Any, w_out: Any, b_out: Any) -> Any:
    batch, hidden = x.shape.as_list()[0], w_out.shape.as_list()[0]
    cell = state = tf.zeros([batch, hidden])
    for now in tf.unstack(x, axis=1):
        gates = tf.matmul(tf.concat([now, state], 1), w) + b
        new, candidate, forget, out = tf.split(gates, 4, axis=1)
        cell = cell * tf.sigmoid(forget + 1.0) + tf.sigmoid(new) * tf.tanh(candidate)
        state = tf.tanh(cell) * tf.sigmoid(out)
    return cross_entropy(tf, y, tf.matmul(state, w_out) + b_out)


def transformer(tf: Any, x: Any, y: Any, *weights: Any) -> Any:
    batch, times, width = x.shape.as_list()
    norms, dense = weights[:4], list(zip(weights[4::2], weights[5::2]))  # noqa: B905  (Python 3.7)

    def layer(v: Any, number: int) -> Any:
        w, b = dense[number]
        inputs, outputs = w.shape.as_list()
        return tf.reshape(tf.matmul(tf.reshape(v, [-1, inputs]), w) + b, [batch, times, outputs])

    def heads(v: Any) -> Any:
        return tf.transpose(tf.reshape(v, [batch, times, HEADS, width // HEADS]), [0, 2, 1, 3])

    before = normalized(tf, x, *norms[:2])
    mixed = attention(tf, *(heads(layer(before, n)) for n in range(3)))
    x = x + layer(tf.reshape(tf.transpose(mixed, [0, 2, 1, 3]), [batch, times, width]), 3)
    x = x + layer(gelu(tf, layer(normalized(tf, x, *norms[2:]), 4)), 5)
    w, b = dense[6]
    return cross_entropy(tf, y, tf.matmul(tf.reduce_mean(x, axis=1), w) + b)


def embedding(tf: Any, rows: Any, wanted: Any, table: Any) -> Any:
    return tf.reduce_sum(tf.square(tf.gather(table, rows) - wanted))


def loop(tf: Any, x: Any) -> Any:
    return tf.while_loop(lambda n, v: n < STEPS, lambda n, v: (n + 1, tf.tanh(v * 1.01 + 0.1)), [tf.constant(0), x])[1]


def isoneutral(tf: Any, t: Any, s: Any, sea: Any, z: Any) -> Any:
    return tf.stack(isoneutral_mixing(t, s, sea, z, tf.tanh, tf.abs, lambda v: tf.minimum(v, 0.0)))


FORMULAS: dict[str, Callable[..., Any]] = {
    "call_run": lambda tf, x: x + 1.0,
    "call": lambda tf, x: x + 1.0,
    "chain": chain,
    "axpy": lambda tf, x, w: 2.0 * x + w,
    "gelu_sum": lambda tf, x: tf.reduce_sum(gelu(tf, x)),
    "density": lambda tf, s, t, p: sea_water_density(s, t, p, tf.sqrt),
    "isoneutral": isoneutral,
    "softmax": lambda tf, x: tf.nn.softmax(x),
    "layernorm": normalized,
    "transpose": lambda tf, x: tf.transpose(x) * 2.0,
    "colsum": lambda tf, x: tf.reduce_sum(x, axis=0),
    "rowsum": lambda tf, x: tf.reduce_sum(x, axis=1),
    "gemm": lambda tf, a, b: tf.matmul(a, b),
    "bmm": lambda tf, a, b: tf.matmul(a, b),
    "gemv": lambda tf, a, b: tf.matmul(a, b),
    "dense": lambda tf, a, b, c: tf.nn.relu(tf.matmul(a, b) + c),
    "conv3x3": lambda tf, x, w: tf.nn.relu(conv(tf, x, w)),
    "conv1x1": lambda tf, x, w: tf.nn.relu(conv(tf, x, w)),
    "depthwise": depthwise,
    "bottleneck": bottleneck,
    "attention": attention,
    "mlp_train": mlp,
    "cnn_train": cnn,
    "lstm_train": lstm,
    "transformer_train": transformer,
    "adam_small": lambda tf, *weights: tf.add_n([tf.nn.l2_loss(w) for w in weights]),
    "embedding_train": embedding,
    "loop": loop,
}
