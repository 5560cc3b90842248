"""Writes the launches of one planned contraction: pack B, compute tiles, add partial results.

`Emitter(...).pack()`, `.compute()` and `.reduce()` each add a function to the module.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from llvmlite import ir

from graphflow.compiler.llvm.contract_finish import Epilogue, Finisher, argument, emit_finish
from graphflow.compiler.llvm.contract_ir import (
    ELEMENTS,
    I64,
    PTR,
    Code,
    SizeEmitter,
    add,
    at,
    const,
    divmod_,
    dot,
    loop,
    minimum,
    mul,
    new_function,
    sub,
    unravel,
)
from graphflow.compiler.llvm.contract_pack import (
    chunk,
    copies_panels,
    emit_columns,
    emit_pack,
    emit_stage_columns,
    emit_stage_rows,
    sizes,
)
from graphflow.compiler.llvm.contract_plan import SMALL_ROWS, Plan
from graphflow.compiler.llvm.contract_tile import emit_tile
from graphflow.core.dim import Size, ceildiv, estimate

if TYPE_CHECKING:
    from collections.abc import Iterator

    from graphflow.compiler.llvm.target import Target

ARGUMENTS = (("args", PTR), ("dims", PTR), ("begin", I64), ("end", I64), ("scratch", PTR))
# Elements that one unit of the last launch reads, where k is split.
REDUCE_ELEMENTS = 32768


@dataclass(frozen=True)
class Launch:
    """A function to run over [0, units), and about how many flops one unit is (to decide on threads)."""

    name: str
    units: Size
    unit_flops: int


@dataclass(frozen=True)
class Unit:
    """Where a unit works: its batch index, blocks, range of k, and the addresses that follow."""

    batch: ir.Value
    batch_index: tuple[ir.Value, ...]
    row_block: ir.Value
    column_block: ir.Value
    split: ir.Value
    a: ir.Value
    b: ir.Value
    span: tuple[ir.Value, ir.Value]


@dataclass(frozen=True)
class Rows:
    """The rows of a panel: row r of the tile is row `start + r` of run `outer`, for `first` <= r < `last`."""

    outer: ir.Value
    start: ir.Value
    first: ir.Value
    last: ir.Value
    whole: ir.Value | None  # false where the small tile is due
    a: ir.Value


class Emitter:
    """Writes the launches of one plan."""

    def __init__(self, module: ir.Module, name: str, plan: Plan, target: Target, size: SizeEmitter, epilogue: Epilogue):
        self.module, self.name, self.plan, self.target, self.emit_size = module, name, plan, target, size
        self.epilogue = epilogue
        self.element = ELEMENTS[plan.spec.dtype]
        self.vector = ir.VectorType(self.element, plan.lanes)
        packed = ceildiv(plan.packed_elements * plan.bytes, 64) * 64
        self.partial_start = packed
        self.workspace_bytes = packed + plan.partial_elements * plan.bytes
        line = 64 // plan.bytes
        self.stage_start = -(-plan.tile_elements // line) * line
        self.scratch_bytes = -(-(self.stage_start + plan.stage_elements) // line) * 64

    @contextmanager
    def launch(self, suffix: str) -> Iterator[tuple[Code, ir.Value]]:
        """A launch function with its loop over units; gives the code and the unit."""
        with new_function(self.module, self.name + suffix, ARGUMENTS, self.emit_size) as code:
            _, _, begin, end, _ = code.function.args
            with loop(code.b, begin, end) as unit:
                yield code, unit

    def argument(self, code: Code, number: int) -> ir.Value:
        """A pointer of the launch's `args`."""
        return argument(code, code.function.args[0], number)

    def pack(self) -> Launch:
        """The launch that packs B."""
        plan, columns = self.plan, None
        if not copies_panels(plan, wide_masks=self.target.vector_bits >= 256):
            columns = emit_columns(self.module, self.name + ".columns", plan, self.emit_size)
        with self.launch(".pack") as (code, unit):
            source, target = self.argument(code, 1), self.argument(code, 2)
            emit_pack(code, plan, unit, source, target, columns)
        units = plan.packed_batch * plan.column_panels * plan.pack_splits
        # Copying an element takes about as long as this many flops.
        flops = 16 * estimate(plan.depth) * plan.width // plan.pack_splits
        return Launch(self.name + ".pack", units, flops)

    def compute(self) -> Launch:
        """The launch that computes tiles."""
        plan = self.plan
        tile = emit_tile(self.module, self.name + ".tile", plan, plan.rows, False, self.emit_size)
        small = None
        if self.may_be_short:
            small = emit_tile(self.module, self.name + ".small", plan, SMALL_ROWS, True, self.emit_size)
        finish = emit_finish(
            self.module, self.name + ".finish", plan, self.emit_size, self.epilogue, self.partial_start
        )
        with self.launch("") as (code, number):
            unit, b = self.unit(code, number), code.b
            row = mul(b, unit.row_block, const(plan.row_block))
            row_end = minimum(b, add(b, row, const(plan.row_block)), code.size(plan.row_panels))
            column = mul(b, unit.column_block, const(plan.column_block))
            column_end = minimum(b, add(b, column, const(plan.column_block)), code.size(plan.column_panels))
            with loop(b, row, row_end) as row_panel:
                rows = self.rows(code, unit, row_panel)
                with loop(b, column, column_end) as panel:
                    self.tile(code, unit, rows, panel, (tile, small, finish))
        units = plan.batch_count * plan.column_blocks * plan.row_blocks * plan.splits
        depth = estimate(plan.depth) // plan.splits
        flops = 2 * plan.row_block * plan.rows * plan.column_block * plan.width * depth
        return Launch(self.name, units, flops)

    @property
    def may_be_short(self) -> bool:
        """Whether a run may have fewer rows than a tile."""
        return self.plan.staged != "rows" and not isinstance(self.plan.run.extent, int)

    def unit(self, code: Code, number: ir.Value) -> Unit:
        """Decode a unit's number; units that share a block of B follow each other."""
        plan, b, spec = self.plan, code.b, self.plan.spec
        extents = sizes(code, [plan.batch_count, plan.column_blocks, plan.splits, plan.row_blocks])
        batch, column, split, row = unravel(b, number, extents)
        index = unravel(b, batch, sizes(code, [axis.extent for axis in plan.batch]))
        a_offset = add(b, dot(b, index, sizes(code, [axis.a for axis in plan.batch])), code.size(spec.a_offset))
        b_offset = add(b, dot(b, index, sizes(code, [axis.b for axis in plan.batch])), code.size(spec.b_offset))
        a = at(b, self.argument(code, 0), a_offset, self.element)
        if plan.packed:
            base, b_offset = self.argument(code, 2), self.packed_offset(code, index)
        else:
            base = self.argument(code, 1)
        span = chunk(code, plan.tile_k[0].extent, plan.splits, split)
        return Unit(batch, index, row, column, split, a, at(b, base, b_offset, self.element), span)

    def packed_offset(self, code: Code, index: tuple[ir.Value, ...]) -> ir.Value:
        """Where the packed B of a batch index starts."""
        b, plan = code.b, self.plan
        flat: ir.Value = const(0)
        for i, axis in zip(index, plan.batch, strict=True):
            if axis.b != 0:
                flat = add(b, mul(b, flat, code.size(axis.extent)), i)
        return mul(b, flat, code.size(plan.column_panels * plan.depth * plan.width))

    def rows(self, code: Code, unit: Unit, panel: ir.Value) -> Rows:
        """Which rows a panel covers and where the tile finds them in A; stages them if planned."""
        plan, b = self.plan, code.b
        outer, number = divmod_(b, panel, code.size(plan.panels_per_run))
        extent = code.size(plan.row_count if plan.staged == "rows" else plan.run.extent)
        wanted = mul(b, number, const(plan.rows))
        if plan.staged == "rows":
            stage = self.stage(code)
            emit_stage_rows(
                code, plan, stage, lambda r: self.row_address(code, unit, add(b, wanted, r), extent), unit.span
            )
            left = minimum(b, sub(b, extent, wanted), const(plan.rows))
            return Rows(panel, wanted, const(0), left, None, stage)
        # The last panel of a run is moved back so that all its rows exist; rows done before are not stored again.
        start, whole = minimum(b, wanted, sub(b, extent, const(plan.rows))), None
        last: ir.Value = const(plan.rows)
        if self.may_be_short:
            left = sub(b, extent, wanted)
            exists = b.icmp_signed(">=", extent, last)
            whole = b.and_(exists, b.icmp_signed(">", left, const(min(SMALL_ROWS, plan.rows - 1))))
            start = b.select(whole, start, wanted)
            last = b.select(whole, last, left)
        offset = add(b, self.outer_offset(code, outer), mul(b, start, code.size(plan.run.a)))
        a = at(b, unit.a, offset, self.element)
        if plan.staged == "columns":
            stage = self.stage(code)
            emit_stage_columns(code, plan, stage, a)
            a = stage
        return Rows(outer, start, sub(b, wanted, start), last, whole, a)

    def stage(self, code: Code) -> ir.Value:
        """Where staged A is in scratch."""
        return at(code.entry, code.function.args[4], const(self.stage_start), self.element)

    def row_address(self, code: Code, unit: Unit, row: ir.Value, count: ir.Value) -> ir.Value:
        """Where row number `row` of all rows starts in A; rows that do not exist are read as the last one."""
        b, groups = code.b, self.plan.groups
        row = minimum(b, row, sub(b, count, const(1)))
        index = unravel(b, row, sizes(code, [g.extent for g in groups]))
        return at(b, unit.a, dot(b, index, sizes(code, [g.a for g in groups])), self.element)

    def outer_offset(self, code: Code, outer: ir.Value) -> ir.Value:
        """The offset in A of a run."""
        groups = self.plan.groups[:-1]
        index = unravel(code.b, outer, sizes(code, [g.extent for g in groups]))
        return dot(code.b, index, sizes(code, [g.a for g in groups]))

    def tile(
        self,
        code: Code,
        unit: Unit,
        rows: Rows,
        panel: ir.Value,
        functions: tuple[ir.Function, ir.Function | None, ir.Function],
    ) -> None:
        """Compute one tile into scratch and hand its rows on."""
        plan, b = self.plan, code.b
        whole, small, finish = functions
        lane = mul(b, panel, const(plan.width))
        offset = mul(b, lane, code.size(plan.depth)) if plan.packed else lane
        source = at(b, unit.b, offset, self.element)
        columns = minimum(b, const(plan.width), sub(b, code.size(plan.spec.n.extent), lane))
        if isinstance(plan.spec.n.extent, int) and plan.spec.n.extent % plan.width == 0:
            columns = const(plan.width)
        scratch = code.function.args[4]
        common = (columns, const(plan.rows), *unit.span, code.dims)
        if small is None or rows.whole is None:
            b.call(whole, [rows.a, source, scratch, *common])
        else:
            with b.if_else(rows.whole) as (then, otherwise):
                with then:
                    b.call(whole, [rows.a, source, scratch, *common])
                with otherwise:
                    self.small_tiles(code, unit, rows, source, columns, small)
        place = (unit.batch, rows.outer, rows.start, rows.first, rows.last, lane, columns, unit.split)
        b.call(finish, [code.function.args[0], code.dims, scratch, *place])

    def small_tiles(
        self, code: Code, unit: Unit, rows: Rows, source: ir.Value, columns: ir.Value, small: ir.Function
    ) -> None:
        """The rows of a panel by tiles of SMALL_ROWS."""
        plan, b = self.plan, code.b
        with loop(b, const(0), rows.last, SMALL_ROWS) as row:
            a = at(b, rows.a, mul(b, row, code.size(plan.row_stride)), self.element)
            out = at(b, code.function.args[4], mul(b, row, const(plan.width)), self.element)
            count = minimum(b, sub(b, rows.last, row), const(SMALL_ROWS))
            b.call(small, [a, source, out, columns, count, *unit.span, code.dims])

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
