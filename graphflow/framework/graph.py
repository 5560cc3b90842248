"""`Graph`: the operations of a program in the order in which they were declared, with names, scopes and collections.

    with tf.Graph().as_default() as g:
        with tf.name_scope("layer"):
            y = tf.add(1.0, 2.0, name="y")
    g.get_tensor_by_name("layer/y:0") is y

Names are unique within a graph, as in TensorFlow 1: a second `y` becomes `y_1`.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, Self

from graphflow.core.dim import Size, symbol
from graphflow.core.errors import GraphError
from graphflow.core.source import user_source
from graphflow.framework.controls import ControlStack
from graphflow.framework.default import default_graph_is
from graphflow.framework.learned_sizes import LearnedSizes
from graphflow.framework.lookup import Lookup
from graphflow.framework.tensor import Operation, Tensor

if TYPE_CHECKING:
    from types import TracebackType

    from graphflow.core.op import Op
    from graphflow.core.source import Source
    from graphflow.core.type import TensorType

__all__ = ["Graph", "Operation", "Tensor"]

_VALID_SCOPE = re.compile(r"^[A-Za-z0-9_.\\/>-]*$")
_VALID_OP = re.compile(r"^[A-Za-z0-9.][A-Za-z0-9_.\\/>-]*$")
_NUMBERS = itertools.count(1)


class Graph(Lookup):
    """A graph of operations; grows until `finalize`."""

    def __init__(self) -> None:
        super().__init__()
        self.number = next(_NUMBERS)
        self.source: Source = user_source()
        self.seed: int | None = None
        self.finalized = False
        self._finalized_at: Source = self.source
        self.watches: list[Callable[[Operation], None]] = []
        """Called with each operation that is added; sessions look here for graphs that grow from run to run."""
        self.building_function = False
        self._used: dict[str, int] = {}  # lower-case name -> how often it was asked for
        self._scope = ""  # without the final slash
        self._controls = ControlStack()
        self._sizes = LearnedSizes()
        self._collections: dict[Any, list[Any]] = {}
        self._open: list[AbstractContextManager[Graph]] = []
        self.variable_store: Any = None  # what tf.get_variable shares; filled by variable_scope.py

    # operations

    def create_operation(
        self,
        op: Op,
        inputs: tuple[Tensor, ...],
        attrs: dict[str, Any],
        types: tuple[TensorType, ...],
        name: str,
        source: Source | None = None,
    ) -> Operation:
        """Add an operation.  `name` ends with '/' when it was reserved by `unique_name` or `name_scope` already."""
        self.check_not_finalized()
        full = name[:-1] if name.endswith("/") else self.unique_name(name)
        if not _VALID_OP.match(full):
            raise GraphError(f"'{full}' is not a valid name of an operation")
        if full in self._by_name:
            raise GraphError(f"Duplicate node name in graph: '{full}' (declared at {self._by_name[full].source})")
        self._used.setdefault(full.lower(), 1)
        known = {x.op for x in inputs}
        behind = (one for one in self._sizes.behind(attrs) if one not in known)
        controls = tuple(dict.fromkeys((*self._controls.of_inputs(inputs), *behind)))
        source = source if source is not None else user_source()
        operation = Operation(self, op, full, inputs, attrs, types, controls, source, len(self._operations))
        self._controls.created(operation)
        self._sizes.created(operation)
        self._operations.append(operation)
        self._by_name[full] = operation
        for watch in tuple(self.watches):
            watch(operation)
        return operation

    def check_not_finalized(self) -> None:
        """RuntimeError that names the user's line, and the one that finalized the graph."""
        if self.finalized:
            raise RuntimeError(
                f"Graph is finalized and cannot be modified: {user_source()} adds to it, and it was finalized at "
                f"{self._finalized_at}.  Declare everything before that, or leave the graph open."
            )

    def finalize(self) -> None:
        """No operation can be added from now on.  Sessions run what there is, new pairs of fetches and feeds too."""
        if not self.finalized:
            self.finalized, self._finalized_at = True, user_source()

    @property
    def version(self) -> int:
        return len(self._operations)

    def fresh_sizes(self, prefix: str, sizes: Iterable[Size | None]) -> tuple[Size, ...]:
        """The sizes with a symbol of its own for each None."""
        return tuple(symbol(f"{prefix}_{axis}") if size is None else size for axis, size in enumerate(sizes))

    # names and scopes

    def unique_name(self, name: str, mark_as_used: bool = True) -> str:
        """`name` in the current scope, with `_1`, `_2` ... where it is taken; case makes no difference."""
        if self._scope:
            name = f"{self._scope}/{name}"
        key = name.lower()
        count = self._used.get(key, 0)
        if mark_as_used:
            self._used[key] = count + 1
        if not count:
            return name
        unique = key
        while unique in self._used:
            unique = f"{key}_{count}"
            count += 1
        if mark_as_used:
            self._used[unique] = 1
        return f"{name}_{count - 1}"

    @contextmanager
    def name_scope(self, name: str | None) -> Iterator[str]:
        """Prefix the names of what is declared within; yields the prefix, slash included.

        None or '' is the top level; a name that ends with '/' enters that very scope again.
        """
        if name and (not isinstance(name, str) or not _VALID_SCOPE.match(name)):
            raise ValueError(f"{name!r} is not a valid scope name")
        old = self._scope
        scope = "" if not name else name[:-1] if name.endswith("/") else self.unique_name(name)
        self._scope = scope
        try:
            yield scope + "/" if scope else ""
        finally:
            self._scope = old

    def get_name_scope(self) -> str:
        return self._scope

    def as_default(self) -> AbstractContextManager[Graph]:
        """Declare in this graph within a `with` block."""
        return default_graph_is(self)

    def control_dependencies(self, control_inputs: Any) -> AbstractContextManager[Any]:
        """What is declared within runs after these operations or tensors; None forgets the enclosing ones."""
        if control_inputs is None:
            return self._controls.cleared()
        return self._controls.within(tuple(self._operation_of(c) for c in control_inputs))

    def has_control_dependencies(self) -> bool:
        """Whether a `control_dependencies` block is open."""
        return bool(self._controls.active())

    def _operation_of(self, value: Any) -> Operation:
        element = self.as_graph_element(value)
        return element.op if isinstance(element, Tensor) else element

    def device(self, device_name_or_function: Any) -> AbstractContextManager[None]:
        """Accepted and without effect: there is one device."""
        return nullcontext()

    def colocate_with(self, op: Any, ignore_existing: bool = False) -> AbstractContextManager[None]:
        """Accepted and without effect: there is one device."""
        return nullcontext()

    def gradient_override_map(self, op_type_map: Any) -> AbstractContextManager[None]:
        raise NotImplementedError("gradient_override_map: the gradient of an op is part of its declaration")

    # collections

    @property
    def collections(self) -> list[Any]:
        return list(self._collections)

    def get_all_collection_keys(self) -> list[Any]:
        return [key for key in self._collections if isinstance(key, str)]

    def add_to_collection(self, name: Any, value: Any) -> None:
        self.check_not_finalized()
        self._collections.setdefault(name, []).append(value)

    def add_to_collections(self, names: Any, value: Any) -> None:
        """Add to each of the collections, once."""
        names = (names,) if isinstance(names, str) else names
        for name in dict.fromkeys(names or ()):
            self.add_to_collection(name, value)

    def get_collection_ref(self, name: Any) -> list[Any]:
        """The list itself: changing it changes the collection."""
        return self._collections.setdefault(name, [])

    def get_collection(self, name: Any, scope: str | None = None) -> list[Any]:
        """A copy of the list; with `scope`, only what has a name that begins with a match of that expression."""
        found = self._collections.get(name, [])
        if scope is None:
            return list(found)
        pattern = re.compile(scope)
        return [item for item in found if hasattr(item, "name") and pattern.match(item.name)]

    def clear_collection(self, name: Any) -> None:
        self.check_not_finalized()
        self._collections.pop(name, None)

    # the rest

    def to_networkx(self) -> Any:
        """A networkx.DiGraph: a node for each operation (op, type, shape, dtype, source), an edge for each dependency.

        An edge has `tensor` (the names of the tensors it stands for) and `control` (True where there are none).
        """
        import networkx

        drawn = networkx.DiGraph(name=repr(self))
        for op in self._operations:
            types = [t.type_ for t in op.outputs]
            first = types[0] if types else None
            drawn.add_node(
                op.name,
                op=op.type,
                type=", ".join(map(str, types)),
                shape=None if first is None else first.shape,
                dtype=None if first is None else first.dtype.name,
                source=str(op.source),
            )
            for c in op.control_inputs:
                drawn.add_edge(c.name, op.name, tensor=(), control=True)
            for x in op.inputs:
                tensors = drawn.get_edge_data(x.op.name, op.name, {}).get("tensor", ())
                drawn.add_edge(x.op.name, op.name, tensor=(*tensors, x.name), control=False)
        return drawn

    def __enter__(self) -> Self:
        self._open.append(self.as_default())
        self._open[-1].__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exception: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._open.pop().__exit__(kind, exception, traceback)

    def __repr__(self) -> str:
        return f"<tf.Graph {self.number}, made at {self.source}, {len(self._operations)} operations>"
