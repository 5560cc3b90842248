"""Whether a convolution is computed by Winograd's minimal filtering, and how it is cut into units then.

    plan = winograd_plan(spec, host_target())      # None where the direct products are estimated faster
    plan.squares, plan.products.rows, plan.units

GRAPHFLOW_WINOGRAD=0 has all convolutions computed directly.  The cycles were measured on one AVX-512 machine.
"""

from __future__ import annotations

import math
import os
from dataclasses import replace
from typing import TYPE_CHECKING

from graphflow.compiler.llvm.contract.choose import prefetches
from graphflow.compiler.llvm.contract.choose_split import UNIT_FLOPS, units_worth
from graphflow.compiler.llvm.contract.contraction import Axis, Contraction
from graphflow.compiler.llvm.contract.plan import Group, Plan
from graphflow.compiler.llvm.contract.shape import (
    across_cycles,
    merged,
    merged_rows,
    tile_cycles,
    tile_shape,
    with_tile_axes,
)
from graphflow.compiler.llvm.target import ELEMENT_BYTES
from graphflow.compiler.llvm.winograd.plan import PLACES, WinogradPlan, apart
from graphflow.compiler.llvm.winograd.windows import Windows, squares_along, whole_number
from graphflow.core.dim import estimate, product

if TYPE_CHECKING:
    from graphflow.compiler.llvm.target import Target

# Winograd is chosen where it is estimated this many times as fast.
LEAST_GAIN = 1.1
# So many units' work is worth launches of its own for the transforms, which threads wait for.
LEAST_UNITS = 8
# The fewest squares of a unit for which a transformed filter that L2 can't hold is read again.
LEAST_SQUARES = 12
# Cycles for a vector of channels of a square to be transformed, for a vector of its results, for a vector of a filter,
# and for a tile to begin and end.
INPUT_CYCLES, OUTPUT_CYCLES, FILTER_CYCLES, TILE_CYCLES = 55, 42, 80, 20
# Bytes a cycle to and from what is beyond L2.
FAR_RATE = 8
# Channels whose taps are copied at once, where the filter is transformed.
TAP_CHANNELS = 16


def winograd_plan(spec: Contraction, target: Target) -> WinogradPlan | None:
    """The plan of a convolution for which Winograd's products pay; None for other contractions."""
    if not is_asked_for() or not is_square_convolution(spec):
        return None
    columns = whole_number(spec.n.extent)
    if 0 in (columns, *(axis.extent for axis in spec.k)):
        return None
    plan = cut(spec, target)
    return plan if pays(plan, target) else None


def pays(plan: WinogradPlan, target: Target) -> bool:
    """Whether the transforms are estimated to save enough."""
    flops = estimate(plan.units) * plan.unit_flops
    direct = direct_cycles(plan.spec, plan.products.lanes, target)
    return flops >= LEAST_UNITS * UNIT_FLOPS and direct >= LEAST_GAIN * winograd_cycles(plan, target)


def is_asked_for() -> bool:
    """Whether the environment lets it be.  Raises ValueError for what is neither yes nor no."""
    text = os.environ.get("GRAPHFLOW_WINOGRAD", "").strip()
    if text not in ("", "0", "1"):
        raise ValueError(f"GRAPHFLOW_WINOGRAD={text!r} is neither 0 nor 1")
    return text != "0"


def is_square_convolution(spec: Contraction) -> bool:
    """Whether a contraction is one of 3 x 3 windows, one pixel apart, over channels that lie side by side."""
    if spec.dtype not in ("float32", "float64"):
        return False
    return isinstance(spec.n.extent, int) and Windows(spec.m, spec.k).are_square


def cut(spec: Contraction, target: Target) -> WinogradPlan:
    """The plan, whether it pays or not."""
    lanes, size = target.lanes(spec.dtype), ELEMENT_BYTES[spec.dtype]
    channels, columns = whole_number(spec.k[-1].extent), whole_number(spec.n.extent)
    count, depth, separate = squares_of(Windows(spec.m, spec.k)), depth_of(spec), groups_of(spec)
    slices, slice_row = depth // channels, -(-channels // lanes) * lanes
    row = slices * slice_row
    inner = one_product(spec, count, slices, slice_row)
    groups = (Group(count, row, (count,)),)
    rows, vectors = tile_shape(inner, groups, lanes, "", target)
    wanted = units_worth(2 * PLACES * separate * count * depth * columns)
    wanted = -(-wanted // separate)
    far = far_cycles(filter_bytes(PLACES * depth, spec), target) > 0
    least = max(LEAST_SQUARES if far else rows, count // wanted)
    squares = unit_squares(count, rows, least, target.l2_bytes // 4 // (PLACES * row * size))
    places = (Axis(PLACES, apart(squares * row, size), depth * vectors * lanes),)
    draft = Plan(
        inner, lanes, size, places, groups, inner.k, rows, vectors, "", True, "",
        1, 1, 1, 1, inner.k, target.has_fma,
    )  # fmt: skip
    products = with_tile_axes(draft)
    products = replace(products, prefetches=tuple(prefetches(products, target)))
    some = replace(spec.k[-1], extent=tap_channels(channels))
    taps = replace(draft, spec=spec, k=(*spec.k[-3:-1], some))
    panels = whole_number(products.column_panels)
    blocks = min(panels, -(-wanted // -(-count // squares)))
    return WinogradPlan(spec, products, taps, squares, -(-panels // blocks))


def squares_of(windows: Windows) -> int:
    """About how many squares a group has."""
    extents = [max(1, estimate(axis.extent)) for axis in windows.pixels]
    ways = zip(extents[-2:], windows.spacing, strict=True)
    inner = (squares_along(extent, spacing) for extent, spacing in ways)
    return math.prod(extents[:-2]) * math.prod(map(whole_number, inner))


def depth_of(spec: Contraction) -> int:
    """Products of a result for each tap of 3 x 3: channels of all slices."""
    return whole_number(product((*(axis.extent for axis in spec.k[:-3]), spec.k[-1].extent)))


def groups_of(spec: Contraction) -> int:
    """About how many groups there are."""
    return max(1, estimate(product(tuple(axis.extent for axis in spec.batch))))


def one_product(spec: Contraction, count: int, slices: int, row: int) -> Contraction:
    """The product for a place of so many squares, each of so many slices, whose channels are `row` elements apart."""
    channels, n = spec.k[-1].extent, spec.n.extent
    m, k = (Axis(count, slices * row, 0),), merged((Axis(slices, row, channels * n), Axis(channels, 1, n)))
    return Contraction(spec.dtype, (), m, Axis(n, 0, 1), k, streams=spec.streams)


def unit_squares(count: int, rows: int, least: int, most: int) -> int:
    """Squares of a unit, whole tiles of them: `least` if L2 has room for so many, equal parts of `count`."""
    blocks = -(-count // max(1, min(least, most)))
    return -(-count // (blocks * rows)) * rows


def tap_channels(channels: int) -> int:
    """The largest part of the channels that is not above TAP_CHANNELS and divides them; all where there is only 1."""
    part = max(n for n in range(1, TAP_CHANNELS + 1) if channels % n == 0)
    return part if part > 1 else channels


def direct_cycles(spec: Contraction, lanes: int, target: Target) -> float:
    """Of a convolution, or of the gradient of its filter, as it is."""
    groups, columns = merged_rows(spec.m), -(-whole_number(spec.n.extent) // lanes)
    rows, vectors = tile_shape(spec, groups, lanes, "", target)
    panels = math.prod(max(1, estimate(group.extent)) for group in groups[:-1])
    panels *= -(-max(1, estimate(groups[-1].extent)) // rows)
    depth = max(1, estimate(product(tuple(axis.extent for axis in spec.k))))
    products = panels * depth * across_cycles(columns, rows, vectors, tile_cycles)
    return groups_of(spec) * max(products, far_cycles(filter_bytes(depth, spec), target))


def winograd_cycles(plan: WinogradPlan, target: Target) -> float:
    """Of the plan, transforms included."""
    products, depth = plan.products, plan.depth
    columns = -(-whole_number(plan.spec.n.extent) // products.lanes)
    parts = plan.windows.slice_count * plan.slice_row // products.lanes
    across, blocks = whole_number(products.column_panels), whole_number(plan.column_blocks)
    squares = max(1, estimate(plan.windows.square_count))
    panels = PLACES * -(-squares // products.rows)
    steps = panels * depth * across_cycles(columns, products.rows, products.vectors, tile_cycles)
    multiplied = steps + panels * across * TILE_CYCLES
    far = far_cycles(filter_bytes(PLACES * depth, plan.spec), target)
    filters = 0 if plan.spec.is_kept else FILTER_CYCLES * depth * columns + far
    transforms = squares * (INPUT_CYCLES * parts * blocks + OUTPUT_CYCLES * columns)
    return groups_of(plan.spec) * (max(multiplied, far) + transforms + filters)


def filter_bytes(depth: int, spec: Contraction) -> int:
    """Of a filter of so many elements a column."""
    return depth * whole_number(spec.n.extent) * ELEMENT_BYTES[spec.dtype]


def far_cycles(size: int, target: Target) -> float:
    """To move so many bytes, unless half of L2 holds them."""
    return size / FAR_RATE if size > target.l2_bytes // 2 else 0
