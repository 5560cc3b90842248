"""Plans whose units pack B themselves, for all row panels they have: `local_plan`.

`far_columns` says where B is read faster from such a copy, `distant_rows` where A is copied into panels beside it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from graphflow.compiler.llvm.contract.choose_split import TARGET_UNITS, even, split_count, split_extent, units_worth
from graphflow.compiler.llvm.contract.plan import Plan
from graphflow.compiler.llvm.contract.shape import (
    PANEL_READERS,
    SET_BYTES,
    crowds,
    is_far,
    is_near,
    with_tile_axes,
)
from graphflow.core.dim import estimate

if TYPE_CHECKING:
    from graphflow.compiler.llvm.target import Target

# In steps of a tile: to pack a step of a column panel, beside a tile's products or (columns apart) before them.
PACK_COST = 1.5
TURN_COST = 2.0
# And to fetch a byte of a step of either panel from beyond L2: from a copy, along rows from the last cache or from
# memory, and from memory where each step lies in a page of its own.
COPY_COST = 1 / 480
NEAR_COST = 1 / 720
ROW_COST = 1 / 240
FAR_COST = 1 / 120
# Tiles that are shared out well though they are not cut along k.
ENOUGH_TILES = 32
# The share of packing in the work of units from which on several readers of B share a copy.
SHARE_LEAST = 3 / 32


def local_plan(plan: Plan, target: Target) -> Plan | None:
    """The plan whose units pack B themselves, for all row panels they have; None where B had better be packed once."""
    if plan.staged or len(plan.k) > 1 or not isinstance(plan.depth, int) or plan.depth == 0:
        return None
    if not plan.packed and not far_columns(plan, target):
        return None
    staged = "panels" if distant_rows(plan, target) else ""
    plan = with_tile_axes(replace(plan, local=True, packed=True, masked="", staged=staged))
    m, n, k = (max(1, estimate(x)) for x in (plan.row_count, plan.spec.n.extent, plan.depth))
    batch = max(1, estimate(plan.batch_count))
    row_panels, column_panels = max(1, estimate(plan.row_panels)), max(1, estimate(plan.column_panels))
    tiles = batch * row_panels * column_panels
    if tiles < ENOUGH_TILES and split_count(plan, tiles, k, target) > 1:
        return None
    blocks = split_extent(plan.k[0].extent, -(-k // max(64, target.l1_bytes * 3 // 4 // (plan.width * plan.bytes))))
    plan = replace(plan, k_blocks=blocks)
    units = units_worth(2 * batch * m * n * k)
    pack = PACK_COST if plan.spec.n.b == 1 else TURN_COST
    if is_far(n * k * plan.bytes, target):
        pack += plan.width * plan.bytes * ROW_COST
    fetch = plan.rows * plan.bytes * (COPY_COST if staged else row_cost(plan, m, n, k, target))

    def cost(cut: tuple[int, int]) -> float:
        """Of packing B, of fetching A and of the last unit to finish, beside the products."""
        rows, columns = cut
        made = batch * -(-column_panels // columns) * -(-row_panels // rows)
        return pack / rows + fetch / columns + max(1 / made, 1 / units)

    rows, columns = min(local_blocks(plan, row_panels, column_panels, target), key=cost)
    ahead = rows > 1 and plan.spec.n.b == 1 and n * k * plan.bytes > target.l2_bytes // 2
    return replace(plan, row_block=rows, column_block=columns, asks_ahead=ahead)


def row_cost(plan: Plan, m: int, n: int, k: int, target: Target) -> float:
    """Of fetching a byte of A where it lies."""
    if has_far_steps(plan, target):
        return FAR_COST
    if (m * k + n * k + m * n) * plan.bytes > target.l3_bytes:
        return ROW_COST
    return NEAR_COST if m * k * plan.bytes > target.l2_bytes // 2 else 0.0


def local_blocks(plan: Plan, row_panels: int, column_panels: int, target: Target) -> Iterator[tuple[int, int]]:
    """(row panels, column panels) of a unit: L2 keeps what it reads of A in a block of k, and its sums."""
    panel = plan.rows * plan.block_depth * plan.bytes
    most = max(1, target.l2_bytes // 2 // panel)
    least = -(-row_panels // most)
    for columns in sorted({even(column_panels, 1 << i) for i in range(column_panels.bit_length())}):
        sums = columns * plan.slot * plan.bytes if plan.k_blocks > 1 else 0
        for count in range(least, min(row_panels, least + TARGET_UNITS) + 1):
            rows = even(row_panels, -(-row_panels // count))
            if columns == 1 or rows * (panel + sums) <= target.l2_bytes * 7 // 8:
                yield rows, columns


def shares_packing(plan: Plan) -> bool:
    """Whether B had better be packed by a launch for all its readers than by each unit that reads it."""
    if plan.spec.is_kept:
        return True
    repeated = PACK_COST * estimate(plan.row_blocks) / max(1, estimate(plan.row_panels))
    return plan.spec.readers > 1 and repeated > SHARE_LEAST


def far_columns(plan: Plan, target: Target) -> bool:
    """Whether B, whose columns lie side by side, is read faster from a packed copy that costs no launch."""
    row_panels, stride = estimate(plan.row_panels), abs(estimate(plan.k[-1].b)) * plan.bytes
    if plan.masked == "constant" or is_near(plan.spec, plan.groups, target):
        return False
    if estimate(plan.column_panels) < 2 and not has_far_steps(plan, target):
        return False
    beyond = estimate(plan.spec.n.extent) * estimate(plan.depth) * plan.bytes > target.l2_bytes // 2
    return row_panels >= 2 and (beyond or (row_panels >= 4 and stride >= SET_BYTES))


def has_far_steps(plan: Plan, target: Target) -> bool:
    """Whether rows of A lie side by side, and each step of k far from the next, in memory that no cache holds."""
    return plan.run.a == 1 and is_far(estimate(plan.row_count) * estimate(plan.depth) * plan.bytes, target)


def distant_rows(plan: Plan, target: Target) -> bool:
    """Whether rows of A lie so that reading a tile's in place is slow: in few cache sets, or each step in its page."""
    run, inner = plan.run, plan.k[-1]
    if not isinstance(run.a, int) or estimate(plan.spec.n.extent) < PANEL_READERS * plan.width:
        return False
    if run.a == 1:
        return len(plan.groups) == 1 and len(plan.k) == 1 and has_far_steps(plan, target)
    if inner.a != 1 or run.a == 0:
        return False
    stride = abs(run.a) * plan.bytes
    # A panel of B takes three quarters of L1.
    crowded = plan.rows * math.gcd(stride, SET_BYTES) > target.l1_bytes // 4
    far = is_far(estimate(plan.row_count) * stride, target)
    return crowds(plan.rows, stride, target) or (far and crowded)
