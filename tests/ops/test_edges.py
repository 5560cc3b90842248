"""Reductions of nothing and of one, NaN, infinities, signed zeros, ties, long sums; feeds in every kind of memory."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest

import graphflow as tf
from graphflow.core.dtype import as_dtype
from graphflow.core.op import OPS

REDUCTIONS = ("Sum", "Prod", "Max", "Min", "Any", "All")
NAN, INF = float("nan"), float("inf")
INT64 = as_dtype("int64")


@pytest.fixture(autouse=True)
def fresh_graph():
    with tf.Graph().as_default():
        yield


def computed(build: Any, *values: Any) -> Any:
    """What a session answers for a function of placeholders that were fed `values`."""
    fed = [tf.placeholder(v.dtype, v.shape) for v in values]
    with tf.Session() as sess:
        return sess.run(build(*fed), dict(zip(fed, values, strict=True)))


def check_reductions(rows: Iterable[tuple[str, Any, tuple[int, ...]]], rtol: float = 0) -> None:
    """Assert that reductions (name, value, axes), all in one run, are what `eval` says."""
    fed, fetched, wanted = {}, [], []
    for name, value, axes in rows:
        op, attrs = OPS[f"Reduce{name}"], {"axes": axes} | ({"dtype": INT64} if name.startswith("Arg") else {})
        x = tf.placeholder(value.dtype, value.shape)
        fed[x] = value
        fetched.append(op(x, **attrs))
        with np.errstate(all="ignore"):
            wanted.append(op.eval(value, **attrs))
    with tf.Session() as sess:
        for got, w in zip(sess.run(fetched, fed), wanted, strict=True):
            np.testing.assert_allclose(got, w, rtol=rtol)


def accepted(name: str, dtype: str) -> bool:
    return (dtype == "bool") == (name in ("Any", "All"))


DTYPES = ("float32", "float64", "int32", "int64", "uint8", "bool")
KINDS = [(name, dtype) for name in REDUCTIONS for dtype in DTYPES if accepted(name, dtype)]
SHAPES = [
    ((0,), (0,)),
    ((0, 5), (0,)),
    ((5, 0), (1,)),
    ((5, 0), (0,)),
    ((3, 0, 4), (0, 1, 2)),
    ((1,), (0,)),
    ((7, 1), (1,)),
    ((1, 7), (0,)),
    ((1, 1, 1), (0, 2)),
    ((17,), (0,)),
    ((2, 33), (1,)),
    ((33, 2), (0,)),
    ((3, 4, 5), (0, 2)),
    ((3, 17, 5), (1,)),
]


@pytest.mark.parametrize("name, dtype", KINDS)
def test_reductions_of_few_and_of_none(name, dtype):
    rng = np.random.default_rng(0)
    low = 0 if dtype in ("uint8", "bool") else -2
    check_reductions((name, rng.integers(low, 2, shape).astype(dtype), axes) for shape, axes in SHAPES)


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int32", "uint32", "int64", "uint64"])
def test_the_extremes_of_integers_survive(dtype):
    info = np.iinfo(dtype)
    value = np.array([[info.min, info.max, 0], [info.max] * 3, [info.min] * 3], dtype)
    check_reductions((name, value, (a,)) for name in ("Max", "Min", "ArgMax", "ArgMin") for a in (0, 1))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("length", [1, 3, 17, 64, 1000])
def test_nan_wins_wherever_it_is(dtype, length):
    rows = []
    for place in {0, length // 2, length - 1}:
        value = np.random.default_rng(0).uniform(0.95, 1.05, (4, length)).astype(dtype)
        value[1, place], value[2, place], value[3, place] = NAN, INF, -INF
        for name in ("Sum", "Prod", "Max", "Min", "ArgMax", "ArgMin"):
            rows += [(name, value, (1,)), (name, np.ascontiguousarray(value.T), (0,))]
    check_reductions(rows, rtol=1e-3)


@pytest.mark.parametrize("length", [2, 15, 16, 33, 257])
@pytest.mark.parametrize("axis", [0, 1])
def test_the_first_of_equals_is_found(length, axis):
    rng = np.random.default_rng(length)
    shape = (length, length)
    for value in (rng.integers(0, 3, shape).astype(np.float32), rng.integers(0, 2, shape), np.zeros(shape)):
        for f, by_numpy in ((tf.argmax, np.argmax), (tf.argmin, np.argmin)):
            np.testing.assert_array_equal(computed(lambda x, f=f: f(x, axis), value), by_numpy(value, axis))


def test_nan_and_zeros_pass_through_elementwise_functions():
    value = np.array([NAN, INF, -INF, 0.0, -0.0, 1.0, -1.0] * 5, np.float32)
    other = np.roll(value, 3)
    np.testing.assert_array_equal(computed(tf.nn.relu, value), np.maximum(value, 0))
    np.testing.assert_array_equal(computed(tf.maximum, value, other), np.maximum(value, other))
    np.testing.assert_array_equal(computed(tf.minimum, value, other), np.minimum(value, other))
    with np.errstate(all="ignore"):
        for f, by_numpy in ((tf.add, np.add), (tf.multiply, np.multiply), (tf.divide, np.divide)):
            np.testing.assert_array_equal(computed(f, value, other), by_numpy(value, other))


@pytest.mark.parametrize(
    "f, by_numpy",
    [(tf.negative, np.negative), (tf.abs, np.abs), (tf.identity, np.copy), (tf.sqrt, np.sqrt)],
)
def test_zeros_keep_their_signs(f, by_numpy):
    value = np.array([0.0, -0.0, 1.0, 4.0] * 9, np.float32)
    assert computed(f, value).tobytes() == by_numpy(value).tobytes()


@pytest.mark.parametrize("shape", [(4_000_000,), (2000, 2000), (3, 1_333_333)])
def test_long_sums_are_accurate(shape):
    value = np.random.default_rng(0).random(shape, np.float32)
    exact = value.astype(np.float64)
    assert computed(tf.reduce_sum, value) == pytest.approx(exact.sum(), rel=1e-5)
    assert computed(tf.reduce_mean, value) == pytest.approx(exact.mean(), rel=1e-5)
    if len(shape) == 2:
        np.testing.assert_allclose(computed(lambda x: tf.reduce_sum(x, 1), value), exact.sum(1), rtol=1e-5)
        np.testing.assert_allclose(computed(lambda x: tf.reduce_sum(x, 0), value), exact.sum(0), rtol=1e-5)


def test_softmax_of_large_numbers_does_not_overflow():
    value = np.array([[1e4, 1e4 - 1, -1e4], [-1e30, 0, 1e30], [-88, -89, -90]], np.float32)
    exact = value.astype(np.float64)
    e = np.exp(exact - exact.max(1, keepdims=True))
    np.testing.assert_allclose(computed(tf.nn.softmax, value), e / e.sum(1, keepdims=True), rtol=1e-5, atol=1e-30)
    got = computed(lambda x: tf.nn.log_softmax(x), value)
    np.testing.assert_allclose(got, exact - exact.max(1, keepdims=True) - np.log(e.sum(1, keepdims=True)), rtol=1e-5)


# feeds in every kind of memory


def everything(x: Any) -> Any:
    """Several ways to read a matrix."""
    return [x * 2, tf.reduce_sum(x, 0), tf.reduce_max(x, 1), tf.matmul(x, x, transpose_a=True), tf.transpose(x), x]


def check_feeds(plain: Any, *values: Any) -> None:
    """Assert that values give what the plain array gives."""
    x = tf.placeholder(plain.dtype, [None, plain.shape[1]])
    fetches = everything(x)
    with tf.Session() as sess:
        wanted = sess.run(fetches, {x: plain.copy()})
        for value in values:
            for got, w in zip(sess.run(fetches, {x: value}), wanted, strict=True):
                np.testing.assert_array_equal(got, w)


MATRIX = np.random.default_rng(3).standard_normal((19, 21)).astype(np.float32)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_feeds_at_odd_addresses(dtype):
    plain = MATRIX.astype(dtype)
    views = []
    for offset in range(1, 17):
        memory = np.empty(plain.size + 32, dtype)
        views.append(memory[offset : offset + plain.size].reshape(plain.shape))
        views[-1][...] = plain
        assert views[-1].flags.c_contiguous
    check_feeds(plain, *views)


def test_feeds_that_are_not_aligned_to_their_elements():
    raw = np.zeros(MATRIX.nbytes + 8, np.uint8)
    view = raw[1 : 1 + MATRIX.nbytes].view(np.float32).reshape(MATRIX.shape)
    view[...] = MATRIX
    assert not view.flags.aligned
    check_feeds(MATRIX, view)


FEEDS = {
    "transposed": np.ascontiguousarray(MATRIX.T).T,
    "every second": np.repeat(MATRIX, 2, axis=1)[:, ::2],
    "backwards": np.ascontiguousarray(MATRIX[::-1, ::-1])[::-1, ::-1],
    "part of a larger one": np.pad(MATRIX, 3)[3:-3, 3:-3],
    "column-major": np.asfortranarray(MATRIX),
    "big-endian": MATRIX.astype(">f4"),
    "double": MATRIX.astype(np.float64),
    "nested lists": MATRIX.tolist(),
    "a subclass": MATRIX.view(np.recarray),
}


@pytest.mark.parametrize("name", FEEDS)
def test_feeds_in_other_memory(name):
    check_feeds(MATRIX, FEEDS[name])


def test_repeated_memory_as_a_feed():
    row = MATRIX[:1]
    check_feeds(np.repeat(row, 5, axis=0), np.broadcast_to(row, (5, 21)))


def test_a_read_only_feed_stays_as_it_is():
    value = MATRIX.copy()
    value.setflags(write=False)
    check_feeds(MATRIX, value)
    np.testing.assert_array_equal(value, MATRIX)


def test_a_feed_may_change_between_runs():
    x = tf.placeholder(tf.float32, [3])
    value = np.ones(3, np.float32)
    with tf.Session() as sess:
        first = sess.run([x, x * 2], {x: value})
        value[...] = 5
        np.testing.assert_array_equal(first[0], np.ones(3))
        np.testing.assert_array_equal(sess.run(x * 2, {x: value}), [10, 10, 10])


def test_one_array_for_two_feeds():
    x, y = tf.placeholder(tf.float32, [None, 21]), tf.placeholder(tf.float32, [None, 21])
    with tf.Session() as sess:
        np.testing.assert_array_equal(sess.run(x - y, {x: MATRIX, y: MATRIX}), np.zeros_like(MATRIX))
