"""Many small products: each is written out in the loop over batch indices, with no calls and no way through memory.

The tile of contract_tile, its steps of k unrolled where they are few, stands in the launch itself, once for whole tiles
and once for each remainder of rows and columns, and gives its vectors to the epilogue straight from registers.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from llvmlite import ir

from graphflow.compiler.llvm.contract_finish import EpiloguePoint, emit_finish
from graphflow.compiler.llvm.contract_ir import (
    Code,
    add,
    at,
    const,
    dot,
    first_lanes,
    loop,
    minimum,
    mul,
    unravel,
    zeros,
)
from graphflow.compiler.llvm.contract_pack import Packer, block_columns, sizes
from graphflow.compiler.llvm.contract_plan import Plan
from graphflow.compiler.llvm.contract_tile import Sums, Tile, step, sum_over
from graphflow.core.dim import Size

if TYPE_CHECKING:
    from graphflow.compiler.llvm.contract_units import Emitter

# Products of vectors that are written out one after the other, and instructions of epilogues in one tile.
UNROLLED = 256
EPILOGUES = 96


@dataclass(frozen=True)
class Part:
    """Tiles of one size: `count` of them from `start` on, `length` rows or columns each."""

    start: int
    count: int
    length: int


def parts(extent: int, length: int) -> Iterator[Part]:
    """Whole tiles, then the remainder."""
    whole, rest = divmod(extent, length)
    if whole:
        yield Part(0, whole, length)
    if rest:
        yield Part(whole * length, 1, rest)


@contextmanager
def turns(b: ir.IRBuilder, part: Part) -> Iterator[ir.Value]:
    """A loop over the first row or column of each tile; none for a single tile."""
    if part.count == 1:
        yield const(part.start)
        return
    with loop(b, const(part.start), const(part.start + part.count * part.length), part.length) as first:
        yield first


def int_of(size: Size) -> int:
    """A size that the plan knows to be a number."""
    assert isinstance(size, int)
    return size


class Inline:
    """Writes the launch of a plan that is `inline`."""

    def __init__(self, emitter: Emitter, weight: int):
        self.emitter, self.plan, self.element = emitter, emitter.plan, emitter.element
        plan = self.plan
        self.finish = None
        if weight * plan.rows * plan.vectors > EPILOGUES:
            self.finish = emit_finish(
                emitter.module, emitter.name + ".finish", plan, emitter.emit_size, emitter.epilogue, 0
            )

    def emit(self) -> None:
        """The loops over units and their batch indices."""
        plan, block = self.plan, const(self.plan.batch_block)
        with self.emitter.launch("") as (code, unit):
            b = code.b
            first = mul(b, unit, block)
            last = minimum(b, add(b, first, block), code.size(plan.batch_count))
            with loop(b, first, last) as batch:
                self.product(code, batch)

    def product(self, code: Code, batch: ir.Value) -> None:
        """One batch index."""
        plan, b, spec = self.plan, code.b, self.plan.spec
        index = unravel(b, batch, sizes(code, [axis.extent for axis in plan.batch]))
        a_offset = add(b, dot(b, index, sizes(code, [axis.a for axis in plan.batch])), code.size(spec.a_offset))
        b_offset = add(b, dot(b, index, sizes(code, [axis.b for axis in plan.batch])), code.size(spec.b_offset))
        places = [
            at(b, self.emitter.argument(code, n), offset, self.element) for n, offset in enumerate((a_offset, b_offset))
        ]
        if plan.packed:
            places[1] = self.pack(code, places[1])
        n = int_of(spec.n.extent)
        for columns in parts(n, plan.width):
            for rows in parts(int_of(plan.row_count), plan.rows):
                self.tiles(code, (batch, index), (places[0], places[1]), rows, columns)

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

    def tiles(
        self,
        code: Code,
        batch: tuple[ir.Value, tuple[ir.Value, ...]],
        places: tuple[ir.Value, ir.Value],
        rows: Part,
        columns: Part,
    ) -> None:
        """All tiles of one size."""
        plan, b = self.plan, code.b
        with turns(b, columns) as lane, turns(b, rows) as row:
            a = at(b, places[0], mul(b, row, code.size(plan.run.a)), self.element)
            # A panel starts at its first column times the depth.
            source = at(b, places[1], mul(b, lane, code.size(plan.depth)) if plan.packed else lane, self.element)
            vectors = -(-columns.length // plan.lanes)
            sums = self.sums(code, replace(plan, rows=rows.length, vectors=vectors), (a, source), columns.length)
            self.hand_on(code, batch, row, lane, sums, columns.length)

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
            return sum_over(code, self.element, plan.tile_k, count, places, start, lambda *x: step(tile, *x))
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
        first = mul(b, batch[0], code.size(plan.row_count))
        for n, value in enumerate(sums):
            r, v = divmod(n, vectors)
            number, left = add(b, row, const(r)), columns - v * plan.lanes
            index = (*batch[1], *unravel(b, number, sizes(code, plan.groups[0].parts)))
            count = None if left >= plan.lanes else const(left)
            place = add(b, lane, const(v * plan.lanes))
            args = code.function.args[0]
            point = EpiloguePoint(code.entry, args, code.dims, index, add(b, first, number), place, value, count)
            self.emitter.epilogue(b, point)
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
        rows = (const(0), row, const(0), const(len(sums) // vectors))
        arguments = (code.function.args[0], code.dims, scratch, batch, *rows, lane, const(columns), const(0))
        b.call(self.finish, arguments)
