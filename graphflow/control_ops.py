"""Order between operations: `control_dependencies`, `group`, `tuple`, `no_op`."""

from __future__ import annotations

import builtins
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from typing import Any

from graphflow.core.op import OPS
from graphflow.framework.convert import as_tensor
from graphflow.framework.default import get_default_graph
from graphflow.framework.scopes import name_scope
from graphflow.framework.tensor import Operation, Tensor

__all__ = ["colocate_with", "control_dependencies", "device", "group", "no_op", "tuple"]


def control_dependencies(control_inputs: Any) -> AbstractContextManager[Any]:
    """What is declared within runs after these operations or tensors; None forgets the enclosing blocks."""
    return get_default_graph().control_dependencies(control_inputs)


def device(device_name_or_function: Any) -> AbstractContextManager[None]:
    """Accepted and without effect: there is one device."""
    return get_default_graph().device(device_name_or_function)


def colocate_with(op: Any, ignore_existing: bool = False) -> AbstractContextManager[None]:
    """Accepted and without effect: there is one device."""
    return get_default_graph().colocate_with(op, ignore_existing)


def no_op(name: str | None = None) -> Operation:
    """An operation that does nothing but wait for its control inputs."""
    return OPS["NoOp"](name=name or "NoOp")  # type: ignore[no-any-return]


def _flat(inputs: Iterable[Any]) -> Iterator[Any]:
    for value in inputs:
        if isinstance(value, list | builtins.tuple):
            yield from _flat(value)
        elif isinstance(value, dict):
            yield from _flat(value.values())
        elif value is not None:
            yield value


def group(*inputs: Any, name: str | None = None, **kwargs: Any) -> Operation:
    """One operation that runs all of these: operations, tensors, variables, nested as you like."""
    if kwargs:
        raise ValueError(f"Unknown keyword arguments: {', '.join(kwargs)}")
    wanted = list(_flat(inputs))
    graph = wanted[0].graph if wanted else get_default_graph()
    with graph.as_default(), graph.control_dependencies(wanted):
        return no_op(name or "group_deps")


def tuple(tensors: Any, name: str | None = None, control_inputs: Any = None) -> list[Any]:  # noqa: A001
    """The same tensors, none of which is there before all of them are computed; None stays None."""
    waited = [t for t in tensors if t is not None]
    if not waited:
        raise ValueError("Must have at least one Tensor")
    with name_scope(name, "tuple", waited) as scope:
        gate = group(*waited, *(control_inputs or ()), name=f"{scope}group_deps/")
        with control_dependencies([gate]):
            return [None if t is None else t if isinstance(t, Operation) else _after(t) for t in tensors]


def _after(tensor: Any) -> Tensor:
    return OPS["Identity"](as_tensor(tensor), name="control_dependency")  # type: ignore[no-any-return]
