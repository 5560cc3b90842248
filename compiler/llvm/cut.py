"""A schedule, and how the loops of a kernel are cut into units of work for each kind of it: values only.

    tiled(rows, lane, tile, width, weight, None)        rectangles of tiles, each about UNIT_WEIGHT of work
    chunked(rows, lane, vectors, width, per_lane)       parts of the lanes' loop

`schedule.make_schedule` decides which kind.
"""

from __future__ import annotations

from dataclasses import dataclass

from graphflow.compiler.llvm.ahead import Ahead
from graphflow.compiler.llvm.jam import Jam
from graphflow.compiler.llvm.panel_choose import (
    PANEL_REGISTERS,
    PANEL_SLACK,
    Turns,
    panel_lanes,
    panel_turns,
    panel_vectors,
)
from graphflow.compiler.llvm.target import Target
from graphflow.compiler.loops.ir import Buffer, Expr, Loop, Store
from graphflow.core.dim import Size, ceildiv, estimate, product
from graphflow.core.type import static

__all__ = ["UNIT_WEIGHT", "Schedule", "chunked", "in_runs", "in_strips", "panelled", "tiled"]

UNIT_WEIGHT = 65_536
"""About how much work a unit is, in scalar operations; a few microseconds."""

SQUARE = 128
"""Rows and lanes whose tiles follow each other: a line of either side, or a page, is in a cache until it is done."""

STREAMED_TALL, STREAMED_WIDE = 256, 128
"""Turns of the tile's loop and lanes of a block whose tiles follow each other on the way past the caches.  Memory is
read in pieces of so many turns, and written in pieces of so many lanes; two blocks of any type fit into a second cache,
the one that is worked on and the next, which is fetched meanwhile."""

STREAMED_UNIT = 8
"""Blocks of a unit: the last one has no next one that its thread can be sure of."""

STRIP_TURNS, STRIP_VECTORS = 512, 4
"""Turns of the tile's loop, and vectors of lanes, of a block whose tiles go past the caches to rows that begin
anywhere: memory is read in pieces of so many turns, and written in pieces of so many vectors."""

STRIP_SHARE = 3
"""Two such blocks take at most one such part of a second cache: what they are made of passes through it too."""

STRIP_UNIT = 16
"""Blocks of a unit: the first is written by none, and the last meets none that is read."""


@dataclass(frozen=True)
class Schedule:
    """Row loops, the vectorised loop if any, vectors at once, and what a unit is: rows, or a chunk of the one row.

    With `tile`, vectors at once are turns of that row loop; `rows` holds neither it nor the one to `jam`.
    """

    rows: tuple[Loop, ...]
    lane: Loop | None
    vectors: int
    rows_per_unit: Size
    chunk: Size
    units: Size
    unit_weight: int
    tile: Loop | None = None
    jam: Jam | None = None
    inner: Loop | None = None
    stream: Store | None = None  # the store that goes past the caches
    panel: tuple[Expr, ...] = ()  # reductions whose totals lie in memory
    turns: Turns | None = None  # how panels take their rows
    ahead: tuple[Ahead, ...] = ()
    beside: Expr | None = None  # the stage beside which the row before is stored
    side_by_side: bool = False  # lanes are short rows, each reduced along itself
    by_parts: bool = False  # chunks: all rows of a part of the lanes before the next part
    aligned: Expr | None = None  # the load whose vectors tiles begin with
    square: tuple[int, int] = (SQUARE, SQUARE)  # rows and lanes whose tiles follow each other
    down: bool = False  # squares follow each other along the tile's loop, in the order of what is transposed
    aside: Buffer | None = None  # where tiles wait until they make whole vectors of memory

    @property
    def totals(self) -> tuple[Buffer, ...]:
        """The thread's memory: for panels, with room for one block of vectors more than there are lanes, or aside."""
        panels = (Buffer(e.dtype, static(self.chunk) + PANEL_SLACK) for e in self.panel)
        return (*panels, *(() if self.aside is None else (self.aside,)))


def tiled(rows: tuple[Loop, ...], lane: Loop, tile: Loop, width: int, weight: int, stream: Store | None) -> Schedule:
    """Units are rectangles of tiles; `weight` is that of one row."""
    rows = tuple(loop for loop in rows if loop is not tile)
    tall, wide = (max(estimate(loop.extent), 1) for loop in (tile, lane))
    high, broad = (SQUARE, SQUARE) if stream is None else (STREAMED_TALL, STREAMED_WIDE)
    square = max(weight // wide, 1) * min(tall, high) * min(wide, broad)
    per_unit = max(UNIT_WEIGHT // square, 1 if stream is None else STREAMED_UNIT)
    sides = ceildiv(tile.extent, high) * ceildiv(lane.extent, broad)
    units = ceildiv(product(tuple(loop.extent for loop in rows)) * sides, per_unit)
    return Schedule(rows, lane, width, per_unit, 0, units, square * per_unit, tile, stream=stream, square=(high, broad))


def in_strips(
    rows: tuple[Loop, ...], lane: Loop, tile: Loop, width: int, weight: int, stream: Store, target: Target
) -> Schedule:
    """Units are runs of blocks of tiles; `weight` is that of one row."""
    rows, dtype = tuple(loop for loop in rows if loop is not tile), stream.value.dtype
    broad, high = STRIP_VECTORS * width, STRIP_TURNS
    while high > width and STRIP_SHARE * 2 * high * (broad + width) * dtype.size > target.l2_bytes:
        high //= 2
    tall, wide = (max(estimate(loop.extent), 1) for loop in (tile, lane))
    block = max(weight // wide, 1) * min(tall, high) * min(wide, broad)
    blocks = product(tuple(loop.extent for loop in rows)) * ceildiv(tile.extent, high) * ceildiv(lane.extent, broad)
    return Schedule(
        rows, lane, width, STRIP_UNIT, 0, ceildiv(blocks, STRIP_UNIT), block * STRIP_UNIT, tile, stream=stream,
        square=(high, broad), aside=Buffer(dtype, 2 * high * (broad + width) + width),
    )  # fmt: skip


def in_runs(rows: tuple[Loop, ...], lane: Loop, jam: Jam, vectors: int, weight: int, stream: Store | None) -> Schedule:
    """Units are runs of turns of the jammed loop; `weight` is that of one turn."""
    length = min(SQUARE // jam.turns, -(-max(estimate(jam.loop.extent), 1) // jam.turns)) * jam.turns
    per_unit = max(UNIT_WEIGHT // (length * weight), 1)
    units = ceildiv(product(tuple(one.extent for one in rows)) * ceildiv(jam.loop.extent, length), per_unit)
    return Schedule(
        rows, lane, vectors, per_unit, 0, units, length * weight * per_unit, jam=jam, stream=stream, square=(length, 0)
    )  # fmt: skip


def chunked(
    rows: tuple[Loop, ...],
    lane: Loop,
    vectors: int,
    width: int,
    per_lane: int,
    inner: Loop | None = None,
    most: int = 0,
) -> Schedule:
    """Units are parts of the lanes' loop, of so many lanes at the most; `per_lane` is the weight of one lane."""
    block = width * vectors
    chunk = max(min(UNIT_WEIGHT // per_lane, most or UNIT_WEIGHT) // block, 1) * block
    units = product(tuple(loop.extent for loop in rows)) * ceildiv(lane.extent, chunk)
    return Schedule(rows, lane, vectors, 1, chunk, units, per_lane * chunk, inner=inner)


def panelled(
    rows: tuple[Loop, ...],
    lane: Loop,
    panel: tuple[Expr, ...],
    width: int,
    vectors: int,
    weight: int,
    target: Target,
) -> Schedule:
    """Units are panels of lanes, all of about the same width; `weight` is that of one row."""
    vectors = min(target.vector_registers // PANEL_REGISTERS, vectors)
    block, extent = width * vectors, max(estimate(lane.extent), 1)
    count = product(tuple(loop.extent for loop in rows))
    chunk = panel_lanes(panel, extent, estimate(count), block, target)
    units = count * ceildiv(lane.extent, chunk)
    turns = panel_turns(panel, lane, chunk)
    vectors = panel_vectors(panel, turns, vectors)
    return Schedule(rows, lane, vectors, 1, chunk, units, max(weight // extent, 1) * chunk, panel=panel, turns=turns)
