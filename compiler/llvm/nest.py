"""The loops of a plain kernel: units, rows and lanes as its schedule has them, with the stores inside."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir

from graphflow.compiler.llvm.contract_ir import I64, add, at, const, divmod_, first_lanes, mul
from graphflow.compiler.llvm.emit import spread, store, value
from graphflow.compiler.llvm.memory import Totals, address, store_rows, whole_row
from graphflow.compiler.llvm.panel import add_totals
from graphflow.compiler.llvm.panel_choose import panel_stages
from graphflow.compiler.llvm.schedule import Schedule
from graphflow.compiler.llvm.scope import BlockAhead, Lanes, Scope, loop_variables, open_loop
from graphflow.compiler.llvm.values import memory_type
from graphflow.compiler.loops.ir import Expr, Kernel, Loop, Store
from graphflow.compiler.loops.rows import is_tiny
from graphflow.core.dim import Symbol, ceildiv, coefficient, product
from graphflow.core.type import static

__all__ = ["emit_nest", "store_all"]


def emit_nest(root: Scope, kernel: Kernel, schedule: Schedule, begin: Any, end: Any) -> None:
    """The units from begin to end."""
    if schedule.tile is not None:
        _emit_tiles(root, kernel, schedule, schedule.tile, begin, end)
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
    stop = _least(b, last, total)
    with open_loop(root, first, stop, 1, None) as loop:
        scope = _decode(loop.scope, schedule.rows, loop.index)
        _emit_points(scope, kernel, schedule, const(0), None)


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
        scope = _decode(loop.scope, schedule.rows, row)
        start, stop = b.mul(part, chunk), b.mul(b.add(part, const(1)), chunk)
        if schedule.stream is not None:  # parts meet at whole vectors of memory
            shift = _first_whole(scope, schedule.stream, schedule.lane, const(0), extent)
            start = b.select(b.icmp_signed("==", part, const(0)), start, _least(b, b.add(start, shift), extent))
            stop = b.add(stop, shift)
        stop = _least(b, stop, extent)
        if schedule.panel:
            _emit_panel(scope, schedule, start, stop)
        if schedule.inner is None:
            _emit_points(scope, kernel, schedule, start, stop)
        else:
            inner = schedule.inner
            _emit_lanes(scope, lambda s: _emit_across(s, kernel, inner), schedule.lane, schedule.vectors, start, stop)


def _emit_tiles(root: Scope, kernel: Kernel, schedule: Schedule, tile: Loop, begin: Any, end: Any) -> None:
    """for square in the units' squares: its tiles, of as many rows as a vector has lanes."""
    assert schedule.lane is not None
    b, lane, width, (high, broad) = root.builder, schedule.lane, schedule.vectors, schedule.square
    across, down = root.size(ceildiv(lane.extent, broad)), root.size(ceildiv(tile.extent, high))
    total = b.mul(root.size(product(tuple(loop.extent for loop in schedule.rows))), b.mul(down, across))
    first, last = (b.mul(x, root.size(schedule.rows_per_unit)) for x in (begin, end))
    stop = _least(b, last, total)

    def square_at(scope: Scope, number: Any) -> tuple[Scope, Any, Any]:
        """(the scope of its rows, its place along the tile's loop, along the lanes)"""
        column, x = divmod_(scope.builder, number, across)
        row, y = divmod_(scope.builder, column, down)
        return _decode(scope, schedule.rows, row), y, x

    shift = const(0) if schedule.aligned is None else _first_row(root, schedule.aligned)
    with open_loop(root, first, stop, 1, None) as loop:
        inner = loop.scope.builder
        scope, y, x = square_at(loop.scope, loop.index)
        side = _side(scope, x, lane, broad, const(0))
        following: dict[Symbol, Any] = {}
        if schedule.stream is not None:
            after = inner.add(loop.index, const(1))
            there, down_, x = square_at(
                loop.scope, inner.select(inner.icmp_signed("<", after, stop), after, loop.index)
            )
            turn = add(inner, mul(inner, down_, const(high)), shift)
            following = {**there.variables, tile.symbol: turn, lane.symbol: mul(inner, x, const(broad))}
        start, bottom = _side(scope, y, tile, high, shift)
        if schedule.aligned is not None:
            with open_loop(
                scope, const(0), inner.select(inner.icmp_signed("==", y, const(0)), shift, const(0)), width, tile.symbol
            ) as head:
                _emit_masked_tiles(head.scope, kernel, schedule, tile, shift, side)
        with open_loop(scope, start, bottom, width, tile.symbol) as tiles:
            strip = tiles.scope.builder.sub(tiles.index, start)
            _emit_row_of_tiles(tiles.scope, kernel, schedule, tile, tiles.index, side, (following, strip))


def _first_row(root: Scope, load: Expr) -> Any:
    """How many turns of a tile's loop come before the first whose load begins a vector of memory; less than a tile."""
    b, (buffer, index), size = root.builder, load.data, load.dtype.size
    start = root.child(b, {symbol: const(0) for symbol in loop_variables(index)}, None)
    place = b.ptrtoint(address(start, buffer, index, load.dtype), I64)
    return b.udiv(b.and_(b.neg(place), const(root.function.width * size - 1)), const(size))


def _least(b: Any, x: Any, y: Any) -> Any:
    return b.select(b.icmp_signed("<", x, y), x, y)


def _side(scope: Scope, number: Any, loop: Loop, length: int, shift: Any) -> tuple[Any, Any]:
    """Where a square begins and ends along a loop; all but the ends of the loop are shifted."""
    b, extent = scope.builder, scope.size(loop.extent)
    start, stop = (add(b, b.mul(n, const(length)), shift) for n in (number, b.add(number, const(1))))
    return _least(b, start, extent), _least(b, stop, extent)


def _emit_row_of_tiles(
    scope: Scope,
    kernel: Kernel,
    schedule: Schedule,
    tile: Loop,
    start: Any,
    side: tuple[Any, Any],
    following: tuple[dict[Symbol, Any], Any],
) -> None:
    """The tiles of the rows from `start` on along one side of a square: whole ones, then what the edges cut off.

    Whole ones go past the caches where their rows begin at whole vectors of memory.  `following`: where the next square
    starts, and how many rows of this one are done.
    """
    assert schedule.lane is not None
    b, lane, width, stop = scope.builder, schedule.lane, schedule.vectors, side[1]
    left = b.sub(scope.size(tile.extent), start)
    whole = b.select(b.icmp_signed(">=", left, const(width)), _whole(scope, *side, width), side[0])
    first = side[0]
    if schedule.stream is not None:
        aligned = b.icmp_signed("==", _first_whole(scope, schedule.stream, lane, first, stop), first)
        streamed = b.select(aligned, whole, first)
        _emit_whole_tiles(scope, kernel, schedule, tile, first, streamed, schedule.stream.buffer, following)
        first = streamed
    _emit_whole_tiles(scope, kernel, schedule, tile, first, whole, None)
    _emit_masked_tiles(scope, kernel, schedule, tile, left, (whole, stop))


def _emit_masked_tiles(
    scope: Scope, kernel: Kernel, schedule: Schedule, tile: Loop, left: Any, side: tuple[Any, Any]
) -> None:
    """Tiles of which only so many rows are there, and only the lanes between both ends."""
    assert schedule.lane is not None
    width, lane = schedule.vectors, schedule.lane
    with open_loop(scope, side[0], side[1], width, lane.symbol) as rest:
        mask = first_lanes(rest.scope.builder, rest.scope.builder.sub(side[1], rest.index), width)
        masks = [_if_row(rest.scope.builder, mask, left, n) for n in range(width)]
        rest.scope.lanes = Lanes(lane.symbol, width, width, masks, tile.symbol)
        store_all(rest.scope, list(kernel.stores))


def _emit_whole_tiles(
    scope: Scope,
    kernel: Kernel,
    schedule: Schedule,
    tile: Loop,
    start: Any,
    stop: Any,
    stream: int | None,
    following: tuple[dict[Symbol, Any], Any] | None = None,
) -> None:
    assert schedule.lane is not None
    lane, width, (high, broad) = schedule.lane, schedule.vectors, schedule.square
    with open_loop(scope, start, stop, width, lane.symbol) as main:
        ahead = None
        if following is not None:
            b, (there, strip) = main.scope.builder, following
            done = b.add(b.mul(strip, const(broad // width)), b.sub(main.index, start))  # lanes of tiles of this square
            ahead = BlockAhead(there, b.udiv(done, const(width)), high)
        main.scope.lanes = Lanes(lane.symbol, width, width, None, tile.symbol, stream, ahead)
        store_all(main.scope, list(kernel.stores))


def _if_row(b: Any, mask: Any, left: Any, row: int) -> Any:
    """The mask where the tile has the row, else nothing."""
    there = b.icmp_signed(">", left, const(row))
    return b.select(there, mask, ir.Constant(mask.type, None))


def _decode(scope: Scope, rows: tuple[Loop, ...], row: Any) -> Scope:
    """The row loops' variables from a row-major row number."""
    variables: dict[Symbol, Any] = {}
    for loop in reversed(rows[1:]):
        row, index = divmod_(scope.builder, row, scope.size(loop.extent))
        variables[loop.symbol] = index
    if rows:
        variables[rows[0].symbol] = row
    return scope.child(scope.builder, variables, None)


def _emit_points(scope: Scope, kernel: Kernel, schedule: Schedule, start: Any, stop: Any) -> None:
    """The stores of one row: its elements, then what stands above them (whose values are computed first)."""
    depth, lane = len(kernel.loops), schedule.lane
    inner = [s for s in kernel.stores if s.depth == depth and lane is not None]
    outer = [s for s in kernel.stores if s not in inner]
    for s in outer:
        value(s.value, scope)
    if lane is not None and inner:
        _emit_lanes(scope, lambda s: store_all(s, inner), lane, schedule.vectors, start, stop, schedule.stream)
    store_all(scope, outer)


def _emit_panel(scope: Scope, schedule: Schedule, start: Any, stop: Any) -> None:
    """The reductions of a panel of lanes, operands first."""
    lane, vectors = schedule.lane, schedule.vectors
    assert lane is not None
    pointers = scope.function.arguments[len(scope.function.arguments) - len(schedule.panel) :]
    totals = {e: Totals(pointer, start, e.dtype) for e, pointer in zip(schedule.panel, pointers, strict=True)}
    for stage in panel_stages(schedule.panel):
        own = {e: totals[e] for e in stage}
        add_totals(scope, own, lambda s, body: _emit_lanes(s, body, lane, vectors, start, stop))


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


def store_all(scope: Scope, stores: list[Store]) -> None:
    """Store values that were all computed before: a result may lie where another's operand did."""
    for s in stores:
        value(s.value, scope)
    for s in stores:
        store(scope, s.buffer, s.index, s.value)


def _emit_lanes(
    scope: Scope,
    body: Callable[[Scope], None],
    lane: Loop,
    vectors: int,
    start: Any,
    stop: Any,
    stream: Store | None = None,
) -> None:
    """The lanes' loop around a body: blocks of vectors, then single ones under a mask.

    Where a store goes past the caches, those lanes come first that stand before a whole vector of its memory.
    """
    width = scope.function.width
    stop = scope.size(lane.extent) if stop is None else stop
    if stream is not None:
        first = _first_whole(scope, stream, lane, start, stop)
        _emit_masked(scope, body, lane, start, first)
        start = first
    block = width * vectors
    whole = _whole(scope, start, stop, block)
    if not (isinstance(whole, ir.Constant) and whole.constant == 0):
        lanes = Lanes(lane.symbol, width, vectors, stream=None if stream is None else stream.buffer)
        with open_loop(scope, start, whole, block, lane.symbol, (), lanes) as main:
            body(main.scope)
    if isinstance(whole, ir.Constant) and isinstance(stop, ir.Constant) and whole.constant == stop.constant:
        return
    _emit_masked(scope, body, lane, whole, stop)


def _emit_masked(scope: Scope, body: Callable[[Scope], None], lane: Loop, start: Any, stop: Any) -> None:
    """Single vectors, of whose lanes only those before `stop` count."""
    width = scope.function.width
    with open_loop(scope, start, stop, width, lane.symbol) as rest:
        mask = first_lanes(rest.scope.builder, rest.scope.builder.sub(stop, rest.index), width)
        rest.scope.lanes = Lanes(lane.symbol, width, 1, [mask])
        body(rest.scope)


def _first_whole(scope: Scope, s: Store, lane: Loop, start: Any, stop: Any) -> Any:
    """The first lane from `start` on that a store puts at a multiple of a vector's bytes; `stop` if there is none."""
    b, size = scope.builder, s.value.dtype.size
    element = memory_type(s.value.dtype)
    assert coefficient(s.index, lane.symbol) == 1, f"a row of {s.index} does not lie in one piece"
    row = s.index - lane.var
    place = b.ptrtoint(at(b, address(scope, s.buffer, row, s.value.dtype), start, element), I64)
    before = b.udiv(b.and_(b.neg(place), const(scope.function.width * size - 1)), const(size))
    first = b.add(start, before)
    return b.select(b.icmp_signed("<", first, stop), first, stop)


def _whole(scope: Scope, start: Any, stop: Any, block: int) -> Any:
    """Where the whole blocks between start and stop end."""
    if isinstance(start, ir.Constant) and isinstance(stop, ir.Constant):
        return const(start.constant + (stop.constant - start.constant) // block * block)
    b = scope.builder
    length = b.sub(stop, start)
    return b.sub(stop, b.urem(length, const(block)))
