"""The element types: `float32`, `int32`, `bool`, ... and `as_dtype` for whatever a user calls one.

A new type is one row of the table at the end.
"""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = [
    "DTYPES",
    "DType",
    "as_dtype",
    "bool_",
    "float32",
    "float64",
    "int8",
    "int16",
    "int32",
    "int64",
    "uint8",
    "uint32",
    "uint64",
]


class DType:
    """An element type with TensorFlow's names; equal to its name and to the NumPy dtype it stands for."""

    __slots__ = ("kind", "name", "numpy", "size")

    def __init__(self, name: str, kind: str) -> None:
        self.name = name
        self.kind = kind  # "float", "int", "uint" or "bool"
        self.numpy: np.dtype[Any] = np.dtype(name)
        self.size: int = self.numpy.itemsize  # bytes

    @property
    def as_numpy_dtype(self) -> type:
        return self.numpy.type

    @property
    def base_dtype(self) -> DType:
        return self

    @property
    def real_dtype(self) -> DType:
        return self

    @property
    def is_floating(self) -> bool:
        return self.kind == "float"

    @property
    def is_integer(self) -> bool:
        return self.kind in ("int", "uint")

    @property
    def is_bool(self) -> bool:
        return self.kind == "bool"

    @property
    def is_complex(self) -> bool:
        return False

    @property
    def min(self) -> Any:
        return np.finfo(self.numpy).min if self.is_floating else np.iinfo(self.numpy).min

    @property
    def max(self) -> Any:
        return np.finfo(self.numpy).max if self.is_floating else np.iinfo(self.numpy).max

    def __eq__(self, other: object) -> bool:
        if isinstance(other, DType):
            return self is other
        try:
            return self is as_dtype(other)
        except TypeError:
            return False

    def __hash__(self) -> int:
        return hash(self.name)

    def __repr__(self) -> str:
        return f"tf.{self.name}"

    def __str__(self) -> str:
        return self.name

    def __reduce__(self) -> tuple[Any, ...]:
        return as_dtype, (self.name,)


def as_dtype(value: Any) -> DType:
    """The DType that `value` names: a DType, a NumPy dtype or scalar type, a Python type or a string.

    Raises TypeError naming the types that exist.
    """
    if isinstance(value, DType):
        return value
    if isinstance(value, str) and value in DTYPES:
        return DTYPES[value]
    if value is float:
        return float32
    if value is int:
        return int32
    try:
        name = np.dtype(value).name if value is not None else None
    except TypeError:
        name = None
    if name is None or name not in DTYPES:
        raise TypeError(f"{value!r} is not an element type of graphflow; there are {', '.join(DTYPES)}")
    return DTYPES[name]


DTYPES = {
    name: DType(name, kind)
    for name, kind in (
        ("float32", "float"),
        ("float64", "float"),
        ("int8", "int"),
        ("int16", "int"),
        ("int32", "int"),
        ("int64", "int"),
        ("uint8", "uint"),
        ("uint32", "uint"),
        ("uint64", "uint"),
        ("bool", "bool"),
    )
}
float32, float64 = DTYPES["float32"], DTYPES["float64"]
int8, int16, int32, int64 = DTYPES["int8"], DTYPES["int16"], DTYPES["int32"], DTYPES["int64"]
uint8, uint32, uint64 = DTYPES["uint8"], DTYPES["uint32"], DTYPES["uint64"]
bool_ = DTYPES["bool"]
