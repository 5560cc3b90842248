"""The loops of a plain kernel: units, rows and lanes as its schedule has them, with the stores inside."""

from __future__ import annotations

from functools import partial, reduce
from typing import Any

from graphflow.compiler.llvm.bounds import decoded, first_whole, side_of
from graphflow.compiler.llvm.code import const, divmod_, maximum, minimum
from graphflow.compiler.llvm.cut import Schedule
from graphflow.compiler.llvm.emit import spread, store, store_all, value
from graphflow.compiler.llvm.jam import TURNS
from graphflow.compiler.llvm.lane_loop import emit_lanes
from graphflow.compiler.llvm.lanes import condition
from graphflow.compiler.llvm.memory import fetch_ahead, store_rows, whole_row
from graphflow.compiler.llvm.nest_strips import emit_strips
from graphflow.compiler.llvm.nest_tiles import emit_tiles
from graphflow.compiler.llvm.overlap import emit_overlapped
from graphflow.compiler.llvm.panel import add_totals
from graphflow.compiler.llvm.panel_choose import panel_stages
from graphflow.compiler.llvm.panel_totals import Totals
from graphflow.compiler.llvm.scope import Scope, open_loop
from graphflow.compiler.loops.guards import clear_of_guards, without_guards
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
        _emit_jammed(root, kernel, schedule, schedule.jam, begin, end)
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
            _emit_points(decoded(loop.scope, schedule.rows, loop.index), kernel, schedule, const(0), None)
        return
    *outer, inner = schedule.rows  # one division for each turn of the outer loops
    extent = maximum(b, root.size(inner.extent), const(1))
    with open_loop(root, b.udiv(first, extent), b.udiv(b.add(stop, b.sub(extent, const(1))), extent), 1, None) as loop:
        scope = decoded(loop.scope, tuple(outer), loop.index)
        before = scope.builder.mul(loop.index, extent)
        start = maximum(scope.builder, scope.builder.sub(first, before), const(0))
        end_ = minimum(scope.builder, scope.builder.sub(stop, before), extent)
        with open_loop(scope, start, end_, 1, inner.symbol) as row:
            _emit_points(row.scope, kernel, schedule, const(0), None)


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
            _emit_points(scope, kernel, schedule, start, stop)
        else:
            inner = schedule.inner
            emit_lanes(scope, lambda s: _emit_across(s, kernel, inner), schedule.lane, schedule.vectors, start, stop)


def _emit_jammed(root: Scope, kernel: Kernel, schedule: Schedule, jam: Loop, begin: Any, end: Any) -> None:
    """for run of turns in the units' runs: some turns after the other."""
    b, length = root.builder, schedule.square[0]
    runs = root.size(ceildiv(jam.extent, length))
    total = b.mul(root.size(product(tuple(loop.extent for loop in schedule.rows))), runs)
    first, last = (b.mul(x, root.size(schedule.rows_per_unit)) for x in (begin, end))
    stop = minimum(b, last, total)
    with open_loop(root, first, stop, 1, None) as loop:
        row, run = divmod_(loop.scope.builder, loop.index, runs)
        scope = decoded(loop.scope, schedule.rows, row)
        _emit_run(scope, kernel, schedule, jam, *side_of(scope, run, jam, length, const(0)))


def _emit_run(scope: Scope, kernel: Kernel, schedule: Schedule, jam: Loop, start: Any, stop: Any) -> None:
    """Some turns of the jammed loop: TURNS at once where no guard is needed, those before and after one by one."""
    lane, b, bare = schedule.lane, scope.builder, without_guards(kernel.stores)
    assert lane is not None
    first, after = _clear_turns(scope, kernel, lane, jam, start, stop)
    with open_loop(scope, first, after, TURNS, jam.symbol) as some:
        emit_lanes(some.scope, lambda s: store_all(s, bare), lane, TURNS, const(0), None, schedule.stream, jam)
    before = b.sub(first, start)
    with open_loop(scope, const(0), b.add(before, b.sub(stop, after)), 1, None) as single:
        inner, n = single.scope.builder, single.index
        turn = inner.select(
            inner.icmp_signed("<", n, before), inner.add(start, n), inner.add(after, inner.sub(n, before))
        )
        single.scope.variables[jam.symbol] = turn
        _emit_points(single.scope, kernel, schedule, const(0), None)


def _clear_turns(scope: Scope, kernel: Kernel, lane: Loop, jam: Loop, start: Any, stop: Any) -> tuple[Any, Any]:
    """The whole blocks of TURNS turns that need no guards: where they begin and end."""
    b, clear = scope.builder, clear_of_guards(kernel, lane, jam, TURNS)
    assert clear is not None, "a loop is jammed where it is known what its guards need"

    def pick(relation: str, x: Any, y: Any) -> Any:
        return b.select(b.icmp_signed(relation, x, y), x, y)

    first = reduce(partial(pick, ">"), map(scope.size, clear.first), start)
    last = reduce(partial(pick, "<"), map(scope.size, clear.stop), b.sub(stop, const(TURNS - 1)))
    first = pick("<", first, stop)
    holds = reduce(b.and_, [condition(c, scope) for c in clear.conditions], b.icmp_signed("<", first, last))
    blocks = b.sdiv(b.add(b.sub(last, first), const(TURNS - 1)), const(TURNS))
    return first, b.select(holds, b.add(first, b.mul(blocks, const(TURNS))), first)


def _emit_points(scope: Scope, kernel: Kernel, schedule: Schedule, start: Any, stop: Any) -> None:
    """The stores of one row: its elements, then what stands above them (whose values are computed first)."""
    depth, lane = len(kernel.loops), schedule.lane
    inner = [s for s in kernel.stores if s.depth == depth and lane is not None]
    outer = [s for s in kernel.stores if s not in inner]
    for s in outer:
        value(s.value, scope)
    if lane is not None and inner:
        emit_lanes(scope, lambda s: _emit_elements(s, inner), lane, schedule.vectors, start, stop, schedule.stream)
    store_all(scope, outer)


def _emit_elements(scope: Scope, stores: list[Store]) -> None:
    """The stores of some lanes, and what whole vectors of them fetch ahead."""
    if scope.lanes is not None and scope.lanes.mask is None:
        fetch_ahead(scope, scope.function.ahead.get(None, ()))
    store_all(scope, stores)


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
