"""Winograd's transforms of a line, and of a square: F(2x2, 3x3) for convolutions, F(3x3, 2x2) for gradients of filters.

    both_ways(b, image_line, pixels, 4)         # 16 vectors of 4 x 4

Both are of pieces of 4 x 4 pixels and have the same transform of an image.  A line of results is

    result_line(image_line(d) * filter_line(g))             # of 4 pixels and 3 taps: 2 results
    taps_line(image_line(d) * gradient_line(g))             # of 4 pixels and 2 gradients: those of 3 taps
"""

from __future__ import annotations

from collections.abc import Callable

from llvmlite import ir

from graphflow.compiler.llvm.code import splat, zeros

Vectors = list[ir.Value]
Line = Callable[[ir.IRBuilder, Vectors], Vectors]


def image_line(b: ir.IRBuilder, d: Vectors) -> Vectors:
    """Of four pixels: the paper's B^T."""
    return [b.fsub(d[0], d[2]), b.fadd(d[1], d[2]), b.fsub(d[2], d[1]), b.fsub(d[1], d[3])]


def filter_line(b: ir.IRBuilder, g: Vectors) -> Vectors:
    """Of three taps: the paper's G."""
    half = splat(b, ir.Constant(g[0].type.element, 0.5), g[0].type.count)
    ends = b.fadd(g[0], g[2])
    return [g[0], b.fmul(half, b.fadd(ends, g[1])), b.fmul(half, b.fsub(ends, g[1])), g[2]]


def gradient_line(b: ir.IRBuilder, g: Vectors) -> Vectors:
    """Of the gradients of two results; the halves of the paper's G are in `taps_line`."""
    return [g[0], b.fadd(g[0], g[1]), b.fsub(g[0], g[1]), g[1]]


def result_line(b: ir.IRBuilder, m: Vectors) -> Vectors:
    """Of four sums of products: the paper's A^T."""
    return [b.fadd(m[0], b.fadd(m[1], m[2])), b.fsub(b.fsub(m[1], m[2]), m[3])]


def taps_line(b: ir.IRBuilder, m: Vectors) -> Vectors:
    """Of four sums of products of an image and of gradients."""
    half = splat(b, ir.Constant(m[0].type.element, 0.5), m[0].type.count)
    both = b.fmul(half, b.fadd(m[1], m[2]))
    return [b.fadd(m[0], both), b.fmul(half, b.fsub(m[1], m[2])), b.fsub(both, m[3])]


def both_ways(b: ir.IRBuilder, line: Line, values: Vectors, side: int, rows: slice = slice(None)) -> Vectors:
    """The columns of a square of `side` x `side` values transformed, and then its rows, or some of them."""
    columns = [line(b, values[j::side]) for j in range(side)]
    return [value for row in [*zip(*columns, strict=True)][rows] for value in line(b, list(row))]


def not_finite(b: ir.IRBuilder, x: ir.Value) -> ir.Value:
    """The lanes of x that are infinite or NaN."""
    return b.fcmp_unordered("uno", b.fsub(x, x), zeros(x.type))
