"""When a run has to be done: moments of the clock that machine code reads, in nanoseconds.

deadline = deadline_in(options.timeout_in_ms)     # NEVER for 0
seconds_left(deadline)                            # None if there is none
"""

from __future__ import annotations

import time

from graphflow.compiler.llvm.limits import NEVER

__all__ = ["NEVER", "deadline_in", "seconds_left"]


def deadline_in(milliseconds: float) -> int:
    """The moment that is so far away; NEVER for 0, as TensorFlow has it."""
    return _now() + round(milliseconds * 1_000_000) if milliseconds > 0 else NEVER


def seconds_left(deadline: int) -> float | None:
    """How long until then, 0 if it has passed; None if it never comes."""
    return None if deadline == NEVER else max(deadline - _now(), 0) / 1e9


def _now() -> int:
    return time.clock_gettime_ns(time.CLOCK_MONOTONIC) if hasattr(time, "CLOCK_MONOTONIC") else time.monotonic_ns()
