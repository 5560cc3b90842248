"""From what a user feeds to the array that a program takes: conversion without loss, and errors where there is some.

An array of the declared dtype and a fitting shape passes as it is, without a copy.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from graphflow.core.errors import InvalidArgumentError
from graphflow.framework.graph import Graph, Operation, Tensor
from graphflow.framework.tensor import TensorLike, type_text

__all__ = ["Feed", "feed_tensor", "missing_feed"]

Value = np.ndarray[Any, Any]


def feed_tensor(graph: Graph, key: Any) -> Tensor:
    """The tensor that a key of feed_dict names; a variable is fed as its read.

    Raises TypeError for what is neither tensor nor name, NotFoundError, GraphError for a tensor of another graph.
    """
    if isinstance(key, Operation):
        raise TypeError(
            f"Cannot interpret feed_dict key as Tensor: '{key.name}' is an Operation; one of its .outputs can be fed"
        )
    try:
        tensor: Tensor = graph.as_graph_element(key, allow_tensor=True, allow_operation=False)
    except TypeError as error:
        if isinstance(error, InvalidArgumentError):
            raise
        raise TypeError(f"Cannot interpret feed_dict key as Tensor: {error}") from None
    if tensor.op.type != "VariableV2":
        return tensor
    return next(op for op in tensor.consumers() if op.type == "ReadVariable").outputs[0]


def missing_feed(operation: Operation) -> InvalidArgumentError:
    """The error for a placeholder that a run needs and nobody feeds."""
    type_ = type_text(operation.outputs[0].type_)
    return InvalidArgumentError(
        f"You must feed a value for placeholder '{operation.name}' ({type_}, at {operation.source})", op=operation
    )


class Feed:
    """One feed of a run: converts and checks the values for a tensor."""

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor
        self._dtype = tensor.dtype.numpy
        shape = tensor.type_.shape
        self._shape = None if shape is None else tuple(s if isinstance(s, int) else -1 for s in shape)
        self._exact = self._shape if self._shape is not None and -1 not in self._shape else None

    def __call__(self, value: Any) -> Value:
        """`value` as an aligned C-contiguous array of the tensor's dtype; raises InvalidArgumentError, a ValueError."""
        if type(value) is not np.ndarray or value.dtype is not self._dtype:
            value = self._converted(value)
        if value.shape != self._exact and self._shape is not None and not self._fits(value.shape):
            raise self._complaint(f"Cannot feed value of shape {value.shape}")
        flags = value.flags
        return value if flags.c_contiguous and flags.aligned else np.array(value, order="C")

    def fitting(self, shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """The shape of a value, with sizes that may be left open; raises InvalidArgumentError if none could have it."""
        wanted = (-1,) * len(shape) if self._shape is None else self._shape
        pairs = zip(wanted, shape, strict=False)
        if len(shape) != len(wanted) or not all(w == -1 or s in (None, w) for w, s in pairs) or _negative(shape):
            raise self._complaint(f"Cannot feed value of shape {shape}")
        return tuple(w if s is None and w != -1 else s for w, s in zip(wanted, shape, strict=True))

    def _fits(self, shape: tuple[int, ...]) -> bool:
        wanted = self._shape or ()
        return len(shape) == len(wanted) and all(w in (-1, s) for w, s in zip(wanted, shape, strict=True))

    def _complaint(self, reason: str) -> InvalidArgumentError:
        t = self.tensor
        return InvalidArgumentError(
            f"{reason} for Tensor '{t.name}', which has shape {t.shape} and dtype {t.dtype} (declared at "
            f"{t.op.source})",
            op=t.op,
        )

    def _converted(self, value: Any) -> Value:
        if isinstance(value, TensorLike | Operation):
            raise TypeError(
                "The value of a feed cannot be a tf.Tensor object. Acceptable feed values include Python "
                f"scalars, lists and numpy ndarrays. For reference, the tensor object was {value!r} which "
                f"was passed to the feed with key '{self.tensor.name}'."
            )
        array = self._array(value)
        if array.dtype == self._dtype:
            return np.asarray(array, self._dtype)
        if array.dtype.kind not in "biuf":
            raise self._complaint(f"Cannot feed {_short(value)} of dtype {array.dtype}")
        plain = not isinstance(value, np.ndarray | np.generic)
        if not (np.can_cast(array.dtype, self._dtype, "same_kind") or (plain and self._keeps(array))):
            raise self._complaint(f"Cannot feed {_short(value)} of dtype {array.dtype}")
        self._check_range(value, array)
        with np.errstate(over="ignore"):
            return array.astype(self._dtype)

    def _array(self, value: Any) -> Value:
        try:
            return np.asarray(value)
        except ValueError:
            raise self._complaint(f"Cannot feed {_short(value)}, which is not rectangular,") from None

    def _keeps(self, array: Value) -> bool:
        """Whether plain numbers stay what they are under another kind: 3.0 as an integer, 1 as a bool."""
        if not array.size:
            return True
        if self._dtype.kind in "iu":
            return array.dtype.kind != "f" or bool(np.array_equal(array, np.trunc(array)))
        return bool(np.isin(array, (0, 1)).all())

    def _check_range(self, value: Any, array: Value) -> None:
        if self._dtype.kind not in "iu" or not array.size:
            return
        limits = np.iinfo(self._dtype)
        if array.min() < limits.min or array.max() > limits.max:
            raise self._complaint(f"Cannot feed {_short(value)}, which does not fit {self._dtype},")


def _negative(shape: tuple[int | None, ...]) -> bool:
    return any(size is not None and size < 0 for size in shape)


def _short(value: Any) -> str:
    if isinstance(value, np.ndarray) and value.size > 4:
        return f"an array of shape {value.shape}"
    text = repr(value)
    return f"the value {text}" if len(text) <= 60 else f"a {type(value).__name__}"
