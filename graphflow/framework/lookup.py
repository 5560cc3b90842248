"""Finding operations and tensors of a graph by name; unknown names get the nearest known ones as an answer."""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from graphflow.core.errors import GraphError, NotFoundError
from graphflow.framework.tensor import Operation, Tensor

if TYPE_CHECKING:
    from graphflow.framework.graph import Graph

__all__ = ["Lookup", "nearest", "same_graph"]


def nearest(name: str, names: Any) -> str:
    """` Did you mean 'x' or 'y'?`, or nothing where no name is near."""
    found = get_close_matches(name, list(names), n=3, cutoff=0.6)
    return f" Did you mean {' or '.join(repr(n) for n in found)}?" if found else ""


class Lookup:
    """The part of a Graph that holds operations and finds them."""

    def __init__(self) -> None:
        self._operations: list[Operation] = []
        self._by_name: dict[str, Operation] = {}

    def get_operations(self) -> list[Operation]:
        """All operations, in the order of declaration."""
        return list(self._operations)

    def get_operation_by_name(self, name: str) -> Operation:
        """The operation called `name`; raises NotFoundError (a KeyError), TypeError for what is not a string."""
        if not isinstance(name, str):
            raise TypeError(f"Operation names are strings (or similar), not {type(name).__name__}.")
        return self.as_graph_element(name, allow_tensor=False, allow_operation=True)  # type: ignore[no-any-return]

    def get_tensor_by_name(self, name: str) -> Tensor:
        """The tensor called `op:index`; raises NotFoundError (a KeyError), ValueError for the name of an operation."""
        if not isinstance(name, str):
            raise TypeError(f"Tensor names are strings (or similar), not {type(name).__name__}.")
        return self.as_graph_element(name, allow_tensor=True, allow_operation=False)  # type: ignore[no-any-return]

    def as_graph_element(self, obj: Any, allow_tensor: bool = True, allow_operation: bool = True) -> Any:
        """The Tensor or Operation of this graph that `obj` is or names; a Variable is its value."""
        if isinstance(obj, str):
            return self._named(obj, allow_tensor, allow_operation)
        convert = getattr(obj, "_as_graph_element", None)
        element = obj if convert is None else convert()
        if (isinstance(element, Tensor) and allow_tensor) or (isinstance(element, Operation) and allow_operation):
            self.check_owns(element)
            return element
        kinds = " or ".join(k for k, ok in (("Tensor", allow_tensor), ("Operation", allow_operation)) if ok)
        raise TypeError(f"Can not convert a {type(obj).__name__} into a {kinds}.")

    def check_owns(self, element: Tensor | Operation) -> None:
        """Raise GraphError for what belongs to another graph."""
        if element.graph is self:
            return
        op = element.op if isinstance(element, Tensor) else element
        raise GraphError(
            f"{type(element).__name__} '{element.name}' (declared at {op.source}) is not an element of this graph.\n"
            f"  it belongs to {element.graph}\n  this is       {self}\n"
            "  Declare both in one graph: `with g.as_default():`, and tf.Session(graph=g) runs it.",
            op=op,
        )

    def _named(self, name: str, allow_tensor: bool, allow_operation: bool) -> Tensor | Operation:
        op_name, colon, index = name.partition(":")
        if colon and allow_tensor:
            return self._tensor_named(name, op_name, index)
        if colon:
            raise ValueError(f"Name '{name}' appears to refer to a Tensor, not a Operation.")
        if not allow_operation:
            known = f"; '{name}:0' would be its first output" if name in self._by_name else ""
            raise ValueError(
                f"The name '{name}' refers to an Operation, not a Tensor{known}. Tensor names must be of "
                'the form "<op_name>:<output_index>".'
            )
        if name not in self._by_name:
            hint = nearest(name, self._by_name)
            raise NotFoundError(f"The name '{name}' refers to an Operation not in the graph.{hint}")
        return self._by_name[name]

    def _tensor_named(self, name: str, op_name: str, index: str) -> Tensor:
        if not index.isdecimal():
            raise ValueError(
                f"The name '{name}' looks a lot like a Tensor name, but is not a valid one. Tensor names "
                'must be of the form "<op_name>:<output_index>".'
            )
        if op_name not in self._by_name:
            hint = nearest(op_name, self._by_name)
            raise NotFoundError(
                f"The name '{name}' refers to a Tensor which does not exist. The operation, '{op_name}', "
                f"does not exist in the graph.{hint}"
            )
        outputs = self._by_name[op_name].outputs
        if int(index) >= len(outputs):
            raise NotFoundError(
                f"The name '{name}' refers to a Tensor which does not exist. The operation, '{op_name}', "
                f"exists but only has {len(outputs)} outputs."
            )
        return outputs[int(index)]


def same_graph(elements: list[Tensor]) -> Graph | None:
    """The one graph of all elements, None where there are none; raises GraphError naming both graphs."""
    first = elements[0] if elements else None
    for other in elements[1:]:
        if first is not None and other.graph is not first.graph:
            raise GraphError(
                f"Tensor '{other.name}' must be from the same graph as Tensor '{first.name}'.\n"
                f"  '{first.name}' (declared at {first.op.source}) belongs to {first.graph}\n"
                f"  '{other.name}' (declared at {other.op.source}) belongs to {other.graph}\n"
                "  Declare both in one graph: `with g.as_default():` around the lines that make them.",
                op=other.op,
            )
    return first.graph if first is not None else None
