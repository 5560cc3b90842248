"""`tf.gradients`: derivatives, as a promise that the compiler keeps once it knows the shapes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from graphflow.core.errors import GraphError
from graphflow.core.op import OPS
from graphflow.framework.convert import as_tensor
from graphflow.framework.lookup import same_graph
from graphflow.framework.shaped import splat_like
from graphflow.framework.tensor import Operation, Tensor
from graphflow.framework.variables import Variable

__all__ = ["AggregationMethod", "connected", "gradients"]


class AggregationMethod:
    """How TensorFlow adds up partial derivatives; without effect here."""

    ADD_N = DEFAULT = 0
    EXPERIMENTAL_TREE = 1
    EXPERIMENTAL_ACCUMULATE_N = 2


def gradients(
    ys: Any,
    xs: Any,
    grad_ys: Any = None,
    name: str = "gradients",
    colocate_gradients_with_ops: bool = False,
    gate_gradients: bool = False,
    aggregation_method: int | None = None,
    stop_gradients: Any = None,
    unconnected_gradients: Any = "none",
) -> list[Any]:
    """The derivatives of sum(ys) — of sum(ys * grad_ys) — with respect to each of xs, of the types of xs.

    None for an x from which nothing differentiable leads to ys (zeros where unconnected_gradients is 'zero').
    stop_gradients are taken for constants.  Raises GraphError for ys that are not floats.
    """
    y_tensors = [as_tensor(y) for y in _listed(ys)]
    x_tensors = [_differentiated(x) for x in _listed(xs)]
    stops = [_differentiated(s) for s in _listed(stop_gradients)] if stop_gradients is not None else []
    graph = same_graph([*y_tensors, *x_tensors, *stops])
    if graph is None:
        return []
    for y in y_tensors:
        if not y.dtype.is_floating:
            raise GraphError(
                f"gradients: '{y.name}' (declared at {y.op.source}) is {y.dtype}; only floats have derivatives", op=y.op
            )
    with graph.as_default(), graph.name_scope(name or "gradients") as scope:
        g_tensors = _initial(y_tensors, grad_ys)
        reached = connected(y_tensors, stops)
        wanted = list(dict.fromkeys(x for x in x_tensors if x in reached))
        found = _promise(y_tensors, g_tensors, wanted, stops, scope)
        return [found[x] if x in found else _unconnected(x, unconnected_gradients) for x in x_tensors]


def _listed(values: Any) -> list[Any]:
    return list(values) if isinstance(values, list | tuple) else [values]


def _differentiated(x: Any) -> Tensor:
    """What stands for x in the graph: a variable's own tensor, so that every read of it counts."""
    return x._ref if isinstance(x, Variable) else as_tensor(x)


def _initial(ys: Sequence[Tensor], grad_ys: Any) -> list[Tensor]:
    """A gradient for each y: what was given, or ones."""
    given = _listed(grad_ys) if grad_ys is not None else [None] * len(ys)
    if len(given) != len(ys):
        raise ValueError(f"Passed {len(given)} grad_ys for {len(ys)} ys")
    result = []
    for number, (y, g) in enumerate(zip(ys, given, strict=True)):
        tensor = splat_like(y, 1, None, f"grad_ys_{number}") if g is None else as_tensor(g, y.dtype)
        if not tensor.shape.is_compatible_with(y.shape):
            raise GraphError(f"gradients: grad_ys has shape {tensor.shape} and '{y.name}' has {y.shape}", op=y.op)
        result.append(tensor)
    return result


def _promise(
    ys: list[Tensor], gs: list[Tensor], xs: list[Tensor], stops: list[Tensor], name: str
) -> dict[Tensor, Tensor]:
    if not xs:
        return {}
    outputs = OPS["Gradient"](*ys, *gs, *xs, *stops, ys=len(ys), xs=len(xs), name=name)
    return dict(zip(xs, outputs, strict=True))


def _unconnected(x: Tensor, kind: Any) -> Tensor | None:
    return splat_like(x, 0, None, "zeros_like") if getattr(kind, "value", kind) == "zero" else None


def connected(ys: Sequence[Tensor], stops: Sequence[Tensor] = ()) -> set[Tensor]:
    """The tensors from which something differentiable leads to ys."""
    stopped = set(stops)
    reached: set[Tensor] = set()
    stack = list(ys)
    while stack:
        tensor = stack.pop()
        if tensor in reached or not tensor.dtype.is_floating:
            continue
        reached.add(tensor)
        if tensor not in stopped and _passes(tensor.op):
            stack.extend(tensor.op.inputs)
    return reached


def _passes(op: Operation) -> bool:
    return op.op.differentiable
