"""Which row loop is unrolled and jammed: several of its turns are computed at once because they read the same elements.

    for i1 in 56:                                           for i1 in 56, TURNS at a time:
      for i2 in 64:                                           for i2 in 64, a vector at a time:
        b2[64*i1 + i2] = sum(r3 < 3: b0[64*i1 + 64*r3 + i2] * b1[64*r3 + i2])

Neighbouring windows share most of what they read, and all of them the weights: each vector is loaded once for all turns
(unroll-and-jam; S. Carr, K. Kennedy: Improving the ratio of memory operations to floating-point operations in loops,
ACM Transactions on Programming Languages and Systems 16, 1994).
"""

from __future__ import annotations

from itertools import product as cartesian

from graphflow.compiler.loops.guards import clear_of_guards
from graphflow.compiler.loops.ir import Expr, Kernel, Loop, sizes_in, walk
from graphflow.core.dim import Size, coefficient, estimate

__all__ = ["TURNS", "WRITTEN_OUT", "jammed"]

TURNS = 4
"""Turns at once: their running values, and what they read, are in registers on every target."""

WRITTEN_OUT = 25
"""Elements of a window, all of whose loads stand in the code."""

LEAST_SHARED = 1 / 4
"""The share of all loads that has to be saved."""


def jammed(kernel: Kernel, exprs: list[Expr], lane: Loop | None) -> Loop | None:
    """The row loop to jam; None where that saves too little, or the code could not be written."""
    reductions = [e for e in exprs if e.kind == "reduce"]
    if lane is None or len(kernel.loops) < 2 or not reductions:
        return None
    loop = kernel.loops[-2]
    if estimate(loop.extent) < TURNS or not _is_simple(kernel, exprs, lane, loop):
        return None
    if clear_of_guards(kernel, lane, loop, TURNS) is None:
        return None
    if not all(_is_written_out(e) and {lane.symbol, loop.symbol} <= e.vars for e in reductions):
        return None
    apart = sum(_turns(e) * len(_loads(e)) for e in reductions)
    together = sum(_distinct(e, load, loop) for e in reductions for load in _loads(e))
    return loop if together <= (1 - LEAST_SHARED) * TURNS * apart else None


def _is_simple(kernel: Kernel, exprs: list[Expr], lane: Loop, loop: Loop) -> bool:
    """Whether lanes lie side by side in all memory, and all indices are linear in both loops."""
    if any(e.kind in ("random", "keep", "kept") for e in exprs):
        return False
    if any(s.depth < len(kernel.loops) or coefficient(s.index, lane.symbol) != 1 for s in kernel.stores):
        return False
    if any(coefficient(e.data[1], lane.symbol) not in (0, 1) for e in exprs if e.kind == "load"):
        return False
    sizes = [size for e in exprs for size in sizes_in(e.kind, e.data)] + [s.index for s in kernel.stores]
    return all(coefficient(size, one.symbol) is not None for size in sizes for one in (loop, lane))


def _is_written_out(e: Expr) -> bool:
    """Whether a reduction has so few elements that none of its loops is one in the code."""
    return all(isinstance(loop.extent, int) for loop in e.data[1]) and 0 < _turns(e) <= WRITTEN_OUT


def _turns(e: Expr) -> int:
    turns = 1
    for loop in e.data[1]:
        turns *= estimate(loop.extent)
    return turns


def _loads(e: Expr) -> list[Size]:
    """The indices at which a reduction reads memory."""
    return [x.data[1] for x in walk([e.args[0]]) if x.kind == "load"]


def _distinct(e: Expr, index: Size, loop: Loop) -> int:
    """How many different elements TURNS turns of a loop read at an index of a reduction, for one lane."""
    steps = [c for one in (loop, *e.data[1]) if isinstance(c := coefficient(index, one.symbol), int)]
    turns = [range(TURNS), *(range(estimate(one.extent)) for one in e.data[1])]
    if len(steps) < len(turns):
        return TURNS * _turns(e)
    return len({sum(s * n for s, n in zip(steps, turn, strict=True)) for turn in cartesian(*turns)})
