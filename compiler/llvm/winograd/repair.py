"""Convolves some squares directly, for those of their results that Winograd's transforms made infinite or NaN.

    void repair(ptr a, ptr b, ptr sums, ptr taps, i64 first, i64 count, i64 lane, i64 vectors, ptr dims)

Wherever the convolution is not finite, a result of the transforms is not either: each pixel and each tap is in a
product of each result that depends on it, and no sum or difference of what is infinite or NaN is finite.  So nothing
else has to be looked at.  It seldom runs: a unit whose results all need it takes some five times as long.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

from llvmlite import ir

from graphflow.compiler.llvm.code import (
    ELEMENTS,
    I64,
    PTR,
    Code,
    SizeEmitter,
    add,
    at,
    const,
    dot,
    load,
    loop,
    mul,
    multiply_add,
    part_function,
    splat,
    zeros,
)
from graphflow.compiler.llvm.contract.contraction import Axis
from graphflow.compiler.llvm.contract.k_loops import Sums, sum_over
from graphflow.compiler.llvm.contract.pack import nest, sizes
from graphflow.compiler.llvm.winograd.lines import not_finite
from graphflow.compiler.llvm.winograd.squares import pixel, square_at

if TYPE_CHECKING:
    from graphflow.compiler.llvm.winograd.plan import WinogradPlan

PIXELS = 4
"""Results of a square: at the first places of the sums; what is computed here stands at the places behind."""

ARGUMENTS = (
    ("a", PTR), ("b", PTR), ("sums", PTR), ("taps", PTR),
    ("first", I64), ("count", I64), ("lane", I64), ("vectors", I64), ("dims", PTR),
)  # fmt: skip


def emit_repair(module: ir.Module, name: str, plan: WinogradPlan, panel: ir.Function, size: SizeEmitter) -> ir.Function:
    """The function `repair`; `panel` copies the taps of some channels."""
    with part_function(module, name, ARGUMENTS, size) as code:
        code.function.attributes.add("cold")
        a, source, sums, taps, first, count, lane, vectors, _ = code.function.args
        repair, b, channels = Repair(code, plan, sums, taps), code.b, plan.spec.k[-1]
        element = ELEMENTS[plan.spec.dtype]
        with (
            nest(code, plan.windows.slices) as indices,
            loop(b, const(0), const(plan.windows.channels), plan.tap_channels) as channel,
        ):
            image, place = (
                at(b, start, dot(b, [*indices, channel], sizes(code, strides)), element)
                for start, strides in (
                    (a, [axis.a for axis in (*plan.windows.slices, channels)]),
                    (source, [axis.b for axis in (*plan.windows.slices, channels)]),
                )
            )
            b.call(panel, [place, taps, lane, const(0), const(3), code.dims])
            begins = all_zero(b, [*indices, channel])
            with loop(b, const(0), count) as number, loop(b, const(0), vectors) as v:
                repair.convolve(image, first, number, v, begins)
        with loop(b, const(0), count) as number, loop(b, const(0), vectors) as v:
            repair.choose(number, v)
    return code.function


def all_zero(b: ir.IRBuilder, numbers: list[ir.Value]) -> ir.Value:
    """Whether all of some numbers, none of them negative, are 0."""
    return b.icmp_signed("==", functools.reduce(b.or_, numbers), const(0))


class Repair:
    """Writes the code for one vector of the results of a square."""

    def __init__(self, code: Code, plan: WinogradPlan, sums: ir.Value, taps: ir.Value):
        self.code, self.plan, self.sums, self.taps = code, plan, sums, taps
        self.element = ELEMENTS[plan.spec.dtype]
        self.vector = ir.VectorType(self.element, plan.products.lanes)
        self.align = plan.products.lanes * plan.products.bytes

    def places(self, number: ir.Value, v: ir.Value) -> list[ir.Value]:
        """Where the results stand, and behind them those that are computed here."""
        b, products = self.code.b, self.plan.products
        lane = add(b, mul(b, number, const(products.width)), mul(b, v, const(products.lanes)))
        offsets = [add(b, const(n * self.plan.sum_place), lane) for n in range(2 * PIXELS)]
        return [at(b, self.sums, offset, self.element) for offset in offsets]

    def convolve(self, a: ir.Value, first: ir.Value, number: ir.Value, v: ir.Value, begins: ir.Value) -> None:
        """Add what the channels give that are at `a` and whose taps are copied; where it `begins` there is no sum."""
        code, b, products, plan = self.code, self.code.b, self.plan.products, self.plan
        square = square_at(code, plan.windows, add(b, first, number))
        source = at(b, a, pixel(code, square, [axis.a for axis in plan.spec.m]), self.element)
        # A pixel that does not exist is the one before it; nobody asks for its result.
        down, across = (
            b.select(second, code.size(axis.a), const(0))
            for axis, second in zip(plan.spec.k[-3:-1], (square.below, square.beside), strict=True)
        )
        pixels = [const(0), across, down, add(b, down, across)]
        strides = [3 * plan.tap_channels * products.width, plan.tap_channels * products.width, products.width]
        axes = tuple(Axis(axis.extent, axis.a, step) for axis, step in zip(plan.taps.k, strides, strict=True))
        targets = self.places(number, v)[PIXELS:]
        before = [load(b, target, self.vector, self.align) for target in targets]
        before = [b.select(begins, zeros(self.vector), value) for value in before]

        def inside(image: ir.Value, taps: ir.Value, sums: Sums) -> Sums:
            column = load(b, taps, self.vector, self.align)
            result = []
            for offset, total in zip(pixels, sums, strict=True):
                one = load(b, at(b, image, offset, self.element), self.element, products.bytes)
                result.append(multiply_add(b, splat(b, one, products.lanes), column, total, products.has_fma))
            return result

        taps = at(b, self.taps, mul(b, v, const(products.lanes)), self.element)
        after = sum_over(code, self.element, axes, const(3), (source, taps), before, inside)
        for target, value in zip(targets, after, strict=True):
            b.store(value, target, align=self.align)

    def choose(self, number: ir.Value, v: ir.Value) -> None:
        """Put what was computed here in the place of what is not finite."""
        b, places = self.code.b, self.places(number, v)
        for place, other in zip(places[:PIXELS], places[PIXELS:], strict=True):
            value, direct = (load(b, x, self.vector, self.align) for x in (place, other))
            b.store(b.select(not_finite(b, value), direct, value), place, align=self.align)
