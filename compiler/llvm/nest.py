"""The loops of a plain kernel: units, rows and lanes as its schedule has them, with the stores inside."""

from __future__ import annotations

from typing import Any

from graphflow.compiler.llvm.bounds import decoded, first_whole
from graphflow.compiler.llvm.code import const, divmod_, maximum, minimum
from graphflow.compiler.llvm.cut import Schedule
from graphflow.compiler.llvm.emit import spread, store, store_all, value
from graphflow.compiler.llvm.lane_loop import emit_lanes
from graphflow.compiler.llvm.memory import store_rows, whole_row
from graphflow.compiler.llvm.nest_jam import emit_jammed
from graphflow.compiler.llvm.nest_points import emit_points
from graphflow.compiler.llvm.nest_strips import emit_strips
from graphflow.compiler.llvm.nest_tiles import emit_tiles
from graphflow.compiler.llvm.overlap import emit_overlapped
from graphflow.compiler.llvm.panel import add_totals
from graphflow.compiler.llvm.panel_choose import panel_stages
from graphflow.compiler.llvm.panel_totals import Totals
from graphflow.compiler.llvm.scope import Scope, open_loop
from graphflow.compiler.loops.ir import Kernel, Loop, Store
from graphflow.compiler.loops.rows import is_tiny
from graphflow.core.dim import ceildiv, product
from graphflow.core.type import static

__all__ = ["emit_nest"]


def emit_nest(root: Scope, kernel: Kernel, schedule: Schedule, begin: Any, end: Any) -> None:
    """The units from begin to end."""
    if schedule.tile is not None and schedule.aside is not None:
        emit_strips(root, kernel, schedule, schedule.tile, begin, end)
    elif schedule.tile is not None:
        emit_tiles(root, kernel, schedule, schedule.tile, begin, end)
    elif schedule.jam is not None:
        emit_jammed(root, kernel, schedule, schedule.jam, begin, end)
    elif schedule.chunk != 0:
        _emit_chunks(root, kernel, schedule, begin, end)
    else:
        _emit_rows(root, kernel, schedule, begin, end)


def _emit_rows(root: Scope, kernel: Kernel, schedule: Schedule, begin: Any, end: Any) -> None:
    """for row in the units' rows: decode it, then the lanes."""
    b = root.builder
    total = root.size(product(tuple(loop.extent for loop in schedule.rows)))
    per_unit = root.size(schedule.rows_per_unit)
    first = b.mul(begin, per_unit)
    last = b.mul(end, per_unit)
    stop = minimum(b, last, total)
    if schedule.beside is not None:
        emit_overlapped(root, kernel, schedule, first, stop)
        return
    if len(schedule.rows) < 2:
        with open_loop(root, first, stop, 1, None) as loop:
            emit_points(decoded(loop.scope, schedule.rows, loop.index), kernel, schedule, const(0), None)
        return
    *outer, inner = schedule.rows  # one division for each turn of the outer loops
    extent = maximum(b, root.size(inner.extent), const(1))
    with open_loop(root, b.udiv(first, extent), b.udiv(b.add(stop, b.sub(extent, const(1))), extent), 1, None) as loop:
        scope = decoded(loop.scope, tuple(outer), loop.index)
        before = scope.builder.mul(loop.index, extent)
        start = maximum(scope.builder, scope.builder.sub(first, before), const(0))
        end_ = minimum(scope.builder, scope.builder.sub(stop, before), extent)
        with open_loop(scope, start, end_, 1, inner.symbol) as row:
            emit_points(row.scope, kernel, schedule, const(0), None)


def _emit_chunks(root: Scope, kernel: Kernel, schedule: Schedule, begin: Any, end: Any) -> None:
    """for unit: its row, and its part of the lanes."""
    assert schedule.lane is not None
    chunk = root.size(schedule.chunk)
    per_row = root.size(ceildiv(schedule.lane.extent, schedule.chunk))
    extent = root.size(schedule.lane.extent)
    rows = root.size(product(tuple(loop.extent for loop in schedule.rows)))
    with open_loop(root, begin, end, 1, None) as loop:
        b = loop.scope.builder
        row, part = divmod_(b, loop.index, per_row) if not schedule.by_parts else divmod_(b, loop.index, rows)[::-1]
        scope = decoded(loop.scope, schedule.rows, row)
        start, stop = b.mul(part, chunk), b.mul(b.add(part, const(1)), chunk)
        if schedule.stream is not None:  # parts meet at whole vectors of memory
            shift = first_whole(scope, schedule.stream, schedule.lane, const(0), extent)
            start = b.select(b.icmp_signed("==", part, const(0)), start, minimum(b, b.add(start, shift), extent))
            stop = b.add(stop, shift)
        stop = minimum(b, stop, extent)
        if schedule.panel:
            _emit_panel(scope, schedule, start, stop)
        if schedule.inner is None:
            emit_points(scope, kernel, schedule, start, stop)
        else:
            inner = schedule.inner
            emit_lanes(scope, lambda s: _emit_across(s, kernel, inner), schedule.lane, schedule.vectors, start, stop)


def _emit_panel(scope: Scope, schedule: Schedule, start: Any, stop: Any) -> None:
    """The reductions of a panel of lanes, operands first."""
    lane, vectors, turns = schedule.lane, schedule.vectors, schedule.turns
    assert lane is not None
    assert turns is not None
    pointers = scope.function.arguments[len(scope.function.arguments) - len(schedule.panel) :]
    totals = {e: Totals(pointer, start, e.dtype) for e, pointer in zip(schedule.panel, pointers, strict=True)}
    for stage in panel_stages(schedule.panel):
        own = {e: totals[e] for e in stage}
        add_totals(scope, own, lambda s, body: emit_lanes(s, body, lane, vectors, start, stop), start, turns)


def _emit_across(scope: Scope, kernel: Kernel, inner: Loop) -> None:
    """Rows side by side, a lane a row: their reductions, then their elements one after the other.

    Tiny rows are written out, and all of their elements computed before the first is stored.
    """
    depth = len(kernel.loops)
    deep = [s for s in kernel.stores if s.depth == depth]
    outer = [s for s in kernel.stores if s.depth < depth]
    for s in outer:
        value(s.value, scope)
    if is_tiny(inner.extent):
        turns = [scope.child(scope.builder, {inner.symbol: const(n)}, scope.lanes) for n in range(static(inner.extent))]
        for s in deep:
            for turn in turns:
                value(s.value, turn)
        for s in deep:
            _store_turns(s, turns)
    else:
        with open_loop(scope, const(0), scope.size(inner.extent), 1, inner.symbol, (), scope.lanes) as loop:
            store_all(loop.scope, deep)
    store_all(scope, outer)


def _store_turns(s: Store, turns: list[Scope]) -> None:
    """One element of the rows after the other, or whole vectors of memory where the elements follow each other."""
    row = whole_row(turns[0], s.index) if turns else None
    if row is not None and row.extent == len(turns):
        columns = [spread(s.value, turn) for turn in turns]
        store_rows(turns[0], s.buffer, s.index - row.var, row, columns, s.value.dtype)
        return
    for turn in turns:
        store(turn, s.buffer, s.index, s.value)
