"""Plans for shapes that the ordinary tile serves badly: many small products, dot products, a few rows without a stride.

Each function takes the ordinary plan and gives a better one, or None.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from graphflow.compiler.llvm.contract_plan import Group, Plan
from graphflow.compiler.llvm.contract_shape import column_access, tile_candidates, tile_cycles
from graphflow.core.dim import estimate

if TYPE_CHECKING:
    from graphflow.compiler.llvm.target import Target

# Small products are written out up to this many multiplications; a unit of them takes about this many cycles.
INLINE_MOST = 65_536
UNIT_CYCLES = 12_000
# Cycles to pack an element whose column is contiguous, and to add up the lanes of a dot product.
PACK_CYCLES = 0.6
DOT_SUM = 3
# Cycles that a cache line from L2 costs.
LINE_CYCLES = 1.5


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
    return replace(best, batch_block=max(1, UNIT_CYCLES // inline_cycles(best)))


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
    """The plan with tiles of dot products, if k lies side by side in A and B and that is estimated faster."""
    n, inner = plan.spec.n, plan.k[-1]
    if inner.a != 1 or inner.b != 1 or (n.b == 1 and n.extent != 1) or len(plan.groups) > 1:
        return None
    run, columns, k = (max(1, estimate(x)) for x in (plan.run.extent, n.extent, plan.depth))
    batch, packs = (max(1, estimate(x)) for x in (plan.batch_count, plan.packed_batch))
    steps = k // max(1, estimate(inner.extent)) * -(-estimate(inner.extent) // plan.lanes)

    # Each row panel reads all of B again, a line for each of its columns and vectors.
    fetch = LINE_CYCLES if columns * k * plan.bytes > target.l1_bytes // 2 else 0

    def cost(shape: tuple[int, int]) -> float:
        rows, width = shape
        pairs = rows * width
        instructions = pairs + rows + width + 1.5
        cycles = steps * (max(instructions / 3, (rows + width) / 2) + 0.75 + fetch * width) + pairs * DOT_SUM + 4
        return (
            -(-run // rows)
            * (columns // plan.lanes * -(-plan.lanes // width) + -(-(columns % plan.lanes) // width))
            * cycles
        )

    most = min(columns, plan.lanes)
    spare = 2 if target.is_x86 else 4
    shapes = [
        (rows, width)
        for width in (1, 2, 4, 8, 16, most)
        for rows in range(1, min(run, 8) + 1)
        if width <= most and rows * width + min(rows, width) <= target.vector_registers - spare
    ]
    best = min(shapes, key=cost)
    other = tile_cycles(plan.rows, plan.vectors) * -(-run // plan.rows) * -(-columns // plan.width) * k
    if plan.packed:
        other += PACK_CYCLES * columns * k * packs / batch
    if cost(best) >= other:
        return None
    return replace(plan, rows=best[0], vectors=1, dots=best[1], staged="", packed=False, masked="")


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
