"""Sizes that the user left open: one compilation serves them all, and answers are right where sizes meet by chance."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import graphflow as tf
from graphflow.compiler.llvm.contract.choose import make_plan
from graphflow.compiler.llvm.contract.contraction import Axis, Contraction
from graphflow.compiler.llvm.target import AVX512
from graphflow.core.dim import estimate, evaluate, fed, symbol
from graphflow.demo import cnn, mlp
from tests.e2e import numpy_networks as reference


@pytest.fixture(autouse=True)
def fresh_graph():
    with tf.Graph().as_default():
        yield


def compiled(sess: Any) -> list[Any]:
    """The programs with feeds that a session has compiled."""
    return [e for p in sess._plans.values() for e in p._executables if e.types]


def normal(*shape: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


NETWORKS = {"mlp": (mlp.build, reference.mlp, range(1, 41)), "cnn": (cnn.build, reference.cnn, (1, 2, 3, 7, 8, 16, 17))}


@pytest.mark.parametrize("name", NETWORKS)
def test_one_compilation_serves_every_batch_size(name):
    build, step, sizes = NETWORKS[name]
    network = build()
    variables = tf.trainable_variables()
    fetches = [network.loss, *tf.gradients(network.loss, variables)]
    with tf.Session() as sess:
        sess.run(tf.global_variables_initializer())
        values = {v.op.name: sess.run(v) for v in variables}
        for size in sizes:
            images = np.random.default_rng(size).random((size, 28, 28, 1), np.float32)
            labels = np.random.default_rng(size).integers(0, 10, size)
            loss, *gradients = sess.run(fetches, {network.images: images, network.labels: labels})
            wanted, by_hand = step(values, images, labels)
            assert loss == pytest.approx(wanted, rel=1e-5)
            for v, g in zip(variables, gradients, strict=True):
                by_numpy = by_hand[v.op.name]
                np.testing.assert_allclose(g, by_numpy, rtol=1e-3, atol=1e-5 * max(np.abs(by_numpy).max(), 0.1))
        assert len(compiled(sess)) == 1


@pytest.mark.parametrize("name", NETWORKS)
def test_a_small_first_batch_decides_nothing(name):
    """Costs are those of a batch of 8 where the first one is smaller: the plan and its code are the same.

    But for the comments, which name ops in the order in which their nodes were made, some of them for other tests.
    """
    network = NETWORKS[name][0]()
    step = network.loss
    made = []
    for size in (1, 2, 8):
        with tf.Session() as sess:
            sess.run(tf.global_variables_initializer())
            images, labels = np.ones((size, 28, 28, 1), np.float32), np.zeros(size, np.int32)
            sess.run(step, {network.images: images, network.labels: labels})
            (one,) = compiled(sess)
            plan = re.sub(r"  # .*", "", str(one.plan))
            made.append((plan, one.layout.nanoseconds, str(one.code.module)))
    assert made[0] == made[1] == made[2]


def test_fed_and_estimate():
    small, large, unseen = symbol("n", hint=1), symbol("m", hint=100), symbol("k")
    assert [fed(s) for s in (small, 3 * small + 2, small * large // 7, 5)] == [1, 5, 14, 5]
    assert [estimate(s) for s in (small, 3 * small + 2, large, unseen, 5)] == [8, 26, 100, 64, 5]


def test_two_unknown_sizes_that_differ():
    x, y = tf.placeholder(tf.float32, [None, 3]), tf.placeholder(tf.float32, [None, 3])
    products = tf.matmul(x, y, transpose_b=True)
    apart = tf.reduce_sum(tf.square(x[:, None, :] - y[None, :, :]), 2)
    both = tf.concat([x, y], 0)
    with tf.Session() as sess:
        for m, n in ((4, 5), (5, 4), (1, 9), (17, 2), (30, 33)):
            a, b = normal(m, 3), normal(n, 3, seed=1)
            p, d, c = sess.run([products, apart, both], {x: a, y: b})
            np.testing.assert_allclose(p, a @ b.T, rtol=1e-5, atol=1e-6)
            np.testing.assert_allclose(d, np.square(a[:, None] - b).sum(2), rtol=1e-5, atol=1e-6)
            np.testing.assert_array_equal(c, np.concatenate([a, b]))
        assert len(compiled(sess)) == 1


def test_sizes_equal_by_chance_then_different():
    x, y = tf.placeholder(tf.float32, [None]), tf.placeholder(tf.float32, [None])
    outer = x[:, None] * y[None, :]
    with tf.Session() as sess:
        for m, n in ((4, 4), (4, 6), (6, 6), (2, 3), (5, 5)):
            a, b = normal(m), normal(n, seed=1)
            np.testing.assert_array_equal(sess.run(outer, {x: a, y: b}), np.outer(a, b))
        assert len(compiled(sess)) == 2


def test_sums_of_sizes_that_must_agree():
    """x + y compiles for equal sizes; unequal ones are refused, unless one is 1."""
    x, y = tf.placeholder(tf.float32, [None]), tf.placeholder(tf.float32, [None])
    total = x + y
    with tf.Session() as sess:
        for m, n in ((4, 4), (7, 7), (1, 5), (6, 1), (1, 1), (3, 3)):
            a, b = normal(m), normal(n, seed=1)
            np.testing.assert_array_equal(sess.run(total, {x: a, y: b}), a + b)
        with pytest.raises(tf.errors.InvalidArgumentError, match=r"4.*5"):
            sess.run(total, {x: normal(4), y: normal(5)})


def test_an_unknown_size_that_equals_a_known_one():
    """A batch of 10 beside 10 classes is a coincidence: the program for it serves no other batch."""
    x = tf.placeholder(tf.float32, [None, 10])
    total = x + tf.reduce_sum(x, 0)
    square = tf.matmul(x, x, transpose_a=True)
    with tf.Session() as sess:
        for size in (10, 3, 10, 1, 12):
            a = normal(size, 10)
            np.testing.assert_allclose(sess.run(total, {x: a}), a + a.sum(0), rtol=1e-5, atol=1e-5)
            np.testing.assert_allclose(sess.run(square, {x: a}), a.T @ a, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("sizes", [(0,), (5, 0, 3), (0, 4)])
def test_batches_of_nothing(sizes):
    x = tf.placeholder(tf.float32, [None, 6])
    w = tf.constant(normal(6, 4))
    y = tf.nn.softmax(tf.nn.relu(tf.matmul(x, w)))
    columns = tf.reduce_sum(y, 0)
    gradient = tf.matmul(x, y, transpose_a=True)
    with tf.Session() as sess:
        for size in sizes:
            a = normal(size, 6)
            rows, sums, product = sess.run([y, columns, gradient], {x: a})
            assert rows.shape == (size, 4)
            np.testing.assert_allclose(sums, rows.sum(0), rtol=1e-5)
            np.testing.assert_allclose(product, a.T @ rows, rtol=1e-4, atol=1e-5)


def test_a_network_takes_a_batch_of_nothing():
    network = cnn.build()
    with tf.Session() as sess:
        sess.run(tf.global_variables_initializer())
        feed = {network.images: np.zeros((0, 28, 28, 1), np.float32), network.labels: np.zeros(0, np.int64)}
        loss, correct = sess.run([network.loss, network.correct], feed)
        assert np.isnan(loss)  # the mean of nothing
        assert correct == 0


def test_a_placeholder_of_unknown_rank():
    x = tf.placeholder(tf.float32)
    y = tf.tanh(x) * 2
    total = tf.reduce_sum(x * x)
    with tf.Session() as sess:
        for shape in ((), (4,), (2, 3), (2, 3, 4), (0, 2), (5,)):
            a = normal(*shape)
            got, s = sess.run([y, total], {x: a})
            np.testing.assert_allclose(got, np.tanh(a) * 2, rtol=1e-5)
            assert np.shape(got) == shape
            assert s == pytest.approx((a * a).sum(), rel=1e-5)


def test_every_axis_unknown():
    x = tf.placeholder(tf.float32, [None, None, None])
    y = tf.transpose(tf.nn.softmax(x), [2, 0, 1])
    flat = tf.reshape(x, [tf.shape(x)[0], -1])
    with tf.Session() as sess:
        for shape in ((2, 3, 4), (3, 4, 2), (2, 2, 2), (4, 4, 3), (1, 1, 7), (5, 16, 33)):
            a = normal(*shape)
            soft, rows = sess.run([y, flat], {x: a})
            e = np.exp(a - a.max(2, keepdims=True))
            np.testing.assert_allclose(soft, np.transpose(e / e.sum(2, keepdims=True), (2, 0, 1)), rtol=1e-5)
            np.testing.assert_array_equal(rows, a.reshape(shape[0], -1))


NEED_NUMBERS = {
    "same padding": (
        lambda x: tf.nn.max_pool(x[None, :, :, None], [1, 2, 2, 1], [1, 2, 2, 1], "SAME"),
        lambda a: (
            np.maximum(a[::2], np.pad(a[1::2], ((0, len(a) % 2), (0, 0)), constant_values=-np.inf))
            .reshape(1, -1, 2, 2)
            .max(3)[..., None]
        ),
    ),
    "backwards from the end": (lambda x: x[-1:0:-1], lambda a: a[-1:0:-1]),
    "squeeze": (lambda x: tf.squeeze(x[:, :1]), lambda a: a[:, :1].squeeze()),
    "last": (lambda x: x[-1], lambda a: a[-1]),
    "last two": (lambda x: x[-2:], lambda a: a[-2:]),
    "first two": (lambda x: x[:2], lambda a: a[:2]),
    "all but the ends": (lambda x: x[1:-1], lambda a: a[1:-1]),
    "every second": (lambda x: x[::2], lambda a: a[::2]),
}


@pytest.mark.parametrize("name", NEED_NUMBERS)
def test_what_may_need_a_number_gets_one(name):
    build, by_numpy = NEED_NUMBERS[name]
    x = tf.placeholder(tf.float32, [None, 4])
    y = build(x)
    with tf.Session() as sess:
        for size in (3, 8, 1, 2, 3, 5, 17):
            a = normal(size, 4)
            np.testing.assert_allclose(sess.run(y, {x: a}), by_numpy(a), rtol=1e-5, atol=1e-6)


def test_products_of_matrices_of_which_no_size_is_known():
    """Every stride is a run-time value, those of rows too."""
    x, y = tf.placeholder(tf.float32, [None, None]), tf.placeholder(tf.float32, [None, None])
    fetches = [tf.matmul(x, y), tf.matmul(y, x, transpose_a=True, transpose_b=True), tf.transpose(x) * 2]
    with tf.Session() as sess:
        for m, k, n in ((3, 4, 5), (17, 33, 64), (1, 2, 3), (6, 0, 2), (40, 50, 60), (7, 9, 1)):
            a, b = normal(m, k), normal(k, n, seed=1)
            product, other, turned = sess.run(fetches, {x: a, y: b})
            np.testing.assert_allclose(product, a @ b, rtol=1e-4, atol=1e-4)
            np.testing.assert_allclose(other, (a @ b).T, rtol=1e-4, atol=1e-4)
            np.testing.assert_array_equal(turned, a.T * 2)
        assert len(compiled(sess)) <= 2


def test_a_sum_of_nothing_by_an_unknown_number():
    x = tf.placeholder(tf.float32, [None, 0])
    with tf.Session() as sess:
        assert sess.run(tf.reduce_sum(tf.tanh(x)), {x: np.zeros((3, 0), np.float32)}) == 0


@pytest.mark.parametrize("hint", [1, 8, 64])
def test_sums_that_may_get_longer_are_shared_by_as_many_units(hint: int) -> None:
    """The gradient of a weight, compiled for a first batch of one: later batches make its units no more."""
    batch = symbol("n0", hint=hint)
    spec = Contraction("float32", (), m=(Axis(784, 1, 0),), n=Axis(128, 0, 1), k=(Axis(batch, 784, 128),))
    plan, whole = make_plan(spec, AVX512), make_plan(replace(spec, k=(Axis(64, 784, 128),)), AVX512)
    assert evaluate(plan.row_blocks * plan.column_blocks, {}) >= evaluate(whole.row_blocks * whole.column_blocks, {})


def test_a_size_that_is_far_larger_is_another_program() -> None:
    """One row of five is a unit of work; a row of a million is work for all threads, and Ctrl-C waits for a unit."""
    x = tf.placeholder(tf.float32, [None, None])
    y = tf.reduce_sum(tf.nn.softmax(x), axis=1)
    with tf.Session() as sess:
        for rows, length, programs in ((1, 5, 1), (3, 4000, 1), (1, 1 << 20, 2), (2, 7, 2), (1, 3 << 20, 2)):
            value = sess.run(y, {x: np.ones((rows, length), np.float32)})
            np.testing.assert_allclose(value, np.ones(rows), rtol=1e-5)
            assert len(compiled(sess)) == programs


def test_labels_that_are_none_of_an_unknown_number_of_classes() -> None:
    """Their loss is NaN, as it is where the number is known."""
    logits, labels = tf.placeholder(tf.float32, [None, None]), tf.placeholder(tf.int32, [None])
    loss = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)
    with tf.Session() as sess:
        for classes in (3, 1, 40):
            fed = np.array([-1, 0, classes - 1, classes], np.int32)
            value = sess.run(loss, {logits: np.zeros((4, classes), np.float32), labels: fed})
            np.testing.assert_allclose(value, [np.nan, np.log(classes), np.log(classes), np.nan], rtol=1e-6)


def test_an_unknown_size_that_does_not_broadcast() -> None:
    x = tf.placeholder(tf.float32, [None])
    y = tf.broadcast_to(x, [2, 1])
    with tf.Session() as sess:
        assert sess.run(y, {x: [3.0]}).tolist() == [[3.0], [3.0]]
        with pytest.raises(tf.errors.InvalidArgumentError, match="does not broadcast to"):
            sess.run(y, {x: np.ones(5)})


def test_a_slice_that_finds_less_than_it_asks_for() -> None:
    """What follows sees the size that there is."""
    x = tf.placeholder(tf.float32, [None, None])
    none, few = tf.reshape(x[:-15], [0]), tf.reshape(x[-3:], [2, -1])
    with tf.Session() as sess:
        assert sess.run(none, {x: np.ones((1, 4))}).shape == (0,)
        assert sess.run(few, {x: np.ones((2, 4))}).shape == (2, 4)


SHAPED_LIKE: dict[str, Callable[[Any], Any]] = {
    "ones": tf.ones_like,
    "broadcast": lambda y: tf.broadcast_to(1.0, tf.shape(y)),
    "reshape": lambda y: tf.reshape(y * 0 + 1, tf.shape(y)),
    "gradient": lambda y: tf.gradients(y, [y])[0],
    "random": lambda y: tf.random_uniform(tf.shape(y)) * 0 + 1,
    "range": lambda y: tf.range(tf.shape(y)[0]) * 0 + 1,
    "tile": lambda y: tf.tile([1.0], tf.shape(y)),
}


@pytest.mark.parametrize("name", SHAPED_LIKE)
@pytest.mark.parametrize(
    "key", [slice(1, None), slice(1, -7), slice(None, -3), slice(1, -1, 2), slice(1, None, 2), slice(-3, None)]
)
def test_values_of_the_shape_of_a_slice_of_few(name: str, key: slice) -> None:
    """How many elements a slice has, only a run can tell; where it would be less than none, there are none."""
    with tf.Graph().as_default(), tf.Session() as sess:
        x = tf.placeholder(tf.float32, [None])
        y = SHAPED_LIKE[name](x[key])
        assert y.shape.as_list() == [None]
        for size in (12, 9, 2, 1, 0):
            fed = np.arange(size, dtype=np.float32)
            np.testing.assert_array_equal(sess.run(y, {x: fed}), np.ones_like(fed[key]))


def test_ranges_up_to_an_unknown_size_and_down_from_it() -> None:
    x = tf.placeholder(tf.float32, [None])
    n = tf.shape(x)[0]
    bounds = [(n, 0, -1), (n, 0, -2), (n, -1, -3), (1, n, 2), (n, n * 2, 3), (5, n, 1)]
    ranges = [tf.range(*b) for b in bounds]
    with tf.Session() as sess:
        for size in (6, 7, 8, 5, 2):
            wanted = [(size, 0, -1), (size, 0, -2), (size, -1, -3), (1, size, 2), (size, size * 2, 3), (5, size, 1)]
            found = sess.run(ranges, {x: np.ones(size)})
            assert [f.tolist() for f in found] == [list(range(*w)) for w in wanted]


def test_sizes_that_are_divided_by_a_negative_number() -> None:
    x = tf.placeholder(tf.float32, [None])
    y = tf.ones([-(tf.shape(x)[0] // -2), 2])
    with tf.Session() as sess:
        assert [sess.run(y, {x: np.ones(n)}).shape for n in (4, 7)] == [(2, 2), (4, 2)]


def test_positions_beyond_what_the_indices_hold() -> None:
    x = tf.placeholder(tf.uint8, [None])
    with tf.Session() as sess:
        assert np.argwhere(sess.run(tf.one_hot(x, 300), {x: [0, 44]})).tolist() == [[0, 0], [1, 44]]
