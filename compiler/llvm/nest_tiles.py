"""The loops of a plain kernel that works on tiles (`tile.py`): squares of them, or blocks that go past the caches."""

from __future__ import annotations

from typing import Any

from graphflow.compiler.llvm.bounds import decoded, first_whole, side_of, whole_blocks
from graphflow.compiler.llvm.code import I64, add, const, divmod_, minimum, mul
from graphflow.compiler.llvm.cut import Schedule
from graphflow.compiler.llvm.emit import store_all
from graphflow.compiler.llvm.lanes import tile_masks
from graphflow.compiler.llvm.memory import address
from graphflow.compiler.llvm.scope import Lanes, Scope, loop_variables, open_loop
from graphflow.compiler.llvm.tile_ahead import BlockAhead
from graphflow.compiler.loops.ir import Expr, Kernel, Loop
from graphflow.core.dim import Symbol, ceildiv, product

__all__ = ["emit_tiles"]


def emit_tiles(root: Scope, kernel: Kernel, schedule: Schedule, tile: Loop, begin: Any, end: Any) -> None:
    """for square in the units' squares: its tiles, of as many rows as a vector has lanes."""
    assert schedule.lane is not None
    b, lane, width, (high, broad) = root.builder, schedule.lane, schedule.vectors, schedule.square
    across, down = root.size(ceildiv(lane.extent, broad)), root.size(ceildiv(tile.extent, high))
    total = b.mul(root.size(product(tuple(loop.extent for loop in schedule.rows))), b.mul(down, across))
    first, last = (b.mul(x, root.size(schedule.rows_per_unit)) for x in (begin, end))
    stop = minimum(b, last, total)

    def square_at(scope: Scope, number: Any) -> tuple[Scope, Any, Any]:
        """(the scope of its rows, its place along the tile's loop, along the lanes)"""
        column, first = divmod_(scope.builder, number, down if schedule.down else across)
        row, second = divmod_(scope.builder, column, across if schedule.down else down)
        y, x = (first, second) if schedule.down else (second, first)
        return decoded(scope, schedule.rows, row), y, x

    shift = const(0) if schedule.aligned is None else _first_row(root, schedule.aligned)
    with open_loop(root, first, stop, 1, None) as loop:
        inner = loop.scope.builder
        scope, y, x = square_at(loop.scope, loop.index)
        side = side_of(scope, x, lane, broad, const(0))
        following: dict[Symbol, Any] = {}
        if schedule.stream is not None:
            after = inner.add(loop.index, const(1))
            there, down_, x = square_at(
                loop.scope, inner.select(inner.icmp_signed("<", after, stop), after, loop.index)
            )
            turn = add(inner, mul(inner, down_, const(high)), shift)
            following = {**there.variables, tile.symbol: turn, lane.symbol: mul(inner, x, const(broad))}
        start, bottom = side_of(scope, y, tile, high, shift)
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
    whole = b.select(b.icmp_signed(">=", left, const(width)), whole_blocks(scope, *side, width), side[0])
    first = side[0]
    if schedule.stream is not None:
        aligned = b.icmp_signed("==", first_whole(scope, schedule.stream, lane, first, stop), first)
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
        masks = tile_masks(rest.scope.builder, rest.scope.builder.sub(side[1], rest.index), left, width)
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
    lane, width, high = schedule.lane, schedule.vectors, schedule.square[0]
    with open_loop(scope, start, stop, width, lane.symbol) as main:
        ahead = None
        if following is not None:
            b, (there, strip) = main.scope.builder, following
            in_row = b.udiv(b.sub(stop, start), const(width))
            done = b.mul(b.udiv(strip, const(width)), in_row)
            ahead = BlockAhead(there, b.add(done, b.udiv(b.sub(main.index, start), const(width))), high, schedule.down)
        main.scope.lanes = Lanes(lane.symbol, width, width, None, tile.symbol, stream, ahead)
        store_all(main.scope, list(kernel.stores))
