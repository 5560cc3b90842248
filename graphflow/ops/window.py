"""Windows of an image: how many fit, what is padded for them, and the views `Windows`, `Unwindow` and `Interleave`.

    x = pad_space(x, "SAME", (3, 3), (2, 2), (1, 1))                                  # [batch, height, width, c]
    windows(x, first=1, window=(3, 3), strides=(2, 2), dilations=(1, 1))              # [batch, *out, 3, 3, c]

Space is some adjacent axes of an image: from `first` on, as many as the window has.  Whatever stands before and after
(batch, channels) stays where it is, so that images of any layout are read in place.
"""

from __future__ import annotations

import math
from itertools import product as cartesian
from typing import Any

import numpy as np

from graphflow.core.dim import Size, ceildiv
from graphflow.core.node import Node
from graphflow.core.op import Op, case
from graphflow.core.samples import normal
from graphflow.core.type import Shape, TensorType, require, same_shape, static
from graphflow.ops.view import pad, strided_slice, transpose

Sizes = tuple[int, ...]


# how windows lie


def reach_of(window: Size, dilation: int) -> Size:
    """Elements from the first of a window to its last: none of an empty one."""
    return (window - 1) * dilation + 1 if window != 0 else 0


def window_count(size: Size, window: Size, stride: int, dilation: int = 1) -> Size:
    """How many windows fit along an axis; raises ShapeError when none does."""
    reach = reach_of(window, dilation)
    require(
        not (isinstance(size, int) and isinstance(reach, int) and size < reach),
        f"a window of {reach} does not fit an axis of {size}, padding included",
    )
    return (size - reach) // stride + 1


def windows_of(x: Any, window: Sizes, strides: Sizes, dilations: Sizes, first: int = 1) -> Any:
    """Every window of x: [*before, *out, *window, *after] (NumPy)."""
    axes = len(window)
    reach = tuple(map(static, map(reach_of, window, dilations)))
    views = np.lib.stride_tricks.sliding_window_view(x, reach, tuple(range(first, first + axes)))
    views = np.moveaxis(views, tuple(range(x.ndim, x.ndim + axes)), tuple(range(first + axes, first + 2 * axes)))
    steps = (*(slice(None, None, s) for s in strides), *(slice(None, None, d) for d in dilations))
    return views[(slice(None),) * first + steps]


def paddings(padding: Any, size: Size, window: int, stride: int, dilation: int = 1) -> tuple[int, int]:
    """How much SAME, VALID or an explicit (low, high) pads an axis."""
    if isinstance(padding, tuple):
        return padding
    if padding == "VALID":
        return 0, 0
    reach = static(reach_of(window, dilation))
    if stride == 1:
        return (reach - 1) // 2, reach - 1 - (reach - 1) // 2
    total = max((static(ceildiv(size, stride)) - 1) * stride + reach - static(size), 0)
    return total // 2, total - total // 2


def space_paddings(
    padding: Any, space: Shape, window: Sizes, strides: Sizes, dilations: Sizes
) -> tuple[tuple[int, int], ...]:
    """(low, high) of every axis of space; `padding` is one word for all, or a pair for each."""
    each = padding if isinstance(padding, tuple) else (padding,) * len(window)
    return tuple(map(paddings, each, space, window, strides, dilations))


def pad_space(
    x: Node, padding: Any, window: Sizes, strides: Sizes, dilations: Sizes, value: float = 0, first: int = 1
) -> Node:
    """An image padded as TensorFlow's `padding` says."""
    after = x.ndim - first - len(window)
    pairs = space_paddings(padding, x.shape[first : first + len(window)], window, strides, dilations)
    low, high = ((*(0,) * first, *(p[n] for p in pairs), *(0,) * after) for n in (0, 1))
    return pad(x, low=low, high=high, interior=(0,) * x.ndim, value=value)  # type: ignore[no-any-return]


def pad_space_of(
    x: Any, padding: Any, window: Sizes, strides: Sizes, dilations: Sizes, value: float = 0, first: int = 1
) -> Any:
    """`pad_space` by NumPy."""
    after = x.ndim - first - len(window)
    pairs = space_paddings(padding, x.shape[first : first + len(window)], window, strides, dilations)
    return np.pad(x, [*((0, 0),) * first, *pairs, *((0, 0),) * after], constant_values=value)


def space_of(data_format: str) -> int:
    """The axis where space begins: 1 in NHWC and its like, 2 in NCHW."""
    return 2 if data_format == "NCHW" else 1


def channels_last(x: Node, data_format: str) -> Node:
    """x with its channels moved from axis 1 to the end where data_format is NCHW."""
    return transpose(x, perm=(0, *range(2, x.ndim), 1)) if data_format == "NCHW" else x


def channels_as(x: Node, data_format: str) -> Node:
    """The inverse of `channels_last`."""
    return transpose(x, perm=(0, x.ndim - 1, *range(1, x.ndim - 1))) if data_format == "NCHW" else x


# views


def overlap(window: Sizes, strides: Sizes) -> bool:
    """Whether windows share pixels."""
    return any(w > s for w, s in zip(window, strides, strict=True))


class Windows(Op):
    """Every window of x: [*before, *space, *after] -> [*before, *out, *window, *after].

    attrs first: the axis where space begins; window, strides, dilations: one int for each axis of space.
    """

    form = "view"
    cases = (
        case(normal(2, 5, 6, 3), first=1, window=(2, 3), strides=(2, 1), dilations=(1, 1)),
        case(normal(2, 3, 7, 6), first=2, window=(2, 3), strides=(1, 2), dilations=(3, 2)),
    )

    def rereads(
        self, x: TensorType, y: TensorType, *, first: int, window: Sizes, strides: Sizes, dilations: Sizes
    ) -> bool:
        return overlap(window, strides)

    def infer(self, x: TensorType, *, first: int, window: Sizes, strides: Sizes, dilations: Sizes) -> TensorType:
        axes = len(window)
        require(x.ndim >= first + axes, f"{x} has no windows of {axes} axes from axis {first} on")
        out = tuple(map(window_count, x.dims[first : first + axes], window, strides, dilations))
        return x.with_shape((*x.dims[:first], *out, *window, *x.dims[first + axes :]))

    def eval(self, x: Any, *, first: int, window: Sizes, strides: Sizes, dilations: Sizes) -> Any:
        return windows_of(x, window, strides, dilations, first)

    def grad(self, g: Node, y: Node, x: Node, *, first: int, window: Sizes, strides: Sizes, dilations: Sizes) -> Any:
        space = x.shape[first : first + len(window)]
        return unwindow(g, first=first, space=space, window=window, strides=strides, dilations=dilations)

    def index(
        self, k: Any, i: tuple[Size, ...], x: Any, *, first: int, window: Sizes, strides: Sizes, dilations: Sizes
    ) -> Any:
        before, out, taps, after = _parts(i, first, len(window))
        at = [p * s + q * d for p, s, q, d in zip(out, strides, taps, dilations, strict=True)]
        return x[(*before, *at, *after)]


class Unwindow(Op):
    """Every pixel's sum over the windows that hold it: [*before, *out, *window, *after] -> [*before, *space, *after].

    attrs first, space, window, strides, dilations: as those of `Windows`, of which this is the transpose.
    """

    form = "view"
    cost = 12
    cases = (
        case(normal(2, 2, 4, 2, 3, 2), first=1, space=(5, 6), window=(2, 3), strides=(2, 1), dilations=(1, 1)),
        case(normal(2, 2, 2, 2, 2, 3), first=1, space=(5, 4), window=(2, 2), strides=(2, 2), dilations=(1, 1)),
        case(normal(2, 3, 4, 2, 2, 3), first=2, space=(7, 7), window=(2, 3), strides=(1, 2), dilations=(3, 2)),
    )

    def rereads(
        self,
        x: TensorType,
        y: TensorType,
        *,
        first: int,
        space: Shape,
        window: Sizes,
        strides: Sizes,
        dilations: Sizes,
    ) -> bool:
        return overlap(window, strides)

    def infer(
        self, x: TensorType, *, first: int, space: Shape, window: Sizes, strides: Sizes, dilations: Sizes
    ) -> TensorType:
        return x.with_shape((*x.dims[:first], *space, *x.dims[first + 2 * len(window) :]))

    def eval(self, x: Any, *, first: int, space: Shape, window: Sizes, strides: Sizes, dilations: Sizes) -> Any:
        axes = len(window)
        result = np.zeros((*x.shape[:first], *map(static, space), *x.shape[first + 2 * axes :]), x.dtype)
        before, out = (slice(None),) * first, x.shape[first : first + axes]
        for tap in cartesian(*map(range, window)):
            starts = [t * d for t, d in zip(tap, dilations, strict=True)]
            pixels = tuple(slice(t, t + (n - 1) * s + 1, s) for t, n, s in zip(starts, out, strides, strict=True))
            result[(*before, *pixels)] += x[(*before, *(slice(None),) * axes, *tap)]
        return result

    def grad(
        self, g: Node, y: Node, x: Node, *, first: int, space: Shape, window: Sizes, strides: Sizes, dilations: Sizes
    ) -> Any:
        return windows(g, first=first, window=window, strides=strides, dilations=dilations)

    def index(
        self,
        k: Any,
        i: tuple[Size, ...],
        x: Any,
        *,
        first: int,
        space: Shape,
        window: Sizes,
        strides: Sizes,
        dilations: Sizes,
    ) -> Any:
        axes = len(window)
        before, pixel, after = i[:first], i[first : first + axes], i[first + axes :]
        out = x.shape[first : first + axes]
        zero = k.constant(0, x.dtype)
        # An axis is looked through tap by tap where windows have gaps, else window by window: no tap is tried in vain.
        gaps = [d > 1 for d in dilations]
        turns = tuple(w if gap else static(ceildiv(w, s)) for w, s, gap in zip(window, strides, gaps, strict=True))

        def term(turn: tuple[Size, ...]) -> Any:
            """What the tap `turn`, or the window `turn` before the last one that starts before the pixel, holds."""
            starts, taps, conditions = [], [], []
            for p, n, t, w, s, d in zip(pixel, out, turn, window, strides, dilations, strict=True):
                start = (p - t * d) // s if d > 1 else p // s - t
                tap = t if d > 1 else p - start * s
                conditions.append(k.divisible(p - t * d, s) if d > 1 else k.between(tap, 0, w))
                conditions.append(k.between(start, 0, n))
                starts.append(start)
                taps.append(tap)
            return k.guard(conditions, lambda: x[(*before, *starts, *taps, *after)], zero)

        return term((0,) * axes) if all(n == 1 for n in turns) else k.reduce("sum", turns, term)


class Interleave(Op):
    """One image out of those of its phases: element i of an axis of space is element i // s of phase i % s.

    Inputs: one for each phase, in row-major order of phases; attrs first: the axis where space begins; space: the sizes
    of the image; strides: s for each axis of space.
    """

    form = "view"
    cases = (
        case(normal(2, 3, 2), normal(2, 2, 2, seed=1), first=1, space=(5,), strides=(2,)),
        case(normal(1, 2, 3), normal(1, 2, 2, seed=1), first=1, space=(2, 5), strides=(1, 2)),
        case(*(normal(2, 2, 2, 3, seed=n) for n in range(4)), first=1, space=(4, 4), strides=(2, 2)),
    )

    def rereads(self, x: TensorType, y: TensorType, *, first: int, space: Shape, strides: Sizes) -> bool:
        return False

    def infer(self, *xs: TensorType, first: int, space: Shape, strides: Sizes) -> TensorType:
        dims = xs[0].dims
        require(len(xs) == math.prod(strides), f"{len(xs)} images are not the phases of {strides}")
        for x, phase in zip(xs, cartesian(*map(range, strides)), strict=True):
            shape = (*dims[:first], *phase_sizes(space, strides, phase), *dims[first + len(space) :])
            require(same_shape(x.dims, shape) is not None, f"a phase is {x}, not {list(shape)}")
        return xs[0].with_shape((*dims[:first], *space, *dims[first + len(space) :]))

    def eval(self, *xs: Any, first: int, space: Shape, strides: Sizes) -> Any:
        result = np.zeros((*xs[0].shape[:first], *map(static, space), *xs[0].shape[first + len(space) :]), xs[0].dtype)
        for x, phase in zip(xs, cartesian(*map(range, strides)), strict=True):
            result[(*(slice(None),) * first, *(slice(r, None, s) for r, s in zip(phase, strides, strict=True)))] = x
        return result

    def grad(self, g: Node, y: Node, *xs: Node, first: int, space: Shape, strides: Sizes) -> Any:
        rest = y.ndim - first - len(space)
        stride = (*(1,) * first, *strides, *(1,) * rest)
        begins = ((*(0,) * first, *phase, *(0,) * rest) for phase in cartesian(*map(range, strides)))
        return tuple(strided_slice(g, begin=b, stride=stride, shape=x.shape) for b, x in zip(begins, xs, strict=True))

    def index(self, k: Any, i: tuple[Size, ...], *xs: Any, first: int, space: Shape, strides: Sizes) -> Any:
        before, at, after = i[:first], i[first : first + len(space)], i[first + len(space) :]
        result = k.constant(0, xs[0].dtype)
        for x, phase in zip(xs, cartesian(*map(range, strides)), strict=True):
            source = tuple((p - r) // s for p, r, s in zip(at, phase, strides, strict=True))
            own = [k.divisible(p - r, s) for p, r, s in zip(at, phase, strides, strict=True) if s > 1]
            own += [k.between(p, r, n) for p, r, n in zip(at, phase, space, strict=True) if r]
            result = k.guard(own, lambda x=x, source=source: x[(*before, *source, *after)], result)
        return result


def phase_sizes(space: Shape, strides: Sizes, phase: Sizes) -> Shape:
    """How many elements of each axis are those of a phase."""
    return tuple(ceildiv(n - r, s) for n, s, r in zip(space, strides, phase, strict=True))


def _parts(i: tuple[Size, ...], first: int, axes: int) -> tuple[tuple[Size, ...], ...]:
    """An index of `Windows`: before, of the window, in the window, after."""
    return i[:first], i[first : first + axes], i[first + axes : first + 2 * axes], i[first + 2 * axes :]


windows, unwindow, interleave = Windows(), Unwindow(), Interleave()
