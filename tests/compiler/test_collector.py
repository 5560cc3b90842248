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
