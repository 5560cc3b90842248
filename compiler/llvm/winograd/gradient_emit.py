"""Writes the launches of a filter's gradient by Winograd's minimal filtering (gradient_plan.py).

    emitter = GradientEmitter(module, "conv", gradient_plan(spec, target), target, size, epilogue)
    emitter.compute(), emitter.reduce()        # each adds a function to the module; the second where sums are split

What a unit has in scratch: [place][square][channel] of the image and of the gradients, of a block of squares and some
places; [place][column panel][channel][width] of sums; and whether a result is not finite.
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
from graphflow.compiler.llvm.contract.finish import emit_finish
from graphflow.compiler.llvm.contract.pack import chunk, sizes
from graphflow.compiler.llvm.contract.units import Emitter, Launch
from graphflow.compiler.llvm.winograd.choose import squares_of
from graphflow.compiler.llvm.winograd.gradient_plan import TAPS, GradientPlan
from graphflow.compiler.llvm.winograd.gradient_repair import emit_gradient_repair
from graphflow.compiler.llvm.winograd.lines import gradient_line, image_line, taps_line
from graphflow.compiler.llvm.winograd.pieces import Pieces, emit_pieces
from graphflow.compiler.llvm.winograd.plan import PLACES
from graphflow.compiler.llvm.winograd.products import Places, Tiles, emit_tiles, multiply
from graphflow.compiler.llvm.winograd.transform import emit_result

if TYPE_CHECKING:
    from collections.abc import Iterator

    from graphflow.compiler.llvm.contract.finish import Epilogue
    from graphflow.compiler.llvm.target import Target

PRODUCTS_ARGUMENTS = (
    ("image", PTR), ("gradient", PTR), ("sums", PTR), ("begin", I64), ("end", I64),
    ("channels", I64), ("first", I64), ("columns", I64), ("dims", PTR),
)  # fmt: skip


@dataclass(frozen=True)
class Functions:
    """What the launch calls; each pass has its own transforms of the image and of gradients."""

    images: list[ir.Function]
    gradients: list[ir.Function]
    multiply: ir.Function
    result: ir.Function
    repair: ir.Function
    finish: ir.Function


@dataclass(frozen=True)
class GradientUnit:
    """The numbers of a unit, what it has of squares, channels and columns, and where its operands start."""

    group: ir.Value
    split: ir.Value
    slice: ir.Value
    squares: tuple[ir.Value, ir.Value]
    channel: ir.Value
    channels: ir.Value
    lane: ir.Value
    columns: ir.Value
    a: ir.Value
    b: ir.Value


class GradientEmitter(Emitter):
    """Writes the launches of one plan."""

    def __init__(
        self,
        module: ir.Module,
        name: str,
        plan: GradientPlan,
        target: Target,
        size: SizeEmitter,
        epilogue: Epilogue,
    ):
        super().__init__(module, name, plan.results, target, size, epilogue)
        self.gradient, self.products = plan, plan.products
        self.gradients_start = plan.pass_places * plan.image_place
        self.sums_start = self.gradients_start + plan.pass_places * plan.gradient_place
        self.spoilt_start = self.sums_start + PLACES * plan.sum_place
        self.scratch_bytes = self.spoilt_start * plan.products.bytes + 64

    def compute(self) -> Launch:
        """The launch that computes results, or parts of their sums."""
        plan, functions = self.gradient, self.functions()
        with self.launch("") as (code, number):
            unit = self.gradient_unit(code, number)
            for first, count in self.blocks(code, unit):
                self.multiply_block(code, unit, first, count, functions)
            for panel, lane, columns in self.panels(code, unit.columns):
                self.hand_on(code, unit, panel, lane, columns, functions)
        squares = -(-squares_of(plan.windows) // self.plan.splits)
        flops = 2 * PLACES * squares * plan.channel_block * plan.column_block * self.products.width
        return Launch(self.name, plan.units, flops)

    def functions(self) -> Functions:
        """Write what the launch calls."""
        module, name, plan, size = self.module, self.name, self.gradient, self.emit_size

        def passes(suffix: str, pieces: Pieces) -> list[ir.Function]:
            rows = [slice(i * 4 // plan.passes, (i + 1) * 4 // plan.passes) for i in range(plan.passes)]
            return [emit_pieces(module, f"{name}.{suffix}{row.start}", pieces, size, row) for row in rows]

        return Functions(
            passes("image", self.image_pieces()),
            passes("gradient", self.gradient_pieces()),
            self.products_of_pass(emit_tiles(module, name, self.products, size)),
            emit_result(module, name + ".result", self.products, taps_line, plan.sum_place, size),
            emit_gradient_repair(module, name + ".repair", plan, size),
            emit_finish(module, name + ".finish", self.plan, size, self.epilogue, self.partial_start),
        )

    def image_pieces(self) -> Pieces:
        """How the image is transformed: a slice of it, as the unit has one only."""
        plan, windows = self.gradient, self.gradient.windows
        return Pieces(
            windows, plan.spec.dtype, self.products.lanes, 4, image_line, tuple(axis.a for axis in windows.pixels),
            (), windows.channels, plan.image_place, plan.image_row, plan.image_row,
        )  # fmt: skip

    def gradient_pieces(self) -> Pieces:
        """How gradients are: where a square has no second pixel there is none."""
        plan, windows = self.gradient, self.gradient.windows
        return Pieces(
            windows, plan.spec.dtype, self.products.lanes, 2, gradient_line, tuple(axis.b for axis in windows.pixels),
            (), plan.columns, plan.gradient_place, plan.gradient_row, plan.gradient_row, zero=True,
        )  # fmt: skip

    def gradient_unit(self, code: Code, number: ir.Value) -> GradientUnit:
        """Where a unit works; units that read the same squares follow each other."""
        b, plan, spec, windows = code.b, self.gradient, self.gradient.spec, self.gradient.windows
        counts = [plan.groups, self.plan.splits, windows.slice_count, plan.channel_blocks, plan.column_blocks]
        group, split, slice_, block, column = unravel(b, number, sizes(code, counts))
        channel = mul(b, block, const(plan.channel_block))
        lane = mul(b, column, const(plan.column_block * self.products.width))
        channels = minimum(b, const(plan.channel_block), sub(b, const(windows.channels), channel))
        columns = minimum(b, const(plan.column_block * self.products.width), sub(b, const(plan.columns), lane))
        index = unravel(b, group, sizes(code, [axis.extent for axis in spec.batch]))
        inner = unravel(b, slice_, sizes(code, [axis.extent for axis in windows.slices]))
        of_a = dot(
            b,
            [*index, *inner, channel],
            sizes(code, [axis.a for axis in (*spec.batch, *windows.slices, windows.window[-1])]),
        )
        of_b = dot(b, [*index, lane], sizes(code, [axis.b for axis in (*spec.batch, spec.n)]))
        operands = (
            at(b, self.argument(code, i), add(b, offset, code.size(start)), self.element)
            for i, (offset, start) in enumerate(((of_a, spec.a_offset), (of_b, spec.b_offset)))
        )
        squares = chunk(code, windows.square_count, self.plan.splits, split)
        return GradientUnit(group, split, slice_, squares, channel, channels, lane, columns, *operands)

    def blocks(self, code: Code, unit: GradientUnit) -> Iterator[tuple[ir.Value, ir.Value]]:
        """A loop over the blocks of a unit's squares: the first square and how many there are.

        Where there are none at all it has one turn, whose sums are zeros.
        """
        b, (begin, end) = code.b, unit.squares
        some = b.select(b.icmp_signed("<", begin, end), end, add(b, begin, const(1)))
        with loop(b, begin, some, self.gradient.squares) as first:
            yield first, minimum(b, const(self.gradient.squares), sub(b, end, first))

    def panels(self, code: Code, columns: ir.Value) -> Iterator[tuple[ir.Value, ir.Value, ir.Value]]:
        """A loop over the column panels of a unit: its number in the unit, its first column in it, and how many."""
        b, width = code.b, self.products.width
        with loop(b, const(0), columns, width) as lane:
            yield b.udiv(lane, const(width)), lane, minimum(b, const(width), sub(b, columns, lane))

    def multiply_block(
        self, code: Code, unit: GradientUnit, first: ir.Value, count: ir.Value, functions: Functions
    ) -> None:
        """Transform some squares and add their products to the sums."""
        plan, b = self.gradient, code.b
        image, gradient, sums = (self.scratch(code, i) for i in (0, self.gradients_start, self.sums_start))
        begin = sub(b, first, unit.squares[0])
        span = begin, add(b, begin, count)
        for number, (of_image, of_gradient) in enumerate(zip(functions.images, functions.gradients, strict=True)):
            b.call(of_image, [unit.a, image, first, count, unit.channels, code.dims])
            b.call(of_gradient, [unit.b, gradient, first, count, unit.columns, code.dims])
            out = at(b, sums, const(number * plan.pass_places * plan.sum_place), self.element)
            numbers = (*span, unit.channels, unit.lane, unit.columns)
            b.call(functions.multiply, [image, gradient, out, *numbers, code.dims])

    def products_of_pass(self, tiles: Tiles) -> ir.Function:
        """The function that multiplies a block's transforms at the places of a pass."""
        plan = self.gradient
        with part_function(self.module, self.name + ".products", PRODUCTS_ARGUMENTS, self.emit_size) as code:
            image, gradient, sums, begin, end, channels, first, columns, _ = code.function.args
            b, width = code.b, self.products.width
            # Operands as if all squares of the unit were there.
            image, gradient = (
                at(b, start, b.neg(mul(b, begin, const(row))), self.element)
                for start, row in ((image, plan.image_row), (gradient, plan.gradient_row))
            )
            for panel, lane, _ in self.panels(code, columns):
                a = image, plan.image_place
                filters = at(b, gradient, lane, self.element), plan.gradient_place
                out = at(b, sums, mul(b, panel, const(plan.panel_elements)), self.element), plan.sum_place
                after = add(b, add(b, first, lane), const(width))
                last = b.icmp_signed(">=", after, const(plan.columns))
                places = Places(plan.pass_places, a, filters, out)
                multiply(code, self.products, tiles, places, channels, (begin, end), last)
        return code.function

    def hand_on(
        self, code: Code, unit: GradientUnit, panel: ir.Value, lane: ir.Value, columns: ir.Value, functions: Functions
    ) -> None:
        """Transform the sums of a column panel back, see that they are right, and give them to the epilogue."""
        plan, b = self.gradient, code.b
        spoilt = self.scratch(code, self.spoilt_start)
        sums = at(b, self.scratch(code, self.sums_start), mul(b, panel, const(plan.panel_elements)), self.element)
        vectors = b.udiv(add(b, columns, const(self.products.lanes - 1)), const(self.products.lanes))
        b.store(const(0), spoilt)
        b.call(functions.result, [sums, spoilt, unit.channels, vectors, code.dims])
        with b.if_then(b.icmp_signed("!=", b.load(spoilt, typ=I64), const(0)), likely=False):
            gradients = at(b, unit.b, lane, self.element)
            b.call(functions.repair, [unit.a, gradients, sums, *unit.squares, unit.channels, columns, code.dims])
        args, first = code.function.args[0], add(b, unit.lane, lane)
        with loop(b, const(0), const(TAPS)) as tap:
            values = at(b, sums, mul(b, tap, const(plan.sum_place)), self.element)
            outer = add(b, mul(b, unit.slice, const(TAPS)), tap)
            rows = (unit.channel, const(0), unit.channels)
            b.call(
                functions.finish,
                [args, code.dims, values, unit.group, outer, *rows, first, columns, unit.split],
            )
