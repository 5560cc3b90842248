"""Ops of the user's graph that read and write variables.

Program order rules: a read sees every write that was declared before it and takes part in the same run.
The compiler makes data of effects (`capture`): a write is a new value for its variable, and all new values are
stored together when the run has computed everything else.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from graphflow.core.dtype import bool_
from graphflow.core.node import Node, make_node
from graphflow.core.op import Op, broadcast_node
from graphflow.core.type import TensorType, require, same_shape
from graphflow.ops.elementwise import sqrt
from graphflow.ops.leaf import constant, feed_op


class CaptureContext(Protocol):
    """What capture offers to ops with state; a variable is named by its operation."""

    def read(self, variable: str) -> Node:
        """The variable's value at this point of the run."""

    def write(self, variable: str, value: Node) -> None:
        """The variable's value from this point on."""

    def is_initialized(self, variable: str) -> bool:
        """Whether it has a value at this point of the run."""

    def missing_feed(self, operation: Any) -> Exception:
        """The error of a placeholder that was not fed."""

    def draw(self, seed: tuple[int, int]) -> Node:
        """The number of this draw from a random stream (int64 scalar)."""

    def gradient(self, operation: Any, inputs: list[Node]) -> tuple[Node, ...]:
        """The promises of a gradient operation."""


class StateOp(Op):
    """An op that the compiler sees through `capture` only."""

    differentiable = False
    fold = False

    def capture(self, cx: CaptureContext, operation: Any, inputs: list[Node]) -> Any:
        """The node (or None) that the operation's output is at this point of the run."""
        raise NotImplementedError(self.name)


class VariableV2(StateOp):
    """A variable; as a value, its state at this point.  attr type: TensorType."""

    differentiable = True

    def infer(self, *, type: TensorType, **_: Any) -> TensorType:  # noqa: A002
        return type

    def infer_unknown(self, *, type: TensorType, **_: Any) -> TensorType:  # noqa: A002
        return type

    def capture(self, cx: CaptureContext, operation: Any, inputs: list[Node]) -> Any:
        return None  # only what reads it needs a value


class ReadVariable(StateOp):
    """The value of a variable at this point of the run.  Input: the variable."""

    differentiable = True

    def infer(self, variable: TensorType) -> TensorType:
        return variable

    def capture(self, cx: CaptureContext, operation: Any, inputs: list[Node]) -> Any:
        return cx.read(operation.inputs[0].op.name)


class IsVariableInitialized(StateOp):
    """Whether a variable has a value at this point of the run.  Input: the variable."""

    def infer(self, variable: TensorType) -> TensorType:
        return TensorType(bool_, ())

    def capture(self, cx: CaptureContext, operation: Any, inputs: list[Node]) -> Any:
        return constant(cx.is_initialized(operation.inputs[0].op.name))


class InitializedValue(StateOp):
    """A variable's value if it has one at this point, else its initial value.  Inputs: the variable, the value."""

    def infer(self, variable: TensorType, value: TensorType) -> TensorType:
        return variable

    def capture(self, cx: CaptureContext, operation: Any, inputs: list[Node]) -> Any:
        variable = operation.inputs[0].op.name
        return cx.read(variable) if cx.is_initialized(variable) else inputs[1]


class UserPlaceholder(StateOp):
    """A value that must be fed.  attr type: TensorType."""

    name = "Placeholder"

    def infer(self, *, type: TensorType) -> TensorType:  # noqa: A002
        return type

    def infer_unknown(self, *, type: TensorType) -> TensorType:  # noqa: A002
        return type

    def capture(self, cx: CaptureContext, operation: Any, inputs: list[Node]) -> Any:
        raise cx.missing_feed(operation)


class PlaceholderWithDefault(StateOp):
    """The input unless something else is fed.  attr type."""

    differentiable = True

    def infer(self, x: TensorType, *, type: TensorType) -> TensorType:  # noqa: A002
        require(x.dtype is type.dtype, f"the default is {x.dtype}, the placeholder {type.dtype}")
        return type

    def infer_unknown(self, x: TensorType, *, type: TensorType) -> TensorType:  # noqa: A002
        return type

    def capture(self, cx: CaptureContext, operation: Any, inputs: list[Node]) -> Any:
        return inputs[0]


class NoOp(StateOp):
    """Nothing; runs its control inputs (`tf.group`)."""

    def infer(self) -> tuple[TensorType, ...]:
        return ()

    def capture(self, cx: CaptureContext, operation: Any, inputs: list[Node]) -> Any:
        return None


class Update(StateOp):
    """New values for variables.  The first `refs` inputs are variables; the rule maps all inputs to their new values.

    The output is the new value of the first.
    """

    def __init__(self, name: str, refs: int, doc: str, rule: Callable[..., tuple[Node, ...]]) -> None:
        self.name, self.refs, self.doc, self.rule = name, refs, doc, rule
        super().__init__()

    def infer(self, *types: TensorType, **attrs: Any) -> TensorType:
        variable = types[0]
        for t in types[1 : self.refs]:
            require(same_shape(variable.dims, t.dims) is not None, f"a slot is {t}, the variable {variable}")
        value = types[-1]
        require(value.dtype is variable.dtype, f"the value is {value.dtype}, the variable {variable.dtype}")
        if attrs.get("validate_shape", True) and value.shape is not None and variable.shape is not None:
            require(same_shape(variable.dims, value.dims) is not None, f"the value is {value}, the variable {variable}")
        return variable

    def infer_unknown(self, *types: TensorType, **attrs: Any) -> TensorType:
        return types[0]

    def capture(self, cx: CaptureContext, operation: Any, inputs: list[Node]) -> Any:
        names = [t.op.name for t in operation.inputs[: self.refs]]
        attrs = {k: v for k, v in operation.attrs.items() if k != "validate_shape"}
        old = [] if self is assign else [cx.read(name) for name in names]
        new = self.rule(*old, *inputs[self.refs :], **attrs)
        for name, value in zip(names, new, strict=True):
            cx.write(name, value)
        return new[0]


def _like(scalar: Node, x: Node) -> Node:
    return broadcast_node(scalar, x.shape)


def _momentum(var: Node, accum: Node, lr: Node, grad: Node, momentum: Node, *, use_nesterov: bool = False) -> Any:
    """accum = momentum * accum + grad; var -= lr * accum, or lr * (grad + momentum * accum) with Nesterov's rule.

    Sutskever et al. 2013, eqs. 1-4, in TensorFlow's form (ApplyMomentum).
    """
    new = accum * _like(momentum, var) + grad
    step = grad + new * _like(momentum, var) if use_nesterov else new
    return var - step * _like(lr, var), new


def _adam(var: Node, m: Node, v: Node, b1p: Node, b2p: Node, lr: Node, b1: Node, b2: Node, eps: Node, g: Node) -> Any:
    """Kingma & Ba 2014, the form before section 2.1's end: epsilon hat; b1p, b2p are beta1^t, beta2^t."""
    rate = lr * sqrt(1 - b2p) / (1 - b1p)
    new_m = m + (g - m) * _like(1 - b1, var)
    new_v = v + (g * g - v) * _like(1 - b2, var)
    return var - _like(rate, var) * new_m / (sqrt(new_v) + _like(eps, var)), new_m, new_v


assign = Update("Assign", 1, "The variable becomes the value.  Inputs: variable, value.", lambda value, **_: (value,))
assign_add = Update("AssignAdd", 1, "The variable grows by the value.", lambda var, value: (var + value,))
assign_sub = Update("AssignSub", 1, "The variable shrinks by the value.", lambda var, value: (var - value,))
apply_gradient_descent = Update(
    "ApplyGradientDescent",
    1,
    "var -= lr * grad.  Inputs: var, lr, grad.",
    lambda var, lr, grad: (var - grad * _like(lr, var),),
)
apply_momentum = Update(
    "ApplyMomentum",
    2,
    _momentum.__doc__ or "",
    lambda var, accum, lr, momentum, grad, **a: _momentum(var, accum, lr, grad, momentum, **a),
)
apply_adam = Update("ApplyAdam", 3, _adam.__doc__ or "", _adam)

variable_v2, read_variable, no_op = VariableV2(), ReadVariable(), NoOp()
is_variable_initialized, initialized_value = IsVariableInitialized(), InitializedValue()
user_placeholder, placeholder_with_default = UserPlaceholder(), PlaceholderWithDefault()


def feed_node(feed: int, type_: TensorType) -> Node:
    """The compiler's node for feed number `feed`."""
    return make_node(feed_op, (), {"feed": feed, "type": type_})
