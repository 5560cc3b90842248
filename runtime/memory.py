"""Memory for arrays: aligned, and recycled where it is large, so that results cost no page faults.

pool = OutputPool()
y = pool.empty((2048, 2048), np.dtype("float32"))    # when the last view of y is gone, its memory serves again
"""

from __future__ import annotations

import math
import threading
from typing import Any

import numpy as np

__all__ = ["OutputPool", "aligned_empty"]

Array = np.ndarray[Any, Any]
ALIGNMENT = 64
RECYCLED = 1 << 16
"""From this many bytes on memory is recycled; less is quicker to get from NumPy."""
KEPT = 1 << 28
"""How many idle bytes a pool keeps at most."""


def aligned_empty(shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    """An uninitialized array at a multiple of 64 bytes."""
    size = math.prod(shape) * dtype.itemsize
    raw = np.empty(size + ALIGNMENT, np.uint8)
    start = -raw.ctypes.data % ALIGNMENT
    return raw[start : start + size].view(dtype).reshape(shape)


class OutputPool:
    """Arrays whose memory comes back when nobody holds them any more."""

    def __init__(self) -> None:
        self._idle: dict[int, list[Array]] = {}
        self._bytes = 0
        self._lock = threading.RLock()  # reentrant: an array may be collected while another is made

    def empty(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
        """An uninitialized array of the caller's own."""
        size = math.prod(shape) * dtype.itemsize
        if size < RECYCLED:
            return np.empty(shape, dtype)
        with self._lock:
            blocks = self._idle.get(size)
            block = blocks.pop() if blocks else None
            self._bytes -= size if block is not None else 0
        lease = _Lease(self, aligned_empty((size,), np.dtype(np.uint8)) if block is None else block)
        return np.asarray(lease).view(dtype).reshape(shape)

    def take_back(self, block: Array) -> None:
        """Keep a block for the next array of its size, if there is room."""
        with self._lock:
            if self._bytes + block.nbytes <= KEPT:
                self._idle.setdefault(block.nbytes, []).append(block)
                self._bytes += block.nbytes

    def trim(self) -> int:
        """Give idle memory back; returns how many bytes."""
        with self._lock:
            freed, self._bytes = self._bytes, 0
            self._idle.clear()
        return freed


class _Lease:
    """The owner of a block for as long as an array on it lives; NumPy keeps it as the array's base."""

    def __init__(self, pool: OutputPool, block: Array) -> None:
        self._pool, self._block = pool, block
        self.__array_interface__ = block.__array_interface__

    def __del__(self) -> None:
        self._pool.take_back(self._block)
