"""Plans that read a large B as it lies, row after row, for a few rows of A at once (sweep.py)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from graphflow.compiler.llvm.contract.plan import Plan, Prefetch
from graphflow.compiler.llvm.contract.shape import BUSY_ROWS, FEW_ROWS, MEMORY_L2, crowds, stageable
from graphflow.core.dim import estimate

if TYPE_CHECKING:
    from graphflow.compiler.llvm.target import Target

# Bytes that a sweep reads of a row of B in one go; units, bytes of B and steps of k worth one.
SWEEP_RUN = 8192
SWEEP_UNITS = 32
SWEEP_UNIT = 1 << 18
SWEEP_PART = 128
# The least B, in second caches, that is worth a sweep of fewer than BUSY_ROWS rows.
NEAR_L2 = 1 / 4


def sweep_plan(plan: Plan, target: Target) -> Plan | None:
    """The plan that reads B as it lies for a few rows at once; None where rows are many or B is small or narrow."""
    m, n, run = plan.row_count, plan.spec.n, plan.run
    if len(plan.groups) > 1 or len(plan.k) > 1 or n.b != 1 or not isinstance(m, int) or not 0 < m <= FEW_ROWS:
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
