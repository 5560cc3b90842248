"""Plans of dot products: where k lies side by side in B, and perhaps in A, lanes run along k (dot.py)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from graphflow.compiler.llvm.contract.plan import Plan, Prefetch
from graphflow.compiler.llvm.contract.shape import (
    BUSY_ROWS,
    FEW_ROWS,
    MEMORY_L2,
    SET_BYTES,
    across_cycles,
    stageable,
    tile_cycles,
)
from graphflow.core.dim import estimate

if TYPE_CHECKING:
    from graphflow.compiler.llvm.target import Target

# Cycles to pack an element whose column is contiguous, and to add up the lanes of a dot product.
PACK_CYCLES = 0.6
DOT_SUM = 3
# Columns of B at once: shorter ones than a page, which a processor's prefetchers take for one stream, others, and such
# as start in the same set of L1.
NEAR_COLUMNS = 8
FAR_COLUMNS = 16
CROWDED_COLUMNS = 4
PAGE = 4096
# How many lines ahead of its use a column of B is asked for.
DOT_AHEAD = 48
# The same in bytes, of columns that are shorter than a page and follow each other.
SHORT_AHEAD = 8192
# Cycles that a cache line from L2 costs.
LINE_CYCLES = 1.5


def dot_plan(plan: Plan, target: Target) -> Plan | None:
    """The plan with tiles of dot products, if k lies side by side in B and that is estimated faster."""
    shape = dot_shape(plan, target)
    if shape is None:
        return None
    run, columns, k = (max(1, estimate(x)) for x in (plan.run.extent, plan.spec.n.extent, plan.depth))
    batch, packs = (max(1, estimate(x)) for x in (plan.batch_count, plan.packed_batch))
    across = across_cycles(-(-columns // plan.lanes), plan.rows, plan.vectors, tile_cycles)
    other = across * -(-run // plan.rows) * k
    if plan.packed:
        other += PACK_CYCLES * columns * k * packs / batch
    if dot_cycles(plan, shape, target) >= other:
        return None
    staged = "" if plan.k[-1].a == 1 else "rows"
    return replace(plan, rows=shape[0], vectors=1, dots=shape[1], staged=staged, packed=False, masked="")


def dot_shape(plan: Plan, target: Target) -> tuple[int, int] | None:
    """Rows and columns of the best tile of dot products; None if k does not lie side by side in B, or can't in A."""
    n, inner = plan.spec.n, plan.k[-1]
    if inner.b != 1 or (n.b == 1 and n.extent != 1) or len(plan.groups) > 1:
        return None
    few = isinstance(plan.run.extent, int) and plan.run.extent <= FEW_ROWS
    if inner.a != 1 and not (few and len(plan.k) == 1 and stageable(plan.k, plan.bytes, target)):
        return None
    run, columns = max(1, estimate(plan.run.extent)), max(1, estimate(n.extent))
    far, stride = estimate(inner.extent) * plan.bytes >= PAGE, estimate(n.b) * plan.bytes
    most = NEAR_COLUMNS if not far else CROWDED_COLUMNS if stride % SET_BYTES == 0 else FAR_COLUMNS
    widths = [width for width in (1, 2, 4, 8, 16) if width <= min(columns, plan.lanes, most)]
    if isinstance(n.extent, int) and 0 < n.extent <= min(plan.lanes, most):
        widths.append(n.extent)
    spare = 2 if target.is_x86 else 4
    shapes = [
        (rows, width)
        for width in widths
        for rows in range(1, min(run, 8) + 1)
        if rows * width + min(rows, width) <= target.vector_registers - spare
    ]
    return min(shapes, key=lambda shape: dot_cycles(plan, shape, target))


def dot_cycles(plan: Plan, shape: tuple[int, int], target: Target) -> float:
    """About how many cycles all of C takes by tiles of such a shape."""
    rows, width = shape
    run, columns, k = (max(1, estimate(x)) for x in (plan.run.extent, plan.spec.n.extent, plan.depth))
    length = max(1, estimate(plan.k[-1].extent))
    steps = k // length * -(-length // plan.lanes)
    # Each row panel reads all of B again, a line for each of its columns and vectors.
    fetch = LINE_CYCLES if columns * k * plan.bytes > target.l1_bytes // 2 else 0
    pairs = rows * width
    instructions = pairs + rows + width + 1.5
    cycles = steps * (max(instructions / 3, (rows + width) / 2) + 0.75 + fetch * width) + pairs * DOT_SUM + 4
    across = columns // plan.lanes * -(-plan.lanes // width) + -(-(columns % plan.lanes) // width)
    return -(-run // rows) * across * cycles


def dot_blocks(plan: Plan, target: Target) -> Plan:
    """A plan of dot products in so many blocks of k that L1 keeps the rows of A while columns of B go by."""
    size = plan.rows * estimate(plan.depth) * plan.bytes
    sums = plan.row_block * plan.column_block * plan.slot * plan.bytes
    if plan.rows == 1 or plan.splits > 1 or len(plan.tile_k) > 1 or sums > target.l1_bytes:
        return plan
    return replace(plan, k_blocks=max(1, -(-size // (target.l1_bytes // 2))))


def dot_prefetches(plan: Plan, target: Target) -> Iterator[Prefetch]:
    """Of columns that come from beyond L2, where a processor does not look far enough ahead itself: it loses its way
    from one short column to the next, and has no time where many rows use each."""
    inner, vector = plan.k[-1], plan.lanes * plan.bytes
    whole = estimate(plan.spec.n.extent) * estimate(plan.depth) * plan.bytes
    if plan.rows >= BUSY_ROWS and whole > MEMORY_L2 * target.l2_bytes:
        yield Prefetch("b", DOT_AHEAD * 64 // vector, 1, plan.lanes, locality=2)
    short = estimate(inner.extent) * plan.bytes < PAGE and plan.spec.n.b == inner.extent
    if plan.rows < BUSY_ROWS and short and whole * estimate(plan.packed_batch) > target.l2_bytes:
        yield Prefetch("b", SHORT_AHEAD // vector, 1, plan.lanes)
