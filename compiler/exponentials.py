"""Sums of exponentials beside their maximum, block by block, in one pass over memory: `sum_of_exponentials`.

    m = max(x);  sum(exp(x - m))        two passes, since the second needs the result of the first

    per block   m_b = max(x),  s_b = sum(exp(x - m_b))
    then        m = max(m_b),  s = sum(s_b exp(m_b - m))

(M. Milakov, N. Gimelshein: Online normalizer calculation for softmax, 2018.)  A block is in a cache when its
exponentials are computed.  What is infinite or missing gives what the formula of two passes gives.
"""

from __future__ import annotations

from graphflow.compiler.buffers import same_elements
from graphflow.core.dim import ceildiv
from graphflow.core.node import Node
from graphflow.core.type import Shape
from graphflow.ops.elementwise import exp, maximum
from graphflow.ops.reduce import reduce_sum
from graphflow.ops.view import blocks, broadcast_to, repeat, reshape

__all__ = ["block_maxima", "sum_of_exponentials"]


def block_maxima(x: Node, axes: tuple[int, ...], axis: int, size: int) -> Node | None:
    """The maxima of blocks of y, if x is exp(y - max(y)) for a maximum along `axes` that is split in the same way."""
    if x.op.name != "Exp" or x.inputs[0].op.name != "Sub" or x.inputs[0].inputs[1].op.name != "BroadcastTo":
        return None
    y, spread = x.inputs[0].inputs
    kept = spread.inputs[0].shape
    along = tuple(1 if a in axes else n for a, n in enumerate(y.shape))
    if (1,) * (y.ndim - len(kept)) + kept != along:
        return None
    top = same_elements(spread.inputs[0])
    if top.op.name != "ReduceMax" or top.inputs[0].op.name != "ReduceMax":
        return None
    partial = top.inputs[0]
    cut = partial.inputs[0]
    if cut.op.name != "Blocks" or cut.inputs[0] is not y or (cut.attrs["axis"], cut.attrs["size"]) != (axis, size):
        return None
    return partial


def sum_of_exponentials(x: Node, maxima: Node, *, axis: int, size: int, inner: tuple[int, ...], place: int) -> Node:
    """sum(x), for the x and the `maxima` of `block_maxima`; `inner` are the axes of a block, `place` that of blocks."""
    y = x.inputs[0].inputs[0]
    shifts = maximum(maxima, maxima.dtype.min.item())  # a block of minus infinities has no maximum to subtract
    sums = reduce_sum(blocks(exp(y - _each(shifts, y, axis, size, inner)), axis=axis, size=size, value=0), axes=inner)
    whole = same_elements(x.inputs[0].inputs[1].inputs[0])
    lifted = reshape(whole, shape=(*whole.shape[:place], 1, *whole.shape[place:]))
    return reduce_sum(sums * exp(shifts - broadcast_to(lifted, shape=shifts.shape)), axes=(place,))  # type: ignore[no-any-return]


def _each(values: Node, y: Node, axis: int, size: int, inner: tuple[int, ...]) -> Node:
    """For each element of y the value of its block."""
    reduced = {a if a < axis else a - 1 for a in inner if a != axis + 1}
    kept = tuple(1 if a in reduced else n for a, n in enumerate(_counted(y, axis, size)))
    wide = broadcast_to(reshape(values, shape=kept), shape=_counted(y, axis, size))
    return repeat(wide, axis=axis, size=size, length=y.shape[axis])  # type: ignore[no-any-return]


def _counted(y: Node, axis: int, size: int) -> Shape:
    """The shape of y with the number of blocks for the size of an axis."""
    return (*y.shape[:axis], ceildiv(y.shape[axis], size), *y.shape[axis + 1 :])
