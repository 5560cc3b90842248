"""`tf.name_scope`: prefixes for the names of operations."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from graphflow.framework.convert import is_tensor
from graphflow.framework.default import get_default_graph

if TYPE_CHECKING:
    from types import TracebackType

__all__ = ["name_scope", "op_scope"]


class name_scope:  # noqa: N801  (TensorFlow's name)
    """`with tf.name_scope("layer") as scope:` puts `layer/` before the names of what is declared within.

    A name that ends with '/' enters that scope again; None takes `default_name`; without both it is the top level.
    """

    def __init__(self, name: str | None = None, default_name: str | None = None, values: Any = None) -> None:
        if name is None and default_name is None and values is not None:
            raise ValueError("At least one of name (None) and default_name (None) must be provided.")
        if name is not None and not isinstance(name, str):
            raise TypeError(f"name for name_scope must be a string, not {name!r}")
        self.name = default_name if name is None else name
        self._values = values
        self._stack = ExitStack()

    def __enter__(self) -> str:
        tensors = [v for v in self._values or () if is_tensor(v)]
        graph = tensors[0].graph if tensors else get_default_graph()
        self._stack.enter_context(graph.as_default())
        scope: str = self._stack.enter_context(graph.name_scope(self.name))
        return scope

    def __exit__(
        self, kind: type[BaseException] | None, exception: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, exception, traceback)


def op_scope(values: Any, name: str | None, default_name: str | None = None) -> name_scope:
    """`name_scope` with its arguments in the order of TensorFlow 0."""
    return name_scope(name, default_name, values)
