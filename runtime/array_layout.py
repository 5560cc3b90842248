"""Where CPython and NumPy keep things in memory, and a check that they do.

Offsets are written down for CPython 3.11 to 3.14 and NumPy 2, where all are the same; `check_layout` compares what
memory says at them with what NumPy says about many arrays, before native code relies on any of them.
"""

from __future__ import annotations

import ctypes
import sys
from typing import Any

import numpy as np

__all__ = ["check_layout"]

# In a PyArrayObject, counted from the end of PyObject_HEAD.
HEAD = object.__basicsize__
DATA, NDIM, SHAPE, DESCR, FLAGS = HEAD, HEAD + 8, HEAD + 16, HEAD + 40, HEAD + 48
# The same of a PyArray_Descr: type object; kind, type, byteorder, flags (chars); type_num.
BYTEORDER, TYPE_NUM = HEAD + 10, HEAD + 12
OB_TYPE = HEAD - 8  # ends PyObject_HEAD

C_CONTIGUOUS, ALIGNED, WRITEABLE = 0x1, 0x100, 0x400
FOREIGN_BYTEORDER = ord(">" if sys.byteorder == "little" else "<")


def check_layout() -> None:
    """RuntimeError unless the offsets above give what NumPy says of arrays of many kinds."""
    base = np.arange(24, dtype=np.int32).reshape(2, 3, 4)
    frozen = np.zeros((3, 2))
    frozen.flags.writeable = False
    swapped = np.zeros(2, np.dtype(np.float32).newbyteorder())
    arrays: list[np.ndarray[Any, Any]] = [
        base,
        base.T,
        base[:, ::2],
        base[0, 0, 1:],
        np.zeros(()),
        np.zeros((0, 5), np.float16),
        frozen,
        swapped,
    ]
    arrays += [np.zeros(1, char) for char in "?bBhHiIlLqQefdFD"]
    # Nothing unknown is followed: shapes are read through their pointer only after all around it was found right.
    sound = sys.implementation.name == "cpython" and has_gil() and all(map(laid_out_as_assumed, arrays))
    if not sound or not all(shape_in_memory(array) == array.shape for array in arrays):
        raise RuntimeError(f"internal error: NumPy {np.__version__} keeps arrays in a way that is not known here")


def has_gil() -> bool:
    """Whether one thread at a time runs Python: native calls rely on it to check arguments and take memory."""
    return bool(getattr(sys, "_is_gil_enabled", lambda: True)())


def laid_out_as_assumed(array: np.ndarray[Any, Any]) -> bool:
    """Whether memory at the offsets above says the same about `array` as its attributes do, but for its shape."""
    address, descr = id(array), id(array.dtype)
    flags = ctypes.c_int.from_address(address + FLAGS).value
    return (
        ctypes.c_void_p.from_address(address + OB_TYPE).value == id(type(array))
        and ctypes.c_void_p.from_address(address + DESCR).value == descr
        and ctypes.c_int.from_address(address + NDIM).value == array.ndim
        and ctypes.c_void_p.from_address(address + DATA).value == array.__array_interface__["data"][0]
        and bool(flags & C_CONTIGUOUS) == array.flags.c_contiguous
        and bool(flags & ALIGNED) == array.flags.aligned
        and bool(flags & WRITEABLE) == array.flags.writeable
        and ctypes.c_int.from_address(descr + TYPE_NUM).value == array.dtype.num
        and ctypes.c_char.from_address(descr + BYTEORDER).value == array.dtype.byteorder.encode()
    )


def shape_in_memory(array: np.ndarray[Any, Any]) -> tuple[int, ...]:
    """The shape that native code will see."""
    address = ctypes.c_void_p.from_address(id(array) + SHAPE).value
    return tuple((ctypes.c_ssize_t * array.ndim).from_address(address)) if array.ndim and address else ()
