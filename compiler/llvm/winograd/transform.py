"""Winograd's transforms F(2x2, 3x3) of filters, and of the sums of products with them; pieces.py has those of an image.

    void filter(ptr taps, ptr target, ptr dims)
    void result(ptr sums, ptr spoilt, i64 count, i64 vectors, ptr dims)

`filter` makes [place][channel][width] of the taps [3][3][channel][width] of a slice of a column panel.  `result` finds
sums [place][row][width] and leaves its results at the first places.  A row is a square and the results are those of its
four pixels, row by row; or it is a channel and they are the gradients of its nine taps.  Lanes are channels of results.

Each result depends on the pixels of its own windows only, as it has no others in its terms.  But there infinities may
become NaN, and differences and sums may overflow that the convolution does not know: `result` stores 1 to `spoilt`
where anything is not finite (repair.py, gradient_repair.py).

Rounding: of normally distributed images and filters of 64 channels the largest error is 0.8 eps times the sum of
|x| |w| and the mean is 0.11 eps, where the direct sum, which is nine times as long, has 2.6 and 0.16 (float32 and
float64).  But a pixel is added to its neighbours and a tap to its own: where their sizes are spread evenly over six
decades the largest error is 27 eps beside 9.7 (the mean 0.8 in both), and next to a large pixel that meets a tap of
zero small results are lost.  Numbers near the smallest normal one are flushed when they cancel to less.

Of gradients of filters, sums over 512 pixels, the largest error is 1.3 eps times the sum of |x| |g| and the mean 0.16,
that of the direct sum 2.4 and 0.17; of sizes spread over six decades 26 beside 8.9, and the mean 1.1 beside 0.78.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from llvmlite import ir

from graphflow.compiler.llvm.code import (
    ELEMENTS,
    I64,
    PTR,
    SizeEmitter,
    add,
    any_lane,
    at,
    const,
    load,
    loop,
    mul,
    part_function,
)
from graphflow.compiler.llvm.winograd.lines import Line, both_ways, filter_line, not_finite
from graphflow.compiler.llvm.winograd.plan import PLACES

if TYPE_CHECKING:
    from graphflow.compiler.llvm.contract.plan import Plan
    from graphflow.compiler.llvm.winograd.plan import WinogradPlan

FILTER_ARGUMENTS = (("taps", PTR), ("target", PTR), ("dims", PTR))
RESULT_ARGUMENTS = (("sums", PTR), ("spoilt", PTR), ("count", I64), ("vectors", I64), ("dims", PTR))


def emit_filter(module: ir.Module, name: str, plan: WinogradPlan, size: SizeEmitter) -> ir.Function:
    """The function `filter`, for the channels whose taps are copied at once."""
    with part_function(module, name, FILTER_ARGUMENTS, size) as code:
        taps, target, _ = code.function.args
        b, products, depth = code.b, plan.products, plan.tap_channels * plan.products.width
        element = ELEMENTS[products.spec.dtype]
        kind, align = ir.VectorType(element, products.lanes), products.lanes * products.bytes
        with loop(b, const(0), const(depth), products.lanes) as lane:
            places = [at(b, taps, add(b, const(n * depth), lane), element) for n in range(9)]
            values = [load(b, place, kind, align) for place in places]
            for n, value in enumerate(both_ways(b, filter_line, values, 3)):
                place = add(b, const(n * plan.filter_place), lane)
                b.store(value, at(b, target, place, element), align=products.bytes)
    return code.function


def emit_result(
    module: ir.Module, name: str, products: Plan, line: Line, sum_place: int, size: SizeEmitter
) -> ir.Function:
    """The function `result`, for sums of `products` whose places are `sum_place` elements apart."""
    with part_function(module, name, RESULT_ARGUMENTS, size) as code:
        sums, spoilt, count, vectors, _ = code.function.args
        b, element = code.b, ELEMENTS[products.spec.dtype]
        kind, align = ir.VectorType(element, products.lanes), products.lanes * products.bytes
        end = mul(b, vectors, const(products.lanes))
        with loop(b, const(0), count) as number:
            row = at(b, sums, mul(b, number, const(products.width)), element)
            with loop(b, const(0), end, products.lanes) as lane:
                places = [at(b, row, add(b, const(n * sum_place), lane), element) for n in range(PLACES)]
                values = both_ways(b, line, [load(b, place, kind, align) for place in places], 4)
                for place, value in zip(places, values, strict=False):
                    b.store(value, place, align=align)
                with b.if_then(any_lane(b, [not_finite(b, value) for value in values]), likely=False):
                    b.store(const(1), spoilt)
    return code.function
