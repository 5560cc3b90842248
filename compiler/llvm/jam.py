"""Which row loop is unrolled and jammed: several of its turns are computed at once because they read the same elements.

    for i1 in 56:                                           for i1 in 56, some turns at a time:
      for i2 in 64:                                           for i2 in 64, a vector at a time:
        b2[64*i1 + i2] = sum(r3 < 3: b0[64*i1 + 64*r3 + i2] * b1[64*r3 + i2])

Neighbouring windows share most of what they read, and all of them the weights: each vector is loaded once for all turns
(unroll-and-jam; S. Carr, K. Kennedy: Improving the ratio of memory operations to floating-point operations in loops,
ACM Transactions on Programming Languages and Systems 16, 1994).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product as cartesian
from typing import TYPE_CHECKING

from graphflow.compiler.loops.guards import clear_of_guards
from graphflow.compiler.loops.ir import Expr, Kernel, Loop, sizes_in, walk
from graphflow.core.dim import Size, coefficient, estimate

if TYPE_CHECKING:
    from graphflow.compiler.llvm.target import Target

__all__ = ["WRITTEN_OUT", "Jam", "jammed", "written_out"]

TURNS, MANY_TURNS = 4, 8
"""The most turns at once: their running values, and what they read, are in registers; MANY_TURNS where there are
MANY_REGISTERS, since so many running values hide the latency of a multiply-add."""

MANY_REGISTERS = 32

WRITTEN_OUT = 25
"""Elements of a window, all of whose loads stand in the code."""

LEAST_SHARED = 1 / 4
"""The share of all loads that has to be saved."""


@dataclass(frozen=True)
class Jam:
    """A row loop, and how many of its turns are computed at once."""

    loop: Loop
    turns: int

    @property
    def rest(self) -> int | None:
        """Turns that are left over, if that is known."""
        return self.loop.extent % self.turns if isinstance(self.loop.extent, int) else None


def jammed(kernel: Kernel, exprs: list[Expr], lane: Loop | None, target: Target) -> Jam | None:
    """The row loop to jam; None where that saves too little, or the code could not be written."""
    reductions = [e for e in exprs if e.kind == "reduce"]
    if lane is None or len(kernel.loops) < 2 or not reductions:
        return None
    jam = Jam(kernel.loops[-2], turns_at_once(kernel.loops[-2].extent, target))
    if estimate(jam.loop.extent) < TURNS or not _is_simple(kernel, exprs, lane, jam.loop):
        return None
    if clear_of_guards(kernel, lane, jam.loop, jam.turns) is None:
        return None
    if not all(_is_known(e) and {lane.symbol, jam.loop.symbol} <= e.vars for e in reductions):
        return None
    apart = sum(_turns(e.data[1]) * len(_loads(e)) for e in reductions)
    together = sum(_distinct(e, load, jam) for e in reductions for load in _loads(e))
    return jam if together <= (1 - LEAST_SHARED) * jam.turns * apart else None


def turns_at_once(extent: Size, target: Target) -> int:
    """As many as there are registers for, and so many that all blocks of them have about the same number."""
    if not isinstance(extent, int):
        return TURNS
    most = MANY_TURNS if target.vector_registers >= MANY_REGISTERS else TURNS
    return max(TURNS, -(-extent // max(1, -(-extent // most))))


def written_out(loops: Sequence[Loop]) -> int:
    """How many of the loops of a window, the last ones, are written out: all of them, if their elements are few."""
    return max(n for n in range(len(loops) + 1) if n == 0 or _turns(loops[-n:]) <= WRITTEN_OUT)


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


def _is_known(e: Expr) -> bool:
    """Whether it is known which elements a reduction has."""
    return all(isinstance(loop.extent, int) for loop in e.data[1]) and _turns(e.data[1]) > 0


def _turns(loops: Sequence[Loop]) -> int:
    return math.prod(estimate(loop.extent) for loop in loops)


def _loads(e: Expr) -> list[Size]:
    """The indices at which a reduction reads memory."""
    return [x.data[1] for x in walk([e.args[0]]) if x.kind == "load"]


def _distinct(e: Expr, index: Size, jam: Jam) -> int:
    """How many elements the turns at once read at an index of a reduction, for one lane: each that a turn of the loops
    which are not written out reads counts once."""
    loops, inner = e.data[1], written_out(e.data[1])
    around, within = loops[: len(loops) - inner], loops[len(loops) - inner :]
    steps = [c for one in (jam.loop, *within) if isinstance(c := coefficient(index, one.symbol), int)]
    turns = [range(jam.turns), *(range(estimate(one.extent)) for one in within)]
    if len(steps) < len(turns):
        return jam.turns * _turns(loops)
    different = {sum(s * n for s, n in zip(steps, turn, strict=True)) for turn in cartesian(*turns)}
    return _turns(around) * len(different)
