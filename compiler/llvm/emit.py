"""Level 2 to level 3: an expression becomes LLVM code in the scope where it belongs.

In a vectorised scope a value that changes with the lanes is a list of vectors (several at once, to keep the units of
the processor busy); every other value is a scalar and is spread where it meets vectors.
"""

from __future__ import annotations

from typing import Any

from graphflow.compiler.llvm.code import splat
from graphflow.compiler.llvm.draw import random_number
from graphflow.compiler.llvm.lanes import TurnGuard, condition, conjunction, turn_conditions, wide_index
from graphflow.compiler.llvm.memory import from_memory, load, load_scalar, store_scalar, store_vectors
from graphflow.compiler.llvm.quotient import Divisor, divisor, quotient
from graphflow.compiler.llvm.scope import Scope, loop_variables
from graphflow.compiler.llvm.tile import load_tile, reads_zeros
from graphflow.compiler.llvm.values import Values, element_type
from graphflow.compiler.loops.ir import Condition, Expr, Store, variables_of
from graphflow.core.dim import Size
from graphflow.core.dtype import DType, int64

__all__ = ["spread", "store", "store_all", "value"]


def is_wide(e: Expr, scope: Scope) -> bool:
    """Whether e differs between the lanes of a scope."""
    return scope.lanes is not None and scope.lanes.varies(e.vars)


def value(e: Expr, scope: Scope) -> Any:
    """e in a scope: a scalar, or a list of vectors where it is wide."""
    home = scope.home(e.vars, e.loads, wide=True)
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
    if op.name == "RealDiv" and not is_wide(e.args[1], scope) and k.has_fma:
        by = divided_by(e.args[1], scope)
        return [quotient(k, x, by) for x in spread(e.args[0], scope)]
    columns = zip(*(spread(a, scope) for a in e.args), strict=True)
    return [op.emit(k, *column, **dict(attrs)) for column in columns]


def divided_by(d: Expr, scope: Scope) -> Divisor:
    """What dividing by a number needs, computed where the number is."""
    home = scope.home(d.vars, d.loads)
    key = (d, "divisor")
    if key not in home.values:
        home.values[key] = divisor(values_of(home, d.dtype), value(d, home))
    return home.values[key]  # type: ignore[no-any-return]


def emit_position(e: Expr, scope: Scope) -> Any:
    """An index (i64) as a number of the expression's dtype."""
    k = values_of(scope, int64)
    if not is_wide(e, scope):
        return k.cast(scope.size(e.data), e.dtype)
    return [k.cast(x, e.dtype) for x in wide_index(e.data, scope)]


def emit_guard(e: Expr, scope: Scope) -> Any:
    """Both branches are values; memory is touched only where the conditions hold."""
    turns = turn_conditions(e.data, scope) if is_wide(e, scope) else None
    if turns is not None:
        return _guarded_turns(e, scope, turns)
    holds: Any = None
    for c in e.data:
        holds = conjunction(scope.builder, holds, condition(c, scope), scope)
    inner = guarded(scope, holds, e.data)
    b = scope.builder
    if not is_wide(e, scope):
        return b.select(holds, value(e.args[0], inner), value(e.args[1], scope))
    then, otherwise = spread(e.args[0], inner), spread(e.args[1], scope)
    masks = holds if isinstance(holds, list) else [holds] * len(then)
    return [b.select(m, x, y) for m, x, y in zip(masks, then, otherwise, strict=True)]


def _guarded_turns(e: Expr, scope: Scope, turns: TurnGuard) -> list[Any]:
    """A guard that is the same for all lanes of each vector of a tile."""
    inner, otherwise = guarded(scope, turns, e.data), e.args[1]
    then = spread(e.args[0], inner)
    is_zero = otherwise.kind == "const" and str(otherwise.data) == "0.0"
    # What the guard says nothing of is read where there is none.
    if is_zero and e.args[0].kind == "load" and inner.guards(e.args[0].vars) and reads_zeros(inner, e.args[0].data[1]):
        return then
    return list(map(scope.builder.select, turns.hold, then, spread(otherwise, scope)))


def guarded(scope: Scope, holds: Any, conditions: tuple[Condition, ...]) -> Scope:
    """A scope inside of one, which runs where conditions hold."""
    inner = scope.child(scope.builder, {}, scope.lanes)
    inner.guard, inner.guard_of = holds, tuple(map(variables_of, conditions))
    return inner


def emit_load(e: Expr, scope: Scope) -> Any:
    buffer, index = e.data
    return loaded(e, buffer, index, scope)


def loaded(e: Expr, buffer: int, index: Size, scope: Scope) -> Any:
    """What stands at an index: for e, a load."""
    if not is_wide(e, scope):
        return load_scalar(scope, buffer, index, e.dtype)
    if scope.lanes is not None and scope.lanes.tile is not None:
        return [from_memory(scope.builder, x, e.dtype) for x in load_tile(scope, buffer, index, e.dtype)]
    return load(scope, buffer, index, e.dtype)


def emit_keep(e: Expr, scope: Scope) -> Any:
    """The value, which is written down as well."""
    buffer, index = e.data
    store(scope, buffer, scope.kept_at(buffer, index), e.args[0])
    return value(e.args[0], scope) if not is_wide(e, scope) else spread(e.args[0], scope)


def emit_kept(e: Expr, scope: Scope) -> Any:
    """What a reduction, which has to come first, wrote down."""
    value(e.args[0], scope)
    buffer, index = e.data
    return loaded(e, buffer, scope.kept_at(buffer, index), scope)


def store(scope: Scope, buffer: int, index: Any, e: Expr) -> None:
    """buffer[index] = e, for every lane where the place changes with the lanes."""
    if scope.lanes is None or not scope.lanes.varies(loop_variables(index)):
        store_scalar(scope, buffer, index, value(e, scope), e.dtype)
    else:
        store_vectors(scope, buffer, index, spread(e, scope), e.dtype)


def store_all(scope: Scope, stores: list[Store]) -> None:
    """Store values that were all computed before: a result may lie where another's operand did."""
    for s in stores:
        value(s.value, scope)
    for s in stores:
        store(scope, s.buffer, s.index, s.value)


def emit_random(e: Expr, scope: Scope) -> Any:
    index, seed, stream = e.data
    draw = value(e.args[0], scope)
    if not is_wide(e, scope):
        return random_number(scope, scope.size(index), draw, seed, stream, e.dtype)
    width = scope.lanes.width if scope.lanes is not None else 0
    wide_draw = splat(scope.builder, draw, width)
    return [random_number(scope, x, wide_draw, seed, stream, e.dtype) for x in wide_index(index, scope)]


def emit_sum(e: Expr, scope: Scope) -> Any:
    raise AssertionError("the sum of a contraction is given, not computed")


def emit_reduce(e: Expr, scope: Scope) -> Any:
    from graphflow.compiler.llvm.reduction import reduction

    if e in scope.function.totals:
        return scope.function.totals[e].load(scope)
    return reduction(e, scope)


RULES = {
    "const": emit_const,
    "apply": emit_apply,
    "position": emit_position,
    "load": emit_load,
    "keep": emit_keep,
    "kept": emit_kept,
    "guard": emit_guard,
    "random": emit_random,
    "reduce": emit_reduce,
    "sum": emit_sum,
}
