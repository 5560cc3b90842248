"""Aligned memory for arrays.  Large results live in memory that is recycled (`native_memory_code.py`)."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

__all__ = ["KEPT", "RECYCLED", "aligned_empty"]

Array = np.ndarray[Any, Any]
ALIGNMENT = 64
RECYCLED = 1 << 16
"""From this many bytes on the memory of results is recycled, so that they cost no page faults; less is quicker to get
from NumPy."""
KEPT = 1 << 28
"""How many idle bytes of it a process keeps at most."""


def aligned_empty(shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    """An uninitialized array at a multiple of 64 bytes."""
    size = math.prod(shape) * dtype.itemsize
    raw = np.empty(size + ALIGNMENT, np.uint8)
    start = -raw.ctypes.data % ALIGNMENT
    return raw[start : start + size].view(dtype).reshape(shape)
