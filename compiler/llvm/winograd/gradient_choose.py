"""Whether the gradient of a filter is computed by Winograd's minimal filtering, and how it is cut into units then.

    plan = gradient_plan(spec, host_target())      # None where direct products are estimated faster
    plan.channel_block, plan.column_block, plan.results.splits

The cycles were measured on one AVX-512 machine.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from graphflow.compiler.llvm.contract.choose_split import TARGET_UNITS, UNIT_FLOPS
from graphflow.compiler.llvm.contract.contraction import Axis, Contraction
from graphflow.compiler.llvm.contract.plan import Group, Plan
from graphflow.compiler.llvm.contract.shape import across_cycles, panel_cycles, tile_shape
from graphflow.compiler.llvm.target import ELEMENT_BYTES
from graphflow.compiler.llvm.winograd.choose import (
    FAR_RATE,
    LEAST_GAIN,
    LEAST_UNITS,
    TILE_CYCLES,
    direct_cycles,
    far_cycles,
    groups_of,
    is_asked_for,
    squares_of,
)
from graphflow.compiler.llvm.winograd.gradient_plan import TAPS, GradientPlan
from graphflow.compiler.llvm.winograd.plan import PLACES, apart
from graphflow.compiler.llvm.winograd.windows import Windows, whole_number
from graphflow.core.dim import estimate, product

if TYPE_CHECKING:
    from graphflow.compiler.llvm.target import Target

# Cycles for a vector of a square's pixels to be transformed, for one of its gradients, and for one of sums, back.
IMAGE_CYCLES, GRADIENT_CYCLES, BACK_CYCLES = 30, 15, 60
# How often a part of sums moves: written, which reads first what it overwrites, and read.
PARTIAL_MOVES = 3
# Passes that a block's transforms and products are done in, where all places at once would leave short blocks.
PASSES = 2
# Units beyond which squares are not split any more.
MOST_UNITS = 64
# Squares of a block from which on it does not matter much that sums are read and written once for each.
LONG_BLOCK = 128


def gradient_plan(spec: Contraction, target: Target) -> GradientPlan | None:
    """The plan of a filter's gradient for which Winograd's products pay; None for other contractions."""
    if not is_asked_for() or not is_filter_gradient(spec):
        return None
    if 0 in (spec.n.extent, *(axis.extent for axis in (*spec.batch, *spec.m, *spec.k))):
        return None
    plan = min(plans(spec, target), key=lambda plan: gradient_cycles(plan, target) * last_unit(plan))
    return plan if pays(plan, target) else None


def pays(plan: GradientPlan, target: Target) -> bool:
    """Whether the transforms are estimated to save enough."""
    flops = 2 * PLACES * groups_of(plan.spec) * squares_of(plan.windows) * depth_of(plan) * plan.columns
    direct = direct_cycles(plan.spec, plan.products.lanes, target)
    return flops >= LEAST_UNITS * UNIT_FLOPS and direct >= LEAST_GAIN * gradient_cycles(plan, target)


def is_filter_gradient(spec: Contraction) -> bool:
    """Whether a contraction is the gradient of a filter of 3 x 3 taps, of channels that lie side by side."""
    if spec.dtype not in ("float32", "float64") or not isinstance(spec.n.extent, int) or spec.n.b != 1:
        return False
    return Windows(spec.k, spec.m).are_square


def plans(spec: Contraction, target: Target) -> Iterator[GradientPlan]:
    """All cuts worth a thought."""
    lanes, windows = target.lanes(spec.dtype), Windows(spec.k, spec.m)
    for channels in parts(windows.channels, lanes):
        for columns in parts(whole_number(spec.n.extent), lanes):
            shape = unit_tile(spec, channels, columns, target)
            plan = cut(spec, channels, columns, 1, shape, target)
            yield plan
            most = MOST_UNITS // estimate(plan.units)
            yield from (cut(spec, channels, columns, 1 << i, shape, target) for i in range(1, most.bit_length()))


def parts(count: int, lanes: int) -> list[int]:
    """Sizes of equal parts of so many channels, whole vectors: all of them, a half, and so on."""
    return sorted({min(count, -(-count // (lanes << i)) * lanes) for i in range(5)})


def unit_tile(spec: Contraction, channels: int, columns: int, target: Target) -> tuple[int, int]:
    """(rows, vectors) of the tile for so many channels and columns."""
    m, n, k = Axis(channels, 1, 0), Axis(columns, 0, 1), Axis(LONG_BLOCK, channels, columns)
    inner = Contraction(spec.dtype, (), (m,), n, (k,))
    return tile_shape(inner, (Group(channels, 1, (channels,)),), target.lanes(spec.dtype), "", target)


def cut(
    spec: Contraction, channels: int, columns: int, splits: int, shape: tuple[int, int], target: Target
) -> GradientPlan:
    """The plan of units with so many channels and columns, by tiles of a shape, and so many parts of the squares."""
    lanes, size, (rows, vectors) = target.lanes(spec.dtype), ELEMENT_BYTES[spec.dtype], shape
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
    inner = Contraction(spec.dtype, (), (Axis(channels, 1, 0),), spec.n, k)
    products = Plan(
        inner, lanes, size, (), (Group(channels, 1, (channels,)),), k, rows, vectors, "", False, "",
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


def last_unit(plan: GradientPlan) -> float:
    """How many times as long it takes because the last unit to finish is waited for."""
    return 1 + max(1 / estimate(plan.units), 1 / TARGET_UNITS)


def gradient_cycles(plan: GradientPlan, target: Target) -> float:
    """Of the plan, transforms included."""
    products, windows, splits = plan.products, plan.windows, plan.results.splits
    squares, columns = squares_of(windows), -(-plan.columns // products.lanes)
    rows = -(-plan.channel_block // products.rows) * plan.channel_blocks * windows.slice_count
    step = rows * across_cycles(columns, products.rows, products.vectors, panel_cycles)
    blocks = splits * -(-squares // (splits * plan.squares))
    tiles = blocks * rows * whole_number(products.column_panels)
    multiplied = PLACES * (squares * step + tiles * (TILE_CYCLES + products.rows * products.vectors))
    pixels = windows.slice_count * -(-windows.channels // products.lanes) * plan.column_blocks
    gradients = columns * plan.channel_blocks * windows.slice_count
    transforms = squares * (IMAGE_CYCLES * pixels + GRADIENT_CYCLES * gradients)
    far = far_cycles(4 * squares * (pixels + gradients) * products.lanes * products.bytes, target)
    if PLACES * plan.sum_place * products.bytes > target.l2_bytes:  # then each block moves them
        far += tiles * 2 * PLACES * products.rows * products.width * products.bytes / FAR_RATE
    results = splits * depth_of(plan) * columns
    moved = TAPS * results * products.lanes * products.bytes * (PARTIAL_MOVES if splits > 1 else 0)
    total = multiplied + transforms + far + results * BACK_CYCLES + far_cycles(moved, target)
    return groups_of(plan.spec) * total
