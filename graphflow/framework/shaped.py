"""Operations whose argument is a shape: `shaped("Reshape", x, [-1, tf.shape(y)[1]], name)`.

What is known while declaring becomes an attribute, unknown sizes of placeholders as symbols; a shape that only a run
can tell becomes an input of the op's dynamic form.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from graphflow.core.dim import Dim, Size, Symbol, atoms_of
from graphflow.core.dtype import DType, as_dtype, int32
from graphflow.core.op import OPS
from graphflow.core.type import TensorType
from graphflow.framework.convert import as_tensor, constant_operation, is_tensor
from graphflow.framework.create import infer_types
from graphflow.framework.default import get_default_graph
from graphflow.framework.shape import TensorShape
from graphflow.framework.sizes import sizes_of, symbolic_value
from graphflow.framework.tensor import Tensor

__all__ = ["shaped", "splat", "splat_like"]

DYNAMIC = {"Reshape": "DynamicReshape", "BroadcastTo": "DynamicBroadcastTo"}


def shaped(op: str, x: Tensor, wanted: Any, name: str) -> Tensor:
    """`op` of x with the shape as an attribute, or its dynamic form with the shape as an input."""
    sizes = _sizes_if_known(wanted)
    if sizes is not None and not (_holds_tensor(wanted) and any(map(_only_in_a_run, sizes))):
        return OPS[op](x, shape=sizes, name=name)  # type: ignore[no-any-return]
    vector = as_tensor(wanted, name="shape")
    result: Tensor = OPS[DYNAMIC[op]](x, vector, name=name)
    if sizes is None and vector.type_.shape and isinstance(vector.type_.dims[0], int):
        result.set_shape([None] * vector.type_.dims[0])
    if sizes is not None:
        typed = infer_types(OPS[op], (x,), {"shape": sizes}, result.op.name, result.op.source)
        result.type_ = typed if isinstance(typed, TensorType) else result.type_
    return result


def _sizes_if_known(wanted: Any) -> tuple[Size, ...] | None:
    parts = wanted if isinstance(wanted, list | tuple) else [wanted]
    if any(is_tensor(p) and symbolic_value(as_tensor(p)) is None for p in parts):
        return None
    return sizes_of(wanted)


def _holds_tensor(wanted: Any) -> bool:
    return is_tensor(wanted) or (isinstance(wanted, list | tuple) and any(map(is_tensor, wanted)))


def _only_in_a_run(size: Size) -> bool:
    """Whether a size has symbols that are not the size of a placeholder."""
    return isinstance(size, Dim) and any(a.key.startswith("?") for a in atoms_of(size) if isinstance(a, Symbol))


def splat(shape: Any, value: int, dtype: DType, name: str) -> Tensor:
    """A tensor of a shape whose elements are all `value`."""
    scalar = np.array(value, dtype.numpy)
    if isinstance(shape, list | tuple | TensorShape) and not len(shape):
        return constant_operation(scalar, name)
    with get_default_graph().name_scope(name) as scope:
        return shaped("BroadcastTo", constant_operation(scalar, "Const"), shape, scope)


def splat_like(x: Tensor, value: int, dtype: Any, name: str) -> Tensor:
    """A tensor of the shape of x, and of its dtype where none is given, whose elements are all `value`."""
    wanted = x.dtype if dtype is None else as_dtype(dtype)
    known = x.shape.is_fully_defined()
    with x.graph.as_default():
        return splat(x.shape if known else OPS["Shape"](x, dtype=int32), value, wanted, name)
