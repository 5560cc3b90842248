"""Loads and stores: scalars, whole vectors, gathers, under the masks of the scope where they stand."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from llvmlite import ir

from graphflow.compiler.llvm.code import (
    I1,
    I32,
    I64,
    PTR,
    VOID,
    at,
    const,
    intrinsic,
    masked_load,
    mul,
    prefetch,
    short_name,
    splat,
    undefined,
)
from graphflow.compiler.llvm.lanes import active, allowed, tile_stride, wide_index
from graphflow.compiler.llvm.scope import Scope, loop_variables
from graphflow.compiler.llvm.strided import deinterleave, interleave
from graphflow.compiler.llvm.target import Target
from graphflow.compiler.llvm.values import memory_type
from graphflow.compiler.loops.ir import Expr
from graphflow.core.dim import Dim, coefficient
from graphflow.core.dtype import DType

__all__ = [
    "address",
    "emit_stream_fence",
    "fetch_ahead",
    "from_memory",
    "gather",
    "load",
    "load_scalar",
    "store_past_caches",
    "store_scalar",
    "store_vectors",
    "to_memory",
]


PIECES = 2
"""Stores that are made of one under a mask."""


def from_memory(b: Any, x: Any, dtype: DType) -> Any:
    """What memory holds as a value: bytes become i1."""
    return b.icmp_unsigned("!=", x, ir.Constant(x.type, None)) if dtype.is_bool else x


def to_memory(b: Any, x: Any, dtype: DType) -> Any:
    """A value as memory holds it."""
    if not dtype.is_bool:
        return x
    byte = ir.IntType(8)
    return b.zext(x, ir.VectorType(byte, x.type.count) if isinstance(x.type, ir.VectorType) else byte)


def address(scope: Scope, buffer: int, index: Any, dtype: DType) -> Any:
    """The address of an element."""
    return at(scope.builder, scope.function.arguments[buffer], scope.size(index), memory_type(dtype))


def load_scalar(scope: Scope, buffer: int, index: Any, dtype: DType) -> Any:
    """An element that all lanes share, or the only one; where it may not be read, anything."""
    pointer = address(scope, buffer, index, dtype)
    may = allowed(scope)
    if may is not None:
        pointer = scope.builder.select(may, pointer, scope.function.nothing)
    return from_memory(scope.builder, scope.builder.load(pointer, typ=memory_type(dtype), align=dtype.size), dtype)


def load(scope: Scope, buffer: int, index: Any, dtype: DType) -> list[Any]:
    """An element for each lane, as vectors."""
    linear = scope.lane_offset(index)
    row = whole_row(scope, index)
    if row is not None:
        loaded = _load_rows(scope, buffer, index - row.var, row, dtype)
    elif linear is not None and linear[1] == 1:
        loaded = _load_vectors(scope, buffer, index, dtype)
    else:
        loaded = gather(scope, buffer, index, dtype)
    return [from_memory(scope.builder, x, dtype) for x in loaded]


@dataclass(frozen=True)
class Element:
    """Where the code stands in rows that are written out: the row's variable, its extent and its value."""

    var: Dim
    extent: int
    place: int


def whole_row(scope: Scope, index: Any) -> Element | None:
    """The variable of an index that walks through rows of memory which follow each other along the lanes, all of whose
    elements are there; None for any other index."""
    linear = scope.lane_offset(index)
    if linear is None or not isinstance(linear[1], int) or linear[1] < 2 or active(scope, 0) is not None:
        return None
    for symbol in loop_variables(index):
        if symbol.bound == linear[1] and coefficient(index, symbol) == 1:
            value = scope.variable(symbol)
            if isinstance(value, ir.Constant):
                return Element(Dim((((symbol,), 1),)), linear[1], value.constant)
    return None


def _load_rows(scope: Scope, buffer: int, start: Any, row: Element, dtype: DType) -> list[Any]:
    """One element of each row: whole vectors are loaded once for all elements."""
    home = scope.home(frozenset(loop_variables(start)))
    assert scope.lanes is not None
    key = ("rows", buffer, start, scope.lanes.width)
    if key not in home.values:
        home.values[key] = [
            deinterleave(home.builder, [home.builder.load(p, typ=kind, align=dtype.size) for p in pointers])
            for kind, pointers in _row_vectors(home, buffer, start, row, dtype)
        ]
    return [columns[row.place] for columns in home.values[key]]


def store_rows(scope: Scope, buffer: int, start: Any, row: Element, columns: list[list[Any]], dtype: DType) -> None:
    """Store all elements of rows: for each the vectors of a lane a row."""
    b = scope.builder
    for n, (_, pointers) in enumerate(_row_vectors(scope, buffer, start, row, dtype)):
        for x, pointer in zip(interleave(b, [column[n] for column in columns]), pointers, strict=True):
            b.store(to_memory(b, x, dtype), pointer, align=dtype.size)


def _row_vectors(scope: Scope, buffer: int, start: Any, row: Element, dtype: DType) -> list[tuple[Any, list[Any]]]:
    """For each of the vectors at once: the type and the addresses of the vectors of memory that the rows are."""
    assert scope.lanes is not None
    element, width = memory_type(dtype), scope.lanes.width
    first = address(scope, buffer, start, dtype)
    kind = ir.VectorType(element, width)
    count = row.extent
    return [
        (kind, [at(scope.builder, first, const((n * count + k) * width), element) for k in range(count)])
        for n in range(scope.lanes.vectors)
    ]


def _load_vectors(scope: Scope, buffer: int, index: Any, dtype: DType) -> list[Any]:
    assert scope.lanes is not None
    b, width = scope.builder, scope.lanes.width
    base, _ = scope.lane_offset(index) or (0, 0)
    start = at(
        b,
        address(scope.home(frozenset(loop_variables(base))), buffer, base, dtype),
        scope.variable(scope.lanes.symbol),
        memory_type(dtype),
    )
    kind = ir.VectorType(memory_type(dtype), width)
    result = []
    for n in range(scope.lanes.vectors):
        pointer = at(b, start, const(n * width), memory_type(dtype))
        mask = active(scope, n)
        result.append(
            b.load(pointer, typ=kind, align=dtype.size)
            if mask is None
            else masked_load(b, pointer, kind, mask, dtype.size)
        )
    return result


def fetch_ahead(scope: Scope, roots: Iterable[Expr]) -> None:
    """Let the cache lines be fetched that the loads of expressions read here, for the lanes; there may be none."""
    lanes = scope.lanes
    assert lanes is not None
    for x in _loads_here(roots):
        if lanes.symbol in x.vars and (scope.lane_offset(x.data[1]) or (0, 0))[1] == 1:
            buffer, index = x.data
            start = address(scope, buffer, index, x.dtype)
            for n in range(lanes.vectors):
                prefetch(scope.builder, at(scope.builder, start, const(n * lanes.width), memory_type(x.dtype)))


def _loads_here(roots: Iterable[Expr]) -> list[Expr]:
    """The loads under expressions, each once, but for those in reductions of their own."""
    found: dict[Expr, None] = {}
    seen, stack = set(), list(roots)
    while stack:
        e = stack.pop()
        if e in seen or e.kind == "reduce":
            continue
        seen.add(e)
        if e.kind == "load":
            found[e] = None
        stack.extend(e.args)
    return list(found)


def gather(scope: Scope, buffer: int, index: Any, dtype: DType) -> list[Any]:
    assert scope.lanes is not None
    b, width = scope.builder, scope.lanes.width
    kind = ir.VectorType(memory_type(dtype), width)
    result = []
    for pointers, mask in lane_pointers(scope, buffer, index, dtype):
        name = f"llvm.masked.gather.{suffix(kind)}.v{width}p0"
        function = intrinsic(b.module, name, kind, [pointers.type, I32, mask.type, kind])
        result.append(b.call(function, [pointers, ir.Constant(I32, dtype.size), mask, ir.Constant(kind, None)]))
    return result


def scatter(scope: Scope, buffer: int, index: Any, xs: list[Any], dtype: DType) -> None:
    """Store each lane at a place of its own."""
    b = scope.builder
    for x, (pointers, mask) in zip(xs, lane_pointers(scope, buffer, index, dtype), strict=True):
        name = f"llvm.masked.scatter.{suffix(x.type)}.v{x.type.count}p0"
        function = intrinsic(b.module, name, VOID, [x.type, pointers.type, I32, mask.type])
        b.call(function, [x, pointers, ir.Constant(I32, dtype.size), mask])


def lane_pointers(scope: Scope, buffer: int, index: Any, dtype: DType) -> list[tuple[Any, Any]]:
    """For each vector the address of every lane's element, and the mask of the lanes that are there."""
    assert scope.lanes is not None
    b, width = scope.builder, scope.lanes.width
    base = b.ptrtoint(scope.function.arguments[buffer], I64)
    result = []
    for n, offsets in enumerate(wide_index(index, scope)):
        bytes_ = b.mul(offsets, ir.Constant(offsets.type, [dtype.size] * width)) if dtype.size > 1 else offsets
        pointers = b.inttoptr(b.add(splat(b, base, width), bytes_), ir.VectorType(PTR, width))
        mask = active(scope, n)
        full = ir.Constant(ir.VectorType(I1, width), [1] * width) if mask is None else mask
        result.append((pointers, full))
    return result


def store_scalar(scope: Scope, buffer: int, index: Any, x: Any, dtype: DType) -> None:
    """buffer[index] = x."""
    b = scope.builder
    b.store(to_memory(b, x, dtype), address(scope, buffer, index, dtype), align=dtype.size)


def store_vectors(scope: Scope, buffer: int, index: Any, xs: list[Any], dtype: DType) -> None:
    """buffer[index] = x, for every lane that is there."""
    assert scope.lanes is not None
    b, lanes = scope.builder, scope.lanes
    linear = scope.lane_offset(index)
    assert linear is not None, f"a store at {index}"
    base, step = linear
    if step != 1:
        scatter(scope, buffer, index, [to_memory(b, x, dtype) for x in xs], dtype)
        return
    if lanes.stream == buffer and lanes.aside is not None:
        for n, x in enumerate(xs):
            place = at(b, lanes.aside.start, const(n * lanes.aside.stride), memory_type(dtype))
            store_vector(b, to_memory(b, x, dtype), place, None, dtype.size)
        return
    start = at(b, address(scope, buffer, base, dtype), scope.variable(lanes.symbol), memory_type(dtype))
    for n, x in enumerate(xs):
        offset = (
            const(n * lanes.width) if lanes.tile is None else mul(b, const(n), scope.size(tile_stride(index, scope)))
        )
        pointer = at(b, start, offset, memory_type(dtype))
        if lanes.stream == buffer:
            assert active(scope, n) is None, "only whole vectors go past the caches"
            store_past_caches(b, to_memory(b, x, dtype), pointer, lanes.width * dtype.size)
        else:
            store_vector(b, to_memory(b, x, dtype), pointer, active(scope, n), dtype.size)


def store_vector(b: Any, x: Any, pointer: Any, mask: Any, align: int) -> None:
    """Store the lanes of the mask (None: all).

    A few first ones are stored as what they are, a piece or two: a processor that loads what lies behind waits for a
    masked store as if that had written all of a vector.  (Of one of the first lane alone, of narrowed elements, LLVM 22
    makes one of the wide element.)
    """
    if mask is None:
        b.store(x, pointer, align=align)
        return
    pieces = _pieces(mask)
    if pieces is not None:
        for start, stop in pieces:
            lanes = ir.Constant(ir.VectorType(I32, stop - start), list(range(start, stop)))
            place = at(b, pointer, const(start), x.type.element)
            b.store(b.shuffle_vector(x, undefined(x.type), lanes), place, align=align)
        return
    name = f"llvm.masked.store.{suffix(x.type)}.p0"
    function = intrinsic(b.module, name, VOID, [x.type, PTR, I32, mask.type])
    b.call(function, [x, pointer, ir.Constant(I32, align), mask])


def _pieces(mask: Any) -> list[tuple[int, int]] | None:
    """Where vectors of the first lanes of a constant mask begin and end; None for other masks, and for too many."""
    if not isinstance(mask, ir.Constant):
        return None
    count, start = sum(lane.constant for lane in mask.constant), 0
    pieces = []
    while start < count:
        stop = start + (1 << (count - start).bit_length() - 1)
        pieces.append((start, stop))
        start = stop
    return pieces if len(pieces) <= PIECES else None


def store_past_caches(b: Any, x: Any, pointer: Any, size: int) -> None:
    """Store a vector of `size` bytes at a multiple of its size, without fetching the line that it overwrites.

    Other threads see it after a fence only.
    """
    one = b.module.add_metadata([ir.Constant(I32, 1)])
    b.store(x, pointer, align=size).set_metadata("nontemporal", one)


def emit_stream_fence(b: Any, target: Target) -> None:
    """Code after which other threads find what this one stored past the caches.

    On ARM such stores are ordered like all others, by whatever tells the other thread that they are done.
    """
    if target.is_x86:
        b.call(intrinsic(b.module, "llvm.x86.sse.sfence", VOID, []), ())


def suffix(kind: Any) -> str:
    """How intrinsics name a vector type."""
    return f"v{kind.count}{short_name(kind.element)}"
