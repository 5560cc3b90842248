"""What is constant is computed now: `fold(program)`.

Assumes: gradients are expanded.  Guarantees: no node is left whose inputs are all constants, but for those that would
take more room than computing them is worth, and those that may not be folded (`op.fold`: random numbers, state).

A splat is one element seen as a whole tensor, `BroadcastTo(scalar)`.  It stays one: a constant of equal elements
becomes a splat, an elementwise op on constant splats is computed on their scalars, no broadcast is ever written out.

The value is `op.eval`'s, in the node's dtype: exact wherever IEEE 754 says what the result is.  A transcendental
function, or a sum, may differ from the compiled code's in the last place, as the two may from each other.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from graphflow.compiler.program import TensorProgram
from graphflow.compiler.rewrite import Rule, rewrite
from graphflow.core.dim import Dim
from graphflow.core.node import Node, make_node
from graphflow.core.op import OPS, Elementwise
from graphflow.core.type import Shape, TensorType, is_static, static
from graphflow.ops.leaf import constant

__all__ = ["FOLDING", "constant_splat", "fold", "fold_node", "number", "splat", "splat_scalar"]

LIMIT = 1 << 16
"""Elements that a folded result may have even where its inputs have fewer."""

Value = np.ndarray[Any, Any]


def fold(program: TensorProgram) -> TensorProgram:
    """The program with its constant parts computed."""
    return rewrite(program, fold_node, "fold")


def fold_node(node: Node) -> Node | None:
    """The constant, or constant splat, that a node with constant inputs is."""
    if not node.op.fold:
        return None
    if node.op.name == "Const":
        return _uniform(node)
    if node.op.name == "BroadcastTo" or not node.inputs:
        return None
    if isinstance(node.op, Elementwise):
        scalars = [constant_splat(x) for x in node.inputs]
        if all(s is not None for s in scalars):
            return _computed(node, [s for s in scalars if s is not None], TensorType(node.dtype, ()))
    inputs = []
    for x in node.inputs:
        value = _value(x)
        if value is None:
            return None
        inputs.append(value)
    return _computed(node, inputs, node.type) if _worth(node) else None


# splats


def splat(scalar: Node, shape: Shape) -> Node:
    """The scalar node repeated over a shape."""
    return scalar if not shape else make_node(OPS["BroadcastTo"], (scalar,), {"shape": shape})


def constant_splat(node: Node) -> Value | None:
    """The one value of a constant splat, as an array without axes; None for any other node."""
    scalar = splat_scalar(node)
    if scalar is None or scalar.op.name != "Const":
        return None
    return scalar.attrs["value"].value  # type: ignore[no-any-return]  # attributes are of any type


def splat_scalar(node: Node) -> Node | None:
    """The scalar node (constant or not) that `node` repeats; None if it is no splat."""
    if not node.shape:
        return node
    if node.op.name == "BroadcastTo" and not node.inputs[0].shape:
        return node.inputs[0]
    return None


def number(value: Any, type_: TensorType) -> Node:
    """A Python number as a constant splat of a type."""
    return splat(constant(value, type_.dtype), type_.dims)


def _uniform(node: Node) -> Node | None:
    """The splat that a constant of equal elements is; compares bits, so that -0.0 and NaN are what they are."""
    value: Value = node.attrs["value"].value
    if value.ndim == 0 or value.size == 0:
        return None
    bits = value.reshape(-1).view(f"u{value.itemsize}")
    if not (bits[:64] == bits[0]).all() or not (bits == bits[0]).all():  # most constants fail on their first elements
        return None
    return splat(constant(value.reshape(-1)[0]), node.shape)


# values


def _value(node: Node) -> Value | None:
    """The value of a constant or of a broadcast constant (as a view: nothing is copied)."""
    if node.op.name == "Const":
        return node.attrs["value"].value  # type: ignore[no-any-return]  # attributes are of any type
    if node.op.name == "BroadcastTo" and node.inputs[0].op.name == "Const" and is_static(node.shape):
        return np.broadcast_to(node.inputs[0].attrs["value"].value, tuple(map(static, node.shape)))
    return None


def _stored(node: Node) -> int:
    """How many elements a constant, or what a broadcast repeats, has in memory."""
    source = node if node.op.name == "Const" else node.inputs[0]
    return int(source.attrs["value"].value.size)


def _worth(node: Node) -> bool:
    """Whether all sizes are known and neither the result nor a broadcast input is much larger than what is stored."""
    if not is_static(node.shape) or any(map(_is_symbolic, node.attrs.values())):
        return False
    room = max(LIMIT, sum(_stored(x) for x in node.inputs))
    return all(int(n.type.size) <= room for n in (node, *node.inputs) if isinstance(n.type.size, int))


def _is_symbolic(attr: Any) -> bool:
    return any(map(_is_symbolic, attr)) if isinstance(attr, tuple) else isinstance(attr, Dim)


def _computed(node: Node, values: list[Value], type_: TensorType) -> Node | None:
    """The node's op on values, broadcast to the node's shape; None where NumPy has no answer (a negative power of
    an integer): then the run says so, with the user's line."""
    try:
        with np.errstate(all="ignore"):
            result = np.asarray(node.op.eval(*values, **node.attrs), dtype=type_.dtype.numpy)
    except (ValueError, ArithmeticError):
        return None
    return splat(constant(result), node.shape) if not type_.dims else constant(result)


FOLDING = (Rule("fold", "An op on constants is a constant.", (), fold_node),)
