"""Rows that are stored while the next one is computed: which are, and that the results are the same."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from llvmlite import ir

import graphflow as tf
from graphflow.compiler.llvm.kernel import emit_kernel
from graphflow.compiler.llvm.schedule import make_schedule
from graphflow.compiler.llvm.target import AVX512, NEON
from graphflow.runtime.executable import Executable

PAST, AHEAD = "graphflow.compiler.llvm.past_caches", "graphflow.compiler.llvm.ahead"
FINAL = "graphflow.compiler.final"

Formula = Callable[[Any], Any]


def standardized(x: Any) -> Any:
    mean, variance = tf.nn.moments(x, [-1], keep_dims=True)
    return (x - mean) * tf.rsqrt(variance + 1e-5)


def softmax_of_exponentials(x: Any) -> Any:
    """Two reductions that stores read, of a value that is kept."""
    e = tf.exp(x - tf.reduce_max(x, -1, keepdims=True))
    return (e - tf.reduce_min(e, -1, keepdims=True)) / tf.reduce_sum(e, -1, keepdims=True)


FORMULAS: dict[str, Formula] = {
    "softmax": tf.nn.softmax,
    "log softmax": tf.nn.log_softmax,
    "gradient": lambda x: tf.gradients(tf.reduce_sum(tf.square(tf.nn.softmax(x))), [x])[0],
    "two reductions": softmax_of_exponentials,
}


@contextmanager
def everything_overlapped() -> Iterator[None]:
    """Small results as if they were large ones."""
    with (
        patch(f"{FINAL}.LARGE", 0),
        patch(f"{PAST}._leaves", lambda *_: True),
        patch(f"{PAST}.STREAMED_BLOCKS", 1),
        patch(f"{AHEAD}.LARGE_L2", 0),
    ):
        yield


def compiled(formula: Formula, shape: list[int | None], x: Any) -> tuple[Any, Executable]:
    """(a function of one array, what was compiled when it was called with x)"""
    with tf.Graph().as_default():
        p = tf.placeholder(x.dtype, shape)
        session = tf.Session()
        call = session.make_callable(formula(p), [p])
        call(x)
        ((_, executable),) = session.compiled()
    return call, executable


def stages(executable: Executable) -> list[str | None]:
    """Beside which reduction of each kernel the row before is stored."""
    found = [make_schedule(step.kernel, AVX512).beside for step in executable.plan.steps]
    return [None if e is None else e.data[0] for e in found]


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from(sorted(FORMULAS)),
    st.tuples(st.integers(1, 3), st.integers(1, 9), st.integers(17, 700)),
    st.sampled_from(["float32", "float64"]),
    st.integers(0, 17),
    st.booleans(),
)
def test_overlapped_rows_are_the_same_and_nothing_else_is_written(
    name: str, shape: tuple[int, int, int], dtype: str, by: int, open_: bool
) -> None:
    """Wherever an array of the caller's starts, and where rows are known when they are fed only."""
    x = np.random.default_rng(0).standard_normal(shape).astype(dtype)
    known = [None if open_ else shape[0], *shape[1:]]
    plain, _ = compiled(FORMULAS[name], known, x)
    with everything_overlapped():
        call, executable = compiled(FORMULAS[name], known, x)
        assert any(stages(executable)) or shape[2] < 256 or 1 in shape or name == "gradient"
        memory = np.ones(x.size + 34, dtype)
        call(x, out=memory[by : by + x.size].reshape(shape))
    np.testing.assert_array_equal(memory[by : by + x.size].reshape(shape), plain(x))
    assert np.all(memory[:by] == 1)
    assert np.all(memory[by + x.size :] == 1)


def test_no_row_is_no_row() -> None:
    with everything_overlapped():
        call, executable = compiled(tf.nn.softmax, [None, 300], np.zeros((9, 300), np.float32))
        assert stages(executable) == ["sum"]
    assert call(np.zeros((0, 300), np.float32)).shape == (0, 300)


def test_no_row_is_read_before_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """The stores of a row share a number of their own."""
    monkeypatch.setenv("GRAPHFLOW_CHECK", "2")
    scale = np.arange(9, dtype=np.float32)[:, None]
    with everything_overlapped():
        call, executable = compiled(lambda x: tf.nn.softmax(x) * tf.constant(scale), [9, 300], np.zeros((9, 300), "f"))
        assert stages(executable) == ["sum"]
    np.testing.assert_allclose(call(np.zeros((9, 300), "f")).sum(1), scale[:, 0], rtol=1e-6)


@pytest.mark.parametrize(
    "formula, columns, wanted",
    [
        (tf.nn.softmax, 1024, "sum"),
        (tf.nn.log_softmax, 1024, "sum"),
        (standardized, 1024, None),  # computes too little for memory to wait
        (tf.nn.softmax, 1 << 17, None),  # two rows do not fit into a cache
    ],
)
def test_long_stages_of_large_results_overlap(formula: Formula, columns: int, wanted: str | None) -> None:
    rows = (1 << 23) // columns
    _, executable = compiled(formula, [rows, columns], np.zeros((rows, columns), np.float32))
    assert stages(executable) == [wanted]


def test_small_results_and_targets_without_streams_do_not() -> None:
    _, executable = compiled(tf.nn.softmax, [64, 1024], np.zeros((64, 1024), np.float32))
    assert stages(executable) == [None]
    _, executable = compiled(tf.nn.softmax, [1 << 13, 1024], np.zeros((1 << 13, 1024), np.float32))
    assert make_schedule(executable.plan.steps[0].kernel, NEON).beside is None


def test_two_rows_of_scratch_take_turns() -> None:
    _, executable = compiled(tf.nn.softmax, [1 << 13, 1024], np.zeros((1 << 13, 1024), np.float32))
    (step,) = executable.plan.steps
    for target, rows in ((AVX512, 2), (NEON, 1)):
        code = emit_kernel(ir.Module(), "kernel", step.kernel, target, {})
        assert code.scratch_bytes == rows * 4096
