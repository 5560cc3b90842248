"""The register tile: a function that sums over k and leaves rows x width results in memory.

    void tile(ptr a, ptr b, ptr other, ptr out, i64 columns, i64 count, i64 k_begin, i64 k_end, ptr dims)

`a` is the element of A at the tile's first row and k = 0, `b` that of B at its first column.  A tile that packs finds
B where it always was, and leaves it in `other` for the tiles below: stores beside the products cost little.  One that
asks is among those, and asks for some lines of `other`, which lies as B always did: what its unit packs next.  `out`
gets [rows][width] sums; columns beyond `columns` of the panel and rows beyond `count` hold what nobody may use.
[k_begin, k_end) is a part of the outermost k axis; where the plan has blocks of k, those after the first add to `out`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from llvmlite import ir

from graphflow.compiler.llvm.code import (
    ELEMENTS,
    I64,
    PTR,
    Code,
    SizeEmitter,
    add,
    at,
    const,
    first_lanes,
    load,
    masked_load,
    minimum,
    mul,
    multiply_add,
    part_function,
    plus,
    prefetch,
    splat,
    sub,
    zeros,
)
from graphflow.compiler.llvm.contract.k_loops import Sums, moved, sum_over
from graphflow.core.dim import estimate

if TYPE_CHECKING:
    from graphflow.compiler.llvm.contract.contraction import Axis
    from graphflow.compiler.llvm.contract.plan import Plan

# Steps of k in a turn of the innermost loop, where that is so long that it pays.
UNROLL = 2
LONG = 32
# Products of a step that keep the multiply-adds busy: two start in a cycle and each takes four. A tile of fewer has
# several sets of sums, for one step after the other.
BUSY = 8

ARGUMENTS = (
    ("a", PTR), ("b", PTR), ("other", PTR), ("out", PTR), ("columns", I64), ("count", I64),
    ("k_begin", I64), ("k_end", I64), ("dims", PTR),
)  # fmt: skip


@dataclass
class Tile:
    """What the loops over k share: one code for all rows."""

    plan: Plan
    code: Code
    element: ir.Type
    vector: ir.VectorType
    offsets: list[ir.Value]  # of each row of A, in elements
    masks: list[ir.Value | None]  # of each vector of B
    asks: int = 0  # lines to ask for at each step


def emit_tile(
    module: ir.Module,
    name: str,
    plan: Plan,
    rows: int,
    size: SizeEmitter,
    *,
    vectors: int,
    clamped: bool = False,
    packs: bool = False,
    asks: int = 0,
) -> ir.Function:
    """The tile function for `rows` rows of `vectors` vectors, the first ones of a panel.

    A clamped one reads row `count` - 1 again in place of those beyond it; one that packs leaves B in `other`, one that
    asks for so many lines at each step finds them there.
    """
    with part_function(module, name, ARGUMENTS, size) as code:
        a, b, other, out, columns, count, begin, end, _ = code.function.args
        element = ELEMENTS[plan.spec.dtype]
        vector = ir.VectorType(element, plan.lanes)
        offsets = row_offsets(plan, code, rows, clamped, count)
        tile = Tile(plan, code, element, vector, offsets, column_masks(plan, code, columns, vectors, packs), asks)
        slots = [const(r * plan.width + v * plan.lanes) for r in range(rows) for v in range(vectors)]
        sums_at = [at(code.entry, out, slot, element) for slot in slots]
        start = begun(plan, code, sums_at, begin, vector)
        of_other = packing if packs else asking if asks else None
        axes = plan.tile_k if of_other is None else tuple(map(of_other, plan.tile_k))
        places = moved(code, element, axes[0], (a, b) if of_other is None else (a, b, other), begin)
        steps, sets = sub(code.b, end, begin), sum_sets(plan, rows * vectors)
        start += [zeros(vector)] * (len(start) * (sets - 1))
        unroll = max(sets, unrolled(plan))
        sums = sum_over(code, element, axes, steps, places, start, lambda *x: step(tile, *x), unroll, sets)
        sums = added(code, sums, sets)
        for place, value in zip(sums_at, sums, strict=True):
            code.b.store(value, place, align=plan.lanes * plan.bytes)
    return code.function


def unrolled(plan: Plan) -> int:
    """Steps of k in a turn of the innermost loop."""
    # Without FMA a product takes a register of its own: none is left for the next step's loads.
    return UNROLL if plan.has_fma and estimate(plan.tile_k[-1].extent) >= LONG else 1


def sum_sets(plan: Plan, products: int) -> int:
    """Sets of sums for so many products a step."""
    long = plan.has_fma and estimate(plan.tile_k[-1].extent) >= LONG
    return 1 << max(0, (BUSY // products).bit_length() - 1) if long else 1


def added(code: Code, sums: Sums, sets: int) -> Sums:
    """The sum of all sets."""
    while sets > 1:
        half = len(sums) // 2
        sums = [plus(code.b, x, y) for x, y in zip(sums[:half], sums[half:], strict=True)]
        sets //= 2
    return sums


def packing(axis: Axis) -> Axis:
    """An axis of k for the tile that packs: B is still where it was."""
    return replace(axis, b=axis.source, other=axis.b)


def asking(axis: Axis) -> Axis:
    """An axis of k for the tile that asks for what is packed next."""
    return replace(axis, other=axis.source)


def begun(plan: Plan, code: Code, places: list[ir.Value], begin: ir.Value, vector: ir.VectorType) -> Sums:
    """The sums to start from: zeros, or for a later block of k what the earlier ones left there."""
    if plan.k_blocks == 1:
        return [zeros(vector)] * len(places)
    first = code.b.icmp_signed("==", begin, const(0))
    values = [load(code.b, place, vector, plan.lanes * plan.bytes) for place in places]
    return [code.b.select(first, zeros(vector), value) for value in values]


def row_offsets(plan: Plan, code: Code, rows: int, clamped: bool, count: ir.Value) -> list[ir.Value]:
    """Where each row of a tile starts, in elements after the first; with `clamped` rows beyond `count` are its last."""
    if plan.row_table:
        return [const(offset) for offset in plan.row_table]
    if not clamped and isinstance(plan.row_stride, int):
        return [const(r * plan.row_stride) for r in range(rows)]
    stride, last = code.size(plan.row_stride), sub(code.b, count, const(1))
    return [mul(code.b, minimum(code.b, const(r), last) if clamped else const(r), stride) for r in range(rows)]


def column_masks(plan: Plan, code: Code, columns: ir.Value, vectors: int, packs: bool) -> list[ir.Value | None]:
    """For each vector of B its mask, None where all lanes are valid."""
    if not (plan.masked or (packs and not plan.whole_columns)):
        return [None] * vectors
    if plan.masked == "constant":
        n = plan.spec.n.extent
        assert isinstance(n, int)
        left = [n - v * plan.lanes for v in range(vectors)]
        return [None if x >= plan.lanes else first_lanes(code.b, const(x), plan.lanes) for x in left]
    starts = [sub(code.b, columns, const(v * plan.lanes)) for v in range(vectors)]
    return [first_lanes(code.b, x, plan.lanes) for x in starts]


def step(tile: Tile, a: ir.Value, b: ir.Value, *more: Any) -> Sums:
    """One step of k: a row of B times an element of A for each row.

    `more`: perhaps where to pack B or what to ask for, and the sums.
    """
    plan, build = tile.plan, tile.code.b
    *other, sums = more
    columns = []
    for line in range(tile.asks):
        prefetch(build, at(build, other[0], const(line * 64 // plan.bytes), tile.element), 2)
    for wanted in plan.prefetches:
        first = mul(build, const(wanted.steps), tile.code.size(wanted.stride))
        for offset in range(0, wanted.width, 64 // plan.bytes):
            place = at(build, a if wanted.operand == "a" else b, add(build, first, const(offset)), tile.element)
            prefetch(build, place, wanted.locality)
    for v, mask in enumerate(tile.masks):
        address = at(build, b, const(v * plan.lanes), tile.element)
        if mask is None:
            columns.append(load(build, address, tile.vector, plan.bytes))
        else:
            columns.append(masked_load(build, address, tile.vector, mask, plan.bytes))
        for target in () if tile.asks else other:
            place = at(build, target, const(v * plan.lanes), tile.element)
            build.store(columns[-1], place, align=plan.lanes * plan.bytes)
    result = []
    for r, offset in enumerate(tile.offsets):
        scalar = load(build, at(build, a, offset, tile.element), tile.element, plan.bytes)
        factor = splat(build, scalar, plan.lanes)
        for v, column in enumerate(columns):
            result.append(multiply_add(build, factor, column, sums[r * len(columns) + v], plan.has_fma))
    return result
