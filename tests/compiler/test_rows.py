"""Rows: costly values are computed once, and lanes run along rows, across tiny ones, and across columns."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import graphflow as tf
from graphflow.compiler.fuse import fuse
from graphflow.compiler.llvm.schedule import make_schedule
from graphflow.compiler.llvm.scope import Function, Scope
from graphflow.compiler.llvm.target import AVX2, AVX512
from graphflow.compiler.loops.ir import Kernel, walk
from graphflow.compiler.plan import Plan, plan
from graphflow.compiler.program import TensorProgram
from graphflow.core.dim import Symbol, symbol
from graphflow.core.dtype import as_dtype, float32
from graphflow.core.op import OPS
from graphflow.core.type import TensorType
from tests.harness import check, feed_nodes, feed_types

BATCH = symbol("n0", hint=50)


@pytest.fixture(autouse=True)
def fresh_graph():
    with tf.Graph().as_default():
        yield


def op(name: str, *xs: Any, **attrs: Any) -> Any:
    return OPS[name](*xs, **attrs)


def normalized(x: Any, axis: int) -> Any:
    """(x - mean) / sqrt(variance + eps) along an axis."""
    mean = op("Mean", x, axis=axis, keepdims=True)
    variance = op("Mean", op("Square", x - mean), axis=axis, keepdims=True)
    return (x - mean) * op("Rsqrt", variance + 1e-3)


def moments_of_tanh(x: Any, axis: int) -> Any:
    """Two sums over tanh(x): a costly value in two stages, and no result of its shape."""
    y = op("Tanh", x)
    return op("Sum", y, axis=axis) - op("Sum", op("Square", y), axis=axis)


ROWS: dict[str, Callable[[Any, int], Any]] = {
    "softmax": lambda x, axis: op("Softmax", x, axis=axis),
    "log softmax": lambda x, axis: op("LogSoftmax", x, axis=axis),
    "normalized": normalized,
    "moments of tanh": moments_of_tanh,
    "scaled by its sum": lambda x, axis: x / op("Sum", op("Abs", x), axis=axis, keepdims=True),
    "sum": lambda x, axis: op("Sum", x, axis=axis),
    "max": lambda x, axis: op("Max", x, axis=axis),
    "argmax": lambda x, axis: op("ArgMax", x, axis=axis),
    "two results": lambda x, axis: (op("Sum", op("Exp", x), axis=axis), op("Exp", x)),
}


def program(types: tuple[TensorType, ...], body: Callable[..., Any]) -> TensorProgram:
    made = body(*feed_nodes(types))
    return TensorProgram(types, made if isinstance(made, tuple) else (made,))


def planned(shape: tuple[Any, ...], body: Callable[..., Any], count: int = 1) -> Plan:
    return plan(fuse(program((TensorType(float32, shape),) * count, body)))


def computed(kernel: Kernel, name: str) -> int:
    """How many different expressions of an op a kernel has."""
    return sum(e.kind == "apply" and e.data[0].name == name for e in walk([s.value for s in kernel.stores]))


# computed once


@pytest.mark.parametrize(
    "shape, axis", [((BATCH, 100), 1), ((50, 1000), 1), ((8, 30000), 1), ((60, 1000), 0), ((4, 50, 200), 1)]
)
def test_softmax_is_one_kernel_with_one_exp(shape, axis):
    (step,) = planned(shape, lambda x: op("Softmax", x, axis=axis)).steps
    assert computed(step.kernel, "Exp") == 1
    whole_row = axis == len(shape) - 1
    assert len(step.kernel.scratch) == whole_row  # else the column of the result is the memory


def test_the_gradient_of_softmax_has_one_exp():
    def body(x: Any, g: Any) -> Any:
        y = op("Softmax", x)
        return y * (g - op("Sum", g * y, axis=-1, keepdims=True))

    (step,) = planned((BATCH, 300), body, 2).steps
    assert computed(step.kernel, "Exp") == 1


def test_rows_that_the_thread_keeps_are_stored_as_columns():
    """Once a row is kept, nothing but the result is contiguous, across rows; lanes run along the row all the same."""
    x = np.random.default_rng(0).uniform(-1, 1, (520, 64))

    def body(v: Any) -> Any:
        return op("Softmax", op("Transpose", v, perm=(1, 0)), axis=0)

    check(program(feed_types([x]), body), [x])


def one_of_the_other(x: Any, axis: int) -> Any:
    """What one stage computes on the way to what it keeps, a later one needs by itself."""
    e = op("Exp", x)
    t = op("Tanh", e)
    first = op("Sum", t, axis=axis, keepdims=True)
    second = op("Sum", op("Square", e * first + t), axis=axis, keepdims=True)
    return e * t * second


def under_a_condition(x: Any, axis: int) -> Any:
    """What one stage needs under a condition, a later one needs always."""
    e = op("Exp", x)
    half = op("GetItem", e, key=((None, None, None), (None, 50, None)))
    first = op("Max", op("Pad", half, low=(0, 0), high=(0, 50), interior=(0, 0), value=2), axis=axis, keepdims=True)
    second = op("Sum", e * first, axis=axis, keepdims=True)
    return e * second


@pytest.mark.parametrize("formula", [one_of_the_other, under_a_condition])
def test_values_of_values_that_are_kept(formula):
    x = np.random.default_rng(0).uniform(-1, 1, (5, 100)).astype(np.float32)
    types = feed_types([x])
    check(program(types, lambda v: formula(v, 1)), [x], scale=10)


@pytest.mark.parametrize("size, more", [(5, 3), (100, 3), (64, 900), (1000, 70)])
def test_a_reduction_under_a_condition_is_of_all_elements(size: int, more: int):
    """The condition is about the lanes of the outer sum; the inner one, which all of these share, has other lanes."""
    x, y = (np.random.default_rng(n).uniform(-1, 1, n).astype(np.float32) for n in (size, more))

    def body(v: Any, w: Any) -> Any:
        shares = op("Square", v) * op("Sum", w)
        return op("Sum", op("Exp", op("Pad", shares, low=(2,), high=(3,), interior=(0,), value=0)))

    check(program(feed_types([x, y]), body), [x, y], scale=10)


def test_values_without_a_result_of_their_shape_are_kept_in_the_thread_s_memory():
    (step,) = planned((BATCH, 300), lambda x: moments_of_tanh(x, 1)).steps
    assert computed(step.kernel, "Tanh") == 1
    assert [row.size for row in step.kernel.scratch] == [300]
    assert "b2: float32[300] of the thread" in str(step.kernel)


def test_rows_too_long_for_a_cache_are_computed_again():
    steps = planned((4, 1 << 18), lambda x: moments_of_tanh(x, 1)).steps
    assert not any(step.kernel.scratch for step in steps)


def test_cheap_values_are_computed_again():
    steps = planned((BATCH, 300), lambda x: normalized(x, 1)).steps
    assert not [e for step in steps for e in walk([s.value for s in step.kernel.stores]) if e.kind == "keep"]


def test_a_variable_is_not_overwritten_before_it_was_read():
    v = tf.Variable(np.linspace(-1, 1, 4 * 300).reshape(4, 300).astype(np.float32))
    change = tf.assign_sub(v, tf.nn.softmax(tf.stop_gradient(v.read_value()) * 3) * v)
    start = np.linspace(-1, 1, 4 * 300).reshape(4, 300)
    e = np.exp(start * 3 - (start * 3).max(1, keepdims=True))
    with tf.Session() as sess:
        sess.run(v.initializer)
        sess.run(change.op if hasattr(change, "op") else change)
        np.testing.assert_allclose(sess.run(v), start - e / e.sum(1, keepdims=True) * start, rtol=1e-5, atol=1e-7)


# which way lanes run


@pytest.mark.parametrize("target", [AVX2, AVX512])
@pytest.mark.parametrize(
    "name, shape, axis, lane, inner",
    [
        ("softmax", (1000, 100), 1, 100, None),
        ("softmax", (1000, 10), 1, 1000, 10),
        ("softmax", (60, 1000), 0, 1000, 60),
        ("softmax", (4, 50, 200), 1, 200, 50),
        ("sum", (1000, 3), 1, 1000, None),
        ("sum", (1000, 300), 1, None, None),
        ("sum", (300, 1000), 0, 1000, None),
    ],
)
def test_lanes_run_where_memory_is_contiguous_and_vectors_are_full(target, name, shape, axis, lane, inner):
    (step,) = planned(shape, lambda x: ROWS[name](x, axis)).steps
    found = make_schedule(step.kernel, target)
    assert (found.lane and found.lane.extent) == lane
    assert (found.inner and found.inner.extent) == inner


def test_long_and_few_columns_stay_apart():
    """Columns that leave the cache between two passes, or are too few for threads to share, are no rows."""
    for shape in ((5000, 1000), (300, 40)):
        steps = planned(shape, lambda x: op("Softmax", x, axis=0)).steps
        assert all(computed(step.kernel, "Exp") <= 1 for step in steps)
        assert len(steps) > 1


# the same values as the interpreter


sizes = st.one_of(st.integers(0, 20), st.sampled_from([31, 32, 33, 64, 100, 130, 1000]))
shapes = st.one_of(st.tuples(sizes, sizes), st.tuples(st.integers(0, 4), st.integers(0, 20), sizes))
specials = st.lists(st.sampled_from([np.inf, -np.inf, np.nan, 0.0, -0.0, 3e38, 2e-38]), max_size=4)


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(sorted(ROWS)), shapes, st.data(), st.sampled_from(["float32", "float64"]), specials, st.booleans()
)
def test_rows_of_any_shape(name, shape, data, dtype, odd, open_batch):
    axis = data.draw(st.integers(0, len(shape) - 1))
    if name == "argmax" and shape[axis] == 0:
        return
    x = np.random.default_rng(0).standard_normal(shape).astype(dtype)
    for value in odd if x.size else ():
        x.flat[data.draw(st.integers(0, x.size - 1))] = value
    with np.errstate(all="ignore"):
        check(program(feed_types([x], leading=open_batch), lambda v: ROWS[name](v, axis)), [x], scale=50)


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from(["softmax", "normalized", "scaled by its sum"]),
    st.tuples(st.integers(0, 3), st.sampled_from([0, 1, 2, 17, 64, 100])),
    st.integers(0, 1),
    st.tuples(st.integers(0, 2), st.integers(0, 70)),
    st.booleans(),
)
def test_padded_rows_of_any_shape(name, shape, axis, by, open_batch):
    """Every access is checked: where all rows or no row is padding, what these share is computed all the same."""
    x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)

    def body(v: Any) -> Any:
        return op("Pad", ROWS[name](v, axis), low=by, high=by[::-1], interior=(0, 0), value=0)

    with patch.dict("os.environ", GRAPHFLOW_CHECK="2"), np.errstate(all="ignore"):
        check(program(feed_types([x], leading=open_batch), body), [x], scale=50)


def test_what_a_row_shares_is_computed_outside_of_guards_of_its_elements():
    """But not what the guard lets be read: what has a variable of it, or of an axis of one element, which has none."""
    i, j = Symbol("i", bound=4), Symbol("j", bound=5)
    row = Scope(None, None, {i: 0}, None, Function(None, None, (), {}))
    guarded = row.child(None, {j: 0}, None).child(None, {}, None)
    guarded.guard, guarded.guard_of = True, (frozenset({j}),)
    assert guarded.home(frozenset({i}), loads=True) is row
    assert guarded.home(frozenset({i, j}), loads=True) is guarded
    guarded.guard_of = (frozenset({j}), frozenset())
    assert guarded.home(frozenset({i}), loads=True) is guarded


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 100), st.integers(1, 17), st.sampled_from(["int32", "int64", "uint8"]))
def test_tiny_rows_of_integers(rows, extent, dtype):
    x = np.random.default_rng(0).integers(0, 9, (rows, extent)).astype(dtype)
    check(program(feed_types([x]), lambda v: (op("Sum", v, axis=1), op("Max", v, axis=1))), [x])
    check(program(feed_types([x]), lambda v: op("Any", op("Greater", v, 7), axis=1)), [x])


def test_softmax_of_rows_with_infinities_is_what_the_formula_gives():
    for extent in (3, 10, 100, 1000):
        x = np.zeros((40, extent), np.float32)
        x[0, 1], x[1, 1], x[2, 1], x[3] = np.inf, -np.inf, np.nan, -np.inf
        with np.errstate(invalid="ignore"):
            (got,) = check(program(feed_types([x]), lambda v: op("Softmax", v)), [x])
        assert np.isnan(got[[0, 2, 3]]).all()
        assert got[1, 1] == 0
        assert not np.isnan(got[4:]).any()


# one division a row

numbers = st.floats(width=32, allow_subnormal=False)


@settings(max_examples=60, deadline=None)
@given(st.lists(numbers, min_size=1, max_size=40), numbers)
def test_division_by_one_number_is_rounded_once(values, by):
    """Exact where neither operand nor quotient is near the smallest numbers, which are flushed to zero."""
    x, d = np.array(values, np.float32), np.array(by, np.float32)
    types = (TensorType(as_dtype("float32"), x.shape), TensorType(as_dtype("float32"), ()))
    with np.errstate(all="ignore"):
        wanted = x / d
        (got,) = check(program(types, lambda a, b: a / b), [x, d], scale=1e-3)
    large = (np.abs(wanted) > 1e-37) & (np.abs(x) > 1e-30)
    np.testing.assert_array_equal(got[large], wanted[large])
