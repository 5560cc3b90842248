"""Convolutions of images in wide padding are computed part by part, each by the taps that meet pixels there.

    Conv(Pad(x: [2, 33, 33, 256], 12 pixels around), w: [3, 3, 256, 256], dilations=(12, 12))

is nine convolutions of parts of x, one beside the other: 12 x 12 windows in each corner have pixels under four taps
only, and those in the middle under all nine.  That leaves 57 % of the products, and no padded image.  The gradient of
such a filter, ConvFilter(Pad(x), g), is one of each tap, summed over the windows in which the tap meets a pixel.

Assumes: a simplified program.  Guarantees: the same values; zero times what is not finite is NaN, and is added.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import pairwise
from itertools import product as cartesian

from graphflow.compiler.program import TensorProgram
from graphflow.compiler.rewrite import rewrite
from graphflow.core.dim import estimate, product
from graphflow.core.node import Node
from graphflow.core.op import broadcast_node
from graphflow.core.type import Shape, is_static, static
from graphflow.ops.contract import WINOGRAD, conv, conv_filter
from graphflow.ops.elementwise import add
from graphflow.ops.reduce import reduce_sum
from graphflow.ops.view import concat, reshape, strided_slice

__all__ = ["trim"]

LEAST_RUN = 4
"""Fewer windows beside each other take as long as so many: a tile of few rows waits for its sums."""

TAP_COST = 32
"""A tap of a part costs as much as so many windows besides: it is packed."""

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


Runs = Sequence[Sequence[Run]]
"""Those of each axis."""


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
    """The program with parts for what reads images in wide padding, where that saves enough."""
    return rewrite(program, trimmed, name="trim")


def trimmed(node: Node) -> Node | None:
    """A convolution, or the gradient of its filter, in parts; None where they do not pay, and for any other node."""
    if node.op.name == "Conv":
        return _convolution(node, *node.inputs)
    return _filter_gradient(node, *node.inputs) if node.op.name == "ConvFilter" else None


def _convolution(node: Node, padded: Node, w: Node) -> Node | None:
    axes = len(node.attrs["strides"])
    runs = _runs(node, padded, node.shape[1 : axes + 1], w.shape[:axes])
    if runs is None or not is_static(w.shape):
        return None
    packed = math.prod(sum(len(run.taps) for run in some) for some in runs)
    if not _pays(node, runs, _counts(w.shape[:axes]), packed, static(product(w.shape[axes:]))):
        return None
    zeros = reduce_sum.node(w * 0, axes=(w.ndim - 2,))  # of each tap, for all channels out
    parts = [_part(node, padded.inputs[0], w, zeros, some) for some in cartesian(*runs)]
    return _joined(parts, [*map(len, runs)], 1)


def _filter_gradient(node: Node, padded: Node, g: Node) -> Node | None:
    window = node.attrs["window"]
    axes, channels = len(window), node.shape[len(window) :]
    runs = _runs(node, padded, g.shape[1 : axes + 1], window)
    if runs is None or not is_static(channels):
        return None
    met = [{tap for run in some for tap in run.taps} for some in runs]
    if [*map(len, met)] != [*window] or not _pays(node, runs, window, math.prod(window), static(product(channels))):
        return None
    zeros = {some: _zeros_of(g, some) for some in cartesian(*runs)}
    parts = [_tap(node, padded.inputs[0], g, zeros, tap) for tap in cartesian(*map(range, window))]
    return _joined(parts, window, 0)


def _runs(node: Node, padded: Node, windows: Shape, taps: Shape) -> Runs | None:
    """The runs of each axis of windows one pixel apart over a padded image; None where they are not known."""
    space, strides = slice(1, len(taps) + 1), node.attrs["strides"]
    if padded.op.name != "Pad" or set(strides) != {1} or not node.dtype.is_floating or not _pads_space(padded, space):
        return None
    pixels, low = padded.inputs[0].shape[space], padded.attrs["low"][space]
    if not is_static((*pixels, *low, *windows, *taps)):
        return None
    runs = [*map(runs_along, *map(_counts, (pixels, low, windows, taps)), node.attrs["dilations"])]
    return runs if all(runs) and all(run.taps for some in runs for run in some) else None


def _pads_space(pad: Node, space: slice) -> bool:
    """Whether zeros are put around the axes of space alone, and around whole pixels."""
    sides = [list(pad.attrs[side]) for side in ("low", "high")]
    within = tuple(n for side in sides for n in side[space])
    others = [n for side in sides for n in (*side[: space.start], *side[space.stop :])]
    if any((*others, *pad.attrs["interior"])) or str(pad.attrs["value"]) not in ("0", "0.0"):
        return False
    return is_static(within) and min(map(static, within)) >= 0


def _pays(node: Node, runs: Runs, taps: Sequence[int], packed: int, channels: int) -> bool:
    """Whether parts take few enough multiply-adds: fewer than Winograd's filtering takes too, where that serves.

    `packed`: taps of all parts; `channels`: products of a window with a tap.
    """
    batch, windows = estimate(node.inputs[0].shape[0]), [some[-1].stop for some in runs]
    parts = batch * math.prod(sum(run.products for run in some) for some in runs) + TAP_COST * packed
    whole: float = (batch * math.prod(windows) + TAP_COST) * math.prod(taps)
    if tuple(taps[-2:]) == (3, 3):
        # Squares of 2 x 2 windows, which are as far apart as taps; the last ones may be halves.
        ways = zip(windows[-2:], node.attrs["dilations"][-2:], strict=True)
        whole *= min(1.0, math.prod(2 * _squares(n, d) / n for n, d in ways) / WINOGRAD)
    return parts * LEAST_GAIN <= whole and (whole - parts) * channels >= LEAST_SAVED


def _squares(windows: int, dilation: int) -> int:
    """Pairs of windows `dilation` apart that cover an axis."""
    whole, left = divmod(windows, 2 * dilation)
    return whole * dilation + min(left, dilation)


def _part(node: Node, x: Node, w: Node, zeros: Node, runs: Sequence[Run]) -> Node:
    """The convolution of some windows by the taps that meet pixels there, and zero times the others."""
    axes, dilations = len(runs), node.attrs["dilations"]
    reach = [run.stop - run.start + (len(run.taps) - 1) * d for run, d in zip(runs, dilations, strict=True)]
    image = _box(x, 1, [run.pixel for run in runs], reach)
    own = _box(w, 0, [run.taps.start for run in runs], [len(run.taps) for run in runs])
    y = conv.node(image, own, strides=(1,) * axes, dilations=dilations)
    taps = cartesian(*map(range, _counts(w.shape[:axes])))
    left = [_box(zeros, 0, tap, (1,) * axes) for tap in taps if not _meets(tap, runs)]
    return _with(y, left, (*(1,) * (axes + 1), *y.shape[axes + 1 :]))


def _tap(node: Node, x: Node, g: Node, zeros: Mapping[tuple[Run, ...], Node], tap: Sequence[int]) -> Node:
    """The gradient of one tap, of the windows in which it meets a pixel, and zero times those of the others."""
    axes, rows = len(tap), [*zip(*zeros, strict=True)]
    own = [[run for run in dict.fromkeys(some) if n in run.taps] for n, some in zip(tap, rows, strict=True)]
    ways = [*zip(tap, own, node.attrs["dilations"], strict=True)]
    size = [some[-1].stop - some[0].start for _, some, _ in ways]
    image = _box(x, 1, [some[0].pixel + (n - some[0].taps.start) * d for n, some, d in ways], size)
    incoming = _box(g, 1, [some[0].start for some in own], size)
    ones = (1,) * axes
    y = conv_filter.node(image, incoming, window=ones, strides=ones, dilations=ones)
    left = [zero for runs, zero in zeros.items() if not _meets(tap, runs)]
    return _with(y, left, (*ones, *y.shape[axes:-2], 1, y.shape[-1]))


def _zeros_of(g: Node, runs: Sequence[Run]) -> Node:
    """Zero times the gradients of some windows, added up: [*groups, o]."""
    part = _box(g, 1, [run.start for run in runs], [run.stop - run.start for run in runs])
    return reduce_sum.node(part * 0, axes=tuple(range(len(runs) + 1)))


def _meets(tap: Sequence[int], runs: Sequence[Run]) -> bool:
    """Whether a tap has pixels in some windows."""
    return all(n in run.taps for n, run in zip(tap, runs, strict=True))


def _with(y: Node, zeros: Sequence[Node], shape: Shape) -> Node:
    """y and zeros, each of so many elements, broadcast to it; NaN stays NaN."""
    if not zeros:
        return y
    return add.node(y, broadcast_node(reshape.node(reduce(add.node, zeros), shape=shape), y.shape))


def _box(x: Node, axis: int, begin: Sequence[int], shape: Sequence[int]) -> Node:
    """Part of x along the axes from one on, all of the others."""
    before, rest = (0,) * axis, (0,) * (x.ndim - axis - len(begin))
    whole = (*x.shape[:axis], *shape, *x.shape[axis + len(begin) :])
    return strided_slice.node(x, begin=(*before, *begin, *rest), stride=(1,) * x.ndim, shape=whole)


def _counts(sizes: Shape) -> tuple[int, ...]:
    return tuple(map(static, sizes))


def _joined(parts: Sequence[Node], counts: Sequence[int], axis: int) -> Node:
    """Parts in the order of their places as one, from an axis on."""
    if not counts:
        return parts[0]
    size = len(parts) // counts[0]
    pieces = [_joined(parts[n * size : (n + 1) * size], counts[1:], axis + 1) for n in range(counts[0])]
    return concat.node(*pieces, axis=axis) if len(pieces) > 1 else pieces[0]
