"""Sums the gradients of some taps directly, where Winograd's transforms made them infinite or NaN.

    void repair(ptr a, ptr b, ptr sums, i64 begin, i64 end, i64 channels, i64 columns, ptr dims)

is for a column panel of a unit, whose squares are [begin, end).  As in convolutions (repair.py) wherever the direct sum
is not finite the one of the transforms is not either.  A pixel that is not finite is in the gradients of all columns of
its channel, so channels are done one by one, if any of their results needs it.
"""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING

from llvmlite import ir

from graphflow.compiler.llvm.code import (
    ELEMENTS,
    I64,
    PTR,
    Code,
    SizeEmitter,
    add,
    any_lane,
    at,
    const,
    first_lanes,
    load,
    loop,
    masked_load,
    mul,
    multiply_add,
    part_function,
    splat,
    sub,
    zeros,
)
from graphflow.compiler.llvm.winograd.gradient_plan import TAPS
from graphflow.compiler.llvm.winograd.lines import not_finite
from graphflow.compiler.llvm.winograd.squares import pixel, square_at

if TYPE_CHECKING:
    from graphflow.compiler.llvm.winograd.gradient_plan import GradientPlan

ARGUMENTS = (
    ("a", PTR), ("b", PTR), ("sums", PTR),
    ("begin", I64), ("end", I64), ("channels", I64), ("columns", I64), ("dims", PTR),
)  # fmt: skip


def emit_gradient_repair(module: ir.Module, name: str, plan: GradientPlan, size: SizeEmitter) -> ir.Function:
    """The function `repair`."""
    with part_function(module, name, ARGUMENTS, size) as code:
        code.function.attributes.add("cold")
        a, gradients, sums, begin, end, channels, columns, _ = code.function.args
        repair, b, products = GradientRepair(code, plan), code.b, plan.products
        with loop(b, const(0), channels) as channel, loop(b, const(0), columns, products.lanes) as lane:
            row = add(b, mul(b, channel, const(products.width)), lane)
            places = [at(b, sums, add(b, row, const(tap * plan.sum_place)), repair.element) for tap in range(TAPS)]
            values = [load(b, place, repair.vector, repair.align) for place in places]
            wrong = [not_finite(b, value) for value in values]
            with b.if_then(any_lane(b, wrong)):
                operands = at(b, a, channel, repair.element), at(b, gradients, lane, repair.element)
                direct = repair.total(*operands, begin, end, sub(b, columns, lane))
                for place, value, mask, other in zip(places, values, wrong, direct, strict=True):
                    b.store(b.select(mask, other, value), place, align=repair.align)
    return code.function


class GradientRepair:
    """Writes the code for one channel and one vector of columns."""

    def __init__(self, code: Code, plan: GradientPlan):
        self.code, self.plan = code, plan
        self.element = ELEMENTS[plan.spec.dtype]
        self.vector = ir.VectorType(self.element, plan.products.lanes)
        self.align = plan.products.lanes * plan.products.bytes

    def total(
        self, a: ir.Value, gradients: ir.Value, begin: ir.Value, end: ir.Value, columns: ir.Value
    ) -> list[ir.Value]:
        """The gradients of all taps, over the squares [begin, end)."""
        code, b, plan, lanes = self.code, self.code.b, self.plan, self.plan.products.lanes
        windows = plan.windows
        totals = [code.entry.alloca(self.vector) for _ in range(TAPS)]  # registers, once LLVM has seen them
        for total in totals:
            b.store(zeros(self.vector), total)
        mask = first_lanes(b, columns, lanes)
        with loop(b, begin, end) as number:
            square = square_at(code, windows, number)
            image, results = (
                at(b, start, pixel(code, square, strides), self.element)
                for start, strides in (
                    (a, [axis.a for axis in windows.pixels]),
                    (gradients, [axis.b for axis in windows.pixels]),
                )
            )
            down, across = (b.select(has, const(2), const(1)) for has in (square.below, square.beside))
            with loop(b, const(0), down) as i, loop(b, const(0), across) as j:
                self.add_pixel(self.moved(image, i, j, "a"), self.moved(results, i, j, "b"), mask, totals)
        return [load(b, total, self.vector, self.align) for total in totals]

    def moved(self, place: ir.Value, i: ir.Value, j: ir.Value, operand: str) -> ir.Value:
        """The place of pixel (i, j) of a square in an operand, from that of its first."""
        code, b, windows = self.code, self.code.b, self.plan.windows
        for n, axis, spacing in zip((i, j), windows.pixels[-2:], windows.spacing, strict=True):
            stride = code.size(axis.a if operand == "a" else axis.b)
            place = at(b, place, mul(b, n, mul(b, const(spacing), stride)), self.element)
        return place

    def add_pixel(self, image: ir.Value, results: ir.Value, mask: ir.Value, totals: list[ir.Value]) -> None:
        """Add what the window of one pixel of the results gives."""
        code, b, products = self.code, self.code.b, self.plan.products
        column = masked_load(b, results, self.vector, mask, products.bytes)
        down, across = (code.size(axis.a) for axis in self.plan.windows.window[-3:-1])
        for total, (i, j) in zip(totals, product(range(3), repeat=2), strict=True):
            place = at(b, at(b, image, mul(b, const(i), down), self.element), mul(b, const(j), across), self.element)
            one = splat(b, load(b, place, self.element, products.bytes), products.lanes)
            sum_before = load(b, total, self.vector, self.align)
            b.store(multiply_add(b, one, column, sum_before, products.has_fma), total, align=self.align)
