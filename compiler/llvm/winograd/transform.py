"""Winograd's transforms F(2x2, 3x3): of an image, of filters, and of the sums of their products.

    void image(ptr a, ptr pieces, i64 first, i64 count, ptr dims)
    void filter(ptr taps, ptr target, ptr dims)
    void result(ptr sums, ptr spoilt, i64 count, i64 vectors, ptr dims)

`image` makes [place][square][slice][channel] of the 4 x 4 pixels of each slice of each square, `filter`
[place][channel][width] of the taps [3][3][channel][width] of a slice of a column panel; `result` finds sums
[place][square][width] and leaves results at the first four places, those of a square's pixels row by row.  Lanes are
channels, of the image or of the results.  Each result depends on the pixels of its own window only, as it has no others
in its terms.  But there infinities may become NaN, and differences and sums may overflow that the convolution does not
know: `result` stores 1 to `spoilt` where anything is not finite (repair.py).

Rounding: of normally distributed images and filters of 64 channels the largest error is 0.8 eps times the sum of
|x| |w| and the mean is 0.11 eps, where the direct sum, which is nine times as long, has 2.6 and 0.16 (float32 and
float64).  But a pixel is added to its neighbours and a tap to its own: where their sizes are spread evenly over six
decades the largest error is 27 eps beside 9.7 (the mean 0.8 in both), and next to a large pixel that meets a tap of
zero small results are lost.  Numbers near the smallest normal one are flushed when they cancel to less.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
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
    first_lanes,
    load,
    loop,
    masked_load,
    mul,
    part_function,
    splat,
    unravel,
    zeros,
)
from graphflow.compiler.llvm.contract.pack import flat_strides, nest, sizes
from graphflow.compiler.llvm.winograd.plan import PLACES
from graphflow.core.dim import Size

if TYPE_CHECKING:
    from graphflow.compiler.llvm.winograd.plan import WinogradPlan

Vectors = list[ir.Value]

IMAGE_ARGUMENTS = (("a", PTR), ("pieces", PTR), ("first", I64), ("count", I64), ("dims", PTR))
FILTER_ARGUMENTS = (("taps", PTR), ("target", PTR), ("dims", PTR))
RESULT_ARGUMENTS = (("sums", PTR), ("spoilt", PTR), ("count", I64), ("vectors", I64), ("dims", PTR))


# the transforms of a line, and of a square


def image_line(b: ir.IRBuilder, d: Vectors) -> Vectors:
    """Of four pixels: the paper's B^T."""
    return [b.fsub(d[0], d[2]), b.fadd(d[1], d[2]), b.fsub(d[2], d[1]), b.fsub(d[1], d[3])]


def filter_line(b: ir.IRBuilder, g: Vectors) -> Vectors:
    """Of three taps: the paper's G."""
    half = splat(b, ir.Constant(g[0].type.element, 0.5), g[0].type.count)
    ends = b.fadd(g[0], g[2])
    return [g[0], b.fmul(half, b.fadd(ends, g[1])), b.fmul(half, b.fsub(ends, g[1])), g[2]]


def result_line(b: ir.IRBuilder, m: Vectors) -> Vectors:
    """Of four sums of products: the paper's A^T."""
    return [b.fadd(m[0], b.fadd(m[1], m[2])), b.fsub(b.fsub(m[1], m[2]), m[3])]


def both_ways(b: ir.IRBuilder, line: Callable[[ir.IRBuilder, Vectors], Vectors], values: Vectors, side: int) -> Vectors:
    """The columns of a square of `side` x `side` values transformed, and then its rows."""
    columns = [line(b, values[j::side]) for j in range(side)]
    return [value for row in zip(*columns, strict=True) for value in line(b, list(row))]


# where squares are


@dataclass(frozen=True)
class Square:
    """The index of a square's first pixel, and whether there is a second one below and beside it."""

    index: tuple[ir.Value, ...]
    below: ir.Value
    beside: ir.Value


def square_at(code: Code, plan: WinogradPlan, number: ir.Value) -> Square:
    """The square of a number."""
    b, ways = code.b, [*zip(plan.spec.m[-2:], plan.spacing, strict=True)]
    *outer, down, across = unravel(b, number, sizes(code, plan.square_extents))
    first = [first_pixel(code, n, spacing) for n, (_, spacing) in zip((down, across), ways, strict=True)]
    below, beside = (has_second(code, axis.extent, i, s) for i, (axis, s) in zip(first, ways, strict=True))
    return Square((*outer, *first), below, beside)


def first_pixel(code: Code, number: ir.Value, spacing: int) -> ir.Value:
    """Where on an axis square `number` begins: `spacing` of them, and then come their second pixels."""
    before, _ = divmod_(code.b, number, const(spacing))
    return add(code.b, number, mul(code.b, before, const(spacing)))


def has_second(code: Code, extent: Size, first: ir.Value, spacing: int) -> ir.Value:
    """Whether a square that begins at `first` has a second pixel."""
    if isinstance(extent, int) and extent % (2 * spacing) == 0:
        return ir.Constant(I1, 1)
    return code.b.icmp_signed("<", add(code.b, first, const(spacing)), code.size(extent))


def pixel(code: Code, plan: WinogradPlan, a: ir.Value, square: Square) -> ir.Value:
    """Where the window of a square's first pixel starts in A."""
    strides = sizes(code, [axis.a for axis in plan.spec.m])
    return at(code.b, a, dot(code.b, square.index, strides), ELEMENTS[plan.spec.dtype])


# the functions


def emit_image(module: ir.Module, name: str, plan: WinogradPlan, size: SizeEmitter) -> ir.Function:
    """The function `image`."""
    with part_function(module, name, IMAGE_ARGUMENTS, size) as code:
        a, pieces, first, count, _ = code.function.args
        b, products = code.b, plan.products
        element = ELEMENTS[products.spec.dtype]
        with loop(b, const(0), count) as number:
            square = square_at(code, plan, add(b, first, number))
            source = pixel(code, plan, a, square)
            target = at(b, pieces, mul(b, number, code.size(products.run.a)), element)
            ways = zip(plan.spec.k[-3:-1], (square.below, square.beside), strict=True)
            down, across = ([*steps(code, axis.a, second)] for axis, second in ways)
            for offset, slice_ in slices(code, plan):
                start, piece = at(b, source, offset, element), mul(b, slice_, const(plan.slice_row))
                pixels = [at(b, at(b, start, i, element), j, element) for i in down for j in across]
                for channel, mask in channel_vectors(code, plan):
                    values = [vector(code, plan, at(b, place, channel, element), mask) for place in pixels]
                    for n, value in enumerate(both_ways(b, image_line, values, 4)):
                        place = add(b, add(b, const(n * plan.image_place), piece), channel)
                        b.store(value, at(b, target, place, element), align=products.lanes * products.bytes)
    return code.function


def slices(code: Code, plan: WinogradPlan) -> Iterator[tuple[ir.Value, ir.Value]]:
    """Loops over the slices of windows: how far one is from the first in A, and its number."""
    with nest(code, plan.slices) as indices:
        strides = sizes(code, [axis.a for axis in plan.slices])
        yield dot(code.b, indices, strides), dot(code.b, indices, sizes(code, flat_strides(plan.slices)))


def steps(code: Code, stride: Size, has_second: ir.Value) -> Iterator[ir.Value]:
    """How far four pixels are from the first one; a last one that no result needs is where the third is."""
    b, step = code.b, code.size(stride)
    for i in range(3):
        yield mul(b, const(i), step)
    yield b.select(has_second, mul(b, const(3), step), mul(b, const(2), step))


def channel_vectors(code: Code, plan: WinogradPlan) -> Iterator[tuple[ir.Value, ir.Value | None]]:
    """The first channel of each vector and the mask of its lanes: a loop over whole ones, and what is left."""
    lanes = plan.products.lanes
    whole, left = plan.channels // lanes * lanes, plan.channels % lanes
    if whole:
        with loop(code.b, const(0), const(whole), lanes) as channel:
            yield channel, None
    if left:
        yield const(whole), first_lanes(code.b, const(left), lanes)


def vector(code: Code, plan: WinogradPlan, address: ir.Value, mask: ir.Value | None) -> ir.Value:
    """Channels of a pixel, zeros for those that it has not."""
    kind = ir.VectorType(ELEMENTS[plan.spec.dtype], plan.products.lanes)
    if mask is None:
        return load(code.b, address, kind, plan.products.bytes)
    return masked_load(code.b, address, kind, mask, plan.products.bytes)


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


def emit_result(module: ir.Module, name: str, plan: WinogradPlan, size: SizeEmitter) -> ir.Function:
    """The function `result`."""
    with part_function(module, name, RESULT_ARGUMENTS, size) as code:
        sums, spoilt, count, vectors, _ = code.function.args
        b, products = code.b, plan.products
        element = ELEMENTS[products.spec.dtype]
        kind, align = ir.VectorType(element, products.lanes), products.lanes * products.bytes
        end = mul(b, vectors, const(products.lanes))
        with loop(b, const(0), count) as number:
            row = at(b, sums, mul(b, number, const(products.width)), element)
            with loop(b, const(0), end, products.lanes) as lane:
                places = [at(b, row, add(b, const(n * plan.sum_place), lane), element) for n in range(PLACES)]
                values = both_ways(b, result_line, [load(b, place, kind, align) for place in places], 4)
                for place, value in zip(places, values, strict=False):
                    b.store(value, place, align=align)
                with b.if_then(any_lane(b, [not_finite(b, value) for value in values]), likely=False):
                    b.store(const(1), spoilt)
    return code.function


def not_finite(b: ir.IRBuilder, x: ir.Value) -> ir.Value:
    """The lanes of x that are infinite or NaN."""
    return b.fcmp_unordered("uno", b.fsub(x, x), zeros(x.type))


def any_lane(b: ir.IRBuilder, masks: Vectors) -> ir.Value:
    """Whether a lane of any of the masks is set."""
    total = masks[0]
    for mask in masks[1:]:
        total = b.or_(total, mask)
    bits = b.bitcast(total, ir.IntType(total.type.count))
    return b.icmp_unsigned("!=", bits, ir.Constant(bits.type, 0))
