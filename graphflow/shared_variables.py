"""What `tf.get_variable` shares: the variables of a graph by name, and the rules of sharing."""

from __future__ import annotations

import inspect
from typing import Any

from graphflow.core.dtype import as_dtype
from graphflow.core.errors import GraphError
from graphflow.framework.graph import Graph
from graphflow.framework.keys import GraphKeys
from graphflow.framework.shape import TensorShape, as_shape
from graphflow.framework.variables import Variable
from graphflow.initializers import default_initializer

__all__ = ["AUTO_REUSE", "SharedVariables"]


class _AutoReuse:
    """`reuse=tf.AUTO_REUSE`: share what exists, make what does not."""

    def __bool__(self) -> bool:
        return True

    def __repr__(self) -> str:
        return "tf.AUTO_REUSE"


AUTO_REUSE = _AutoReuse()


class SharedVariables:
    """The variables that `get_variable` made in one graph."""

    def __init__(self) -> None:
        self.by_name: dict[str, Variable] = {}
        self.opened: dict[str, int] = {}  # how often each variable scope was opened, for default_name
        self.scope: Any = None  # the VariableScope in force

    @staticmethod
    def of(graph: Graph) -> SharedVariables:
        if graph.variable_store is None:
            graph.variable_store = SharedVariables()
        return graph.variable_store  # type: ignore[no-any-return]

    def get(self, name: str, reuse: Any, shape: Any, dtype: Any, initializer: Any, **options: Any) -> Variable:
        """The variable called `name`: shared or new, as `reuse` says.

        Raises GraphError (a ValueError) where `reuse` says otherwise, or shape or dtype differ from what is shared.
        """
        found = self.by_name.get(name)
        if found is not None:
            return self._share(found, name, reuse, shape, dtype)
        if reuse and reuse is not AUTO_REUSE:
            raise GraphError(
                f"Variable {name} does not exist, or was not created with tf.get_variable(). Did you mean "
                "to set reuse=tf.AUTO_REUSE in VarScope?"
            )
        variable = _new(name, shape, as_dtype(dtype), initializer, options)
        self.by_name[name] = variable
        return variable

    @staticmethod
    def _share(found: Variable, name: str, reuse: Any, shape: Any, dtype: Any) -> Variable:
        if not reuse:
            raise GraphError(
                f"Variable {name} already exists, disallowed. Did you mean to set reuse=True or "
                f"reuse=tf.AUTO_REUSE in VarScope? Originally defined at {found.op.source}",
                op=found.op,
            )
        wanted = as_shape(shape)
        if not wanted.is_compatible_with(found.shape):
            raise GraphError(
                f"Trying to share variable {name}, but specified shape {wanted} and found shape "
                f"{found.shape} (defined at {found.op.source}).",
                op=found.op,
            )
        if found.dtype is not as_dtype(dtype):
            raise GraphError(
                f"Trying to share variable {name}, but specified dtype {as_dtype(dtype)} and found dtype "
                f"{found.dtype} (defined at {found.op.source}).",
                op=found.op,
            )
        return found


def _new(name: str, shape: Any, dtype: Any, initializer: Any, options: dict[str, Any]) -> Variable:
    wanted = as_shape(shape)
    if initializer is None:
        initializer = default_initializer(dtype)
    if isinstance(initializer, type):
        initializer = initializer()
    if not callable(initializer):
        return _of_value(name, wanted, dtype, initializer, options)
    if not wanted.is_fully_defined():
        raise GraphError(f"Shape of a new variable ({name}) must be fully defined, but instead was {wanted}.")

    def initial_value() -> Any:
        return _initialize(initializer, wanted.as_list(), dtype)

    return Variable(initial_value, name=name, dtype=dtype, expected_shape=wanted, **options)


def _initialize(initializer: Any, shape: list[int | None], dtype: Any) -> Any:
    """Call an initializer: with shape, dtype and partition_info, or with nothing where it takes nothing."""
    parameters = inspect.signature(initializer).parameters
    if not any(p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD, p.VAR_POSITIONAL) for p in parameters.values()):
        return initializer()
    options = {"partition_info": None} if "partition_info" in parameters else {}
    return initializer(shape, dtype=dtype, **options)


def _of_value(name: str, shape: TensorShape, dtype: Any, value: Any, options: dict[str, Any]) -> Variable:
    if shape.is_fully_defined():
        raise GraphError(f"Variable {name}: If initializer is a constant, do not specify shape.")
    return Variable(value, name=name, dtype=dtype, **options)


def add_regularization(variable: Variable, name: str, regularizer: Any) -> None:
    """Add regularizer(variable) to the collection of regularization losses."""
    graph = variable.graph
    with graph.name_scope(f"{name}/Regularizer/"):
        loss = regularizer(variable.value())
    if loss is not None:
        graph.add_to_collection(GraphKeys.REGULARIZATION_LOSSES, loss)
