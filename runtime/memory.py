"""Aligned memory for arrays.  Large results live in memory that is recycled (`native_memory_code.py`)."""

from __future__ import annotations

import ctypes
import math
import sys
from typing import Any

import numpy as np

from graphflow.runtime.memory_limit import available

__all__ = ["RECYCLED", "aligned_empty", "most_kept", "return_to_system"]

Array = np.ndarray[Any, Any]
ALIGNMENT = 64
RECYCLED = 1 << 16
"""From this many bytes on the memory of results is recycled, so that they cost no page faults; less is quicker to get
from NumPy."""
KEPT = 1 << 28
"""How many idle bytes of it a process may always keep."""
KEPT_SHARE = 16
"""Where there is much memory it keeps more, one part in so many of what there is."""


def most_kept() -> int:
    """How many idle bytes this process keeps at most."""
    return max(KEPT, (available() or 0) // KEPT_SHARE)


def return_to_system() -> None:
    """Ask glibc to give freed pages back that it keeps between others; other C libraries do so by themselves."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim is not None:
        trim(0)


def aligned_empty(shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    """An uninitialized array at a multiple of 64 bytes."""
    size = math.prod(shape) * dtype.itemsize
    raw = np.empty(size + ALIGNMENT, np.uint8)
    start = -raw.ctypes.data % ALIGNMENT
    return raw[start : start + size].view(dtype).reshape(shape)
