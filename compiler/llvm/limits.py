"""What a running step is held to: a table of int64 words, the last argument of `step` and of `gf_parallel_for`.

    i32 step(ptr buffers, ptr dims, ptr scratch, ptr limits)

Whoever calls a step owns the table and fills it (runtime/call_record.py); null means that there are no limits.
"""

from __future__ import annotations

__all__ = ["LIMIT_WORDS", "THREADS"]

(
    THREADS,  # for how many threads the step's scratch has room
) = (0,)
LIMIT_WORDS = 1
