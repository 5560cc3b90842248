"""Graphs that grow from run to run: a warning at the line, once a session, and none where a graph is only built on."""

from __future__ import annotations

import gc
import warnings
from collections.abc import Iterator

import numpy as np
import pytest

import graphflow as tf
from graphflow.runtime.growth import TURNS


@pytest.fixture(autouse=True)
def graph() -> Iterator[tf.Graph]:
    with tf.Graph().as_default() as g:
        yield g


def leak(sess: tf.Session, turns: int) -> int:
    """Declares in a loop; answers the line that does."""
    x = tf.constant(1.0)
    for n in range(turns):
        sess.run(x + float(n))
    return leak.__code__.co_firstlineno + 4


@pytest.mark.parametrize("turns", [TURNS + 1, 50])
def test_a_loop_that_declares_warns_once(turns: int) -> None:
    with tf.Session() as sess:
        with pytest.warns(RuntimeWarning, match="again and again") as caught:
            line = leak(sess, turns)
        (warning,) = caught
        assert (warning.filename, warning.lineno) == (__file__, line)
        assert f"test_growth.py:{line}" in str(warning.message)
        leak(sess, turns)
    with tf.Session() as other, pytest.warns(RuntimeWarning, match="again and again"):
        leak(other, turns)


@pytest.mark.parametrize("native", [False, True])
def test_operations_that_are_not_even_run(native: bool) -> None:
    x = tf.placeholder(tf.float32, [])
    y = x + 1.0
    with tf.Session() as sess:
        call = sess.make_callable(y, [x]) if native else lambda value: sess.run(y, {x: value})

        def loop() -> None:
            for _ in range(TURNS + 1):
                call(np.zeros((), np.float32))
                tf.square(x)

        with pytest.warns(RuntimeWarning, match="again and again"):
            loop()


def test_building_on_is_no_leak() -> None:
    x = tf.constant(1.0)
    with tf.Session() as sess, warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(3):
            sess.run(x)
            for _ in range(100):
                x = x + 1.0
        leak(sess, TURNS - 1)
        for _ in range(100):
            sess.run(x)


def test_a_loop_before_the_first_run_is_no_leak() -> None:
    with tf.Session() as sess, warnings.catch_warnings():
        warnings.simplefilter("error")
        sums = [tf.constant(1.0) + float(n) for n in range(100)]
        assert len(sess.run(sums)) == 100


def test_sessions_that_are_gone_watch_nothing(graph: tf.Graph) -> None:
    with tf.Session() as sess:
        sess.run(tf.constant(1.0))
        assert len(graph.watches) == 1
    assert not graph.watches
    left = tf.Session()
    left.run(tf.constant(1.0))
    del left
    gc.collect()
    tf.constant(2.0)
    assert not graph.watches


def test_a_finalized_graph_says_where(graph: tf.Graph) -> None:
    x = tf.placeholder(tf.float32, [None], name="x")
    y, z = x + 1.0, tf.Variable(3.0)
    twice = z * 2.0
    with tf.Session() as sess:
        sess.run(z.initializer)
        graph.finalize()
        here = r"test_growth\.py:\d+"
        with pytest.raises(RuntimeError, match=f"{here} adds to it, and it was finalized at {here}"):
            tf.square(x)
        assert sess.run([y, z], {"x:0": [1.0, 2.0]})[0].tolist() == [2.0, 3.0]
        assert sess.run(y, {x: [5.0]}).tolist() == [6.0]
        assert sess.run({"both": [twice, (x,)]}, {x: [5.0], z: 4.0})["both"][0] == 8.0
        assert sess.plan([y], {x: (10,)}).outputs == 40
