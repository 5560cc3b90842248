"""Plans whose tiles are written out (inline.py): many small products, and sums so short that a call to a tile and
the way of its results through memory would cost as much as they do."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from graphflow.compiler.llvm.contract.choose_dot import dot_cycles, dot_shape
from graphflow.compiler.llvm.contract.plan import Ask, Plan
from graphflow.compiler.llvm.contract.shape import FEW_ROWS, crowds, tile_candidates
from graphflow.core.dim import estimate

if TYPE_CHECKING:
    from graphflow.compiler.llvm.target import Target

# Small products are written out up to this many multiplications. Cycles of a unit of them, and of one of short sums.
INLINE_MOST = 65_536
SMALL_UNIT_CYCLES, UNIT_CYCLES = 6_000, 12_000
# Sums of so many products are short.
SHORT_SUM = 64
# Rows of a tile whose results go past the caches: more stores than these fill the queue, and loads wait behind them.
STREAMED_ROWS = 8
# Bytes before its use that a piece of an operand is asked for; the most lines at once, more of which would wait; rows
# of a tile that still hide the latency of additions.
AHEAD = 8192
ASK_LINES = 32
LEAST_ROWS = 4
# Cycles of a tile's call and of handing on what it leaves in memory.
CALL_CYCLES = 120


def inline_plan(plan: Plan, target: Target) -> Plan | None:
    """The plan for products so small, or sums so short, that calls would cost more than they do; None for others."""
    n, k = plan.spec.n.extent, plan.depth
    if len(plan.groups) > 1 or not isinstance(n, int) or not isinstance(k, int) or not isinstance(plan.run.a, int):
        return None
    if any(not isinstance(axis.a, int) or not isinstance(axis.b, int) for axis in plan.k):
        return None
    small = isinstance(plan.row_count, int) and 0 < plan.row_count * n * k <= INLINE_MOST
    if not small and not (0 < k <= SHORT_SUM and n > 1 and estimate(plan.row_count) > FEW_ROWS):
        return None
    lanes = min(plan.lanes, 1 << max(1, (n - 1).bit_length()))
    crowded = not small and crowds(k, abs(estimate(plan.k[-1].b)) * plan.bytes, target)
    packed = n > 1 and (plan.spec.n.b != 1 or crowded)
    if packed and not small and plan.packed_batch != 1:
        return None
    draft = replace(plan, lanes=lanes, staged="", packed=packed, masked="", inline=True)
    shapes = tile_candidates(most_rows(plan, small, target), -(-n // lanes), target)
    best = min((replace(draft, rows=rows, vectors=vectors) for rows, vectors in shapes), key=inline_cycles)
    if (packed or n == 1) and dots_beat(best, plan, target):
        return None
    best = whole_products(best) if small else parts_of_products(best)
    found = tuple(asks(best, target))
    return replace(best, asks=found if lines_of(best, found) <= ASK_LINES else ())


def most_rows(plan: Plan, small: bool, target: Target) -> int:
    """The most rows of a tile, so that memory keeps up with it."""
    most = max(1, estimate(plan.row_count))
    if not small:
        lines = lines_of(replace(plan, rows=1), asks(plan, target))
        most = min(most, max(LEAST_ROWS, ASK_LINES // max(1, lines)))
    return most if plan.spec.streams is None else min(most, STREAMED_ROWS)


def whole_products(plan: Plan) -> Plan:
    """A plan whose units are some products each."""
    rows, columns = estimate(plan.row_panels), estimate(plan.column_panels)
    return replace(
        plan, row_block=rows, column_block=columns, batch_block=max(1, SMALL_UNIT_CYCLES // inline_cycles(plan))
    )


def parts_of_products(plan: Plan) -> Plan:
    """A plan whose units are rows of one product, and some of its columns where a row panel is much already."""
    tiles = max(1, UNIT_CYCLES // int(tile_cycles(plan, plan.rows, plan.width)))
    panels = estimate(plan.column_panels)
    columns = -(-panels // -(-panels // tiles))
    return replace(plan, row_block=max(1, tiles // columns), column_block=columns)


def asks(plan: Plan, target: Target) -> Iterator[Ask]:
    """Of operands that come from beyond L2 and lie in one piece, product after product or row after row."""
    m, batch = estimate(plan.row_count), estimate(plan.batch_count)
    for operand, piece in enumerate((dense_piece(plan, "a"), dense_piece(plan, "b"))):
        if piece * batch * plan.bytes > target.l2_bytes and (batch > 1 or operand == 0):
            row = -(-piece // m)
            unit = piece if batch > 1 else row
            yield Ask(operand, unit * -(-AHEAD // (unit * plan.bytes)), row)


def lines_of(plan: Plan, found: Iterable[Ask]) -> int:
    """How many lines a row panel asks for."""
    return sum(-(-plan.rows * ask.row * plan.bytes // 64) for ask in found)


def dense_piece(plan: Plan, operand: str) -> int:
    """Elements of an operand that a product reads, if they follow each other in memory, and products too; else 0."""
    lines = (plan.row_count, plan.run.a) if operand == "a" else (plan.spec.n.extent, plan.spec.n.b)
    inner = [lines, *((axis.extent, getattr(axis, operand)) for axis in plan.k)]
    size = 1
    for extent, stride in sorted(((estimate(x), abs(estimate(y))) for x, y in inner), key=lambda axis: axis[1]):
        if stride != size and extent > 1:
            return 0
        size *= extent
    return size if not plan.batch or abs(estimate(getattr(plan.batch[-1], operand))) == size else 0


def unit_cycles(plan: Plan) -> int:
    """About how many cycles a unit takes."""
    if plan.row_blocks == plan.column_blocks == 1:
        return plan.batch_block * inline_cycles(plan)
    return plan.row_block * plan.column_block * int(tile_cycles(plan, plan.rows, plan.width))


def dots_beat(small: Plan, plan: Plan, target: Target) -> bool:
    """Whether tiles of dot products are faster than a small product that packs B, calls and all."""
    shape = dot_shape(plan, target)
    if shape is None:
        return False
    calls = -(-estimate(plan.row_count) // shape[0]) * -(-estimate(plan.spec.n.extent) // plan.lanes)
    return dot_cycles(plan, shape, target) + calls * CALL_CYCLES < inline_cycles(small)


def inline_cycles(plan: Plan) -> int:
    """About how many cycles one product takes."""
    m, n, k = (estimate(x) for x in (plan.row_count, plan.spec.n.extent, plan.depth))
    cycles = 8.0 + (n * k if plan.packed else 0)
    for height, down in ((plan.rows, m // plan.rows), (m % plan.rows, 1)):
        for width, across in ((plan.width, n // plan.width), (n % plan.width, 1)):
            if height and width:
                cycles += down * across * tile_cycles(plan, height, width)
    return int(cycles)


def tile_cycles(plan: Plan, height: int, width: int) -> float:
    """About how many cycles one tile takes."""
    products = height * -(-width // plan.lanes)
    # Tiles that barely hide the latency of additions lose whenever a load is late.
    steps = max(products / 2, (height + products / height) * 0.6, 4) + 4 / products
    return estimate(plan.depth) * steps + products + 4
