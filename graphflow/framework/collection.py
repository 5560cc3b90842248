"""Lists of things by name: `tf.global_variables()`, `tf.add_to_collection`, and initializing what is listed."""

from __future__ import annotations

from typing import Any

from graphflow.core.op import OPS
from graphflow.framework.default import get_default_graph
from graphflow.framework.keys import GraphKeys
from graphflow.framework.tensor import Operation, Tensor
from graphflow.framework.variables import Variable, ref_of

__all__ = [
    "add_to_collection", "add_to_collections", "all_variables", "get_collection", "get_collection_ref",
    "global_variables", "global_variables_initializer", "initialize_all_variables", "initialize_local_variables",
    "initialize_variables", "is_variable_initialized", "local_variables", "local_variables_initializer",
    "model_variables", "moving_average_variables", "trainable_variables", "variables_initializer",
]  # fmt: skip


def add_to_collection(name: Any, value: Any) -> None:
    """Add to a collection of the default graph."""
    get_default_graph().add_to_collection(name, value)


def add_to_collections(names: Any, value: Any) -> None:
    """Add to several collections of the default graph."""
    get_default_graph().add_to_collections(names, value)


def get_collection(key: Any, scope: str | None = None) -> list[Any]:
    """A copy of a collection of the default graph; see `Graph.get_collection`."""
    return get_default_graph().get_collection(key, scope)


def get_collection_ref(key: Any) -> list[Any]:
    """A collection of the default graph itself."""
    return get_default_graph().get_collection_ref(key)


def global_variables(scope: str | None = None) -> list[Variable]:
    """All variables but local ones, in the order of declaration."""
    return get_collection(GraphKeys.GLOBAL_VARIABLES, scope)


def trainable_variables(scope: str | None = None) -> list[Variable]:
    """The variables that an optimizer trains."""
    return get_collection(GraphKeys.TRAINABLE_VARIABLES, scope)


def local_variables(scope: str | None = None) -> list[Variable]:
    """Variables that no checkpoint keeps."""
    return get_collection(GraphKeys.LOCAL_VARIABLES, scope)


def model_variables(scope: str | None = None) -> list[Variable]:
    """Variables that inference needs."""
    return get_collection(GraphKeys.MODEL_VARIABLES, scope)


def moving_average_variables(scope: str | None = None) -> list[Variable]:
    """Variables with a moving average."""
    return get_collection(GraphKeys.MOVING_AVERAGE_VARIABLES, scope)


def variables_initializer(var_list: Any, name: str = "init") -> Operation:
    """An operation that gives every variable its initial value."""
    initializers = [v.initializer for v in var_list]
    graph = initializers[0].graph if initializers else get_default_graph()
    with graph.as_default(), graph.control_dependencies(initializers):
        return OPS["NoOp"](name=name)  # type: ignore[no-any-return]


def global_variables_initializer() -> Operation:
    """An operation that gives every global variable declared so far its initial value."""
    return variables_initializer(global_variables())


def local_variables_initializer() -> Operation:
    """An operation that gives every local variable declared so far its initial value."""
    return variables_initializer(local_variables())


def is_variable_initialized(variable: Any, name: str | None = None) -> Tensor:
    """bool []: whether the variable has a value in the session."""
    return OPS["IsVariableInitialized"](ref_of(variable), name=name)  # type: ignore[no-any-return]


all_variables = global_variables
initialize_all_variables = global_variables_initializer
initialize_local_variables = local_variables_initializer
initialize_variables = variables_initializer
