"""Many runs in a process: memory stays where it was."""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

import graphflow as tf
from graphflow.runtime.memory import RECYCLED

STATUS = Path("/proc/self/status")
MIB = 1 << 20

pytestmark = [
    pytest.mark.soak,
    pytest.mark.skipif(not STATUS.exists(), reason="this system does not tell resident memory"),
]


def resident() -> int:
    """Bytes of this process in memory."""
    (line,) = [row for row in STATUS.read_text().splitlines() if row.startswith("VmRSS:")]
    return int(line.split()[1]) * 1024


def growth(run: Callable[[int], object], runs: int = 100_000) -> int:
    """By how many bytes the process grows in so many runs, after the first tenth of them."""
    for n in range(runs // 10):
        run(n)
    gc.collect()
    before = resident()
    for n in range(runs):
        run(n)
    gc.collect()
    return resident() - before


@pytest.mark.parametrize("sizes", [(8,), (1, 3, 8, 21, 64), range(1, 13)])
def test_a_hundred_thousand_runs(sizes: Sequence[int]) -> None:
    with tf.Graph().as_default(), tf.Session() as sess:
        x = tf.placeholder(tf.float32, [None, 4])
        w = tf.Variable(tf.ones([4, 3]))
        y = tf.tanh(tf.matmul(x, w))
        fetches = {"y": y, "all": [tf.reduce_mean(y), w.assign_add(tf.ones([4, 3])).op]}
        sess.run(w.initializer)
        fed = [np.ones((size, 4), np.float32) for size in sizes]
        assert growth(lambda n: sess.run(fetches, {x: fed[n % len(fed)]})) < MIB


def test_converted_feeds_and_errors() -> None:
    with tf.Graph().as_default(), tf.Session() as sess:
        x = tf.placeholder(tf.float32, [None])
        call = sess.make_callable(x * 2.0, [x])

        def run(n: int) -> None:
            call([1.0, 2.0, float(n)])
            with pytest.raises(ValueError, match="Cannot feed"):
                call([["text"]])

        assert growth(run, 20_000) < MIB


def test_trimmed_sessions() -> None:
    with tf.Graph().as_default(), tf.Session() as sess:
        x = tf.placeholder(tf.float32, [None, 64])
        call = sess.make_callable(tf.nn.softmax(tf.tanh(x) @ tf.ones([64, 64])), [x])
        fed = [np.ones((size, 64), np.float32) for size in (10, 1000)]

        def run(n: int) -> None:
            call(fed[n % 2])
            assert sess.trim() > 0

        assert growth(run, 5_000) < MIB


def test_large_outputs_of_few_sizes() -> None:
    with tf.Graph().as_default(), tf.Session() as sess:
        x = tf.placeholder(tf.float32, [None])
        call = sess.make_callable([x + 1.0, x * 2.0], [x])
        fed = [np.ones(RECYCLED // size, np.float32) for size in (1, 2, 3)]
        assert growth(lambda n: call(fed[n % 3]), 20_000) < MIB
