"""Where the squares of an image are, in code: the index of one, and its pixels.

square = square_at(code, windows, number)
place = at(b, a, pixel(code, square, [axis.a for axis in windows.pixels]), element)
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from llvmlite import ir

from graphflow.compiler.llvm.code import I1, Code, add, const, divmod_, dot, mul, unravel
from graphflow.compiler.llvm.contract.pack import sizes
from graphflow.core.dim import Size

if TYPE_CHECKING:
    from graphflow.compiler.llvm.winograd.windows import Windows


@dataclass(frozen=True)
class Square:
    """The index of a square's first pixel, and whether there is a second one below and beside it."""

    index: tuple[ir.Value, ...]
    below: ir.Value
    beside: ir.Value


def square_at(code: Code, windows: Windows, number: ir.Value) -> Square:
    """The square of a number."""
    b, ways = code.b, [*zip(windows.pixels[-2:], windows.spacing, strict=True)]
    *outer, down, across = unravel(b, number, sizes(code, windows.square_extents))
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


def pixel(code: Code, square: Square, strides: Sequence[Size]) -> ir.Value:
    """How far a square's first pixel is from the first of all, where the pixels' axes have these strides."""
    return dot(code.b, square.index, sizes(code, strides))


def steps(code: Code, side: int, stride: Size, has_second: ir.Value) -> Iterator[ir.Value]:
    """How far `side` pixels are from the first one; a last one that does not exist is where the one before it is."""
    b, step = code.b, code.size(stride)
    for i in range(side - 1):
        yield mul(b, const(i), step)
    yield b.select(has_second, mul(b, const(side - 1), step), mul(b, const(side - 2), step))
