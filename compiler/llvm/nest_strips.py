"""The loops of a kernel whose tiles (`tile.py`) go past the caches to rows that begin anywhere: `emit_strips`.

    for block in the units' blocks:       a strip of the tile's loop, a few vectors of lanes
      for tile in the block:              its rows go to the thread's memory;
        for row in some of the rows         meanwhile rows of the block before
            of the block before:            leave it, in whole vectors of memory

Only whole vectors of memory go past the caches, and where they begin differs from row to row.  So a row in the thread's
memory has room for one vector before its block: what the block before has left of its last one.  What begins or ends
where blocks do not follow each other is stored as usual.  Tiles are read while others are written, since a core waits
for one or the other otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from llvmlite import ir

from graphflow.compiler.llvm.bounds import decoded
from graphflow.compiler.llvm.code import I32, I64, PTR, at, const, divmod_, first_lanes, minimum, mul, splat
from graphflow.compiler.llvm.cut import Schedule
from graphflow.compiler.llvm.emit import store_all
from graphflow.compiler.llvm.lanes import tile_masks
from graphflow.compiler.llvm.memory import address, store_past_caches, store_vector
from graphflow.compiler.llvm.scope import Aside, Lanes, Scope, open_loop
from graphflow.compiler.llvm.tile_ahead import RowsAhead
from graphflow.compiler.llvm.values import memory_type
from graphflow.compiler.loops.ir import Kernel, Loop, Store
from graphflow.core.dim import ceildiv, product
from graphflow.core.dtype import DType

__all__ = ["emit_strips"]


@dataclass(frozen=True)
class _Strips:
    """What all blocks share; rows of the thread's memory are `stride` elements apart."""

    schedule: Schedule
    lane: Loop
    tile: Loop
    store: Store
    area: Any

    @property
    def width(self) -> int:
        return self.schedule.vectors

    @property
    def stride(self) -> int:
        return self.schedule.square[1] + self.width

    def block(self, b: Any, number: Any) -> Any:
        """Where a block's rows lie: those of two that follow each other lie apart."""
        half = mul(b, b.and_(number, const(1)), const(self.schedule.square[0] * self.stride))
        return at(b, self.area, half, memory_type(self.store.value.dtype))


@dataclass(frozen=True)
class _Block:
    """A block: the scope of its rows, its turns of the tile's loop and its lanes.

    `opens`, `closes`: whether no block before or after it has the rest of its first and last vectors.
    """

    rows: Scope
    turn: Any
    turns: Any
    lane: Any
    lanes: Any
    opens: Any
    closes: Any


def emit_strips(root: Scope, kernel: Kernel, schedule: Schedule, tile: Loop, begin: Any, end: Any) -> None:
    """The units from begin to end; after their last block comes one without tiles."""
    assert schedule.lane is not None
    assert schedule.stream is not None
    b, lane, (tall, wide) = root.builder, schedule.lane, schedule.square
    strips = _Strips(schedule, lane, tile, schedule.stream, root.function.arguments[-1])
    across, down = root.size(ceildiv(lane.extent, wide)), root.size(ceildiv(tile.extent, tall))
    total = b.mul(root.size(product(tuple(loop.extent for loop in schedule.rows))), b.mul(down, across))
    first, last = (b.mul(x, root.size(schedule.rows_per_unit)) for x in (begin, end))
    stop = minimum(b, last, total)

    def block_at(scope: Scope, number: Any, there: Any) -> _Block:
        c = scope.builder
        number = c.select(there, number, first)  # where none is there, what its row shares is read all the same
        column, x = divmod_(c, number, across)
        row, y = divmod_(c, column, down)
        turn, start = c.mul(y, const(tall)), c.mul(x, const(wide))
        turns = minimum(c, c.sub(scope.size(tile.extent), turn), const(tall))
        lanes = minimum(c, c.sub(scope.size(lane.extent), start), const(wide))
        after = c.add(number, const(1))
        opens = c.or_(c.icmp_signed("==", number, first), c.icmp_signed("==", x, const(0)))
        closes = c.or_(c.icmp_signed("==", after, stop), c.icmp_signed("==", c.add(x, const(1)), across))
        turns, lanes = (c.select(there, count, const(0)) for count in (turns, lanes))
        return _Block(decoded(scope, schedule.rows, row), turn, turns, start, lanes, opens, closes)

    some = b.icmp_signed("<", first, stop)
    with open_loop(root, first, b.select(some, b.add(stop, const(1)), first), 1, None) as loop:
        c, number = loop.scope.builder, loop.index
        now = block_at(loop.scope, number, c.icmp_signed("<", number, stop))
        before = c.sub(number, const(1))
        past = block_at(loop.scope, before, c.icmp_signed(">", number, first))
        areas = strips.block(c, number), strips.block(c, before)
        done = _emit_block(now, past, kernel, strips, areas)
        _store_rows(loop.scope, past, strips, areas, done, past.turns)


def _emit_block(now: _Block, past: _Block, kernel: Kernel, strips: _Strips, areas: tuple[Any, Any]) -> Any:
    """The tiles of a block, each with some rows of the block before; how many of these are stored in the end."""
    b, width, lane, tile = now.rows.builder, strips.width, strips.lane, strips.tile
    element = memory_type(strips.store.value.dtype)
    bottom = b.add(now.turn, now.turns)
    whole_turns = b.sub(now.turns, b.urem(now.turns, const(width)))
    per_tile = max(width * width // strips.schedule.square[1], 1)

    def aside(scope: Scope, start: Any, turn: Any) -> Aside:
        c = scope.builder
        offset = c.add(c.mul(c.sub(turn, now.turn), const(strips.stride)), c.sub(start, now.lane))
        return Aside(at(c, areas[0], c.add(offset, const(width)), element), strips.stride)

    with open_loop(now.rows, now.lane, b.add(now.lane, now.lanes), width, lane.symbol, initial=(const(0),)) as column:
        c = column.scope.builder
        left = c.sub(c.add(now.lane, now.lanes), column.index)
        whole = c.add(now.turn, c.select(c.icmp_signed(">=", left, const(width)), whole_turns, const(0)))
        with open_loop(column.scope, now.turn, whole, width, tile.symbol, initial=column.carried) as main:
            ahead = RowsAhead(column.index, main.index, now.turn, now.turns)
            place = aside(main.scope, column.index, main.index)
            main.scope.lanes = Lanes(lane.symbol, width, width, None, tile.symbol, strips.store.buffer, ahead, place)
            store_all(main.scope, list(kernel.stores))
            d, done = main.scope.builder, main.carried[0]
            following = minimum(d, d.add(done, const(per_tile)), past.turns)
            _store_rows(main.scope, past, strips, areas, done, following)
            main.carry([following])
        with open_loop(column.scope, whole, bottom, width, tile.symbol) as edge:
            d = edge.scope.builder
            masks = tile_masks(d, left, d.sub(bottom, edge.index), width)
            place = aside(edge.scope, column.index, edge.index)
            edge.scope.lanes = Lanes(lane.symbol, width, width, masks, tile.symbol, strips.store.buffer, None, place)
            store_all(edge.scope, list(kernel.stores))
        column.carry(main.results)
    return column.results[0]


def _store_rows(scope: Scope, past: _Block, strips: _Strips, areas: tuple[Any, Any], start: Any, stop: Any) -> None:
    """Rows of a block leave the thread's memory; what is left of their last vectors comes to the next block."""
    width, dtype = strips.width, strips.store.value.dtype
    element = memory_type(dtype)
    with open_loop(scope, start, stop, 1, None) as loop:
        b = loop.scope.builder
        offset = b.mul(loop.index, const(strips.stride))
        row = _row_at(loop.scope, past, strips, b.add(past.turn, loop.index), at(b, areas[1], offset, element))
        some = b.icmp_signed(">", row.whole, const(0))
        with b.if_else(b.or_(past.opens, b.not_(some))) as (part, all_of_it):
            with part:
                row.store_part(b, const(0), b.select(past.opens, row.before, const(0)))
            with all_of_it:
                row.store_whole(b, const(0))
        with open_loop(loop.scope, const(1), row.whole, 1, None) as rest:
            row.store_whole(rest.scope.builder, rest.index)
        with b.if_then(b.and_(past.closes, some)):
            row.store_part(b, row.whole, const(0))
        left_over = at(b, areas[1], b.add(offset, const(strips.stride - width)), element)
        kept = b.load(left_over, typ=ir.VectorType(element, width), align=dtype.size)
        b.store(kept, at(b, areas[0], offset, element), align=dtype.size)


def _row_at(scope: Scope, past: _Block, strips: _Strips, turn: Any, held: Any) -> _Row:
    """The row of a block at a turn of the tile's loop, whose first vector in the thread's memory is at `held`."""
    b, width, dtype = scope.builder, strips.width, strips.store.value.dtype
    there = past.rows.child(b, {strips.tile.symbol: turn, strips.lane.symbol: past.lane}, None)
    begins = b.ptrtoint(address(there, strips.store.buffer, strips.store.index, dtype), I64)
    before = b.udiv(b.and_(begins, const(width * dtype.size - 1)), const(dtype.size))
    target = b.inttoptr(b.and_(begins, const(-width * dtype.size)), PTR)
    source = at(b, held, b.sub(const(width), before), memory_type(dtype))
    count = b.add(before, past.lanes)
    return _Row(source, target, before, count, b.udiv(count, const(width)), width, dtype)


@dataclass(frozen=True)
class _Row:
    """A row of a block as vectors of memory, `whole` of them and a part: `source` is where their elements lie, `before`
    of which belong to the block before, and `count` is how many there are."""

    source: Any
    target: Any
    before: Any
    count: Any
    whole: Any
    width: int
    dtype: DType

    def store_whole(self, b: Any, number: Any) -> None:
        """A vector, past the caches."""
        store_past_caches(b, *self._vector(b, number), self.width * self.dtype.size)

    def store_part(self, b: Any, number: Any, first: Any) -> None:
        """The lanes of a vector that are there, from `first` on."""
        x, pointer = self._vector(b, number)
        lanes = ir.Constant(ir.VectorType(I32, self.width), list(range(self.width)))
        after = b.icmp_signed(">=", lanes, splat(b, b.trunc(first, I32), self.width))
        there = first_lanes(b, b.sub(self.count, b.mul(number, const(self.width))), self.width)
        store_vector(b, x, pointer, b.and_(after, there), self.dtype.size)

    def _vector(self, b: Any, number: Any) -> tuple[Any, Any]:
        element = memory_type(self.dtype)
        offset = b.mul(number, const(self.width))
        kind = ir.VectorType(element, self.width)
        x = b.load(at(b, self.source, offset, element), typ=kind, align=self.dtype.size)
        return x, at(b, self.target, offset, element)
