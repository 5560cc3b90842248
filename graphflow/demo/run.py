"""Train the demo's networks and say how it goes.

    run_demo(Options(networks=("mlp",), epochs=1), sys.stdout)

The loop is the one that every TensorFlow-1 program has: feed a batch, run the training step, look at the loss.
"""

import errno
import os
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
    seed: int = 4


def run_demo(options: Options, out: TextIO) -> dict[str, float]:
    """Train each network in turn, report to `out`, draw the graphs; returns the test accuracy of each, 0 to 1."""
    pages = {name: page_of(options.html, position, name) for position, name in enumerate(options.networks)}
    for page in pages.values():
        check_place(page)
    digits = mnist.load(options.data)
    print(f"{len(digits.train):,} images to learn from, {len(digits.test):,} to be tested on", file=out)
    print(digits.attribution, file=out)
    return {name: run_network(name, digits, options, page, out) for name, page in pages.items()}


def page_of(html: Path, position: int, name: str) -> Path:
    """The page of the first network is the one that was asked for; those after it have the network's name in theirs."""
    return html.with_stem(f"{html.stem}-{name}") if position else html


def check_place(page: Path) -> None:
    """Raise OSError, before anything is trained, where the page could not be written after it."""
    if page.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(page))
    if not page.parent.is_dir():
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(page.parent))
    if not os.access(page.parent, os.W_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(page.parent))


def run_network(name: str, digits: mnist.Mnist, options: Options, page: Path, out: TextIO) -> float:
    """Declare, train, evaluate and draw one network; returns its test accuracy after the last epoch."""
    recipe = RECIPES[name]
    epochs = recipe.epochs if options.epochs is None else options.epochs
    print(f"\n{name}: {recipe.summary}, batch {recipe.batch_size}", file=out)
    graph = tf.Graph()
    with graph.as_default():
        tf.set_random_seed(options.seed)
        network = recipe.build()
        initialize = tf.global_variables_initializer()

    accuracy = running = 0.0
    with tf.Session(graph=graph) as sess:
        clock = running_time(sess)
        sess.run(initialize)
        for epoch in range(epochs):
            start = clock()
            batches = digits.train.batches(recipe.batch_size, seed=options.seed, epoch=epoch)
            with Progress(f"epoch {epoch + 1}/{epochs}", len(digits.train), stream=out, clock=clock) as progress:
                for images, labels in batches:
                    feed = {network.images: images, network.labels: labels}
                    _, loss = sess.run([network.train_op, network.loss], feed_dict=feed)
                    progress.advance(len(labels), float(loss))
                accuracy = evaluate(sess, network, digits.test)
                progress.note = f"test accuracy {accuracy:.2%}"
            running += clock() - start
            if epoch == 0:  # as soon as there is something compiled to look at
                tf.show(graph, page, session=sess)
        compiling = sess.compile_seconds
    print(f"compiled in {compiling:.2f} s, ran for {running:.2f} s; drawn in {page}: open it in a browser", file=out)
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
