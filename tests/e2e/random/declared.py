"""`declared_values(fetches, feeds, variables)`: what each operation's own `eval` makes, in the user's graph.

The oracle of check.py begins with what operations are made of; here is the reference of those that are made of others.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from graphflow.compiler.capture import needed
from graphflow.core.dim import Dim
from graphflow.framework.tensor import Operation, Tensor

__all__ = ["declared_values"]

Array = np.ndarray[Any, Any]

EXTREMES = ("Max", "Min", "ArgMax", "ArgMin")
"""What NumPy has none of where there are no elements."""


ASSIGNMENTS: dict[str, Callable[[Array, Array], Array]] = {
    "Assign": lambda old, new: new,
    "AssignAdd": np.add,
    "AssignSub": np.subtract,
}


def declared_values(
    fetches: Sequence[Any], feeds: Mapping[Tensor, Array], variables: Mapping[str, Array]
) -> list[Array] | None:
    """The values of the fetches; None where sizes are unknown, or for what only a session can do."""
    if not all(isinstance(f, Tensor) for f in fetches):
        return None
    values, state = dict[Tensor, Any](feeds), dict(variables)
    for operation in needed(fetches, feeds):
        name = operation.inputs[0].op.name if operation.inputs else ""
        if operation.op.name in ASSIGNMENTS:
            state[name] = ASSIGNMENTS[operation.op.name](state[name], values[operation.inputs[1]])
        if operation.op.name in (*ASSIGNMENTS, "ReadVariable"):
            values.setdefault(operation.outputs[0], state[name])
        elif operation.op.name not in ("VariableV2", "NoOp"):
            if not is_function(operation):
                return None
            inputs = [values[x] for x in operation.inputs]
            if operation.op.name in EXTREMES and not inputs[0].size:
                return None
            with warnings.catch_warnings(action="ignore"):  # NumPy's of means of nothing
                found = operation.op.eval(*inputs, **operation.attrs)
            outputs = found if isinstance(found, tuple) else (found,)
            for tensor, value in zip(operation.outputs, outputs, strict=True):
                values.setdefault(tensor, np.asarray(value, tensor.dtype.numpy))  # what is fed stays
    return [values[f] for f in fetches]


def is_function(operation: Operation) -> bool:
    """Whether an operation is a function of its inputs, with attributes that are known, whose reference is no sum over
    all elements for each of them."""
    if "Backprop" in operation.op.name:
        return False
    return not hasattr(operation.op, "capture") and not any(map(has_size, operation.attrs.values()))


def has_size(value: Any) -> bool:
    """Whether there is an unknown size in an attribute."""
    return any(map(has_size, value)) if isinstance(value, tuple) else isinstance(value, Dim)
