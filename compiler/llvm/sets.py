"""Rows of memory that compete for the same sets of a cache: `share_sets`.

>>> share_sets(1024, 4), share_sets(1000, 4)  # of 1024 and of 1000 float32 elements
(True, False)
"""

from __future__ import annotations

from graphflow.core.dim import Size

__all__ = ["share_sets"]

SPAN, LINE = 4096, 64
"""Bytes: rows so far apart, but for less than a line, lie in the same sets of the first cache, in few of the second."""


def share_sets(step: Size | None, size: int) -> bool:
    """Whether rows so many elements of so many bytes apart lie a multiple of SPAN apart, more or less."""
    if not isinstance(step, int) or step == 0:
        return False
    apart = step * size % SPAN
    return min(apart, SPAN - apart) < LINE
