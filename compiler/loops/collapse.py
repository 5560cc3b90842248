"""Loops that every index walks through as one become one: `collapse`.

    for i0 in 64:                      for i1 in 36864:
      for i1 in 576:                     b1[i1] = Exp(b0[i1])
        b1[576*i0 + i1] = Exp(b0[576*i0 + i1])

Fewer loops mean fewer divisions to find a row's place, and longer rows that fill whole vectors.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from graphflow.compiler.loops.ir import Kernel, Loop, Store, rewritten, sizes_in, walk
from graphflow.core.dim import Atom, Size, Symbol, coefficient, substitute, symbol

__all__ = ["collapse"]


def collapse(kernel: Kernel) -> Kernel:
    """The same kernel with neighbouring loops made one wherever that is possible; contractions stay."""
    if kernel.contract is not None:
        return kernel
    for depth in range(len(kernel.loops) - 2, -1, -1):
        outer, inner = kernel.loops[depth : depth + 2]
        if inner.extent == 1:
            kernel = _merged(kernel, depth, outer, {inner.symbol: 0}, depth + 1)
        elif outer.extent == 1:
            kernel = _merged(kernel, depth, inner, {outer.symbol: 0}, depth)
        elif _mergeable(kernel, depth):
            extent = outer.extent * inner.extent
            both = Loop(symbol(inner.symbol.key, bound=extent), extent)
            kernel = _merged(kernel, depth, both, {outer.symbol: 0, inner.symbol: both.var}, depth)
    return kernel


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
