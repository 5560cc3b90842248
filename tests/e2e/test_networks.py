"""Twenty training steps of the two networks agree with plain NumPy; gradients agree with finite differences."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

import graphflow as tf
from graphflow.demo import cnn, mlp
from tests.e2e import numpy_networks as reference

STEPS = 20


@pytest.fixture(autouse=True)
def fresh_graph():
    with tf.Graph().as_default():
        tf.set_random_seed(11)
        yield


@dataclass(frozen=True)
class Declared:
    """The ends of a network."""

    images: tf.Tensor
    labels: tf.Tensor
    loss: tf.Tensor
    train_op: tf.Operation


def weights(name: str, shape: list[int], dtype: Any) -> tuple[Any, Any]:
    """w and b of a layer, in double precision (the demo's are single)."""
    with tf.variable_scope(name):
        scale = float(np.sqrt(2 / np.prod(shape[:-1])))
        w = tf.get_variable("w", initializer=tf.random_normal(shape, stddev=scale, dtype=dtype))
        return w, tf.get_variable("b", initializer=tf.zeros([shape[-1]], dtype))


def declare(dtype: Any, body: Callable[[Any, Any], Any], optimizer: Any) -> Declared:
    """Placeholders, logits by `body`, loss and training step."""
    images = tf.placeholder(dtype, [None, 28, 28, 1])
    labels = tf.placeholder(tf.int64, [None])
    logits = body(images, dtype)
    loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits))
    return Declared(images, labels, loss, optimizer.minimize(loss))


def dense(x: Any, name: str, shape: list[int], dtype: Any) -> Any:
    w, b = weights(name, shape, dtype)
    return tf.matmul(x, w) + b


def mlp_body(images: Any, dtype: Any) -> Any:
    hidden = tf.nn.relu(dense(tf.reshape(images, [-1, 784]), "hidden", [784, 128], dtype))
    return dense(hidden, "output", [128, 10], dtype)


def conv(x: Any, name: str, shape: list[int], dtype: Any) -> Any:
    w, b = weights(name, shape, dtype)
    y = tf.nn.relu(tf.nn.bias_add(tf.nn.conv2d(x, w, [1, 1, 1, 1], "VALID"), b))
    return tf.nn.max_pool(y, [1, 2, 2, 1], [1, 2, 2, 1], "VALID")


def cnn_body(images: Any, dtype: Any) -> Any:
    x = (images - reference.PIXEL_MEAN) / reference.PIXEL_DEVIATION
    x = conv(conv(x, "conv1", [5, 5, 1, 10], dtype), "conv2", [5, 5, 10, 20], dtype)
    hidden = tf.nn.relu(dense(tf.reshape(x, [-1, 320]), "hidden", [320, 50], dtype))
    return dense(hidden, "output", [50, 10], dtype)


def mlp_double() -> Declared:
    return declare(tf.float64, mlp_body, tf.train.AdamOptimizer(1e-3))


def cnn_double() -> Declared:
    return declare(tf.float64, cnn_body, tf.train.MomentumOptimizer(0.01, 0.9))


NETWORKS = {
    "mlp": (mlp.build, mlp_double, reference.mlp, reference.Adam, 32),
    "cnn": (cnn.build, cnn_double, reference.cnn, reference.Momentum, 8),
}


def batches(dtype: str, size: int) -> Iterator[tuple[Any, Any]]:
    """Images that are mostly paper, as digits are, and labels."""
    rng = np.random.default_rng(5)
    while True:
        ink = rng.random((size, 28, 28, 1))
        yield np.where(ink < 0.8, 0, ink).astype(dtype), rng.integers(0, 10, size)


def trained_values(sess: Any) -> dict[str, Any]:
    """A copy of each trainable variable."""
    return {v.op.name: sess.run(v).copy() for v in tf.trainable_variables()}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", NETWORKS)
def test_twenty_steps_agree_with_numpy(name, dtype):
    single, double, step, optimizer, batch = NETWORKS[name]
    network = single() if dtype == "float32" else double()
    tolerance = 1e-4 if dtype == "float32" else 1e-9
    by_hand = optimizer()
    with tf.Session() as sess:
        sess.run(tf.global_variables_initializer())
        wanted = trained_values(sess)
        stream = batches(dtype, batch)
        for _ in range(STEPS):
            images, labels = next(stream)
            loss, gradients = step(wanted, images, labels)
            by_hand.step(wanted, gradients)
            got = sess.run([network.loss, network.train_op], {network.images: images, network.labels: labels})[0]
            assert got == pytest.approx(loss, rel=tolerance)
        for key, value in trained_values(sess).items():
            atol = tolerance * np.abs(wanted[key]).max()
            np.testing.assert_allclose(value, wanted[key], rtol=tolerance, atol=atol, err_msg=key)


@pytest.mark.parametrize("name", NETWORKS)
def test_gradients_agree_with_numpy_and_finite_differences(name):
    _, double, step, _, _ = NETWORKS[name]
    network = double()
    variables = tf.trainable_variables()
    symbolic = tf.gradients(network.loss, variables)
    images, labels = next(batches("float64", 4))
    feed = {network.images: images, network.labels: labels}
    with tf.Session() as sess:
        sess.run(tf.global_variables_initializer())
        values = trained_values(sess)
        got = dict(zip(values, sess.run(symbolic, feed), strict=True))
        _, wanted = step(values, images, labels)
        loss = sess.make_callable(network.loss, [network.images, network.labels])
        for v in variables:
            key = v.op.name
            np.testing.assert_allclose(got[key], wanted[key], rtol=1e-9, atol=1e-12, err_msg=key)
            direction = np.random.default_rng(1).standard_normal(values[key].shape)
            slope = along(lambda x, v=v: (v.load(x, sess), loss(images, labels))[1], values[key], direction)
            assert (got[key] * direction).sum() == pytest.approx(slope, rel=1e-5, abs=1e-8), key
            v.load(values[key], sess)


def along(f: Callable[[Any], Any], x: Any, direction: Any, step: float = 1e-6) -> float:
    """The central difference of f along a direction."""
    return float(f(x + step * direction) - f(x - step * direction)) / (2 * step)
