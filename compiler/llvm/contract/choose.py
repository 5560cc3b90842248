"""Decides how a contraction is cut into tiles and units.

    spec = Contraction("float32", (), m=(Axis(512, 512, 0),), n=Axis(512, 0, 1), k=(Axis(512, 1, 512),))
    plan = make_plan(spec, host_target())
    plan.rows, plan.vectors, plan.packed, plan.splits

Everything follows from sizes (their hints, where symbolic) and the target, never from the number of threads.  The rules
were measured on one AVX-512 machine; what they know of others is widths, registers and cache sizes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from graphflow.compiler.llvm.contract.choose_dot import dot_blocks, dot_plan, dot_prefetches
from graphflow.compiler.llvm.contract.choose_inline import inline_plan
from graphflow.compiler.llvm.contract.choose_local import far_columns, has_far_steps, local_plan, shares_packing
from graphflow.compiler.llvm.contract.choose_split import (
    TARGET_UNITS,
    even,
    is_windows,
    near_steps,
    split_count,
    split_extent,
    units_worth,
)
from graphflow.compiler.llvm.contract.choose_sweep import sweep_plan, sweep_prefetches
from graphflow.compiler.llvm.contract.choose_table import table_plan
from graphflow.compiler.llvm.contract.contraction import Axis, Contraction
from graphflow.compiler.llvm.contract.plan import SMALL_ROWS, Group, Plan, Prefetch
from graphflow.compiler.llvm.contract.shape import (
    PANEL_READERS,
    STAGE_READERS,
    column_access,
    is_near,
    merged,
    merged_rows,
    stageable,
    tile_shape,
    with_tile_axes,
)
from graphflow.compiler.llvm.target import ELEMENT_BYTES
from graphflow.core.dim import estimate, estimate_large, product

if TYPE_CHECKING:
    from graphflow.compiler.llvm.target import Target

# Rows a multiple of this many bytes apart crowd into few cache sets.
STAGE_ALIAS = 2048
# So many row panels of a unit share what a block of k has of B, where rows are windows.
WINDOW_PANELS = 8
# How long before its use data is asked for.
PREFETCH_CYCLES = 220


def make_plan(spec: Contraction, target: Target) -> Plan:
    """Decide everything. Sizes that are symbolic are judged by their hints."""
    plan = shaped_plan(spec, target)
    tiled = not (plan.dots or plan.sweep or plan.splits > 1)
    beside = tiled and spec.beside > target.l2_bytes // 2
    return replace(plan, prefetches=tuple(prefetches(plan, target)), asks_beside=beside)


def prefetches(plan: Plan, target: Target) -> Iterator[Prefetch]:
    """What tiles ask for ahead: operands that come from beyond L2 or in other than long runs."""
    if plan.inline:
        return
    if plan.dots or plan.sweep:
        yield from (dot_prefetches(plan, target) if plan.dots else sweep_prefetches(plan))
        return
    steps = max(4, PREFETCH_CYCLES * 2 // (plan.rows * plan.vectors))
    stride = plan.tile_k[-1].b
    whole = estimate(plan.spec.n.extent) * estimate(plan.depth) * plan.bytes
    distant = estimate(stride) * plan.bytes >= 512 and whole > target.l2_bytes // 2
    if (plan.packed and not plan.local) or (distant and not is_near(plan.spec, plan.groups, target)):
        yield Prefetch("b", steps, stride, plan.width)
    if plan.local and not plan.staged and has_far_steps(plan, target):
        yield Prefetch("a", plan.block_depth, plan.tile_k[-1].a, plan.rows, locality=2)  # rows of the next block
    if plan.staged == "panels":
        yield Prefetch("a", 4 * steps, plan.rows, 1)


def shaped_plan(spec: Contraction, target: Target) -> Plan:
    """The plan without prefetches."""
    lanes, size = target.lanes(spec.dtype), ELEMENT_BYTES[spec.dtype]
    batch, m = (spec.batch, spec.m) if any(axis.b != 0 for axis in spec.batch) else ((), spec.batch + spec.m)
    groups = merged_rows(m)
    k = longest_first(merged(spec.k), groups)
    gathered = len(groups) > 1 and isinstance(groups[-1].extent, int) and groups[-1].extent < SMALL_ROWS * 2
    staged = "rows" if gathered and stageable(k, size, target) else ""
    rows, vectors = tile_shape(spec, groups, lanes, staged, target)
    packed, masked = column_access(spec, groups, lanes * vectors, target)
    draft = Plan(
        spec, lanes, size, batch, groups, k, rows, vectors, staged, packed, masked,
        1, 1, 1, 1, k, target.has_fma,
    )  # fmt: skip
    small = inline_plan(draft, target)
    if small is not None and not (small.packs_inline and spec.is_kept):
        return with_tile_axes(small)
    dots = dot_plan(draft, target)
    if dots is not None:
        return dot_blocks(blocked(with_tile_axes(dots), target), target)
    sweep = sweep_plan(draft, target)
    if sweep is not None:
        return with_tile_axes(sweep)
    table = table_plan(draft, target)
    if table is not None:
        return blocked(with_tile_axes(table), target)
    local = local_plan(draft, target)
    if local is not None and not shares_packing(local):
        return local
    if local is not None or (spec.is_kept and far_columns(draft, target)):
        draft = replace(draft, packed=True, masked="")
    draft = replace(draft, staged=staged or staging(spec, groups, k, rows, lanes * vectors, target))
    plan = blocked(with_tile_axes(draft), target)
    # Too few readers after all, or a copy that every part of a split k would repeat.
    repeated = plan.splits > 1 and (len(k) > 1 or plan.staged == "columns")
    if plan.staged in ("rows", "columns") and not gathered and (plan.column_block < STAGE_READERS or repeated):
        plan = blocked(with_tile_axes(replace(draft, staged="")), target)
    return plan


def longest_first(k: tuple[Axis, ...], groups: tuple[Group, ...]) -> tuple[Axis, ...]:
    """The k axes of windows with one in front that can be cut into parts: rows, where images are few."""
    if len(k) < 3 or len(groups) < 2 or estimate(k[0].extent) >= TARGET_UNITS // 4:
        return k
    first = max(k[:-1], key=lambda axis: estimate(axis.extent))
    return (first, *(axis for axis in k if axis is not first))


def staging(
    spec: Contraction, groups: tuple[Group, ...], k: tuple[Axis, ...], rows: int, width: int, target: Target
) -> str:
    """Whether A is copied because reading it in place is slow: rows that share cache sets, or a page for each k."""
    size = ELEMENT_BYTES[spec.dtype]
    if estimate(spec.n.extent) < STAGE_READERS * width:
        return ""
    run, inner = groups[-1], k[-1]
    distant = inner.a == 1 and isinstance(run.a, int) and run.a != 0
    whole = estimate(product(tuple(group.extent for group in groups))) * abs(estimate(run.a)) * size
    if distant and whole > target.l2_bytes // 2 and estimate(spec.n.extent) >= PANEL_READERS * width:
        return "panels"
    if rows < SMALL_ROWS * 2 or not stageable(k, size, target):
        return ""
    if distant and estimate(run.a) * size % STAGE_ALIAS == 0:
        return "rows"
    contiguous = len(groups) == 1 and run.a == 1 and isinstance(run.extent, int) and run.extent >= rows
    if contiguous and estimate(inner.a) * size >= 4096:
        return "columns"
    return ""


def blocked(plan: Plan, target: Target) -> Plan:
    """The plan with its splits of k and its units."""
    m, n, k = (max(1, estimate(x)) for x in (plan.row_count, plan.spec.n.extent, plan.depth))
    batch = max(1, estimate(plan.batch_count))
    row_panels, column_panels = max(1, estimate(plan.row_panels)), max(1, estimate(plan.column_panels))
    near = window_blocks(plan, target)
    if near is not None:
        return near
    splits = split_count(plan, batch * row_panels * column_panels, k, target)
    if splits == 1 and plan.staged == "panels" and plan.packed and len(plan.tile_k) == 1:
        return k_blocked(plan, batch, k, target)
    # More rows come with more units of their own; a sum that gets longer has those that it was given here.
    units = units_worth(2 * batch * m * n * estimate_large(plan.depth))
    share = 4 if is_near(plan.spec, plan.groups, target) else 2
    cached = max(1, target.l2_bytes // share // (plan.width * plan.bytes * max(1, k // splits)))
    columns = min(column_panels, cached)
    rows_wanted = -(-units // (batch * splits * -(-column_panels // columns)))
    if rows_wanted > row_panels:
        wanted = -(-units // (batch * splits * row_panels))
        columns = max(1, min(columns, column_panels // wanted))
    rows = max(1, row_panels // rows_wanted)
    pack_splits = split_extent(plan.k[0].extent, max(1, k * plan.width // 32768)) if plan.packed else 1
    return replace(plan, splits=splits, row_block=rows, column_block=columns, pack_splits=pack_splits)


def window_blocks(plan: Plan, target: Target) -> Plan | None:
    """A plan whose units go through k in blocks for which L2 keeps what all their rows, which are windows, read of A.

    That is for gradients of filters, whose rows lie side by side, so that each step of k is another line.  None where
    units have few row panels: then parts of k, each with more of them, repeat less.
    """
    if not is_windows(plan) or plan.run.a != 1 or plan.staged or plan.dots:
        return None
    m, n, k = (max(1, estimate(x)) for x in (plan.row_count, plan.spec.n.extent, plan.depth))
    batch, column_panels = max(1, estimate(plan.batch_count)), max(1, estimate(plan.column_panels))
    wanted = -(-k // near_steps(plan, target))
    units = units_worth(2 * batch * m * n * estimate_large(plan.depth))
    rows = max(1, estimate(plan.row_panels)) // -(-units // (batch * column_panels))
    if wanted < 2 or rows < WINDOW_PANELS:
        return None
    first = plan.k[0] if estimate(plan.k[0].extent) >= wanted else max(plan.k[:-1], key=lambda x: estimate(x.extent))
    plan = with_tile_axes(replace(plan, k=(first, *(axis for axis in plan.k if axis is not first))))
    pack_splits = split_extent(plan.k[0].extent, max(1, k * plan.width // 32768)) if plan.packed else 1
    return replace(plan, row_block=rows, k_blocks=split_extent(first.extent, wanted), pack_splits=pack_splits)


def k_blocked(plan: Plan, batch: int, k: int, target: Target) -> Plan:
    """A plan whose operands are both copied, in blocks.

    A row panel of a block stays in L1 while the column panels of its unit go by, and all of a unit's stay in L2.
    """
    row_panels, column_panels = estimate(plan.row_panels), estimate(plan.column_panels)
    block = max(64, target.l1_bytes * 5 // 8 // (plan.rows * plan.bytes))
    blocks = split_extent(plan.tile_k[0].extent, -(-k // block))
    depth = -(-k // blocks) * plan.bytes
    columns = even(column_panels, target.l2_bytes // 4 // (plan.width * depth))
    rows = even(row_panels, target.l2_bytes // 4 // (plan.rows * depth))
    while rows > 1 and batch * -(-row_panels // rows) * -(-column_panels // columns) < TARGET_UNITS:
        rows = even(row_panels, rows - 1)
    pack_splits = split_extent(plan.k[0].extent, max(1, k * plan.width // 32768))
    return replace(plan, row_block=rows, column_block=columns, k_blocks=blocks, pack_splits=pack_splits)
