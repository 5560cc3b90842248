"""Gradients as promises: `Gradient` says whose derivative it is; the pass `differentiate` makes it the promised graph.

In the user's graph a promise has the inputs (ys, grad_ys, xs) and one output for each x.
In the compiler's graph each x is marked inside the ys (`Mark`, by a tag): equal nodes that are not x keep apart.
"""

from __future__ import annotations

from typing import Any

from graphflow.core.node import Node, make_node
from graphflow.core.op import Op
from graphflow.core.type import TensorType, require
from graphflow.ops.state import CaptureContext, StateOp


class UserGradient(StateOp):
    """The derivatives of sum(ys * grad_ys) with respect to xs.

    Inputs: ys, then grad_ys (as many), then xs, then stops.  attrs ys, xs: how many.  One output for each x.
    """

    name = "Gradient"
    differentiable = True

    def infer(self, *types: TensorType, ys: int, xs: int) -> Any:
        for y, g in zip(types[:ys], types[ys : 2 * ys], strict=True):
            require(y.dtype is g.dtype, f"grad_ys is {g.dtype}, ys {y.dtype}")
        return tuple(types[2 * ys : 2 * ys + xs])

    def infer_unknown(self, *types: TensorType, ys: int, xs: int) -> Any:
        return tuple(types[2 * ys : 2 * ys + xs])

    def capture(self, cx: CaptureContext, operation: Any, inputs: list[Node]) -> Any:
        return cx.gradient(operation, inputs)


class Mark(Op):
    """x itself, told from its equals by a tag; only inside of a promise.  attr tag."""

    fold = False

    def infer(self, x: TensorType, *, tag: int) -> TensorType:
        return x

    def eval(self, x: Any, *, tag: int) -> Any:
        return x

    def grad(self, g: Node, y: Node, x: Node, *, tag: int) -> Any:
        return g


class Promise(Op):
    """The derivative of sum(ys * gs) with respect to what `tag` marks.  Inputs: ys, gs; attrs tag, type."""

    fold = False

    def infer(self, *types: TensorType, tag: int, type: TensorType) -> TensorType:  # noqa: A002
        return type


user_gradient, mark_op, promise_op = UserGradient(), Mark(), Promise()


def mark(x: Node, tag: int) -> Node:
    """x marked with a tag."""
    return make_node(mark_op, (x,), {"tag": tag})


def promise(ys: list[Node], gs: list[Node], tag: int, type_: TensorType) -> Node:
    """The derivative with respect to what `tag` marks inside ys."""
    return make_node(promise_op, (*ys, *gs), {"tag": tag, "type": type_})
