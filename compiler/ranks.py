"""An order in which groups can run, kept up while groups merge: `may_merge`, `merge_ranks`.

Every group has a `rank`, smaller than those of the groups that use it; so a search for a path between two groups needs
to look at the groups ranked between them only.  When two become one, the groups that lie between them and depend on
either change places (D. J. Pearce, P. H. J. Kelly: A dynamic topological sort algorithm for directed acyclic graphs,
ACM Journal of Experimental Algorithmics 11, 2006).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

__all__ = ["Ranked", "may_merge", "merge_ranks"]


class Ranked(Protocol):
    """What needs others and is used by others."""

    rank: int

    @property
    def needs(self) -> Iterable[Ranked]:
        """What must run before."""

    @property
    def users(self) -> Iterable[Ranked]:
        """What must run after."""


def may_merge(a: Ranked, b: Ranked) -> bool:
    """Whether a and b can be one, b running after a where it uses it: nothing needs one of them for the other."""
    if a.rank > b.rank:
        return a not in b.users and not _is_detour(b, a)
    return not _is_detour(a, b)


def _is_detour(early: Ranked, late: Ranked) -> bool:
    """Whether a third group needs `early` and is needed for `late`; looks from both ends, a step each at a time."""
    after, before = {early}, {late}
    ahead, behind = [early], [late]
    while ahead and behind:
        group = ahead.pop()
        for other in group.users:
            if other in before and not (group is early and other is late):
                return True
            if other.rank < late.rank and other not in after:
                after.add(other)
                ahead.append(other)
        group = behind.pop()
        for other in group.needs:
            if other in after and not (group is late and other is early):
                return True
            if other.rank > early.rank and other not in before:
                before.add(other)
                behind.append(other)
    return False


def merge_ranks(a: Ranked, b: Ranked) -> None:
    """Rank a where both can run, and what lies between them accordingly; call this while both have their neighbours."""
    early, late = (a, b) if a.rank < b.rank else (b, a)
    after, before = _between(early, late), _between(late, early)
    ranks = sorted(group.rank for group in (*after, *before, a, b))
    order = [*sorted(before, key=_rank), a, *sorted(after, key=_rank)]
    for group, rank in zip(order, ranks, strict=False):  # one rank is left over
        group.rank = rank


def _between(start: Ranked, goal: Ranked) -> list[Ranked]:
    """What depends on `start`, or what `start` depends on, on the way to where `goal` is ranked."""
    forward = start.rank < goal.rank
    low, high = sorted((start.rank, goal.rank))
    found: dict[Ranked, None] = {}
    stack = [start]
    while stack:
        group = stack.pop()
        for other in group.users if forward else group.needs:
            if low < other.rank < high and other not in found:
                found[other] = None
                stack.append(other)
    return list(found)


def _rank(group: Ranked) -> int:
    return group.rank
