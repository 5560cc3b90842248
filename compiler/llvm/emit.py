"""Level 2 to level 3: an expression becomes LLVM code in the scope where it belongs.

In a vectorised scope a value that changes with the lanes is a list of vectors (several at once, to keep the units of
the processor busy); every other value is a scalar and is spread where it meets vectors.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir

from graphflow.compiler.llvm.contract_ir import (
    I1,
    I32,
    I64,
    PTR,
    add,
    at,
    const,
    intrinsic,
    masked_load,
    mul,
    short_name,
    splat,
    undefined,
)
from graphflow.compiler.llvm.philox import philox4x32
from graphflow.compiler.llvm.scope import Scope, loop_variables
from graphflow.compiler.llvm.values import Values, element_type, memory_type
from graphflow.compiler.loops.ir import Condition, Expr
from graphflow.core.dim import coefficient
from graphflow.core.dtype import DType, float32, int64

__all__ = ["spread", "store", "value"]


def is_wide(e: Expr, scope: Scope) -> bool:
    """Whether e differs between the lanes of a scope."""
    return scope.lanes is not None and scope.lanes.varies(e.vars)


def value(e: Expr, scope: Scope) -> Any:
    """e in a scope: a scalar, or a list of vectors where it is wide."""
    home = scope.home(e.vars, e.loads)
    if e not in home.values:
        home.values[e] = RULES[e.kind](e, home)
    return home.values[e]


def spread(e: Expr, scope: Scope) -> list[Any]:
    """e as a list of vectors of a vectorised scope."""
    assert scope.lanes is not None
    if is_wide(e, scope):
        return list(value(e, scope))
    home = scope.home(e.vars, e.loads)
    key = (e, scope.lanes.width)
    if key not in home.values:
        home.values[key] = splat(home.builder, value(e, scope), scope.lanes.width)
    return [home.values[key]] * scope.lanes.vectors


def values_of(scope: Scope, dtype: DType) -> Values:
    """The builder for emit rules."""
    k = Values(scope.builder, fma=scope.function.fma, avx512=scope.function.avx512)
    k.dtype = dtype
    return k


def emit_const(e: Expr, scope: Scope) -> Any:
    return Values(scope.builder).constant(element_type(e.dtype), e.data)


def emit_apply(e: Expr, scope: Scope) -> Any:
    op, attrs = e.data
    k = values_of(scope, e.args[0].dtype)
    if not is_wide(e, scope):
        return op.emit(k, *(value(a, scope) for a in e.args), **dict(attrs))
    columns = zip(*(spread(a, scope) for a in e.args), strict=True)
    return [op.emit(k, *column, **dict(attrs)) for column in columns]


def emit_position(e: Expr, scope: Scope) -> Any:
    """An index (i64) as a number of the expression's dtype."""
    k = values_of(scope, int64)
    if not is_wide(e, scope):
        return k.cast(scope.size(e.data), e.dtype)
    return [k.cast(x, e.dtype) for x in wide_index(e.data, scope)]


def wide_index(size: Any, scope: Scope) -> list[Any]:
    """An index for every lane, as vectors of i64."""
    assert scope.lanes is not None
    lanes = scope.lanes
    linear = scope.lane_offset(size)
    if linear is None:
        return [_lane_by_lane(size, scope, n) for n in range(lanes.vectors)]
    start, step = scope.size(size), scope.size(linear[1])
    if lanes.tile is None:
        return [scope.ramp(start, step, n * lanes.width) for n in range(lanes.vectors)]
    stride = tile_stride(size, scope)
    return [scope.ramp(row_start(scope, start, stride, n), step, 0) for n in range(lanes.vectors)]


def tile_stride(size: Any, scope: Scope) -> Any:
    """How far an index moves from one vector of a tile to the next (a size)."""
    assert scope.lanes is not None
    assert scope.lanes.tile is not None
    stride = coefficient(size, scope.lanes.tile)
    return 0 if stride is None else stride


def row_start(scope: Scope, start: Any, stride: Any, row: int) -> Any:
    """start + row * stride."""
    return add(scope.builder, start, mul(scope.builder, const(row), scope.size(stride)))


def _lane_by_lane(size: Any, scope: Scope, vector: int) -> Any:
    """A non-linear index, one lane after the other."""
    assert scope.lanes is not None
    symbol, width = scope.lanes.symbol, scope.lanes.width
    result: Any = undefined(ir.VectorType(I64, width))
    first = scope.variable(symbol)
    for lane in range(width):
        one = scope.child(scope.builder, {symbol: scope.builder.add(first, const(vector * width + lane))}, None)
        result = scope.builder.insert_element(result, one.size(size), ir.Constant(I32, lane))
    return result


# conditions


def active(scope: Scope, vector: int) -> Any:
    """The mask under which lanes of a vectorised scope may touch memory; None for all."""
    assert scope.lanes is not None
    b, width = scope.builder, scope.lanes.width
    mask = None if scope.lanes.mask is None else scope.lanes.mask[vector]
    walk: Scope | None = scope
    while walk is not None:
        if walk.guard is not None:
            one = walk.guard[vector] if isinstance(walk.guard, list) else splat(b, walk.guard, width)
            mask = one if mask is None else b.and_(mask, one)
        walk = walk.parent
    return mask


def allowed(scope: Scope) -> Any:
    """The condition under which a scalar may touch memory; None for always.  A mask allows it if any lane does."""
    b = scope.builder
    result = None
    walk: Scope | None = scope
    while walk is not None:
        if walk.guard is not None:
            one = _any_lane(b, walk.guard) if isinstance(walk.guard, list) else walk.guard
            result = one if result is None else b.and_(result, one)
        walk = walk.parent
    return result


def _any_lane(b: Any, masks: list[Any]) -> Any:
    total = masks[0]
    for mask in masks[1:]:
        total = b.or_(total, mask)
    bits = b.bitcast(total, ir.IntType(total.type.count))
    return b.icmp_unsigned("!=", bits, ir.Constant(bits.type, 0))


def condition(c: Condition, scope: Scope) -> Any:
    """A condition as i1, or as a list of masks where it changes with the lanes."""
    if scope.lanes is None or not scope.lanes.varies(loop_variables(c.at)):
        return _holds(c, scope.size(c.at), scope.builder, scope, 0)
    return [_holds(c, x, scope.builder, scope, scope.lanes.width) for x in wide_index(c.at, scope)]


def _holds(c: Condition, x: Any, b: Any, scope: Scope, width: int) -> Any:
    def like(size: Any) -> Any:
        v = scope.size(size)
        return splat(b, v, width) if width else v

    if c.low is None:
        by = like(c.high)
        return b.icmp_signed("==", b.srem(x, by), like(0))
    return b.and_(b.icmp_signed(">=", x, like(c.low)), b.icmp_signed("<", x, like(c.high)))


def emit_guard(e: Expr, scope: Scope) -> Any:
    """Both branches are values; memory is touched only where the conditions hold."""
    holds: Any = None
    for c in e.data:
        holds = _both(scope.builder, holds, condition(c, scope), scope)
    inner = scope.child(scope.builder, {}, scope.lanes)
    inner.guard = holds
    b = scope.builder
    if not is_wide(e, scope):
        return b.select(holds, value(e.args[0], inner), value(e.args[1], scope))
    then, otherwise = spread(e.args[0], inner), spread(e.args[1], scope)
    masks = holds if isinstance(holds, list) else [holds] * len(then)
    return [b.select(m, x, y) for m, x, y in zip(masks, then, otherwise, strict=True)]


def _both(b: Any, x: Any, y: Any, scope: Scope) -> Any:
    if x is None:
        return y
    if not isinstance(x, list) and not isinstance(y, list):
        return b.and_(x, y)
    assert scope.lanes is not None
    n, width = scope.lanes.vectors, scope.lanes.width
    xs = x if isinstance(x, list) else [splat(b, x, width)] * n
    ys = y if isinstance(y, list) else [splat(b, y, width)] * n
    return [b.and_(p, q) for p, q in zip(xs, ys, strict=True)]


# memory


def emit_load(e: Expr, scope: Scope) -> Any:
    buffer, index = e.data
    if not is_wide(e, scope):
        return from_memory(scope.builder, _load_scalar(scope, buffer, index, e.dtype), e.dtype)
    linear = scope.lane_offset(index)
    if scope.lanes is not None and scope.lanes.tile is not None:
        from graphflow.compiler.llvm.tile import load_tile

        loaded = load_tile(scope, buffer, index, e.dtype)
    elif linear is not None and linear[1] == 1:
        loaded = _load_vectors(scope, buffer, index, e.dtype)
    else:
        loaded = gather(scope, buffer, index, e.dtype)
    return [from_memory(scope.builder, x, e.dtype) for x in loaded]


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


def _load_scalar(scope: Scope, buffer: int, index: Any, dtype: DType) -> Any:
    pointer = address(scope, buffer, index, dtype)
    may = allowed(scope)
    if may is not None:
        pointer = scope.builder.select(may, pointer, scope.function.nothing)
    return scope.builder.load(pointer, typ=memory_type(dtype), align=dtype.size)


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
        function = intrinsic(b.module, name, ir.VoidType(), [x.type, pointers.type, I32, mask.type])
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


def store(scope: Scope, buffer: int, index: Any, e: Expr) -> None:
    """buffer[index] = e, for every active lane where e's place changes with the lanes."""
    lanes = scope.lanes
    b = scope.builder
    if lanes is None or not lanes.varies(loop_variables(index)):
        x = to_memory(b, value(e, scope), e.dtype)
        b.store(x, address(scope, buffer, index, e.dtype), align=e.dtype.size)
        return
    linear = scope.lane_offset(index)
    assert linear is not None, f"a store at {index}"
    base, step = linear
    xs = spread(e, scope)
    if step != 1:
        scatter(scope, buffer, index, [to_memory(b, x, e.dtype) for x in xs], e.dtype)
        return
    start = at(b, address(scope, buffer, base, e.dtype), scope.variable(lanes.symbol), memory_type(e.dtype))
    for n, x in enumerate(xs):
        offset = (
            const(n * lanes.width) if lanes.tile is None else mul(b, const(n), scope.size(tile_stride(index, scope)))
        )
        pointer = at(b, start, offset, memory_type(e.dtype))
        store_vector(b, to_memory(b, x, e.dtype), pointer, active(scope, n), e.dtype.size)


def store_vector(b: Any, x: Any, pointer: Any, mask: Any, align: int) -> None:
    """Store the lanes of the mask (None: all)."""
    if mask is None:
        b.store(x, pointer, align=align)
        return
    name = f"llvm.masked.store.{suffix(x.type)}.p0"
    function = intrinsic(b.module, name, ir.VoidType(), [x.type, PTR, I32, mask.type])
    b.call(function, [x, pointer, ir.Constant(I32, align), mask])


def suffix(kind: Any) -> str:
    """How intrinsics name a vector type."""
    return f"v{kind.count}{short_name(kind.element)}"


# random numbers


def emit_random(e: Expr, scope: Scope) -> Any:
    """ops/random.py has the counter's layout."""
    index, seed, stream = e.data
    draw = value(e.args[0], scope)
    if not is_wide(e, scope):
        return _random(scope, scope.size(index), draw, seed, stream, e.dtype)
    width = scope.lanes.width if scope.lanes is not None else 0
    wide_draw = splat(scope.builder, draw, width)
    return [_random(scope, x, wide_draw, seed, stream, e.dtype) for x in wide_index(index, scope)]


def _random(scope: Scope, index: Any, draw: Any, seed: tuple[int, int], stream: int, dtype: DType) -> Any:
    b = scope.builder
    k = Values(b, fma=scope.function.fma, avx512=scope.function.avx512)
    word = k.like(index, I32)
    (at_low, at_high), (draw_low, draw_high) = (_words(k, x, word) for x in (index, draw))
    second = b.add(at_high, k.constant(word, (stream << 28) & 0xFFFFFFFF))
    key = (k.constant(word, seed[0] & 0xFFFFFFFF), k.constant(word, seed[1] & 0xFFFFFFFF))
    words = philox4x32(b, (at_low, second, draw_low, draw_high), key)
    if dtype is float32:
        kind = k.like(index, ir.FloatType())
        return b.fmul(b.uitofp(b.lshr(words[0], k.constant(word, 8)), kind), k.constant(kind, 2.0**-24))
    if not dtype.is_floating and dtype.size <= 4:
        return words[0]
    whole = k.like(index, I64)
    wide = b.or_(b.shl(b.zext(words[1], whole), k.constant(whole, 32)), b.zext(words[0], whole))
    if not dtype.is_floating:
        return wide
    kind = k.like(index, ir.DoubleType())
    return b.fmul(b.uitofp(b.lshr(wide, k.constant(whole, 11)), kind), k.constant(kind, 2.0**-53))


def _words(k: Values, x: Any, word: Any) -> tuple[Any, Any]:
    """The low and the high half of an i64."""
    return k.builder.trunc(x, word), k.builder.trunc(k.builder.lshr(x, k.constant(x.type, 32)), word)


def emit_sum(e: Expr, scope: Scope) -> Any:
    raise AssertionError("the sum of a contraction is given, not computed")


def emit_reduce(e: Expr, scope: Scope) -> Any:
    from graphflow.compiler.llvm.reduction import reduction

    return reduction(e, scope)


RULES = {
    "const": emit_const,
    "apply": emit_apply,
    "position": emit_position,
    "load": emit_load,
    "guard": emit_guard,
    "random": emit_random,
    "reduce": emit_reduce,
    "sum": emit_sum,
}
