"""Shapes as values: `shape`, `size`, `rank`; and ops whose result's shape is itself a tensor.

Sizes are known to the compiler as symbols, so a value computed from shapes alone is known too: `symbolic_value`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from graphflow.core.dim import Dim, Size, product, symbol
from graphflow.core.dtype import DType, as_dtype
from graphflow.core.errors import InvalidArgumentError
from graphflow.core.node import Node, topological
from graphflow.core.op import Op, case, composite
from graphflow.core.samples import normal
from graphflow.core.type import TensorType, require
from graphflow.ops.leaf import constant
from graphflow.ops.reduce import size_of
from graphflow.ops.view import broadcast_to, concat, reshape

INT32 = as_dtype("int32")


def shape_node(x: Node, *, dtype: DType = INT32) -> Node:
    """The sizes of x: [rank]."""
    if x.ndim == 0:
        return constant(np.zeros(0), dtype)
    sizes = [reshape(size_of(s, dtype), shape=(1,)) for s in x.shape]
    return concat(*sizes, axis=0)  # type: ignore[no-any-return]


def size_node(x: Node, *, dtype: DType = INT32) -> Node:
    """The number of elements of x."""
    return size_of(product(x.shape), dtype)


def rank_node(x: Node) -> Node:
    """The number of axes of x."""
    return constant(x.ndim, INT32)


shape = composite(
    "Shape",
    doc=shape_node.__doc__ or "",
    expand=shape_node,
    eval=lambda x, *, dtype=INT32: np.array(x.shape, dtype.numpy),
    cases=[case(normal(3, 4))],
)
size = composite(
    "Size",
    doc=size_node.__doc__ or "",
    expand=size_node,
    eval=lambda x, *, dtype=INT32: np.array(x.size, dtype.numpy),
    cases=[case(normal(3, 4))],
)
rank = composite(
    "Rank",
    doc=rank_node.__doc__ or "",
    expand=rank_node,
    eval=lambda x: np.array(x.ndim, np.int32),
    cases=[case(normal(3, 4))],
)

_PASSED = ("Cast", "Identity", "StopGradient")


def symbolic_value(root: Node) -> np.ndarray[Any, Any]:
    """The value of an integer node made of shapes and constants, as an array of sizes.

    Raises InvalidArgumentError where it depends on data.
    """
    values: dict[Node, Any] = {}
    for node in topological([root]):
        values[node] = _symbolic(node, [values[x] for x in node.inputs])
    return np.asarray(values[root], dtype=object)


def _symbolic(node: Node, inputs: list[Any]) -> Any:
    if node.op.name == "SizeOf":
        return np.array(node.attrs["size"], dtype=object)
    if node.op.name == "Const":
        return np.array(node.attrs["value"].value.tolist(), dtype=object)
    if node.op.name in _PASSED:
        return inputs[0]
    if not node.inputs:
        raise InvalidArgumentError(
            f"a shape depends on data ({node.op.name}): only values made of shapes and constants can be shapes"
        )
    return node.op.eval(*inputs, **node.attrs)


def sizes_of(node: Node) -> tuple[Size, ...]:
    """A vector node as a shape."""
    return tuple(s if isinstance(s, Dim) else int(s) for s in symbolic_value(node).reshape(-1))


_UNKNOWN = iter(range(1 << 62))


class ShapedBy(Op):
    """An op whose last input is the shape of its result; its compiler form takes that shape as an attribute."""

    def __init__(self, name: str, doc: str, make: Any, reference: Any, cases: Any) -> None:
        self.name, self.doc, self.cases, self._make, self._reference = name, doc, cases, make, reference
        super().__init__()

    def infer(self, x: TensorType, shape: TensorType) -> TensorType:
        require(shape.dtype.is_integer and shape.ndim == 1, f"a shape is a vector of integers, not {shape}")
        count = shape.dims[0]
        if not isinstance(count, int):
            return TensorType(x.dtype, None)
        return x.with_shape(tuple(symbol(f"?{next(_UNKNOWN)}") for _ in range(count)))

    def eval(self, x: Any, shape: Any) -> Any:
        return self._reference(x, tuple(shape))

    def node(self, *args: Any, **attrs: Any) -> Node:
        return self._make(args[0], shape=sizes_of(args[1]))  # type: ignore[no-any-return]


dynamic_reshape = ShapedBy(
    "DynamicReshape",
    "x under the shape that a tensor holds.",
    reshape,
    np.reshape,
    [case(normal(2, 3), np.array([3, 2], np.int32))],
)
dynamic_broadcast = ShapedBy(
    "DynamicBroadcastTo",
    "x broadcast to the shape that a tensor holds.",
    broadcast_to,
    np.broadcast_to,
    [case(normal(3), np.array([2, 3], np.int32))],
)
