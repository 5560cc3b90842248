"""Rules for elementwise ops that need code: dtypes, exponents of two, broadcasts.  A row at the end names each.

A function here takes a node and returns what it is equal to, bit for bit as in rules.py, or None.
"""

from __future__ import annotations

import math

import numpy as np

from graphflow.compiler.fold import constant_splat, number, splat, splat_scalar
from graphflow.compiler.rewrite import Rule
from graphflow.compiler.rules import COMMUTATIVE
from graphflow.core.dtype import DType, as_dtype
from graphflow.core.node import Node, make_node
from graphflow.core.op import Elementwise, broadcast_node
from graphflow.ops.elementwise import cast, mul, power_of
from graphflow.ops.reduce import size_of
from graphflow.ops.view import reshape

__all__ = ["ELEMENTWISE"]


def nothing(node: Node) -> Node:
    """Identity and StopGradient are their input, once gradients are expanded."""
    return node.inputs[0]


def constant_second(node: Node) -> Node | None:
    """2 * x is x * 2: one form for both."""
    x, y = node.inputs
    if constant_splat(x) is None or constant_splat(y) is not None:
        return None
    return make_node(node.op, (y, x), dict(node.attrs))


def divide_by_power_of_two(node: Node) -> Node | None:
    """x / 2^k is x * 2^-k: exact where 2^-k is a normal number."""
    x, y = node.inputs
    divisor = constant_splat(y)
    if divisor is None or not np.isfinite(divisor) or abs(math.frexp(divisor.item())[0]) != 0.5:
        return None
    inverse = 1 / divisor.item()
    info = np.finfo(divisor.dtype)
    if not float(info.tiny) <= abs(inverse) <= float(info.max):
        return None
    return mul.node(x, number(inverse, y.type))


def power_of_number(node: Node) -> Node | None:
    """x ** 3 says so: a power that is known needs no logarithm.  (x ** 2 and less are rows of rules.py.)"""
    x, y = node.inputs
    exponent = constant_splat(y)
    if exponent is None or exponent in (0, 1, 2) or (x.dtype.is_integer and exponent < 0):
        return None
    return power_of.node(x, exponent=exponent.item())


def cast_to_own_type(node: Node) -> Node | None:
    """A cast to the dtype that x has."""
    x = node.inputs[0]
    return x if x.dtype is node.dtype else None


def cast_of_cast(node: Node) -> Node | None:
    """A cast of x through a type that holds every value of x is one cast."""
    inner = node.inputs[0]
    if inner.op.name != "Cast":
        return None
    x = inner.inputs[0]
    if not _holds(inner.dtype, x.dtype):
        return None
    if inner.dtype.is_floating and x.dtype.is_integer and node.dtype.is_integer and not _holds(node.dtype, x.dtype):
        return None  # a float saturates where an integer wraps
    return cast.node(x, dtype=node.dtype)


def _holds(wide: DType, narrow: DType) -> bool:
    """Whether every value of `narrow` is a value of `wide`."""
    if wide is narrow or narrow.is_bool:
        return True
    if wide.is_bool:
        return False
    if narrow.is_floating:
        return wide.is_floating and wide.size >= narrow.size
    if wide.is_floating:
        exact = 1 << (np.finfo(wide.numpy).nmant + 1)
        return int(narrow.max) <= exact and -int(narrow.min) <= exact
    return int(wide.min) <= int(narrow.min) and int(narrow.max) <= int(wide.max)


def compute_before_broadcast(node: Node) -> Node | None:
    """An op on broadcasts from one shape is the broadcast of the op: it computes less.

    exp(BroadcastTo(x)) is BroadcastTo(exp(x)); BroadcastTo(x) * 2 is BroadcastTo(x * 2).
    """
    if not isinstance(node.op, Elementwise) or not node.shape:
        return None
    wide = [x for x in node.inputs if splat_scalar(x) is None]
    if any(x.op.name != "BroadcastTo" for x in wide):
        return None
    small = wide[0].inputs[0].shape if wide else ()
    if any(x.inputs[0].shape != small for x in wide):
        return None
    inputs = []
    for x in node.inputs:
        scalar = splat_scalar(x)
        inputs.append(x.inputs[0] if scalar is None else splat(scalar, small))
    return broadcast_node(make_node(node.op, inputs, dict(node.attrs)), node.shape)


def compute_before_axes(node: Node) -> Node | None:
    """An op on inputs that were given the same axes of size 1 comes before them: the axes then stay out of its loops.

    Reshape(x: [m], [m, 1]) * 2 is Reshape(x * 2, [m, 1]).
    """
    if not isinstance(node.op, Elementwise):
        return None
    given = [x for x in node.inputs if splat_scalar(x) is None]
    if not given or any(x.op.name != "Reshape" or x.shape != node.shape for x in given):
        return None
    small = given[0].inputs[0].shape
    if any(x.inputs[0].shape != small for x in given) or len(small) >= len(node.shape):
        return None
    if [s for s in small if s != 1] != [s for s in node.shape if s != 1]:
        return None
    scalars = {x: splat_scalar(x) for x in node.inputs}
    inputs = [x.inputs[0] if (scalar := scalars[x]) is None else splat(scalar, small) for x in node.inputs]
    return reshape.node(make_node(node.op, inputs, dict(node.attrs)), shape=node.shape)


def known_size(node: Node) -> Node | None:
    """The number of a size that has become known."""
    size = node.attrs["size"]
    return size_of(size, as_dtype(node.dtype)) if isinstance(size, int) else None


ELEMENTWISE = (
    Rule.of("Identity StopGradient", nothing),
    Rule.of("Cast", cast_to_own_type),
    Rule.of("Cast", cast_of_cast),
    Rule.of(" ".join(sorted(COMMUTATIVE)), constant_second),
    Rule.of("RealDiv", divide_by_power_of_two),
    Rule.of("Pow", power_of_number),
    Rule.of("SizeOf", known_size),
    Rule.of("", compute_before_broadcast),
    Rule.of("", compute_before_axes),
)
