"""Long reductions to few results become two: of blocks, side by side, then of the blocks' results.

Assumes: a simplified program.  Guarantees: the same values up to the order of a float sum; the order follows from sizes
alone, never from the number of threads, so the bits are the same for all of them.
"""

from __future__ import annotations

import math

from graphflow.compiler.exponentials import block_maxima, sum_of_exponentials
from graphflow.compiler.program import TensorProgram
from graphflow.compiler.rewrite import rewrite
from graphflow.core.dim import estimate
from graphflow.core.node import Node
from graphflow.ops.view import blocks

FEW = 16
"""Results that alone keep no second thread busy."""
LONG = 1 << 17
"""Elements from which splitting pays."""
TALL = 1 << 20
"""Elements from which it pays for many results as well, up to WIDE: reading rows whole is worth the partial results."""
WIDE = 1 << 14
"""Results that are enough to share: a part of the columns is long enough to be read for itself."""
BLOCK = 1 << 15
"""Elements of a block, about."""
LEAST = 64
"""Rows of a block at the least, where there are many results: partial results are so much less than what is read."""

NEUTRAL: dict[str, int | str] = {
    "ReduceSum": 0,
    "ReduceProd": 1,
    "ReduceMax": "lowest",
    "ReduceMin": "highest",
    "ReduceAny": 0,
    "ReduceAll": 1,
}


def split(program: TensorProgram) -> TensorProgram:
    """The program with its long reductions in two stages."""
    return rewrite(program, split_reduction, name="split")


def split_reduction(node: Node) -> Node | None:
    """A long reduction as a reduction of reductions; None for any other node."""
    if node.op.name not in NEUTRAL:
        return None
    x, axes = node.inputs[0], node.attrs["axes"]
    total, results = estimate(x.type.size), estimate(node.type.size)
    few = results <= FEW
    if total < (LONG * max(results, 1) if few else TALL) or not (few or _is_tall(x, axes, results)):
        return None
    axis = max(axes, key=lambda a: estimate(x.shape[a]))
    rest = max(total // max(results, 1) // estimate(x.shape[axis]), 1)
    size = max(BLOCK // rest, 1) if few else max(BLOCK // (rest * results), LEAST)
    if estimate(x.shape[axis]) < 2 * size:
        return None
    place = axis - sum(1 for a in axes if a < axis)
    inner = tuple(a + 1 if a >= axis else a for a in axes)
    if node.op.name == "ReduceSum":
        maxima = block_maxima(x, axes, axis=axis, size=size, inner=inner)
        if maxima is not None:
            return sum_of_exponentials(x, maxima, axis=axis, size=size, inner=inner, place=place)
    cut = blocks(x, axis=axis, size=size, value=_neutral(node))
    partial = node.op(cut, axes=inner)
    return node.op(partial, axes=(place,))  # type: ignore[no-any-return]


def _is_tall(x: Node, axes: tuple[int, ...], results: int) -> bool:
    """Whether rows are added up, and little but their columns is there to share."""
    kept = [estimate(x.shape[a]) for a in range(min(axes)) if a not in axes]
    return max(axes) < len(x.shape) - 1 and results <= WIDE and math.prod(kept) <= FEW


def _neutral(node: Node) -> float:
    number = NEUTRAL[node.op.name]
    if not isinstance(number, str):
        return number
    if node.dtype.is_floating:
        return float("-inf") if number == "lowest" else float("inf")
    return int(node.dtype.min if number == "lowest" else node.dtype.max)
