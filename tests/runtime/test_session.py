"""Sessions: fetches of any nesting, feeds and their conversion, errors, defaults, what is compiled when."""

from __future__ import annotations

import collections
import re
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import pytest

import graphflow as tf


class Pair(NamedTuple):
    first: Any
    second: Any


@pytest.fixture(autouse=True)
def graph() -> Iterator[tf.Graph]:
    with tf.Graph().as_default() as g:
        yield g


@pytest.fixture
def x(graph: tf.Graph) -> tf.Tensor:
    return tf.placeholder(tf.float32, [None, 2], name="x")


ONES = np.ones((3, 2), np.float32)


def test_nesting_of_fetches(x: tf.Tensor) -> None:
    y, nothing = x + 1.0, tf.no_op(name="nothing")
    fetches = {"y": y, "rest": [(y, nothing), Pair(x, "x:0"), [], collections.OrderedDict(a="nothing")]}
    with tf.Session() as sess:
        found = sess.run(fetches, {x: ONES})
    assert list(found) == ["y", "rest"]
    (again, none), pair, empty, ordered = found["rest"]
    np.testing.assert_array_equal(found["y"], ONES + 1)
    np.testing.assert_array_equal(again, ONES + 1)
    assert isinstance(pair, Pair)
    np.testing.assert_array_equal(pair.second, ONES)
    assert none is None
    assert empty == []
    assert isinstance(ordered, collections.OrderedDict)
    assert dict(ordered) == {"a": None}


def test_scalars_are_numpy_scalars(x: tf.Tensor) -> None:
    with tf.Session() as sess:
        total = sess.run(tf.reduce_sum(x), {x: ONES})
    assert type(total) is np.float32
    assert total == 6


def test_nothing_to_fetch() -> None:
    with tf.Session() as sess:
        assert sess.run([]) == []
        assert sess.run({}) == {}


@pytest.mark.parametrize(
    "value, expected",
    [
        (ONES, ONES),
        (ONES.astype(np.float64), ONES),
        (ONES.astype(np.int64), ONES),
        ([[1, 2.5]], [[1, 2.5]]),
        (np.ones((2, 3), np.float32).T, ONES),
        (np.ones((6, 4), np.float32)[::2, ::2], ONES),
        (ONES.astype(">f4"), ONES),
        (np.zeros((0, 2)), np.zeros((0, 2))),
    ],
)
def test_feeds_that_fit(x: tf.Tensor, value: Any, expected: Any) -> None:
    with tf.Session() as sess:
        found = sess.run(x * 2.0, {x: value})
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, np.multiply(expected, 2))


@pytest.mark.parametrize(
    "dtype, value, error, message",
    [
        (tf.float32, np.ones((3, 3)), ValueError, r"shape \(3, 3\) for Tensor 'p:0', which has shape \(\?, 2\)"),
        (tf.float32, 1.0, ValueError, r"Cannot feed value of shape \(\)"),
        (tf.float32, [[1j, 1]], ValueError, "dtype complex128"),
        (tf.float32, [["a", "b"]], ValueError, "Cannot feed the value"),
        (tf.float32, [[1.0], [1.0, 2.0]], ValueError, "not rectangular"),
        (tf.float32, None, ValueError, "Cannot feed the value None"),
        (tf.int32, [[0.5, 1.0]], ValueError, "dtype float64 for Tensor 'p:0', which has shape .* dtype int32"),
        (tf.int32, np.ones((1, 2)), ValueError, "dtype float64"),
        (tf.int32, [[2**40, 0]], ValueError, "does not fit int32"),
        (tf.int32, np.full((1, 2), 2**40), ValueError, "does not fit int32"),
        (tf.bool, [[2, 0]], ValueError, "Cannot feed the value"),
    ],
)
def test_feeds_that_do_not_fit(dtype: tf.DType, value: Any, error: type[Exception], message: str) -> None:
    p = tf.placeholder(dtype, [None, 2], name="p")
    with tf.Session() as sess, pytest.raises(error, match=message) as caught:
        sess.run(tf.identity(p), {p: value})
    assert isinstance(caught.value, tf.errors.InvalidArgumentError)
    assert "declared at test_session.py:" in str(caught.value)


def test_plain_numbers_keep_their_value() -> None:
    n = tf.placeholder(tf.int64, [2])
    b = tf.placeholder(tf.bool, [2])
    with tf.Session() as sess:
        np.testing.assert_array_equal(sess.run(tf.identity(n), {n: [1.0, 2.0]}), [1, 2])
        np.testing.assert_array_equal(sess.run(tf.logical_not(b), {b: [1, 0]}), [False, True])


def test_tensor_as_a_feed_is_refused(x: tf.Tensor) -> None:
    with tf.Session() as sess, pytest.raises(TypeError, match=r"cannot be a tf\.Tensor object"):
        sess.run(x, {x: x})


def test_feeds_by_name_and_of_intermediates(x: tf.Tensor) -> None:
    h = tf.square(x, name="h")
    y = h + 1.0
    with tf.Session() as sess:
        np.testing.assert_array_equal(sess.run(y, {"x:0": ONES * 2}), ONES * 5)
        np.testing.assert_array_equal(sess.run(y, {h: ONES}), ONES * 2)
        np.testing.assert_array_equal(sess.run([h, y], {"h:0": ONES})[0], ONES)


def test_feeding_a_variable(x: tf.Tensor) -> None:
    w = tf.Variable([1.0, 1.0], name="w")
    with tf.Session() as sess:
        np.testing.assert_array_equal(sess.run(x * w, {x: ONES, w: [2.0, 3.0]}), ONES * [2, 3])
        np.testing.assert_array_equal(sess.run(x * w, {x: ONES, "w:0": [2.0, 3.0]}), ONES * [2, 3])


def test_unknown_sizes_vary(x: tf.Tensor) -> None:
    y = tf.reduce_sum(x, 0)
    with tf.Session() as sess:
        for rows in (3, 5, 3, 1, 0):
            np.testing.assert_array_equal(sess.run(y, {x: np.ones((rows, 2))}), [rows, rows])


def test_missing_feed(x: tf.Tensor) -> None:
    message = r"You must feed a value for placeholder 'x' \(float32\[\?, 2\], at test_session.py:\d+\)"
    with tf.Session() as sess, pytest.raises(tf.errors.InvalidArgumentError, match=message):
        sess.run(x + 1.0)


def test_uninitialized_variable(x: tf.Tensor) -> None:
    w = tf.Variable(tf.ones([2]), name="w")
    y = x * w
    with tf.Session() as sess:
        with pytest.raises(tf.errors.FailedPreconditionError, match=r"uninitialized value.*w") as caught:
            sess.run(y, {x: ONES})
        assert re.search(r"variable 'w' \(declared at test_session.py:\d+\)", str(caught.value))
        assert "tf.global_variables_initializer()" in str(caught.value)
        sess.run(tf.global_variables_initializer())
        np.testing.assert_array_equal(sess.run(y, {x: ONES}), ONES)


@pytest.mark.parametrize(
    "run, error, message",
    [
        (lambda s, x: s.run("imagse"), KeyError, "Did you mean 'images'"),
        (lambda s, x: s.run("images:1"), KeyError, "only has 1 outputs"),
        (lambda s, x: s.run(x, {"y:0": 1}), KeyError, "does not exist"),
        (lambda s, x: s.run(None), TypeError, "None has invalid type"),
        (lambda s, x: s.run([x, 3]), TypeError, "Fetch argument 3 has invalid type"),
        (lambda s, x: s.run(np.zeros(2)), TypeError, "invalid type"),
        (lambda s, x: s.run(x, {3: 1}), TypeError, "feed_dict key"),
        (lambda s, x: s.run(x, {x.op: 1}), TypeError, "is an Operation"),
    ],
)
def test_bad_fetches_and_feeds(run: Callable[..., Any], error: type[Exception], message: str) -> None:
    images = tf.placeholder(tf.float32, [2], name="images")
    with tf.Session() as sess, pytest.raises(error, match=message):
        run(sess, images)


def test_tensor_of_another_graph(graph: tf.Graph) -> None:
    with tf.Graph().as_default() as other:
        y = tf.constant(1.0, name="y")
    with tf.Session(graph=graph) as sess:
        with pytest.raises(ValueError, match="is not an element of this graph") as caught:
            sess.run(y)
        assert repr(other) in str(caught.value)
        assert repr(graph) in str(caught.value)
        with pytest.raises(ValueError, match="is not an element of this graph"):
            sess.run(tf.constant(1.0), {y: 1.0})


def test_closed_session(x: tf.Tensor) -> None:
    sess = tf.Session()
    call = sess.make_callable(x + 1.0, [x])
    sess.close()
    for use in (lambda: sess.run(x, {x: ONES}), lambda: call(ONES), lambda: sess.make_callable(x, [x])):
        with pytest.raises(RuntimeError, match=r"Attempted to use a closed Session\."):
            use()
    sess.close()


def test_bad_constructor_arguments() -> None:
    with pytest.raises(TypeError, match=r"graph must be a tf\.Graph"):
        tf.Session(graph=3)  # type: ignore[arg-type]  # the mistake
    with pytest.raises(TypeError, match=r"config must be a tf\.ConfigProto"):
        tf.Session(config=3)  # type: ignore[arg-type]  # the mistake
    with pytest.raises(NotImplementedError, match="in this process"):
        tf.Session("grpc://somewhere")


def test_make_callable(x: tf.Tensor) -> None:
    y = x * 2.0
    with tf.Session() as sess:
        call = sess.make_callable([y, tf.reduce_sum(y)], [x])
        product, total = call(ONES)
        np.testing.assert_array_equal(product, ONES * 2)
        assert total == 12
        np.testing.assert_array_equal(call(np.zeros((1, 2)))[0], np.zeros((1, 2)))
        with pytest.raises(TypeError, match="takes 1 values"):
            call()
        with pytest.raises(ValueError, match="Cannot feed value of shape"):
            call(np.zeros(3))


def test_results_are_the_callers_own(x: tf.Tensor) -> None:
    y = x + 1.0
    with tf.Session() as sess:
        first = sess.run(y, {x: ONES})
        kept = first.copy()
        second = sess.run(y, {x: ONES * 5})
        np.testing.assert_array_equal(first, kept)
        second[:] = 0
        same = sess.run(x, {x: ONES})
        same[:] = 7
    np.testing.assert_array_equal(ONES, np.ones((3, 2)))


def test_fetched_variables_are_copies() -> None:
    w = tf.Variable([1.0, 2.0])
    with tf.Session() as sess:
        sess.run(tf.global_variables_initializer())
        sess.run(w)[:] = 9
        np.testing.assert_array_equal(sess.run(w), [1, 2])
        before = sess.run(w)
        sess.run(w.assign([3.0, 4.0]))
        np.testing.assert_array_equal(before, [1, 2])


def test_default_sessions(graph: tf.Graph, x: tf.Tensor) -> None:
    y = tf.constant(3.0)
    with pytest.raises(ValueError, match="no default session"):
        y.eval()
    with tf.Session() as sess:
        assert tf.get_default_session() is sess
        assert y.eval() == 3
        np.testing.assert_array_equal((x + 1.0).eval({x: ONES}), ONES + 1)
        assert tf.no_op().run() is None
    assert tf.get_default_session() is None
    with pytest.raises(RuntimeError, match="closed"):
        y.eval(session=sess)
    kept = tf.Session()
    with kept.as_default():
        assert y.eval() == 3
    assert kept.run(y) == 3
    with tf.Graph().as_default(), pytest.raises(ValueError, match="the session runs"):
        tf.constant(1.0).eval(session=kept)
    kept.close()


def test_session_makes_its_graph_the_default() -> None:
    other = tf.Graph()
    with tf.Session(graph=other) as sess:
        assert tf.get_default_graph() is other
        assert sess.run(tf.constant(2.0)) == 2
    assert tf.get_default_graph() is not other


def test_interactive_session() -> None:
    sess = tf.InteractiveSession()
    try:
        assert tf.constant(4.0).eval() == 4
        assert tf.get_default_session() is sess
    finally:
        sess.close()
    assert tf.get_default_session() is None


def test_compiled_once(x: tf.Tensor) -> None:
    y = x + 1.0
    with tf.Session() as sess:
        sess.run(y, {x: ONES})
        spent = sess.compile_seconds
        assert spent > 0
        sess.run(y, {x: ONES})
        sess.run(y, {x: np.ones((7, 2))})
        assert sess.compile_seconds == spent
        sess.run([y], {x: ONES})
        assert sess.compile_seconds > spent


def test_options_are_accepted(x: tf.Tensor) -> None:
    config = tf.ConfigProto(allow_soft_placement=True, gpu_options=tf.GPUOptions(allow_growth=True))
    config.gpu_options.per_process_gpu_memory_fraction = 0.5
    config.inter_op_parallelism_threads = 2
    with tf.Session(config=config) as sess, tf.device("/cpu:0"):
        sess.run(
            x, {x: ONES}, options=tf.RunOptions(trace_level=tf.RunOptions.FULL_TRACE), run_metadata=tf.RunMetadata()
        )
    with pytest.raises(TypeError, match="has no option 'threads'"):
        tf.ConfigProto(threads=3)


def test_random_numbers_move_on_and_repeat() -> None:
    tf.set_random_seed(3)
    r = tf.random_uniform([5], name="r")
    drawn = []
    for _ in range(2):
        with tf.Session() as sess:
            drawn.append([sess.run(r), sess.run(r)])
    np.testing.assert_array_equal(drawn[0], drawn[1])
    assert not np.array_equal(drawn[0][0], drawn[0][1])


def test_what_waits_for_a_placeholder_that_is_fed() -> None:
    x, y = tf.placeholder(tf.float32, []), tf.placeholder(tf.float32, [])
    with tf.control_dependencies([y]):
        z = x + 1.0
    with tf.Session() as sess:
        assert sess.run(z, {x: 1.0, y: 2.0}) == 2.0
        assert sess.run(tf.tuple([x, y])[0], {x: 1.0, y: 2.0}) == 1.0
        with pytest.raises(tf.errors.InvalidArgumentError, match="must feed a value for placeholder"):
            sess.run(z, {x: 1.0})


def test_random_integers_reach_all_of_a_wide_range() -> None:
    drawn = tf.random_uniform([1000], -(2**50), 2**50, tf.int64, seed=3)
    with tf.Session() as sess:
        value = sess.run(drawn)
    assert value.min() < -(2**49)
    assert value.max() > 2**49


def test_sizes_that_only_a_run_can_tell(x: tf.Tensor) -> None:
    head = x[:5]
    rows = tf.shape(head)[0]
    fetches = tf.reshape(head, [rows, -1, 1]), tf.zeros([rows * 2]), tf.zeros_like(head), tf.nn.dropout(head, 0.5)
    with tf.Session() as sess:
        for count, expected in ((7, 5), (3, 3)):
            found = sess.run(fetches, {x: np.ones((count, 2))})
            assert [v.shape for v in found] == [(expected, 2, 1), (expected * 2,), (expected, 2), (expected, 2)]


def test_unknown_rank() -> None:
    u = tf.placeholder(tf.float32)
    fetches = [tf.reshape(u, [-1]), tf.zeros_like(u), u + 1.0, tf.reduce_sum(u), tf.gradients(u * u, u)[0]]
    with tf.Session() as sess:
        for shape in ((2, 3), (4,), ()):
            size = int(np.prod(shape))
            assert [v.shape for v in sess.run(fetches, {u: np.ones(shape)})] == [(size,), shape, shape, (), shape]


def test_load_compiles_nothing() -> None:
    w = tf.Variable([1.0, 2.0], name="w")
    with tf.Session() as sess:
        w.load([3.0, 4.0])
        assert sess.compile_seconds == 0
        np.testing.assert_array_equal(sess.run(w), [3, 4])
        with pytest.raises(ValueError, match=r"Cannot feed value of shape \(3,\)"):
            w.load([1.0, 2.0, 3.0])


def test_initialized_value_depends_on_the_session() -> None:
    w = tf.Variable(1.0)
    value = w.initialized_value() * 2.0
    with tf.Session() as sess:
        assert sess.run(value) == 2
        w.load(5.0)
        assert sess.run(value) == 10
