"""The part of the user's graph that a run needs, as a pure program of typed, interned nodes.

Assumes: a graph whose operations stand in creation order (inputs first).  Guarantees: feeds are numbered, every type
is decided for the shapes that were fed, broadcasts are nodes, names are gone (they ride along as origins), composites
are expanded, and the effects of the run are pairs (variable, new value).

Unknown sizes of feeds become symbols.  Sizes that are equal in this run share one symbol, so that `x: [batch, 784]`
and `labels: [batch]` agree; a run where they differ is another program (`Guards`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from graphflow.compiler.program import Origin, Origins, TensorProgram, inherit
from graphflow.core.dim import Dim, Symbol, atoms_of, fed, substitute, symbol
from graphflow.core.dtype import int64
from graphflow.core.errors import InvalidArgumentError, ResourceExhaustedError
from graphflow.core.node import Node, make_node
from graphflow.core.type import ShapeError, TensorType
from graphflow.framework.tensor import Operation, Tensor
from graphflow.ops.gradient import mark, promise
from graphflow.ops.leaf import variable_op
from graphflow.ops.state import Update, feed_node

__all__ = ["Captured", "capture", "feed_types"]

ADDRESSABLE = 1 << 60
"""Bytes; larger than any memory, and far enough from 2^63 that sums of sizes stay below it."""

RANDOM_DRAWS = "random/"
"""Prefix of the hidden variables that count the draws of random streams."""


@dataclass
class Captured:
    """A program and what its capture took for granted."""

    program: TensorProgram
    assumed_initialized: dict[str, bool] = field(default_factory=dict)


def feed_types(feeds: Sequence[Tensor], shapes: Sequence[tuple[int, ...]], static: frozenset[str]) -> list[TensorType]:
    """The types of feeds as the program sees them: what the user left open is a symbol unless `static` names it."""
    symbols: dict[int, Dim] = {}
    types = []
    for tensor, shape in zip(feeds, shapes, strict=True):
        declared = tensor.type_.shape or (None,) * len(shape)
        dims = tuple(_feed_size(d, s, symbols, static) for d, s in zip(declared, shape, strict=True))
        types.append(TensorType(tensor.dtype, dims))
    return types


def _feed_size(declared: Any, size: int, symbols: dict[int, Dim], static: frozenset[str]) -> int | Dim:
    if isinstance(declared, int):
        return declared
    if size not in symbols:
        symbols[size] = symbol(f"n{len(symbols)}", hint=size)
    name = f"n{list(symbols).index(size)}"
    return size if name in static else symbols[size]


def capture(
    fetches: Sequence[Tensor | Operation],
    feeds: Sequence[Tensor],
    types: Sequence[TensorType],
    is_initialized: Callable[[str], bool],
) -> Captured:
    """The program that computes `fetches` when `feeds` have the given types."""
    return _Capture(feeds, types, is_initialized).run(fetches)


class _Capture:
    def __init__(
        self, feeds: Sequence[Tensor], types: Sequence[TensorType], initialized: Callable[[str], bool]
    ) -> None:
        self.feeds = {tensor: feed_node(n, t) for n, (tensor, t) in enumerate(zip(feeds, types, strict=True))}
        self.types = tuple(types)
        self.values: dict[Tensor, Any] = dict(self.feeds)
        self.state: dict[str, Node] = {}
        self.variables: dict[str, TensorType] = {}
        self.written: set[str] = set()
        self.origins: Origins = {n: (Origin(t.op.name, t.op.type, t.op.source),) for t, n in self.feeds.items()}
        self.sizes = _user_sizes(feeds, types)
        self._initialized = initialized
        self.assumed: dict[str, bool] = {}
        self.tags = 0
        self.frame: Mapping[Tensor, Any] = self.values  # what operations see now: inside of a promise, marked values
        self.now: Operation | None = None

    def run(self, fetches: Sequence[Tensor | Operation]) -> Captured:
        for operation in needed(fetches, self.feeds):
            self.now = operation
            self.evaluate(operation, self.values)
        outputs = tuple(self.fetched(f) for f in fetches if isinstance(f, Tensor))
        updates = tuple((name, self.state[name]) for name in sorted(self.written))
        declared = tuple(dict.fromkeys(node for node in self.values.values() if node is not None))
        program = TensorProgram(self.types, outputs, updates, self.origins, declared)
        return Captured(program, self.assumed)

    def fetched(self, tensor: Tensor) -> Node:
        """The node of a fetch; a variable's own tensor is its state at the end of the run."""
        node = self.values[tensor]
        return node if node is not None else self.read(tensor.op.name, tensor.type_)

    def evaluate(self, operation: Operation, values: dict[Tensor, Any]) -> None:
        """Put the nodes of an operation's outputs into `values`."""
        outer, self.frame = self.frame, values
        try:
            result = self.nodes_of(operation, [values[t] for t in operation.inputs])
        except ShapeError as e:
            raise InvalidArgumentError(self.complaint(operation, e), op=operation) from e
        finally:
            self.frame = outer
        results = result if isinstance(result, tuple) else (result,)
        origin = (Origin(operation.name, operation.type, operation.source),)
        inherit(self.origins, [n for n in results if n is not None], origin)
        for tensor, node in zip(operation.outputs, results, strict=False):
            values.setdefault(tensor, node)
            if node is not None:
                _require_addressable(operation, node.type)
                _learn_sizes(self.sizes, tensor.type_, node.type)

    def nodes_of(self, operation: Operation, inputs: list[Any]) -> Any:
        op = operation.op
        if op.name == "VariableV2":
            self.variables[operation.name] = operation.outputs[0].type_
        if hasattr(op, "capture"):
            operation_ = _Concrete(operation, self.attrs_of(operation))
            return op.capture(self, operation_, inputs)
        return op.node(*inputs, **self.attrs_of(operation))

    def attrs_of(self, operation: Operation) -> dict[str, Any]:
        return {key: self.concrete(value) for key, value in operation.attrs.items()}

    def concrete(self, value: Any) -> Any:
        """An attribute with the sizes that the user left open replaced by this program's symbols."""
        if isinstance(value, tuple):
            return tuple(self.concrete(v) for v in value)
        if not isinstance(value, Dim):
            return value
        unknown = [a.key for a in atoms_of(value) if isinstance(a, Symbol) and a.key not in self.sizes]
        if unknown:
            raise ShapeError(f"the size {value} can't be told from the shapes of the feeds")
        return substitute(value, lambda atom: self.sizes.get(atom.key))

    def complaint(self, operation: Operation, e: Exception) -> str:
        inputs = [f"  {t.name}: {n.type}" for t in operation.inputs if (n := self.values.get(t)) is not None]
        head = f"{operation.type} '{operation.name}' (at {operation.source}): {e}"
        return "\n".join([head, *inputs])

    # what ops with state ask for (graphflow/ops/state.py, CaptureContext)

    def read(self, variable: str, type_: TensorType | None = None) -> Node:
        """The variable's value at this point."""
        if variable not in self.state:
            type_ = type_ or self.variables[variable]
            self.state[variable] = make_node(variable_op, (), {"type": type_, "variable": variable})
        return self.state[variable]

    def write(self, variable: str, value: Node) -> None:
        """The variable's value from here on."""
        self.state[variable] = value
        self.written.add(variable)

    def is_initialized(self, variable: str) -> bool:
        """Whether it has a value at this point."""
        if variable in self.written:
            return True
        return self.assumed.setdefault(variable, self._initialized(variable))

    def draw(self, seed: tuple[int, int]) -> Node:
        """The number of this run's draw from a stream; the stream's hidden variable moves on by one a run."""
        name = f"{RANDOM_DRAWS}{seed[0]}/{seed[1]}"
        type_ = TensorType(int64, ())
        first = make_node(variable_op, (), {"type": type_, "variable": name})
        if name not in self.written:
            self.write(name, first + 1)
        return first

    def missing_feed(self, operation: Any) -> Exception:
        """The error for a placeholder that nothing was fed for."""
        type_ = operation.outputs[0].type_
        return InvalidArgumentError(
            f"You must feed a value for placeholder '{operation.name}' ({type_}, at {operation.source})", op=operation
        )

    def gradient(self, operation: Any, inputs: list[Any]) -> tuple[Node, ...]:
        """Promises for the xs, each marked inside a copy of what leads from xs to ys."""
        ys, xs = operation.attrs["ys"], operation.attrs["xs"]
        tensors = operation.inputs[2 * ys : 2 * ys + xs]
        stops = operation.inputs[2 * ys + xs :]
        tags: dict[Tensor, int] = {}
        for x in tensors:
            if x not in tags:
                tags[x] = self.tags
                self.tags += 1
        marked = _Overlay(self.mark_cone(operation.inputs[:ys], tags, set(stops)), self.frame)
        y_nodes = [marked[y] for y in operation.inputs[:ys]]
        results = []
        for x, node in zip(tensors, inputs[2 * ys : 2 * ys + xs], strict=True):
            type_ = node.type if node is not None else self.read(x.op.name, x.type_).type
            results.append(promise(y_nodes, inputs[ys : 2 * ys], tags[x], type_))
        return tuple(results)

    def mark_cone(self, ys: Sequence[Tensor], tags: Mapping[Tensor, int], stops: set[Tensor]) -> dict[Tensor, Any]:
        """The values of what depends on xs and leads to ys, with xs marked."""
        local: dict[Tensor, Any] = {}
        base = self.frame
        for tensor in tags:
            if tensor in self.feeds:
                local[tensor] = mark(base[tensor], tags[tensor])
        for operation in needed(ys, self.feeds):
            if operation.op.name == "ReadVariable" and operation.inputs[0] in tags:
                out = operation.outputs[0]
                local[out] = mark(base[out], tags[operation.inputs[0]])
            elif any(t in local for t in operation.inputs) and not isinstance(operation.op, Update):
                self.evaluate(operation, _Overlay(local, base))
            for out in operation.outputs:
                self._mark_output(out, local, tags, stops)
        return local

    def _mark_output(
        self, out: Tensor, local: dict[Tensor, Any], tags: Mapping[Tensor, int], stops: set[Tensor]
    ) -> None:
        node = local[out] if out in local and out not in stops else self.frame[out]
        if node is None:
            return
        if out in stops:
            local[out] = node
        if out in tags:
            local[out] = mark(node, tags[out])


def _require_addressable(operation: Operation, type_: TensorType) -> None:
    """ResourceExhaustedError for a value that no address space holds: code counts bytes in 64 bits."""
    size = fed(type_.size) * type_.dtype.size
    if size >= ADDRESSABLE:
        raise ResourceExhaustedError(
            f"{operation.type} '{operation.name}' (at {operation.source}) is a {type_}: {size:.1e} bytes, more than "
            "any memory has",
            op=operation,
        )


class _Overlay(dict[Any, Any]):
    """Values that are looked up first in one mapping, then in another, and written to the first."""

    def __init__(self, first: dict[Tensor, Any], second: Mapping[Tensor, Any]) -> None:
        self.first, self.second = first, second

    def __getitem__(self, key: Tensor) -> Any:
        return self.first[key] if key in self.first else self.second[key]

    def setdefault(self, key: Tensor, value: Any = None) -> Any:
        self.first[key] = value
        return value


class _Concrete:
    """An operation with its attributes made concrete for this program."""

    def __init__(self, operation: Operation, attrs: dict[str, Any]) -> None:
        self.name, self.inputs, self.outputs = operation.name, operation.inputs, operation.outputs
        self.type, self.source, self.attrs = operation.type, operation.source, attrs


def needed(fetches: Sequence[Tensor | Operation], fed: Mapping[Tensor, Any]) -> list[Operation]:
    """The operations that the fetches need, in creation order; what is fed needs nothing."""
    stack = [f.op if isinstance(f, Tensor) else f for f in fetches if f not in fed]
    seen: set[Operation] = set()
    while stack:
        operation = stack.pop()
        if operation in seen:
            continue
        seen.add(operation)
        stack.extend(t.op for t in operation.inputs if t not in fed)
        stack.extend(c for c in operation.control_inputs if not (c.type == "Placeholder" and c.outputs[0] in fed))
    return sorted(seen, key=lambda operation: operation.id)


def _user_sizes(feeds: Sequence[Tensor], types: Sequence[TensorType]) -> dict[str, int | Dim]:
    """The size of this program for each symbol of the user's graph."""
    sizes: dict[str, int | Dim] = {}
    for tensor, type_ in zip(feeds, types, strict=True):
        _learn_sizes(sizes, tensor.type_, type_)
    return sizes


def _learn_sizes(sizes: dict[str, int | Dim], declared: TensorType, actual: TensorType) -> None:
    """Note what the symbols of a declared type are in this program."""
    for dim, size in zip(declared.shape or (), actual.dims, strict=False):
        if isinstance(dim, Dim) and len(dim.terms) == 1 and len(dim.terms[0][0]) == 1 and dim.terms[0][1] == 1:
            sizes.setdefault(dim.terms[0][0][0].key, size)
