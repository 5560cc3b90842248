"""How many units work is worth, and into how many parts k is split, whose sums are added at the end."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from graphflow.compiler.llvm.contract.plan import Plan
from graphflow.compiler.llvm.contract.shape import SET_BYTES
from graphflow.core.dim import Size, estimate

if TYPE_CHECKING:
    from graphflow.compiler.llvm.target import Target

# The least work that is worth a unit of its own.
UNIT_FLOPS = 500_000
# Units to aim at, so that eight threads balance.
TARGET_UNITS = 32
# A part of a split k must be worth its partial result.
SPLIT_LEAST = 256


def units_worth(flops: int) -> int:
    """Units for so much work."""
    return min(TARGET_UNITS, max(1, flops // UNIT_FLOPS))


def split_count(plan: Plan, tiles: int, k: int, target: Target) -> int:
    """Parts that k is split into: enough for all threads if tiles are few, so many that a panel of B stays cached."""
    wanted = min(-(-TARGET_UNITS // tiles) if tiles < TARGET_UNITS // 4 else 1, k // SPLIT_LEAST)
    if plan.dots or (plan.staged == "panels" and plan.packed):
        return split_extent(plan.tile_k[0].extent, wanted)
    most = max(2 * SPLIT_LEAST, target.l2_bytes // (plan.width * plan.bytes))
    return split_extent(plan.tile_k[0].extent, max(wanted, -(-k // min(most, cached_steps(plan, k, target)))))


def cached_steps(plan: Plan, k: int, target: Target) -> int:
    """So many steps of k that L2 keeps both operands of a unit while its row panels go by; k where that is no matter.

    It matters where rows are windows, which overlap: each row panel reads the same lines of A and B again (gradients of
    filters).  Where a part's results would be much beside what it reads, they had better stay in one sum.
    """
    m, n = estimate(plan.row_count), estimate(plan.spec.n.extent)
    if not is_windows(plan) or m * n * plan.bytes > target.l2_bytes // 8:
        return k
    return near_steps(plan, target)


def is_windows(plan: Plan) -> bool:
    """Whether rows are windows that overlap, as those of gradients of filters do."""
    return len(plan.k) > 1 and len(plan.groups) > 1


def near_steps(plan: Plan, target: Target) -> int:
    """Steps of k for which L2 keeps the lines of A and B that all row panels read, where rows are windows."""
    run, inner = plan.run, plan.k[-1]
    row = min(estimate(run.extent) * abs(estimate(run.a)), max(1, abs(estimate(inner.a)))) * plan.bytes
    step = cache_bytes(inner.a, row, plan) + cache_bytes(inner.b, plan.width * plan.bytes, plan)
    return max(SPLIT_LEAST, target.l2_bytes // 4 // step)


def cache_bytes(stride: Size, used: int, plan: Plan) -> int:
    """What `used` bytes at every `stride` elements take of a cache: addresses far apart share few of its sets."""
    return max(used, math.gcd(estimate(stride) * plan.bytes, SET_BYTES))


def split_extent(extent: Size, wanted: int) -> int:
    """At most `wanted` equal parts of an extent, none of them empty if it is known."""
    if not isinstance(extent, int):
        return max(1, wanted)
    wanted = max(1, min(wanted, extent))
    return -(-extent // -(-extent // wanted)) if extent else 1


def even(count: int, most: int) -> int:
    """The size of as few equal blocks of `count` as there are if none is larger than `most`."""
    return -(-count // -(-count // max(1, most)))
