"""Arrays that end where memory ends: whoever reads or writes past them dies by SIGSEGV.

x = guarded(values)                      # a copy whose last byte is the last one before a page of no access
x = guarded(values, at_end=False)        # its first byte is the first one behind such a page
"""

from __future__ import annotations

import ctypes
import mmap
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

__all__ = ["PLACES", "guarded", "guarded_empty"]

Array = np.ndarray[Any, Any]

PAGE = mmap.PAGESIZE
NO_ACCESS = 0
LIBC = ctypes.CDLL(None, use_errno=True)


def guarded_empty(shape: Sequence[int], dtype: Any, at_end: bool = True) -> Array:
    """An array of zeros between two pages that nobody may touch, at the end or the beginning of what lies between."""
    dtype = np.dtype(dtype)
    size = int(np.prod(shape, dtype=int)) * dtype.itemsize
    inner = -(-max(size, 1) // PAGE) * PAGE
    memory = mmap.mmap(-1, inner + 2 * PAGE)
    bytes_ = np.frombuffer(memory, np.uint8)
    for page in (0, PAGE + inner):
        _forbid(bytes_.ctypes.data + page)
    start = PAGE + (inner - size if at_end else 0)
    return bytes_[start : start + size].view(dtype).reshape(shape)


def guarded(values: Array, at_end: bool = True) -> Array:
    """A copy of an array, in such memory."""
    copy = guarded_empty(values.shape, values.dtype, at_end)
    copy[...] = values
    return copy


def _forbid(address: int) -> None:
    if LIBC.mprotect(ctypes.c_void_p(address), ctypes.c_size_t(PAGE), NO_ACCESS):
        raise OSError(ctypes.get_errno(), "mprotect")


def read_only(x: Array) -> Array:
    x = guarded(x)
    x.flags.writeable = False
    return x


def unaligned(x: Array) -> Array:
    """One byte before the end."""
    raw = guarded_empty((x.nbytes + 1,), np.uint8)
    view = raw[:-1].view(x.dtype).reshape(x.shape)
    view[...] = x
    return view


def every_other(x: Array) -> Array:
    """Every second element of each axis of a larger array."""
    view = guarded_empty(tuple(2 * n for n in x.shape), x.dtype)[(..., *(slice(1, None, 2) for _ in x.shape))]
    view[...] = x
    return view


def swapped(x: Array) -> Array:
    """The bytes of each element the other way round."""
    return guarded(x).astype(x.dtype.newbyteorder())


PLACES: dict[str, Callable[[Array], Array]] = {
    "end": guarded,
    "begin": lambda x: guarded(x, at_end=False),
    "read-only": read_only,
    "unaligned": unaligned,
    "every other": every_other,
    "swapped": swapped,
    "Fortran": lambda x: guarded(x.T).T,
    "reversed": lambda x: guarded(np.flip(x))[(..., *(slice(None, None, -1) for _ in x.shape))],
}
