"""Ops without inputs: constants, fed values, variables at the start of a run, holes of rules."""

from __future__ import annotations

from typing import Any

import numpy as np

from graphflow.core.dtype import as_dtype
from graphflow.core.node import Array, Node, make_node
from graphflow.core.op import Op, case
from graphflow.core.type import TensorType


class Const(Op):
    """A value known while the graph is declared.  attr value: Array."""

    cases = (case(value=Array(np.array([1, 2], np.float32))),)

    def infer(self, *, value: Array) -> TensorType:
        return TensorType(as_dtype(value.value.dtype), value.value.shape)

    def eval(self, *, value: Array) -> Any:
        return value.value

    def grad(self, g: Node, y: Node, **attrs: Any) -> Any:
        return ()

    def index(self, k: Any, i: tuple[Any, ...], *, value: Array) -> Any:
        return k.constant(value.value.reshape(-1)[0], as_dtype(value.value.dtype))


class Leaf(Op):
    """A value that comes from outside of a run.  attrs type: TensorType, and what tells it from others."""

    form = "memory"
    fold = False

    def infer(self, *, type: TensorType, **identity: Any) -> TensorType:  # noqa: A002
        return type

    def infer_unknown(self, *, type: TensorType, **identity: Any) -> TensorType:  # noqa: A002
        return type


class Feed(Leaf):
    """A fed value.  attrs type, feed: its place among the feeds."""


class Variable(Leaf):
    """The state of a variable at the start of the run.  attrs type, variable: its name."""


class Hole(Leaf):
    """A typed hole in a rewrite rule, or a parameter of a sub-graph.  attrs type, number."""


class Copy(Op):
    """x in a buffer of its own.  attr number: tells copies of one node apart."""

    fold = False
    cases = (case(np.array([1.0, 2.0]), number=0),)

    def infer(self, x: TensorType, *, number: int) -> TensorType:
        return x

    def eval(self, x: Any, *, number: int) -> Any:
        return x

    def grad(self, g: Node, y: Node, x: Node, *, number: int) -> Any:
        return g

    def index(self, k: Any, i: tuple[Any, ...], x: Any, *, number: int) -> Any:
        return x[i]


const_op, feed_op, variable_op, hole_op, copy_op = Const(), Feed(), Variable(), Hole(), Copy()


def constant(value: Any, dtype: Any = None) -> Node:
    """A level-1 constant."""
    array = np.asarray(value, dtype=None if dtype is None else as_dtype(dtype).numpy)
    return make_node(const_op, (), {"value": Array(array)})


def hole(number: int, type_: TensorType) -> Node:
    """A typed hole."""
    return make_node(hole_op, (), {"number": number, "type": type_})
