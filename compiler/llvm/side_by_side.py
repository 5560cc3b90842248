"""Reductions along short rows, as many rows at once as a vector has lanes.

    for i0 in n0: b1[i0] = sum(r1 < 20: b0[20*i0 + r1])

Every row is added up in a vector of its own, as far as that goes.  Then pairs of such vectors become one (`joined`), of
half as many lanes a row, until there is one lane a row: less than half of the additions and shuffles that rows take one
by one, and results are stored, and computed with, as whole vectors.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir

from graphflow.compiler.llvm.code import I32
from graphflow.compiler.llvm.target import Target
from graphflow.compiler.llvm.weight import is_in_memory
from graphflow.compiler.loops.ir import Expr, Kernel, Loop, walk
from graphflow.compiler.loops.keep import walk_unguarded
from graphflow.core.dim import coefficient, estimate

__all__ = ["joined", "lies_side_by_side"]

SHORTEST = 8
"""Rows of at most so many elements are loaded as whole vectors and sorted by shuffles instead (`strided.py`)."""

VECTORS = 2
"""Rows of up to so many vectors are; of longer ones it takes as long to add them up one by one.  From memory so do rows
of a vector or more: one by one they ask for what comes next more evenly."""

State = list[Any]


def lies_side_by_side(kernel: Kernel, exprs: list[Expr], width: int, target: Target) -> bool:
    """Whether all that a kernel reduces are short rows that follow each other along its last loop."""
    if not kernel.loops or kernel.scratch or estimate(kernel.loops[-1].extent) < 2 * width:
        return False
    lane, most = kernel.loops[-1], width - 1 if is_in_memory(kernel, target) else VECTORS * width
    always = walk_unguarded([s.value for s in kernel.stores])
    reductions = [e for e in exprs if e.kind == "reduce"]
    within = {x for e in reductions for x in walk([e.args[0]])}
    beside = [x.data[1] for x in exprs if x.kind == "load" and x not in within]
    return (
        bool(reductions)
        and all(e in always and e not in within and _is_short_row(e, lane, most) for e in reductions)
        and all(s.depth == len(kernel.loops) and coefficient(s.index, lane.symbol) == 1 for s in kernel.stores)
        and all(coefficient(i, lane.symbol) in (0, 1) for i in beside)
    )


def _is_short_row(e: Expr, lane: Loop, most: int) -> bool:
    """Whether a reduction reads rows of its own in one piece each, of so many elements at the most."""
    if len(e.data[1]) != 1 or lane.symbol not in e.vars:
        return False
    (along,) = e.data[1]
    loads = [x.data[1] for x in walk([e.args[0]]) if x.kind == "load" and along.symbol in x.vars]
    return (
        isinstance(along.extent, int)
        and SHORTEST < along.extent <= most
        and bool(loads)
        and all(coefficient(i, along.symbol) == 1 and coefficient(i, lane.symbol) != 1 for i in loads)
    )


def joined(b: Any, states: list[State], join: Callable[[State, State], State]) -> State:
    """One lane for each of as many states as vectors have lanes: all lanes of that state, joined."""
    width = span = len(states)
    while len(states) > 1:
        span, half = span // 2, len(states) // 2
        groups = [divmod(lane, span) for lane in range(width)]
        low = [group % 2 * width + group // 2 * 2 * span + place for group, place in groups]
        sides = [ir.Constant(ir.VectorType(I32, width), [lane + by for lane in low]) for by in (0, span)]
        states = [
            join(*([b.shuffle_vector(p, q, side) for p, q in zip(x, y, strict=True)] for side in sides))
            for x, y in zip(states[:half], states[half:], strict=True)
        ]
    return states[0]
