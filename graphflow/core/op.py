"""How an op is declared, once: `elementwise(...)`, `composite(...)`, or a class derived from `Op`.

    tanh = elementwise(
        "Tanh",
        doc="Hyperbolic tangent, elementwise.",
        eval=np.tanh,                            # what value?       reference: folding, interpreter, test oracle
        grad=lambda g, y, x: g * (1 - y * y),    # what derivative?  graph in, graph out
        emit=lambda k, x: k.tanh(x),             # what code?        one value, scalar or SIMD
        cases=[case(normal(3, 4))],
    )

An op is a function.  Called with level-1 nodes it makes a node (scalars become constants, broadcasts become explicit);
called with a user's tensors or with plain values it adds an operation to the default graph.
A `composite` is an operation to the user and a function of other ops to the compiler: it needs no gradient, no code.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from graphflow.core.dtype import DType, as_dtype, bool_
from graphflow.core.node import Array, Node, make_node
from graphflow.core.type import ShapeError, TensorType, broadcast_shapes

__all__ = ["OPS", "Case", "Elementwise", "Op", "case", "composite", "elementwise", "set_frontend"]

OPS: dict[str, Op] = {}
"""Every op by its name; the generated tests and the documentation walk it."""

_frontend: Callable[..., Any] | None = None


def set_frontend(create: Callable[..., Any]) -> None:
    """Tell ops how to add an operation to the user's graph: `create(op, args, attrs, name)`."""
    global _frontend
    _frontend = create


@dataclass(frozen=True)
class Case:
    """One example of an op: inputs (arrays) and attributes; tests run it through every level of the compiler."""

    inputs: tuple[np.ndarray[Any, Any], ...]
    attrs: dict[str, Any] = field(default_factory=dict)
    grad: bool = True  # whether finite differences apply (not at kinks)


def case(*inputs: Any, grad: bool = True, **attrs: Any) -> Case:
    """A `Case`; inputs are arrays or scalars with a dtype."""
    return Case(tuple(np.asarray(x) for x in inputs), attrs, grad)


class Op:
    """An op: what type (`infer`), what value (`eval`), what derivative (`grad`), what is element i (`index`)."""

    name: str = ""
    doc: str = ""
    cases: Sequence[Case] = ()
    differentiable = True  # False: its output has no gradient (StopGradient, ArgMax, ...)
    fold = True  # False: never computed while compiling (random numbers, state)
    form = "map"  # what fusion sees: "map", "view", "reduction", "contraction" (a sum of products) or "memory"
    linear = False  # a view whose index rule is linear, so that a contraction may read through it
    cost = 8  # about how many vector instructions an element takes

    def __init__(self) -> None:
        self.name = self.name or type(self).__name__
        self.doc = self.doc or type(self).__doc__ or ""
        if self.name in OPS:
            raise ValueError(f"op {self.name} is declared twice")
        OPS[self.name] = self
        self.built_in = _declared_by_graphflow()

    def infer(self, *types: TensorType, **attrs: Any) -> TensorType:
        """The type of the output; raises ShapeError."""
        raise NotImplementedError(f"{self.name}.infer")

    def infer_unknown(self, *types: TensorType, **attrs: Any) -> TensorType:
        """The type where the rank of an input is unknown: by default the first input's dtype."""
        return TensorType(types[0].dtype, None)

    def eval(self, *values: Any, **attrs: Any) -> Any:
        """The value, by NumPy."""
        raise NotImplementedError(f"{self.name}.eval")

    def grad(self, g: Node, y: Node, *xs: Any, **attrs: Any) -> Any:
        """Gradients with respect to each input (None: none), given g with respect to the output y."""
        raise NotImplementedError(f"{self.name} has no gradient")

    def rereads(self, x: TensorType, y: TensorType, **attrs: Any) -> bool:
        """Whether computing all of y reads elements of the input x more than once."""
        return self.form != "map"

    def index(self, k: Any, i: tuple[Any, ...], *xs: Any, **attrs: Any) -> Any:
        """The value of element i, given views of the inputs and the builder k of loop code."""
        raise NotImplementedError(f"{self.name}.index")

    def node(self, *args: Any, **attrs: Any) -> Node:
        """A level-1 node of this op."""
        if not args:
            return make_node(self, (), attrs)
        like = next(a for a in args if isinstance(a, Node))
        return make_node(self, [constant_like(a, like) for a in args], attrs)

    def __call__(self, *args: Any, name: str | None = None, **attrs: Any) -> Any:
        if any(isinstance(a, Node) for a in args):
            return self.node(*args, **attrs)
        if _frontend is None:
            raise RuntimeError(f"{self.name}: there is no graph to add to (import graphflow, not its parts)")
        return _frontend(self, args, attrs, name)

    def __repr__(self) -> str:
        return f"<op {self.name}>"


def _declared_by_graphflow() -> bool:
    """Whether the op being declared stands in the package: then the version of the package says what it does."""
    frame = sys._getframe(1)
    while frame.f_back is not None and (frame.f_code.co_name == "__init__" or frame.f_globals is globals()):
        frame = frame.f_back
    return str(frame.f_globals.get("__name__")).startswith("graphflow.")


def constant_like(value: Any, like: Node) -> Node:
    """`value` as a node; numbers take the dtype of `like`."""
    if isinstance(value, Node):
        return value
    array = np.asarray(value)
    if array.dtype.kind in "iuf" and not isinstance(value, np.ndarray | np.generic):
        array = array.astype(like.dtype.numpy)
    return make_node(OPS["Const"], (), {"value": Array(array)})


class Elementwise(Op):
    """One value of each input makes one value of the output."""

    def __init__(
        self,
        name: str,
        doc: str,
        eval: Callable[..., Any],  # noqa: A002  (the field's word)
        emit: Callable[..., Any],
        grad: Callable[..., Any] | None,
        cases: Sequence[Case],
        result: Callable[..., DType] | None,
        accepts: str,
        cost: int,
    ) -> None:
        self.name, self.doc, self.cases = name, doc, cases
        self._eval, self.emit, self._grad, self._result = eval, emit, grad, result
        self.accepts = accepts
        self.cost = cost  # about how many vector instructions
        self.differentiable = grad is not None
        super().__init__()

    def result(self, *types: TensorType, **attrs: Any) -> DType:
        """The dtype of the output; raises ShapeError for dtypes that do not go together."""
        accepts = ACCEPTS[self.accepts]
        for t in types:
            if not accepts(t.dtype):
                raise ShapeError(f"dtype {t.dtype} is not {ACCEPTED[self.accepts]}")
        if self._result is not None:
            return self._result(*(t.dtype for t in types), **attrs)
        return common_dtype(*(t.dtype for t in types))

    def infer(self, *types: TensorType, **attrs: Any) -> TensorType:
        dtype = self.result(*types, **attrs)
        return TensorType(dtype, broadcast_shapes(*(t.dims for t in types)))

    def infer_unknown(self, *types: TensorType, **attrs: Any) -> TensorType:
        return TensorType(self.result(*types, **attrs), None)

    def eval(self, *values: Any, **attrs: Any) -> Any:
        return self._eval(*values, **attrs)

    def grad(self, g: Node, y: Node, *xs: Any, **attrs: Any) -> Any:
        if self._grad is None:
            raise NotImplementedError(f"{self.name} has no gradient")
        return self._grad(g, y, *xs, **attrs)

    def index(self, k: Any, i: tuple[Any, ...], *xs: Any, **attrs: Any) -> Any:
        return k.apply(self, *(x[i] for x in xs), **attrs)

    def node(self, *args: Any, **attrs: Any) -> Node:
        candidates = [a for a in args if isinstance(a, Node)]
        like = next((a for a in candidates if a.dtype is not bool_), candidates[0])
        nodes = [constant_like(a, like) for a in args]
        if len(nodes) > 1:
            shape = broadcast_shapes(*(n.shape for n in nodes))
            nodes = [broadcast_node(n, shape) for n in nodes]
        return make_node(self, nodes, attrs)


def broadcast_node(x: Node, shape: tuple[Any, ...]) -> Node:
    """x, or the explicit broadcast of x to `shape`."""
    return x if x.shape == shape else make_node(OPS["BroadcastTo"], (x,), {"shape": shape})


def common_dtype(*dtypes: DType) -> DType:
    """The one dtype of all; raises ShapeError: nothing is promoted silently, as in TensorFlow."""
    if any(d is not dtypes[0] for d in dtypes):
        raise ShapeError(f"dtypes differ: {' and '.join(d.name for d in dtypes)} (tf.cast converts)")
    return dtypes[0]


ACCEPTS: dict[str, Callable[[DType], bool]] = {
    "float": lambda d: d.is_floating,
    "number": lambda d: not d.is_bool,
    "int": lambda d: d.is_integer,
    "bool": lambda d: d.is_bool,
    "any": lambda d: True,
}
ACCEPTED = {"float": "a float", "number": "a number", "int": "an integer", "bool": "bool", "any": "anything"}


def elementwise(
    name: str,
    *,
    doc: str,
    eval: Callable[..., Any],  # noqa: A002  (the field's word)
    emit: Callable[..., Any],
    grad: Callable[..., Any] | None = None,
    cases: Sequence[Case],
    result: Callable[..., DType] | None = None,
    accepts: str = "number",
    cost: int = 1,
) -> Elementwise:
    """Declare an elementwise op; see the module's example."""
    return Elementwise(name, doc, eval, emit, grad, cases, result, accepts, cost)


class Composite(Op):
    """An operation of the user's graph that the compiler sees as a function of other ops."""

    def __init__(self, name: str, doc: str, expand: Callable[..., Any], cases: Sequence[Case], eval: Any) -> None:  # noqa: A002
        self.name, self.doc, self.cases = name, doc, cases
        self.expand = expand
        self._eval = eval
        super().__init__()

    def infer(self, *types: TensorType, **attrs: Any) -> Any:
        holes = [make_node(OPS["Hole"], (), {"number": n, "type": t}) for n, t in enumerate(types)]
        made = self.expand(*holes, **attrs)
        return tuple(node.type for node in made) if isinstance(made, tuple) else made.type

    def infer_unknown(self, *types: TensorType, **attrs: Any) -> TensorType:
        return TensorType(types[0].dtype, None)

    def eval(self, *values: Any, **attrs: Any) -> Any:
        return self._eval(*values, **attrs)

    def node(self, *args: Any, **attrs: Any) -> Any:
        """What the op is made of: a node, or a tuple of nodes."""
        like = next(a for a in args if isinstance(a, Node))
        return self.expand(*(constant_like(a, like) for a in args), **attrs)


def composite(
    name: str,
    *,
    doc: str,
    expand: Callable[..., Any],
    eval: Callable[..., Any],  # noqa: A002  (the field's word)
    cases: Sequence[Case],
) -> Composite:
    """Declare an op by what it is made of; `eval` is an independent reference for its tests."""
    return Composite(name, doc, expand, cases, eval)


def dtype_attr(value: Any) -> DType:
    """An attribute that names a dtype."""
    return as_dtype(value)
