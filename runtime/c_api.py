"""CPython's and NumPy's C functions for native code, and builtins made of native code.

declare_c_api()                              # code compiled from now on may call what is named below
f = new_builtin("f", address, METH_O, state) # `state` is the first argument of the C function, and f.__self__
"""

from __future__ import annotations

import ctypes
import functools
import sys
from typing import Any

import numpy as np

from graphflow.compiler.llvm.load import declare_symbol

__all__ = ["METH_FASTCALL", "METH_KEYWORDS", "METH_NOARGS", "METH_O", "declare_c_api", "new_builtin"]

METH_KEYWORDS, METH_NOARGS, METH_O, METH_FASTCALL = 0x02, 0x04, 0x08, 0x80

CPYTHON = (
    "PyCapsule_GetPointer",
    "PyCapsule_New",
    "PyDict_Update",
    "PyErr_CheckSignals",
    "PyErr_Clear",
    "PyErr_NoMemory",
    "PyErr_Occurred",
    "PyErr_SetInterrupt",
    "PyErr_SetString",
    "PyErr_WriteUnraisable",
    "PyEval_RestoreThread",
    "PyEval_SaveThread",
    "PyList_New",
    "PyList_SetItem",
    "PyLong_FromLongLong",
    "PyMem_RawFree",
    "PyMem_RawMalloc",
    "PyOS_InterruptOccurred",
    "PyObject_Vectorcall",
    "PySequence_GetItem",
    "PySequence_Size",
    "PyThread_get_thread_ident",
    "PyTuple_GetItem",
    "PyTuple_New",
    "PyTuple_SetItem",
    "PyTuple_Size",
    "PyType_IsSubtype",
    "Py_DecRef",
    "Py_IncRef",
)

NUMPY = {"PyArray_Scalar": 60, "PyArray_NewFromDescr": 94, "PyArray_SetBaseObject": 282}
"""Places in NumPy's table of functions, which is the same in all versions since 1.7."""

NDARRAY_TYPE = 2

OBJECTS = {
    "gf_list": list,
    "gf_ndarray": np.ndarray,
    "gf_none": None,
    "gf_out": sys.intern("out"),  # the one object that calls with this keyword pass as its name
    "gf_runtime_error": RuntimeError,
    "gf_true": True,
    "gf_tuple": tuple,
}
"""What lives as long as the process, and is compared by address."""


def declare_c_api() -> None:
    """Make C functions, and `OBJECTS`, known to compiled code.

    RuntimeError if NumPy's table is not what its headers say.
    """
    for name in CPYTHON:
        declare_symbol(name, address_of_function(name))
    table = numpy_table()
    for name, place in NUMPY.items():
        declare_symbol(name, table[place])
    for name, value in OBJECTS.items():
        declare_symbol(name, id(value))


def address_of_function(name: str) -> int:
    """Where a function of CPython's starts."""
    address = ctypes.cast(getattr(ctypes.pythonapi, name), ctypes.c_void_p).value
    assert address is not None
    return address


@functools.cache
def numpy_table() -> Any:
    """NumPy's table of C functions, tried out. RuntimeError if it is not what its headers say."""
    get = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.py_object, ctypes.c_char_p)(
        ("PyCapsule_GetPointer", ctypes.pythonapi)
    )
    core = getattr(np, "_core", None) or np.core
    address = get(core._multiarray_umath._ARRAY_API, None)
    table = (ctypes.c_size_t * (max(NUMPY.values()) + 1)).from_address(address)
    if table[NDARRAY_TYPE] != id(np.ndarray) or not makes_arrays(table):
        raise RuntimeError(f"internal error: NumPy {np.__version__} offers its functions in a way that is not known")
    return table


def makes_arrays(table: Any) -> bool:
    """Whether the functions do what they are used for: scalars and arrays of given memory."""
    pointer, number, thing = ctypes.c_void_p, ctypes.c_int, ctypes.py_object
    new = ctypes.PYFUNCTYPE(thing, thing, thing, number, pointer, pointer, pointer, number, pointer)
    scalar = ctypes.PYFUNCTYPE(thing, pointer, thing, pointer)(table[NUMPY["PyArray_Scalar"]])
    dtype, shape, value = np.dtype(np.int32), (ctypes.c_ssize_t * 2)(2, 3), np.array([7], np.int32)
    ctypes.pythonapi.Py_IncRef(thing(dtype))  # PyArray_NewFromDescr takes a reference
    made = new(table[NUMPY["PyArray_NewFromDescr"]])(np.ndarray, dtype, 2, shape, None, None, 0, None)
    seven = scalar(value.ctypes.data, dtype, None)
    return type(made) is np.ndarray and made.shape == (2, 3) and made.dtype == dtype and seven == value[0]


class MethodDef(ctypes.Structure):
    """CPython's PyMethodDef."""

    _fields_ = (
        ("name", ctypes.c_char_p),
        ("function", ctypes.c_void_p),
        ("flags", ctypes.c_int),
        ("doc", ctypes.c_char_p),
    )


def new_builtin(name: str, address: int, flags: int, state: object, doc: str = "") -> Any:
    """A builtin function around native code. It holds a reference to `state`."""
    new = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.c_void_p, ctypes.py_object, ctypes.py_object)(
        ("PyCFunction_NewEx", ctypes.pythonapi)
    )
    return new(method_definition(name, address, flags, doc), state, "graphflow")


@functools.cache
def method_definition(name: str, address: int, flags: int, doc: str) -> int:
    """The address of a PyMethodDef that lives for ever, as CPython wants; there are a few in all."""
    definition = MethodDef(name.encode(), address, flags, doc.encode() or None)
    _definitions.append(definition)
    return ctypes.addressof(definition)


_definitions: list[MethodDef] = []
