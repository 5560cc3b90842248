"""Convolutions by Winograd's minimal filtering, beside the direct ones and NumPy's."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphflow.compiler.llvm.contract.emit import Axis, Contraction
from graphflow.compiler.llvm.target import AVX2, AVX512, NEON, SSE2, Target
from graphflow.compiler.llvm.winograd import choose as winograd_choose
from graphflow.compiler.llvm.winograd.choose import is_square_convolution
from graphflow.compiler.llvm.winograd.plan import WinogradPlan
from graphflow.compiler.loops.ir import EVERY_STEP
from graphflow.core.dim import Size, symbol
from tests.compiler.contractions import ORDERS, TARGETS, Kernel, guarded, random

GAIN, UNITS = winograd_choose.LEAST_GAIN, winograd_choose.LEAST_UNITS


@pytest.fixture(scope="module", autouse=True)
def always() -> Iterator[None]:
    """Whether it pays or not."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(winograd_choose, "LEAST_GAIN", 0)
        patch.setattr(winograd_choose, "LEAST_UNITS", 0)
        yield


def spec_of(
    x: tuple[int, ...], o: int, dtype: str = "float32", batch: Size | None = None, *, mirrored: bool = False
) -> Contraction:
    """VALID convolution of x[b, h, w, c] with w[3, 3, c, o], or mirrored with w[3, 3, o, c], as a gradient has it."""
    b, height, width, c = x
    m = (
        Axis(b if batch is None else batch, height * width * c, 0),
        Axis(height - 2, width * c, 0),
        Axis(width - 2, c, 0),
    )
    if mirrored:
        k = (Axis(3, width * c, -3 * c * o), Axis(3, c, -c * o), Axis(c, 1, 1))
        return Contraction(dtype, (), m, Axis(o, 0, c), k, b_offset=8 * c * o)
    k = (Axis(3, width * c, 3 * c * o), Axis(3, c, c * o), Axis(c, 1, o))
    return Contraction(dtype, (), m, Axis(o, 0, 1), k)


def convolved(x: np.ndarray, w: np.ndarray, mirrored: bool = False, dilations: tuple[int, int] = (1, 1)) -> np.ndarray:
    """The same by NumPy, in long doubles: no sum overflows that is finite in the end."""
    if mirrored:
        w = w[::-1, ::-1].swapaxes(2, 3)
    down, across = dilations
    h, v = x.shape[1] - 2 * down, x.shape[2] - 2 * across
    wide, filters = x.astype(np.longdouble), w.astype(np.longdouble)
    with np.errstate(invalid="ignore", over="ignore"):
        parts = (
            np.einsum("bhwc,co->bhwo", wide[:, i : i + h, j : j + v], filters[i // down, j // across])
            for i, j in product(range(0, 3 * down, down), range(0, 3 * across, across))
        )
        return np.asarray(sum(parts)).astype(x.dtype)


def filters_of(x: tuple[int, ...], o: int, dtype: str, mirrored: bool) -> np.ndarray:
    return random((3, 3, o, x[3]) if mirrored else (3, 3, x[3], o), dtype, 1)


def check(kernel: Kernel, image: np.ndarray, filters: np.ndarray, *, mirrored: bool = False) -> None:
    assert kernel.code.packing is not None
    assert kernel.code.packing[0] == "winograd"
    expected = convolved(image, filters, mirrored)
    tolerance = np.finfo(image.dtype).eps * 16 * 9 * image.shape[3]
    np.testing.assert_allclose(kernel(image, filters), expected, rtol=1e-5, atol=tolerance)


SIZES = st.tuples(st.integers(0, 3), st.integers(3, 11), st.integers(3, 11), st.sampled_from([1, 3, 7, 16, 20, 33]))


@settings(max_examples=60, deadline=None)
@given(SIZES, st.sampled_from([1, 5, 16, 40, 70]), st.sampled_from(sorted(TARGETS)), st.booleans(), st.booleans())
def test_convolution(x: tuple[int, ...], o: int, target: str, symbolic: bool, mirrored: bool) -> None:
    """Any sizes, and nothing outside image and filters is read."""
    image, filters = random(x), filters_of(x, o, "float32", mirrored)
    spec = spec_of(x, o, batch=symbol("batch") if symbolic else None, mirrored=mirrored)
    kernel = Kernel(spec, TARGETS[target], {"batch": x[0]})
    at_end = o != 5
    check(kernel, guarded(image, at_end), guarded(filters, at_end), mirrored=mirrored)


Pair = tuple[int, int]


def volumes_of(
    y: tuple[int, ...], o: int, groups: int, slices: int, dilations: Pair, batch: Size | None = None
) -> tuple[Contraction, tuple[int, ...], tuple[int, ...]]:
    """VALID convolution of x[b, d, h, w, groups, c] with w[slices, 3, 3, c, groups, o], and the shapes of x and w.

    y are b, d, h, w of the results, and c.
    """
    b, deep, height, width, c = y
    down, across = dilations
    x = (b, deep + slices - 1, height + 2 * down, width + 2 * across, groups, c)
    pixel, taps = groups * c, groups * o
    line, plane = x[3] * pixel, x[2] * x[3] * pixel
    m = (Axis(b if batch is None else batch, x[1] * plane, 0), Axis(deep, plane, 0), Axis(height, line, 0),
         Axis(width, pixel, 0))  # fmt: skip
    k = (Axis(slices, plane, 9 * c * taps), Axis(3, down * line, 3 * c * taps), Axis(3, across * pixel, c * taps),
         Axis(c, 1, taps))  # fmt: skip
    batches = (Axis(groups, c, o),) if groups > 1 else ()
    return Contraction("float32", batches, m, Axis(o, 0, 1), k), x, (slices, 3, 3, c, groups, o)


def convolved_volumes(x: np.ndarray, w: np.ndarray, dilations: Pair) -> np.ndarray:
    """The same by NumPy: [group, b, d, h, w, o]."""
    b, deep = x.shape[0], x.shape[1] - w.shape[0] + 1

    def part(group: int, first: int) -> np.ndarray:
        images = x[:, first : first + deep, :, :, group].reshape(b * deep, *x.shape[2:4], x.shape[5])
        return convolved(images, w[first, :, :, :, group], dilations=dilations)

    total = np.stack([sum(part(group, first) for first in range(w.shape[0])) for group in range(x.shape[4])])
    return total.reshape(x.shape[4], b, deep, *total.shape[2:])


RESULTS = st.tuples(
    st.integers(0, 2), st.integers(1, 3), st.integers(1, 9), st.integers(1, 9), st.sampled_from([1, 3, 16, 20])
)
NOT_FINITE = st.tuples(st.booleans(), st.integers(0, 10**6), st.sampled_from([np.nan, np.inf, -np.inf]))


@settings(max_examples=100, deadline=None)
@given(
    RESULTS,
    st.sampled_from([1, 5, 16, 40]),
    st.integers(1, 3),
    st.integers(1, 3),
    st.tuples(st.integers(1, 4), st.integers(1, 4)),
    st.sampled_from(sorted(TARGETS)),
    st.booleans(),
    st.lists(NOT_FINITE, max_size=2),
)
def test_slices_groups_and_dilations(
    y: tuple[int, ...],
    o: int,
    groups: int,
    slices: int,
    dilations: Pair,
    target: str,
    symbolic: bool,
    odd: list[tuple[bool, int, float]],
) -> None:
    """Windows of three axes, groups, pixels apart, infinities and NaN included; nothing outside is read."""
    spec, x, w = volumes_of(y, o, groups, slices, dilations, symbol("batch") if symbolic else None)
    image, filters = random(x), random(w, seed=1)
    for of_image, place, value in odd:
        array = (image if of_image else filters).reshape(-1)
        array[place % max(1, array.size) :][:1] = value
    with np.errstate(invalid="ignore"):
        expected = convolved_volumes(image, filters, dilations)
    kernel = Kernel(spec, TARGETS[target], {"batch": y[0]})
    assert kernel.code.packing is not None
    assert kernel.code.packing[0] == "winograd"
    got = kernel(guarded(image, o != 5), guarded(filters, o != 5))
    np.testing.assert_allclose(got.reshape(expected.shape), expected, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("target", TARGETS)
def test_doubles(target: str) -> None:
    x, o = (2, 9, 8, 21), 19
    check(Kernel(spec_of(x, o, "float64"), TARGETS[target]), random(x, "float64"), random((3, 3, 21, o), "float64", 1))


def test_images_of_any_height_and_width() -> None:
    """Symbolic sizes: how many squares there are, and which are halves, is known at run time."""
    height, width = symbol("height", hint=9), symbol("width", hint=9)
    for h, v in ((3, 3), (8, 5), (5, 12)):
        spec = spec_of((2, 0, 0, 6), 9)
        down, across = (height + 2) * 0 + (width + 2) * 6, 6
        m = (Axis(2, (height + 2) * (width + 2) * 6, 0), Axis(height, down, 0), Axis(width, across, 0))
        k = (replace(spec.k[0], a=down), replace(spec.k[1], a=across), spec.k[2])
        image, filters = random((2, h + 2, v + 2, 6)), random((3, 3, 6, 9), seed=1)
        kernel = Kernel(replace(spec, m=m, k=k), symbols={"height": h, "width": v})
        check(kernel, guarded(image, True), filters)


def test_pixels_apart() -> None:
    """Strides need not be those of a dense image, nor rows be rows: upside down, every other pixel of each line."""
    image, filters = random((2, 9, 22, 6)), random((3, 3, 6, 9), seed=1)
    spec = spec_of((2, 9, 11, 6), 9)
    steps = (9 * 22 * 6, -22 * 6, 12)
    m = tuple(replace(axis, a=step) for axis, step in zip(spec.m, steps, strict=True))
    k = (*(replace(axis, a=step) for axis, step in zip(spec.k[:2], steps[1:], strict=True)), spec.k[2])
    kernel = Kernel(replace(spec, m=m, k=k, a_offset=8 * 22 * 6))
    np.testing.assert_allclose(kernel(image, filters), convolved(image[:, ::-1, ::2], filters), rtol=0, atol=1e-4)


@pytest.mark.parametrize("order", ORDERS)
def test_the_same_bits(order: str) -> None:
    """Whoever computes which unit; and of an image the same whatever its neighbours are."""
    x = (5, 17, 19, 24)
    image, filters = random(x), random((3, 3, 24, 70), seed=1)
    kernel = Kernel(spec_of(x, 70), TARGETS["small caches"])
    once = kernel(image, filters)
    assert kernel.code.launches[1].units > 4
    assert kernel(image, filters, ORDERS[order]).tobytes() == once.tobytes()
    image[1] = np.nan
    other = kernel(image, filters)
    assert np.isnan(other[1]).all()
    np.testing.assert_array_equal(np.delete(other, 1, 0), np.delete(once, 1, 0))


ODD = st.sampled_from([np.nan, np.inf, -np.inf, 0.0, -0.0, 1e-40])
# Five of them times any of the taps are less than the largest number: no sum overflows, in whatever order.
LARGE = st.sampled_from([1e37, -1e37])
PLACE = st.integers(0, 10**6)
CHANGE = st.one_of(
    st.tuples(st.booleans(), PLACE, ODD),
    st.tuples(st.just(True), PLACE, LARGE),
)


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from([(1, 5, 6, 3), (2, 8, 7, 20), (1, 3, 9, 17)]),
    st.sampled_from([4, 40]),
    st.sampled_from(["host", "sse2", "avx2"]),
    st.booleans(),
    st.lists(CHANGE, min_size=1, max_size=5),
)
def test_infinities_and_nan(
    x: tuple[int, ...], o: int, target: str, mirrored: bool, odd: list[tuple[bool, int, float]]
) -> None:
    """Anywhere in image and filters: results that depend on them are as NumPy has them, and no others change."""
    image, filters = np.round(random(x)), np.round(filters_of(x, o, "float32", mirrored))
    for of_image, place, value in odd:
        array = image if of_image else filters
        array.reshape(-1)[place % array.size] = value
    expected = convolved(image, filters, mirrored)
    # A pixel is rounded with its neighbours, and a tap with its: also where one of them meets a zero.
    scale = [float(np.abs(y[np.isfinite(y)]).max(initial=0)) for y in (image, filters)]
    got = Kernel(spec_of(x, o, mirrored=mirrored), TARGETS[target])(guarded(image, True), guarded(filters, True))
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-4 + 1e-5 * scale[0] * scale[1])


@pytest.mark.parametrize("of_image", [True, False])
@pytest.mark.parametrize("mirrored", [True, False])
def test_sums_that_only_the_transforms_know_overflow(of_image: bool, mirrored: bool) -> None:
    """Differences of pixels, sums of taps, and their products are beyond the largest number here; no result is."""
    x, o = (2, 8, 9, 40), 36
    rng = np.random.default_rng(3)
    signs = rng.choice([-3e38, 3e38], x if of_image else filters_of(x, o, "float32", mirrored).shape)
    other = np.float32(1e-3) * (filters_of(x, o, "float32", mirrored) if of_image else random(x))
    image, filters = (signs.astype(np.float32), other) if of_image else (other, signs.astype(np.float32))
    expected = convolved(image, filters, mirrored)
    assert np.isfinite(expected).all()
    got = Kernel(spec_of(x, o, mirrored=mirrored))(image, filters)
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=3e33)


def test_zeros_have_no_sign() -> None:
    """As with the direct products, whose sums start from zero."""
    x = (1, 6, 7, 5)
    got = Kernel(spec_of(x, 4))(-np.zeros(x, np.float32), random((3, 3, 5, 4)))
    assert not np.signbit(got).any()
    assert not got.any()


@pytest.mark.parametrize("dtype, spread, worse", [("float32", 1.0, 1), ("float64", 1.0, 1), ("float32", 1e3, 4)])
def test_rounding(dtype: str, spread: float, worse: int) -> None:
    """Errors relative to the sum of |x| |w|, beside those of a direct sum: `transform.py` says which."""
    x, o = (2, 18, 18, 64), 64
    rng = np.random.default_rng(5)
    image, filters = (
        (rng.standard_normal(shape) * spread ** rng.uniform(-1, 1, shape)).astype(dtype) for shape in (x, (3, 3, 64, o))
    )
    exact = convolved(image.astype(np.longdouble), filters.astype(np.longdouble))
    scale = convolved(np.abs(image).astype(np.longdouble), np.abs(filters).astype(np.longdouble))
    errors = {}
    for name, gain in (("winograd", 0.0), ("direct", np.inf)):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(winograd_choose, "LEAST_GAIN", gain)
            got = Kernel(spec_of(x, o, dtype))(image, filters)
        error = np.abs(got - exact) / scale / np.finfo(dtype).eps
        errors[name] = float(error.max()), float(error.mean())
    assert errors["winograd"][0] < worse * errors["direct"][0]
    assert errors["winograd"][1] < 1.1 * errors["direct"][1]


def plan_of(spec: Contraction, target: Target, gain: float = GAIN) -> WinogradPlan | None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(winograd_choose, "LEAST_GAIN", gain)
        patch.setattr(winograd_choose, "LEAST_UNITS", UNITS)
        return winograd_choose.winograd_plan(spec, target)


@pytest.mark.parametrize("target", [AVX512, AVX2, SSE2, NEON], ids=["avx512", "avx2", "sse2", "neon"])
def test_where_it_pays(target: Target) -> None:
    """Enough channels, and squares; a filter that is transformed for one small image alone is not worth it."""
    assert plan_of(spec_of((1, 58, 58, 64), 64), target)
    assert plan_of(spec_of((8, 30, 30, 128), 128), target)
    assert plan_of(spec_of((8, 30, 30, 128), 128, "float64"), target)
    assert not plan_of(spec_of((8, 226, 226, 3), 64), target)
    assert not plan_of(spec_of((8, 34, 34, 2), 64), target)
    assert not plan_of(spec_of((64, 3, 3, 64), 64), target)  # a square for each pixel
    assert not plan_of(spec_of((1, 6, 6, 512), 512), target)


def test_a_filter_that_is_transformed_before_the_first_step() -> None:
    """It costs no step anything, so that few squares are enough."""
    spec = spec_of((1, 9, 9, 512), 512)
    assert not plan_of(spec, AVX512)
    assert plan_of(replace(spec, readers=EVERY_STEP), AVX512)


def test_what_it_is() -> None:
    """Windows of 3 x 3, one pixel apart, over channels that lie side by side."""
    spec = spec_of((2, 9, 9, 16), 16)
    assert is_square_convolution(spec)
    down, across, channels = spec.k
    assert is_square_convolution(replace(spec, k=(Axis(3, 1296, 2304), *spec.k)))  # slices
    assert is_square_convolution(replace(spec, batch=(Axis(2, 16, 16),)))  # groups
    assert is_square_convolution(replace(spec, k=(down, replace(across, a=32), channels)))  # dilated
    rows = spec.m[-1]
    for other in (
        replace(spec, k=(down, replace(across, a=24), channels)),  # between pixels
        replace(spec, k=(down, replace(across, a=-16), channels)),  # backwards
        replace(spec, m=(*spec.m[:-1], replace(rows, a=32))),  # strided
        replace(spec, k=(down, replace(across, extent=5), channels)),
        replace(spec, k=(replace(down, extent=2), across, channels)),
        replace(spec, k=(down, across, replace(channels, a=81))),  # channels first
        replace(spec, k=(down, across, replace(channels, extent=symbol("channels")))),
        replace(spec, k=(Axis(symbol("slices"), 1296, 1), *spec.k)),
        replace(spec, dtype="int32"),
    ):
        assert not is_square_convolution(other)


def test_units() -> None:
    """They share out all squares and columns, L2 has room for the squares of each, and enough are there for threads."""
    for shape, o in (((8, 34, 34, 64), 64), ((1, 16, 16, 256), 256), ((8, 9, 9, 512), 512), ((1, 114, 114, 32), 32)):
        plan = plan_of(spec_of(shape, o), AVX512, 0)
        assert plan is not None
        products = plan.products
        assert plan.squares % products.rows == 0
        assert plan.squares * plan.row_blocks >= plan.windows.square_count > plan.squares * (plan.row_blocks - 1)
        assert plan.column_block * plan.column_blocks >= products.column_panels
        assert 16 * plan.image_place * 4 <= AVX512.l2_bytes // 2
        assert 16 <= plan.units <= 64
        for stride in (plan.image_place, plan.sum_place, plan.filter_place):
            assert stride * 4 // 64 % 2 == 1


def test_off(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = spec_of((1, 58, 58, 64), 64)
    monkeypatch.setenv("GRAPHFLOW_WINOGRAD", "0")
    assert plan_of(spec, AVX512) is None
    monkeypatch.setenv("GRAPHFLOW_WINOGRAD", "1")
    assert plan_of(spec, AVX512)
    monkeypatch.setenv("GRAPHFLOW_WINOGRAD", "perhaps")
    with pytest.raises(ValueError, match="GRAPHFLOW_WINOGRAD='perhaps' is neither 0 nor 1"):
        plan_of(spec, AVX512)
