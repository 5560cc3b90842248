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
from graphflow.compiler.loops.ir import Expr, Kernel, Loop, Store, expr, walk
from graphflow.compiler.loops.keep import COSTLY
from graphflow.core.dim import Atom, Size, coefficient, estimate, product, substitute

__all__ = ["Ahead", "elements_ahead", "fetched_ahead", "stored_beside"]

LARGE_L2 = 4
"""Rows of so many second caches in all come from further away."""

DISTANCE = 8192
"""Bytes ahead in a row that is read once."""

Read = tuple[int, Size]  # buffer, index


@dataclass(frozen=True)
class Ahead:
    """Loads to fetch ahead in a stage: a reduction along the row (`next_row`: where they stand in the next one), or
    None: the stores of elements."""

    stage: Expr | None
    loads: tuple[Expr, ...]
    next_row: bool = False


def fetched_ahead(
    kernel: Kernel, exprs: list[Expr], rows: tuple[Loop, ...], lane: Loop | None, stream: Store | None, target: Target
) -> tuple[Ahead, ...]:
    """What each reduction along rows fetches ahead; a piece further where stores keep memory busy as well."""
    further = DISTANCE if stream is not None else 0
    next_row = _rows_ahead(kernel, exprs, rows[-1], lane, further, target) if rows and lane is not None else None
    if next_row is not None:
        return (next_row,)
    found = (_further(kernel, e, lane, target) for e in exprs if e.kind == "reduce")
    stages = tuple(ahead for ahead in found if ahead.loads)
    return stages if stages or lane is None else elements_ahead(kernel, exprs, None, lane, stream, target)


def elements_ahead(
    kernel: Kernel, exprs: list[Expr], next_row: Loop | None, lane: Loop, stream: Store | None, target: Target
) -> tuple[Ahead, ...]:
    """What the elements of a result that goes past the caches fetch ahead: a piece further along the lanes, or the same
    lanes of the next row where its part comes next."""
    loads = []
    for x in exprs:
        if x.kind != "load" or coefficient(x.data[1], lane.symbol) != 1 or not _is_of(x.data[1], kernel.loops):
            continue
        if _is_large(kernel, x, target):
            buffer, index = x.data
            further = index + DISTANCE // x.dtype.size
            later = further if next_row is None else _at(index, {next_row.symbol: next_row.var + 1})
            loads.append(expr("load", (), (buffer, later), x.dtype))
    return (Ahead(None, tuple(dict.fromkeys(loads))),) if stream is not None and loads else ()


def _is_large(kernel: Kernel, load: Expr, target: Target) -> bool:
    """Whether a load reads memory that no cache holds."""
    return estimate(kernel.buffers[load.data[0]].size) * load.dtype.size >= LARGE_L2 * target.l2_bytes


def stored_beside(kernel: Kernel, ahead: tuple[Ahead, ...], stream: Store | None) -> Expr | None:
    """The stage beside which the row before is stored (`overlap.py`): the one that fetches the next row, if it computes
    for so long that memory would wait for it.  Short stages the processor overlaps itself."""
    if stream is None or len(kernel.stores) > 1:
        return None
    stages = (one.stage for one in ahead if one.next_row and one.stage is not None)
    return next((e for e in stages if _cost(e) >= COSTLY), None)


def _further(kernel: Kernel, stage: Expr, lane: Loop | None, target: Target) -> Ahead:
    """The loads of a reduction from large memory, a piece further along the loop that is contiguous, or over rows that
    follow each other."""
    loads = []
    for x in walk([stage.args[0]]):
        if x.kind != "load" or not _is_of(x.data[1], (*kernel.loops, *stage.data[1])):
            continue
        if _is_large(kernel, x, target) and _goes_on(x.data[1], stage, lane):
            buffer, index = x.data
            loads.append(expr("load", (), (buffer, index + DISTANCE // x.dtype.size), x.dtype))
    return Ahead(stage, tuple(dict.fromkeys(loads)))


def _goes_on(index: Size, stage: Expr, lane: Loop | None) -> bool:
    """Whether a reduction walks through memory from one end to the other."""
    steps = [coefficient(index, loop.symbol) for loop in stage.data[1]]
    if lane is None or lane.symbol not in stage.vars:
        return 1 in steps
    along = coefficient(index, lane.symbol)
    return (along == 1 and steps[-1] == lane.extent) or (steps == [1] and along == stage.data[1][0].extent)


def _rows_ahead(kernel: Kernel, exprs: list[Expr], row: Loop, lane: Loop, further: int, target: Target) -> Ahead | None:
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
        expr(
            "load", (), (buffer, _at(index, {lane.symbol: own + further // dtype.size, row.symbol: row.var + 1})), dtype
        )
        for (buffer, index), dtype in reads.items()
    ]
    return Ahead(stage, tuple(loads), next_row=True)


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
