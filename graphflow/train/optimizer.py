"""`Optimizer`: from a loss to an operation that changes variables so that it shrinks.

    train_op = tf.train.AdamOptimizer(1e-3).minimize(loss)
    # is
    pairs = optimizer.compute_gradients(loss)
    train_op = optimizer.apply_gradients(pairs)

A new optimizer is a class with `_apply` (the update of one variable) and, where it keeps state, `_create_slots`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from graphflow.control_ops import group
from graphflow.core.dtype import DType
from graphflow.core.errors import GraphError
from graphflow.core.op import OPS
from graphflow.framework.convert import as_tensor, is_tensor
from graphflow.framework.default import get_default_graph
from graphflow.framework.gradients import gradients
from graphflow.framework.graph import Graph
from graphflow.framework.keys import GraphKeys
from graphflow.framework.tensor import Operation, Tensor
from graphflow.framework.variables import Variable, ref_of
from graphflow.initializers import Zeros
from graphflow.math_ops import cast
from graphflow.variable_scope import get_variable, variable_scope

__all__ = ["Optimizer"]


class Optimizer:
    """Base of the optimizers.  Learning rates and the like are numbers, scalar tensors, or functions that give one."""

    GATE_NONE, GATE_OP, GATE_GRAPH = 0, 1, 2

    def __init__(self, use_locking: bool, name: str) -> None:
        if not name:
            raise ValueError("Must specify the optimizer name")
        self._name = name
        self._slots: dict[str, dict[Variable, Variable]] = {}
        self._shared: dict[tuple[str, Graph], Variable] = {}
        self._scope = ""  # where the updates are being declared
        self._tensors: dict[tuple[str, DType], Tensor] = {}

    def get_name(self) -> str:
        return self._name

    def minimize(
        self,
        loss: Any,
        global_step: Any = None,
        var_list: Iterable[Any] | None = None,
        gate_gradients: int = GATE_OP,
        aggregation_method: int | None = None,
        colocate_gradients_with_ops: bool = False,
        name: str | None = None,
        grad_loss: Any = None,
    ) -> Operation:
        """An operation that makes one step; with `global_step`, it adds one to it."""
        pairs = self.compute_gradients(loss, var_list, gate_gradients, aggregation_method, grad_loss=grad_loss)
        if not any(g is not None for g, _ in pairs):
            _refuse([v for _, v in pairs], loss)
        return self.apply_gradients(pairs, global_step, name)

    def compute_gradients(
        self,
        loss: Any,
        var_list: Iterable[Any] | None = None,
        gate_gradients: int = GATE_OP,
        aggregation_method: int | None = None,
        colocate_gradients_with_ops: bool = False,
        grad_loss: Any = None,
    ) -> list[tuple[Tensor | None, Variable]]:
        """(gradient, variable) for each variable of var_list, the trainable ones where not given."""
        if gate_gradients not in (self.GATE_NONE, self.GATE_OP, self.GATE_GRAPH):
            raise ValueError(
                f"gate_gradients must be one of: Optimizer.GATE_NONE, GATE_OP, GATE_GRAPH. Not {gate_gradients}"
            )
        if callable(loss) and not is_tensor(loss):
            loss = loss()
        loss = as_tensor(loss)
        variables = loss.graph.get_collection(GraphKeys.TRAINABLE_VARIABLES) if var_list is None else _listed(var_list)
        for v in variables:
            if not isinstance(v, Variable):
                raise TypeError(f"Argument is not a variable: {v!r}")
        if not variables:
            raise GraphError("No variables to optimize.")
        found = gradients(loss, variables, grad_loss, aggregation_method=aggregation_method)
        return list(zip(found, variables, strict=True))

    def apply_gradients(
        self, grads_and_vars: Iterable[tuple[Any, Any]], global_step: Any = None, name: str | None = None
    ) -> Operation:
        """An operation that updates each variable by its gradient; pairs without a gradient are skipped."""
        pairs = [(g, v) for g, v in grads_and_vars]
        if not pairs:
            raise GraphError("No variables provided.")
        wanted = [(as_tensor(g), v) for g, v in pairs if g is not None]
        if not wanted:
            _refuse([v for _, v in pairs], None)
        graph = wanted[0][1].graph
        with graph.as_default():
            with graph.control_dependencies(None):
                self._create_slots([v for _, v in wanted])
            with graph.name_scope(name or self._name) as scope:
                train_op = self._declare(graph, wanted, global_step, scope)
        if train_op not in graph.get_collection_ref(GraphKeys.TRAIN_OP):
            graph.add_to_collection(GraphKeys.TRAIN_OP, train_op)
        return train_op

    def _declare(self, graph: Graph, wanted: list[tuple[Tensor, Variable]], global_step: Any, scope: str) -> Operation:
        self._scope, self._tensors = scope, {}
        updates = []
        for g, v in wanted:
            with graph.name_scope(f"update_{v.op.name}"):
                updates.append(self._bounded(self._apply(g, v), v))
        if global_step is None:
            return self._finish(updates, scope)
        with graph.control_dependencies([self._finish(updates, f"{scope}update/")]):
            step: Tensor = OPS["AssignAdd"](ref_of(global_step), 1, name=scope)
        return step.op

    @staticmethod
    def _bounded(update: Tensor, variable: Variable) -> Tensor:
        """The update, followed by the variable's constraint where it has one."""
        if variable.constraint is None:
            return update
        with variable.graph.control_dependencies([update]):
            return variable.assign(variable.constraint(variable.read_value()))  # type: ignore[no-any-return]

    # what an optimizer says

    def _create_slots(self, variables: Sequence[Variable]) -> None:
        """Declare the state that goes with these variables."""

    def _hyper(self, name: str, value: Any, dtype: DType) -> Tensor:
        """A hyper-parameter as a tensor of a dtype: one for all variables of that dtype."""
        if (name, dtype) not in self._tensors:
            value = value() if callable(value) and not is_tensor(value) else value
            with get_default_graph().name_scope(self._scope):
                tensor = cast(value, dtype) if is_tensor(value) else as_tensor(value, dtype, name=name)
            self._tensors[name, dtype] = tensor
        return self._tensors[name, dtype]

    def _apply(self, grad: Tensor, variable: Variable) -> Tensor:
        """The update of one variable."""
        raise NotImplementedError(type(self).__name__)

    def _finish(self, updates: list[Tensor], name: str) -> Operation:
        """One operation for all updates."""
        return group(*updates, name=name)

    # state

    def get_slot(self, var: Variable, name: str) -> Variable | None:
        """The slot called `name` that goes with a variable, None where there is none."""
        return self._slots.get(name, {}).get(var)

    def get_slot_names(self) -> list[str]:
        """The names of the kinds of slots, sorted."""
        return sorted(self._slots)

    def variables(self) -> list[Variable]:
        """All state of the optimizer in the default graph, sorted by name."""
        graph = get_default_graph()
        state = [slot for slots in self._slots.values() for slot in slots.values()] + list(self._shared.values())
        return sorted((v for v in state if v.graph is graph), key=lambda v: v.name)

    def _zeros_slot(self, variable: Variable, slot: str, op_name: str) -> Variable:
        """The slot of a variable, zeros at first; made where it does not exist."""
        return self._slot(variable, slot, op_name, Zeros(dtype=variable.dtype))

    def _slot(self, variable: Variable, slot: str, op_name: str, initializer: Any) -> Variable:
        slots = self._slots.setdefault(slot, {})
        if variable not in slots:
            with variable_scope(None, f"{variable.op.name}/{op_name}") as scope:
                scope.reuse = False
                shape, dtype = variable.shape, variable.dtype
                with variable_scope(scope, auxiliary_name_scope=False):
                    slots[variable] = get_variable("", shape, dtype, initializer, trainable=False)
        return slots[variable]

    def _shared_variable(self, value: float, name: str, like: Variable) -> Variable:
        """A scalar that goes with the optimizer and not with one variable; made where it does not exist."""
        key = (name, like.graph)
        if key not in self._shared:
            self._shared[key] = Variable(value, trainable=False, name=name, dtype=like.dtype)
        return self._shared[key]


def _listed(var_list: Any) -> list[Any]:
    """Variables in lists of any nesting, or one alone."""
    if not isinstance(var_list, list | tuple):
        return [var_list] if isinstance(var_list, Variable) else list(var_list)
    return [v for part in var_list for v in (_listed(part) if isinstance(part, list | tuple) else [part])]


def _refuse(variables: Sequence[Any], loss: Any) -> None:
    names = ", ".join(f"'{v.name}' (declared at {v.op.source})" for v in variables)
    about = "" if loss is None else f" and loss '{as_tensor(loss).name}'"
    raise GraphError(
        "No gradients provided for any variable, check your graph for ops that do not support gradients, "
        f"between variables [{names}]{about}."
    )
