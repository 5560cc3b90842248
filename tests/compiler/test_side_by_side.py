"""Short rows, each reduced in a vector of its own, side by side."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import graphflow as tf
from graphflow.compiler.llvm.cut import Schedule
from graphflow.compiler.llvm.schedule import make_schedule
from graphflow.compiler.llvm.target import AVX512

FORMULAS: dict[str, tuple[Callable[[Any], Any], Callable[[Any], Any]]] = {
    "sum": (lambda x: tf.reduce_sum(x, -1), lambda x: x.sum(-1)),
    "max": (lambda x: tf.reduce_max(x, -1), lambda x: x.max(-1)),
    "argmin": (lambda x: tf.argmin(x, -1), lambda x: x.argmin(-1)),
    "any": (lambda x: tf.reduce_any(x > 16, -1), lambda x: (x > 16).any(-1)),
    "two": (lambda x: tf.reduce_sum(x * x, -1) - tf.reduce_max(x, -1), lambda x: (x * x).sum(-1) - x.max(-1)),
    "every second": (lambda x: tf.reduce_sum(x[..., ::2, :], -1), lambda x: x[..., ::2, :].sum(-1)),
    "beside others": (lambda x: tf.reduce_sum(x, -1) + x[..., 0], lambda x: x.sum(-1) + x[..., 0]),
}


def scheduled(formula: Callable[[Any], Any], x: Any, open_: bool = False) -> tuple[Any, Schedule]:
    """(the value of a formula of x, how its first kernel is cut for AVX512)"""
    with tf.Graph().as_default(), tf.Session() as session:
        p = tf.placeholder(x.dtype, [None if open_ else size for size in x.shape[:-1]] + [x.shape[-1]])
        value = session.run(formula(p), {p: x})
        ((_, executable),) = session.compiled()
        return value, make_schedule(executable.plan.steps[0].kernel, AVX512)


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(sorted(FORMULAS)),
    st.integers(1, 3),
    st.integers(1, 90),
    st.integers(8, 36),
    st.sampled_from(["float32", "float64", "int32"]),
    st.booleans(),
)
def test_rows_of_any_number_and_length(name: str, outer: int, rows: int, columns: int, dtype: str, open_: bool) -> None:
    formula, wanted = FORMULAS[name]
    x = (np.arange(outer * rows * columns) * 7 % 31 - 15).reshape(outer, rows, columns).astype(dtype)
    value, _ = scheduled(formula, x, open_)
    np.testing.assert_array_equal(value, wanted(x))


@pytest.mark.parametrize("special", [np.nan, np.inf, -np.inf])
def test_what_is_no_number_stays_in_its_row(special: float) -> None:
    x = np.ones((37, 20), np.float32)
    for row, column in ((0, 0), (15, 19), (16, 3), (36, 16)):
        x[row, column] = special
    for name in ("sum", "max", "argmin"):
        formula, wanted = FORMULAS[name]
        np.testing.assert_array_equal(scheduled(formula, x)[0], wanted(x))


@pytest.mark.parametrize(
    "rows, columns, chosen",
    [
        (1000, 20, True),
        (1000, 32, True),
        (1000, 8, False),  # sorted by shuffles
        (1000, 33, False),  # long enough for itself
        (31, 20, False),  # hardly more than one vector of rows
        (1 << 20, 20, False),  # from memory
        (1 << 20, 12, True),
    ],
)
def test_rows_that_are(rows: int, columns: int, chosen: bool) -> None:
    _, schedule = scheduled(lambda x: tf.reduce_sum(x, 1), np.zeros((rows, columns), np.float32))
    assert schedule.side_by_side == chosen
    _, schedule = scheduled(lambda x: tf.reduce_sum(x, 0), np.zeros((columns, rows), np.float32))
    assert not schedule.side_by_side


def test_rows_that_memory_is_read_for_are_asked_for_ahead() -> None:
    _, schedule = scheduled(lambda x: tf.reduce_sum(x, 1), np.zeros((1 << 20, 12), np.float32))
    assert [len(one.loads) for one in schedule.ahead] == [1]
