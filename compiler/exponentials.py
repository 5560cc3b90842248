"""Sums of exponentials beside their maximum, block by block, in one pass over memory: `sum_of_exponentials`.

    m = max(x);  sum(exp(x - f(m)))     two passes, since the second needs the result of the first

    per block   m_b = max(x),  s_b = sum(exp(x - m_b))
    then        m = max(m_b),  s = sum(s_b exp(m_b - f(m)))

(M. Milakov, N. Gimelshein: Online normalizer calculation for softmax, 2018.)  A block is in a cache when its
exponentials are computed.  f(m) is m for softmax, and 0 in place of what is not finite for the log of the sum.  What is
infinite or missing gives what the formula of two passes gives.
"""

from __future__ import annotations

from collections.abc import Iterator

from graphflow.compiler.buffers import same_elements
from graphflow.core.dim import ceildiv
from graphflow.core.node import Node
from graphflow.core.type import Shape
from graphflow.ops.elementwise import exp, maximum, minimum
from graphflow.ops.reduce import reduce_sum
from graphflow.ops.view import blocks, broadcast_to, repeat, reshape

__all__ = ["block_maxima", "sum_of_exponentials"]


def block_maxima(x: Node, axes: tuple[int, ...], *, axis: int, size: int, inner: tuple[int, ...]) -> Node | None:
    """The maxima of blocks of y, if x is exp(y - f(m)), m being the maxima of y along `axes`, split in the same way."""
    if x.op.name != "Exp" or x.inputs[0].op.name != "Sub" or x.inputs[0].inputs[1].op.name != "BroadcastTo":
        return None
    y, spread = x.inputs[0].inputs
    kept = spread.inputs[0].shape
    along = tuple(1 if a in axes else n for a, n in enumerate(y.shape))
    if (1,) * (y.ndim - len(kept)) + kept != along:
        return None
    found = (_of_blocks(top, y, axis, size) for top in _maxima_under(spread.inputs[0]))
    return next((partial for partial in found if partial is not None and partial.attrs["axes"] == inner), None)


def _maxima_under(node: Node) -> Iterator[Node]:
    """The maxima of which a node is computed element by element."""
    seen, stack = set[Node](), [node]
    while stack:
        x = same_elements(stack.pop())
        if x in seen:
            continue
        seen.add(x)
        if x.op.name == "ReduceMax":
            yield x
        elif x.op.form == "map":
            stack.extend(x.inputs)


def _of_blocks(top: Node, y: Node, axis: int, size: int) -> Node | None:
    """The maxima of blocks of y that a maximum is made of: of these themselves, or of blocks of them."""
    while top.op.name == "ReduceMax":
        x = top.inputs[0]
        if x.op.name == "Blocks":
            if x.inputs[0] is y and (x.attrs["axis"], x.attrs["size"]) == (axis, size):
                return top
            x = x.inputs[0]
        top = x
    return None


def sum_of_exponentials(x: Node, maxima: Node, *, axis: int, size: int, inner: tuple[int, ...], place: int) -> Node:
    """sum(x), for the x and the `maxima` of `block_maxima`; `inner` are the axes of a block, `place` that of blocks."""
    y = x.inputs[0].inputs[0]
    lowest, highest = maxima.dtype.min.item(), maxima.dtype.max.item()
    shifts = minimum(maximum(maxima, lowest), highest)  # an infinite maximum can't be subtracted from itself
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
