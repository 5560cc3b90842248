"""Small products and short sums: tiles are written out in the loop over units, with no calls and no way through memory.

The tile of tile.py, its steps of k unrolled where they are few, stands in the launch itself, once for whole tiles
and once for each remainder of rows and columns, and gives its vectors to the epilogue straight from registers.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from llvmlite import ir

from graphflow.compiler.llvm.code import (
    Code,
    add,
    at,
    const,
    dot,
    first_lanes,
    is_const,
    loop,
    minimum,
    mul,
    prefetch,
    sub,
    unravel,
    zeros,
)
from graphflow.compiler.llvm.contract.finish import PACKED, EpiloguePoint, ways_to_store
from graphflow.compiler.llvm.contract.k_loops import Sums, sum_over
from graphflow.compiler.llvm.contract.pack import Packer, block_columns, sizes
from graphflow.compiler.llvm.contract.plan import Plan
from graphflow.compiler.llvm.contract.tile import Tile, step, unrolled
from graphflow.core.dim import Size, ceildiv

if TYPE_CHECKING:
    from graphflow.compiler.llvm.contract.units import Emitter

# Products of vectors that are written out one after the other, and instructions of epilogues in one tile.
UNROLLED = 256
EPILOGUES = 96


@dataclass(frozen=True)
class Part:
    """Tiles of one size: their first rows or columns are `begin`, `begin` + `length` ... before `end`."""

    begin: ir.Value
    end: ir.Value
    length: int


def parts(b: ir.IRBuilder, begin: ir.Value, end: ir.Value, length: int, extent: Size) -> Iterator[Part]:
    """[begin, end) as whole tiles and what is left at the end of an axis: one tile, or single rows of a symbolic one.

    `begin` is a multiple of `length`; so is `end`, except at the end of the axis.
    """
    rest = extent % length if isinstance(extent, int) else 1
    if not rest:
        yield Part(begin, end, length)
        return
    stop = last_whole(b, begin, end, length)
    yield Part(begin, stop, length)
    yield Part(stop, end, rest)


def last_whole(b: ir.IRBuilder, begin: ir.Value, end: ir.Value, length: int) -> ir.Value:
    """Where the whole tiles between begin and end end."""
    if isinstance(begin, ir.Constant) and isinstance(end, ir.Constant):
        return const(begin.constant + (end.constant - begin.constant) // length * length)
    return sub(b, end, b.urem(sub(b, end, begin), const(length)))


@contextmanager
def turns(b: ir.IRBuilder, part: Part) -> Iterator[ir.Value]:
    """A loop over the first row or column of each tile; none for a single tile."""
    if isinstance(part.begin, ir.Constant) and is_const(part.end, part.begin.constant + part.length):
        yield part.begin
        return
    with loop(b, part.begin, part.end, part.length) as first:
        yield first


def block(code: Code, number: ir.Value, panels: int, length: int, extent: Size) -> tuple[ir.Value, ir.Value]:
    """[begin, end) of a block of so many panels, of an axis."""
    b, total = code.b, code.size(extent)
    begin = mul(b, number, const(panels * length))
    if is_const(begin, 0) and isinstance(extent, int) and extent <= panels * length:
        return begin, total
    return begin, minimum(b, add(b, begin, const(panels * length)), total)


def int_of(size: Size) -> int:
    """A size that the plan knows to be a number."""
    assert isinstance(size, int)
    return size


class Inline:
    """Writes the launch of a plan that is `inline`."""

    def __init__(self, emitter: Emitter, weight: int):
        self.emitter, self.plan, self.element = emitter, emitter.plan, emitter.element
        plan = self.plan
        through_memory = weight * plan.rows * plan.vectors > EPILOGUES
        self.finish = emitter.finishing(".finish") if through_memory else None
        self.asking = emitter.finishing(".beside", asks=True) if plan.asks_beside else None

    def emit(self) -> None:
        """The loops over units and their batch indices."""
        plan, count = self.plan, const(self.plan.batch_block)
        with self.emitter.launch("") as (code, unit):
            b = code.b
            blocks = [ceildiv(plan.batch_count, plan.batch_block), plan.column_blocks, plan.row_blocks]
            number, column, row = unravel(b, unit, sizes(code, blocks))
            rows = block(code, row, plan.row_block, plan.rows, plan.row_count)
            columns = block(code, column, plan.column_block, plan.width, plan.spec.n.extent)
            first = mul(b, number, count)
            last = minimum(b, add(b, first, count), code.size(plan.batch_count))
            with loop(b, first, last) as batch:
                self.product(code, batch, rows, columns)

    def product(
        self, code: Code, batch: ir.Value, rows: tuple[ir.Value, ir.Value], columns: tuple[ir.Value, ir.Value]
    ) -> None:
        """Some rows and columns of one batch index, row panel after row panel."""
        plan, b = self.plan, code.b
        index = unravel(b, batch, sizes(code, [axis.extent for axis in plan.batch]))
        asked = self.operands(code, index)
        places = (asked[0], self.pack(code, asked[1])) if plan.packs_inline else asked
        for down in parts(b, *rows, plan.rows, plan.row_count):
            with turns(b, down) as row:
                self.ask_ahead(code, asked, row, down.length)
                for across in parts(b, *columns, plan.width, plan.spec.n.extent):
                    with turns(b, across) as lane:
                        self.tile(code, (batch, index), places, (row, down.length), (lane, across.length))

    def operands(self, code: Code, index: tuple[ir.Value, ...]) -> tuple[ir.Value, ir.Value]:
        """Where A and B of a batch index start; B in its packed copy if a launch made one."""
        plan, b, spec = self.plan, code.b, self.plan.spec
        a_offset = add(b, dot(b, index, sizes(code, [axis.a for axis in plan.batch])), code.size(spec.a_offset))
        b_offset = add(b, dot(b, index, sizes(code, [axis.b for axis in plan.batch])), code.size(spec.b_offset))
        a = at(b, self.emitter.argument(code, 0), a_offset, self.element)
        if plan.packs_first:
            return a, at(b, self.emitter.argument(code, PACKED), self.emitter.packed_offset(code, index), self.element)
        return a, at(b, self.emitter.argument(code, 1), b_offset, self.element)

    def ask_ahead(self, code: Code, places: tuple[ir.Value, ir.Value], row: ir.Value, height: int) -> None:
        """Before a row panel ask for its share of what a later one, or a later product, reads."""
        b, line = code.b, 64 // self.plan.bytes
        for ask in self.plan.asks:
            first = at(b, places[ask.operand], mul(b, row, const(ask.row)), self.element)
            for offset in range(0, height * ask.row, line):
                prefetch(b, at(b, first, const(ask.ahead + offset), self.element))

    def pack(self, code: Code, source: ir.Value) -> ir.Value:
        """Copy B to scratch as packed panels; gives where."""
        plan, b = self.plan, code.b
        scratch, step_columns = self.emitter.stage(code), block_columns(plan)
        span = const(0), code.size(plan.k[0].extent)
        with loop(b, const(0), code.size(plan.column_panels)) as panel:
            target = at(b, scratch, mul(b, panel, code.size(plan.depth * plan.width)), self.element)
            with loop(b, const(0), const(plan.width), step_columns) as start:
                lane = add(b, mul(b, panel, const(plan.width)), start)
                Packer(code, plan, source, at(b, target, start, self.element), lane, span, step_columns).emit()
        return scratch

    def tile(
        self,
        code: Code,
        batch: tuple[ir.Value, tuple[ir.Value, ...]],
        places: tuple[ir.Value, ir.Value],
        rows: tuple[ir.Value, int],
        columns: tuple[ir.Value, int],
    ) -> None:
        """One tile: its first row and how many it has, its first column and how many."""
        plan, b = self.plan, code.b
        (row, height), (lane, width) = rows, columns
        a = at(b, places[0], mul(b, row, code.size(plan.run.a)), self.element)
        # A panel starts at its first column times the depth.
        source = at(b, places[1], mul(b, lane, code.size(plan.depth)) if plan.packed else lane, self.element)
        vectors = -(-width // plan.lanes)
        if self.asking is not None:
            self.call(code, self.asking, batch[0], rows, columns)
        sums = self.sums(code, replace(plan, rows=height, vectors=vectors), (a, source), width)
        self.hand_on(code, batch, row, lane, sums, width)

    def sums(self, code: Code, plan: Plan, places: tuple[ir.Value, ir.Value], columns: int) -> Sums:
        """The results of one tile, row by row."""
        b, vector = code.b, ir.VectorType(self.element, plan.lanes)
        left = [columns - v * plan.lanes for v in range(plan.vectors)]
        masks: list[ir.Value | None] = [
            None if plan.packed or x >= plan.lanes else first_lanes(b, const(x), plan.lanes) for x in left
        ]
        offsets = [mul(b, const(r), code.size(plan.row_stride)) for r in range(plan.rows)]
        tile = Tile(plan, code, self.element, vector, offsets, masks)
        start: Sums = [zeros(vector)] * (plan.rows * plan.vectors)
        if int_of(plan.depth) * plan.rows * plan.vectors > UNROLLED:
            count = code.size(plan.tile_k[0].extent)
            unroll = unrolled(plan)
            return sum_over(code, self.element, plan.tile_k, count, places, start, lambda *x: step(tile, *x), unroll)
        ranges = [range(int_of(axis.extent)) for axis in plan.tile_k]
        for indices in itertools.product(*ranges):
            a, source = (
                at(b, place, dot(b, [const(i) for i in indices], sizes(code, strides)), self.element)
                for place, strides in zip(places, ([x.a for x in plan.tile_k], [x.b for x in plan.tile_k]), strict=True)
            )
            start = step(tile, a, source, start)
        return start

    def hand_on(
        self,
        code: Code,
        batch: tuple[ir.Value, tuple[ir.Value, ...]],
        row: ir.Value,
        lane: ir.Value,
        sums: Sums,
        columns: int,
    ) -> None:
        """Give results to the epilogue: directly where it is short, through memory where it is long."""
        plan, b = self.plan, code.b
        vectors = -(-columns // plan.lanes)
        if self.finish is not None:
            return self.through_memory(code, batch[0], row, lane, sums, columns)
        args, first = code.function.args[0], mul(b, batch[0], code.size(plan.row_count))

        def point(n: int, value: ir.Value, streams: bool) -> EpiloguePoint:
            r, v = divmod(n, vectors)
            number, left = add(b, row, const(r)), columns - v * plan.lanes
            index = (*batch[1], *unravel(b, number, sizes(code, plan.groups[0].parts)))
            count = None if left >= plan.lanes else const(left)
            place, flat = add(b, lane, const(v * plan.lanes)), add(b, first, number)
            return EpiloguePoint(code.entry, args, code.dims, index, flat, place, value, count, streams)

        for streams in ways_to_store(code, plan, args):
            for n, value in enumerate(sums):
                self.emitter.epilogue(b, point(n, value, streams))
        return None

    def through_memory(
        self, code: Code, batch: ir.Value, row: ir.Value, lane: ir.Value, sums: Sums, columns: int
    ) -> None:
        """Store the results to scratch and call `finish`."""
        plan, b = self.plan, code.b
        scratch, vectors = code.function.args[4], -(-columns // plan.lanes)
        for n, value in enumerate(sums):
            r, v = divmod(n, vectors)
            place = at(b, scratch, const(r * plan.width + v * plan.lanes), self.element)
            b.store(value, place, align=plan.lanes * plan.bytes)
        self.call(code, self.finish, batch, (row, len(sums) // vectors), (lane, columns))

    def call(
        self,
        code: Code,
        function: ir.Function,
        batch: ir.Value,
        rows: tuple[ir.Value, int],
        columns: tuple[ir.Value, int],
    ) -> None:
        """Call `finish`, or what asks before it, for a tile: its first row and how many, its first column likewise."""
        args, scratch = code.function.args[0], code.function.args[4]
        places = (const(0), rows[0], const(0), const(rows[1]), columns[0], const(columns[1]), const(0))
        code.b.call(function, (args, code.dims, scratch, batch, *places))
