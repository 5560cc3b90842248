"""What a running step is held to: a table of int64 words, the last argument of `step` and of `gf_parallel_for`.

    i32 step(ptr buffers, ptr dims, ptr scratch, ptr limits)

Whoever calls a step owns the table and fills it (runtime/native_call.py); null means that there are no limits.  The
thread that runs the step looks at the clock now and then (`gf_poll`).  When NEXT_LOOK has come it calls LOOK, which
sets STOP or a later NEXT_LOOK.  Once STOP is set nobody begins another block of units, and the step returns STOPPED
with its work half done: it is for the caller to have given it memory where that does no harm.
"""

from __future__ import annotations

__all__ = [
    "DEADLINE",
    "INTERRUPTED",
    "LATE",
    "LIMIT_WORDS",
    "LOOK",
    "LOOK_NS",
    "NEVER",
    "NEXT_LOOK",
    "STATE",
    "STOP",
    "STOPPED",
    "THREADS",
]

(
    STOP,  # why the step has to stop, INTERRUPTED or LATE; 0: it need not
    THREADS,  # for how many threads the step's scratch has room
    NEXT_LOOK,  # in nanoseconds of CLOCK_MONOTONIC; NEVER where the step must run to its end
    LOOK,  # void look(ptr limits, i64 now)
    DEADLINE,  # for LOOK: when the step has to stop, or NEVER
    STATE,  # for LOOK: Python's state of the thread, which has given up the GIL
) = range(6)
LIMIT_WORDS = STATE + 1

INTERRUPTED, LATE = 1, 2
"""A SIGINT has come; it is past the deadline."""

NEVER = (1 << 63) - 1
STOPPED = 2
"""The status of a step that has stopped; 0 is that of one that has run to its end."""

LOOK_NS = 100_000
"""Work of so many nanoseconds, by the estimate of the kernels, passes between two looks at the clock."""
