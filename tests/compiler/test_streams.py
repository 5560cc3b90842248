"""Large results that go past the caches, and squares of tiles: what is written, where, and what is left alone."""

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
from graphflow.compiler.llvm.jit import assembly_for
from graphflow.compiler.llvm.schedule import make_schedule
from graphflow.compiler.llvm.step import emit_step
from graphflow.compiler.llvm.target import AVX2, AVX512, NEON, SSE2, Target
from graphflow.runtime.executable import Executable

CUT, SCHEDULE, FINAL = "graphflow.compiler.llvm.cut", "graphflow.compiler.llvm.schedule", "graphflow.compiler.final"
PAST = "graphflow.compiler.llvm.past_caches"

Formula = Callable[[Any], Any]
LARGE = 1 << 23  # elements of a result that goes past the caches of all `TARGETS`
TARGETS = [AVX512, AVX2, SSE2]


def compiled(formula: Formula, shape: list[int | None], count: int = 1) -> tuple[Any, Executable]:
    """(a function of one array, what was compiled when it was called with `count` rows of zeros)"""
    with tf.Graph().as_default():
        x = tf.placeholder(tf.float32, shape)
        session = tf.Session()
        call = session.make_callable(formula(x), [x])
        call(np.zeros([count if size is None else size for size in shape], np.float32))
        ((_, executable),) = session.compiled()
    return call, executable


def assembly(formula: Formula, shape: list[int | None], target: Target) -> str:
    plan = compiled(formula, shape)[1].plan
    code = emit_step(plan.steps, len(plan.buffers), plan.symbols, target)
    module: ir.Module = code.module
    return assembly_for(str(module), target)


def chain(x: Any) -> Any:
    y = tf.tanh(x)
    return y, tf.reduce_sum(tf.matmul(tf.reshape(y, [-1, 64]), tf.reshape(y, [64, -1])))


def assert_writes_only(call: Any, inputs: list[Any], wanted: Any, by: int) -> None:
    """A result is written to an array of the caller's that starts `by` elements further on, and nothing beside it."""
    memory = np.ones(wanted.size + 130, wanted.dtype)
    out = memory[by : by + wanted.size].reshape(wanted.shape)
    call(*inputs, out=out)
    np.testing.assert_array_equal(out, wanted)
    assert np.all(memory[:by] == 1)
    assert np.all(memory[by + wanted.size :] == 1)


@pytest.mark.parametrize("target", TARGETS)
def test_large_results_go_past_the_caches_and_are_fenced(target: Target) -> None:
    text = assembly(lambda x: x + 1.0, [LARGE], target)
    assert "movnt" in text
    assert "sfence" in text


@pytest.mark.parametrize("target", TARGETS)
def test_small_results_do_not(target: Target) -> None:
    text = assembly(lambda x: x + 1.0, [1 << 16], target)
    assert "movnt" not in text
    assert "sfence" not in text


def test_arm_has_no_fence() -> None:
    assert "sfence" not in assembly(lambda x: x + 1.0, [LARGE], NEON)


def final_buffers(executable: Executable) -> set[str]:
    """The kinds of the buffers that are written for good."""
    plan = executable.plan
    return {plan.buffers[step.arguments[s.buffer]].kind for step in plan.steps for s in step.kernel.stores if s.final}


def test_what_the_step_reads_again_stays_in_the_caches() -> None:
    with patch(f"{FINAL}.LARGE", 0):
        assert final_buffers(compiled(lambda x: x + 1.0, [4096])[1]) == {"output"}
        _, executable = compiled(chain, [4096])
        plan = executable.plan
        for step in plan.steps:
            for s in step.kernel.stores:
                where = step.arguments[s.buffer]
                read = any(where == o.arguments[n] for o in plan.steps for n in o.kernel.read_buffers())
                assert s.final == (plan.buffers[where].kind == "output" and not read)
        assert any(not s.final for step in plan.steps for s in step.kernel.stores)


def test_small_results_are_not_told_apart() -> None:
    assert final_buffers(compiled(lambda x: x + 1.0, [4096])[1]) == set()


@pytest.mark.parametrize("rows, past", [(512, False), (1024, True)])
def test_pieces_go_past_the_caches_if_all_that_fills_the_whole_is_too_large(rows: int, past: bool) -> None:
    """Of 1024 rows each kernel touches 12 MiB and both 16, as much as the cache has."""
    with patch(f"{FINAL}.LARGE", 0), tf.Graph().as_default(), tf.Session() as session:
        xs = [tf.placeholder(tf.float32, [rows, 1024]) for _ in range(2)]
        session.make_callable(tf.concat(xs, 1), xs)(*[np.zeros((rows, 1024), np.float32)] * 2)
        ((_, executable),) = session.compiled()
        streams = [make_schedule(step.kernel, AVX512).stream for step in executable.plan.steps]
    assert [stream is not None for stream in streams] == [past, past]


FORMULAS: dict[str, tuple[Formula, Callable[[Any], Any]]] = {
    "add": (lambda x: x + 1.0, lambda x: x + np.float32(1)),
    "double": (lambda x: tf.cast(x, tf.float64), lambda x: x.astype(np.float64)),
    "int8": (lambda x: tf.cast(x, tf.int8), lambda x: x.astype(np.int8)),
    "bool": (lambda x: x > 3.0, lambda x: x > 3),
    "slice": (lambda x: x[:, 1:] * 2.0, lambda x: x[:, 1:] * 2),
    "concat": (lambda x: tf.concat([x, x + 1.0], 1), lambda x: np.concatenate([x, x + 1], 1)),
    "shifted by rows": (
        lambda x: x - tf.reduce_max(x, 1, keepdims=True),
        lambda x: x - x.max(1, keepdims=True),
    ),
}


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(sorted(FORMULAS)), st.integers(1, 9), st.integers(1, 700), st.integers(0, 65), st.booleans())
def test_streams_write_their_arrays_and_nothing_else(name: str, rows: int, columns: int, by: int, open_: bool) -> None:
    """Wherever an array of the caller's starts, and where rows are known when they are fed only."""
    formula, wanted = FORMULAS[name]
    x = (np.arange(rows * columns, dtype=np.float32) % 7).reshape(rows, columns)
    with patch(f"{FINAL}.LARGE", 0), patch(f"{PAST}._leaves", lambda *_: True):
        call, _ = compiled(formula, [None if open_ else rows, columns], rows)
        assert_writes_only(call, [x], wanted(x), by)


def product(m: int, k: int, n: int) -> Formula:
    """A matrix product with two parts of a row of numbers as its operands, one after the other."""
    return lambda x: tf.matmul(tf.reshape(x[: m * k], [m, k]), tf.reshape(x[m * k :], [k, n]))


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("m, k, n", [(1 << 20, 8, 8), (4096, 1, 2048), (2048, 200, 4096)])
def test_a_large_product_goes_past_the_caches(target: Target, m: int, k: int, n: int) -> None:
    """From a tile that is written out, and from one whose results lie in memory; with a fence."""
    text = assembly(product(m, k, n), [m * k + k * n], target)
    assert "movnt" in text
    assert "sfence" in text


@pytest.mark.parametrize("m, k, n", [(1 << 20, 8, 9), (64, 8, 64)])
def test_small_products_and_rows_that_begin_anywhere_do_not(m: int, k: int, n: int) -> None:
    assert "movnt" not in assembly(product(m, k, n), [m * k + k * n], AVX512)


PRODUCTS = st.sampled_from([(37, 3, 8), (50, 1, 44), (9, 70, 100), (130, 75, 96), (3, 5000, 4), (2, 260, 1100)])


@settings(max_examples=40, deadline=None)
@given(PRODUCTS, st.sampled_from(["float32", "float64", "int32"]), st.integers(0, 9), st.booleans(), st.booleans())
def test_streamed_products_write_their_array_and_nothing_else(
    sizes: tuple[int, int, int], dtype: str, by: int, batched: bool, around: bool
) -> None:
    """Wherever an array of the caller's starts, alone or with something after the product; not a number stays none."""
    m, k, n = sizes
    a, b = (np.arange(2 * x * y) % 7 for x, y in ((m, k), (k, n)))
    x, y = (v.astype(dtype).reshape(2, *shape) for v, shape in ((a, (m, k)), (b, (k, n))))
    x, y = (x, y) if batched else (x[0], y[0])
    if dtype != "int32":
        x[..., m - 1, k - 1], y[..., k - 1, 0] = np.nan, np.inf
    with patch(f"{FINAL}.LARGE", 0), patch(f"{PAST}._leaves", lambda *_: True), tf.Graph().as_default():
        left, right = tf.placeholder(dtype, x.shape), tf.placeholder(dtype, y.shape)
        made = tf.matmul(left, right)
        call = tf.Session().make_callable(tf.maximum(made + 1, 30) if around else made, [left, right])
        with np.errstate(invalid="ignore"):
            wanted = np.maximum(x @ y + 1, 30) if around else x @ y
        assert_writes_only(call, [x, y], wanted, by)


@pytest.mark.parametrize("target", TARGETS)
def test_a_large_transpose_goes_past_the_caches(target: Target) -> None:
    assert "movnt" in assembly(tf.transpose, [LARGE // 2048, 2048], target)


@pytest.mark.parametrize("target", TARGETS)
def test_so_does_a_transpose_whose_rows_begin_anywhere(target: Target) -> None:
    text = assembly(tf.transpose, [LARGE // 2048 + 1, 2048], target)
    assert "movnt" in text
    assert "sfence" in text


def test_a_transpose_that_reads_rows_of_its_own_order_too_does_not() -> None:
    """Strips would read these piece by piece."""
    rows = LARGE // 2048 + 1
    assert "movnt" not in assembly(lambda x: tf.transpose(x) + tf.reshape(x, [2048, rows]), [rows, 2048], AVX512)


def test_a_result_stays_that_the_last_cache_holds_beside_its_operands() -> None:
    assert AVX512.l3_bytes == 16 << 20
    assert "movnt" not in assembly(product(1536, 1, 2048), [1536 + 2048], AVX512)  # 12 MB
    assert "movnt" in assembly(product(2048, 1, 2048), [2048 + 2048], AVX512)  # 16 MB
    assert "movnt" not in assembly(lambda x: x + 1.0, [3 << 19], AVX512)  # 6 MB, and as much that is read
    assert "movnt" in assembly(lambda x: x + 1.0, [1 << 21], AVX512)  # twice 8 MB


@pytest.mark.parametrize(
    "shape, past",
    [([1024, 1024], True), ([1023, 1025], True), ([1600, 1024], True), ([600, 1024], False), ([1000, 1000], False)],
)
def test_a_transpose_goes_past_caches_that_its_rows_would_crowd(shape: list[int | None], past: bool) -> None:
    """Rows 4 KB apart lie in the same sets of a cache."""
    assert ("movnt" in assembly(tf.transpose, shape, AVX512)) == past


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 3), st.integers(1, 9), st.integers(1, 600), st.integers(0, 17))
def test_streamed_tiles_write_their_array_and_nothing_else(batch: int, rows: int, columns: int, by: int) -> None:
    x = np.arange(batch * 16 * rows * columns, dtype=np.float32).reshape(batch, 16 * rows, columns)
    with patch(f"{FINAL}.LARGE", 0), patch(f"{PAST}._leaves", lambda *_: True):
        call, _ = compiled(lambda t: tf.transpose(t, [0, 2, 1]) + 1.0, list(x.shape))
        assert_writes_only(call, [x], x.transpose(0, 2, 1) + 1, by)


Shape = tuple[int, int, int]
STRIPS = st.tuples(st.integers(1, 3), st.integers(128, 700), st.integers(8, 700))  # what is transposed


@contextmanager
def strips_past_caches(unit: int) -> Iterator[None]:
    """Small transposes as if they were large ones, in units of so many blocks."""
    past = patch(f"{PAST}._leaves", lambda *_: True)
    with patch(f"{FINAL}.LARGE", 0), past, patch(f"{CUT}.STRIP_UNIT", unit), tf.Graph().as_default():
        yield


@settings(max_examples=40, deadline=None)
@given(
    STRIPS,
    st.integers(0, 17),
    st.sampled_from(["float32", "float64", "int64"]),
    st.sampled_from([3, 16]),
    st.sampled_from(["row", "column", "both", "batch", "scaled"]),
)
def test_strips_beside_what_they_broadcast(shape: Shape, by: int, dtype: str, unit: int, name: str) -> None:
    """What the other operands are: the same for all rows of the result, along a row of it, or neither."""
    batch, rows, columns = shape
    x = (np.arange(batch * rows * columns) % 101).astype(dtype).reshape(shape)
    row, column, one = (
        np.arange(n).astype(dtype).reshape(s) for n, s in ((rows, -1), (columns, (-1, 1)), (batch, (-1, 1, 1)))
    )
    formula = {
        "row": lambda t: t + row,
        "column": lambda t: t - column,
        "both": lambda t: (t + row) * column,
        "batch": lambda t: t * one,
        "scaled": lambda t: (t + row * row) * (column + column),
    }[name]
    with strips_past_caches(unit):
        given_ = tf.placeholder(dtype, shape)
        call = tf.Session().make_callable(formula(tf.transpose(given_, [0, 2, 1])), [given_])
        assert_writes_only(call, [x], formula(x.transpose(0, 2, 1)), by)


@settings(max_examples=20, deadline=None)
@given(
    STRIPS,
    st.integers(0, 17),
    st.sampled_from(["float32", "float64", "int8", "bool"]),
    st.sampled_from([3, 16]),
    st.booleans(),
)
def test_strips_write_their_array_and_nothing_else(shape: Shape, by: int, dtype: str, unit: int, open_: bool) -> None:
    """Rows that begin anywhere, of several blocks and strips, and units that begin and end amid a row."""
    batch, rows, columns = shape
    x = (np.arange(batch * rows * columns) % 101).astype(dtype).reshape(shape)
    with strips_past_caches(unit):
        given_ = tf.placeholder(dtype, [batch, None if open_ else rows, columns])
        call = tf.Session().make_callable(tf.transpose(given_, [0, 2, 1]), [given_])
        assert_writes_only(call, [x], x.transpose(0, 2, 1), by)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 3), st.integers(1, 300), st.integers(1, 300), st.booleans())
def test_squares_of_tiles_cover_a_transpose(batch: int, rows: int, columns: int, open_: bool) -> None:
    x = np.arange(batch * rows * columns, dtype=np.float32).reshape(batch, rows, columns)
    shape = [None if open_ else batch, rows, columns]
    call, _ = compiled(lambda t: tf.transpose(t, [0, 2, 1]) + 1.0, shape, batch)
    np.testing.assert_array_equal(call(x), x.transpose(0, 2, 1) + 1)


def test_long_rows_that_share_a_vector_go_by_parts() -> None:
    """All rows of a part, so that the part of the vector stays in the first cache; short rows as they lie."""
    for columns, parts in ((1 << 15, True), (1 << 10, False)):
        row = np.arange(columns, dtype=np.float32)
        _, executable = compiled(lambda x, row=row: x * tf.constant(row), [1 << 10, columns])  # type: ignore[misc]  # a default is no argument
        found = make_schedule(executable.plan.steps[0].kernel, AVX512)
        assert (found.chunk != 0 and found.by_parts) is parts
        assert not parts or found.chunk * 4 <= AVX512.l1_bytes // 2


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 5), st.integers(1, 700), st.integers(0, 17))
def test_parts_meet_at_whole_vectors(rows: int, columns: int, by: int) -> None:
    x = np.arange(rows * columns, dtype=np.float32).reshape(rows, columns)
    row = np.arange(columns, dtype=np.float32)
    small = patch(f"{SCHEDULE}.UNIT_WEIGHT", 64), patch(f"{CUT}.UNIT_WEIGHT", 64)
    with patch(f"{FINAL}.LARGE", 0), patch(f"{PAST}._leaves", lambda *_: True), small[0], small[1]:
        call, _ = compiled(lambda t: t * tf.constant(row), list(x.shape))
        assert_writes_only(call, [x], x * row, by)
