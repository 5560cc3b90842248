"""Writes the launches of one planned contraction: pack B, compute tiles, add partial results.

`Emitter(...).pack()`, `.compute()` and `.reduce()` each add a function to the module.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from llvmlite import ir

from graphflow.compiler.llvm.code import (
    Code,
    add,
    at,
    const,
    dot,
    loop,
    minimum,
    mul,
    sub,
    unravel,
)
from graphflow.compiler.llvm.contract.choose_inline import unit_cycles
from graphflow.compiler.llvm.contract.dot import emit_dot_tile
from graphflow.compiler.llvm.contract.finish import PACKED, Finisher, emit_finish
from graphflow.compiler.llvm.contract.inline import Inline
from graphflow.compiler.llvm.contract.pack import (
    chunk,
    copies_panels,
    emit_columns,
    emit_pack,
    sizes,
)
from graphflow.compiler.llvm.contract.plan import SMALL_ROWS
from graphflow.compiler.llvm.contract.stage import STAGE_GROUP, emit_stage_beside, emit_stage_panel
from graphflow.compiler.llvm.contract.sweep import emit_sweep_tile
from graphflow.compiler.llvm.contract.tile import emit_tile
from graphflow.compiler.llvm.contract.walk import Rows, Unit, Walk
from graphflow.core.dim import Size, ceildiv, estimate, product

if TYPE_CHECKING:
    from graphflow.compiler.llvm.code import SizeEmitter
    from graphflow.compiler.llvm.contract.finish import Epilogue
    from graphflow.compiler.llvm.contract.plan import Plan
    from graphflow.compiler.llvm.target import Target

# Elements that one unit of the last launch reads, where k is split.
REDUCE_ELEMENTS = 32768
# One part in so many of all vectors has to be idle in the last column panel for a tile of fewer.
EDGE_LEAST = 64
# To tell the cost of small products, known in cycles, as flops.
FLOPS_PER_CYCLE = 32


@dataclass(frozen=True)
class Launch:
    """A function to run over [0, units), and about how many flops one unit is (to decide on threads).

    `together`: units read what their neighbours read, and had better be done at about the same time.
    """

    name: str
    units: Size
    unit_flops: int
    together: bool = False


@dataclass(frozen=True)
class Tiles:
    """The functions of a compute launch: a tile, the one of few rows, the one that packs as it goes, the one that asks
    for what is packed next, the one of few columns, and what packs alone."""

    whole: ir.Function
    small: ir.Function | None = None
    packing: ir.Function | None = None
    asking: ir.Function | None = None
    edge: ir.Function | None = None
    pack: ir.Function | None = None


def has_edge(plan: Plan) -> bool:
    """Whether a tile of its own for the last column panel saves enough of all work."""
    idle = plan.vectors - plan.edge_vectors
    return idle > 0 and idle * EDGE_LEAST >= estimate(plan.column_panels) * plan.vectors


class Emitter(Walk):
    """Writes the launches of one plan."""

    def __init__(
        self,
        module: ir.Module,
        name: str,
        plan: Plan,
        target: Target,
        size: SizeEmitter,
        epilogue: Epilogue,
        weight: int = 0,
    ):
        super().__init__(module, name, plan, target, size)
        self.epilogue, self.weight = epilogue, weight

    def pack(self) -> Launch:
        """The launch that packs B."""
        plan, columns = self.plan, None
        if not copies_panels(plan, wide_masks=self.target.vector_bits >= 256):
            columns = emit_columns(self.module, self.name + ".columns", plan, self.emit_size)
        with self.launch(".pack") as (code, unit):
            source, target = self.argument(code, 1), self.argument(code, PACKED)
            emit_pack(code, plan, unit, source, target, columns)
        units = plan.packed_batch * plan.column_panels * plan.pack_splits
        # Copying an element takes about as long as this many flops.
        flops = 16 * estimate(plan.depth) * plan.width // plan.pack_splits
        return Launch(self.name + ".pack", units, flops)

    def stage_panels(self) -> Launch:
        """The launch that copies A."""
        plan, parts = self.plan, self.plan.stage_parts
        beside = plan.k[-1].a != 1  # rows are
        # Then neighbours find the pages of a part of k at hand; rows along k are read from end to end by one unit.
        group, cut = (STAGE_GROUP, parts) if beside else (1, 1)
        units = plan.batch_count, cut, ceildiv(plan.row_panels, group)
        with self.launch(".stage") as (code, number):
            b = code.b
            batch, first_part, block = unravel(b, number, sizes(code, units))
            index = unravel(b, batch, sizes(code, [axis.extent for axis in plan.batch]))
            offset = dot(b, index, sizes(code, [axis.a for axis in plan.batch]))
            a = at(b, self.argument(code, 0), add(b, offset, code.size(plan.spec.a_offset)), self.element)
            panel = mul(b, block, const(group))
            end = minimum(b, add(b, panel, const(group)), code.size(plan.row_panels))
            first = mul(b, panel, const(plan.rows))

            def row_source(r: ir.Value) -> ir.Value:
                return self.row_address(code, a, add(b, first, r))

            with loop(b, first_part, const(parts), cut) as part:
                span = chunk(code, plan.k[0].extent, parts, part)
                stage = self.panel(code, batch, panel, span)
                if beside:
                    emit_stage_beside(code, plan, stage, a, (panel, end), span)
                else:
                    emit_stage_panel(code, plan, stage, row_source, span)
        flops = 16 * estimate(plan.depth) * plan.rows * group // cut
        return Launch(self.name + ".stage", product(units), flops)

    def tile_code(self) -> Tiles:
        """The functions that tiles and column panels need."""
        plan, name = self.plan, self.name
        short = plan.may_be_short
        small = packing = asking = pack = None
        if plan.sweep:
            return Tiles(emit_sweep_tile(self.module, name + ".tile", plan, plan.rows, self.emit_size, self.target))
        if plan.dots:
            wide = self.target.vector_bits >= 256
            whole = emit_dot_tile(self.module, name + ".tile", plan, plan.rows, False, self.emit_size, wide)
            if short:
                small = emit_dot_tile(self.module, name + ".small", plan, SMALL_ROWS, True, self.emit_size, wide)
            return Tiles(whole, small)

        def emit(suffix: str, rows: int, vectors: int, **how: Any) -> ir.Function:
            return emit_tile(self.module, name + suffix, plan, rows, self.emit_size, vectors=vectors, **how)

        whole = emit(".tile", plan.rows, plan.vectors)
        if short:
            small = emit(".small", SMALL_ROWS, plan.vectors, clamped=True)
        if self.packs_in_tiles:
            packing = emit(".packing", plan.rows, plan.vectors, packs=True)
        if plan.tile_asks:
            asking = emit(".asking", plan.rows, plan.vectors, asks=plan.tile_asks)
        if plan.local and (short or not self.packs_in_tiles):
            pack = self.panel_code()
        edge = emit(".edge", plan.rows, plan.edge_vectors) if has_edge(plan) else None
        return Tiles(whole, small, packing, asking, edge, pack)

    def compute(self) -> Launch:
        """The launch that computes tiles."""
        plan = self.plan
        if plan.inline:
            Inline(self, self.weight).emit()
            flops = FLOPS_PER_CYCLE * unit_cycles(plan)
            units = ceildiv(plan.batch_count, plan.batch_block) * plan.row_blocks * plan.column_blocks
            return Launch(self.name, units, flops)
        tiles, finish = self.tile_code(), self.finishing(".finish")
        asking = self.finishing(".beside", asks=True) if plan.asks_beside else None
        with self.launch("") as (code, number):
            unit, b = self.unit(code, number), code.b
            with (
                self.k_blocks(code, unit) as (unit, last),
                self.tiles(code, unit, tiles.pack) as (unit, rows, panel, out),
            ):
                lane, columns = self.columns(code, panel)
                numbers = unit.batch, rows.outer, rows.start, rows.first, rows.last, lane, columns, unit.split
                arguments = [code.function.args[0], code.dims, out, *numbers]
                if asking is not None:
                    with b.if_then(last):
                        b.call(asking, arguments)
                self.tile(code, unit, rows, panel, (lane, columns), out, tiles)
                with b.if_then(last):
                    b.call(finish, arguments)
        units = plan.batch_count * plan.column_blocks * plan.row_blocks * plan.splits
        depth = estimate(plan.depth) // plan.splits
        # Of few rows a byte of B takes longer than what is computed with it.
        products = max(2 * plan.row_block * plan.rows, plan.bytes)
        flops = products * plan.column_block * plan.width * depth
        return Launch(self.name, units, flops, together=plan.row_blocks != 1 and plan.column_blocks != 1)

    def finishing(self, name: str, *, asks: bool = False) -> ir.Function:
        """The function that takes results further, or the one that asks for what it will read."""
        return emit_finish(
            self.module, self.name + name, self.plan, self.emit_size, self.epilogue, self.partial_start, asks=asks
        )

    def columns(self, code: Code, panel: ir.Value) -> tuple[ir.Value, ir.Value]:
        """The first column of a panel, and how many it has."""
        plan, b = self.plan, code.b
        lane = mul(b, panel, const(plan.width))
        if plan.whole_columns:
            return lane, const(plan.width)
        return lane, minimum(b, const(plan.width), sub(b, code.size(plan.spec.n.extent), lane))

    def tile(
        self,
        code: Code,
        unit: Unit,
        rows: Rows,
        panel: ir.Value,
        across: tuple[ir.Value, ir.Value],
        out: ir.Value,
        tiles: Tiles,
    ) -> None:
        """Compute one tile, of the columns `across`, into `out`."""
        plan, b, (lane, columns) = self.plan, code.b, across
        if not plan.local:
            offset = mul(b, lane, code.size(plan.depth if plan.packed else plan.spec.n.b))
            unit = replace(unit, b=at(b, unit.b, offset, self.element))
        if tiles.small is None or rows.whole is None:
            self.whole_tile(code, unit, rows, panel, columns, out, tiles)
        else:
            with b.if_else(rows.whole) as (then, otherwise):
                with then:
                    self.whole_tile(code, unit, rows, panel, columns, out, tiles)
                with otherwise:
                    self.small_tiles(code, unit, rows, columns, out, tiles)

    def whole_tile(
        self, code: Code, unit: Unit, rows: Rows, panel: ir.Value, columns: ir.Value, out: ir.Value, tiles: Tiles
    ) -> None:
        """A tile of all rows: the first of a column panel may have to pack it, the last panel may have few columns."""
        b, last = code.b, sub(code.b, code.size(self.plan.column_panels), const(1))

        def tile(function: ir.Function, source: ir.Value, other: ir.Value) -> None:
            rest = (columns, const(self.plan.rows), *unit.span, code.dims)
            b.call(function, [rows.a, source, other, out, *rest])

        special = (
            (unit.fresh, (tiles.packing, unit.source, unit.b)),
            (unit.asking, (tiles.asking, unit.b, unit.asked)),
            (None if tiles.edge is None else b.icmp_signed("==", panel, last), (tiles.edge, unit.b, unit.b)),
        )
        with ExitStack() as stack:
            for holds, call in special:
                if holds is not None:
                    then, otherwise = stack.enter_context(b.if_else(holds))
                    with then:
                        tile(*call)
                    stack.enter_context(otherwise)
            tile(tiles.whole, unit.b, unit.b)

    def small_tiles(self, code: Code, unit: Unit, rows: Rows, columns: ir.Value, out: ir.Value, tiles: Tiles) -> None:
        """The rows of a panel by tiles of SMALL_ROWS."""
        plan, b = self.plan, code.b
        if unit.fresh is not None:
            with b.if_then(unit.fresh):
                b.call(tiles.pack, unit.packing)
        with loop(b, const(0), rows.last, SMALL_ROWS) as row:
            a = at(b, rows.a, mul(b, row, code.size(plan.row_stride)), self.element)
            place = at(b, out, mul(b, row, const(plan.width)), self.element)
            count = minimum(b, sub(b, rows.last, row), const(SMALL_ROWS))
            b.call(tiles.small, [a, unit.b, unit.b, place, columns, count, *unit.span, code.dims])

    def reduce(self) -> Launch:
        """The launch that adds the partial results, in the order of the splits, and calls the epilogue."""
        plan, total = self.plan, self.plan.batch_count * self.plan.row_count
        rows = max(1, REDUCE_ELEMENTS // (plan.splits * max(1, estimate(plan.partial_columns))))
        with self.launch(".reduce") as (code, unit):
            b = code.b
            finisher = Finisher(code, plan, code.function.args[0], self.epilogue, self.partial_start)
            begin = mul(b, unit, const(rows))
            with loop(b, begin, minimum(b, add(b, begin, const(rows)), code.size(total))) as row:
                finisher.finish_sums(row)
        return Launch(self.name + ".reduce", ceildiv(total, rows), 4 * REDUCE_ELEMENTS)
