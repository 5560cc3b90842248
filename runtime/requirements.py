"""What a run needs before it can begin: feeds for its placeholders, values for the variables that it reads.

Declared order decides: a variable that the run itself sets before it reads it needs no value.
"""

from __future__ import annotations

from collections.abc import Sequence

from graphflow.core.errors import FailedPreconditionError
from graphflow.framework.graph import Operation, Tensor
from graphflow.ops.state import Update
from graphflow.runtime.feeding import missing_feed
from graphflow.runtime.store import VariableStore

__all__ = ["Requirements"]


class Requirements:
    """The variables that must have a value; raises InvalidArgumentError for a placeholder that nobody feeds."""

    def __init__(self, fetches: Sequence[Tensor | Operation], feeds: Sequence[Tensor]) -> None:
        fed = set(feeds)
        self.variables: dict[str, tuple[Operation, Operation]] = {}  # name: (the variable, who reads it)
        written: set[str] = set()
        for op in _needed(fetches, fed):
            if op.type == "Placeholder" and op.outputs[0] not in fed:
                raise missing_feed(op)
            for variable in _read_by(op):
                if variable.name not in written:
                    self.variables.setdefault(variable.name, (variable, op))
            if isinstance(op.op, Update):
                written.update(x.op.name for x in op.inputs[: op.op.refs])
        for fetch in fetches:
            if isinstance(fetch, Tensor) and fetch.op.type == "VariableV2" and fetch.op.name not in written:
                self.variables.setdefault(fetch.op.name, (fetch.op, fetch.op))

    def check(self, state: VariableStore) -> None:
        """Raise FailedPreconditionError for the first variable without a value."""
        for name, (variable, reader) in self.variables.items():
            if not state.is_initialized(name):
                raise FailedPreconditionError(
                    f"Attempting to use uninitialized value {name}: variable '{name}' (declared at {variable.source}) "
                    f"is read by '{reader.name}' ({reader.type} at {reader.source}) and has no value in this session; "
                    "run tf.global_variables_initializer() first",
                    op=variable,
                )


def _read_by(op: Operation) -> list[Operation]:
    """The variables whose present value an operation needs."""
    if op.type == "ReadVariable":
        return [op.inputs[0].op]
    if isinstance(op.op, Update) and op.type != "Assign":
        return [x.op for x in op.inputs[: op.op.refs]]
    return []


def _needed(fetches: Sequence[Tensor | Operation], fed: set[Tensor]) -> list[Operation]:
    """The operations that the fetches need, in the order of declaration; what is fed needs nothing."""
    stack = [f.op if isinstance(f, Tensor) else f for f in fetches if f not in fed]
    seen: set[Operation] = set()
    while stack:
        op = stack.pop()
        if op in seen:
            continue
        seen.add(op)
        stack.extend(x.op for x in op.inputs if x not in fed)
        stack.extend(op.control_inputs)
    return sorted(seen, key=lambda op: op.id)
