"""Which store of a kernel goes past the caches: `past_caches`, and of rows and tiles those that are worth their care.

A store fetches the line that it overwrites, and puts out of the cache what others need.  A result that is too large to
be there when somebody reads it had better go to memory at once; one that the last cache can hold, beside all that its
kernel reads, had better stay: the next run finds the operands there, and whoever comes next the result.
"""

from __future__ import annotations

from graphflow.compiler.llvm.sets import share_sets
from graphflow.compiler.llvm.target import Target
from graphflow.compiler.llvm.weight import touched_bytes
from graphflow.compiler.loops.ir import Kernel, Loop, Store, walk
from graphflow.core.dim import coefficient, estimate

__all__ = ["past_caches", "reads_rows", "rows_past_caches", "strips_past_caches", "tiles_past_caches"]

TOUCHED_L3 = 7 / 8
"""What a kernel reads and writes is more than the last cache holds from so much of it on: results of 12 to 14 MB beside
operands as large, and of 24 MB alone, took about as long either way where the cache has 32 MB."""

RESULT_L3 = 1 / 4
"""A smaller result is near when its kernel ends, whatever that has read."""

CROWDED_L2, CROWDING_L2 = 2, 4
"""A result of so many second caches goes past them where its rows crowd into few sets of a cache, or its operand's."""

STREAMED_BLOCKS = 4
"""Blocks of vectors from which a row is long enough to bring its stores to whole vectors of memory first."""

STRIP_BLOCKS = 8
"""Vectors of lanes from which rows of tiles that begin anywhere are long enough to wait until they make whole ones."""


def past_caches(kernel: Kernel, lane: Loop, target: Target) -> Store | None:
    """The largest of the stores that need no cache, if caches can't hold it and what its kernel touches besides."""
    found = _largest(kernel, lane, target)
    return found if found is not None and _leaves(kernel, found, target) else None


def rows_past_caches(kernel: Kernel, lane: Loop | None, block: int, target: Target) -> Store | None:
    """The store that goes past the caches, if any does and rows are long enough."""
    if lane is None or estimate(lane.extent) < STREAMED_BLOCKS * block:
        return None
    return past_caches(kernel, lane, target)


def tiles_past_caches(kernel: Kernel, lane: Loop, tile: Loop, width: int, target: Target) -> Store | None:
    """The store of whole tiles that goes past the caches, if all rows of its memory begin like the first."""
    found = _tiles(kernel, lane, tile, STREAMED_BLOCKS * width, target)
    if found is None:
        return None
    step = coefficient(found.index, tile.symbol)
    return found if isinstance(step, int) and step > 0 and step % width == 0 else None


def strips_past_caches(kernel: Kernel, lane: Loop, tile: Loop, width: int, target: Target) -> Store | None:
    """The store of tiles that goes past the caches wherever its rows begin; not beside operands of its own order, which
    strips would read piece by piece."""
    return None if reads_rows(kernel, lane, tile) else _tiles(kernel, lane, tile, STRIP_BLOCKS * width, target)


def reads_rows(kernel: Kernel, lane: Loop, tile: Loop) -> bool:
    """Whether tiles read rows that lie as those of the result do, beside what they transpose."""
    loads = (e.data[1] for e in walk([s.value for s in kernel.stores]) if e.kind == "load")
    return any(coefficient(i, lane.symbol) == 1 and coefficient(i, tile.symbol) != 0 for i in loads)


def _tiles(kernel: Kernel, lane: Loop, tile: Loop, lanes: int, target: Target) -> Store | None:
    found = _largest(kernel, lane, target)
    if found is None or estimate(lane.extent) < lanes:
        return None
    return found if _leaves(kernel, found, target) or _is_crowded(kernel, found, lane, tile, target) else None


def _largest(kernel: Kernel, lane: Loop, target: Target) -> Store | None:
    """The largest store of rows that nothing in the step reads; None on machines that have no such stores."""
    if not target.is_x86:
        return None
    buffers = [s.buffer for s in kernel.stores]
    found = [
        (_bytes(kernel, s), -n)
        for n, s in enumerate(kernel.stores)
        if s.final
        and s.depth == len(kernel.loops)
        and coefficient(s.index, lane.symbol) == 1
        and buffers.count(s.buffer) == 1
    ]
    return kernel.stores[-max(found)[1]] if found else None


def _bytes(kernel: Kernel, s: Store) -> int:
    return estimate(kernel.buffers[s.buffer].size) * s.value.dtype.size


def _leaves(kernel: Kernel, s: Store, target: Target) -> bool:
    """Whether a result is out of the last cache before anybody reads it, however many kernels fill it."""
    return touched_bytes(kernel) >= TOUCHED_L3 * target.l3_bytes and _bytes(kernel, s) >= RESULT_L3 * target.l3_bytes


def _is_crowded(kernel: Kernel, s: Store, lane: Loop, tile: Loop, target: Target) -> bool:
    """Whether the rows that tiles write or read side by side share their sets of the caches, and put each other out."""
    loads = [e for e in walk([s.value]) if e.kind == "load" and coefficient(e.data[1], tile.symbol) == 1]
    reads = any(share_sets(coefficient(e.data[1], lane.symbol), e.dtype.size) for e in loads)
    writes = share_sets(coefficient(s.index, tile.symbol), s.value.dtype.size)
    size = _bytes(kernel, s)
    return (writes and size >= CROWDED_L2 * target.l2_bytes) or (reads and size >= CROWDING_L2 * target.l2_bytes)
