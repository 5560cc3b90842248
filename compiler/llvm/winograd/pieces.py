"""Squares of an operand transformed for the products of Winograd's places: of an image, or of a gradient.

    void pieces(ptr source, ptr target, i64 first, i64 count, i64 channels, ptr dims)

makes [place][square][slice][channel] of the pixels of each slice of some squares.  Lanes are channels.  What only some
of the places need is not loaded for them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
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
    at,
    const,
    dot,
    first_lanes,
    load,
    loop,
    masked_load,
    mul,
    part_function,
    prefetch,
    whole,
    zeros,
)
from graphflow.compiler.llvm.contract.pack import flat_strides, nest, sizes
from graphflow.compiler.llvm.target import ELEMENT_BYTES
from graphflow.compiler.llvm.winograd.lines import Line, Vectors, both_ways
from graphflow.compiler.llvm.winograd.squares import Square, pixel, square_at, steps

if TYPE_CHECKING:
    from graphflow.compiler.llvm.contract.contraction import Axis
    from graphflow.compiler.llvm.winograd.windows import Windows
    from graphflow.core.dim import Size

# Bytes ahead at which pixels are asked for: processors do not follow so many lines of an image by themselves.
AHEAD = 2048

PIECES_ARGUMENTS = (
    ("source", PTR), ("target", PTR), ("first", I64), ("count", I64), ("channels", I64), ("dims", PTR),
)  # fmt: skip


@dataclass(frozen=True)
class Pieces:
    """How squares of an operand become [place][square][slice][channel].

    A piece is `side` x `side` pixels, `line` the transform of a line of it.  `strides` are those of the pixels' axes in
    the operand, `slices` the axes of its slices, with theirs in A.  From one place to the next are `place` elements,
    `row` from one square to the next, `slice_row` from one slice to the next.  A pixel that does not exist is `zero`,
    or else may be anything.
    """

    windows: Windows
    dtype: str
    lanes: int
    side: int
    line: Line
    strides: tuple[Size, ...]
    slices: tuple[Axis, ...]
    channels: int
    place: int
    row: int
    slice_row: int
    zero: bool = False


def emit_pieces(
    module: ir.Module, name: str, pieces: Pieces, size: SizeEmitter, rows: slice = slice(None)
) -> ir.Function:
    """The function `pieces`, for all 4 x 4 places or for some rows of them."""
    with part_function(module, name, PIECES_ARGUMENTS, size) as code:
        source, target, first, count, channels, _ = code.function.args
        b, element, windows = code.b, ELEMENTS[pieces.dtype], pieces.windows
        with loop(b, const(0), count) as number:
            square = square_at(code, windows, add(b, first, number))
            start = at(b, source, pixel(code, square, pieces.strides), element)
            row = at(b, target, mul(b, number, const(pieces.row)), element)
            ways = zip(windows.spacing, pieces.strides[-2:], (square.below, square.beside), strict=True)
            down, across = ([*steps(code, pieces.side, spacing * stride, has)] for spacing, stride, has in ways)
            for offset, slice_ in slices(code, pieces.slices):
                here, piece = at(b, start, offset, element), mul(b, slice_, const(pieces.slice_row))
                pixels = [at(b, at(b, here, i, element), j, element) for i in down for j in across]
                for channel, mask in channel_vectors(code, pieces, channels):
                    if not rows.start:
                        ask_ahead(b, pieces, pixels, channel)
                    # LLVM leaves out what these rows do not need.
                    values = [vector(code, pieces, at(b, place, channel, element), mask) for place in pixels]
                    if pieces.zero:
                        values = existing(b, values, pieces.side, square)
                    for n, value in enumerate(both_ways(b, pieces.line, values, pieces.side, rows)):
                        place = add(b, const(n * pieces.place), add(b, piece, channel))
                        b.store(value, at(b, row, place, element), align=pieces.lanes * ELEMENT_BYTES[pieces.dtype])
    return code.function


def ask_ahead(b: ir.IRBuilder, pieces: Pieces, pixels: list[ir.Value], channel: ir.Value) -> None:
    """Ask for pixels further on that the squares before do not have: the last two of each way."""
    further = add(b, channel, const(AHEAD // ELEMENT_BYTES[pieces.dtype]))
    for i, j in product(range(pieces.side - 2, pieces.side), repeat=2):
        prefetch(b, at(b, pixels[i * pieces.side + j], further, ELEMENTS[pieces.dtype]))


def existing(b: ir.IRBuilder, values: Vectors, side: int, square: Square) -> Vectors:
    """The pixels of a piece, with zeros for those in its last row and column that do not exist."""
    nothing = zeros(values[0].type)
    for n in range(side * side):
        for is_last, has in ((n // side == side - 1, square.below), (n % side == side - 1, square.beside)):
            if is_last:
                values[n] = b.select(has, values[n], nothing)
    return values


def slices(code: Code, axes: tuple[Axis, ...]) -> Iterator[tuple[ir.Value, ir.Value]]:
    """Loops over the slices of windows: how far one is from the first in A, and its number."""
    with nest(code, axes) as indices:
        strides = sizes(code, [axis.a for axis in axes])
        yield dot(code.b, indices, strides), dot(code.b, indices, sizes(code, flat_strides(axes)))


def channel_vectors(code: Code, pieces: Pieces, count: ir.Value) -> Iterator[tuple[ir.Value, ir.Value | None]]:
    """The first of each vector of `count` channels and the mask of its lanes: a loop over whole ones, and what is left.

    A part of all channels is whole vectors, but for the last part.
    """
    b, lanes, left = code.b, pieces.lanes, pieces.channels % pieces.lanes
    end = whole(b, count, lanes)
    if pieces.channels >= lanes:
        with loop(b, const(0), end, lanes) as channel:
            yield channel, None
    if left:
        with b.if_then(b.icmp_signed("<", end, count)):
            yield end, first_lanes(b, const(left), lanes)


def vector(code: Code, pieces: Pieces, address: ir.Value, mask: ir.Value | None) -> ir.Value:
    """Channels of a pixel, zeros for those that it has not."""
    kind, align = ir.VectorType(ELEMENTS[pieces.dtype], pieces.lanes), ELEMENT_BYTES[pieces.dtype]
    if mask is None:
        return load(code.b, address, kind, align)
    return masked_load(code.b, address, kind, mask, align)
