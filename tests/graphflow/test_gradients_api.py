"""tf.gradients: which derivatives there are, their types, and their values on small graphs."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

import graphflow as tf


@pytest.fixture(autouse=True)
def graph() -> Iterator[tf.Graph]:
    with tf.Graph().as_default() as g:
        yield g


def test_gradients_have_the_types_of_xs() -> None:
    x = tf.placeholder(tf.float32, [None, 3], name="x")
    w = tf.Variable(np.zeros((3, 2), np.float32))
    y = tf.matmul(x, w)
    gx, gw = tf.gradients(y, [x, w])
    assert (str(gx.type_), str(gw.type_)) == ("float32[x_0, 3]", "float32[3, 2]")
    assert gx.op is gw.op
    assert gx.op.type == "Gradient"
    assert gx.op.name == "gradients"


def test_no_path_is_none() -> None:
    x = tf.placeholder(tf.float32, [3])
    z = tf.placeholder(tf.float32, [3])
    counted = tf.cast(tf.argmax(x, 0), tf.float32)
    assert tf.gradients(tf.square(x), [x, z])[1] is None
    assert tf.gradients(tf.stop_gradient(x), x) == [None]
    assert tf.gradients(counted, x) == [None]
    assert tf.gradients(tf.cast(tf.cast(x, tf.int32), tf.float32), x) == [None]
    assert tf.gradients(x * z, x, stop_gradients=[x * z]) != [None]
    y = tf.square(x)
    assert tf.gradients(y * 2.0, x, stop_gradients=[y]) == [None]
    assert tf.gradients(z, x, unconnected_gradients="zero")[0].shape == [3]


def test_bad_arguments() -> None:
    x = tf.placeholder(tf.float32, [3], name="x")
    n = tf.placeholder(tf.int32, [3], name="n")
    with pytest.raises(TypeError, match=r"'n:0' .* is int32; only floats have derivatives"):
        tf.gradients(n, x)
    with pytest.raises(ValueError, match="Passed 1 grad_ys for 2 ys"):
        tf.gradients([x, x], x, grad_ys=[x])
    with pytest.raises(ValueError, match="grad_ys has shape"):
        tf.gradients(x, x, grad_ys=[tf.ones([4])])
    with tf.Graph().as_default():
        other = tf.placeholder(tf.float32, [3], name="other")
    with pytest.raises(ValueError, match="must be from the same graph"):
        tf.gradients(other, x)


def test_values() -> None:
    x = tf.placeholder(tf.float64, [3])
    y = tf.exp(x) * x
    value = np.array([0.5, -1.0, 2.0])
    with tf.Session() as sess:
        (g,) = sess.run(tf.gradients(y, x), {x: value})
        np.testing.assert_allclose(g, np.exp(value) * (1 + value), rtol=1e-12)
        (weighted,) = sess.run(tf.gradients(y, x, grad_ys=[[1.0, 0.0, 2.0]]), {x: value})
        np.testing.assert_allclose(weighted, [1, 0, 2] * g, rtol=1e-12)
        (total,) = sess.run(tf.gradients([y, x], x), {x: value})
        np.testing.assert_allclose(total, g + 1, rtol=1e-12)


def test_second_and_third_derivatives() -> None:
    x = tf.placeholder(tf.float64, [2])
    first = tf.gradients(x * x * x, x)[0]
    second = tf.gradients(first, x)[0]
    third = tf.gradients(second, x)[0]
    with tf.Session() as sess:
        values = sess.run([first, second, third], {x: [1.0, 2.0]})
    np.testing.assert_allclose(values, [[3, 12], [6, 12], [6, 6]], rtol=1e-12)


def test_every_read_of_a_variable_counts() -> None:
    w = tf.Variable(3.0, dtype=tf.float64)
    y = w * w + w.read_value()
    with tf.Session() as sess:
        sess.run(tf.global_variables_initializer())
        assert sess.run(tf.gradients(y, [w, w])) == [7.0, 7.0]


def test_stop_gradients_take_for_constant() -> None:
    a = tf.constant(2.0)
    b = a * 3.0
    with tf.Session() as sess:
        assert sess.run(tf.gradients(a + b, [a, b])) == [4.0, 1.0]
        assert sess.run(tf.gradients(a + b, [a, b], stop_gradients=[a, b])) == [1.0, 1.0]


def test_gradients_of_intermediates() -> None:
    x = tf.placeholder(tf.float32, [2])
    h = tf.square(x)
    loss = tf.reduce_sum(h * h)
    with tf.Session() as sess:
        gh, gx = sess.run(tf.gradients(loss, [h, x]), {x: [1.0, 2.0]})
    np.testing.assert_allclose(gh, [2, 8])
    np.testing.assert_allclose(gx, [4, 32])
