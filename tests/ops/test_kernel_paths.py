"""Every kind of kernel over random shapes, memories and values: compiled agrees with the ops' own `eval`.

Sizes are those that vectors, tiles and blocks divide badly, 0 and 1 among them; feeds begin at odd addresses, run
backwards or skip elements; NaN and infinities come out where NumPy has them.  `make soak` draws many more.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import graphflow as tf
from tests.ops.agreement import FLOATS, LONG, PLACES, QUICK, SIZES, agree, numbers

Draw = Callable[[Any], Any]
ROUNDING = {"float32": 1e-5, "float64": 1e-13, "int32": 0.0, "int64": 0.0}
SIZE, POSITIVE = st.sampled_from(SIZES), st.sampled_from(SIZES[1:])


# contractions


PRODUCTS = {
    "tiny": (4, 4, 4),
    "row": (1, 300, 70),
    "column": (70, 300, 1),
    "dot": (3, 1000, 2),
    "outer": (60, 1, 70),
    "skinny": (400, 20, 7),
    "wide": (7, 20, 400),
    "packed": (130, 75, 97),
    "staged": (150, 512, 520),
    "columns staged": (400, 40, 520),
    "split": (20, 5000, 12),
    "sweep": (2, 260, 1100),
    "few columns": (2200, 270, 3),
}
"""Rows, depth and columns that choose different kernels on most machines; the test draws sizes near them."""


def products(draw: Draw) -> None:
    """A matrix product of any kind, alone or with something before and after it."""
    m, k, n = (max(0, s + draw(st.integers(-2, 2))) for s in PRODUCTS[draw(st.sampled_from(sorted(PRODUCTS)))])
    dtype = draw(st.sampled_from(("float32", "float32", "float64", "int32")))
    batch = draw(st.sampled_from([(), (), (1,), (3,), (2, 3), (0,)])) if m * k * n < 1e5 else ()
    ta, tb, special = draw(st.booleans()), draw(st.booleans()), draw(st.integers(0, 3)) == 0

    def values(m: int, k: int, n: int) -> list[Any]:
        a = numbers((*batch, *((k, m) if ta else (m, k))), dtype, 1, special)
        b = numbers((*batch, *((n, k) if tb else (k, n))), dtype, 2, special)
        return [a, b, numbers((n,), dtype, 3)]

    around = draw(st.sampled_from(["nothing", "after", "before", "sums"])) if dtype != "int32" else "nothing"

    def build(x: Any, y: Any, z: Any) -> Any:
        if around == "before":
            x, y = x * 0.5, tf.nn.relu(y)
        product = tf.matmul(x, y, transpose_a=ta, transpose_b=tb)
        if around == "after":
            return tf.nn.relu(product + z), z * 2
        return (product, tf.reduce_sum(product, -1)) if around == "sums" else (product, z)

    more = values(m + 2, k + 1, n + 3) if draw(st.booleans()) else ()
    memory = [draw(PLACES) for _ in range(3)]
    agree(build, values(m, k, n), more, memory=memory, tolerance=4 * ROUNDING[dtype])


def gradients_of_products(draw: Draw) -> None:
    """A dense layer with all its gradients."""
    m, k, n = (draw(POSITIVE) for _ in range(3))
    dtype = draw(FLOATS)

    def values(m: int, k: int, n: int) -> list[Any]:
        return [numbers(s, dtype, seed) for seed, s in enumerate(((m, k), (k, n), (n,), (m, n)))]

    def build(x: Any, w: Any, b: Any, g: Any) -> Any:
        y = tf.tanh(tf.matmul(x, w) * 0.1 + b)
        return [y, *tf.gradients(y, [x, w, b], grad_ys=g)]

    more = values(m + 2, k + 1, n + 3) if draw(st.booleans()) else ()
    memory = [draw(PLACES) for _ in range(4)]
    agree(build, values(m, k, n), more, memory=memory, tolerance=4 * ROUNDING[dtype])


# convolutions and pools


def convolutions(draw: Draw) -> None:
    """A convolution of any kind with the gradients of image and filter, or the transposed one."""
    axes, stride = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    rate = draw(st.integers(1, 2)) if stride == 1 else 1
    groups, c, o = draw(st.sampled_from([(1, 1, 1), (1, 3, 17), (1, 16, 5), (2, 3, 4), (5, 1, 2)]))
    window = tuple(draw(st.integers(1, 3)) for _ in range(axes))
    space = tuple((n - 1) * rate + 1 + draw(st.integers(0, 7)) for n in window)
    batch, padding = draw(st.sampled_from((1, 2, 3, 0))), draw(st.sampled_from(("SAME", "VALID")))
    dtype, special = draw(FLOATS), draw(st.integers(0, 3)) == 0
    x = numbers((batch, *space, groups * c), dtype, 1, special)
    w = numbers((*window, c, groups * o), dtype, 2, special)
    conv = (tf.nn.conv1d, tf.nn.conv2d, tf.nn.conv3d)[axes - 1]

    def build(images: Any, filters: Any) -> Any:
        y = conv(images, filters, stride, padding, dilations=rate)
        return [y, *tf.gradients(tf.reduce_sum(y * y), [images, filters])]

    agree(build, [x, w], memory=[draw(PLACES), draw(PLACES)], tolerance=10 * ROUNDING[dtype])


def depthwise_convolutions(draw: Draw) -> None:
    """A depthwise convolution in either layout, with its gradients."""
    channels, m, stride = draw(POSITIVE), draw(st.integers(1, 3)), draw(st.integers(1, 2))
    height, width, kh, kw = (
        draw(st.integers(3, 9)),
        draw(st.integers(3, 9)),
        draw(st.integers(1, 3)),
        draw(st.integers(1, 3)),
    )
    first, dtype = draw(st.booleans()), draw(FLOATS)
    shape = (2, channels, height, width) if first else (2, height, width, channels)
    layout, strides = ("NCHW", [1, 1, stride, stride]) if first else ("NHWC", [1, stride, stride, 1])

    def build(images: Any, filters: Any) -> Any:
        y = tf.nn.depthwise_conv2d(images, filters, strides, "SAME", data_format=layout)
        return [y, *tf.gradients(tf.reduce_sum(y * y), [images, filters])]

    values = [numbers(shape, dtype, 1), numbers((kh, kw, channels, m), dtype, 2)]
    agree(build, values, memory=[draw(PLACES), draw(PLACES)], tolerance=10 * ROUNDING[dtype])


def pools(draw: Draw) -> None:
    """Pools of 1, 2 and 3 axes, and where their gradients go."""
    axes = draw(st.integers(1, 3))
    largest = (tf.nn.max_pool1d, tf.nn.max_pool, tf.nn.max_pool3d)[axes - 1]
    mean = (tf.nn.avg_pool1d, tf.nn.avg_pool, tf.nn.avg_pool3d)[axes - 1]
    size, stride = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    space = tuple(draw(st.integers(size, size + 8)) for _ in range(axes))
    padding, dtype = draw(st.sampled_from(("SAME", "VALID"))), draw(FLOATS)
    x = numbers((draw(st.sampled_from((1, 2, 0))), *space, draw(POSITIVE)), dtype, 1, draw(st.booleans()))

    def build(images: Any) -> Any:
        found = []
        for pool in (largest, mean):
            y = pool(images, size, stride, padding)
            found += [y, *tf.gradients(tf.reduce_sum(y * y), images)]
        return found

    agree(build, [x], memory=[draw(PLACES)], tolerance=4 * ROUNDING[dtype])


# reductions and rows


def shapes(draw: Draw, least: int = 1, most: int = 4, positive: bool = False) -> tuple[int, ...]:
    """A shape of some axes and at most some ten thousand elements."""
    found = [draw(POSITIVE if positive else SIZE) for _ in range(draw(st.integers(least, most)))]
    while np.prod(found, dtype=int) > 20_000:
        found[found.index(max(found))] = 3
    return tuple(found)


def longer(x: Any) -> Any:
    """x with its first row once more; none stays none."""
    return np.concatenate([x, x[:1]])


def reductions(draw: Draw) -> None:
    """Sums, products and extremes over any axes, of what was computed on the way."""
    shape = (
        draw(st.sampled_from([(3, 5000), (5000, 3), (70, 300), (1, 9000)]))
        if draw(st.integers(0, 3)) == 0
        else shapes(draw)
    )
    dtype = draw(st.sampled_from(("float32", "float64", "int32", "int64")))
    axes = sorted(draw(st.sets(st.integers(0, len(shape) - 1), min_size=1)))
    keep, special = draw(st.booleans()), draw(st.booleans())

    def build(v: Any) -> Any:
        found = [f(v, axes, keepdims=keep) for f in (tf.reduce_sum, tf.reduce_max, tf.reduce_min)]
        found += [tf.reduce_sum(v * v, axes), tf.reduce_any(v > 1, axes), tf.reduce_prod(tf.sign(v), axes)]
        if all(shape[a] for a in axes):
            found += [tf.argmax(v, axes[0]), tf.argmin(v, axes[-1])]
        return found

    value = numbers(shape, dtype, 1, special)
    more = [longer(value)] if draw(st.booleans()) else ()
    agree(build, [value], more, memory=[draw(PLACES)], tolerance=8 * ROUNDING[dtype])


def rows(draw: Draw) -> None:
    """Softmax, layer norm and cross-entropy along any axis, with gradients."""
    shape = (
        draw(st.sampled_from([(3, 1500), (40, 257), (2, 3, 1000)]))
        if draw(st.integers(0, 3)) == 0
        else shapes(draw, 2, 3, positive=True)
    )
    axis, dtype = draw(st.integers(0, len(shape) - 1)), draw(FLOATS)
    labels, special = numbers(shape[:-1], "int32", 2) % shape[-1], draw(st.integers(0, 3)) == 0

    def build(v: Any, g: Any, classes: Any) -> Any:
        centred = v - tf.reduce_mean(v, axis, keepdims=True)
        norm = centred * tf.rsqrt(tf.reduce_mean(tf.square(centred), axis, keepdims=True) + 1e-3)
        ys = [tf.nn.softmax(v, axis), tf.nn.log_softmax(v, axis), norm]
        loss = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=classes, logits=v)
        dense = tf.nn.softmax_cross_entropy_with_logits(labels=tf.nn.softmax(g), logits=v)
        slopes = [tf.gradients(y, v, grad_ys=g)[0] for y in ys] + tf.gradients(loss + dense, v)
        return [*ys, loss, dense, tf.reduce_logsumexp(v, axis), *slopes]

    values = [numbers(shape, dtype, 1, special), numbers(shape, dtype, 3), labels]
    memory = [draw(PLACES) for _ in values]
    more = [longer(v) for v in values] if draw(st.booleans()) else ()
    agree(build, values, more, memory=memory, tolerance=20 * ROUNDING[dtype])


# views


DTYPES = st.sampled_from(("float32", "float64", "int32", "bool", "uint8", "int64"))


def transposes(draw: Draw) -> None:
    """Any order of the axes, moved only or computed with on the way."""
    shape = (
        draw(st.sampled_from([(130, 257), (300, 33), (40, 3, 70)]))
        if draw(st.integers(0, 3)) == 0
        else shapes(draw, 2, 4)
    )
    perm, dtype = draw(st.permutations(range(len(shape)))), draw(DTYPES)

    def build(v: Any) -> Any:
        moved = tf.transpose(v, perm)
        if dtype in ("bool", "uint8"):
            return [moved]
        axes = range(len(shape))
        along = [moved[tuple(slice(None) if a == kept else slice(0, 1) for a in axes)] for kept in axes]
        return [moved, moved + moved, tf.transpose(v * 2, perm) - moved, *(moved + a for a in along)]

    value = numbers(shape, dtype)
    agree(build, [value], [longer(value)] if draw(st.booleans()) else (), memory=[draw(PLACES)])


def views(draw: Draw) -> None:
    """Slices, pads, joins, repetitions and reversals, one on top of another."""
    shape, dtype = shapes(draw, 1, 3), draw(DTYPES)
    plan = [
        (
            draw(st.sampled_from(sorted(VIEWS))),
            draw(st.integers(0, 2)),
            draw(st.integers(-9, 9)),
            draw(st.integers(1, 3)),
        )
        for _ in range(draw(st.integers(1, 4)))
    ]

    def build(v: Any) -> Any:
        found = [v]
        for name, axis, at, step in plan:
            found.append(VIEWS[name](found[-1], min(axis, v.shape.ndims - 1), at, step))
        return found

    agree(build, [numbers(shape, dtype)], memory=[draw(PLACES)])


def slices(axis: int, at: slice) -> tuple[slice, ...]:
    """A key that takes `at` of an axis and all of those before it."""
    return (*(slice(None) for _ in range(axis)), at)


def pads(v: Any, axis: int, low: int, high: int) -> Any:
    return tf.pad(v, [[low, high] if n == axis else [0, 0] for n in range(v.shape.ndims)])


VIEWS: dict[str, Callable[[Any, int, int, int], Any]] = {
    "from": lambda v, axis, at, step: v[slices(axis, slice(at, None, step))],
    "until": lambda v, axis, at, step: v[slices(axis, slice(None, at, step))],
    "backwards": lambda v, axis, at, step: v[slices(axis, slice(at, None, -step))],
    "reverse": lambda v, axis, at, step: tf.reverse(v, [axis]),
    "pad": lambda v, axis, at, step: v if v.dtype == tf.bool else pads(v, axis, abs(at), step),
    "join": lambda v, axis, at, step: tf.concat([v, v[slices(axis, slice(at, None))], v], axis),
    "tile": lambda v, axis, at, step: tf.tile(v, [step if n == axis else 1 for n in range(v.shape.ndims)]),
    "add": lambda v, axis, at, step: v if v.dtype == tf.bool else v + v,
}


# random numbers


def draws(draw: Draw) -> None:
    """Random ops draw what NumPy's text of the same generator draws, run after run."""
    shape, seed, dtype = shapes(draw, 0, 3), draw(st.integers(0, 2**31 - 1)), draw(FLOATS)

    def build(v: Any) -> Any:
        tf.set_random_seed(seed)
        uniform, whole = tf.random_uniform(shape, -1, 3, dtype), tf.random_uniform(shape, -5, 1000, tf.int32)
        normal, cut = tf.random_normal(shape, 1, 2, dtype, seed=7), tf.truncated_normal(shape, dtype=dtype)
        return [uniform + v, whole, normal, cut]

    agree(build, [np.zeros((), dtype)], memory=["plain"], tolerance=4 * ROUNDING[dtype])


KINDS = (
    products, gradients_of_products, convolutions, depthwise_convolutions, pools, reductions, rows, transposes, views,
    draws,
)  # fmt: skip


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_compiled_agrees_with_eval(kind):
    @QUICK
    @given(st.data())
    def check(data):
        kind(data.draw)

    check()


@pytest.mark.soak
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_many_more_agree(kind):
    @LONG
    @given(st.data())
    def check(data):
        kind(data.draw)

    check()
