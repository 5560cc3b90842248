"""Convolutions of images in wide padding are computed part by part, each by the taps that meet pixels there.

    Conv(Pad(x: [2, 33, 33, 256], 12 pixels around), w: [3, 3, 256, 256], dilations=(12, 12))

is nine convolutions of parts of x, one beside the other: 12 x 12 windows in each corner have pixels under four taps
only, and those in the middle under all nine.  That leaves 57 % of the products, and no padded image.

Assumes: a simplified program.  Guarantees: the same values; zero times a tap that is not finite is NaN, and is added.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import pairwise
from itertools import product as cartesian
from typing import Any

from graphflow.compiler.program import TensorProgram
from graphflow.compiler.rewrite import rewrite
from graphflow.core.dim import estimate, product
from graphflow.core.node import Node
from graphflow.core.op import broadcast_node
from graphflow.core.type import is_static, static
from graphflow.ops.contract import WINOGRAD, conv
from graphflow.ops.elementwise import add
from graphflow.ops.reduce import reduce_sum
from graphflow.ops.view import concat, reshape, strided_slice

__all__ = ["trim"]

LEAST_RUN = 4
"""Fewer windows beside each other take as long as so many: a tile of few rows waits for its sums."""

TAP_COST = 32
"""As many windows as it takes to pack a tap for a part."""

LEAST_SAVED = 1 << 24
"""Multiply-adds to save, which are worth the launches of more kernels, and compiling them."""

LEAST_GAIN = 1.1
"""How many times fewer multiply-adds the parts have to take."""


@dataclass(frozen=True)
class Run:
    """Windows along an axis, from `start` to before `stop`, that have pixels under the same taps, and the first pixel
    under the first of them."""

    start: int
    stop: int
    taps: range
    pixel: int

    @property
    def products(self) -> int:
        """Of windows and taps."""
        return max(self.stop - self.start, LEAST_RUN) * len(self.taps)


def runs_along(pixels: int, low: int, windows: int, taps: int, dilation: int) -> list[Run]:
    """The runs of an axis of so many pixels, with `low` before them and so many windows, one pixel apart."""
    first = [low - tap * dilation for tap in range(taps)]  # the first window that has a pixel under each tap
    ends = {0, windows, *first, *(start + pixels for start in first)}
    cuts = sorted(end for end in ends if 0 <= end <= windows)
    runs = []
    for start, stop in pairwise(cuts):
        under = [tap for tap, begin in enumerate(first) if begin <= start < begin + pixels]
        here = range(under[0], under[-1] + 1) if under else range(0)
        runs.append(Run(start, stop, here, start - first[here.start] if under else 0))
    return runs


def trim(program: TensorProgram) -> TensorProgram:
    """The program with parts for convolutions of images in wide padding, where that saves enough."""
    return rewrite(program, trimmed, name="trim")


def trimmed(node: Node) -> Node | None:
    """A convolution as one of each part of the image, with the taps that meet pixels; None for any other node."""
    if node.op.name != "Conv":
        return None
    padded, w = node.inputs
    axes, dilations = len(node.attrs["strides"]), node.attrs["dilations"]
    if padded.op.name != "Pad" or not _pads_space(padded, axes) or set(node.attrs["strides"]) != {1}:
        return None
    x, space = padded.inputs[0], slice(1, axes + 1)
    sizes = (*x.shape[space], *node.shape[space], *padded.attrs["low"][space], *w.shape)
    if not is_static(sizes) or not node.dtype.is_floating:
        return None
    lows, windows = (tuple(map(static, s[space])) for s in (padded.attrs["low"], node.shape))
    taps = tuple(map(static, w.shape[:axes]))
    runs = [*map(runs_along, map(static, x.shape[space]), lows, windows, taps, dilations)]
    if not _pays(node, runs, taps):
        return None
    return _joined([_part(x, w, some, dilations) for some in cartesian(*runs)], [len(r) for r in runs], 1)


def _pads_space(pad: Node, axes: int) -> bool:
    """Whether zeros are put around the axes of space alone, and around whole pixels."""
    sides = (pad.attrs["low"], pad.attrs["high"])
    around = [side[n] for side in sides for n in range(pad.ndim) if not 1 <= n <= axes]
    within = [side[n] for side in sides for n in range(1, axes + 1)]
    return (
        not any((*around, *pad.attrs["interior"]))
        and str(pad.attrs["value"]) in ("0", "0.0")
        and is_static(tuple(within))
        and min(map(static, within)) >= 0
    )


def _pays(node: Node, runs: Sequence[Sequence[Run]], taps: Sequence[int]) -> bool:
    """Whether parts take few enough multiply-adds: fewer than Winograd's filtering takes too, where that serves."""
    w, dilations = node.inputs[1], node.attrs["dilations"]
    if not all(runs) or not all(run.taps for some in runs for run in some):
        return False
    batch, windows = estimate(product(node.shape[:1])), [some[-1].stop for some in runs]
    parts = batch * math.prod(sum(run.products for run in some) for some in runs)
    parts += TAP_COST * math.prod(sum(len(run.taps) for run in some) for some in runs)
    whole: float = (batch * math.prod(windows) + TAP_COST) * math.prod(taps)
    if tuple(taps[-2:]) == (3, 3):
        # Squares of 2 x 2 windows, which are as far apart as taps; the last ones may be halves.
        square = [2 * _squares(n, d) / n for n, d in zip(windows[-2:], dilations[-2:], strict=True)]
        whole *= min(1.0, math.prod(square) / WINOGRAD)
    each = static(product(w.shape[len(taps) :]))
    return parts * LEAST_GAIN <= whole and (whole - parts) * each >= LEAST_SAVED


def _squares(windows: int, dilation: int) -> int:
    """Pairs of windows `dilation` apart that cover an axis."""
    whole, left = divmod(windows, 2 * dilation)
    return whole * dilation + min(left, dilation)


def _part(x: Node, w: Node, runs: Sequence[Run], dilations: Sequence[int]) -> Node:
    """The convolution by the taps that meet pixels, and zero times the others, which are NaN where a tap is not
    finite."""
    axes = len(runs)
    reach = [run.stop - run.start + (len(run.taps) - 1) * d for run, d in zip(runs, dilations, strict=True)]
    image = _box(x, (0, *(run.pixel for run in runs)), (x.shape[0], *reach))
    own = _box(w, [run.taps.start for run in runs], [len(run.taps) for run in runs])
    y = conv.node(image, own, strides=(1,) * axes, dilations=dilations)
    zeros = reduce_sum.node(w * 0, axes=(w.ndim - 2,))  # of each tap, for all channels out
    others = [_box(zeros, tap, (1,) * axes) for tap in _other_taps(w, runs)]
    if not others:
        return y
    pixel = (1,) * (axes + 1)
    nothing = reshape.node(reduce(add.node, others), shape=(*pixel, *y.shape[axes + 1 :]))
    return add.node(y, broadcast_node(nothing, y.shape))


def _other_taps(w: Node, runs: Sequence[Run]) -> Iterator[tuple[int, ...]]:
    """The taps that meet no pixel."""
    for tap in cartesian(*(range(static(n)) for n in w.shape[: len(runs)])):
        if not all(n in run.taps for n, run in zip(tap, runs, strict=True)):
            yield tap


def _box(x: Node, begin: Sequence[Any], shape: Sequence[Any]) -> Node:
    """Part of x along the first axes, all of the others."""
    rest = x.ndim - len(begin)
    return strided_slice.node(
        x, begin=(*begin, *(0,) * rest), stride=(1,) * x.ndim, shape=(*shape, *x.shape[len(begin) :])
    )


def _joined(parts: Sequence[Node], counts: Sequence[int], axis: int) -> Node:
    """Parts in the order of their places as one, from an axis on."""
    if not counts:
        return parts[0]
    size = len(parts) // counts[0]
    pieces = [_joined(parts[n * size : (n + 1) * size], counts[1:], axis + 1) for n in range(counts[0])]
    return concat.node(*pieces, axis=axis) if len(pieces) > 1 else pieces[0]
