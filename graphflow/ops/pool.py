"""Pooling: what is reduced over the windows of an image, in any number of axes.

WindowMax   the largest of each window; its gradient goes to the first largest, as TensorFlow's does
MaxPool     of a padded image
AvgPool     the mean of each window; what is padded does not count
"""

from __future__ import annotations

from typing import Any

import numpy as np

from graphflow.core.dim import Size
from graphflow.core.dtype import int32
from graphflow.core.node import Node
from graphflow.core.op import Case, Op, case, composite
from graphflow.core.samples import spaced
from graphflow.core.type import TensorType, require
from graphflow.ops.elementwise import equal, select
from graphflow.ops.leaf import constant
from graphflow.ops.reduce import reduce_argmax, reduce_sum
from graphflow.ops.view import broadcast_to, iota, reshape
from graphflow.ops.window import (
    Sizes,
    overlap,
    pad_space,
    pad_space_of,
    space_of,
    unwindow,
    window_count,
    windows,
    windows_of,
)


class WindowMax(Op):
    """The largest of each window: [*before, *space, *after] -> [*before, *out, *after].

    attrs first: the axis where space begins; window, strides, dilations: one int for each axis of space.
    """

    form = "reduction"
    cases = (
        case(spaced(2, 4, 6, 3), first=1, window=(2, 2), strides=(2, 2), dilations=(1, 1)),
        case(spaced(1, 5, 6, 2), first=1, window=(3, 2), strides=(1, 2), dilations=(1, 1)),
        case(spaced(2, 2, 5, 6), first=2, window=(2, 3), strides=(2, 1), dilations=(1, 2)),
    )

    def rereads(
        self, x: TensorType, y: TensorType, *, first: int, window: Sizes, strides: Sizes, dilations: Sizes
    ) -> bool:
        return overlap(window, strides)

    def infer(self, x: TensorType, *, first: int, window: Sizes, strides: Sizes, dilations: Sizes) -> TensorType:
        end = first + len(window)
        out = tuple(map(window_count, x.dims[first:end], window, strides, dilations))
        return x.with_shape((*x.dims[:first], *out, *x.dims[end:]))

    def eval(self, x: Any, *, first: int, window: Sizes, strides: Sizes, dilations: Sizes) -> Any:
        return windows_of(x, window, strides, dilations, first).max(axis=_taps(first, len(window)))

    def grad(self, g: Node, y: Node, x: Node, *, first: int, window: Sizes, strides: Sizes, dilations: Sizes) -> Any:
        end = first + len(window)
        patches = windows(x, first=first, window=window, strides=strides, dilations=dilations)
        at = reduce_argmax(patches, axes=_taps(first, len(window)), dtype=int32)
        apart = (*y.shape[:end], *(1,) * len(window), *y.shape[end:])
        taps = iota.node(shape=(int(np.prod(window)),), axis=0, dtype=int32)
        taps = reshape(taps, shape=(*window, *(1,) * (y.ndim - end)))
        here = equal(
            broadcast_to(reshape(at, shape=apart), shape=patches.shape), broadcast_to(taps, shape=patches.shape)
        )
        taken = select(here, broadcast_to(reshape(g, shape=apart), shape=patches.shape), 0)
        space = x.shape[first:end]
        return unwindow(taken, first=first, space=space, window=window, strides=strides, dilations=dilations)

    def index(
        self, k: Any, i: tuple[Size, ...], x: Any, *, first: int, window: Sizes, strides: Sizes, dilations: Sizes
    ) -> Any:
        end = first + len(window)

        def pixel(tap: tuple[Size, ...]) -> Any:
            at = (p * s + t * d for p, s, t, d in zip(i[first:end], strides, tap, dilations, strict=True))
            return x[(*i[:first], *at, *i[end:])]

        return k.reduce("max", window, pixel)


def _taps(first: int, axes: int) -> tuple[int, ...]:
    """The axes of what `windows` makes that lie within a window."""
    return tuple(range(first + axes, first + 2 * axes))


window_max = WindowMax()


def max_pool_node(
    x: Node, *, window: Sizes, strides: Sizes, padding: Any, dilations: Sizes = (), data_format: str = "NHWC"
) -> Node:
    """The largest of each window; what is padded never wins."""
    check_pool(x, window)
    first, dilations = space_of(data_format), dilations or (1,) * len(window)
    lowest = float("-inf") if x.dtype.is_floating else int(x.dtype.min)
    image = pad_space(x, padding, window, strides, dilations, lowest, first)
    return window_max(image, first=first, window=window, strides=strides, dilations=dilations)  # type: ignore[no-any-return]


def avg_pool_node(
    x: Node, *, window: Sizes, strides: Sizes, padding: Any, dilations: Sizes = (), data_format: str = "NHWC"
) -> Node:
    """The mean of each window; what is padded does not count."""
    check_pool(x, window)
    require(x.dtype.is_floating, f"{x.type} is not of floats")
    first, dilations = space_of(data_format), dilations or (1,) * len(window)

    def total(y: Node) -> Node:
        image = pad_space(y, padding, window, strides, dilations, 0, first)
        patches = windows(image, first=first, window=window, strides=strides, dilations=dilations)
        return reduce_sum(patches, axes=_taps(first, len(window)))  # type: ignore[no-any-return]

    if padding == "VALID":
        return total(x) / int(np.prod(window))  # type: ignore[no-any-return]
    space = x.shape[first : first + len(window)]
    shape = (*(1,) * first, *space, *(1,) * (x.ndim - first - len(window)))
    return total(x) / total(broadcast_to(constant(1, x.dtype), shape=shape))  # type: ignore[no-any-return]


def check_pool(x: Node, window: Sizes) -> None:
    """Raise ShapeError unless x is a batch of images with channels."""
    require(x.ndim == len(window) + 2, f"an image of {len(window) + 2} axes is needed, not {x.type}")


def _pool_eval(reduce_: Any, fill: float) -> Any:
    def eval_(
        x: Any, *, window: Sizes, strides: Sizes, padding: Any, dilations: Sizes = (), data_format: str = "NHWC"
    ) -> Any:
        first, dilations = space_of(data_format), dilations or (1,) * len(window)
        image = pad_space_of(x, padding, window, strides, dilations, fill, first)
        return reduce_(windows_of(image, window, strides, dilations, first), axis=_taps(first, len(window)))

    return eval_


def _pool_cases() -> list[Case]:
    return [
        case(spaced(2, 4, 6, 3), window=(2, 2), strides=(2, 2), padding="VALID"),
        case(spaced(1, 5, 6, 2), window=(3, 2), strides=(2, 2), padding="SAME"),
        case(spaced(1, 2, 5, 5), window=(3, 3), strides=(1, 1), padding="SAME", data_format="NCHW"),
        case(spaced(1, 2, 6, 7), window=(2, 3), strides=(1, 1), padding="SAME", dilations=(2, 3), data_format="NCHW"),
    ]


def _pool3d_cases() -> list[Case]:
    return [
        case(spaced(1, 4, 5, 4, 3), window=(2, 2, 2), strides=(2, 2, 2), padding="SAME"),
        case(spaced(1, 2, 4, 3, 5), window=(2, 3, 2), strides=(1, 1, 2), padding="VALID", data_format="NCHW"),
    ]


def _pool(name: str, expand: Any, reference: Any, cases: list[Case]) -> Any:
    return composite(name, doc=expand.__doc__ or "", expand=expand, eval=reference, cases=cases)


_max, _mean = _pool_eval(np.max, -np.inf), _pool_eval(np.nanmean, np.nan)
max_pool = _pool("MaxPool", max_pool_node, _max, _pool_cases())
avg_pool = _pool("AvgPool", avg_pool_node, _mean, _pool_cases())
max_pool3d = _pool("MaxPool3D", max_pool_node, _max, _pool3d_cases())
avg_pool3d = _pool("AvgPool3D", avg_pool_node, _mean, _pool3d_cases())
