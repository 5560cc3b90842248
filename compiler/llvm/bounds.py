"""Where the loops of a kernel begin and end: rows by their number, lanes at whole vectors and whole blocks of them."""

from __future__ import annotations

from typing import Any

from llvmlite import ir

from graphflow.compiler.llvm.code import I64, add, at, const, divmod_, minimum
from graphflow.compiler.llvm.memory import address
from graphflow.compiler.llvm.scope import Scope
from graphflow.compiler.llvm.values import memory_type
from graphflow.compiler.loops.ir import Loop, Store
from graphflow.core.dim import Symbol, coefficient

__all__ = ["decoded", "first_whole", "side_of", "whole_blocks"]


def decoded(scope: Scope, rows: tuple[Loop, ...], row: Any) -> Scope:
    """The row loops' variables from a row-major row number."""
    variables: dict[Symbol, Any] = {}
    for loop in reversed(rows[1:]):
        row, index = divmod_(scope.builder, row, scope.size(loop.extent))
        variables[loop.symbol] = index
    if rows:
        variables[rows[0].symbol] = row
    return scope.child(scope.builder, variables, None)


def first_whole(scope: Scope, s: Store, lane: Loop, start: Any, stop: Any) -> Any:
    """The first lane from `start` on that a store puts at a multiple of a vector's bytes; `stop` if there is none."""
    b, size = scope.builder, s.value.dtype.size
    element = memory_type(s.value.dtype)
    assert coefficient(s.index, lane.symbol) == 1, f"a row of {s.index} does not lie in one piece"
    row = s.index - lane.var
    place = b.ptrtoint(at(b, address(scope, s.buffer, row, s.value.dtype), start, element), I64)
    before = b.udiv(b.and_(b.neg(place), const(scope.function.width * size - 1)), const(size))
    first = b.add(start, before)
    return b.select(b.icmp_signed("<", first, stop), first, stop)


def whole_blocks(scope: Scope, start: Any, stop: Any, block: int) -> Any:
    """Where the whole blocks between start and stop end."""
    if isinstance(start, ir.Constant) and isinstance(stop, ir.Constant):
        return const(start.constant + (stop.constant - start.constant) // block * block)
    b = scope.builder
    length = b.sub(stop, start)
    return b.sub(stop, b.urem(length, const(block)))


def side_of(scope: Scope, number: Any, loop: Loop, length: int, shift: Any) -> tuple[Any, Any]:
    """Where a square begins and ends along a loop; all but the ends of the loop are shifted."""
    b, extent = scope.builder, scope.size(loop.extent)
    start, stop = (add(b, b.mul(n, const(length)), shift) for n in (number, b.add(number, const(1))))
    return minimum(b, start, extent), minimum(b, stop, extent)
