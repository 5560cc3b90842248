"""Writes the launches of a convolution by Winograd's minimal filtering (plan.py).

    emitter = WinogradEmitter(module, "conv", winograd_plan(spec, target), target, size, epilogue)
    emitter.pack(), emitter.compute()          # each adds a function to the module

A unit of the second launch transforms its squares of the image into the worker's scratch, where a core's second cache
keeps them.  Then for each of its column panels come the 16 products, by the tiles of all contractions, the transform of
their sums, and the epilogue for each vector of results.  What is in scratch: [place][square][slice][channel] of the
image, [place][square][width] of sums, the taps of some channels, and whether a result is not finite.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from llvmlite import ir

from graphflow.compiler.llvm.code import (
    I64,
    PTR,
    Code,
    SizeEmitter,
    add,
    at,
    const,
    dot,
    loop,
    minimum,
    mul,
    part_function,
    sub,
    unravel,
)
from graphflow.compiler.llvm.contract.finish import PACKED, Finisher, ways_to_store
from graphflow.compiler.llvm.contract.pack import emit_panel, sizes
from graphflow.compiler.llvm.contract.units import Launch
from graphflow.compiler.llvm.contract.walk import Walk
from graphflow.compiler.llvm.winograd.lines import image_line, result_line
from graphflow.compiler.llvm.winograd.pieces import Pieces, emit_pieces
from graphflow.compiler.llvm.winograd.plan import PLACES, WinogradPlan
from graphflow.compiler.llvm.winograd.products import Places, Tiles, emit_tiles, multiply
from graphflow.compiler.llvm.winograd.repair import emit_repair
from graphflow.compiler.llvm.winograd.squares import square_at
from graphflow.compiler.llvm.winograd.transform import emit_filter, emit_result
from graphflow.compiler.llvm.winograd.windows import whole_number

if TYPE_CHECKING:
    from graphflow.compiler.llvm.contract.finish import Epilogue
    from graphflow.compiler.llvm.target import Target

FINISH_ARGUMENTS = (
    ("args", PTR), ("dims", PTR), ("sums", PTR), ("group", I64),
    ("first", I64), ("count", I64), ("lane", I64), ("columns", I64),
)  # fmt: skip


@dataclass(frozen=True)
class Functions:
    """What the launch that computes calls."""

    image: ir.Function
    tiles: Tiles
    result: ir.Function
    repair: ir.Function
    finish: ir.Function


@dataclass(frozen=True)
class WinogradUnit:
    """The group, first column panel and squares of a unit, its image and filter, transformed and as it is, and what of
    the unit is where in scratch."""

    group: ir.Value
    panel: ir.Value
    first: ir.Value
    count: ir.Value
    a: ir.Value
    packed: ir.Value
    b: ir.Value
    pieces: ir.Value
    sums: ir.Value
    taps: ir.Value
    spoilt: ir.Value


class WinogradEmitter(Walk):
    """Writes the launches of one plan."""

    def __init__(
        self,
        module: ir.Module,
        name: str,
        plan: WinogradPlan,
        target: Target,
        size: SizeEmitter,
        epilogue: Epilogue,
    ):
        super().__init__(module, name, plan.products, target, size)
        self.winograd, self.epilogue = plan, epilogue
        self.copy_taps = emit_panel(module, name + ".panel", plan.taps, size, target.vector_bits >= 256)
        self.packed_bytes = plan.packed_bytes
        self.sums_start = PLACES * plan.image_place
        self.taps_start = self.sums_start + PLACES * plan.sum_place
        self.scratch_bytes = (self.taps_start + plan.tap_elements) * plan.products.bytes + 64

    def pack(self) -> Launch:
        """The launch that transforms the filters, a unit some channels of a slice of a column panel."""
        plan, products = self.winograd, self.plan
        function = emit_filter(self.module, self.name + ".filter", plan, self.emit_size)
        parts = plan.windows.channels // plan.tap_channels
        with self.launch(".pack") as (code, unit):
            b, taps = code.b, self.scratch(code, self.taps_start)
            counts = [plan.groups, products.column_panels, plan.windows.slice_count, parts]
            group, panel, slice_, part = unravel(b, unit, sizes(code, counts))
            index = unravel(b, slice_, sizes(code, [axis.extent for axis in plan.windows.slices]))
            channel = mul(b, part, const(plan.tap_channels))
            strides = sizes(code, [axis.b for axis in (*plan.windows.slices, plan.spec.k[-1])])
            source = at(b, self.filters(code, group), dot(b, [*index, channel], strides), self.element)
            b.call(self.copy_taps, [source, taps, mul(b, panel, const(products.width)), const(0), const(3), code.dims])
            step = add(b, mul(b, slice_, const(plan.windows.channels)), channel)
            target = self.panel_of(code, self.packed(code, group), panel)
            b.call(function, [taps, at(b, target, mul(b, step, const(products.width)), self.element), code.dims])
        units = plan.groups * products.column_panels * (plan.windows.slice_count * parts)
        return Launch(self.name + ".pack", units, 16 * plan.tap_elements)

    def compute(self) -> Launch:
        """The launch that computes results."""
        plan, panels, functions = self.winograd, self.plan.column_panels, self.functions()
        with self.launch("") as (code, number):
            b, unit = code.b, self.winograd_unit(code, number)
            channels = const(plan.windows.channels)
            b.call(functions.image, [unit.a, unit.pieces, unit.first, unit.count, channels, code.dims])
            end = minimum(b, add(b, unit.panel, const(plan.column_block)), code.size(panels))
            with loop(b, unit.panel, end) as panel:
                self.multiply(code, unit, panel, functions)
                self.hand_on(code, unit, panel, functions)
        return Launch(self.name, plan.units, plan.unit_flops)

    def functions(self) -> Functions:
        """Write what the launch calls."""
        module, name, plan, size = self.module, self.name, self.winograd, self.emit_size
        return Functions(
            emit_pieces(module, name + ".image", self.image_pieces(), size),
            emit_tiles(module, name, self.plan, size),
            emit_result(module, name + ".result", self.plan, result_line, plan.sum_place, size),
            emit_repair(module, name + ".repair", plan, self.copy_taps, size),
            self.finish(),
        )

    def image_pieces(self) -> Pieces:
        """How the image is transformed."""
        plan, windows = self.winograd, self.winograd.windows
        row = whole_number(self.plan.run.a)
        return Pieces(
            windows, plan.spec.dtype, self.plan.lanes, 4, image_line, tuple(axis.a for axis in windows.pixels),
            windows.slices, windows.channels, plan.image_place, row, plan.slice_row,
        )  # fmt: skip

    def winograd_unit(self, code: Code, number: ir.Value) -> WinogradUnit:
        """Where a unit works; units that share a part of the filter follow each other."""
        b, plan = code.b, self.winograd
        group, column, row = unravel(b, number, sizes(code, [plan.groups, plan.column_blocks, plan.row_blocks]))
        panel, first = mul(b, column, const(plan.column_block)), mul(b, row, const(plan.squares))
        count = minimum(b, const(plan.squares), sub(b, code.size(plan.windows.square_count), first))
        operands = self.images(code, group), self.packed(code, group), self.filters(code, group)
        starts = (0, self.sums_start, self.taps_start, self.taps_start + plan.tap_elements)
        places = (self.scratch(code, start) for start in starts)
        return WinogradUnit(group, panel, first, count, *operands, *places)

    def multiply(self, code: Code, unit: WinogradUnit, panel: ir.Value, functions: Functions) -> None:
        """The 16 products of a column panel; a tile's last rows may be of no square."""
        plan, products, b = self.winograd, self.plan, code.b
        image = unit.pieces, plan.image_place
        filters = self.panel_of(code, unit.packed, panel), plan.filter_place
        places = Places(PLACES, image, filters, (unit.sums, plan.sum_place))
        last = b.icmp_signed("==", panel, sub(b, code.size(products.column_panels), const(1)))
        span = const(0), code.size(products.tile_k[0].extent)
        multiply(code, products, functions.tiles, places, unit.count, span, last)

    def hand_on(self, code: Code, unit: WinogradUnit, panel: ir.Value, functions: Functions) -> None:
        """Transform the sums of a column panel back, see that they are right, and give them to the epilogue."""
        products, b = self.plan, code.b
        lane = mul(b, panel, const(products.width))
        columns = minimum(b, const(products.width), sub(b, code.size(products.spec.n.extent), lane))
        vectors = b.udiv(add(b, columns, const(products.lanes - 1)), const(products.lanes))
        squares = (unit.first, unit.count)
        b.store(const(0), unit.spoilt)
        b.call(functions.result, [unit.sums, unit.spoilt, unit.count, vectors, code.dims])
        with b.if_then(b.icmp_signed("!=", b.load(unit.spoilt, typ=I64), const(0)), likely=False):
            operands = (unit.a, unit.b, unit.sums, unit.taps)
            b.call(functions.repair, [*operands, *squares, lane, vectors, code.dims])
        b.call(functions.finish, [code.function.args[0], code.dims, unit.sums, unit.group, *squares, lane, columns])

    def finish(self) -> ir.Function:
        """The function that calls the epilogue for the results of some squares."""
        plan, products = self.winograd, self.plan
        with part_function(self.module, self.name + ".finish", FINISH_ARGUMENTS, self.emit_size) as code:
            args, _, sums, group, first, count, lane, columns = code.function.args
            b, finisher = code.b, Finisher(code, products, args, self.epilogue, 0)
            for streams in ways_to_store(code, products, args):
                with loop(b, const(0), count) as number:
                    square = square_at(code, plan.windows, add(b, first, number))
                    *outer, first_y, first_x = square.index
                    source = at(b, sums, mul(b, number, const(products.width)), self.element)
                    down, across = (b.select(has, const(2), const(1)) for has in (square.below, square.beside))
                    with loop(b, const(0), down) as i, loop(b, const(0), across) as j:
                        y, x = (
                            add(b, start, mul(b, n, const(spacing)))
                            for start, n, spacing in zip((first_y, first_x), (i, j), plan.windows.spacing, strict=True)
                        )
                        index = (*self.group_index(code, group), *outer, y, x)
                        place = mul(b, add(b, mul(b, i, const(2)), j), const(plan.sum_place))
                        values = finisher.reader(at(b, source, place, self.element))
                        flat = self.row_number(code, index)
                        finisher.finish(index, flat, lane, columns, values, streams)
        return code.function

    def row_number(self, code: Code, index: tuple[ir.Value, ...]) -> ir.Value:
        """The index of a pixel of a group as one number."""
        flat: ir.Value = const(0)
        spec = self.winograd.spec
        for i, axis in zip(index, spec.batch + spec.m, strict=True):
            flat = add(code.b, mul(code.b, flat, code.size(axis.extent)), i)
        return flat

    def group_index(self, code: Code, group: ir.Value) -> tuple[ir.Value, ...]:
        """The index of a group."""
        return unravel(code.b, group, sizes(code, [axis.extent for axis in self.winograd.spec.batch]))

    def images(self, code: Code, group: ir.Value) -> ir.Value:
        """Where the image of a group starts."""
        b, spec = code.b, self.winograd.spec
        offset = dot(b, self.group_index(code, group), sizes(code, [axis.a for axis in spec.batch]))
        return at(b, self.argument(code, 0), add(b, offset, code.size(spec.a_offset)), self.element)

    def filters(self, code: Code, group: ir.Value) -> ir.Value:
        """Where the filter of a group starts."""
        b, spec = code.b, self.winograd.spec
        offset = dot(b, self.group_index(code, group), sizes(code, [axis.b for axis in spec.batch]))
        return at(b, self.argument(code, 1), add(b, offset, code.size(spec.b_offset)), self.element)

    def packed(self, code: Code, group: ir.Value) -> ir.Value:
        """Where the transformed filter of a group starts."""
        offset = mul(code.b, group, const(self.winograd.filter_group))
        return at(code.b, self.argument(code, PACKED), offset, self.element)

    def panel_of(self, code: Code, packed: ir.Value, panel: ir.Value) -> ir.Value:
        """Where a column panel of a transformed filter starts."""
        offset = mul(code.b, panel, const(PLACES * self.winograd.filter_place))
        return at(code.b, packed, offset, self.element)
