"""Shapes as arguments: `sizes_of([tf.shape(x)[0], 784])` is `(x_0, 784)`, so that a size need not be known to be used.

Arithmetic on `tf.shape` is followed through the graph with symbols for unknown sizes.  What depends on fed values
can't be: a shape must follow from the shapes of what is fed.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import numpy as np

from graphflow.core.dim import Dim, Size
from graphflow.core.errors import GraphError, UnimplementedError
from graphflow.framework.convert import is_tensor
from graphflow.framework.shape import Dimension, TensorShape
from graphflow.framework.tensor import Operation, Tensor

__all__ = ["int_of", "ints_of", "position_of", "sizes_of", "symbolic_value"]

_BY_EVAL = ("Pack", "Concat", "GetItem", "Reshape", "ExpandDims", "Squeeze", "Transpose", "Reverse")
_FOLLOWED: dict[str, Callable[..., Any]] = {
    "Add": operator.add,
    "Sub": operator.sub,
    "Mul": operator.mul,
    "FloorDiv": operator.floordiv,
    "FloorMod": operator.mod,
    "Neg": operator.neg,
    "Identity": lambda x: x,
    "StopGradient": lambda x: x,
    "Cast": lambda x, **attrs: x,
    "Prod": lambda x, *, axis=None, keepdims=False: np.prod(x, axis=axis, keepdims=keepdims),
    "Sum": lambda x, *, axis=None, keepdims=False: np.sum(x, axis=axis, keepdims=keepdims),
}


def sizes_of(value: Any, what: str = "the shape") -> tuple[Size, ...]:
    """A shape given as ints, dimensions, tensors or one 1-D tensor; -1 stays -1.  A single number is a shape of one.

    Raises UnimplementedError where a size depends on fed values, TypeError for what is no size.
    """
    if isinstance(value, TensorShape):
        value = list(value)
    if is_tensor(value):
        value = _required(_tensor_of(value), what)
    if not np.iterable(value):
        value = [value]
    return tuple(_size(v, what) for v in value)


def _size(value: Any, what: str) -> Size:
    if isinstance(value, Dim):
        return value
    if isinstance(value, Dimension):
        if value.size is None:
            raise ValueError(f"{what} has a size of unknown value; use tf.shape(x)[axis]")
        return value.size
    if is_tensor(value):
        return _size(_required(_tensor_of(value), what).item(), what)
    if isinstance(value, np.ndarray) and value.ndim == 0:
        return _size(value.item(), what)
    if isinstance(value, bool | np.bool_) or not isinstance(value, int | np.integer | float):
        raise TypeError(f"{what} must be made of integers, not of {value!r}")
    if isinstance(value, float) and not value.is_integer():
        raise TypeError(f"{what} must be made of integers, not of {value!r}")
    return int(value)


def ints_of(value: Any, what: str) -> tuple[int, ...]:
    """Integers that must be known: axes, permutations, strides."""
    sizes = sizes_of(value, what)
    unknown = [s for s in sizes if isinstance(s, Dim)]
    if unknown:
        raise UnimplementedError(f"{what} must be known while the graph is declared, and {unknown[0]} is not")
    return tuple(s for s in sizes if isinstance(s, int))


def int_of(value: Any, what: str) -> int:
    """One integer that must be known."""
    if isinstance(value, int):
        return value
    found = ints_of(value, what)
    if len(found) != 1:
        raise GraphError(f"{what} must be one integer, not {value!r}")
    return found[0]


def position_of(axis: Any, x: Tensor) -> int:
    """A possibly negative axis of a tensor as a position.  GraphError if the tensor has no such axis."""
    at, rank = int_of(axis, "the axis"), len(x.type_.dims)
    if not -rank <= at < rank:
        raise GraphError(f"axis {at} is out of range for the {rank} axes of '{x.name}' {x.shape}")
    return at % rank


def _tensor_of(value: Any) -> Tensor:
    return value if isinstance(value, Tensor) else value._as_tensor()


def _required(tensor: Tensor, what: str) -> np.ndarray[Any, Any]:
    found = symbolic_value(tensor)
    if found is None:
        raise UnimplementedError(
            f"{what} is '{tensor.name}' (declared at {tensor.op.source}), whose value is not known before a run: "
            "a shape may be computed from constants and tf.shape, not from fed values"
        )
    return found


def symbolic_value(tensor: Tensor) -> np.ndarray[Any, Any] | None:
    """The integers in a tensor as an object array of ints and symbolic sizes; None where they are not known."""
    values: dict[Operation, np.ndarray[Any, Any] | None] = {}
    for op in _needed(tensor.op):
        inputs = [values.get(x.op) for x in op.inputs]
        values[op] = _value(op, inputs)
    return values[tensor.op]


def _needed(root: Operation) -> list[Operation]:
    """The operations whose values lead to that of `root`, inputs first."""
    seen: set[Operation] = set()
    stack = [root]
    while stack:
        op = stack.pop()
        if op in seen:
            continue
        seen.add(op)
        if op.op.name in _FOLLOWED or op.op.name in _BY_EVAL:
            stack.extend(x.op for x in op.inputs)
    return sorted(seen, key=lambda op: op.id)


def _value(op: Operation, inputs: list[np.ndarray[Any, Any] | None]) -> np.ndarray[Any, Any] | None:
    if not op.outputs or op.outputs[0].dtype.is_floating:
        return None
    kind = op.op.name
    if kind == "Const":
        return op.attrs["value"].value.astype(object)  # type: ignore[no-any-return]
    if kind in ("Shape", "Size", "Rank"):
        return _of_shape(op)
    if any(x is None for x in inputs):
        return None
    attrs = {k: v for k, v in op.attrs.items() if kind != "Cast"}
    if kind in _FOLLOWED:
        return _objects(_FOLLOWED[kind](*inputs, **attrs))
    if kind in _BY_EVAL:
        return _objects(op.op.eval(*inputs, **attrs))
    return None


def _objects(value: Any) -> np.ndarray[Any, Any]:
    return value if isinstance(value, np.ndarray) else np.array(value, dtype=object)


def _of_shape(op: Operation) -> np.ndarray[Any, Any] | None:
    shape = op.inputs[0].type_.shape
    if shape is None:
        return None
    if op.type == "Rank":
        return _objects(len(shape))
    sizes = np.empty(len(shape), dtype=object)
    sizes[:] = shape
    return sizes if op.type == "Shape" else _objects(np.prod(sizes))
