"""Plans for few rows without a common stride: one tile has them all, and a table says where each starts."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from graphflow.compiler.llvm.contract.plan import Group, Plan
from graphflow.compiler.llvm.contract.shape import column_access, tile_candidates, tile_cycles
from graphflow.core.dim import estimate

if TYPE_CHECKING:
    from graphflow.compiler.llvm.target import Target


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
