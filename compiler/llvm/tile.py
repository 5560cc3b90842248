"""Tiles: as many rows as a vector has lanes, so that what is contiguous along the rows is transposed in registers.

A load that moves by one along the tile's row loop reads vectors along the rows and transposes them by shuffles
(J. O. Eklundh, "A fast computer method for matrix transposing", 1972): every cache line is read once and whole.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

from llvmlite import ir

from graphflow.compiler.llvm.code import I32, any_lane, at, const, masked_load, mul, prefetch, splat
from graphflow.compiler.llvm.lanes import TurnGuard, active, tile_stride, turns_allowed, with_constants
from graphflow.compiler.llvm.memory import address, gather
from graphflow.compiler.llvm.scope import Scope, loop_variables
from graphflow.compiler.llvm.tile_ahead import BlockAhead, RowsAhead
from graphflow.compiler.llvm.values import memory_type
from graphflow.core.dtype import DType

__all__ = ["load_tile", "transpose"]

PIECE = 16
"""Bytes within which every target's shuffles move elements, or loads put them anywhere in a vector."""


FEW = 4
"""Elements of a piece from which loading by pieces what comes from memory, and nothing beside it, is faster than
shuffling whole vectors."""


def load_tile(scope: Scope, buffer: int, index: Any, dtype: DType) -> list[Any]:
    """A load in a tile: one vector for each row.  What rows or lanes share is read where any of them may read it."""
    linear = scope.lane_offset(index)
    assert linear is not None, "a tile's indices are linear"
    assert scope.lanes is not None
    b, step, stride = scope.builder, linear[1], tile_stride(index, scope)
    turns = turns_allowed(scope)
    if step == 1 and turns is not None:
        own = scope.lanes.mask or [None] * scope.lanes.vectors
        return _rows(scope, buffer, index, dtype, own, _any_turn(scope, turns) if stride == 0 else turns)
    masks = [active(scope, n) for n in range(scope.lanes.vectors)]
    if stride == 0 and step == 1:
        return _rows(scope, buffer, index, dtype, [_any_of(scope, masks)]) * len(masks)
    if step == 1:
        return _rows(scope, buffer, index, dtype, masks)
    if stride == 1 and step != 0:
        return _columns_across(scope, buffer, index, dtype, masks)
    if step == 0 and len(masks) != scope.lanes.width:
        return [splat(b, x, scope.lanes.width) for x in _scalars(scope, buffer, index, stride, dtype, masks)]
    if stride == 1:
        column = _columns(scope, buffer, index, dtype, [_any_of(scope, _across(b, masks))])[0]
        return [_broadcast_lane(b, column, n) for n in range(len(masks))]
    return gather(scope, buffer, index, dtype)


def reads_zeros(scope: Scope, index: Any) -> bool:
    """Whether each row of a tile is there for itself, and those that guards do not let be read are zeros."""
    linear = scope.lane_offset(index)
    return linear is not None and linear[1] == 1 and tile_stride(index, scope) != 0 and turns_allowed(scope) is not None


def _any_turn(scope: Scope, turns: TurnGuard) -> TurnGuard:
    """All turns may read where any of them may."""
    home = scope.home(turns.variables)
    key = ("any", *map(id, turns.hold))
    if key not in home.values:
        home.values[key] = functools.reduce(home.builder.or_, turns.hold)
    return TurnGuard((home.values[key],) * len(turns.hold), turns.variables)


def _any_of(scope: Scope, masks: Sequence[Any]) -> Any:
    """The mask of the lanes that any of the masks has; None for all."""
    if masks[0] is None:
        return None
    key = ("any", *map(id, masks))
    if key not in scope.values:
        scope.values[key] = functools.reduce(scope.builder.or_, masks)
    return scope.values[key]


def _across(b: Any, masks: list[Any]) -> list[Any]:
    """The masks of vectors along the rows, one a lane."""
    return masks if masks[0] is None else transpose(b, masks)


def _rows(
    scope: Scope, buffer: int, index: Any, dtype: DType, masks: Sequence[Any], turns: TurnGuard | None = None
) -> list[Any]:
    """Vectors along the lanes, one a row; where windows of several rows meet, each vector is loaded once."""
    stride = tile_stride(index, scope)
    place = with_constants(index, scope)
    return [_row(scope, buffer, place + n * stride, dtype, mask, turns, n) for n, mask in enumerate(masks)]


def _row(scope: Scope, buffer: int, place: Any, dtype: DType, mask: Any, turns: TurnGuard | None, n: int) -> Any:
    """The vector at a place; zeros where turn n may not read it."""
    variables, may = frozenset(loop_variables(place)), None if turns is None else turns.hold[n]
    if turns is not None:
        variables |= turns.variables
    home = scope.home(variables, wide=True, masked=mask is not None and turns is None)
    assert home.lanes is not None
    key = ("row", buffer, place, id(mask), id(may))
    if key not in home.values:
        constant = sum(c for monomial, c in place.terms if not monomial)
        kind = ir.VectorType(memory_type(dtype), home.lanes.width)
        start = address(home, buffer, place - constant, dtype)
        pointer = at(home.builder, start, const(constant), memory_type(dtype))
        if may is not None:
            pointer = home.builder.select(may, pointer, home.function.nothing)
        home.values[key] = _load(home.builder, pointer, kind, mask, dtype)
    return home.values[key]


def _scalars(scope: Scope, buffer: int, index: Any, stride: Any, dtype: DType, masks: Sequence[Any]) -> list[Any]:
    """What all lanes of a row share, for each row; where none may read it, anything."""
    b, found = scope.builder, []
    for n, mask in enumerate(masks):
        pointer = address(scope, buffer, index + n * stride, dtype)
        if mask is not None:
            pointer = b.select(any_lane(b, [mask]), pointer, scope.function.nothing)
        found.append(b.load(pointer, typ=memory_type(dtype), align=dtype.size))
    return found


def _columns_across(scope: Scope, buffer: int, index: Any, dtype: DType, masks: list[Any]) -> list[Any]:
    """One vector for each row, from vectors along the rows."""
    assert scope.lanes is not None
    b, width = scope.builder, scope.lanes.width
    ahead = scope.lanes.ahead
    if ahead is not None:
        _fetch_ahead(scope, ahead, buffer, index, dtype)
    whole = ahead is not None and ahead.by_pieces and masks[0] is None
    if whole and PIECE // dtype.size in range(FEW, width):
        return _by_pieces(b, _starts(scope, buffer, index, dtype, width), dtype)
    return transpose(b, _columns(scope, buffer, index, dtype, _across(b, masks)))


def _by_pieces(b: Any, starts: list[Any], dtype: DType) -> list[Any]:
    """The transpose of vectors that start there: pieces of them come to the lanes where they belong as they are loaded,
    so that shuffles need not cross them; few pieces meet the end of a cache line."""
    element, piece, width = memory_type(dtype), PIECE // dtype.size, len(starts)
    kind = ir.VectorType(element, piece)

    def loaded(start: Any) -> list[Any]:
        places = (at(b, start, const(first), element) for first in range(0, width, piece))
        return [b.load(place, typ=kind, align=dtype.size) for place in places]

    # Some rows at a time: the lines of all of them need not fit into a set of the cache.
    parts = [
        [_concatenated(b, list(some)) for some in zip(*map(loaded, starts[n::piece]), strict=True)]
        for n in range(piece)
    ]
    return [x for vectors in zip(*parts, strict=True) for x in _transpose_blocks(b, list(vectors))]


def _concatenated(b: Any, vectors: Sequence[Any]) -> Any:
    """One vector of as many of a kind as a power of two, one after the other."""
    while len(vectors) > 1:
        count = 2 * vectors[0].type.count
        mask = ir.Constant(ir.VectorType(I32, count), list(range(count)))
        vectors = [b.shuffle_vector(x, y, mask) for x, y in zip(vectors[::2], vectors[1::2], strict=True)]
    return vectors[0]


def _columns(scope: Scope, buffer: int, index: Any, dtype: DType, masks: Sequence[Any]) -> list[Any]:
    """Vectors along the rows, one for each mask: those of the first lanes."""
    assert scope.lanes is not None
    b, kind = scope.builder, ir.VectorType(memory_type(dtype), scope.lanes.width)
    starts = _starts(scope, buffer, index, dtype, len(masks))
    return [_load(b, start, kind, mask, dtype) for start, mask in zip(starts, masks, strict=True)]


def _starts(scope: Scope, buffer: int, index: Any, dtype: DType, count: int) -> list[Any]:
    """Where the vectors along the rows start, one a lane."""
    b, linear = scope.builder, scope.lane_offset(index)
    step = scope.size(linear[1] if linear is not None else 0)
    start = address(scope, buffer, index, dtype)
    return [at(b, start, mul(b, const(n), step), memory_type(dtype)) for n in range(count)]


def _fetch_ahead(scope: Scope, ahead: BlockAhead | RowsAhead, buffer: int, index: Any, dtype: DType) -> None:
    """Let the cache lines be fetched that a later tile reads here."""
    lanes, b = scope.lanes, scope.builder
    assert lanes is not None
    assert lanes.tile is not None
    for place in ahead.places(b, lanes.symbol, lanes.tile, lanes.width, dtype.size):
        prefetch(b, address(scope.child(b, place, None), buffer, index, dtype), ahead.locality)


def _load(b: Any, pointer: Any, kind: Any, mask: Any, dtype: DType) -> Any:
    return (
        b.load(pointer, typ=kind, align=dtype.size) if mask is None else masked_load(b, pointer, kind, mask, dtype.size)
    )


def _broadcast_lane(b: Any, vector: Any, lane: int) -> Any:
    return splat(b, b.extract_element(vector, ir.Constant(I32, lane)), vector.type.count)


def transpose(b: Any, rows: list[Any]) -> list[Any]:
    """Vector n of the result holds element n of each of the (as many as lanes) vectors."""
    rows, width, half = list(rows), len(rows), 1
    while half < width:
        for n in (n for n in range(width) if not n & half):
            low = [lane if not lane & half else width + (lane ^ half) for lane in range(width)]
            high = [lane ^ half if not lane & half else width + lane for lane in range(width)]
            x, y = rows[n], rows[n | half]
            rows[n], rows[n | half] = (
                b.shuffle_vector(x, y, ir.Constant(ir.VectorType(I32, width), m)) for m in (low, high)
            )
        half *= 2
    return rows


def _transpose_blocks(b: Any, rows: Sequence[Any]) -> list[Any]:
    """The same in each block of as many lanes as there are vectors, by interleaving halves: one instruction each, if a
    block is a piece."""
    rows, count, half = list(rows), len(rows), 1
    width = rows[0].type.count
    low = [width * (lane % 2) + lane // count * count + lane % count // 2 for lane in range(width)]
    high = [lane + count // 2 for lane in low]
    masks = [ir.Constant(ir.VectorType(I32, width), lanes) for lanes in (low, high)]
    while half < count:
        pairs = zip(rows[: count // 2], rows[count // 2 :], strict=True)
        rows = [b.shuffle_vector(x, y, mask) for x, y in pairs for mask in masks]
        half *= 2
    return rows
