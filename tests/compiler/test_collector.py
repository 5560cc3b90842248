"""Compiling switches the garbage collector off, and leaves it as it was."""

from __future__ import annotations

import gc

import numpy as np
import pytest

import graphflow as tf
from graphflow.compiler.collector import paused_collector
from graphflow.runtime.order import Order


@pytest.mark.parametrize("was_on", [True, False])
def test_the_collector_is_as_it_was_after_an_error_too(was_on: bool) -> None:
    (gc.enable if was_on else gc.disable)()
    try:
        with paused_collector():
            assert not gc.isenabled()
        assert gc.isenabled() == was_on
        with pytest.raises(KeyError), paused_collector():
            raise KeyError
        assert gc.isenabled() == was_on
    finally:
        gc.enable()


def test_it_is_off_while_a_run_compiles(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def compile_watched(order: Order) -> object:
        seen.append(gc.isenabled())
        return compile_(order)

    compile_ = Order.compile
    monkeypatch.setattr(Order, "compile", compile_watched)
    monkeypatch.setenv("GRAPHFLOW_CACHE", "off")
    x = tf.placeholder(tf.float32, [3])
    with tf.Session() as session:
        session.run(x + 1, {x: np.zeros(3)})
    assert seen == [False]
    assert gc.isenabled()


def test_what_was_made_meanwhile_counts_as_old() -> None:
    """The next search among the young, which is a moment away, does not go through it."""
    gc.collect()
    with paused_collector():
        kept = [[n] for n in range(10_000)]
    assert gc.get_count()[0] < len(kept)
    assert not any(one is kept for one in gc.get_objects(generation=0))


def test_what_was_put_aside_for_good_stays_so() -> None:
    gc.freeze()
    try:
        with paused_collector():
            pass
        assert gc.get_freeze_count()
    finally:
        gc.unfreeze()
