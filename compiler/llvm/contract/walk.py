"""Where the units of a contraction work: loops over their blocks of k and panels, and the addresses that follow.

    with walk.launch("") as (code, number):
        unit = walk.unit(code, number)
        with walk.k_blocks(code, unit) as (unit, last), walk.tiles(code, unit, pack) as (unit, rows, panel, out):
            ...

What a unit copies for itself, rows of A or panels of B, it copies on the way.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from llvmlite import ir

from graphflow.compiler.llvm.code import (
    ELEMENTS,
    I1,
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
from graphflow.compiler.llvm.contract.finish import PACKED, WORKSPACE, argument
from graphflow.compiler.llvm.contract.pack import (
    chunk,
    copies_panels,
    emit_panel,
    sizes,
)
from graphflow.compiler.llvm.contract.plan import SMALL_ROWS, Plan
from graphflow.compiler.llvm.contract.stage import emit_stage_columns, emit_stage_rows
from graphflow.compiler.llvm.memory import emit_stream_fence
from graphflow.core.dim import ceildiv

if TYPE_CHECKING:
    from collections.abc import Iterator

    from graphflow.compiler.llvm.target import Target

ARGUMENTS = (("args", PTR), ("dims", PTR), ("begin", I64), ("end", I64), ("scratch", PTR))


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
    source: ir.Value  # B where it always was, at the column panel
    fresh: ir.Value | None = None  # whether the column panel is not packed yet: its first tile does that
    packing: tuple[ir.Value, ...] = ()  # the arguments of the function that packs the column panel
    asking: ir.Value | None = None  # whether the tile asks for some of what is packed next
    asked: ir.Value | None = None  # where that is


@dataclass(frozen=True)
class Rows:
    """The rows of a panel: row r of the tile is row `start + r` of run `outer`, for `first` <= r < `last`."""

    outer: ir.Value
    start: ir.Value
    first: ir.Value
    last: ir.Value
    whole: ir.Value | None  # false where the small tile is due
    a: ir.Value


class Walk:
    """The loops and addresses of one plan, in functions whose names start with `name`."""

    def __init__(self, module: ir.Module, name: str, plan: Plan, target: Target, size: SizeEmitter):
        self.module, self.name, self.plan, self.target, self.emit_size = module, name, plan, target, size
        self.element = ELEMENTS[plan.spec.dtype]
        self.vector = ir.VectorType(self.element, plan.lanes)
        self.packed_bytes = plan.packed_elements * plan.bytes
        self.partial_start = ceildiv(plan.panel_elements * plan.bytes, 64) * 64
        self.workspace_bytes = self.partial_start + plan.partial_elements * plan.bytes
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
            if self.plan.spec.streams is not None:  # whoever waits for the launch must find what went past the caches
                emit_stream_fence(code.b, self.target)

    def argument(self, code: Code, number: int) -> ir.Value:
        """A pointer of the launch's `args`."""
        return argument(code, code.function.args[0], number)

    def panel(self, code: Code, batch: ir.Value, panel: ir.Value, span: tuple[ir.Value, ir.Value]) -> ir.Value:
        """Where a row panel of A is in the workspace, or would start if this part of k were not a part."""
        b, plan = code.b, self.plan
        panels, depth = code.size(plan.row_panels), code.size(plan.depth)
        begin, end = span if plan.stage_parts > 1 else (const(0), depth)
        steps = add(b, mul(b, panel, sub(b, end, begin)), mul(b, begin, sub(b, panels, const(1))))
        steps = add(b, mul(b, batch, mul(b, panels, depth)), steps)
        return at(b, self.argument(code, WORKSPACE), mul(b, steps, const(plan.rows)), self.element)

    def panel_code(self) -> ir.Function:
        """The function that packs a column panel where it is read."""
        wide = self.target.vector_bits >= 256
        return emit_panel(self.module, self.name + ".panel", self.plan, self.emit_size, wide)

    @contextmanager
    def tiles(
        self, code: Code, unit: Unit, pack: ir.Function | None
    ) -> Iterator[tuple[Unit, Rows, ir.Value, ir.Value]]:
        """Loops over the row and column panels of a unit: the unit, the rows, the column panel, where its sums go.

        What is copied within a unit is copied in the outer loop, for all turns of the inner one.
        """
        plan, b = self.plan, code.b
        row = mul(b, unit.row_block, const(plan.row_block))
        row_end = minimum(b, add(b, row, const(plan.row_block)), code.size(plan.row_panels))
        column = mul(b, unit.column_block, const(plan.column_block))
        column_end = minimum(b, add(b, column, const(plan.column_block)), code.size(plan.column_panels))
        if plan.local:
            with loop(b, column, column_end) as panel:
                here = self.column_panel(code, unit, panel)
                following = self.following(code, here, panel, column, column_end) if plan.tile_asks else None
                if not self.packs_in_tiles:
                    b.call(pack, here.packing)
                with loop(b, row, row_end) as row_panel:
                    rows = self.rows(code, unit, row_panel)
                    number = sub(b, row_panel, row)
                    if following is not None:
                        here = self.asking(code, here, number, following)
                    fresh = b.icmp_signed("==", number, const(0)) if self.packs_in_tiles else None
                    yield replace(here, fresh=fresh), rows, panel, self.out(code, number, sub(b, panel, column))
            return
        with loop(b, row, row_end) as row_panel:
            rows = self.rows(code, unit, row_panel)
            with loop(b, column, column_end) as panel:
                yield unit, rows, panel, self.out(code, sub(b, row_panel, row), sub(b, panel, column))

    @property
    def packs_in_tiles(self) -> bool:
        """Whether the first tile of a column panel packs it: B lies so that all it takes are stores."""
        wide = self.target.vector_bits >= 256
        return self.plan.local and copies_panels(self.plan, wide)

    def column_panel(self, code: Code, unit: Unit, panel: ir.Value) -> Unit:
        """The unit at a column panel, whose packed copy it reads as if all of it were there, not a block of k."""
        plan, b = self.plan, code.b
        lane = mul(b, panel, const(plan.width))
        before = b.neg(mul(b, unit.span[0], const(plan.width)))
        packed = at(b, self.stage(code), before, self.element)
        source = at(b, unit.b, mul(b, lane, code.size(plan.spec.n.b)), self.element)
        packing = (unit.b, packed, lane, *unit.span, code.dims)
        return replace(unit, b=packed, source=source, packing=packing)

    def following(self, code: Code, unit: Unit, panel: ir.Value, first: ir.Value, end: ir.Value) -> ir.Value:
        """What a unit packs next, as it lies in B: the next column panel, or the first one of the next block of k."""
        plan, b = self.plan, code.b
        across = mul(b, const(plan.width), code.size(plan.spec.n.b))
        back = mul(b, sub(b, panel, first), across)
        down = sub(b, mul(b, const(plan.block_depth), code.size(plan.k[0].b)), back)
        further = b.select(b.icmp_signed("<", add(b, panel, const(1)), end), across, down)
        return at(b, unit.source, further, self.element)

    def asking(self, code: Code, unit: Unit, number: ir.Value, following: ir.Value) -> Unit:
        """The unit at a row panel, some of which ask for lines of what follows."""
        plan, b = self.plan, code.b
        turn, line = sub(b, number, const(1)), 64 // plan.bytes
        asked = at(b, following, mul(b, turn, const(plan.tile_asks * line)), self.element)
        askers = const(-(-plan.asked_lines // plan.tile_asks))
        return replace(unit, asking=b.icmp_unsigned("<", turn, askers), asked=asked)

    @contextmanager
    def k_blocks(self, code: Code, unit: Unit) -> Iterator[tuple[Unit, ir.Value]]:
        """A loop over blocks of k: the unit with its range for the block, and whether it is the last one."""
        plan, b = self.plan, code.b
        if plan.k_blocks == 1:
            yield unit, ir.Constant(I1, 1)
            return
        with loop(b, const(0), const(plan.k_blocks)) as number:
            span = chunk(code, plan.tile_k[0].extent, plan.k_blocks, number, plan.k_step)
            yield replace(unit, span=span), b.icmp_signed("==", number, const(plan.k_blocks - 1))

    def out(self, code: Code, row: ir.Value, column: ir.Value) -> ir.Value:
        """Where the results of a tile go, numbered within its unit."""
        plan, b, scratch = self.plan, code.b, code.function.args[4]
        if plan.k_blocks == 1:
            return scratch
        number = add(b, mul(b, row, const(plan.column_block)), column)
        return at(b, scratch, mul(b, number, const(plan.slot)), self.element)

    def unit(self, code: Code, number: ir.Value) -> Unit:
        """Decode a unit's number; units that share a block of B follow each other."""
        plan, b, spec = self.plan, code.b, self.plan.spec
        extents = sizes(code, [plan.batch_count, plan.column_blocks, plan.splits, plan.row_blocks])
        batch, column, split, row = unravel(b, number, extents)
        index = unravel(b, batch, sizes(code, [axis.extent for axis in plan.batch]))
        a_offset = add(b, dot(b, index, sizes(code, [axis.a for axis in plan.batch])), code.size(spec.a_offset))
        b_offset = add(b, dot(b, index, sizes(code, [axis.b for axis in plan.batch])), code.size(spec.b_offset))
        a = at(b, self.argument(code, 0), a_offset, self.element)
        if plan.packs_first:
            base, b_offset = self.argument(code, PACKED), self.packed_offset(code, index)
        else:
            base = self.argument(code, 1)
        span = chunk(code, plan.tile_k[0].extent, plan.splits, split, plan.k_step)
        base = at(b, base, b_offset, self.element)
        return Unit(batch, index, row, column, split, a, base, span, base)

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
        extent = code.size(plan.row_count if plan.gathered else plan.run.extent)
        wanted = mul(b, number, const(plan.rows))
        if plan.gathered:
            if plan.staged == "panels":
                stage = self.panel(code, unit.batch, panel, unit.span)
            else:
                stage = self.stage(code)
                emit_stage_rows(
                    code, plan, stage, lambda r: self.row_address(code, unit.a, add(b, wanted, r)), unit.span
                )
            left = minimum(b, sub(b, extent, wanted), const(plan.rows))
            return Rows(panel, wanted, const(0), left, None, stage)
        # The last panel of a run is moved back so that all its rows exist; rows done before are not stored again.
        start, whole = minimum(b, wanted, sub(b, extent, const(plan.rows))), None
        last: ir.Value = const(plan.rows)
        if plan.may_be_short:
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

    def scratch(self, code: Code, start: int) -> ir.Value:
        """An address in the worker's scratch, so many elements from its beginning."""
        return at(code.b, code.function.args[4], const(start), self.element)

    def stage(self, code: Code) -> ir.Value:
        """Where staged A is in scratch."""
        return at(code.entry, code.function.args[4], const(self.stage_start), self.element)

    def row_address(self, code: Code, a: ir.Value, row: ir.Value) -> ir.Value:
        """Where row number `row` of all rows starts in A; rows that do not exist are read as the last one."""
        b, groups = code.b, self.plan.groups
        row = minimum(b, row, sub(b, code.size(self.plan.row_count), const(1)))
        index = unravel(b, row, sizes(code, [g.extent for g in groups]))
        return at(b, a, dot(b, index, sizes(code, [g.a for g in groups])), self.element)

    def outer_offset(self, code: Code, outer: ir.Value) -> ir.Value:
        """The offset in A of a run."""
        groups = self.plan.groups[:-1]
        index = unravel(code.b, outer, sizes(code, [g.extent for g in groups]))
        return dot(code.b, index, sizes(code, [g.a for g in groups]))
