"""Variables: declaration, collections, reads and assignments in the order of the program."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

import graphflow as tf


@pytest.fixture(autouse=True)
def graph() -> Iterator[tf.Graph]:
    with tf.Graph().as_default() as g:
        yield g


def test_what_a_variable_declares() -> None:
    w = tf.Variable(tf.zeros([784, 10]), name="w")
    assert (w.name, w.op.type, w.initializer.name, w.value().name) == ("w:0", "VariableV2", "w/Assign", "w/read:0")
    assert (w.shape.as_list(), w.dtype, w.get_shape().as_list()) == ([784, 10], tf.float32, [784, 10])
    assert w.initial_value.op.name == "zeros"
    assert repr(w) == "<tf.Variable 'w:0' shape=(784, 10) dtype=float32>"
    assert tf.Variable(1.0).name == "Variable:0"
    assert tf.Variable(1.0).name == "Variable_1:0"


def test_numpy_values_keep_their_dtype() -> None:
    assert tf.Variable(np.zeros(3)).dtype is tf.float64
    assert tf.Variable(np.zeros(3), dtype=tf.float32).dtype is tf.float32
    assert tf.Variable([1, 2]).dtype is tf.int32


def test_callable_initial_value() -> None:
    w = tf.Variable(lambda: tf.ones([2]), name="w")
    assert w.initial_value.op.name == "w/Initializer/ones"


def test_collections() -> None:
    a = tf.Variable(1.0, name="a")
    b = tf.Variable(1.0, trainable=False, name="b")
    c = tf.Variable(1.0, collections=[tf.GraphKeys.LOCAL_VARIABLES], trainable=False, name="c")
    assert tf.global_variables() == [a, b]
    assert tf.trainable_variables() == [a]
    assert tf.local_variables() == [c]
    assert tf.global_variables(scope="b") == [b]
    init = tf.global_variables_initializer()
    assert (init.name, init.control_inputs) == ("init", (a.initializer, b.initializer))


@pytest.mark.parametrize(
    "arguments, error, message",
    [
        ({}, ValueError, "initial_value must be specified"),
        ({"initial_value": None}, ValueError, "initial_value must be specified"),
        ({"initial_value": 1.0, "constraint": 3}, ValueError, "must be a callable"),
        ({"initial_value": [1.0], "expected_shape": [2]}, ValueError, "does not have the shape asked for"),
        ({"initial_value": 0.5, "dtype": tf.int32}, TypeError, "Expected int32"),
    ],
)
def test_bad_variables(arguments, error, message: str) -> None:
    with pytest.raises(error, match=message):
        tf.Variable(**arguments)


def test_initial_value_of_unknown_shape() -> None:
    with pytest.raises(ValueError, match="must be fully known"):
        tf.Variable(tf.placeholder(tf.float32, [None]))


def test_variable_is_not_a_value() -> None:
    w = tf.Variable([1.0], name="w")
    with pytest.raises(TypeError, match="not iterable"):
        iter(w)
    with pytest.raises(TypeError, match="no truth value"):
        bool(w)


def test_operators_read() -> None:
    w = tf.Variable([1.0, 2.0], name="w")
    y = w * 2.0 + w[0]
    assert y.op.inputs[0].op.inputs[0] is w.value()
    assert tf.convert_to_tensor(w) is w.value()


def test_reads_within_control_dependencies_are_new() -> None:
    w = tf.Variable(1.0, name="w")
    update = tf.assign_add(w, 1.0)
    with tf.control_dependencies([update]):
        y = w + 0.0
    read = y.op.inputs[0].op
    assert (read.name, read.control_inputs) == ("w/read_1", (update.op,))


def test_assignments_are_checked() -> None:
    w = tf.Variable([1.0, 2.0], name="w")
    with pytest.raises(ValueError, match=r"Assign.*the value is float32\[3\]"):
        tf.assign(w, [1.0, 2.0, 3.0])
    with pytest.raises(TypeError, match="a variable is needed"):
        tf.assign(tf.constant(1.0), 2.0)
    with pytest.raises(ValueError, match="is a float and the other input is int32"):
        tf.assign(tf.Variable(1), 0.5)


def test_values_live_in_the_session() -> None:
    w = tf.Variable([1.0, 2.0], name="w")
    add = w.assign_add([1.0, 1.0])
    init = tf.global_variables_initializer()
    with tf.Session() as one, tf.Session() as two:
        for session in (one, two):
            session.run(init)
        np.testing.assert_array_equal(one.run(add), [2.0, 3.0])
        np.testing.assert_array_equal(one.run(w), [2.0, 3.0])
        np.testing.assert_array_equal(two.run(w), [1.0, 2.0])
        w.load([5.0, 6.0], two)
        np.testing.assert_array_equal(w.eval(two), [5.0, 6.0])


def test_program_order_within_a_run() -> None:
    w = tf.Variable(1.0, name="w")
    before = tf.identity(w)
    add = tf.assign_add(w, 1.0)
    with tf.control_dependencies([add]):
        after = tf.identity(w)
        double = tf.assign(w, after * 2.0)
    with tf.Session() as sess:
        sess.run(tf.global_variables_initializer())
        assert sess.run([before, after, double, add]) == [1.0, 2.0, 4.0, 2.0]
        assert sess.run(w) == 4.0


def test_initial_values_from_other_variables() -> None:
    a = tf.Variable(tf.random_normal([3], seed=1), name="a")
    b = tf.Variable(a.initialized_value() * 2.0, name="b")
    c = tf.Variable(b + 1.0, name="c")
    with tf.Session() as sess:
        sess.run(tf.global_variables_initializer())
        x, y, z = sess.run([a, b, c])
    np.testing.assert_allclose(y, x * 2, rtol=1e-6)
    np.testing.assert_allclose(z, y + 1, rtol=1e-6)


def test_is_variable_initialized() -> None:
    w = tf.Variable(1.0)
    known = tf.is_variable_initialized(w)
    with tf.Session() as sess:
        assert not sess.run(known)
        sess.run(w.initializer)
        assert sess.run(known)


def test_random_initial_values_follow_the_seed_and_the_name() -> None:
    def values(extra: bool) -> np.ndarray:
        with tf.Graph().as_default(), tf.Session() as sess:
            tf.set_random_seed(7)
            if extra:
                tf.get_variable("other", [4])
            w = tf.get_variable("w", [4, 3])
            sess.run(tf.global_variables_initializer())
            return sess.run(w)

    first = values(extra=False)
    np.testing.assert_array_equal(first, values(extra=True))
    assert np.abs(first).max() <= np.sqrt(6 / 7)
    assert len(np.unique(first)) == 12
