"""Reductions across rows by panels, reductions that stop early, and rows that are fetched ahead."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import graphflow as tf
from graphflow.compiler.llvm.panel_choose import Turns, panel_stages
from graphflow.compiler.llvm.schedule import make_schedule
from graphflow.compiler.llvm.step import emit_step
from graphflow.compiler.llvm.target import AVX2, AVX512, NEON, SSE2, Target
from graphflow.compiler.plan import Plan
from tests.e2e.random.machines import compiled_for

PANEL, AHEAD = "graphflow.compiler.llvm.panel_choose", "graphflow.compiler.llvm.ahead"
SPLIT, GROUPS = (f"graphflow.compiler.{name}" for name in ("split", "groups"))
TARGETS = [AVX512, AVX2, SSE2, NEON]


def logsumexp(x: Any, axis: Any) -> Any:
    return np.logaddexp.reduce(x.astype(np.float64), axis)


REDUCTIONS: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {
    "sum": (tf.reduce_sum, np.sum),
    "max": (tf.reduce_max, np.max),
    "mean of squares": (lambda x, a: tf.reduce_mean(x * x, a), lambda x, a: np.mean(x * x, a)),
    "any": (lambda x, a: tf.reduce_any(x > 6, a), lambda x, a: np.any(x > 6, a)),
    "argmax": (tf.argmax, np.argmax),
    "log of a sum of exponentials": (lambda x, a: tf.reduce_logsumexp(tf.cast(x, tf.float64), a), logsumexp),
    "range": (lambda x, a: tf.reduce_max(x, a) - tf.reduce_min(x, a), np.ptp),
}


def run(formula: Callable[[Any], Any], x: Any, open_: bool = False) -> tuple[Any, Plan]:
    """(the value of a formula of x, its plan); with `open_`, sizes are known when x is fed."""
    with tf.Graph().as_default(), tf.Session() as session:
        p = tf.placeholder(x.dtype, [None if open_ else size for size in x.shape])
        value = session.run(formula(p), {p: x})
        ((_, executable),) = session.compiled()
        return value, executable.plan


@contextmanager
def everything_by_panels() -> Iterator[None]:
    """Small arrays as if they were large ones."""
    with patch(f"{PANEL}.PANEL_L2", 0), patch(f"{PANEL}.PANEL_BYTES", 512), patch(f"{SPLIT}.TALL", 0):
        yield


@contextmanager
def read_again() -> Iterator[None]:
    """What is cheaper to read again than to store, of small arrays as of large ones."""
    with patch("graphflow.compiler.buffers.LARGE", 0):
        yield


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(sorted(REDUCTIONS)),
    st.tuples(st.integers(1, 20), st.integers(1, 200), st.integers(1, 300)),
    st.integers(0, 2),
    st.sampled_from(["float32", "float64", "int32"]),
    st.booleans(),
)
def test_reductions_of_any_shape(name: str, shape: tuple[int, int, int], axis: int, dtype: str, open_: bool) -> None:
    assume(name != "mean of squares" or dtype != "int32")  # NumPy's mean of integers is no integer
    formula, wanted = REDUCTIONS[name]
    x = (np.arange(np.prod(shape)) % 13 - 6).reshape(shape).astype(dtype)
    with everything_by_panels():
        value, _ = run(lambda p: formula(p, axis), x, open_)
    np.testing.assert_allclose(value, wanted(x, axis), rtol=1e-5, atol=1e-5)


SPECIAL: dict[str, float] = {"-inf": -np.inf, "inf": np.inf, "nan": np.nan, "lowest": np.finfo(np.float32).min}


@settings(max_examples=30, deadline=None)
@given(
    st.sampled_from([tf.nn.softmax, tf.nn.log_softmax, tf.reduce_logsumexp]),
    st.tuples(st.integers(1, 3), st.integers(9, 100), st.integers(70, 140)),
    st.lists(st.tuples(st.sampled_from(sorted(SPECIAL)), st.integers(0, 69), st.integers(0, 199), st.integers(1, 200))),
    st.sampled_from(["float32", "float64"]),
    st.booleans(),
    st.booleans(),
)
def test_exponentials_beside_their_maximum_give_what_the_formula_gives(
    formula: Any,
    shape: tuple[int, int, int],
    runs: list[tuple[str, int, int, int]],
    dtype: str,
    down: bool,
    open_: bool,
) -> None:
    """Runs of what is infinite or missing in some columns, and columns that fall or rise all the way down."""
    slope = np.arange(shape[1])[:, None] * (-0.5 if down else 0.5)
    x = (np.random.default_rng(0).standard_normal(shape) * 3 + slope).astype(dtype)
    for name, column, first, count in runs:
        x[0, first : first + count, column] = SPECIAL[name]
    with np.errstate(all="ignore"):
        z = (x - x.max(1, keepdims=True)).astype(np.float64)
        logarithm = z - np.log(np.exp(z).sum(1, keepdims=True))
        total = logsumexp(x, 1)
    wanted = {tf.nn.softmax: np.exp(logarithm), tf.nn.log_softmax: logarithm, tf.reduce_logsumexp: total}[formula]
    with everything_by_panels(), patch(f"{GROUPS}.COLUMN_ELEMENTS", 0), read_again():
        value, plan = run(lambda p: formula(p, 1), x, open_)
        panels = [make_schedule(step.kernel, AVX512).panel for step in plan.steps]
    np.testing.assert_allclose(value, wanted, rtol=1e-5, atol=1e-6)
    assert any(len(panel) > 1 and len(panel_stages(panel)) == 1 for panel in panels)


@pytest.mark.parametrize(
    "formula, passes",
    [
        (lambda x: tf.reduce_sum(tf.exp(x - tf.reduce_max(x, 0)), 0), 1),
        (lambda x: tf.reduce_sum(tf.exp(x - 2.0 * tf.reduce_max(x, 0)), 0), 1),
        (lambda x: tf.reduce_logsumexp(x, 0), 1),
        (lambda x: tf.reduce_sum(tf.exp(x - tf.reduce_max(tf.abs(x), 0)), 0), 2),
        (lambda x: tf.reduce_sum(tf.exp(x - tf.reduce_max(x, 0) * x), 0), 2),
        (lambda x: tf.reduce_sum(tf.square(x - tf.reduce_max(x, 0)), 0), 2),
    ],
)
def test_only_exponentials_that_are_shifted_by_what_comes_of_their_maximum_share_its_pass(
    formula: Callable[[Any], Any], passes: int
) -> None:
    x = np.random.default_rng(0).standard_normal((64, 1 << 15)).astype(np.float32)
    with everything_by_panels(), patch(f"{SPLIT}.TALL", 1 << 30):
        value, plan = run(formula, x)
        stages = sum(len(panel_stages(make_schedule(step.kernel, AVX512).panel)) for step in plan.steps)
    plain, _ = run(formula, x[:, :64])
    np.testing.assert_allclose(value[:64], plain, rtol=1e-5)
    assert stages == passes


@pytest.mark.parametrize("rows, kernels", [(100, 1), (500, 2)])
def test_many_elements_are_read_in_long_pieces_of_rows(rows: int, kernels: int) -> None:
    """Columns that stay in a cache are computed each for itself."""
    _, plan = run(lambda x: tf.nn.softmax(x, 0), np.zeros((rows, 4096), np.float32))
    assert len(plan.steps) >= kernels
    assert any(make_schedule(step.kernel, AVX512).inner for step in plan.steps) is (kernels == 1)


@pytest.mark.parametrize("target", TARGETS)
def test_large_sums_over_rows_go_by_panels_and_others_do_not(target: Target) -> None:
    def panels(shape: tuple[int, ...], axis: int) -> list[int]:
        _, plan = run(lambda p: tf.reduce_sum(p, axis), np.zeros(shape, np.float32))
        return [len(make_schedule(step.kernel, target).panel) for step in plan.steps]

    assert panels((64, 1 << 17), 0) == [1]
    assert panels((1 << 13, 1024), 0) == [1, 0]  # parts of the rows, and then few of them
    assert panels((64, 1000), 0) == [0]
    assert panels((1 << 13, 1024), 1) == [0]


@pytest.mark.parametrize(
    "formula, shape, lanes, turns",
    [
        (tf.reduce_sum, (64, 1 << 17), 8192, Turns(8, 0)),  # long pieces, along which the processor runs ahead
        (tf.reduce_sum, (64, 1 << 19), 16384, Turns(8, 0)),  # no more than totals in the second cache
        (tf.reduce_sum, (16, 1 << 19), 16384, Turns(4, 0)),
        (lambda x, axis: tf.reduce_sum(tf.exp(x), axis), (64, 1 << 19), 2048, Turns(4, 8)),  # which does not, computing
        (lambda x, axis: tf.nn.moments(x, [axis])[1], (64, 1 << 19), 1024, Turns(4, 8)),  # read twice
        (tf.reduce_sum, (64, 64, 1024), 1024, Turns(4, 4, True)),  # rows that follow each other
        (tf.reduce_sum, (640, 64, 100), 128, Turns(4, 21, True)),  # 8 KB further
        (lambda x, axis: tf.reduce_sum(x[:, :, :1000], axis), (64, 64, 1024), 1024, Turns(8, 0)),
    ],
)
def test_panels_are_of_about_one_width(formula: Any, shape: tuple[int, ...], lanes: int, turns: Turns) -> None:
    _, plan = run(lambda p: formula(p, len(shape) - 2), np.zeros(shape, np.float32))
    schedule = make_schedule(plan.steps[0].kernel, AVX512)
    results = math.prod(shape) // shape[-2]
    assert (schedule.chunk, schedule.units) == (lanes, results // min(lanes, shape[-1]))
    assert schedule.turns == turns


@pytest.mark.parametrize("columns, vectors", [(1 << 17, 4), ((1 << 17) + 8, 4), ((1 << 17) + 512, 2), (100_000, 2)])
def test_more_of_rows_that_share_sets_is_taken_at_once(columns: int, vectors: int) -> None:
    """Of eight rows: no line that two vectors share waits for the next turn, but for one in `vectors`."""
    x = np.random.default_rng(0).standard_normal((70, columns), dtype=np.float32)
    value, plan = run(lambda p: tf.reduce_sum(p, 0), x)
    np.testing.assert_allclose(value, x.sum(0), rtol=1e-5, atol=1e-4)
    schedule = make_schedule(plan.steps[0].kernel, AVX512)
    assert (schedule.turns, schedule.vectors) == (Turns(8, 0), vectors)


@pytest.mark.parametrize("columns, asked", [(1024, 4 * (4 + 1)), (1 << 17, 0)])
def test_rows_that_follow_each_other_are_asked_for_as_fast_as_they_are_taken(columns: int, asked: int) -> None:
    x = np.random.default_rng(0).standard_normal((64, 64, columns)[columns > 1024 :], dtype=np.float32)
    value, plan = run(lambda p: tf.reduce_sum(p, x.ndim - 2), x)
    np.testing.assert_allclose(value, x.sum(-2), rtol=1e-5, atol=1e-4)
    code = str(emit_step(plan.steps, len(plan.buffers), plan.symbols, AVX512).module)
    assert code.count('call void @"llvm.prefetch') == asked


def test_rows_of_many_results_are_not_split() -> None:
    _, plan = run(lambda p: tf.reduce_sum(p, 1), np.zeros((1 << 12, 1024), np.float32))
    assert len(plan.steps) == 1


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 3000), st.integers(1, 40), st.sampled_from(["sum", "max", "mean of squares"]))
def test_the_last_block_ends_where_the_data_end(rows: int, columns: int, name: str) -> None:
    """The blocks of a split reduction are filled up by a guard, which the loop stops in front of."""
    formula, wanted = REDUCTIONS[name]
    x = (np.arange(rows * columns, dtype=np.float32) % 13 - 20).reshape(rows, columns)  # zeros would be seen
    with patch(f"{SPLIT}.LONG", 0), patch(f"{SPLIT}.TALL", 0), patch(f"{SPLIT}.BLOCK", 64), patch(f"{SPLIT}.LEAST", 7):
        for axis in (0, (0, 1)):
            value, _ = run(lambda p, axis=axis: formula(p, axis), x)  # type: ignore[misc]  # a default is no argument
            np.testing.assert_allclose(value, wanted(x, axis), rtol=1e-5)


@pytest.mark.parametrize("shape", [(9, 300), (3, 5, 64), (200, 17)])
@pytest.mark.parametrize("open_", [False, True])
def test_rows_are_fetched_ahead_and_the_same(shape: tuple[int, ...], open_: bool) -> None:
    x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    plain, _ = run(tf.nn.softmax, x, open_)
    with patch(f"{AHEAD}.LARGE_L2", 0):
        value, plan = run(tf.nn.softmax, x, open_)
        schedules = [make_schedule(step.kernel, AVX512) for step in plan.steps]
    np.testing.assert_array_equal(value, plain)
    assert open_ or [bool(s.ahead) for s in schedules] == [True]


def test_what_an_inner_reduction_reads_is_not_fetched_ahead() -> None:
    """Where it reads next depends on how far it is."""
    x = np.random.default_rng(0).standard_normal((70, 3, 40)).astype(np.float32)
    with patch(f"{AHEAD}.LARGE_L2", 0):
        value, _ = run(lambda p: tf.nn.softmax(tf.reduce_mean(p, 1)), x)
        total, _ = run(lambda p: tf.reduce_sum(tf.square(tf.reduce_mean(p, 1)), 1), x)
    mean = x.astype(np.float64).mean(1)
    np.testing.assert_allclose(value, np.exp(mean) / np.exp(mean).sum(1, keepdims=True), rtol=1e-4)
    np.testing.assert_allclose(total, np.square(mean).sum(1), rtol=1e-4)


def test_what_computes_the_most_fetches_ahead() -> None:
    _, plan = run(tf.nn.softmax, np.zeros((1 << 12, 1024), np.float32))
    (ahead,) = make_schedule(plan.steps[0].kernel, AVX512).ahead
    assert ahead.stage.data[0] == "sum"
    assert [str(load) for load in ahead.loads] == ["b0[1024*i0 + r3 + 3072]"]


@pytest.mark.parametrize(
    "shape, wanted",
    [
        ((1 << 17, 64), ["b0[32768*i0 + i1 + 64*r2 + 2048]"]),
        ((1 << 13, 1024), []),  # panels fetch by themselves
        ((64, 64), []),
    ],
)
def test_short_rows_that_are_added_up_are_fetched_a_piece_ahead(shape: tuple[int, int], wanted: list[str]) -> None:
    _, plan = run(lambda x: tf.reduce_sum(x, 0), np.zeros(shape, np.float32))
    found = make_schedule(plan.steps[0].kernel, AVX512).ahead
    assert [str(load) for one in found for load in one.loads] == wanted


@pytest.mark.parametrize(
    "shape, wanted",
    [
        ((1 << 23,), ["b0[i0 + 2048]"]),
        ((1 << 8, 1 << 15), ["b0[32768*i0 + i1 + 32768]"]),  # the same part of the next row
        ((1 << 13, 1024), ["b0[1024*i0 + i1 + 2048]"]),
        ((64, 64), []),
    ],
)
def test_elements_of_large_results_are_fetched_ahead(shape: tuple[int, ...], wanted: list[str]) -> None:
    row = np.arange(min(shape[-1], 1 << 15), dtype=np.float32)
    _, plan = run(lambda x: x * (tf.constant(row) if x.shape.ndims > 1 else 2.0), np.zeros(shape, np.float32))
    assert [str(load) for one in make_schedule(plan.steps[0].kernel, AVX512).ahead for load in one.loads] == wanted


def test_a_row_that_is_read_once_is_fetched_a_piece_ahead() -> None:
    _, plan = run(lambda x: tf.reduce_sum(x * x, 1), np.zeros((1 << 11, 1024), np.float32))
    (ahead,) = make_schedule(plan.steps[0].kernel, AVX512).ahead
    assert [str(load) for load in ahead.loads] == ["b0[1024*i0 + r1 + 2048]"]
    _, plan = run(lambda x: tf.reduce_sum(x * x, 1), np.zeros((1 << 8, 1024), np.float32))
    assert not make_schedule(plan.steps[0].kernel, AVX512).ahead


@pytest.mark.parametrize("names", [("sum", "max"), ("max", "sum"), ("sum", "range")])
@pytest.mark.parametrize("padding", [(0, 3), (2, 0), (2, 3)])
def test_padded_rows_end_for_each_reduction_by_itself(names: tuple[str, str], padding: tuple[int, int]) -> None:
    """Zeros change no sum, so it need not take them; a maximum of negative numbers has to."""
    x = -1 - np.random.default_rng(0).random((40, 1024), np.float32)
    (f, wanted_f), (g, wanted_g) = (REDUCTIONS[name] for name in names)
    together = patch("graphflow.compiler.buffers.LARGE", 0)
    with together, patch(f"{PANEL}.PANEL_L2", 0), tf.Graph().as_default(), tf.Session() as session:
        p = tf.placeholder(tf.float32, x.shape)
        padded = tf.pad(p, [padding, (0, 0)])
        found = session.run([f(padded, 0), g(padded, 0)], {p: x})
    y = np.pad(x, (padding, (0, 0)))
    np.testing.assert_allclose(found, [wanted_f(y, 0), wanted_g(y, 0)], rtol=1e-5)


def test_parts_behind_the_end_of_what_is_split_add_nothing() -> None:
    """Twelve parts of seven rows, of which 65 make ten: the last two are empty, not less than that."""
    rng = np.random.default_rng(0)
    x, y = rng.integers(-8, 9, (1, 1, 15)) / 4, rng.integers(-8, 9, (3, 65, 15)) / 4
    with compiled_for("tight"), tf.Graph().as_default(), tf.Session() as sess:
        a, b = tf.placeholder(tf.float32, x.shape), tf.placeholder(tf.float32, y.shape)
        moved = tf.pad(tf.broadcast_to(a, tf.shape(b))[:, :, :-1], [[0, 0], [0, 0], [1, 0]])
        slope = tf.gradients(tf.reduce_sum(tf.reduce_max(b - moved, 1)), [a])[0]
        found = sess.run(slope, {a: x, b: y}).ravel()
    np.testing.assert_allclose(found, [-3.0] * 14 + [0.0], rtol=1e-6)
