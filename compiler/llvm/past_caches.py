"""Which store of a kernel goes past the caches: `past_caches`, and for rows and tiles in whole vectors of memory.

A store fetches the line that it overwrites, and puts out of the cache what others need.  A result that is too large to
be there when somebody reads it, if anybody in the step does, had better go to memory at once.
"""

from __future__ import annotations

from graphflow.compiler.llvm.target import Target
from graphflow.compiler.loops.ir import Kernel, Loop, Store
from graphflow.core.dim import coefficient, estimate

__all__ = ["past_caches", "rows_past_caches", "tiles_past_caches"]

STREAMED_L2 = 8
"""A result of so many second caches is gone from a core's share of the last one before anybody reads it."""

STREAMED_BLOCKS = 4
"""Blocks of vectors from which a row is long enough to bring its stores to whole vectors of memory first."""


def past_caches(kernel: Kernel, lane: Loop, target: Target) -> Store | None:
    """The largest of the stores that need no cache, if it is more than caches hold for a core."""
    if not target.is_x86:
        return None
    buffers = [s.buffer for s in kernel.stores]
    found = [
        (estimate(kernel.buffers[s.buffer].size) * s.value.dtype.size, -n)
        for n, s in enumerate(kernel.stores)
        if s.final
        and s.depth == len(kernel.loops)
        and coefficient(s.index, lane.symbol) == 1
        and buffers.count(s.buffer) == 1
    ]
    size, place = max(found, default=(0, 0))
    return kernel.stores[-place] if size >= STREAMED_L2 * target.l2_bytes else None


def rows_past_caches(kernel: Kernel, lane: Loop | None, block: int, target: Target) -> Store | None:
    """The store that goes past the caches, if any does and rows are long enough."""
    if lane is None or estimate(lane.extent) < STREAMED_BLOCKS * block:
        return None
    return past_caches(kernel, lane, target)


def tiles_past_caches(kernel: Kernel, lane: Loop, tile: Loop, width: int, target: Target) -> Store | None:
    """The store of whole tiles that goes past the caches, if all rows of its memory begin like the first."""
    found = rows_past_caches(kernel, lane, width, target)
    if found is None:
        return None
    step = coefficient(found.index, tile.symbol)
    return found if isinstance(step, int) and step > 0 and step % width == 0 else None
