"""What kernels over rows fetch ahead: while one row is computed, the next one is on its way.

    for i0 in n0:                  stage:  sum(r3 < 4096: Exp(...)), the one that computes the most
      ...                          loads:  b0[4096*i0 + r3 + 4096], the row after, where the stage stands in its own

Without that a processor that waits for memory at the start of a row, and then computes with it, does one or the other.
"""

from __future__ import annotations

from dataclasses import dataclass

from graphflow.compiler.llvm.target import Target
from graphflow.compiler.loops.ir import Expr, Kernel, Loop, expr, walk
from graphflow.core.dim import Atom, Size, coefficient, estimate, product, substitute

__all__ = ["Ahead", "rows_ahead"]

LARGE_L2 = 4
"""Rows of so many second caches in all come from further away."""

Read = tuple[int, Size]  # buffer, index


@dataclass(frozen=True)
class Ahead:
    """Loads to fetch ahead in a stage: a reduction along the row."""

    stage: Expr
    loads: tuple[Expr, ...]


def rows_ahead(kernel: Kernel, exprs: list[Expr], row: Loop, lane: Loop, target: Target) -> Ahead | None:
    """What to fetch ahead; None where rows are read but once, are near, or two of them do not fit into a cache."""
    stages = [e for e in exprs if e.kind == "reduce" and len(e.data[1]) == 1 and e.data[1][0].extent == lane.extent]
    reads = {read: x.dtype for x in exprs if x.kind == "load" for read in [_read(x, row, lane, stages)] if read}
    row_bytes = sum(estimate(lane.extent) * dtype.size for dtype in reads.values())
    rows = estimate(product(tuple(loop.extent for loop in kernel.loops[:-1])))
    if not stages or 4 * row_bytes > target.l2_bytes or rows * row_bytes < LARGE_L2 * target.l2_bytes:
        return None
    stage = max(stages, key=_cost)
    own = stage.data[1][0].var
    loads = [
        expr("load", (), (buffer, _at(index, {lane.symbol: own, row.symbol: row.var + 1})), dtype)
        for (buffer, index), dtype in reads.items()
    ]
    return Ahead(stage, tuple(loads))


def _read(x: Expr, row: Loop, lane: Loop, stages: list[Expr]) -> Read | None:
    """A load of a row's elements, as it reads in the row's own loop."""
    buffer, index = x.data
    for e in stages:
        index = _at(index, {e.data[1][0].symbol: lane.var})
    along, down = coefficient(index, lane.symbol), coefficient(index, row.symbol)
    return (buffer, index) if along == 1 and down not in (None, 0) else None


def _at(index: Size, new: dict[Atom, Size]) -> Size:
    return substitute(index, new.get)


def _cost(stage: Expr) -> int:
    return sum(
        int(x.data[0].cost) for x in walk([stage.args[0]]) if x.kind == "apply" and stage.data[1][0].symbol in x.vars
    )
