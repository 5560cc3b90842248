"""Convolutions and pools as programs call them: arguments, layouts, unknown sizes, names, mistakes, kernels.

What each op computes, and its derivatives, is tested by its cases (tests/ops).  References here are sums written out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import graphflow as tf
from graphflow.compiler.loops.ir import walk
from graphflow.core.dim import coefficient

Array = np.ndarray[Any, Any]


@pytest.fixture(autouse=True)
def fresh_graph() -> Iterator[None]:
    with tf.Graph().as_default():
        yield


def normal(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).standard_normal(shape)


def computed(build: Callable[..., Any], *values: Array, unknown: bool = True) -> Any:
    """What a session answers for a function of placeholders, whose first axes are unknown."""
    fed = [tf.placeholder(v.dtype, [None, *v.shape[1:]] if unknown else v.shape) for v in values]
    with tf.Session() as sess:
        return sess.run(build(*fed), dict(zip(fed, values, strict=True)))


def same_padding(size: int, window: int, stride: int, rate: int) -> tuple[int, int]:
    total = max((-(-size // stride) - 1) * stride + (window - 1) * rate + 1 - size, 0)
    return total // 2, total - total // 2


def correlated(x: Array, w: Array, strides: tuple[int, ...], padding: str, rates: tuple[int, ...]) -> Array:
    """Convolution of images [batch, *space, in] with filters [*window, in, out], one window after the other."""
    space, window = x.shape[1:-1], w.shape[:-2]
    pairs = [(0, 0)] * len(space)
    if padding == "SAME":
        pairs = list(map(same_padding, space, window, strides, rates))
    x = np.pad(x, [(0, 0), *pairs, (0, 0)])
    out = [(n - (k - 1) * r - 1) // s + 1 for n, k, r, s in zip(x.shape[1:-1], window, rates, strides, strict=True)]
    y = np.zeros((x.shape[0], *out, w.shape[-1]))
    for at in np.ndindex(*out):
        taps = tuple(
            slice(p * s, p * s + (k - 1) * r + 1, r) for p, s, k, r in zip(at, strides, window, rates, strict=True)
        )
        y[(slice(None), *at)] = np.tensordot(x[(slice(None), *taps)], w, axes=w.ndim - 1)
    return y


def by_channel(x: Array, w: Array, *attrs: Any) -> Array:
    """The depthwise convolution: each channel by itself."""
    parts = [correlated(x[..., c : c + 1], w[..., c : c + 1, :], *attrs) for c in range(x.shape[-1])]
    return np.concatenate(parts, -1)


def by_group(x: Array, w: Array, *attrs: Any) -> Array:
    """The grouped convolution: each group of channels with its share of filters."""
    groups = x.shape[-1] // w.shape[-2]
    parts = zip(np.split(x, groups, -1), np.split(w, groups, -1), strict=True)
    return np.concatenate([correlated(a, b, *attrs) for a, b in parts], -1)


def assert_gradient(gradient: Array, function: Callable[[Array], Array], g: Array, rtol: float = 1e-9) -> None:
    """`gradient` is that of sum(g * function(x)) for a linear function: along some directions, and so along all."""
    for seed in range(3):
        direction = normal(*gradient.shape, seed=50 + seed)
        np.testing.assert_allclose(np.sum(gradient * direction), np.sum(g * function(direction)), rtol=rtol, atol=rtol)


SMALL = st.integers(1, 3)


@st.composite
def geometries(draw: Any) -> tuple[tuple[int, ...], tuple[int, ...], int, str, int]:
    """(space, window, stride, padding, rate) that fit."""
    axes = draw(st.integers(1, 3))
    window = tuple(draw(SMALL) for _ in range(axes))
    stride, rate = draw(st.sampled_from([(1, 1), (2, 1), (3, 1), (1, 2)]))
    least = [(k - 1) * rate + 1 for k in window]
    space = tuple(draw(st.integers(n, n + 4)) for n in least)
    return space, window, stride, draw(st.sampled_from(["SAME", "VALID"])), rate


CONVOLUTIONS = {1: tf.nn.conv1d, 2: tf.nn.conv2d, 3: tf.nn.conv3d}
TRANSPOSES = {1: tf.nn.conv1d_transpose, 2: tf.nn.conv2d_transpose, 3: tf.nn.conv3d_transpose}


@settings(max_examples=16, deadline=None)
@given(geometries(), st.sampled_from([(1, 3, 2), (2, 1, 1), (2, 2, 3), (4, 3, 5), (1, 16, 2), (2, 16, 2)]))
def test_convolution_of_any_geometry(geometry: Any, channels: tuple[int, int, int]) -> None:
    """Forward, both gradients, and the transpose, which is the gradient with respect to the image."""
    (space, window, stride, padding, rate), (groups, c, o) = geometry, channels
    x, w = normal(2, *space, groups * c), normal(*window, c, groups * o, seed=1)
    attrs = ((stride,) * len(space), padding, (rate,) * len(space))
    want = by_group(x, w, *attrs)
    g = normal(*want.shape, seed=2)

    def build(images: Any, filters: Any, slope: Any) -> Any:
        y = CONVOLUTIONS[len(space)](images, filters, stride, padding, dilations=rate)
        back = TRANSPOSES[len(space)](slope, filters, x.shape, strides=stride, padding=padding, dilations=rate)
        return [y, *tf.gradients(y, [images, filters], grad_ys=slope), back]

    with tf.Graph().as_default():
        y, gx, gw, back = computed(build, x, w, g, unknown=False)
    np.testing.assert_allclose(y, want, atol=1e-10)
    assert_gradient(gx, lambda v: by_group(v, w, *attrs), g)
    assert_gradient(gw, lambda v: by_group(x, v, *attrs), g)
    np.testing.assert_allclose(back, gx, atol=1e-10)


@pytest.mark.parametrize("m", [1, 3])
@pytest.mark.parametrize("stride, rate", [(1, 1), (2, 1), (1, 2)])
@pytest.mark.parametrize("data_format", ["NHWC", "NCHW"])
def test_depthwise(m: int, stride: int, rate: int, data_format: str) -> None:
    x, w = normal(2, 6, 7, 5), normal(3, 2, 5, m, seed=1)
    attrs = ((stride, stride), "SAME", (rate, rate))
    want = by_channel(x, w, *attrs)
    g = normal(*want.shape, seed=2)
    ends = (-1, 1) if data_format == "NCHW" else (1, 1)

    def build(images: Any, slope: Any) -> Any:
        filters = tf.constant(w)
        step = [1, 1, stride, stride] if data_format == "NCHW" else [1, stride, stride, 1]
        y = tf.nn.depthwise_conv2d(images, filters, step, "SAME", rate=[rate, rate], data_format=data_format)
        return [y, *tf.gradients(y, [images, filters], grad_ys=slope)]

    y, gx, gw = computed(build, np.moveaxis(x, *ends), np.moveaxis(g, *ends))
    np.testing.assert_allclose(np.moveaxis(y, *ends[::-1]), want, atol=1e-10)
    assert_gradient(np.moveaxis(gx, *ends[::-1]), lambda v: by_channel(v, w, *attrs), g)
    assert_gradient(gw, lambda v: by_channel(x, v, *attrs), g)


def test_separable_is_depthwise_and_pointwise() -> None:
    x, w, p = normal(2, 5, 6, 3), normal(3, 3, 3, 2, seed=1), normal(1, 1, 6, 4, seed=2)
    y = computed(lambda v: tf.nn.separable_conv2d(v, w, p, [1, 2, 2, 1], "SAME"), x)
    np.testing.assert_allclose(y, by_channel(x, w, (2, 2), "SAME", (1, 1)) @ p[0, 0], atol=1e-10)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_output_shape_from_the_shape_of_a_tensor(dtype: str) -> None:
    """A decoder for any batch: what is not known while declaring follows from what is fed."""
    x, w = normal(3, 4, 4, 2).astype(dtype), normal(5, 5, 3, 2, seed=1).astype(dtype)
    fed = tf.placeholder(dtype, [None, 4, 4, 2])
    y = tf.nn.conv2d_transpose(fed, w, tf.stack([tf.shape(fed)[0], 8, 8, 3]), [1, 2, 2, 1])
    assert y.shape.as_list() == [None, 8, 8, 3]
    with tf.Session() as sess:
        for batch in (1, 3):
            got = sess.run(y, {fed: x[:batch]})
            assert got.shape == (batch, 8, 8, 3)
            assert got.dtype == dtype
            rtol = 1e-4 if dtype == "float32" else 1e-10
            assert_gradient(got, lambda v: correlated(v, w, (2, 2), "SAME", (1, 1)), x[:batch], rtol)


def test_backprop_functions_are_the_gradients() -> None:
    x, w, g = normal(2, 5, 6, 2), normal(3, 2, 2, 3, seed=1), normal(2, 3, 3, 3, seed=2)

    def build(images: Any, filters: Any, slope: Any) -> Any:
        y = tf.nn.conv2d(images, filters, 2, "SAME")
        own = [
            tf.nn.conv2d_backprop_input(x.shape, filters, slope, [1, 2, 2, 1], "SAME"),
            tf.nn.conv2d_backprop_filter(images, w.shape, slope, [1, 2, 2, 1], "SAME"),
        ]
        return [*tf.gradients(y, [images, filters], grad_ys=slope), *own]

    gx, gw, own_x, own_w = computed(build, x, w, g, unknown=False)
    np.testing.assert_allclose(own_x, gx, atol=1e-12)
    np.testing.assert_allclose(own_w, gw, atol=1e-12)


def test_atrous() -> None:
    x, w = normal(2, 9, 8, 2), normal(3, 2, 2, 3, seed=1)
    y = computed(lambda v: tf.nn.atrous_conv2d(v, w, 3, "VALID"), x)
    np.testing.assert_allclose(y, correlated(x, w, (1, 1), "VALID", (3, 3)), atol=1e-10)
    g = normal(*y.shape, seed=2)
    back = computed(lambda v: tf.nn.atrous_conv2d_transpose(v, w, x.shape, 3, "VALID"), g, unknown=False)
    np.testing.assert_allclose(np.sum(back * x), np.sum(g * y), rtol=1e-10)


def test_explicit_padding() -> None:
    x, w = normal(2, 4, 5, 2), normal(3, 3, 2, 3, seed=1)
    y = computed(lambda v: tf.nn.conv2d(v, w, 1, [[0, 0], [2, 1], [0, 3], [0, 0]]), x)
    np.testing.assert_allclose(y, correlated(np.pad(x, [(0, 0), (2, 1), (0, 3), (0, 0)]), w, (1, 1), "VALID", (1, 1)))


# pools


POOLS = {
    1: (tf.nn.max_pool1d, tf.nn.avg_pool1d),
    2: (tf.nn.max_pool, tf.nn.avg_pool),
    3: (tf.nn.max_pool3d, tf.nn.avg_pool3d),
}


@pytest.mark.parametrize("axes", [1, 2, 3])
@pytest.mark.parametrize("padding", ["SAME", "VALID"])
@pytest.mark.parametrize("first", [False, True], ids=["channels-last", "channels-first"])
def test_pools(axes: int, padding: str, first: bool) -> None:
    x = normal(2, *(5, 6, 4)[:axes], 3)
    window, stride = (3, 2, 2)[:axes], 2
    pairs = [
        same_padding(n, k, stride, 1) if padding == "SAME" else (0, 0)
        for n, k in zip(x.shape[1:-1], window, strict=True)
    ]
    padded = np.pad(x, [(0, 0), *pairs, (0, 0)], constant_values=np.nan)
    space = tuple(range(1, axes + 1))
    views = np.lib.stride_tricks.sliding_window_view(padded, window, space)
    views = views[(slice(None), *(slice(None, None, stride),) * axes)]
    wanted = [f(views, axis=tuple(range(-axes, 0))) for f in (np.nanmax, np.nanmean)]
    layout = {1: ("NWC", "NCW"), 2: ("NHWC", "NCHW"), 3: ("NDHWC", "NCDHW")}[axes][first]
    ends = (-1, 1) if first else (1, 1)
    ksize, strides = ([1, 1, *v] if first else [1, *v, 1] for v in (window, (stride,) * axes))

    def build(images: Any) -> Any:
        named = [f(images, ksize, strides, padding, data_format=layout) for f in POOLS[axes]]
        return named + [
            tf.nn.pool(images, window, t, padding, None, [stride] * axes, data_format=layout) for t in ("MAX", "AVG")
        ]

    for got, want in zip(computed(build, np.moveaxis(x, *ends)), wanted * 2, strict=True):
        np.testing.assert_allclose(np.moveaxis(got, *ends[::-1]), want, rtol=1e-12)


def test_the_gradient_of_a_3d_pool_goes_to_the_largest() -> None:
    x = normal(1, 4, 4, 2, 3)

    def build(v: Any) -> Any:
        return tf.gradients(tf.nn.max_pool3d(v, 2, 2, "VALID"), v)[0]

    g = computed(build, x)
    assert g.sum() == 12
    assert sorted(np.unique(g)) == [0, 1]
    np.testing.assert_allclose(
        np.sort(x[g == 1]), np.sort(computed(lambda v: tf.nn.max_pool3d(v, 2, 2, "VALID"), x).ravel())
    )


# names


def test_names_are_tensorflows() -> None:
    x, w = tf.zeros([2, 8, 8, 4]), tf.zeros([3, 3, 4, 4])
    assert tf.nn.conv2d(x, w, 1, "SAME").name == "Conv2D:0"
    assert tf.nn.conv1d(tf.zeros([2, 8, 4]), tf.zeros([3, 4, 5]), 1, "SAME").name == "conv1d/Squeeze:0"
    assert tf.nn.depthwise_conv2d(x, w, [1, 1, 1, 1], "SAME").op.type == "DepthwiseConv2dNative"
    assert tf.nn.depthwise_conv2d(x, w, [1, 1, 1, 1], "SAME").name == "depthwise_1:0"
    separable = tf.nn.separable_conv2d(x, w, tf.zeros([1, 1, 16, 5]), [1, 1, 1, 1], "SAME")
    assert [op.name for op in separable.op.inputs[:1]] == ["separable_conv2d/depthwise:0"]
    assert separable.name == "separable_conv2d:0"
    up = tf.nn.conv2d_transpose(x, w, [2, 16, 16, 4], [1, 2, 2, 1], name="up")
    assert (up.name, up.op.type) == ("up:0", "Conv2DBackpropInput")
    assert tf.nn.convolution(x, w, "SAME", dilation_rate=[2, 2]).name == "convolution:0"
    assert tf.nn.max_pool3d(tf.zeros([1, 4, 4, 4, 2]), 2, 2, "SAME").name == "MaxPool3D:0"


# mistakes

IMAGE, FILTER, IN = [2, 8, 8, 6], [3, 3, 6, 4], normal(2, 4, 4, 4).astype(np.float32)
MISTAKES = [
    (lambda x, w: tf.nn.conv2d(x, tf.zeros([9, 3, 6, 4]), 1, "VALID"), "a window of 9 does not fit an axis of 8"),
    (lambda x, w: tf.nn.conv2d(x, tf.zeros([0, 3, 6, 4]), 1, "VALID"), r"a window of \[0, 3\] has no pixels"),
    (lambda x, w: tf.nn.conv2d_transpose(IN, tf.zeros([0, 3, 6, 4]), [2, 8, 8, 6], 2), r"a window of \[0, 3\] has no"),
    (
        lambda x, w: tf.nn.conv2d_backprop_filter(tf.zeros([2, 4, 4, 0]), [3, 3, 6, 4], IN, 1, "SAME"),
        "the image has 0 channels, the filter 6",
    ),
    (lambda x, w: tf.nn.conv2d(x, tf.zeros([3, 3, 4, 8]), 1, "SAME"), "6 channels, the filter 4: neither the same nor"),
    (lambda x, w: tf.nn.conv2d(x, tf.zeros([3, 3, 2, 4]), 1, "SAME"), "4 channels out do not divide among 3 groups"),
    (lambda x, w: tf.nn.conv2d(x, tf.zeros([3, 6, 4]), 1, "SAME"), "an image and a filter of 4 axes are needed"),
    (lambda x, w: tf.nn.conv2d(x, tf.zeros(FILTER, tf.float64), 1, "SAME"), "dtypes differ: float32 and float64"),
    (lambda x, w: tf.nn.conv3d(x, w, 1, "SAME"), "an image and a filter of 5 axes are needed"),
    (lambda x, w: tf.nn.depthwise_conv2d(x, tf.zeros([3, 3, 5, 1]), [1] * 4, "SAME"), "there are filters for 5"),
    (lambda x, w: tf.nn.conv2d_transpose(IN, w, [2, 10, 8, 6], 2), r"make \[5, 4\] pixels .* there are \[4, 4\]"),
    (lambda x, w: tf.nn.conv2d_transpose(IN, w, [3, 8, 8, 6], 2), "a batch of 3 and one of 2"),
    (lambda x, w: tf.nn.conv2d_transpose(IN[..., :3], w, [2, 8, 8, 6], 2), "makes 4 channels, but there are 3"),
    (lambda x, w: tf.nn.conv2d_transpose(IN, w, [8, 8, 6], 2), "output_shape must have 4 sizes"),
    (lambda x, w: tf.nn.max_pool(x, 9, 1, "VALID"), "a window of 9 does not fit an axis of 8, padding included"),
    (lambda x, w: tf.nn.max_pool3d(x, 2, 2, "VALID"), "an image of 5 axes is needed"),
    (lambda x, w: tf.nn.avg_pool(tf.cast(x, tf.int32), 2, 2, "VALID"), "is not of floats"),
]  # fmt: skip


@pytest.mark.parametrize("mistake, reason", MISTAKES)
def test_a_mistake_is_reported_on_its_line(mistake: Callable[[Any, Any], Any], reason: str) -> None:
    x, w = tf.placeholder(tf.float32, IMAGE), tf.placeholder(tf.float32, FILTER)
    with pytest.raises(tf.GraphError, match=rf" at test_convolutions\.py:\d+: .*{reason}"):
        mistake(x, w)


ARGUMENTS = [
    (lambda x, w: tf.nn.conv2d(x, w, [1, 2, 3], "SAME"), "strides must have 1, 2 or 4 entries, not .1, 2, 3."),
    (lambda x, w: tf.nn.conv2d(x, w, [2, 1, 1, 1], "SAME"), "batch and channels must have 1 .NHWC."),
    (lambda x, w: tf.nn.conv2d(x, w, 0, "SAME"), "strides must be positive"),
    (lambda x, w: tf.nn.conv2d(x, w, 1, "FULL"), "padding must be 'SAME', 'VALID' or pairs, not 'FULL'"),
    (lambda x, w: tf.nn.conv2d(x, w, 1, [[1, 0], [0, 0], [0, 0], [0, 0]]), "batch and channels must have .0, 0."),
    (lambda x, w: tf.nn.conv2d(x, None, 1, "SAME"), "filter is not given"),
    (lambda x, w: tf.nn.conv2d(x, w, 1, "SAME", data_format="HWNC"), "data_format must be one of .* not 'HWNC'"),
    (lambda x, w: tf.nn.depthwise_conv2d(x, w, [1, 2, 2, 1], "SAME", rate=2), "must be 1 where the rate 2 is more"),
    (lambda x, w: tf.nn.pool(x, 2, "MIN", "SAME"), "pooling_type must be MAX or AVG, not 'MIN'"),
]  # fmt: skip


@pytest.mark.parametrize("mistake, reason", ARGUMENTS)
def test_arguments_are_checked(mistake: Callable[[Any, Any], Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        mistake(tf.placeholder(tf.float32, IMAGE), tf.placeholder(tf.float32, FILTER))


def test_an_output_shape_needs_its_numbers() -> None:
    x, w = tf.placeholder(tf.float32, [None, 4, 4, 4]), tf.zeros(FILTER)
    with pytest.raises(TypeError, match="output_shape must be made of integers, not of None"):
        tf.nn.conv2d_transpose(x, w, [None, 8, 8, 6], 2)


# kernels


def steps_of(build: Callable[..., Any], *shapes: list[int | None]) -> list[Any]:
    """The steps of the plan for a function of float32 placeholders; of unknown sizes, 2 is fed."""
    fed = [tf.placeholder(tf.float32, s) for s in shapes]
    fetches = build(*fed)
    with tf.Session() as sess:
        sess.run(fetches, {x: np.zeros([n or 2 for n in x.shape.as_list()], np.float32) for x in fed})
        return list(sess.compiled()[0][1].plan.steps)


def test_depthwise_is_one_kernel_that_reads_the_image_in_place() -> None:
    def build(x: Any, w: Any) -> Any:
        return tf.nn.relu(tf.nn.depthwise_conv2d(x, w, [1, 1, 1, 1], "SAME"))

    (step,) = steps_of(build, [2, 9, 9, 32], [3, 3, 32, 1])
    assert step.ops == ("Pad", "Windows", "Mul", "ReduceSum", "Relu")
    channel = step.kernel.loops[-1].symbol  # the loop that becomes lanes
    loads = [e for e in walk([s.value for s in step.kernel.stores]) if e.kind == "load"]
    assert len(loads) == 2
    assert all(coefficient(e.data[1], channel) == 1 for e in loads)


def test_groups_and_strided_gradients_are_contractions() -> None:
    def build(x: Any, w: Any) -> Any:
        y = tf.nn.conv2d(x, w, 2, "SAME")
        return [y, *tf.gradients(tf.reduce_sum(tf.square(y)), [x, w])]

    for in_channels in (8, 4):  # one group, two groups
        with tf.Graph().as_default():
            steps = steps_of(build, [2, 9, 9, 8], [3, 3, in_channels, 16])
        products = [s for s in steps if "Conv" in s.ops or "ConvFilter" in s.ops]
        assert len(products) == 3
        assert all(s.kernel.contract is not None for s in products)


@pytest.mark.parametrize("size, groups", [(8, 1), (9, 1), (8, 2)])
def test_a_strided_gradient_is_written_where_it_belongs(size: int, groups: int) -> None:
    """A product for each phase of the pixels, with the taps that meet it; nothing is copied together."""

    def build(x: Any, w: Any, g: Any) -> Any:
        return tf.gradients(tf.nn.conv2d(x, w, 2, "SAME"), x, grad_ys=g)

    out = -(-size // 2)
    steps = steps_of(build, [2, size, size, 16 * groups], [3, 3, 16, 20 * groups], [2, out, out, 20 * groups])
    contracts = [s.kernel.contract for s in steps if s.kernel.contract is not None]
    assert sorted(int(np.prod([loop.extent for loop in c.k])) for c in contracts) == [20, 40, 40, 80]
    image = 2 * size * size * 16 * groups
    assert not any(np.prod([loop.extent for loop in s.kernel.loops]) == image for s in steps)


def test_small_groups_are_convolved_together() -> None:
    def build(x: Any, w: Any) -> Any:
        return tf.nn.conv2d(x, w, 1, "VALID")

    steps = steps_of(build, [2, 6, 6, 32], [3, 3, 4, 32])  # 8 groups of 4 channels, as 2 of 16
    (step,) = [s for s in steps if s.kernel.contract is not None]
    assert [loop.extent for loop in step.kernel.loops] == [2, 4, 4, 2, 16]
    assert steps[-1] is step


def test_a_gradient_through_same_is_computed_for_pixels_only() -> None:
    def build(x: Any, w: Any, g: Any) -> Any:
        return tf.gradients(tf.nn.conv2d(x, w, 1, "SAME"), x, grad_ys=g)

    steps = steps_of(build, [2, 9, 9, 4], [3, 3, 4, 5], [2, 9, 9, 5])
    assert not any("StridedSlice" in s.ops for s in steps)


def added_up(g: Array, w: Array, padding: str) -> Array:
    """The gradient of a convolution by steps of 1 with respect to its image, one tap after the other."""
    window, out = w.shape[:-2], g.shape[1:-1]
    x = np.zeros((g.shape[0], *(n + k - 1 for n, k in zip(out, window, strict=True)), w.shape[-2]))
    for tap in np.ndindex(*window):
        x[(slice(None), *(slice(t, t + n) for t, n in zip(tap, out, strict=True)))] += g @ w[tap].T
    pairs = [same_padding(n, k, 1, 1) if padding == "SAME" else (0, 0) for n, k in zip(out, window, strict=True)]
    ends = [(low, n - high) for (low, high), n in zip(pairs, x.shape[1:-1], strict=True)]
    return x[(slice(None), *(slice(low, high) for low, high in ends))]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    "batch, out, window, c, o, padding",
    [
        (2, (5, 4), (5, 3), 10, 20, "VALID"),
        (3, (7, 7), (5, 5), 3, 17, "SAME"),
        (1, (1, 1), (4, 5), 33, 9, "VALID"),
        (2, (9,), (7,), 2, 24, "SAME"),
        (2, (2, 3, 2), (2, 3, 2), 9, 12, "VALID"),
        (0, (5, 4), (5, 3), 10, 20, "VALID"),
    ],
)
def test_a_gradient_of_idle_lanes_or_much_padding_is_products_added_up(
    batch: int, out: tuple[int, ...], window: tuple[int, ...], c: int, o: int, padding: str, dtype: str
) -> None:
    """Infinities and NaN go where their products go and nowhere else: no zeros around g are multiplied."""
    g, w = (normal(*shape).astype(dtype) for shape in ((batch, *out, o), (*window, c, o)))
    g[..., 3].flat[:1], w[(0,) * len(window)][0, 5], w[(-1,) * len(window)][1, 2] = np.inf, np.nan, -np.inf
    space = out if padding == "SAME" else tuple(n + k - 1 for n, k in zip(out, window, strict=True))

    def build(slope: Any, filters: Any) -> Any:
        image = tf.constant(np.zeros((batch, *space, c), dtype))
        return tf.gradients(CONVOLUTIONS[len(space)](image, filters, 1, padding), image, grad_ys=slope)[0]

    with np.errstate(invalid="ignore"):
        want = added_up(g, w, padding)
    got = computed(build, g, w, unknown=False)
    np.testing.assert_allclose(got, want, **({"rtol": 1e-4, "atol": 1e-4} if dtype == "float32" else {"atol": 1e-10}))


@pytest.mark.parametrize(
    "shape, window, c, o, depth",
    [
        ([2, 8, 8], 5, 10, 20, 20),  # as many multiply-adds as pixels, taps and channels need
        ([2, 20, 20], 3, 10, 20, 180),  # by Winograd they are fewer still
        ([64, 28, 28], 5, 10, 20, 500),  # the products would be too many for a cache
        ([None, 8, 8], 5, 10, 20, 500),  # or might be
        ([2, 8, 8], 1, 10, 20, 20),  # there is nothing to add up
        ([2, 8, 8], 5, 1, 20, 500),  # and lanes run along k
    ],
)
def test_products_are_added_up_where_that_is_less(shape: list[Any], window: int, c: int, o: int, depth: int) -> None:
    def build(x: Any, g: Any, w: Any) -> Any:
        return tf.gradients(tf.nn.conv2d(x, w, 1, "VALID"), x, grad_ys=g)

    image = [shape[0], *(n + window - 1 for n in shape[1:]), c]
    steps = steps_of(build, image, [*shape, o], [window, window, c, o])
    contracts = [s.kernel.contract for s in steps if s.kernel.contract is not None]
    assert [int(np.prod([loop.extent for loop in k.k])) for k in contracts] == [depth]


@pytest.mark.parametrize("channels", [4, 16])
@pytest.mark.parametrize("height, window, stride", [(1, 3, 2), (1, 3, 3), (2, 5, 3), (3, 3, 2)])
def test_phases_of_a_transposed_convolution_may_have_no_pixels(
    height: int, window: int, stride: int, channels: int
) -> None:
    """The image that a convolution of that stride reads is shorter than a stride: the adjoint has the same product."""
    image, filters = normal(1, height, 5, channels), normal(window, 3, channels, 4, seed=1)
    small = normal(1, -(-height // stride), 5, 4, seed=2)
    x, g = tf.placeholder(tf.float64, image.shape), tf.placeholder(tf.float64, small.shape)
    w = tf.placeholder(tf.float64, filters.shape)
    back = tf.nn.conv2d_transpose(g, w, image.shape, [1, stride, 1, 1], "SAME")
    with tf.Session() as sess:
        feeds = {x: image, w: filters, g: small}
        forth, back = sess.run([tf.nn.conv2d(x, w, [1, stride, 1, 1], "SAME"), back], feeds)
    np.testing.assert_allclose(np.vdot(forth, small), np.vdot(image, back), rtol=1e-10)


@pytest.mark.parametrize("dilation", [1, 2, 7])
def test_the_gradient_of_a_filter_without_pixels(dilation, monkeypatch):
    """It is empty, however far apart its taps would be."""
    x, g = np.ones((2, 5, 8, 3), np.float32), np.ones((2, 5, 9, 4), np.float32)
    for interpreted in ("0", "1"):
        monkeypatch.setenv("GRAPHFLOW_INTERPRET", interpreted)
        y = tf.nn.conv2d_backprop_filter(x, [1, 0, 3, 4], g, [1, 1, 1, 1], "VALID", dilations=[1, 1, dilation, 1])
        with tf.Session() as sess:
            assert sess.run(y).shape == (1, 0, 3, 4)
