"""Decides how a contraction is cut into tiles and units.

    spec = Contraction("float32", (), m=(Axis(512, 512, 0),), n=Axis(512, 0, 1), k=(Axis(512, 1, 512),))
    plan = make_plan(spec, host_target())
    plan.rows, plan.vectors, plan.packed, plan.splits

Everything follows from sizes (their hints, where symbolic) and the target, never from the number of threads.  The rules
were measured on one AVX-512 machine; what they know of others is widths, registers and cache sizes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from graphflow.compiler.llvm.contract_plan import SMALL_ROWS, Axis, Contraction, Group, Plan
from graphflow.compiler.llvm.target import ELEMENT_BYTES
from graphflow.core.dim import Size, estimate, product

if TYPE_CHECKING:
    from graphflow.compiler.llvm.target import Target

# Units to aim at, so that eight threads balance, and the least work that is worth a unit of its own.
TARGET_UNITS = 32
UNIT_FLOPS = 500_000
# A part of a split k must be worth its partial result.
SPLIT_LEAST = 256
# Packing a B whose columns lie side by side pays if this many rows use it and its rows are this many bytes apart; at
# both limits it takes twice the product.
PACK_ROWS = 96
PACK_STRIDE = 1024
# Staging pays if this many column panels read a staged row panel, and if rows a multiple of this many bytes apart
# crowd into few cache sets.
STAGE_READERS = 4
STAGE_ALIAS = 2048


def make_plan(spec: Contraction, target: Target) -> Plan:
    """Decide everything. Sizes that are symbolic are judged by their hints."""
    lanes, size = target.lanes(spec.dtype), ELEMENT_BYTES[spec.dtype]
    batch, m = (spec.batch, spec.m) if any(axis.b != 0 for axis in spec.batch) else ((), spec.batch + spec.m)
    groups, k = merged_rows(m), merged(spec.k)
    gathered = len(groups) > 1 and isinstance(groups[-1].extent, int) and groups[-1].extent < SMALL_ROWS * 2
    staged = "rows" if gathered and stageable(k, size, target) else ""
    rows, vectors = tile_shape(spec, groups, lanes, staged, target)
    packed, masked = column_access(spec, groups, lanes * vectors, target)
    staged = staged or staging(spec, groups, k, rows, lanes * vectors, target)
    draft = Plan(
        spec, lanes, size, batch, groups, k, rows, vectors, staged, packed, masked,
        1, 1, 1, 1, k, target.has_fma,
    )  # fmt: skip
    plan = blocked(with_tile_axes(draft), target)
    # Too few readers after all, or a copy that every part of a split k would repeat.
    repeated = plan.splits > 1 and (len(k) > 1 or staged == "columns")
    if staged and not gathered and (plan.column_block < STAGE_READERS or repeated):
        plan = blocked(with_tile_axes(replace(draft, staged="")), target)
    return plan


def merged(axes: tuple[Axis, ...]) -> tuple[Axis, ...]:
    """The same indices with adjacent axes made one where both strides allow; axes of extent 1 vanish."""
    result: list[Axis] = []
    for axis in axes:
        outer = result[-1] if result else None
        if axis.extent == 1:
            continue
        if outer and outer.a == axis.a * axis.extent and outer.b == axis.b * axis.extent:
            result[-1] = Axis(outer.extent * axis.extent, axis.a, axis.b)
        else:
            result.append(axis)
    return tuple(result) or (Axis(1, 0, 0),)


def merged_rows(axes: tuple[Axis, ...]) -> tuple[Group, ...]:
    """The m axes as few groups as their strides allow; at least one."""
    result: list[Group] = []
    for axis in axes:
        outer = result[-1] if result else None
        if outer and axis.extent == 1:
            result[-1] = Group(outer.extent, outer.a, (*outer.parts, 1))
        elif outer and (outer.extent == 1 or outer.a == axis.a * axis.extent):
            result[-1] = Group(outer.extent * axis.extent, axis.a, (*outer.parts, axis.extent))
        else:
            result.append(Group(axis.extent, axis.a, (axis.extent,)))
    return tuple(result) or (Group(1, 0, ()),)


def tile_shape(
    spec: Contraction, groups: tuple[Group, ...], lanes: int, staged: str, target: Target
) -> tuple[int, int]:
    """(rows, vectors) of the tile that needs the fewest cycles for all of C, padding included."""
    run = max(1, estimate(groups[-1].extent))
    runs = max(1, math.prod(estimate(g.extent) for g in groups[:-1]))
    if staged == "rows":
        run, runs = run * runs, 1
    columns = max(1, -(-estimate(spec.n.extent) // lanes))

    def cost(shape: tuple[int, int]) -> float:
        rows, vectors = shape
        # Per step of k: two FMAs and nearly two loads a cycle, four cycles of latency.  Then the loop, and B from L2.
        cycles = max(rows * vectors / 2, (rows + vectors) * 0.6, 4) + 0.75 + vectors / 4
        return runs * -(-run // rows) * -(-columns // vectors) * cycles

    return min(tile_candidates(run, columns, target), key=cost)


def tile_candidates(run: int, columns: int, target: Target) -> Iterator[tuple[int, int]]:
    """(rows, vectors) whose accumulators, one row of B and the broadcast of A fit the registers."""
    # x86 multiplies straight from memory; elsewhere the loads that wait ahead of their products take registers.
    spare = (1 if target.has_fma else 2) if target.is_x86 else 4
    for vectors in range(1, min(8, columns) + 1):
        most = (target.vector_registers - spare - vectors) // vectors
        yield from ((rows, vectors) for rows in range(1, min(most, run, 24) + 1))


def column_access(spec: Contraction, groups: tuple[Group, ...], width: int, target: Target) -> tuple[bool, str]:
    """(whether B is packed, how its reads are masked)."""
    n = spec.n.extent
    whole = isinstance(n, int) and n % width == 0
    single = isinstance(n, int) and n <= width
    masked = "" if whole else "constant" if single else "dynamic"
    maskable = whole or target.vector_bits >= (256 if single else 512)
    if spec.n.b != 1 or not maskable:
        return True, ""
    m, stride = estimate(product(tuple(g.extent for g in groups))), estimate(n) * ELEMENT_BYTES[spec.dtype]
    packed = not single and m >= PACK_ROWS and stride >= PACK_STRIDE and m * stride >= 2 * PACK_ROWS * PACK_STRIDE
    return packed, "" if packed else masked


def stageable(k: tuple[Axis, ...], size: int, target: Target) -> bool:
    """Whether a row panel of A may be copied to scratch: its size must be known and the cache must hold it."""
    depth = product(tuple(axis.extent for axis in k))
    return isinstance(depth, int) and 0 < depth * size * 16 <= target.l2_bytes // 2


def staging(
    spec: Contraction, groups: tuple[Group, ...], k: tuple[Axis, ...], rows: int, width: int, target: Target
) -> str:
    """Whether A is copied because reading it in place is slow: rows that share cache sets, or a page for each k."""
    size = ELEMENT_BYTES[spec.dtype]
    if not stageable(k, size, target) or estimate(spec.n.extent) < STAGE_READERS * width or rows < SMALL_ROWS * 2:
        return ""
    run, inner = groups[-1], k[-1]
    if inner.a == 1 and isinstance(run.a, int) and run.a and run.a * size % STAGE_ALIAS == 0:
        return "rows"
    contiguous = len(groups) == 1 and run.a == 1 and isinstance(run.extent, int) and run.extent >= rows
    if contiguous and estimate(inner.a) * size >= 4096:
        return "columns"
    return ""


def with_tile_axes(plan: Plan) -> Plan:
    """The plan with `tile_k`: the k axes with strides of the copies where there are copies."""
    flat: Size = 1
    axes: list[Axis] = []
    step = 1 if plan.staged == "rows" else plan.stage_stride if plan.staged else 0
    for axis in reversed(plan.k):
        a = flat * step if plan.staged else axis.a
        b = flat * plan.width if plan.packed else axis.b
        axes.append(Axis(axis.extent, a, b))
        flat = flat * axis.extent
    return replace(plan, tile_k=merged(tuple(reversed(axes))))


def blocked(plan: Plan, target: Target) -> Plan:
    """The plan with its splits of k and its units."""
    m, n, k = (max(1, estimate(x)) for x in (plan.row_count, plan.spec.n.extent, plan.depth))
    batch = max(1, estimate(plan.batch_count))
    row_panels, column_panels = max(1, estimate(plan.row_panels)), max(1, estimate(plan.column_panels))
    splits = split_count(plan, batch * row_panels * column_panels, k, target)
    units = min(TARGET_UNITS, max(1, 2 * batch * m * n * k // UNIT_FLOPS))
    cached = max(1, target.l2_bytes // 2 // (plan.width * plan.bytes * max(1, k // splits)))
    columns = min(column_panels, cached)
    rows_wanted = -(-units // (batch * splits * -(-column_panels // columns)))
    if rows_wanted > row_panels:
        wanted = -(-units // (batch * splits * row_panels))
        columns = max(1, min(columns, column_panels // wanted))
    rows = max(1, row_panels // rows_wanted)
    pack_splits = split_extent(plan.k[0].extent, max(1, k * plan.width // 32768)) if plan.packed else 1
    return replace(plan, splits=splits, row_block=rows, column_block=columns, pack_splits=pack_splits)


def split_count(plan: Plan, tiles: int, k: int, target: Target) -> int:
    """Parts that k is split into: enough for all threads if tiles are few, so many that a panel of B stays cached."""
    wanted = min(-(-TARGET_UNITS // tiles) if tiles < TARGET_UNITS // 4 else 1, k // SPLIT_LEAST)
    most = max(2 * SPLIT_LEAST, target.l2_bytes // 8 // (plan.width * plan.bytes))
    return split_extent(plan.tile_k[0].extent, max(wanted, -(-k // most)))


def split_extent(extent: Size, wanted: int) -> int:
    """At most `wanted` equal parts of an extent, none of them empty if it is known."""
    if not isinstance(extent, int):
        return max(1, wanted)
    wanted = max(1, min(wanted, extent))
    return -(-extent // -(-extent // wanted)) if extent else 1
