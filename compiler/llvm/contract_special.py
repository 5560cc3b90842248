"""Plans for shapes that the ordinary tile serves badly: many small products, dot products, a few rows without a stride.

Each function takes the ordinary plan and gives a better one, or None.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from graphflow.compiler.llvm.contract_plan import Group, Plan, Prefetch
from graphflow.compiler.llvm.contract_shape import (
    SET_BYTES,
    across_cycles,
    column_access,
    crowds,
    stageable,
    tile_candidates,
    tile_cycles,
)
from graphflow.core.dim import estimate

if TYPE_CHECKING:
    from graphflow.compiler.llvm.target import Target

# Small products are written out up to this many multiplications; a unit of them takes about this many cycles.
INLINE_MOST = 65_536
UNIT_CYCLES = 12_000
# Cycles to pack an element whose column is contiguous, and to add up the lanes of a dot product.
PACK_CYCLES = 0.6
DOT_SUM = 3
# Cycles of a tile's call and of handing on what it leaves in memory.
CALL_CYCLES = 120
# Columns of B at once: shorter ones than a page, which a processor's prefetchers take for one stream, others, and such
# as start in the same set of L1.
NEAR_COLUMNS = 8
FAR_COLUMNS = 16
CROWDED_COLUMNS = 4
PAGE = 4096
# How many lines ahead of its use a column of B is asked for.
DOT_AHEAD = 48
# Cycles that a cache line from L2 costs.
LINE_CYCLES = 1.5
# A sweep: the most rows of A; bytes that it reads of a row of B in one go; units, bytes of B and steps of k worth one.
SWEEP_ROWS = 16
SWEEP_RUN = 8192
SWEEP_UNITS = 32
SWEEP_UNIT = 1 << 18
SWEEP_PART = 128
# Rows of A that take so long to compute with that B must be asked for ahead; a sweep takes fewer rows of it at once.
BUSY_ROWS = 3
# The least B, in second caches, that is worth a sweep: of so few rows, and of others, where it must come from memory.
NEAR_L2 = 1 / 4
MEMORY_L2 = 8


def inline_plan(plan: Plan, target: Target) -> Plan | None:
    """The plan for products so small that calls and loops would cost more than they do; None for others."""
    m, n, k = plan.row_count, plan.spec.n.extent, plan.depth
    if not (isinstance(m, int) and isinstance(n, int) and isinstance(k, int) and isinstance(plan.run.a, int)):
        return None
    if len(plan.groups) > 1 or not 0 < m * n * k <= INLINE_MOST:
        return None
    if any(not isinstance(axis.a, int) or not isinstance(axis.b, int) for axis in plan.k):
        return None
    lanes = min(plan.lanes, 1 << max(1, (n - 1).bit_length()))
    packed = plan.spec.n.b != 1 and n > 1
    draft = replace(plan, lanes=lanes, staged="", packed=packed, masked="", inline=True)
    shapes = tile_candidates(m, -(-n // lanes), target)
    best = min((replace(draft, rows=rows, vectors=vectors) for rows, vectors in shapes), key=inline_cycles)
    if packed and dots_beat(best, plan, target):
        return None
    return replace(best, batch_block=max(1, UNIT_CYCLES // inline_cycles(best)))


def dots_beat(small: Plan, plan: Plan, target: Target) -> bool:
    """Whether tiles of dot products are faster than a small product that packs B, calls and all."""
    shape = dot_shape(plan, target)
    if shape is None:
        return False
    calls = -(-estimate(plan.row_count) // shape[0]) * -(-estimate(plan.spec.n.extent) // plan.lanes)
    return dot_cycles(plan, shape, target) + calls * CALL_CYCLES < inline_cycles(small)


def inline_cycles(plan: Plan) -> int:
    """About how many cycles one small product takes."""
    m, n, k = (estimate(x) for x in (plan.row_count, plan.spec.n.extent, plan.depth))
    cycles = 8.0 + (n * k if plan.packed else 0)
    for height, down in ((plan.rows, m // plan.rows), (m % plan.rows, 1)):
        for width, across in ((plan.width, n // plan.width), (n % plan.width, 1)):
            products = height * -(-width // plan.lanes)
            if products:
                # Tiles that barely hide the latency of additions lose whenever a load is late.
                steps = max(products / 2, (height + products / height) * 0.6, 4) + 4 / products
                cycles += down * across * (k * steps + products + 4)
    return int(cycles)


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
    few = isinstance(plan.run.extent, int) and plan.run.extent <= SWEEP_ROWS
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
    return replace(plan, k_blocks=-(-size // (target.l1_bytes // 2)))


def dot_prefetches(plan: Plan, target: Target) -> Iterator[Prefetch]:
    """Of columns that come from memory, where so many rows use them that a processor does not look far ahead itself."""
    if (
        plan.rows >= BUSY_ROWS
        and estimate(plan.spec.n.extent) * estimate(plan.depth) * plan.bytes > MEMORY_L2 * target.l2_bytes
    ):
        yield Prefetch("b", DOT_AHEAD * 64 // (plan.lanes * plan.bytes), 1, plan.lanes, locality=2)


def sweep_plan(plan: Plan, target: Target) -> Plan | None:
    """The plan that reads B as it lies for a few rows at once; None where rows are many or B is small or narrow."""
    m, n, run = plan.row_count, plan.spec.n, plan.run
    if len(plan.groups) > 1 or len(plan.k) > 1 or n.b != 1 or not isinstance(m, int) or not 0 < m <= SWEEP_ROWS:
        return None
    columns, k, batch = (max(1, estimate(x)) for x in (n.extent, plan.depth, plan.batch_count))
    far = MEMORY_L2 if m >= BUSY_ROWS else NEAR_L2
    if columns <= 8 * plan.lanes or columns * k * plan.bytes < far * target.l2_bytes:
        return None
    panels = -(-columns * plan.bytes // min(SWEEP_RUN, target.l1_bytes * 2 // 3 // m))
    units = max(1, min(SWEEP_UNITS, columns * k * batch * plan.bytes // SWEEP_UNIT))
    splits = max(1, min(-(-units // (batch * panels)), k // (SWEEP_PART * max(1, m // 4))))
    copied = crowds(m, abs(estimate(run.a)) * plan.bytes, target) and stageable(plan.k, plan.bytes, target)
    return replace(
        plan,
        rows=m,
        vectors=-(-columns // (panels * plan.lanes)),
        sweep=8 if m < BUSY_ROWS else 4,
        staged="rows" if copied else "",
        packed=False,
        masked="",
        splits=splits,
        column_block=max(1, panels * batch * splits // units),
    )


def sweep_prefetches(plan: Plan) -> Iterator[Prefetch]:
    """Two turns ahead, where there is much to compute in between."""
    if plan.rows >= BUSY_ROWS:
        yield Prefetch("b", 2 * plan.sweep, plan.tile_k[-1].b, plan.width, locality=2)


def table_plan(plan: Plan, target: Target) -> Plan | None:
    """The plan with all rows in one tile though they have no common stride, if they are few and that is faster."""
    m, strides = plan.row_count, [group.a for group in plan.groups]
    if len(strides) < 2 or not isinstance(m, int) or any(not isinstance(a, int) for a in strides):
        return None
    columns = max(1, -(-estimate(plan.spec.n.extent) // plan.lanes))
    shapes = [v for rows, v in tile_candidates(m, columns, target) if rows == m]

    def cost(rows: int, vectors: int) -> float:
        return -(-columns // vectors) * tile_cycles(rows, vectors)

    vectors = min(shapes, key=lambda v: cost(m, v), default=0)
    if not vectors or cost(m, vectors) > estimate(plan.row_panels) * cost(plan.rows, plan.vectors):
        return None
    table = [0]
    for group in plan.groups:
        assert isinstance(group.extent, int)
        assert isinstance(group.a, int)
        table = [offset + i * group.a for offset in table for i in range(group.extent)]
    whole = Group(m, 0, tuple(part for group in plan.groups for part in group.parts))
    packed, masked = column_access(plan.spec, (whole,), plan.lanes * vectors, target)
    return replace(
        plan, groups=(whole,), rows=m, vectors=vectors, staged="", packed=packed, masked=masked, row_table=tuple(table)
    )
