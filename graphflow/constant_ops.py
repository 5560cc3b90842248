"""Where values come from: constants, placeholders, tensors filled with one value, ranges.

Shapes may hold what is known while declaring: ints, `x.shape[0]`, and anything computed from `tf.shape`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from graphflow.core.dim import Dim
from graphflow.core.dtype import DType, as_dtype, float32, int32
from graphflow.core.errors import GraphError
from graphflow.core.op import OPS
from graphflow.core.type import TensorType
from graphflow.framework.convert import as_array, as_tensor, constant_operation, is_tensor
from graphflow.framework.default import get_default_graph
from graphflow.framework.scopes import name_scope
from graphflow.framework.shape import as_shape
from graphflow.framework.shaped import shaped, splat, splat_like
from graphflow.framework.sizes import ints_of, sizes_of
from graphflow.framework.tensor import Tensor

__all__ = [
    "constant", "convert_to_tensor", "fill", "is_tensor", "ones", "ones_like", "placeholder",
    "placeholder_with_default", "range", "zeros", "zeros_like",
]  # fmt: skip

# from outside of the graph


def constant(
    value: Any, dtype: Any = None, shape: Any = None, name: str = "Const", verify_shape: bool = False
) -> Tensor:
    """A constant.  With `shape`, the last element fills what the value leaves open, unless verify_shape is set."""
    array = as_array(value, None if dtype is None else as_dtype(dtype))
    if shape is not None:
        array = _filled(array, tuple(ints_of(shape, "the shape")), verify_shape)
    return constant_operation(array, name)


def _filled(array: np.ndarray[Any, Any], shape: tuple[int, ...], verify_shape: bool) -> np.ndarray[Any, Any]:
    if array.shape == shape:
        return array
    count = int(np.prod(shape))
    if verify_shape or array.size > count or (array.size == 0 and count):
        raise GraphError(
            f"a constant of shape {array.shape} with {array.size} elements does not fit the shape {shape} with {count}"
        )
    flat = array.reshape(-1)
    return np.concatenate([flat, np.repeat(flat[-1:], count - flat.size)]).reshape(shape)


def placeholder(dtype: Any, shape: Any = None, name: str | None = None) -> Tensor:
    """A value that each run is fed.  None in the shape: any size; no shape: any rank."""
    graph, wanted = get_default_graph(), as_shape(shape)
    full = graph.unique_name(name or "Placeholder")
    sizes = None if wanted.sizes is None else graph.fresh_sizes(full, wanted.sizes)
    return OPS["Placeholder"](type=TensorType(as_dtype(dtype), sizes), name=f"{full}/")  # type: ignore[no-any-return]


def placeholder_with_default(input: Any, shape: Any, name: str | None = None) -> Tensor:  # noqa: A002  (TensorFlow's name)
    """`input`, unless a run is fed something else of the given shape."""
    graph, wanted = get_default_graph(), as_shape(shape)
    value = as_tensor(input)
    full = graph.unique_name(name or "PlaceholderWithDefault")
    if not wanted.is_compatible_with(value.shape):
        raise GraphError(
            f"placeholder_with_default '{full}': the default has shape {value.shape}, which is not {wanted}"
        )
    sizes = None if wanted.sizes is None else graph.fresh_sizes(full, wanted.sizes)
    return OPS["PlaceholderWithDefault"](value, type=TensorType(value.dtype, sizes), name=f"{full}/")  # type: ignore[no-any-return]


def convert_to_tensor(
    value: Any, dtype: Any = None, name: str | None = None, preferred_dtype: Any = None, dtype_hint: Any = None
) -> Tensor:
    """`value` as a tensor: a tensor or variable, numbers, a list of them, a NumPy array, a known shape."""
    hint = preferred_dtype if preferred_dtype is not None else dtype_hint
    if dtype is None and hint is not None and not is_tensor(value):
        try:
            return as_tensor(value, hint, name)
        except (TypeError, ValueError):
            return as_tensor(value, None, name)
    return as_tensor(value, dtype, name)


# filled with one value


def fill(dims: Any, value: Any, name: str | None = None) -> Tensor:
    """A tensor of the shape `dims` whose elements are all `value`, a scalar."""
    with name_scope(name, "Fill") as scope:
        scalar = as_tensor(value, name="value")
        if scalar.shape.ndims not in (0, None):
            raise GraphError(f"fill: the value must be a scalar, not {scalar.type_}")
        return shaped("BroadcastTo", scalar, dims, scope)


def zeros(shape: Any, dtype: Any = float32, name: str | None = None) -> Tensor:
    """Zeros (False for bool)."""
    return splat(shape, 0, as_dtype(dtype), name or "zeros")


def ones(shape: Any, dtype: Any = float32, name: str | None = None) -> Tensor:
    """Ones (True for bool)."""
    return splat(shape, 1, as_dtype(dtype), name or "ones")


def zeros_like(tensor: Any, dtype: Any = None, name: str | None = None, optimize: bool = True) -> Tensor:
    """Zeros of the shape and dtype of a tensor."""
    return splat_like(as_tensor(tensor), 0, dtype, name or "zeros_like")


def ones_like(tensor: Any, dtype: Any = None, name: str | None = None, optimize: bool = True) -> Tensor:
    """Ones of the shape and dtype of a tensor."""
    return splat_like(as_tensor(tensor), 1, dtype, name or "ones_like")


def range(start: Any, limit: Any = None, delta: Any = 1, dtype: Any = None, name: str = "range") -> Tensor:  # noqa: A001
    """start, start + delta, ... while below limit (above, for a negative delta).  One argument is the limit."""
    if limit is None:
        start, limit = 0, start
    known = [_number(v) for v in (start, limit, delta)]
    floats = any(isinstance(v, float) for v in known)
    wanted = as_dtype(dtype) if dtype is not None else _range_dtype((start, limit, delta), floats)
    if any(isinstance(v, Dim) for v in known):
        attrs = dict(zip(("start", "limit", "delta"), known, strict=True))
        return OPS["Range"](**attrs, dtype=wanted, name=name)  # type: ignore[no-any-return]
    return constant_operation(np.arange(*known).astype(wanted.numpy), name)


def _number(value: Any) -> Any:
    if isinstance(value, float | np.floating):
        return float(value)
    found = sizes_of(value, "a bound of tf.range")
    if len(found) != 1:
        raise GraphError(f"a bound of tf.range must be one number, not {value!r}")
    return found[0]


def _range_dtype(bounds: tuple[Any, ...], floats: bool) -> DType:
    found = [as_dtype(b.dtype) for b in bounds if hasattr(b, "dtype")]
    return found[0] if found else float32 if floats else int32
