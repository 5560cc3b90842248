"""Pooling: the windows of an image as a view, and what is reduced over them.

Windows     [batch, *space, c] -> [batch, *out, *window, c]
Unwindow    its transpose: what several windows hold of one pixel is added up
WindowMax   the largest of each window; its gradient goes to the first largest, as TensorFlow's does
"""

from __future__ import annotations

from itertools import product as cartesian
from typing import Any

import numpy as np

from graphflow.core.dim import Size, ceildiv
from graphflow.core.dtype import int32
from graphflow.core.node import Node
from graphflow.core.op import Op, case, composite
from graphflow.core.samples import normal, spaced
from graphflow.core.type import Shape, TensorType, require, static
from graphflow.ops.contract import Sizes, channels_as, channels_last, pad_space, paddings, window_count, windows_of
from graphflow.ops.elementwise import equal, select
from graphflow.ops.leaf import constant
from graphflow.ops.reduce import reduce_argmax, reduce_sum
from graphflow.ops.view import broadcast_to, iota, reshape


def overlap(*, window: Sizes, strides: Sizes, **_: Any) -> bool:
    """Whether windows share pixels."""
    return any(w > s for w, s in zip(window, strides, strict=True))


class Windows(Op):
    """Every window of x: [batch, *space, c] -> [batch, *out, *window, c].  attrs window, strides."""

    form = "view"
    cases = (case(normal(2, 5, 6, 3), window=(2, 3), strides=(2, 1)),)

    def rereads(self, x: TensorType, y: TensorType, **attrs: Any) -> bool:
        return overlap(**attrs)

    def infer(self, x: TensorType, *, window: Sizes, strides: Sizes) -> TensorType:
        require(x.ndim == len(window) + 2, f"{x} does not fit windows of {len(window)} axes")
        out = tuple(map(window_count, x.dims[1:-1], window, strides))
        return x.with_shape((x.dims[0], *out, *window, x.dims[-1]))

    def eval(self, x: Any, *, window: Sizes, strides: Sizes) -> Any:
        return windows_of(x, window, strides, (1,) * len(window))

    def grad(self, g: Node, y: Node, x: Node, *, window: Sizes, strides: Sizes) -> Any:
        return unwindow(g, space=x.shape[1:-1], window=window, strides=strides)

    def index(self, k: Any, i: tuple[Size, ...], x: Any, *, window: Sizes, strides: Sizes) -> Any:
        axes = len(window)
        at = [p * s + q for p, s, q in zip(i[1 : axes + 1], strides, i[axes + 1 : -1], strict=True)]
        return x[(i[0], *at, i[-1])]


class Unwindow(Op):
    """Every pixel's sum over the windows that hold it: [batch, *out, *window, c] -> [batch, *space, c].

    attrs space, window, strides.
    """

    form = "view"
    cost = 12
    cases = (
        case(normal(2, 2, 4, 2, 3, 2), space=(5, 6), window=(2, 3), strides=(2, 1)),
        case(normal(2, 2, 2, 2, 2, 3), space=(5, 4), window=(2, 2), strides=(2, 2)),
    )

    def rereads(self, x: TensorType, y: TensorType, **attrs: Any) -> bool:
        return overlap(**attrs)

    def infer(self, x: TensorType, *, space: Shape, window: Sizes, strides: Sizes) -> TensorType:
        return x.with_shape((x.dims[0], *space, x.dims[-1]))

    def eval(self, x: Any, *, space: Shape, window: Sizes, strides: Sizes) -> Any:
        result = np.zeros((x.shape[0], *map(static, space), x.shape[-1]), x.dtype)
        out = x.shape[1 : 1 + len(window)]
        for tap in cartesian(*map(range, window)):
            pixels = tuple(slice(t, t + (n - 1) * s + 1, s) for t, n, s in zip(tap, out, strides, strict=True))
            result[(slice(None), *pixels)] += x[(slice(None),) * (1 + len(window)) + tap]
        return result

    def grad(self, g: Node, y: Node, x: Node, *, space: Shape, window: Sizes, strides: Sizes) -> Any:
        return windows(g, window=window, strides=strides)

    def index(self, k: Any, i: tuple[Size, ...], x: Any, *, space: Shape, window: Sizes, strides: Sizes) -> Any:
        axes = len(window)
        out = x.shape[1 : axes + 1]
        zero = k.constant(0, x.dtype)

        def term(turns: tuple[Size, ...]) -> Any:
            """The window `turns` before the last one that starts at or before the pixel."""
            starts = [p // s - t for p, s, t in zip(i[1:-1], strides, turns, strict=True)]
            taps = [p - n * s for p, s, n in zip(i[1:-1], strides, starts, strict=True)]
            held = [k.between(t, 0, w) for t, w in zip(taps, window, strict=True)]
            there = [k.between(n, 0, o) for n, o in zip(starts, out, strict=True)]
            return k.guard(held + there, lambda: x[(i[0], *starts, *taps, i[-1])], zero)

        overlap = tuple(static(ceildiv(w, s)) for w, s in zip(window, strides, strict=True))
        return term((0,) * axes) if all(n == 1 for n in overlap) else k.reduce("sum", overlap, term)


class WindowMax(Op):
    """The largest of each window: [batch, *space, c] -> [batch, *out, c].  attrs window, strides."""

    form = "reduction"
    cases = (
        case(spaced(2, 4, 6, 3), window=(2, 2), strides=(2, 2)),
        case(spaced(1, 5, 6, 2), window=(3, 2), strides=(1, 2)),
    )

    def rereads(self, x: TensorType, y: TensorType, **attrs: Any) -> bool:
        return overlap(**attrs)

    def infer(self, x: TensorType, *, window: Sizes, strides: Sizes) -> TensorType:
        out = tuple(map(window_count, x.dims[1:-1], window, strides))
        return x.with_shape((x.dims[0], *out, x.dims[-1]))

    def eval(self, x: Any, *, window: Sizes, strides: Sizes) -> Any:
        patches = windows_of(x, window, strides, (1,) * len(window))
        return patches.max(axis=tuple(range(1 + len(window), 1 + 2 * len(window))))

    def grad(self, g: Node, y: Node, x: Node, *, window: Sizes, strides: Sizes) -> Any:
        axes = len(window)
        patches = windows(x, window=window, strides=strides)
        first = reduce_argmax(patches, axes=tuple(range(1 + axes, 1 + 2 * axes)), dtype=int32)
        apart = (*y.shape[:-1], *(1,) * axes, y.shape[-1])
        taps = reshape(iota.node(shape=(int(np.prod(window)),), axis=0, dtype=int32), shape=(*window, 1))
        here = equal(
            broadcast_to(reshape(first, shape=apart), shape=patches.shape), broadcast_to(taps, shape=patches.shape)
        )
        spread_g = broadcast_to(reshape(g, shape=apart), shape=patches.shape)
        return unwindow(select(here, spread_g, 0), space=x.shape[1:-1], window=window, strides=strides)

    def index(self, k: Any, i: tuple[Size, ...], x: Any, *, window: Sizes, strides: Sizes) -> Any:
        def pixel(tap: tuple[Size, ...]) -> Any:
            return x[(i[0], *(p * s + t for p, s, t in zip(i[1:-1], strides, tap, strict=True)), i[-1])]

        return k.reduce("max", window, pixel)


windows, unwindow, window_max = Windows(), Unwindow(), WindowMax()


def max_pool_node(x: Node, *, window: Sizes, strides: Sizes, padding: Any, data_format: str = "NHWC") -> Node:
    """The largest of each window; what is padded never wins."""
    image = channels_last(x, data_format)
    lowest = float("-inf") if x.dtype.is_floating else int(x.dtype.min)
    image = pad_space(image, padding, window, strides, (1,) * len(window), lowest)
    return channels_as(window_max(image, window=window, strides=strides), data_format)


def avg_pool_node(x: Node, *, window: Sizes, strides: Sizes, padding: Any, data_format: str = "NHWC") -> Node:
    """The mean of each window; what is padded does not count."""
    image = channels_last(x, data_format)

    def total(y: Node) -> Node:
        padded = pad_space(y, padding, window, strides, (1,) * len(window))
        axes = tuple(range(1 + len(window), 1 + 2 * len(window)))
        return reduce_sum(windows(padded, window=window, strides=strides), axes=axes)  # type: ignore[no-any-return]

    if padding == "VALID":
        return channels_as(total(image) / int(np.prod(window)), data_format)
    count = total(broadcast_to(constant(1, x.dtype), shape=(1, *image.shape[1:-1], 1)))
    return channels_as(total(image) / count, data_format)


def _pool_eval(reduce_: Any, fill: float) -> Any:
    def eval_(x: Any, *, window: Sizes, strides: Sizes, padding: Any, data_format: str = "NHWC") -> Any:
        image = np.moveaxis(x, 1, -1) if data_format == "NCHW" else x
        each = padding if isinstance(padding, tuple) else (padding,) * len(window)
        pairs = [paddings(p, *rest) for p, *rest in zip(each, image.shape[1:-1], window, strides, strict=True)]
        image = np.pad(image, [(0, 0), *pairs, (0, 0)], constant_values=fill)
        patches = windows_of(image, window, strides, (1,) * len(window))
        y = reduce_(patches, axis=tuple(range(1 + len(window), 1 + 2 * len(window))))
        return np.moveaxis(y, -1, 1) if data_format == "NCHW" else y

    return eval_


def _pool_cases() -> list[Any]:
    return [
        case(spaced(2, 4, 6, 3), window=(2, 2), strides=(2, 2), padding="VALID"),
        case(spaced(1, 5, 6, 2), window=(3, 2), strides=(2, 2), padding="SAME"),
        case(spaced(1, 2, 5, 5), window=(3, 3), strides=(1, 1), padding="SAME", data_format="NCHW"),
    ]


max_pool = composite(
    "MaxPool",
    doc=max_pool_node.__doc__ or "",
    expand=max_pool_node,
    eval=_pool_eval(np.max, -np.inf),
    cases=_pool_cases(),
)
avg_pool = composite(
    "AvgPool",
    doc=avg_pool_node.__doc__ or "",
    expand=avg_pool_node,
    eval=_pool_eval(np.nanmean, np.nan),
    cases=_pool_cases(),
)
