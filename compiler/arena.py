"""Offsets for buffers that live for a while: `place`, and the least that any placement needs: `least`.

    wanted = [(6400, 0, 1), (6400, 1, 2), (6400, 2, 3)]      bytes, first wave, last wave
    place(wanted)                                            ([0, 6400, 0], 12800)
    least(wanted)                                            12800: waves 1 and 2 need two of them

The largest first, each into the smallest gap that is free throughout its lifetime (Pisarchyk and Lee 2020, "Efficient
Memory Management for Deep Neural Net Inference", greedy by size).  Where that leaves holes, other orders are tried.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

__all__ = ["ALIGNMENT", "Lifetime", "least", "place"]

ALIGNMENT = 64

Lifetime = tuple[int, int, int]
"""Bytes, first wave, last wave."""

EFFORT = 4096
"""How many buffers are placed again to mend an order."""

GOOD = 1.02
"""So near to the least nothing is mended."""

ORDERS: tuple[Callable[[Lifetime], tuple[int, ...]], ...] = (
    lambda want: (-want[0], want[1]),
    lambda want: (want[1] - want[2], -want[0]),
    lambda want: (-want[0] * (want[2] - want[1] + 1), want[1]),
    lambda want: (want[1], -want[0]),
)
"""The largest first; the longest lived; the largest area; the earliest."""


def place(wanted: Sequence[Lifetime]) -> tuple[list[int], int]:
    """Offsets for buffers, and the bytes of the arena: no two that live at once overlap."""
    goal = least(wanted)
    neighbours = _neighbours(wanted)
    best: tuple[list[int], int] | None = None
    for order_of in ORDERS:
        order = sorted(range(len(wanted)), key=lambda n: (*order_of(wanted[n]), n))
        for _ in range(1 + EFFORT // (len(wanted) + 1)):
            found = _packed(wanted, order, neighbours)
            if best is None or found[1] < best[1]:
                best = found
            if best[1] <= GOOD * goal:
                return best
            order = _mended(wanted, order, found)
    assert best is not None
    return best


def least(wanted: Sequence[Lifetime]) -> int:
    """The most bytes that are alive in one wave: no arena can be smaller."""
    change: dict[int, int] = {}
    for size, first, last in wanted:
        change[first] = change.get(first, 0) + _padded(size)
        change[last + 1] = change.get(last + 1, 0) - _padded(size)
    most = alive = 0
    for wave in sorted(change):
        alive += change[wave]
        most = max(most, alive)
    return most


def _neighbours(wanted: Sequence[Lifetime]) -> list[list[int]]:
    """For each buffer those that are alive with it; takes time linear in what it finds."""
    found: list[list[int]] = [[] for _ in wanted]
    alive: list[int] = []
    for n in sorted(range(len(wanted)), key=lambda n: wanted[n][1]):
        alive = [m for m in alive if wanted[m][2] >= wanted[n][1]]
        found[n].extend(alive)
        for m in alive:
            found[m].append(n)
        alive.append(n)
    return found


def _packed(
    wanted: Sequence[Lifetime], order: Sequence[int], neighbours: Sequence[Sequence[int]]
) -> tuple[list[int], int]:
    """One buffer after the other, each in the smallest gap that it fits in, else on top."""
    spans: list[tuple[int, int] | None] = [None] * len(wanted)  # where each buffer starts and ends
    offsets = [0] * len(wanted)
    total = 0
    for n in order:
        size = _padded(wanted[n][0])
        gap, offset, top = total + 1, -1, 0
        for start, end in sorted([span for m in neighbours[n] if (span := spans[m]) is not None]):
            if size <= start - top < gap:
                gap, offset = start - top, top
            if end > top:
                top = end
        offsets[n] = top if offset < 0 else offset
        spans[n] = offsets[n], offsets[n] + size
        total = max(total, offsets[n] + size)
    return offsets, total


def _mended(wanted: Sequence[Lifetime], order: Sequence[int], found: tuple[list[int], int]) -> list[int]:
    """The order with what stands highest first."""
    offsets, total = found
    high = [n for n in order if offsets[n] + _padded(wanted[n][0]) == total]
    return high + [n for n in order if n not in high]


def _padded(size: int) -> int:
    return -(-max(size, 1) // ALIGNMENT) * ALIGNMENT
