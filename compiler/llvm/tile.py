"""Tiles: as many rows as a vector has lanes, so that what is contiguous along the rows is transposed in registers.

A load that moves by one along the tile's row loop reads vectors along the rows and transposes them by shuffles
(J. O. Eklundh, "A fast computer method for matrix transposing", 1972): every cache line is read once and whole.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir

from graphflow.compiler.llvm.contract_ir import I32, at, const, divmod_, masked_load, mul, prefetch, splat
from graphflow.compiler.llvm.lanes import active, tile_stride
from graphflow.compiler.llvm.memory import address, gather
from graphflow.compiler.llvm.scope import Scope, loop_variables
from graphflow.compiler.llvm.values import memory_type
from graphflow.core.dim import Dim, coefficient
from graphflow.core.dtype import DType

__all__ = ["load_tile", "transpose"]

LINE = 64
"""Bytes of a cache line."""


def load_tile(scope: Scope, buffer: int, index: Any, dtype: DType) -> list[Any]:
    """A load in a tile: one vector for each row."""
    linear = scope.lane_offset(index)
    assert linear is not None, "a tile's indices are linear"
    assert scope.lanes is not None
    step, stride = linear[1], tile_stride(index, scope)
    if stride == 0 and step == 1:
        return _rows(scope, buffer, index, dtype, 1) * _count(scope)
    if step == 1:
        return _rows(scope, buffer, index, dtype, _count(scope))
    if stride == 1 and step != 0:
        return transpose(scope.builder, _columns(scope, buffer, index, dtype, _count(scope)))
    if step == 0 and _count(scope) != scope.lanes.width:
        return [splat(scope.builder, x, scope.lanes.width) for x in _scalars(scope, buffer, index, stride, dtype)]
    if stride == 1:
        column = _columns(scope, buffer, index, dtype, 1)[0]
        return [_broadcast_lane(scope.builder, column, n) for n in range(_count(scope))]
    return gather(scope, buffer, index, dtype)


def _count(scope: Scope) -> int:
    assert scope.lanes is not None
    return scope.lanes.vectors


def _rows(scope: Scope, buffer: int, index: Any, dtype: DType, count: int) -> list[Any]:
    """Vectors along the lanes, one a row; where windows of several rows meet, each vector is loaded once."""
    stride = tile_stride(index, scope)
    place = _with_constants(scope, index)
    return [_row(scope, buffer, place + n * stride, dtype, active(scope, n)) for n in range(count)]


def _row(scope: Scope, buffer: int, place: Any, dtype: DType, mask: Any) -> Any:
    home = scope.home(frozenset(loop_variables(place)), loads=True)
    assert home.lanes is not None
    key = ("row", buffer, place, id(mask))
    if key not in home.values:
        constant = sum(c for monomial, c in place.terms if not monomial)
        kind = ir.VectorType(memory_type(dtype), home.lanes.width)
        start = address(home, buffer, place - constant, dtype)
        pointer = at(home.builder, start, const(constant), memory_type(dtype))
        home.values[key] = _load(home.builder, pointer, kind, mask, dtype)
    return home.values[key]


def _scalars(scope: Scope, buffer: int, index: Any, stride: Any, dtype: DType) -> list[Any]:
    """What all lanes of a row share, for each row."""
    places = [address(scope, buffer, index + n * stride, dtype) for n in range(_count(scope))]
    return [scope.builder.load(p, typ=memory_type(dtype), align=dtype.size) for p in places]


def _with_constants(scope: Scope, index: Any) -> Any:
    """An index with the numbers of loops that are written out."""
    for symbol in loop_variables(index):
        value, step = scope.variable(symbol), coefficient(index, symbol)
        if isinstance(value, ir.Constant) and step is not None:
            index = index + step * (value.constant - Dim((((symbol,), 1),)))
    return index


def _columns(scope: Scope, buffer: int, index: Any, dtype: DType, count: int) -> list[Any]:
    """Vectors along the rows, one a lane."""
    assert scope.lanes is not None
    b, width = scope.builder, scope.lanes.width
    kind = ir.VectorType(memory_type(dtype), width)
    linear = scope.lane_offset(index)
    step = scope.size(linear[1] if linear is not None else 0)
    start = address(scope, buffer, index, dtype)
    masks = [active(scope, n) for n in range(width)]
    across = transpose(b, masks) if masks[0] is not None else masks
    pointers = [at(b, start, mul(b, const(n), step), memory_type(dtype)) for n in range(count)]
    for line in _lines_ahead(scope, buffer, index, dtype) if count > 1 else ():
        prefetch(b, line, locality=2)
    return [_load(b, p, kind, across[n], dtype) for n, p in enumerate(pointers)]


def _lines_ahead(scope: Scope, buffer: int, index: Any, dtype: DType) -> list[Any]:
    """The addresses of as many lines of the next block, in the order of memory, as a tile reads."""
    lanes, b = scope.lanes, scope.builder
    if lanes is None or lanes.ahead is None or lanes.tile is None:
        return []
    line, start = max(LINE // dtype.size, 1), lanes.ahead.start
    lines, per_row = max(lanes.width * lanes.width // line, 1), max(lanes.ahead.turns // line, 1)
    found = []
    for n in range(lines):
        row, turn = divmod_(b, b.add(b.mul(lanes.ahead.number, const(lines)), const(n)), const(per_row))
        lane, tile = b.add(start[lanes.symbol], row), b.add(start[lanes.tile], b.mul(turn, const(line)))
        there = scope.child(b, {**start, lanes.symbol: lane, lanes.tile: tile}, None)
        found.append(address(there, buffer, index, dtype))
    return found


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
