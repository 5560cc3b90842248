"""Convolutions and the gradients of both operands as contractions."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphflow.compiler.llvm.contract import choose, choose_split
from graphflow.compiler.llvm.contract.choose import make_plan
from graphflow.compiler.llvm.contract.emit import Axis, Contraction
from graphflow.compiler.llvm.target import AVX512
from graphflow.core.dim import Size, symbol
from tests.compiler.contractions import (
    HOST,
    ORDERS,
    TARGETS,
    Kernel,
    check,
    guarded,
    random,
)

SMALL = replace(HOST, l1_bytes=4096, l2_bytes=1 << 15)


def conv_spec(
    x: tuple[int, ...], w: tuple[int, ...], stride: int, dilation: int, batch: Size | None = None
) -> Contraction:
    """VALID convolution of x[b, h, w, c] with w[kh, kw, c, o]."""
    b, height, width, c = x
    kh, kw, _, o = w
    oh, ow = ((size - dilation * (k - 1) - 1) // stride + 1 for size, k in ((height, kh), (width, kw)))
    m = (
        Axis(b if batch is None else batch, height * width * c, 0),
        Axis(oh, stride * width * c, 0),
        Axis(ow, stride * c, 0),
    )
    k = (Axis(kh, dilation * width * c, kw * c * o), Axis(kw, dilation * c, c * o), Axis(c, 1, o))
    return Contraction("float32", (), m, Axis(o, 0, 1), k)


def windows(x: np.ndarray, kh: int, kw: int, stride: int, dilation: int) -> np.ndarray:
    """[b, oh, ow, c, kh, kw]."""
    reach = ((kh - 1) * dilation + 1, (kw - 1) * dilation + 1)
    view = np.lib.stride_tricks.sliding_window_view(x, reach, (1, 2))
    return view[:, ::stride, ::stride, :, ::dilation, ::dilation]


CONVS = [
    ((2, 12, 14, 5), (3, 3, 5, 7), 1, 1),
    ((3, 9, 11, 1), (5, 5, 1, 32), 1, 1),
    ((2, 13, 15, 6), (3, 2, 6, 40), 2, 1),
    ((1, 16, 16, 3), (3, 3, 3, 10), 1, 2),
    ((2, 4, 4, 16), (3, 3, 16, 33), 1, 1),
    ((2, 7, 7, 8), (1, 1, 8, 16), 1, 1),
]


@pytest.mark.parametrize("x, w, stride, dilation", CONVS)
def test_convolution(x: tuple[int, ...], w: tuple[int, ...], stride: int, dilation: int) -> None:
    image, filters = random(x), random(w, seed=1)
    expected = np.einsum("bhwcij,ijco->bhwo", windows(image, w[0], w[1], stride, dilation), filters, optimize=True)
    for target in ("host", "sse2"):
        check(Kernel(conv_spec(x, w, stride, dilation), TARGETS[target]), image, filters, expected, w[0] * w[1] * w[2])
    spec = conv_spec(x, w, stride, dilation, symbol("batch"))
    check(Kernel(spec, symbols={"batch": x[0]}), image, filters, expected, w[0] * w[1] * w[2])


@pytest.mark.parametrize("x, w, stride, dilation", CONVS)
def test_filter_gradient(x: tuple[int, ...], w: tuple[int, ...], stride: int, dilation: int) -> None:
    forward = conv_spec(x, w, stride, dilation)
    oh, ow, o = forward.m[1].extent, forward.m[2].extent, w[3]
    assert isinstance(oh, int)
    assert isinstance(ow, int)
    image, g = random(x), random((x[0], oh, ow, o), seed=1)
    strides = (oh * ow * o, ow * o, o)
    m = tuple(Axis(axis.extent, axis.a, 0) for axis in forward.k)
    k = tuple(Axis(axis.extent, axis.a, b) for axis, b in zip(forward.m, strides, strict=True))
    spec = Contraction("float32", (), m, Axis(o, 0, 1), k)
    expected = np.einsum("bhwcij,bhwo->ijco", windows(image, w[0], w[1], stride, dilation), g, optimize=True)
    check(Kernel(spec), image, g, expected, x[0] * oh * ow)
    k = (Axis(symbol("batch", hint=500), k[0].a, k[0].b), *k[1:])
    check(Kernel(replace(spec, k=k), symbols={"batch": x[0]}), image, g, expected, x[0] * oh * ow)


@pytest.mark.parametrize("target", TARGETS)
def test_input_gradient(target: str) -> None:
    """The filter [kh, kw, c, o] is read flipped and with c as columns, from its last kh and kw."""
    b, height, width, o, kh, kw, c = 2, 9, 8, 6, 3, 2, 21
    g, filters = random((b, height, width, o)), random((kh, kw, c, o), seed=1)
    m = conv_spec(g.shape, (kh, kw, o, c), 1, 1).m
    k = (Axis(kh, width * o, -kw * c * o), Axis(kw, o, -c * o), Axis(o, 1, 1))
    spec = Contraction("float32", (), m, Axis(c, 0, o), k, b_offset=(kh * kw - 1) * c * o)
    expected = np.einsum("bhwoij,ijco->bhwc", windows(g, kh, kw, 1, 1), filters[::-1, ::-1], optimize=True)
    check(Kernel(spec, TARGETS[target]), g, filters, expected, kh * kw * o)


@pytest.mark.parametrize("at_end", [True, False])
@pytest.mark.parametrize("target", ["host", "avx2", "sse2"])
def test_bounds(target: str, at_end: bool) -> None:
    """Nothing outside image and filters is read: it would end the process."""
    x, w, stride, dilation = CONVS[2]
    image, filters = random(x), random(w)
    expected = np.einsum("bhwcij,ijco->bhwo", windows(image, w[0], w[1], stride, dilation), filters, optimize=True)
    kernel = Kernel(conv_spec(x, w, stride, dilation), TARGETS[target])
    check(kernel, guarded(image, at_end), guarded(filters, at_end), expected, w[0] * w[1] * w[2])


def test_volume_convolution() -> None:
    """Three spatial axes: nothing knows how many there are."""
    x, w = random((2, 5, 6, 7, 3)), random((2, 3, 2, 3, 4), seed=1)
    steps, out = (6 * 7 * 3, 7 * 3, 3), (4, 4, 6)
    m = (Axis(2, x[0].size, 0), *(Axis(n, a, 0) for n, a in zip(out, steps, strict=True)))
    k = (*(Axis(n, a, b) for n, a, b in zip(w.shape[:3], steps, (72, 24, 12), strict=True)), Axis(3, 1, 4))
    expected = np.einsum("bxyzcijk,ijkco->bxyzo", np.lib.stride_tricks.sliding_window_view(x, (2, 3, 2), (1, 2, 3)), w)
    check(Kernel(Contraction("float32", (), m, Axis(4, 0, 1), k)), x, w, expected, 36)


def test_rows_without_a_common_stride() -> None:
    """All rows of a small filter's gradient in one tile, their places from a table."""
    forward = conv_spec((4, 20, 20, 1), (5, 5, 1, 10), 1, 1)
    m = tuple(Axis(axis.extent, axis.a, 0) for axis in forward.k)
    k = tuple(Axis(axis.extent, axis.a, b) for axis, b in zip(forward.m, (2560, 160, 10), strict=True))
    spec = Contraction("float32", (), m, Axis(10, 0, 1), k)
    assert make_plan(spec, AVX512).row_table[:7] == (0, 1, 2, 3, 4, 20, 21)
    image, g = random((4, 20, 20, 1)), random((4, 16, 16, 10), seed=1)
    expected = np.einsum("bhwcij,bhwo->ijco", windows(image, 5, 5, 1, 1), g, optimize=True)
    for target in (HOST, replace(HOST, vector_bits=512, vector_registers=32)):
        check(Kernel(spec, target), guarded(image, True), guarded(g, True), expected, 1024)


def filter_spec(images: Size, size: int, window: int, stride: int, groups: int, c: int, o: int) -> Contraction:
    """The gradient of filters [groups, window, window, c, o]; x[images, size, size, groups * c]."""
    made, pixel, across = (size - window) // stride + 1, groups * c, groups * o
    batch = (Axis(groups, c, o),) if groups > 1 else ()
    m = (Axis(window, size * pixel, 0), Axis(window, pixel, 0), Axis(c, 1, 0))
    k = (
        Axis(images, size * size * pixel, made * made * across),
        Axis(made, stride * size * pixel, made * across),
        Axis(made, stride * pixel, across),
    )
    return Contraction("float32", batch, m, Axis(o, 0, 1), k)


@settings(max_examples=30, deadline=None)
@given(
    st.integers(1, 9),
    st.integers(5, 16),
    st.integers(1, 4),
    st.integers(1, 2),
    st.integers(1, 3),
    st.sampled_from([1, 3, 16]),
    st.sampled_from([1, 5, 16, 20]),
    st.sampled_from([0, 1, 500]),
)
def test_filter_gradient_in_parts(
    images: int, size: int, window: int, stride: int, groups: int, c: int, o: int, hint: int
) -> None:
    """Small caches: k is cut along its images or its rows; with a hint, the number of images is symbolic."""
    check_filter_gradient(images, size, window, stride, groups, c, o, hint)


def check_filter_gradient(
    images: int, size: int, window: int, stride: int, groups: int, c: int, o: int, hint: int
) -> None:
    count = symbol("images", hint=hint) if hint else images
    spec = filter_spec(count, size, window, stride, groups, c, o)
    made = (size - window) // stride + 1
    x, g = random((images, size, size, groups * c)), random((images, made, made, groups * o), seed=1)
    patches = windows(x, window, window, stride, 1).reshape(images, made, made, groups, c, window, window)
    expected = np.einsum("bhwgcij,bhwgo->gijco", patches, g.reshape(images, made, made, groups, o), optimize=True)
    kernel = Kernel(spec, SMALL, {"images": images})
    check(kernel, guarded(x, True), guarded(g, True), expected, images * made * made)
    assert kernel(x, g).tobytes() == kernel(x, g, ORDERS["backwards"]).tobytes()


@settings(max_examples=25, deadline=None)
@given(
    st.integers(1, 9),
    st.integers(9, 16),
    st.integers(2, 3),
    st.integers(1, 2),
    st.integers(1, 2),
    st.sampled_from([3, 16, 33]),
    st.sampled_from([5, 16, 40]),
    st.sampled_from([0, 1, 500]),
)
def test_filter_gradient_in_blocks(
    images: int, size: int, window: int, stride: int, groups: int, c: int, o: int, hint: int
) -> None:
    """The same where units keep their sums while k goes by in blocks, of its images or of its rows."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(choose, "WINDOW_PANELS", 1)
        patch.setattr(choose_split, "UNIT_FLOPS", 1 << 40)  # all row panels in one unit
        plan = make_plan(filter_spec(9, 16, 3, 1, groups, 16, 16), SMALL)
        assert plan.k_blocks > 1
        assert plan.splits == 1
        check_filter_gradient(images, size, window, stride, groups, c, o, hint)


@pytest.mark.parametrize("images, size, channels", [(8, 34, 64), (2, 114, 64), (16, 16, 256)])
def test_parts_of_a_filter_gradient_stay_cached(images: int, size: int, channels: int) -> None:
    """All taps of a group of 16 channels go over a part of the pixels that L2 holds, lines of other groups included."""
    spec = filter_spec(images, size, 3, 1, channels // 16, 16, 16)
    plan = make_plan(spec, AVX512)
    steps = images * (size - 2) ** 2 / plan.splits
    assert plan.splits > 1
    assert plan.row_block == plan.row_panels
    assert steps * 2 * channels * 4 <= AVX512.l2_bytes
    large = make_plan(filter_spec(8, 34, 3, 1, 1, 256, 256), AVX512)
    assert large.splits == 1  # results too large to have many of: they wait in scratch
    assert large.row_block * large.slot * 4 <= AVX512.l2_bytes
    assert 8 * 32 * 32 / large.k_blocks * (256 + large.width) * 4 <= AVX512.l2_bytes
