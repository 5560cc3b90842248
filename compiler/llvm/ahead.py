"""What reductions along rows fetch ahead: while one row is computed, the next one is on its way.

    for i0 in n0:                  stage:  sum(r3 < 4096: Exp(...)), the one that computes the most
      ...                          loads:  b0[4096*i0 + r3 + 4096], the row after, where the stage stands in its own

Without that a processor that waits for memory at the start of a row, and then computes with it, does one or the other.

    b1[i0] = sum(r1 < 32768: b0[32768*i0 + r1])      loads:  b0[32768*i0 + r1 + 2048]

A row that is read but once asks for what lies a piece of memory further, in its own row or the next: lines that the
code has asked for come sooner than those that the processor guesses, and those of unaligned vectors are asked for once.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from graphflow.compiler.llvm.scope import loop_variables
from graphflow.compiler.llvm.target import Target
from graphflow.compiler.loops.ir import Expr, Kernel, Loop, expr, walk
from graphflow.core.dim import Atom, Size, coefficient, estimate, product, substitute

__all__ = ["Ahead", "fetched_ahead"]

LARGE_L2 = 4
"""Rows of so many second caches in all come from further away."""

DISTANCE = 8192
"""Bytes ahead in a row that is read once."""

Read = tuple[int, Size]  # buffer, index


@dataclass(frozen=True)
class Ahead:
    """Loads to fetch ahead in a stage: a reduction along the row."""

    stage: Expr
    loads: tuple[Expr, ...]


def fetched_ahead(
    kernel: Kernel, exprs: list[Expr], rows: tuple[Loop, ...], lane: Loop | None, target: Target
) -> tuple[Ahead, ...]:
    """What each reduction along rows fetches ahead."""
    next_row = _rows_ahead(kernel, exprs, rows[-1], lane, target) if rows and lane is not None else None
    if next_row is not None:
        return (next_row,)
    found = (
        _further(kernel, e, target) for e in exprs if e.kind == "reduce" and (lane is None or lane.symbol not in e.vars)
    )
    return tuple(ahead for ahead in found if ahead.loads)


def _further(kernel: Kernel, stage: Expr, target: Target) -> Ahead:
    """The loads of a reduction from large memory, a piece further along the loop that is contiguous."""
    loads = []
    for x in walk([stage.args[0]]):
        if x.kind != "load" or not any(coefficient(x.data[1], loop.symbol) == 1 for loop in stage.data[1]):
            continue
        buffer, index = x.data
        if not _is_of(index, (*kernel.loops, *stage.data[1])):
            continue
        if estimate(kernel.buffers[buffer].size) * x.dtype.size >= LARGE_L2 * target.l2_bytes:
            loads.append(expr("load", (), (buffer, index + DISTANCE // x.dtype.size), x.dtype))
    return Ahead(stage, tuple(dict.fromkeys(loads)))


def _rows_ahead(kernel: Kernel, exprs: list[Expr], row: Loop, lane: Loop, target: Target) -> Ahead | None:
    """What to fetch ahead; None where rows are read but once, are near, or two of them do not fit into a cache."""
    stages = [e for e in exprs if e.kind == "reduce" and len(e.data[1]) == 1 and e.data[1][0].extent == lane.extent]
    found = ((_read(x, row, lane, stages), x.dtype) for x in exprs if x.kind == "load")
    reads = {read: dtype for read, dtype in found if read and _is_of(read[1], kernel.loops)}
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


def _is_of(index: Size, loops: Iterable[Loop]) -> bool:
    """Whether an index moves with these loops only, and not with one inside of them."""
    return set(loop_variables(index)) <= {loop.symbol for loop in loops}


def _at(index: Size, new: dict[Atom, Size]) -> Size:
    return substitute(index, new.get)


def _cost(stage: Expr) -> int:
    return sum(
        int(x.data[0].cost) for x in walk([stage.args[0]]) if x.kind == "apply" and stage.data[1][0].symbol in x.vars
    )
