"""What a tile asks memory for while it is worked on: places that later tiles read.

    BlockAhead    a part of the next block, in the order of memory
    RowsAhead     the rows of the tile, some hundred bytes further

Both say it as the values of loop variables at each cache line: `places`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from graphflow.compiler.llvm.code import const, divmod_
from graphflow.core.dim import Symbol

__all__ = ["BlockAhead", "RowsAhead"]

LINE = 64
"""Bytes of a cache line."""

DISTANCE = 512
"""Bytes between what a tile reads and what it asks for in the same rows: eight lines were the fastest of 2 to 16."""

Place = dict[Symbol, Any]


@dataclass(frozen=True)
class BlockAhead:
    """The block of tiles after the one that is worked on, of which each tile fetches a part.

    `start` are the row variables, the lane and the tile's turn at its start; the tile is the `number`th of its block,
    which has `turns` turns of the tile's loop.  `by_pieces`: see `tile.py`.
    """

    start: Place
    number: Any
    turns: int
    by_pieces: bool
    locality: ClassVar[int] = 2  # a block is larger than the first cache

    def places(self, b: Any, lane: Symbol, tile: Symbol, width: int, size: int) -> list[Place]:
        """As many lines as a tile of `width` rows reads, of elements of `size` bytes."""
        line = max(LINE // size, 1)
        lines, per_row = max(width * width // line, 1), max(self.turns // line, 1)
        found = []
        for n in range(lines):
            row, turn = divmod_(b, b.add(b.mul(self.number, const(lines)), const(n)), const(per_row))
            first, there = b.add(self.start[lane], row), b.add(self.start[tile], b.mul(turn, const(line)))
            found.append({**self.start, lane: first, tile: there})
        return found


@dataclass(frozen=True)
class RowsAhead:
    """What comes next in the rows of a strip, from `first` on and `turns` turns of the tile's loop long: the rest of
    the strip, then the start of the next rows.  `lane` and `turn` are where the tile stands."""

    lane: Any
    turn: Any
    first: Any
    turns: Any
    by_pieces: ClassVar[bool] = True
    locality: ClassVar[int] = 3

    def places(self, b: Any, lane: Symbol, tile: Symbol, width: int, size: int) -> list[Place]:
        """The start of each row of the tile there."""
        done = b.add(b.sub(self.turn, self.first), const(max(DISTANCE // size // width, 1) * width))
        over = b.icmp_signed(">=", done, self.turns)
        left = b.select(over, b.sub(done, self.turns), done)
        within = b.select(b.icmp_signed("<", left, self.turns), left, const(0))
        turn, start = b.add(self.first, within), b.select(over, b.add(self.lane, const(width)), self.lane)
        return [{lane: b.add(start, const(n)), tile: turn} for n in range(width)]
