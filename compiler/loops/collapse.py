"""Loops that every index walks through as one become one: `collapse`.

    for i0 in 64:                      for i1 in 36864:
      for i1 in 576:                     b1[i1] = Exp(b0[i1])
        b1[576*i0 + i1] = Exp(b0[576*i0 + i1])

Fewer loops mean fewer divisions to find a row's place, and longer rows that fill whole vectors.  Short rows become one
where guards stand between them too, such as the channels of the pixels that pad an image.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from graphflow.compiler.loops.ir import Condition, Kernel, Loop, Store, rewritten, sizes_in, walk, with_data
from graphflow.core.dim import Atom, Size, Symbol, coefficient, estimate, substitute, symbol

__all__ = ["collapse"]

# Rows of so many elements fill several vectors, for all of which a guard is asked once; made one, each vector asks.
SHORT_ROW = 64


def collapse(kernel: Kernel) -> Kernel:
    """The same kernel with neighbouring loops made one wherever that is possible; contractions stay."""
    if kernel.contract is not None:
        return kernel
    for depth in range(len(kernel.loops) - 2, -1, -1):
        outer, inner = kernel.loops[depth : depth + 2]
        if inner.extent == 1:
            kernel = _merged(kernel, depth, outer, {inner.symbol: 0}, depth + 1)
            continue
        if outer.extent == 1:
            kernel = _merged(kernel, depth, inner, {outer.symbol: 0}, depth)
            continue
        even = _with_even_guards(kernel, outer, inner) if estimate(inner.extent) < SHORT_ROW else kernel
        if _mergeable(even, depth):
            extent = outer.extent * inner.extent
            both = Loop(symbol(inner.symbol.key, bound=extent), extent)
            kernel = _merged(even, depth, both, {outer.symbol: 0, inner.symbol: both.var}, depth)
    return kernel


def _with_even_guards(kernel: Kernel, outer: Loop, inner: Loop) -> Kernel:
    """The kernel with guards that ask where `outer` is asking where both loops are, as if they were one.

    What is inside of an image by `0 <= i0 - 1 < 4`, for `i1 in 3`, is so by `0 <= 3*i0 + i1 - 3 < 12`.  Guards in
    reductions stay: where all hold is found without them (`guards.py`) if they do not ask about lanes.
    """
    values = [s.value for s in kernel.stores]
    if any(e.kind == "reduce" for e in walk(values)):
        return kernel

    def even(c: Condition) -> Condition:
        if c.low is None or coefficient(c.at, outer.symbol) != 1 or coefficient(c.at, inner.symbol) != 0:
            return c
        size = inner.extent
        return Condition(size * c.at + inner.var, size * c.low, size * c.high)

    new = with_data(values, lambda e: tuple(map(even, e.data)) if e.kind == "guard" else e.data)
    return replace(kernel, stores=tuple(replace(s, value=new[s.value]) for s in kernel.stores))


def _mergeable(kernel: Kernel, depth: int) -> bool:
    """Whether a step of the loop at `depth` is as far as a whole turn of the next one, for every index."""
    if any(s.depth == depth + 1 for s in kernel.stores):
        return False
    outer, inner = kernel.loops[depth], kernel.loops[depth + 1]
    sizes = [s.index for s in kernel.stores]
    sizes += [size for e in walk([s.value for s in kernel.stores]) for size in sizes_in(e.kind, e.data)]
    return all(_as_one(size, outer.symbol, inner) for size in sizes)


def _as_one(size: Size, outer: Symbol, inner: Loop) -> bool:
    far, near = coefficient(size, outer), coefficient(size, inner.symbol)
    return far is not None and near is not None and far == near * inner.extent


def _merged(kernel: Kernel, depth: int, one: Loop, new: Mapping[Atom, Size], outside: int) -> Kernel:
    """The kernel with `one` for the loops at `depth` and below; stores of up to `outside` loops stand outside of it."""

    def moved(size: Size) -> Size:
        return substitute(size, new.get)

    values = rewritten([s.value for s in kernel.stores], moved)
    stores = tuple(
        Store(s.buffer, moved(s.index), values[s.value], s.depth - (s.depth > outside)) for s in kernel.stores
    )
    return replace(kernel, loops=(*kernel.loops[:depth], one, *kernel.loops[depth + 2 :]), stores=stores)
