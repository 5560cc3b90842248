"""Values that become tensors: numbers, lists, NumPy arrays, shapes, variables, lists of tensors.

    as_tensor(2, dtype=float32)   a Const
    as_tensor([x, 1.0])           a Pack of x and a Const
    as_tensor(variable)           what the variable holds

A number takes the dtype that is asked for where nothing is lost; what TensorFlow refuses (0.5 as int32) is refused.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from graphflow.core.dim import Dim
from graphflow.core.dtype import DType, as_dtype, float32, int32
from graphflow.core.errors import GraphError
from graphflow.core.node import Array
from graphflow.core.op import OPS
from graphflow.core.source import user_source
from graphflow.core.type import TensorType
from graphflow.framework.default import get_default_graph
from graphflow.framework.graph import Graph
from graphflow.framework.shape import Dimension, TensorShape
from graphflow.framework.tensor import Operation, Tensor

__all__ = ["as_array", "as_tensor", "constant_operation", "kind_of"]


def is_tensor(value: Any) -> bool:
    """Whether `value` is a tensor, or turns into one by itself, as a variable does."""
    return isinstance(value, Tensor) or hasattr(value, "_as_tensor")


def as_tensor(value: Any, dtype: Any = None, name: str | None = None, graph: Graph | None = None) -> Tensor:
    """`value` as a tensor of `dtype` (any when None); raises GraphError, TypeError or ValueError."""
    wanted = None if dtype is None else as_dtype(dtype)
    if is_tensor(value):
        tensor: Tensor = value if isinstance(value, Tensor) else value._as_tensor()
        if wanted is not None and tensor.dtype is not wanted:
            raise GraphError(
                f"Tensor conversion requested dtype {wanted} for '{tensor.name}', which is {tensor.dtype} "
                f"(declared at {tensor.op.source}); tf.cast converts",
                op=tensor.op,
            )
        return tensor
    if isinstance(value, Operation):
        raise TypeError(
            f"Can't convert Operation '{value.name}' to Tensor: it has {len(value.outputs)} outputs; use "
            "one of its .outputs"
        )
    if isinstance(value, list | tuple) and _holds_tensor(value):
        return _pack(value, wanted, name)
    if isinstance(value, TensorShape | Dimension) or _holds_dimension(value):
        value, wanted = _known_sizes(value), wanted or int32
    return constant_operation(as_array(value, wanted), name or "Const", graph)


def _holds_tensor(values: Any) -> bool:
    return any(is_tensor(v) or (isinstance(v, list | tuple) and _holds_tensor(v)) for v in values)


def _holds_dimension(value: Any) -> bool:
    return isinstance(value, list | tuple) and any(isinstance(v, Dimension) for v in value)


def _known_sizes(value: Any) -> Any:
    if isinstance(value, Dimension):
        return int(value)
    sizes = [v.size if isinstance(v, Dimension) else v for v in value]
    if any(s is None or isinstance(s, Dim) for s in sizes):
        raise ValueError(
            f"Cannot convert a partially known TensorShape to a Tensor: {TensorShape(value)}; tf.shape(x) "
            "is its value in a run"
        )
    return sizes


def _pack(values: Any, dtype: DType | None, name: str | None) -> Tensor:
    """Tensors and numbers side by side along a new first axis; the numbers take the tensors' dtype."""
    dtype = dtype or next(iter(_dtypes_within(values)))
    parts = [as_tensor(v, None if is_tensor(v) else dtype) for v in values]
    return OPS["Pack"](*parts, axis=0, name=name or "packed")  # type: ignore[no-any-return]


def _dtypes_within(values: Any) -> Any:
    for v in values:
        if is_tensor(v):
            yield v.dtype
        elif isinstance(v, list | tuple):
            yield from _dtypes_within(v)


def constant_operation(array: np.ndarray[Any, Any], name: str, graph: Graph | None = None) -> Tensor:
    """A Const operation."""
    graph = get_default_graph() if graph is None else graph
    type_ = TensorType(as_dtype(array.dtype), array.shape)
    operation = graph.create_operation(OPS["Const"], (), {"value": Array(array)}, (type_,), name, user_source())
    return operation.outputs[0]


def kind_of(value: Any) -> str:
    """'b', 'i' or 'f': what sort of numbers a Python or NumPy value holds; '' for what is no number."""
    kind = np.asarray(value).dtype.kind
    return {"b": "b", "i": "i", "u": "i", "f": "f"}.get(kind, "")


def as_array(value: Any, dtype: DType | None = None) -> np.ndarray[Any, Any]:
    """`value` as an array of `dtype`; Python's floats are float32 and its ints int32 where no dtype is asked for.

    Raises ValueError for None, ragged lists and integers that do not fit; TypeError for what is no number and for
    conversions that lose something.
    """
    if value is None:
        raise ValueError("None values not supported.")
    array = _array(value)
    if array.dtype.kind not in "biuf":
        raise TypeError(
            f"{_short(value)} of type {type(value).__name__} can't become a tensor: {array.dtype} is not "
            "an element type of graphflow"
        )
    from_numpy = isinstance(value, np.ndarray | np.generic)
    if dtype is None:
        if from_numpy:
            return array.astype(as_dtype(array.dtype).numpy)
        dtype = {"f": float32, "i": int32, "u": int32}.get(array.dtype.kind) or as_dtype(array.dtype)
    if not from_numpy and array.size == 0:
        return array.astype(dtype.numpy)
    _check_conversion(value, array, dtype, from_numpy)
    return array.astype(dtype.numpy)


def _array(value: Any) -> np.ndarray[Any, Any]:
    try:
        return np.asarray(value)
    except ValueError as error:
        raise ValueError(f"{_short(value)} is not rectangular, so it can't become a tensor ({error})") from None


def _check_conversion(value: Any, array: np.ndarray[Any, Any], dtype: DType, from_numpy: bool) -> None:
    kind = array.dtype.kind
    if dtype.is_integer and kind == "f" and not (from_numpy and np.array_equal(array, np.trunc(array))):
        raise TypeError(f"Expected {dtype}, got {_short(value)} of type '{type(value).__name__}' instead.")
    if kind != "b" and dtype.is_bool and not (from_numpy and np.isin(array, (0, 1)).all()):
        raise TypeError(f"Expected bool, got {_short(value)} of type '{type(value).__name__}' instead.")
    if kind == "b" and not dtype.is_bool and not from_numpy:
        raise TypeError(f"Expected {dtype}, got {_short(value)} of type 'bool' instead.")
    if dtype.is_integer and array.size and (array.min() < dtype.min or array.max() > dtype.max):
        raise ValueError(f"{_short(value)} does not fit {dtype} ({dtype.min} to {dtype.max})")


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
