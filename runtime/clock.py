"""The clock of recorded runs: CLOCK_MONOTONIC, which machine code reads (stamps.py), in nanoseconds.

clock()                         # now
moment - clocks_apart()         # the same moment as time.perf_counter_ns() has it
"""

from __future__ import annotations

import functools
import time

__all__ = ["clock", "clocks_apart"]


def clock() -> int:
    """Now; Python's own clock where the system has no CLOCK_MONOTONIC, and machine code takes no time."""
    return time.perf_counter_ns() + clocks_apart()


@functools.cache
def clocks_apart() -> int:
    """How far CLOCK_MONOTONIC is ahead of Python's clock: 0 where they are the same."""
    same = "CLOCK_MONOTONIC" in time.get_clock_info("perf_counter").implementation
    if same or not hasattr(time, "CLOCK_MONOTONIC"):
        return 0
    return time.clock_gettime_ns(time.CLOCK_MONOTONIC) - time.perf_counter_ns()
