"""Convolutions by Winograd's minimal filtering in programs: forward, gradients, epilogues, batches of every size."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import graphflow as tf
from graphflow.runtime.threads import set_thread_count, thread_count

CHANNELS = 48


@pytest.fixture(autouse=True)
def same_threads_afterwards() -> Iterator[None]:
    before = thread_count()
    yield
    set_thread_count(before)


def normal(*shape: int, seed: int = 0, dtype: str = "float32") -> Any:
    return (np.random.default_rng(seed).standard_normal(shape) / 8).astype(dtype)


def functions_of(session: tf.Session) -> list[str]:
    """The names of the functions of its programs."""
    return [f.name for _, program in session.compiled() for f in program.code.module.functions]


def winograd_kernels(session: tf.Session) -> int:
    return sum(name.endswith(".repair") for name in functions_of(session))


class Block:
    """Two convolutions with a residual, and all gradients of a loss; weights are fed."""

    def __init__(self, size: int, dtype: str = "float32", padding: Any = "SAME", odd: int = 0) -> None:
        c, o = CHANNELS, CHANNELS + odd
        self.values = (normal(3, 3, c, o, seed=1, dtype=dtype), normal(o, seed=2, dtype=dtype),
                       normal(3, 3, o, c, seed=3, dtype=dtype))  # fmt: skip
        self.x = tf.placeholder(dtype, [None, size, size + 1, c])
        w, b, v = self.weights = [tf.placeholder(dtype, value.shape) for value in self.values]
        ones = [1, 1, 1, 1]
        hidden = tf.nn.relu(tf.nn.conv2d(self.x, w, strides=ones, padding=padding) + b)
        y = tf.nn.conv2d(hidden, v, strides=ones, padding=padding)
        y = y + self.x if padding == "SAME" else y * 0.5
        self.results = [y, *tf.gradients(tf.reduce_sum(y * y), [self.x, *self.weights])]
        self.session = tf.Session()

    def run(self, images: Any) -> list[Any]:
        return self.session.run(self.results, {self.x: images, **dict(zip(self.weights, self.values, strict=True))})  # type: ignore[no-any-return]


def both(monkeypatch: pytest.MonkeyPatch, images: list[Any], size: int, **options: Any) -> list[list[list[Any]]]:
    """The results for some batches with and without the transforms, each by one session."""
    found = []
    for switch, kernels in (("1", 5), ("0", 0)):  # equal gradients are one kernel
        monkeypatch.setenv("GRAPHFLOW_WINOGRAD", switch)
        with tf.Graph().as_default():
            block = Block(size, **options)
            found.append([block.run(x) for x in images])
            assert winograd_kernels(block.session) >= kernels
            assert kernels or not winograd_kernels(block.session)
    return found


def assert_close(found: list[list[list[Any]]], relative: float) -> None:
    for got, wanted in zip(*found, strict=True):
        for x, y in zip(got, wanted, strict=True):
            scale = np.abs(y[np.isfinite(y)]).max(initial=1e-30)
            np.testing.assert_allclose(x, y, rtol=relative, atol=relative * float(scale))


@pytest.mark.parametrize("size, padding, odd", [(14, "SAME", 0), (15, "SAME", 5), (16, "VALID", 0)])
def test_batches_of_every_size(monkeypatch: pytest.MonkeyPatch, size: int, padding: str, odd: int) -> None:
    """One program serves them all; both convolutions and all their gradients are transformed."""
    images = [normal(n, size, size + 1, CHANNELS, seed=n) for n in (8, 1, 3, 0)]
    assert_close(both(monkeypatch, images, size, padding=padding, odd=odd), 2e-5)


@pytest.mark.parametrize(
    "shape, filters, dilations",
    [
        ((4, 14, 15, 96), (3, 3, 48, 96), 1),
        ((2, 14, 19, 48), (3, 3, 48, 40), 3),
        ((2, 6, 9, 8, 32), (3, 3, 3, 32, 35), 1),
        ((2, 7, 9, 12, 32), (3, 3, 3, 16, 32), 2),
    ],
    ids=["groups", "dilated", "volumes", "all"],
)
def test_groups_dilations_and_volumes(
    monkeypatch: pytest.MonkeyPatch, shape: tuple[int, ...], filters: tuple[int, ...], dilations: int
) -> None:
    """They and their gradients are transformed, for batches of every size."""
    conv = tf.nn.conv2d if len(shape) == 4 else tf.nn.conv3d
    found = []
    for switch, kernels in (("1", 3), ("0", 0)):
        monkeypatch.setenv("GRAPHFLOW_WINOGRAD", switch)
        with tf.Graph().as_default(), tf.Session() as sess:
            x, w = tf.placeholder(tf.float32, [None, *shape[1:]]), tf.placeholder(tf.float32, filters)
            y = tf.nn.relu(conv(x, w, 1, "SAME", dilations=dilations))
            results = [y, *tf.gradients(tf.reduce_sum(y * y), [x, w])]
            weights = normal(*filters, seed=1)
            batches = [normal(n, *shape[1:], seed=n) for n in (shape[0], 1, 5, 0)]
            found.append([sess.run(results, {x: images, w: weights}) for images in batches])
            assert winograd_kernels(sess) == kernels
    assert_close(found, 2e-5)


def test_doubles(monkeypatch: pytest.MonkeyPatch) -> None:
    images = [normal(4, 14, 15, CHANNELS, dtype="float64")]
    assert_close(both(monkeypatch, images, 14, dtype="float64"), 1e-13)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_pixel_that_is_not_finite(monkeypatch: pytest.MonkeyPatch, value: float) -> None:
    """It spoils what depends on it, gradients included, in the same way as without the transforms."""
    images = normal(5, 14, 15, CHANNELS)
    images[2, 6, 7, 11] = value
    found = both(monkeypatch, [images], 14)
    y = found[0][0][0]
    assert not np.isfinite(y[2]).all()
    assert np.isfinite(y[[0, 1, 3, 4]]).all()
    assert np.isfinite(y[2, :3]).all()
    assert_close(found, 2e-5)


def test_the_same_bits_for_any_number_of_threads() -> None:
    with tf.Graph().as_default():
        block = Block(15)
        images = normal(6, 15, 16, CHANNELS)
        images[1, 3] = np.nan
        runs = []
        for count in (1, 2, 4):
            set_thread_count(count)
            runs.append([x.tobytes() for x in block.run(images)])
        assert winograd_kernels(block.session)
    assert runs[0] == runs[1] == runs[2]


def test_a_constant_filter_is_transformed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the set-up, which checked code does without: what a step calls are the pad and the products."""
    monkeypatch.delenv("GRAPHFLOW_CHECK", raising=False)
    w, x = normal(3, 3, 64, 64), normal(2, 28, 28, 64)
    results = []
    for constant in (True, False):
        with tf.Graph().as_default(), tf.Session() as sess:
            image = tf.placeholder(tf.float32, [None, 28, 28, 64])
            filters = tf.constant(w) if constant else tf.placeholder(tf.float32, w.shape)
            y = tf.nn.conv2d(image, filters, strides=[1, 1, 1, 1], padding="SAME")
            results.append(sess.run(y, {image: x} if constant else {image: x, filters: w}))
            names = functions_of(sess)
            assert ("setup" in names) is constant
            step = next(str(f) for _, p in sess.compiled() for f in p.code.module.functions if f.name == "step")
            assert (".pack" in step) is not constant
    assert results[0].tobytes() == results[1].tobytes()


def test_no_access_out_of_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """With every access of generated code looked up; the repair of what is not finite included."""
    monkeypatch.setenv("GRAPHFLOW_CHECK", "2")
    with tf.Graph().as_default():
        block = Block(15, odd=3)
        for n in (3, 1):
            images = normal(n, 15, 16, CHANNELS)
            images[0, -1, -1] = np.inf
            assert not np.isfinite(block.run(images)[0]).all()
        assert winograd_kernels(block.session)


def test_few_channels_stay_direct() -> None:
    with tf.Graph().as_default(), tf.Session() as sess:
        image = tf.placeholder(tf.float32, [None, 32, 32, 3])
        y = tf.nn.conv2d(image, tf.constant(normal(3, 3, 3, 64)), strides=[1, 1, 1, 1], padding="SAME")
        sess.run(y, {image: normal(2, 32, 32, 3)})
        assert not winograd_kernels(sess)
