"""Train the demo's networks and say how it goes.

    run_demo(Options(networks=("mlp",), epochs=1), sys.stdout)

The loop is the one that every TensorFlow-1 program has: feed a batch, run the training step, look at the loss.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

import graphflow as tf
from graphflow.data import mnist
from graphflow.demo import cnn, mlp
from graphflow.demo.network import Network
from graphflow.progress import Progress

EVALUATION_BATCH = 1000


@dataclass(frozen=True)
class Recipe:
    """A network and how it is trained."""

    summary: str
    build: Callable[[], Network]
    batch_size: int
    epochs: int


RECIPES = {
    "mlp": Recipe("784 - dense 128 relu - dense 10 softmax; Adam", mlp.build, batch_size=32, epochs=5),
    "cnn": Recipe(
        "conv 10 - pool - conv 20 - pool - dense 50 - dense 10; momentum", cnn.build, batch_size=64, epochs=2
    ),
}


@dataclass(frozen=True)
class Options:
    """What the command line may choose. `None` stands for the embedded digits and the recipe's epochs."""

    networks: tuple[str, ...] = tuple(RECIPES)
    data: Path | None = None
    epochs: int | None = None
    html: Path = Path("graph.html")
    seed: int = 1


def run_demo(options: Options, out: TextIO) -> dict[str, float]:
    """Train each network in turn, report to `out`, draw the graphs; returns the test accuracy of each, 0 to 1."""
    digits = mnist.load(options.data)
    print(f"{len(digits.train):,} images to learn from, {len(digits.test):,} to be tested on", file=out)
    print(digits.attribution, file=out)
    accuracies = {}
    for position, name in enumerate(options.networks):
        html = options.html if position == 0 else options.html.with_stem(f"{options.html.stem}-{name}")
        accuracies[name] = run_network(name, digits, options, html, out)
    return accuracies


def run_network(name: str, digits: mnist.Mnist, options: Options, html: Path, out: TextIO) -> float:
    """Declare, train, evaluate and draw one network; returns its test accuracy after the last epoch."""
    recipe = RECIPES[name]
    epochs = recipe.epochs if options.epochs is None else options.epochs
    print(f"\n{name}: {recipe.summary}, batch {recipe.batch_size}", file=out)
    graph = tf.Graph()
    with graph.as_default():
        tf.set_random_seed(options.seed)
        network = recipe.build()
        initialize = tf.global_variables_initializer()
    tf.show(graph, html)

    start = time.perf_counter()
    with tf.Session(graph=graph) as sess:
        sess.run(initialize)
        for epoch in range(epochs):
            batches = digits.train.batches(recipe.batch_size, seed=options.seed, epoch=epoch)
            label = f"epoch {epoch + 1}/{epochs}"
            with Progress(label, len(digits.train), stream=out, clock=running_time(sess)) as progress:
                for images, labels in batches:
                    feed = {network.images: images, network.labels: labels}
                    _, loss = sess.run([network.train_op, network.loss], feed_dict=feed)
                    progress.advance(len(labels), float(loss))
                accuracy = evaluate(sess, network, digits.test)
                progress.note = f"test accuracy {accuracy:.2%}"
        compiling = sess.compile_seconds
    running = time.perf_counter() - start - compiling
    print(f"compiled in {compiling:.2f} s, ran for {running:.2f} s; the graph is drawn in {html}", file=out)
    return accuracy


def evaluate(sess: tf.Session, network: Network, digits: mnist.Digits) -> float:
    """The share of `digits` that the network recognizes, 0 to 1."""
    correct = 0
    for images, labels in digits.chunks(EVALUATION_BATCH):
        correct += int(sess.run(network.correct, feed_dict={network.images: images, network.labels: labels}))
    return correct / len(digits)


def running_time(sess: tf.Session) -> Callable[[], float]:
    """A clock that stands still while the session compiles."""
    return lambda: time.perf_counter() - sess.compile_seconds
