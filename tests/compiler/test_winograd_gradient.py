"""Gradients of filters by Winograd's minimal filtering, beside the direct ones and NumPy's."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphflow.compiler.llvm.contract.emit import Axis, Contraction
from graphflow.compiler.llvm.target import AVX2, AVX512, NEON, SSE2, Target
from graphflow.compiler.llvm.winograd import gradient_choose
from graphflow.compiler.llvm.winograd.gradient_choose import is_filter_gradient
from graphflow.compiler.llvm.winograd.gradient_plan import GradientPlan
from graphflow.core.dim import Size, symbol
from tests.compiler.contractions import HOST, ORDERS, TARGETS, Kernel, guarded, random

GAIN, UNITS = gradient_choose.LEAST_GAIN, gradient_choose.LEAST_UNITS


@pytest.fixture(scope="module", autouse=True)
def always() -> Iterator[None]:
    """Whether it pays or not."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gradient_choose, "LEAST_GAIN", 0)
        patch.setattr(gradient_choose, "LEAST_UNITS", 0)
        yield


@dataclass(frozen=True)
class Case:
    """VALID convolution of x[b, d, h, w, groups, c] with w[slices, 3, 3, c, groups, o].

    `y` are b, d, h, w of the results, whose gradients are g[b, d, h, w, groups, o].
    """

    y: tuple[int, int, int, int]
    c: int
    o: int
    groups: int = 1
    slices: int = 1
    dilations: tuple[int, int] = (1, 1)

    @property
    def x(self) -> tuple[int, ...]:
        b, d, h, w = self.y
        down, across = self.dilations
        return b, d + self.slices - 1, h + 2 * down, w + 2 * across, self.groups, self.c

    @property
    def g(self) -> tuple[int, ...]:
        return (*self.y, self.groups, self.o)

    def spec(self, dtype: str = "float32", batch: Size | None = None) -> Contraction:
        """As a contraction: batch are groups, m the filter's axes but the last, k those of the results."""
        of_x, of_g = (np.cumprod([1, *shape[:0:-1]])[::-1].tolist() for shape in (self.x, self.g))
        down, across = self.dilations
        m = (
            Axis(self.slices, of_x[1], 0),
            Axis(3, down * of_x[2], 0),
            Axis(3, across * of_x[3], 0),
            Axis(self.c, 1, 0),
        )
        extents = (self.y[0] if batch is None else batch, *self.y[1:])
        k = tuple(Axis(*axis) for axis in zip(extents, of_x, of_g, strict=False))
        groups = (Axis(self.groups, self.c, self.o),) if self.groups > 1 else ()
        return Contraction(dtype, groups, m if self.slices > 1 else m[1:], Axis(self.o, 0, 1), k)

    def of(self, x: np.ndarray, g: np.ndarray) -> np.ndarray:
        """By NumPy, in long doubles: [group, slice, 3, 3, c, o]."""
        wide, gradients = x.astype(np.longdouble), g.astype(np.longdouble)
        result = np.zeros((self.groups, self.slices, 3, 3, self.c, self.o), np.longdouble)
        _, d, h, w = self.y
        with np.errstate(invalid="ignore", over="ignore"):
            for s, i, j in product(range(self.slices), range(3), range(3)):
                down, across = i * self.dilations[0], j * self.dilations[1]
                part = wide[:, s : s + d, down : down + h, across : across + w]
                result[:, s, i, j] = np.einsum("bdhwgc,bdhwgo->gco", part, gradients)
            return result.astype(x.dtype)


def check(kernel: Kernel, case: Case, x: np.ndarray, g: np.ndarray) -> None:
    expected = case.of(x, g)
    tolerance = np.finfo(x.dtype).eps * 16 * max(1, x[..., 0, 0].size)
    got = kernel(x, g).reshape(expected.shape)
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=tolerance)


def kernel_of(case: Case, target: Target = HOST, dtype: str = "float32", *, symbolic: bool = False) -> Kernel:
    spec = case.spec(dtype, symbol("batch") if symbolic else None)
    assert gradient_choose.gradient_plan(spec, target)
    return Kernel(spec, target, {"batch": case.y[0]})


YS = st.tuples(st.integers(1, 3), st.integers(1, 2), st.integers(1, 9), st.integers(1, 9))
CHANNELS = st.sampled_from([1, 3, 7, 16, 20, 33])
COLUMNS = st.sampled_from([1, 5, 16, 40, 70])


@settings(max_examples=60, deadline=None)
@given(YS, CHANNELS, COLUMNS, st.sampled_from(sorted(TARGETS)), st.booleans())
def test_gradient(y: tuple[int, int, int, int], c: int, o: int, target: str, symbolic: bool) -> None:
    """Any sizes, and nothing outside image and gradients is read."""
    case = Case(y, c, o)
    x, g = random(case.x), random(case.g, seed=1)
    check(kernel_of(case, TARGETS[target], symbolic=symbolic), case, guarded(x, o != 5), guarded(g, o != 5))


NOT_FINITE = st.tuples(st.booleans(), st.integers(0, 10**6), st.sampled_from([np.nan, np.inf, -np.inf]))


@settings(max_examples=100, deadline=None)
@given(
    YS,
    CHANNELS,
    COLUMNS,
    st.integers(1, 3),
    st.integers(1, 3),
    st.tuples(st.integers(1, 4), st.integers(1, 4)),
    st.sampled_from(sorted(TARGETS)),
    st.booleans(),
    st.lists(NOT_FINITE, max_size=2),
)
def test_slices_groups_and_dilations(
    y: tuple[int, int, int, int],
    c: int,
    o: int,
    groups: int,
    slices: int,
    dilations: tuple[int, int],
    target: str,
    symbolic: bool,
    odd: list[tuple[bool, int, float]],
) -> None:
    """Windows of three axes, groups, pixels apart, infinities and NaN included; nothing outside is read."""
    case = Case(y, c, o, groups, slices, dilations)
    x, g = random(case.x), random(case.g, seed=1)
    for of_image, place, value in odd:
        array = (x if of_image else g).reshape(-1)
        array[place % array.size] = value
    check(kernel_of(case, TARGETS[target], symbolic=symbolic), case, guarded(x, o != 5), guarded(g, o != 5))


@pytest.mark.parametrize("channels, columns", [(16, 16), (32, 80), (48, 32)])
@pytest.mark.parametrize("splits, passes", [(1, 1), (1, 2), (8, 2), (32, 1)])
def test_cuts(channels: int, columns: int, splits: int, passes: int) -> None:
    """Blocks of channels and columns, whole or not, parts and blocks of squares, and passes: all give the same."""
    case = Case((2, 1, 9, 12), 40, 75)
    target = replace(HOST, l2_bytes=1 << 24 if passes == 1 else 1 << 13)
    shape = gradient_choose.unit_tile(case.spec(), channels, columns, target)
    plan = gradient_choose.cut(case.spec(), channels, columns, splits, shape, target)
    assert plan.passes == passes
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gradient_choose, "plans", lambda spec, target: [plan])
        kernel = Kernel(case.spec(), target)
    assert len(kernel.code.launches) == (1 if splits == 1 else 2)
    check(kernel, case, guarded(random(case.x), True), guarded(random(case.g, seed=1), True))


@pytest.mark.parametrize("target", TARGETS)
def test_doubles(target: str) -> None:
    case = Case((2, 1, 9, 8), 21, 19)
    x, g = random(case.x, "float64"), random(case.g, "float64", 1)
    check(kernel_of(case, TARGETS[target], "float64"), case, x, g)


def test_images_of_any_height_and_width() -> None:
    """Symbolic sizes: how many squares there are, and which are halves, is known at run time."""
    height, width = symbol("height", hint=9), symbol("width", hint=9)
    for h, w in ((1, 1), (8, 5), (5, 12)):
        case = Case((2, 1, h, w), 6, 9)
        line = (width + 2) * 6
        m = (Axis(3, line, 0), Axis(3, 6, 0), Axis(6, 1, 0))
        k = (Axis(2, (height + 2) * line, height * width * 9), Axis(height, line, width * 9), Axis(width, 6, 9))
        kernel = Kernel(replace(case.spec(), m=m, k=k), symbols={"height": h, "width": w})
        check(kernel, case, guarded(random(case.x), True), guarded(random(case.g, seed=1), True))


def test_no_images() -> None:
    """A sum of nothing is zero, also where it is known at run time only."""
    case = Case((0, 1, 6, 7), 5, 20)
    got = kernel_of(case, symbolic=True)(random(case.x), random(case.g))
    np.testing.assert_array_equal(got, np.zeros_like(got))
    no_groups = replace(Case((2, 1, 6, 7), 5, 20).spec(), batch=(Axis(0, 5, 20),))
    for spec in (case.spec(), no_groups):
        assert gradient_choose.gradient_plan(spec, HOST) is None


def test_pixels_apart() -> None:
    """Strides need not be those of a dense image, nor rows be rows: upside down, every other pixel of each line."""
    case = Case((2, 1, 7, 9), 6, 9)
    x, g = random((2, 1, 9, 22, 1, 6)), random(case.g, seed=1)
    spec = case.spec()
    steps = (9 * 22 * 6, 9 * 22 * 6, -22 * 6, 12)
    k = tuple(replace(axis, a=step) for axis, step in zip(spec.k, steps, strict=True))
    m = (*(replace(axis, a=step) for axis, step in zip(spec.m[:2], steps[2:], strict=True)), spec.m[2])
    kernel = Kernel(replace(spec, m=m, k=k, a_offset=8 * 22 * 6))
    expected = case.of(x[:, :, ::-1, ::2], g)
    np.testing.assert_allclose(kernel(x, g).reshape(expected.shape), expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("order", ORDERS)
def test_the_same_bits(order: str) -> None:
    """Whoever computes which unit."""
    case = Case((5, 1, 17, 19), 24, 70)
    x, g = random(case.x), random(case.g, seed=1)
    kernel = kernel_of(case, TARGETS["small caches"])
    assert kernel.code.launches[0].units >= 4
    assert kernel(x, g, ORDERS[order]).tobytes() == kernel(x, g).tobytes()


ODD = st.sampled_from([np.nan, np.inf, -np.inf, 0.0, -0.0, 1e-40])
LARGE = st.sampled_from([1e37, -1e37])
CHANGE = st.tuples(st.booleans(), st.integers(0, 10**6), st.one_of(ODD, LARGE))


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from([(1, 1, 3, 4), (2, 1, 6, 5), (1, 1, 1, 7)]),
    st.sampled_from([3, 20]),
    st.sampled_from([4, 40]),
    st.sampled_from(["host", "sse2", "avx2"]),
    st.lists(CHANGE, min_size=1, max_size=5),
)
def test_infinities_and_nan(
    y: tuple[int, int, int, int], c: int, o: int, target: str, odd: list[tuple[bool, int, float]]
) -> None:
    """Anywhere in image and gradients: results that depend on them are as NumPy has them, and no others change."""
    case = Case(y, c, o)
    x, g = np.round(random(case.x)), np.round(random(case.g, seed=1))
    has_large = False
    for of_image, place, value in odd:
        # Five of them times any of the others are less than the largest number: no sum overflows, in whatever order.
        of_image = of_image or abs(value) == 1e37
        has_large |= abs(value) == 1e37
        array = x if of_image else g
        array.reshape(-1)[place % array.size] = value
    expected = case.of(x, g)
    # A pixel is rounded with its neighbours: also where one of them meets a zero.
    scale = 1e38 if has_large else 1.0
    got = kernel_of(case, TARGETS[target])(guarded(x, True), guarded(g, True)).reshape(expected.shape)
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-4 + 1e-6 * (scale if has_large else 0))
    np.testing.assert_array_equal(np.isfinite(got), np.isfinite(expected))


@pytest.mark.parametrize("of_image", [True, False])
def test_sums_that_only_the_transforms_know_overflow(of_image: bool) -> None:
    """Differences of pixels, sums of gradients, and their products are beyond the largest number; no result is."""
    case = Case((1, 1, 6, 7), 20, 36)
    rng = np.random.default_rng(3)
    signs = rng.choice([-3e38, 3e38], case.x if of_image else case.g).astype(np.float32)
    other = np.float32(1e-3) * random(case.g if of_image else case.x)
    x, g = (signs, other) if of_image else (other, signs)
    expected = case.of(x, g)
    assert np.isfinite(expected).all()
    got = kernel_of(case)(x, g).reshape(expected.shape)
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=3e33)


def test_zeros_have_no_sign() -> None:
    """As with the direct products, whose sums start from zero."""
    case = Case((1, 1, 4, 5), 5, 4)
    got = kernel_of(case)(-np.zeros(case.x, np.float32), random(case.g))
    assert not np.signbit(got).any()
    assert not got.any()


@pytest.mark.parametrize(
    "dtype, spread, worse", [("float32", 1.0, (1, 1.1)), ("float64", 1.0, (1, 1.1)), ("float32", 1e3, (4, 1.6))]
)
def test_rounding(dtype: str, spread: float, worse: tuple[float, float]) -> None:
    """The largest and the mean error in the sum of |x| |g|, beside a direct sum's: `transform.py` says which."""
    case = Case((2, 1, 16, 16), 64, 64)
    rng = np.random.default_rng(5)
    x, g = (
        (rng.standard_normal(shape) * spread ** rng.uniform(-1, 1, shape)).astype(dtype) for shape in (case.x, case.g)
    )
    exact = case.of(x.astype(np.longdouble), g.astype(np.longdouble))
    scale = case.of(np.abs(x).astype(np.longdouble), np.abs(g).astype(np.longdouble))
    errors = {}
    for name, gain in (("winograd", 0.0), ("direct", np.inf)):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(gradient_choose, "LEAST_GAIN", gain)
            got = Kernel(case.spec(dtype))(x, g).reshape(exact.shape)
        error = np.abs(got - exact) / scale / np.finfo(dtype).eps
        errors[name] = float(error.max()), float(error.mean())
    for got, direct, limit in zip(errors["winograd"], errors["direct"], worse, strict=True):
        assert got < limit * direct


def plan_of(case: Case, target: Target, gain: float = GAIN, dtype: str = "float32") -> GradientPlan | None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gradient_choose, "LEAST_GAIN", gain)
        patch.setattr(gradient_choose, "LEAST_UNITS", UNITS)
        return gradient_choose.gradient_plan(case.spec(dtype), target)


@pytest.mark.parametrize("target", [AVX512, AVX2, SSE2, NEON], ids=["avx512", "avx2", "sse2", "neon"])
def test_where_it_pays(target: Target) -> None:
    """Enough channels, and squares."""
    assert plan_of(Case((1, 1, 56, 56), 64, 64), target)
    assert plan_of(Case((8, 1, 28, 28), 128, 128), target)
    assert plan_of(Case((8, 1, 28, 28), 128, 128), target, dtype="float64")
    assert not plan_of(Case((8, 1, 224, 224), 1, 64), target)
    assert not plan_of(Case((8, 1, 32, 32), 1, 64), target)
    assert not plan_of(Case((64, 1, 1, 1), 64, 64), target)  # a square for each pixel
    assert not plan_of(Case((1, 1, 8, 8), 16, 16), target)


def test_what_it_is() -> None:
    """Windows of 3 x 3, one pixel apart, over channels that lie side by side, as are those of the gradients."""
    spec = Case((2, 1, 7, 7), 16, 16).spec()
    assert is_filter_gradient(spec)
    assert is_filter_gradient(Case((2, 3, 7, 7), 16, 16, slices=3).spec())
    assert is_filter_gradient(Case((2, 1, 7, 7), 16, 16, groups=2).spec())
    assert is_filter_gradient(Case((2, 1, 7, 7), 16, 16, dilations=(1, 2)).spec())
    down, across, channels = spec.m
    for other in (
        replace(spec, m=(down, replace(across, a=24), channels)),  # between pixels
        replace(spec, m=(down, replace(across, a=-16), channels)),  # backwards
        replace(spec, k=(*spec.k[:-1], replace(spec.k[-1], a=32))),  # strided
        replace(spec, m=(down, replace(across, extent=5), channels)),
        replace(spec, m=(replace(down, extent=2), across, channels)),
        replace(spec, m=(down, across, replace(channels, a=81))),  # channels first
        replace(spec, n=replace(spec.n, b=49)),
        replace(spec, n=replace(spec.n, extent=symbol("columns"))),
        replace(spec, m=(down, across, replace(channels, extent=symbol("channels")))),
        replace(spec, dtype="int32"),
    ):
        assert not is_filter_gradient(other)


def test_units() -> None:
    """They share out all channels, columns and squares, L2 has room for a block's transforms, and threads have work."""
    for y, c, o in (((8, 1, 32, 32), 64, 64), ((1, 1, 14, 14), 256, 256), ((8, 1, 7, 7), 512, 512)):
        plan = plan_of(Case(y, c, o), AVX512, 0)
        assert plan is not None
        products = plan.products
        assert plan.channel_block * plan.channel_blocks >= c > plan.channel_block * (plan.channel_blocks - 1)
        width = plan.column_block * products.width
        assert width * plan.column_blocks >= o > width * (plan.column_blocks - 1)
        pieces = plan.pass_places * (plan.image_place + plan.gradient_place)
        assert pieces * 4 <= AVX512.l2_bytes // 2
        assert 8 <= plan.units <= 64
        for stride in (plan.image_place, plan.gradient_place, plan.sum_place):
            assert stride * 4 // 64 % 2 == 1


def test_off(monkeypatch: pytest.MonkeyPatch) -> None:
    case = Case((1, 1, 56, 56), 64, 64)
    monkeypatch.setenv("GRAPHFLOW_WINOGRAD", "0")
    assert plan_of(case, AVX512) is None
    monkeypatch.setenv("GRAPHFLOW_WINOGRAD", "1")
    assert plan_of(case, AVX512)
