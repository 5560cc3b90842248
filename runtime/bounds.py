"""`Bounds`: the memory that a program keeps for the sets of sizes it was fed, each a `Bound` for one call at a time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from graphflow.runtime.bound import Bound
    from graphflow.runtime.call_record import Table

__all__ = ["Bounds"]

KEPT_SIZES, KEPT_BYTES = 64, 1 << 27
"""For how many sets of sizes a program keeps memory, and how many bytes; the oldest give way, save for one."""

Key = tuple[int, ...]


class Bounds:
    """`for bound in bounds` meets all of them.

    Many threads use it without a lock, which a handler of a signal might wait for in vain: it looks at copies, and
    each change is one operation of a dict or list.
    """

    def __init__(self) -> None:
        self._of: dict[Key, list[Bound]] = {}

    def __iter__(self) -> Iterator[Bound]:
        for of_sizes in list(self._of.values()):
            yield from list(of_sizes)

    @property
    def nbytes(self) -> int:
        return sum(bound.nbytes for bound in self)

    def claimed(self, key: Key, hold: Table) -> Bound | None:
        """One for these sizes that no other call is using, now the hold's."""
        return next((bound for bound in list(self._of.get(key, ())) if bound.claim(hold)), None)

    def add(self, key: Key, bound: Bound) -> None:
        """Keep one more; what was fed first gives way to new sizes."""
        if key not in self._of:
            self._make_room()
        self._of.setdefault(key, []).append(bound)

    def _make_room(self) -> None:
        for oldest in list(self._of):
            if len(self._of) < KEPT_SIZES and (len(self._of) == 1 or self.nbytes <= KEPT_BYTES):
                return
            self._of.pop(oldest, None)

    def trim(self) -> int:
        """Let go of those that no call is using; returns how many bytes they have."""
        freed = 0
        for of_sizes in list(self._of.values()):
            for bound in list(of_sizes):
                if bound.retire():
                    of_sizes.remove(bound)
                    freed += bound.nbytes
        return freed

    def clear(self) -> None:
        """Let go of all; a call keeps what it is using until it is done."""
        self.trim()
        self._of.clear()
