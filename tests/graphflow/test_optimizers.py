"""Optimizers: what they declare, and their steps beside the formulas of the papers written in NumPy."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pytest

import graphflow as tf

Step = Callable[[np.ndarray, np.ndarray], np.ndarray]


@pytest.fixture(autouse=True)
def graph() -> Iterator[tf.Graph]:
    with tf.Graph().as_default() as g:
        yield g


def test_adam_names_its_state_as_tensorflow_does() -> None:
    w = tf.Variable([1.0, 2.0], name="w")
    optimizer = tf.train.AdamOptimizer(0.1)
    train_op = optimizer.minimize(tf.reduce_sum(w * w))
    names = ["w:0", "beta1_power:0", "beta2_power:0", "w/Adam:0", "w/Adam_1:0"]
    assert [v.name for v in tf.global_variables()] == names
    assert tf.trainable_variables() == [w]
    assert optimizer.get_slot_names() == ["m", "v"]
    assert optimizer.get_slot(w, "v").name == "w/Adam_1:0"
    assert optimizer.get_slot(w, "other") is None
    assert [v.name for v in optimizer.variables()] == sorted(names[1:])
    assert (train_op.name, train_op.type) == ("Adam", "NoOp")
    assert tf.get_collection(tf.GraphKeys.TRAIN_OP) == [train_op]


def test_second_optimizer_has_state_of_its_own() -> None:
    w = tf.Variable(1.0, name="w")
    for _ in range(2):
        tf.train.AdamOptimizer(0.1).minimize(w * w)
    names = {v.name for v in tf.global_variables()}
    assert {"beta1_power_1:0", "w/Adam_2:0", "w/Adam_3:0"} <= names


def test_momentum_state_within_a_scope() -> None:
    with tf.variable_scope("net"):
        w = tf.get_variable("w", [2])
    with tf.variable_scope("training"):
        tf.train.MomentumOptimizer(0.1, 0.9).minimize(tf.reduce_sum(w * w))
    assert [v.name for v in tf.global_variables()] == ["net/w:0", "training/net/w/Momentum:0"]


def test_variables_without_gradient() -> None:
    w = tf.Variable(1.0, name="w")
    u = tf.Variable(1.0, name="u")
    optimizer = tf.train.GradientDescentOptimizer(0.1)
    with pytest.raises(ValueError, match=r"No gradients provided for any variable.*'u:0' \(declared at .*loss 'mul:0'"):
        optimizer.minimize(w * 2.0, var_list=[u])
    pairs = optimizer.compute_gradients(w * 2.0)
    assert [(g is None, v) for g, v in pairs] == [(False, w), (True, u)]
    with pytest.raises(ValueError, match="No gradients provided"):
        optimizer.apply_gradients([(None, u)])
    with pytest.raises(ValueError, match="No variables provided"):
        optimizer.apply_gradients([])
    with pytest.raises(TypeError, match="not a variable"):
        optimizer.minimize(w * 2.0, var_list=[w * 1.0])


def test_nothing_to_optimize() -> None:
    with pytest.raises(ValueError, match="No variables to optimize"):
        tf.train.GradientDescentOptimizer(0.1).minimize(tf.constant(1.0))


def test_global_step() -> None:
    assert tf.train.get_global_step() is None
    step = tf.train.get_or_create_global_step()
    assert (step.name, step.dtype) == ("global_step:0", tf.int64)
    assert tf.train.get_or_create_global_step() is step
    assert step not in tf.trainable_variables()
    with pytest.raises(ValueError, match="already exists"):
        tf.train.create_global_step()
    w = tf.Variable(1.0)
    train_op = tf.train.GradientDescentOptimizer(0.1).minimize(w * w, global_step=step)
    with tf.Session() as sess:
        sess.run(tf.global_variables_initializer())
        for _ in range(3):
            sess.run(train_op)
        assert tf.train.global_step(sess, step) == 3


def _gradient_descent() -> Step:
    return lambda w, g: w - 0.1 * g


def _momentum(nesterov: bool) -> Callable[[], Step]:
    def start() -> Step:
        accumulator: np.ndarray | float = 0.0

        def step(w: np.ndarray, g: np.ndarray) -> np.ndarray:
            nonlocal accumulator
            accumulator = 0.9 * accumulator + g
            return w - 0.1 * (g + 0.9 * accumulator if nesterov else accumulator)

        return step

    return start


def _adam() -> Step:
    m: np.ndarray | float = 0.0
    v: np.ndarray | float = 0.0
    t = 0

    def step(w: np.ndarray, g: np.ndarray) -> np.ndarray:
        nonlocal m, v, t
        t += 1
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
        return w - 0.1 * np.sqrt(1 - 0.999**t) / (1 - 0.9**t) * m / (np.sqrt(v) + 1e-8)

    return step


OPTIMIZERS = {
    "sgd": (lambda: tf.train.GradientDescentOptimizer(0.1), _gradient_descent),
    "momentum": (lambda: tf.train.MomentumOptimizer(0.1, 0.9), _momentum(nesterov=False)),
    "nesterov": (lambda: tf.train.MomentumOptimizer(0.1, 0.9, use_nesterov=True), _momentum(nesterov=True)),
    "adam": (lambda: tf.train.AdamOptimizer(0.1), _adam),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("dtype, tolerance", [(np.float64, 1e-12), (np.float32, 1e-5)])
def test_twenty_steps(name: str, dtype: type, tolerance: float) -> None:
    make, reference = OPTIMIZERS[name]
    start = np.linspace(-1, 2, 6).reshape(2, 3).astype(dtype)
    w = tf.Variable(start)
    scale = tf.placeholder(dtype, [])
    train_op = make().minimize(tf.reduce_sum(tf.square(w) * w + w) * scale)
    expected, step = start.astype(np.float64), reference()
    with tf.Session() as sess:
        sess.run(tf.global_variables_initializer())
        for n in range(20):
            factor = 0.05 / (n + 1)
            sess.run(train_op, {scale: factor})
            expected = step(expected, (3 * expected**2 + 1) * factor)
        np.testing.assert_allclose(sess.run(w), expected, rtol=tolerance, atol=tolerance)


def test_learning_rate_may_be_a_tensor_or_a_function() -> None:
    w = tf.Variable(1.0)
    rate = tf.placeholder(tf.float32, [])
    by_tensor = tf.train.GradientDescentOptimizer(rate).minimize(w * 2.0)
    by_function = tf.train.GradientDescentOptimizer(lambda: 0.25).minimize(w * 2.0)
    with tf.Session() as sess:
        sess.run(tf.global_variables_initializer())
        sess.run(by_tensor, {rate: 0.5})
        assert sess.run(w) == 0.0
        sess.run(by_function)
        assert sess.run(w) == -0.5


def test_loss_and_update_in_one_run_see_the_old_value() -> None:
    w = tf.Variable(2.0)
    loss = w * w
    train_op = tf.train.GradientDescentOptimizer(0.25).minimize(loss)
    with tf.Session() as sess:
        sess.run(tf.global_variables_initializer())
        assert sess.run([train_op, loss, w]) == [None, 4.0, 1.0]
        assert sess.run(w) == 1.0


def test_state_is_made_where_variables_are_reused() -> None:
    with tf.variable_scope("net"):
        w = tf.get_variable("w", [2])
    with tf.variable_scope("", reuse=True):
        tf.train.AdamOptimizer().minimize(tf.reduce_sum(w * w))
    assert "net/w/Adam:0" in [v.name for v in tf.global_variables()]


def test_constraint_follows_the_update() -> None:
    w = tf.Variable(1.0, constraint=lambda value: tf.maximum(value, 0.5))
    train_op = tf.train.GradientDescentOptimizer(1.0).minimize(w * w)
    with tf.Session() as sess:
        sess.run(tf.global_variables_initializer())
        sess.run(train_op)
        assert sess.run(w) == 0.5
