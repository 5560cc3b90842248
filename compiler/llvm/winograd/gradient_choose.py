"""Whether the gradient of a filter is computed by Winograd's minimal filtering, and how it is cut into units then.

    plan = gradient_plan(spec, host_target())      # None where direct products are estimated faster
    plan.channel_block, plan.column_block, plan.results.splits

The cycles were measured on one AVX-512 machine.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from graphflow.compiler.llvm.contract.choose import UNIT_FLOPS
from graphflow.compiler.llvm.contract.choose_split import TARGET_UNITS
from graphflow.compiler.llvm.contract.plan import Axis, Contraction, Group, Plan
from graphflow.compiler.llvm.contract.shape import across_cycles, panel_cycles, tile_shape
from graphflow.compiler.llvm.target import ELEMENT_BYTES
from graphflow.compiler.llvm.winograd.choose import (
    FAR_RATE,
    INPUT_CYCLES,
    LEAST_GAIN,
    LEAST_UNITS,
    TILE_CYCLES,
    groups_of,
    is_asked_for,
    squares_of,
)
from graphflow.compiler.llvm.winograd.gradient_plan import TAPS, GradientPlan
from graphflow.compiler.llvm.winograd.plan import PLACES, apart
from graphflow.compiler.llvm.winograd.windows import Windows, whole_number
from graphflow.core.dim import Size, estimate, product

if TYPE_CHECKING:
    from graphflow.compiler.llvm.target import Target

# Cycles for a vector of a square's gradients to be transformed, and for a vector of sums to be transformed back.
GRADIENT_CYCLES, BACK_CYCLES = 35, 40
# Passes that a block's transforms and products are done in, where all places at once would leave short blocks.
PASSES = 4
# Squares of a block from which on it does not matter much that sums are read and written once for each.
LONG_BLOCK = 128


def gradient_plan(spec: Contraction, target: Target) -> GradientPlan | None:
    """The plan of a filter's gradient for which Winograd's products pay; None for other contractions."""
    if not is_asked_for() or not is_filter_gradient(spec):
        return None
    if 0 in (spec.n.extent, *(axis.extent for axis in (*spec.m, *spec.k))):
        return None
    plan = min(plans(spec, target), key=lambda plan: gradient_cycles(plan, target))
    return plan if pays(plan, target) else None


def pays(plan: GradientPlan, target: Target) -> bool:
    """Whether the transforms are estimated to save enough."""
    flops = 2 * PLACES * groups_of(plan.spec) * squares_of(plan.windows) * depth_of(plan) * plan.columns
    direct = direct_cycles(plan, target)
    return flops >= LEAST_UNITS * UNIT_FLOPS and direct >= LEAST_GAIN * gradient_cycles(plan, target)


def is_filter_gradient(spec: Contraction) -> bool:
    """Whether a contraction is the gradient of a filter of 3 x 3 taps, of channels that lie side by side."""
    if spec.dtype not in ("float32", "float64") or not isinstance(spec.n.extent, int) or spec.n.b != 1:
        return False
    return Windows(spec.k, spec.m).are_square


def plans(spec: Contraction, target: Target) -> Iterator[GradientPlan]:
    """All cuts worth a thought."""
    lanes, windows = target.lanes(spec.dtype), Windows(spec.k, spec.m)
    for channel_block in parts(windows.channels, lanes):
        for columns in parts(whole_number(spec.n.extent), lanes):
            for splits in range(6):
                yield cut(spec, channel_block, columns, 1 << splits, target)


def parts(count: int, lanes: int) -> list[int]:
    """Sizes of equal parts of so many channels, whole vectors: all of them, a half, and so on."""
    whole = [-(-count // (lanes << i)) * lanes for i in range(5)]
    return sorted({min(count, part) for part in whole})


def cut(spec: Contraction, channels: int, columns: int, splits: int, target: Target) -> GradientPlan:
    """The plan of units with so many channels and columns, and so many parts of the squares."""
    lanes, size = target.lanes(spec.dtype), ELEMENT_BYTES[spec.dtype]
    groups = (Group(channels, 1, (channels,)),)
    inner = Contraction(
        spec.dtype, (), (Axis(channels, 1, 0),), replace(spec.n, extent=columns), (Axis(LONG_BLOCK, channels, columns),)
    )
    rows, vectors = tile_shape(inner, groups, lanes, "", target)
    width = vectors * lanes
    image_row = apart(-(-channels // rows) * rows, size)
    gradient_row = apart(-(-columns // width) * width, size)
    count = -(-squares_of(Windows(spec.k, spec.m)) // splits)
    room = target.l2_bytes // 4 // ((image_row + gradient_row) * size)
    passes = 1 if room // PLACES >= min(LONG_BLOCK, count) else PASSES
    most = max(8, room // (PLACES // passes))
    blocks = -(-count // most)
    squares = -(-count // blocks)
    k = (Axis(squares, image_row, gradient_row),)
    known = isinstance(product(tuple(axis.extent for axis in spec.k)), int)
    products = Plan(
        replace(inner, n=spec.n, k=k), lanes, size, (), groups, k, rows, vectors, "", False, "",
        1, 1, 1, 1, k, target.has_fma, k_blocks=blocks if known else max(2, blocks),
    )  # fmt: skip
    whole = tuple(Group(axis.extent, axis.a, (axis.extent,)) for axis in spec.m)
    results = replace(
        products, spec=spec, batch=spec.batch, groups=whole, k=spec.k, tile_k=spec.k, splits=splits, k_blocks=1
    )
    return GradientPlan(spec, products, results, channels, -(-columns // width), squares, passes)


def depth_of(plan: GradientPlan) -> int:
    """Channels of all slices."""
    return plan.windows.slice_count * plan.windows.channels


def direct_cycles(plan: GradientPlan, target: Target) -> float:
    """Of the gradient as it is."""
    spec, lanes = plan.spec, plan.products.lanes
    groups = (Group(plan.windows.channels * 3, 1, (3, plan.windows.channels)),)
    rows, vectors = tile_shape(spec, groups, lanes, "", target)
    panels = 3 * plan.windows.slice_count * -(-plan.windows.channels * 3 // rows)
    depth = estimate(product(tuple(axis.extent for axis in spec.k)))
    return groups_of(spec) * depth * panels * across_cycles(-(-plan.columns // lanes), rows, vectors, panel_cycles)


def gradient_cycles(plan: GradientPlan, target: Target) -> float:
    """Of the plan, transforms included, as if for as many threads as there are units to aim at."""
    products, windows, splits = plan.products, plan.windows, plan.results.splits
    squares, groups = squares_of(windows), groups_of(plan.spec)
    row_panels = -(-plan.channel_block // products.rows) * plan.channel_blocks * windows.slice_count
    columns = -(-plan.columns // products.lanes)
    panels = whole_number(products.column_panels)
    step = row_panels * across_cycles(columns, products.rows, products.vectors, panel_cycles)
    blocks = splits * -(-(-(-squares // splits)) // plan.squares)
    multiplied = PLACES * (
        squares * step + blocks * row_panels * panels * (TILE_CYCLES + 2 * products.rows * products.vectors)
    )
    parts_ = windows.slice_count * -(-windows.channels // products.lanes)
    transforms = squares * (
        INPUT_CYCLES * parts_ * plan.column_blocks
        + GRADIENT_CYCLES * columns * plan.channel_blocks * windows.slice_count
    )
    results = splits * depth_of(plan) * columns
    moved = TAPS * products.lanes * products.bytes * (2 if splits > 1 else 0) / FAR_RATE
    units = groups * splits * windows.slice_count * plan.channel_blocks * plan.column_blocks
    total = groups * (multiplied + transforms + results * (BACK_CYCLES + moved))
    return total * (1 + max(1 / units, 1 / TARGET_UNITS))
