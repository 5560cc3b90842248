"""Tile shapes and what they cost: axes merged, rows and vectors of a tile, and how it reads B.

groups, k = merged_rows(spec.m), merged(spec.k)
rows, vectors = tile_shape(spec, groups, lanes, "", target)
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from graphflow.compiler.llvm.contract.contraction import Axis, Contraction
from graphflow.compiler.llvm.contract.plan import Group, Plan
from graphflow.compiler.llvm.target import ELEMENT_BYTES
from graphflow.core.dim import Size, estimate, product

if TYPE_CHECKING:
    from graphflow.compiler.llvm.target import Target

# Packing a B whose columns lie side by side pays if this many rows use it and its rows are this many bytes apart (at
# both limits it takes twice the product), or if vectors of B straddle cache lines.
PACK_ROWS = 96
PACK_STRIDE = 512
# Bytes after which addresses share the sets of L1 (64 sets of 64 bytes).
SET_BYTES = 4096
# The most rows of A that are few, with plans of their own.
FEW_ROWS = 16
# Staging pays if this many column panels read a staged row panel.
STAGE_READERS = 4
# Copying A into panels beforehand pays if so many column panels read it.
PANEL_READERS = 16
# What takes more than so many second caches comes from memory each time that it is read.
FAR_L2 = 8
# So many rows of A at once are read from memory faster than more: each is a stream that prefetchers must follow.
STREAMS = 16
# A and C together may take so many second caches, and L2 still keeps a B that they pass.
PASSING_L2 = 2
# So many rows of A take so long to compute with that a B from memory must be asked for ahead, and B comes from there
# where it takes so many second caches.
BUSY_ROWS = 3
MEMORY_L2 = 8


def merged(axes: tuple[Axis, ...]) -> tuple[Axis, ...]:
    """The same indices with adjacent axes made one where both strides allow; axes of extent 1 vanish."""
    result: list[Axis] = []
    for axis in axes:
        outer = result[-1] if result else None
        if axis.extent == 1:
            continue
        if outer and outer.a == axis.a * axis.extent and outer.b == axis.b * axis.extent:
            result[-1] = Axis(outer.extent * axis.extent, axis.a, axis.b)
        else:
            result.append(axis)
    return tuple(result) or (Axis(1, 0, 0),)


def merged_rows(axes: tuple[Axis, ...]) -> tuple[Group, ...]:
    """The m axes as few groups as their strides allow; at least one."""
    result: list[Group] = []
    for axis in axes:
        outer = result[-1] if result else None
        if outer and axis.extent == 1:
            result[-1] = Group(outer.extent, outer.a, (*outer.parts, 1))
        elif outer and (outer.extent == 1 or outer.a == axis.a * axis.extent):
            result[-1] = Group(outer.extent * axis.extent, axis.a, (*outer.parts, axis.extent))
        else:
            result.append(Group(axis.extent, axis.a, (axis.extent,)))
    return tuple(result) or (Group(1, 0, ()),)


def with_tile_axes(plan: Plan) -> Plan:
    """The plan with `tile_k`: the k axes with strides of the copies where there are copies."""
    flat: Size = 1
    axes: list[Axis] = []
    step = 1 if plan.staged == "rows" else plan.stage_stride if plan.staged else 0
    for axis in reversed(plan.k):
        a = flat * step if plan.staged else axis.a
        b = flat * plan.width if plan.packed else axis.b
        axes.append(Axis(axis.extent, a, b, axis.b if plan.local else 0))
        flat = flat * axis.extent
    return replace(plan, tile_k=merged(tuple(reversed(axes))))


def tile_shape(
    spec: Contraction, groups: tuple[Group, ...], lanes: int, staged: str, target: Target
) -> tuple[int, int]:
    """(rows, vectors) of the tile that needs the fewest cycles for all of C, padding included."""
    windows = len(groups) > 1 and len(merged(spec.k)) > 1
    cycles = tile_cycles if windows else panel_cycles
    # Loads of rows that come from L2 wait ahead of their products, where registers are many.
    waiting = 2 if target.has_avx512 and not windows else 0
    run = max(1, estimate(groups[-1].extent))
    runs = max(1, math.prod(estimate(g.extent) for g in groups[:-1]))
    if staged == "rows":
        run, runs = run * runs, 1
    columns = max(1, -(-estimate(spec.n.extent) // lanes))
    most = most_in_place(spec, groups, target)

    def cost(shape: tuple[int, int]) -> float:
        return runs * -(-run // shape[0]) * across_cycles(columns, *shape, cycles)

    def reads_well(shape: tuple[int, int]) -> bool:
        return shape[0] <= most or columns >= STAGE_READERS * shape[1]

    return min(filter(reads_well, tile_candidates(run, columns, target, waiting)), key=cost)


def most_in_place(spec: Contraction, groups: tuple[Group, ...], target: Target) -> int:
    """The most rows that a tile reads well in place, each along k: what L1's sets keep, or prefetchers follow."""
    size, run = ELEMENT_BYTES[spec.dtype], groups[-1]
    whole = estimate(product(tuple(group.extent for group in groups))) * abs(estimate(run.a)) * size
    most = STREAMS if is_far(whole, target) else target.vector_registers
    if merged(spec.k)[-1].a != 1:
        return target.vector_registers
    stride = abs(estimate(run.a)) * size
    return next((rows for rows in range(most, 1, -1) if not crowds(rows, stride, target)), 1)


def is_far(size: int, target: Target) -> bool:
    """Whether an operand of so many bytes comes from memory each time that it is read."""
    return size > FAR_L2 * target.l2_bytes


def is_near(spec: Contraction, groups: tuple[Group, ...], target: Target) -> bool:
    """Whether L2 keeps all of B as it lies, columns side by side, while A, read along k, and C pass it.

    A copy costs more than it saves then: where this was measured, a store takes the place of two multiply-adds.
    """
    inner = merged(spec.k)[-1]
    if spec.n.b != 1 or inner.a != 1 or spec.is_kept:
        return False
    m, n = (estimate(x) for x in (product(tuple(group.extent for group in groups)), spec.n.extent))
    k, size = estimate(product(tuple(axis.extent for axis in spec.k))), ELEMENT_BYTES[spec.dtype]
    whole = k * max(n, abs(estimate(inner.b))) * size
    return whole <= target.l2_bytes and m * (k + n) * size <= PASSING_L2 * target.l2_bytes


def across_cycles(columns: int, rows: int, vectors: int, cycles: Callable[[int, int], float]) -> float:
    """Of one step of k for all tiles side by side that cover so many vectors; the last one may have fewer."""
    whole, edge = divmod(columns, vectors)
    return whole * cycles(rows, vectors) + (cycles(rows, edge) if edge else 0)


def tile_cycles(rows: int, vectors: int) -> float:
    """Cycles of one step of k where rows are in L1, as overlapping windows are: then the loop, and B from L2."""
    return least_cycles(rows, vectors) + 0.75 + vectors / 8


def panel_cycles(rows: int, vectors: int) -> float:
    """The same where B is in L1 and rows come from L2: a row then costs about what a vector of B does."""
    return least_cycles(rows, vectors) + rows / 10 + vectors / 8


def least_cycles(rows: int, vectors: int) -> float:
    """Two FMAs and nearly two loads a cycle, four of latency.

    Where two threads share a core each issues about three instructions a cycle, and that is the limit.
    """
    instructions = rows * vectors + rows + vectors + 1.5
    return max(instructions / 3, rows * vectors / 2, (rows + vectors) * 0.6, 4)


def tile_candidates(run: int, columns: int, target: Target, waiting: int = 0) -> Iterator[tuple[int, int]]:
    """(rows, vectors) whose accumulators, one row of B, the broadcast of A and what waits fit the registers."""
    # x86 multiplies straight from memory; elsewhere the loads that wait ahead of their products take registers.
    spare = waiting + ((1 if target.has_fma else 2) if target.is_x86 else 4)
    for vectors in range(1, min(8, columns) + 1):
        most = (target.vector_registers - spare - vectors) // vectors
        yield from ((rows, vectors) for rows in range(1, min(most, run) + 1))


def stageable(k: tuple[Axis, ...], size: int, target: Target) -> bool:
    """Whether a row panel of A may be copied to scratch: its size must be known and the cache must hold it."""
    depth = product(tuple(axis.extent for axis in k))
    return isinstance(depth, int) and 0 < depth * size * 16 <= target.l2_bytes // 2


def crowds(rows: int, stride: int, target: Target) -> bool:
    """Whether elements of so many rows, `stride` bytes apart, crowd into few sets of L1."""
    return rows * math.gcd(stride, SET_BYTES) > SET_BYTES * (target.l1_bytes // SET_BYTES) * 3 // 4


def column_access(spec: Contraction, groups: tuple[Group, ...], width: int, target: Target) -> tuple[bool, str]:
    """(whether B is packed, how its reads are masked)."""
    n = spec.n.extent
    whole = isinstance(n, int) and n % width == 0
    single = isinstance(n, int) and n <= width
    masked = "" if whole else "constant" if single else "dynamic"
    maskable = whole or target.vector_bits >= (256 if single else 512)
    if spec.n.b != 1 or not maskable:
        return True, ""
    m, stride = estimate(product(tuple(g.extent for g in groups))), estimate(n) * ELEMENT_BYTES[spec.dtype]
    # Rows that are no whole number of vectors apart make every other load straddle two cache lines.
    straddles = stride % (target.vector_bits // 8) != 0
    crowds = stride >= PACK_STRIDE and m * stride >= 2 * PACK_ROWS * PACK_STRIDE
    packed = not single and m >= PACK_ROWS and (straddles or crowds) and not is_near(spec, groups, target)
    return packed, "" if packed else masked
