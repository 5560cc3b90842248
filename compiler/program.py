"""What one run computes, as data: `TensorProgram`, with its printer and its verifier.

    feeds    0: float32[batch, 784]
    %2  float32[784, 10]    = Variable(variable=w)                      # w           train.py:12
    %3  float32[batch, 10]  = MatMul(%1, %2)                            # MatMul      train.py:14
    fetch %3
    w := %9

Effects are gone: what a run changes are pairs (variable, new value), stored together at its end.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from graphflow.core.errors import InternalError
from graphflow.core.node import Node, topological
from graphflow.core.source import Source
from graphflow.core.type import ShapeError, TensorType

__all__ = ["Origin", "TensorProgram", "inherit"]


@dataclass(frozen=True, slots=True)
class Origin:
    """The user's operation that a node came from."""

    name: str
    op: str
    source: Source


Origins = dict[Node, tuple[Origin, ...]]


@dataclass(frozen=True)
class TensorProgram:
    """A pure function: (feeds, variables) -> (outputs, new values of variables).

    `declared` are the nodes of all of the user's operations that the run needs, also of those that nothing computes
    since only their shapes are asked for, as in `ones_like(x[-2:])`.
    """

    feeds: tuple[TensorType, ...]
    outputs: tuple[Node, ...]
    updates: tuple[tuple[str, Node], ...] = ()
    origins: Mapping[Node, tuple[Origin, ...]] = field(default_factory=dict, compare=False)
    declared: tuple[Node, ...] = field(default=(), compare=False)

    @property
    def roots(self) -> tuple[Node, ...]:
        """Everything that must be computed."""
        return self.outputs + tuple(value for _, value in self.updates)

    def nodes(self) -> list[Node]:
        """All nodes, inputs first."""
        return list(self._nodes)

    @cached_property
    def _nodes(self) -> list[Node]:
        return topological(self.roots)

    def with_roots(self, roots: Iterable[Node], origins: Origins) -> TensorProgram:
        """The same program with other nodes for its outputs and updates."""
        found = tuple(roots)
        split = len(self.outputs)
        updates = tuple((name, value) for (name, _), value in zip(self.updates, found[split:], strict=True))
        return replace(self, outputs=found[:split], updates=updates, origins=origins)

    def __str__(self) -> str:
        return print_program(self)


def inherit(origins: Origins, roots: Iterable[Node], origin: tuple[Origin, ...]) -> None:
    """Give `origin` to the nodes under `roots` that have none yet."""
    stack = list(roots)
    while stack:
        node = stack.pop()
        if node in origins:
            continue
        origins[node] = origin
        stack.extend(node.inputs)


def print_program(program: TensorProgram) -> str:
    """One line a node, inputs first."""
    nodes = program.nodes()
    names = {node: f"%{n}" for n, node in enumerate(nodes)}
    rows = [(names[n], str(n.type), _call(n, names), _where(program, n)) for n in nodes]
    widths = [max((len(row[c]) for row in rows), default=0) for c in range(3)]
    lines = [f"{r[0]:<{widths[0]}}  {r[1]:<{widths[1]}} = {r[2]:<{min(widths[2], 60)}}{r[3]}".rstrip() for r in rows]
    lines += [f"fetch {names[node]}" for node in program.outputs]
    lines += [f"{name} := {names[node]}" for name, node in program.updates]
    return "\n".join(lines)


def _call(node: Node, names: Mapping[Node, str]) -> str:
    inside = [names[x] for x in node.inputs]
    inside += [f"{key}={attribute(value)}" for key, value in node.attrs.items() if key != "type"]
    return f"{node.op.name}({', '.join(inside)})"


def attribute(value: Any) -> str:
    """An attribute in the dumps."""
    return "(" + ", ".join(map(attribute, value)) + ")" if isinstance(value, tuple) else str(value)


def _where(program: TensorProgram, node: Node) -> str:
    origin = program.origins.get(node, ())
    return f"  # {origin[0].name} {origin[0].source}" if origin else ""


def verify(program: TensorProgram, verified: set[Node] | None = None) -> None:
    """Raise InternalError unless every node's type is what its op says of its inputs.

    `verified` are nodes that need no look any more, since nodes do not change; those of the program join them.
    """
    known: set[Node] = set() if verified is None else verified
    for node in program.nodes():
        if node in known:
            continue
        known.add(node)
        try:
            type_ = node.op.infer(*(x.type for x in node.inputs), **node.attrs)
        except (ShapeError, TypeError) as e:
            raise InternalError(f"internal error: {node!r} is not valid: {e}\n{program}") from e
        if type_ != node.type:
            raise InternalError(f"internal error: {node!r} should be {type_}\n{program}")
