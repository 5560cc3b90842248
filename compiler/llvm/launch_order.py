"""In which order threads take the units of a launch: `Order`, an argument of `gf_parallel_for`."""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntFlag

__all__ = ["Order"]


class Order(IntFlag):
    """Which units a thread takes next; orders are combined by `|`."""

    SHARES = 0
    """Each thread those of its own share, from the first to the last, then those of others."""

    TOGETHER = 1
    """All threads take the next units of all: neighbours read the same, and had better do so at the same time."""

    TURNING = 2
    """Every other time from the last unit to the first: what was touched last is still in the caches then."""

    @staticmethod
    def of_job(orders: Sequence[Order], *, pieces: bool) -> Order:
        """The order of launches that run as one job.  Of `pieces`, whose units come side by side, it is theirs.

        Else the launch with the largest units comes first, for all threads, so that the last units are small ones; and
        each thread goes from one launch to the next.
        """
        return orders[0] if len(set(orders)) == 1 and (pieces or len(orders) == 1) else Order.TOGETHER
