"""Writes the launches of one planned contraction: pack B, compute tiles, add partial results.

`Emitter(...).pack()`, `.compute()` and `.reduce()` each add a function to the module.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from llvmlite import ir

from graphflow.compiler.llvm.contract_dot import emit_dot_tile
from graphflow.compiler.llvm.contract_finish import PACKED, Finisher, emit_finish
from graphflow.compiler.llvm.contract_inline import Inline
from graphflow.compiler.llvm.contract_ir import (
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
from graphflow.compiler.llvm.contract_pack import (
    copies_panels,
    emit_columns,
    emit_pack,
    sizes,
)
from graphflow.compiler.llvm.contract_plan import SMALL_ROWS
from graphflow.compiler.llvm.contract_special import inline_cycles
from graphflow.compiler.llvm.contract_stage import emit_stage_panel
from graphflow.compiler.llvm.contract_tile import emit_tile
from graphflow.compiler.llvm.contract_walk import Rows, Unit, Walk
from graphflow.core.dim import Size, ceildiv, estimate

if TYPE_CHECKING:
    from graphflow.compiler.llvm.contract_finish import Epilogue
    from graphflow.compiler.llvm.contract_ir import SizeEmitter
    from graphflow.compiler.llvm.contract_plan import Plan
    from graphflow.compiler.llvm.target import Target

# Elements that one unit of the last launch reads, where k is split.
REDUCE_ELEMENTS = 32768
# To tell the cost of small products, known in cycles, as flops.
FLOPS_PER_CYCLE = 32


@dataclass(frozen=True)
class Launch:
    """A function to run over [0, units), and about how many flops one unit is (to decide on threads)."""

    name: str
    units: Size
    unit_flops: int


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
        plan = self.plan
        with self.launch(".stage") as (code, number):
            b = code.b
            batch, panel = unravel(b, number, sizes(code, [plan.batch_count, plan.row_panels]))
            index = unravel(b, batch, sizes(code, [axis.extent for axis in plan.batch]))
            offset = dot(b, index, sizes(code, [axis.a for axis in plan.batch]))
            a = at(b, self.argument(code, 0), add(b, offset, code.size(plan.spec.a_offset)), self.element)
            first = mul(b, panel, const(plan.rows))
            emit_stage_panel(
                code, plan, self.panel(code, batch, panel), lambda r: self.row_address(code, a, add(b, first, r))
            )
        flops = 16 * estimate(plan.depth) * plan.rows
        return Launch(self.name + ".stage", plan.batch_count * plan.row_panels, flops)

    def tile_code(self, suffix: str, rows: int, clamped: bool) -> ir.Function:
        """The function of a tile of so many rows."""
        name = self.name + suffix
        if self.plan.dots:
            masks = self.target.vector_bits >= 256
            return emit_dot_tile(self.module, name, self.plan, rows, clamped, self.emit_size, masks)
        return emit_tile(self.module, name, self.plan, rows, clamped, self.emit_size)

    def compute(self) -> Launch:
        """The launch that computes tiles."""
        plan = self.plan
        if plan.inline:
            Inline(self, self.weight).emit()
            flops = plan.batch_block * FLOPS_PER_CYCLE * inline_cycles(plan)
            return Launch(self.name, ceildiv(plan.batch_count, plan.batch_block), flops)
        tile = self.tile_code(".tile", plan.rows, False)
        small = self.tile_code(".small", SMALL_ROWS, True) if self.may_be_short else None
        finish = emit_finish(
            self.module, self.name + ".finish", plan, self.emit_size, self.epilogue, self.partial_start
        )
        pack = self.panel_code() if plan.local else None
        with self.launch("") as (code, number):
            unit, b = self.unit(code, number), code.b
            with self.k_blocks(code, unit) as (unit, last), self.tiles(code, unit, pack) as (unit, rows, panel, out):
                place = self.tile(code, unit, rows, panel, out, tile, small)
                with b.if_then(last):
                    b.call(finish, [code.function.args[0], code.dims, out, *place])
        units = plan.batch_count * plan.column_blocks * plan.row_blocks * plan.splits
        depth = estimate(plan.depth) // plan.splits
        flops = 2 * plan.row_block * plan.rows * plan.column_block * plan.width * depth
        return Launch(self.name, units, flops)

    def tile(
        self,
        code: Code,
        unit: Unit,
        rows: Rows,
        panel: ir.Value,
        out: ir.Value,
        whole: ir.Function,
        small: ir.Function | None,
    ) -> tuple[ir.Value, ...]:
        """Compute one tile into `out`; gives the numbers that `finish` wants."""
        plan, b = self.plan, code.b
        lane = mul(b, panel, const(plan.width))
        offset = mul(b, lane, code.size(plan.depth if plan.packed else plan.spec.n.b))
        source = unit.b if plan.local else at(b, unit.b, offset, self.element)
        columns = minimum(b, const(plan.width), sub(b, code.size(plan.spec.n.extent), lane))
        if isinstance(plan.spec.n.extent, int) and plan.spec.n.extent % plan.width == 0:
            columns = const(plan.width)
        common = (columns, const(plan.rows), *unit.span, code.dims)
        if small is None or rows.whole is None:
            b.call(whole, [rows.a, source, unit.ahead, out, *common])
        else:
            with b.if_else(rows.whole) as (then, otherwise):
                with then:
                    b.call(whole, [rows.a, source, unit.ahead, out, *common])
                with otherwise:
                    self.small_tiles(code, unit, rows, source, columns, out, small)
        return unit.batch, rows.outer, rows.start, rows.first, rows.last, lane, columns, unit.split

    def small_tiles(
        self,
        code: Code,
        unit: Unit,
        rows: Rows,
        source: ir.Value,
        columns: ir.Value,
        out: ir.Value,
        small: ir.Function,
    ) -> None:
        """The rows of a panel by tiles of SMALL_ROWS."""
        plan, b = self.plan, code.b
        with loop(b, const(0), rows.last, SMALL_ROWS) as row:
            a = at(b, rows.a, mul(b, row, code.size(plan.row_stride)), self.element)
            place = at(b, out, mul(b, row, const(plan.width)), self.element)
            count = minimum(b, sub(b, rows.last, row), const(SMALL_ROWS))
            b.call(small, [a, source, unit.ahead, place, columns, count, *unit.span, code.dims])

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
