"""What stands between the brackets of `t[...]`: ints, slices, `...`, tf.newaxis, and sizes that are known."""

from __future__ import annotations

from typing import Any

import numpy as np

from graphflow.core.errors import UnimplementedError
from graphflow.core.node import OPERATORS
from graphflow.framework.convert import is_tensor
from graphflow.framework.shape import Dimension
from graphflow.framework.sizes import int_of

__all__ = ["getitem"]


def getitem(x: Any, key: Any) -> Any:
    """x[key]; raises GraphError for an index that is out of range, UnimplementedError for one that a run computes."""
    parts = key if isinstance(key, tuple) else (key,)
    return OPERATORS["getitem"](x, tuple(_part(p) for p in parts))


def _part(part: Any) -> Any:
    if part is None or part is Ellipsis:
        return part
    if isinstance(part, slice):
        step = _integer(part.step)
        if step == 0:
            raise ValueError("the step of a slice can't be 0")
        return slice(_integer(part.start), _integer(part.stop), step)
    return _integer(part)


def _integer(value: Any) -> int | None:
    if value is None or (isinstance(value, int) and not isinstance(value, bool)):
        return value
    if isinstance(value, Dimension | np.integer) or (is_tensor(value) and value.shape.ndims == 0):
        return int_of(value, "the index")
    if isinstance(value, list | np.ndarray) or is_tensor(value):
        raise UnimplementedError(f"{value!r} can't be an index yet: an index is an int, a slice, `...` or tf.newaxis")
    raise TypeError(f"an index is an int, a slice, `...` or tf.newaxis, not {value!r}")
