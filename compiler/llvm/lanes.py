"""Where the lanes of a vectorised scope are: indices as vectors, the masks of lanes that are there, conditions."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

from llvmlite import ir

from graphflow.compiler.llvm.code import I32, I64, add, any_lane, const, first_lanes, mul, splat, undefined
from graphflow.compiler.llvm.scope import Scope, loop_variables
from graphflow.compiler.loops.ir import Condition
from graphflow.core.dim import Dim, Symbol, coefficient

__all__ = [
    "TurnGuard", "active", "allowed", "condition", "conjunction", "row_start", "tile_masks", "tile_stride",
    "turn_conditions", "turns_allowed", "wide_index", "with_constants",
]  # fmt: skip


@dataclass(frozen=True)
class TurnGuard:
    """A guard of a tile that says the same to all lanes of a vector: whether it holds for each, and what that depends
    on."""

    hold: tuple[Any, ...]
    variables: frozenset[Symbol]


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


def active(scope: Scope, vector: int) -> Any:
    """The mask under which lanes of a vectorised scope may touch memory; None for all.

    A reduction under a guard may have lanes of its own: what the guard's lanes share is touched if any of them may.
    """
    assert scope.lanes is not None
    b, width = scope.builder, scope.lanes.width
    mask = None if scope.lanes.mask is None else scope.lanes.mask[vector]
    walk: Scope | None = scope
    while walk is not None:
        if walk.guard is not None:
            one = _mask_of(b, walk.guard, vector if walk.lanes is scope.lanes else None, width)
            mask = one if mask is None else b.and_(mask, one)
        walk = walk.parent
    return mask


def tile_masks(b: Any, lanes: Any, rows: Any, width: int) -> list[Any]:
    """The masks of a tile's vectors of which only so many rows, and lanes of each, are there."""
    mask = first_lanes(b, lanes, width)
    nothing = ir.Constant(mask.type, None)
    return [b.select(b.icmp_signed(">", rows, const(row)), mask, nothing) for row in range(width)]


def allowed(scope: Scope) -> Any:
    """The condition under which a scalar may touch memory; None for always.  A mask allows it if any lane does."""
    b = scope.builder
    result = None
    walk: Scope | None = scope
    while walk is not None:
        if walk.guard is not None:
            one = _for_any_lane(b, walk.guard)
            result = one if result is None else b.and_(result, one)
        walk = walk.parent
    return result


def turns_allowed(scope: Scope) -> TurnGuard | None:
    """For each vector of a tile the condition under which it may touch memory, where one guard says the same to all of
    its lanes; None where there is no guard, or are others."""
    walk: Scope | None = scope
    result: TurnGuard | None = None
    while walk is not None:
        if walk.guard is not None:
            if result is not None or not isinstance(walk.guard, TurnGuard) or walk.lanes is not scope.lanes:
                return None
            result = walk.guard
        walk = walk.parent
    return result


def _mask_of(b: Any, guard: Any, vector: int | None, width: int) -> Any:
    """What a guard allows the lanes of one of its vectors, or (None) other lanes."""
    if vector is not None and isinstance(guard, list):
        return guard[vector]
    one = guard.hold[vector] if vector is not None and isinstance(guard, TurnGuard) else _for_any_lane(b, guard)
    return splat(b, one, width)


def _for_any_lane(b: Any, guard: Any) -> Any:
    """A guard, or whether that of any lane holds, as one condition."""
    if isinstance(guard, TurnGuard):
        return functools.reduce(b.or_, guard.hold)
    return any_lane(b, guard) if isinstance(guard, list) else guard


def with_constants(index: Any, scope: Scope) -> Any:
    """An index with the numbers of loops that are written out."""
    for symbol in loop_variables(index):
        value, step = scope.variable(symbol), coefficient(index, symbol)
        if isinstance(value, ir.Constant) and step is not None:
            index = index + step * (value.constant - Dim((((symbol,), 1),)))
    return index


def turn_conditions(conditions: tuple[Condition, ...], scope: Scope) -> TurnGuard | None:
    """Whether conditions hold for each vector of a tile, if they say the same to all of its lanes."""
    lanes = scope.lanes
    if lanes is None or lanes.tile is None:
        return None
    if any(coefficient(c.at, lanes.symbol) != 0 or coefficient(c.at, lanes.tile) is None for c in conditions):
        return None
    places, steps = ([f(c.at, scope) for c in conditions] for f in (with_constants, tile_stride))
    variables = frozenset(symbol for place in places for symbol in loop_variables(place))
    home, rows = scope.home(variables), [*zip(conditions, places, steps, strict=True)]
    hold = (_turn_holds([(c, at + n * step) for c, at, step in rows], home) for n in range(lanes.vectors))
    return TurnGuard(tuple(hold), variables)


def _turn_holds(parts: list[tuple[Condition, Any]], home: Scope) -> Any:
    """Whether the parts hold, each at an index; where windows of several turns meet, that is computed once."""
    b, key = home.builder, ("holds", *((at, c.low, c.high) for c, at in parts))
    if key not in home.values:
        home.values[key] = functools.reduce(b.and_, (_holds(c, home.size(at), b, home, 0) for c, at in parts))
    return home.values[key]


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


def conjunction(b: Any, x: Any, y: Any, scope: Scope) -> Any:
    """Both conditions, each of which may be None for always, one for all lanes, or a list of masks."""
    if x is None:
        return y
    if not isinstance(x, list) and not isinstance(y, list):
        return b.and_(x, y)
    assert scope.lanes is not None
    n, width = scope.lanes.vectors, scope.lanes.width
    xs = x if isinstance(x, list) else [splat(b, x, width)] * n
    ys = y if isinstance(y, list) else [splat(b, y, width)] * n
    return [b.and_(p, q) for p, q in zip(xs, ys, strict=True)]
