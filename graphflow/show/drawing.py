"""The neutral picture of a graph: boxes, wires, views. Every printer in this folder reads only this.

    Drawing("train", (View("user graph", boxes, wires), View("after fold", …), View("kernels", …)))

A `View` checks itself when it is made: unique box ids, wires between known boxes, no cycle.
Graphs of the framework become views in `adapters.py`; `show` puts the two together.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any

Scope = tuple[str, ...]

KINDS: dict[str, str] = {
    "input": "Input",
    "variable": "Variable",
    "constant": "Constant",
    "op": "Operation",
    "kernel": "Kernel",
    "state": "State update",
    "output": "Output",
    "control": "Control",
}
"""What a box can be, with its name in the legend. Another kind is drawn as an operation."""


@dataclass(frozen=True)
class Box:
    """One node of a picture: an op of the user, a node of the compiler, or a fused kernel."""

    id: str  # unique in its view; 'layer1/MatMul' in the user's graph
    op: str  # op type, 'MatMul'
    scope: Scope = ()  # the name scopes around it, outermost first
    label: str = ""  # the large print; empty: the last part of `id`
    detail: str = ""  # attributes, or an abbreviation of a constant's value
    where: str = ""  # the user's line, 'train.py:12'; of a kernel all lines, 'train.py:12, train.py:14'
    kind: str = "op"  # a key of KINDS
    members: tuple[str, ...] = ()  # of a fused kernel: the ops in it, a line each; of a group of variables: each one
    type: str = ""  # of its result, 'float32[batch, 128]'; wires carry the same

    @property
    def title(self) -> str:
        """The name to print on the box."""
        return self.label or self.id.rsplit("/", 1)[-1]

    @property
    def subtitle(self) -> str:
        """The op type, unless the title says it already, and the user's line, or the first and how many more."""
        op = "" if self.op.lower() == self.title.lower() else self.op
        first, *more = self.where.split(", ")
        place = f"{first} + {len(more)}" if more else first
        return " · ".join(part for part in (op, place) if part)


@dataclass(frozen=True)
class Wire:
    """One edge: a tensor on its way from the box that makes it to one that reads it, or a control dependency."""

    source: str
    target: str
    label: str = ""  # 'float32[batch, 128]'
    control: bool = False


@dataclass(frozen=True)
class View:
    """One graph to look at: the user's, that after one pass, or the kernels.

    Raises ValueError if two boxes share an id, a wire ends nowhere, or the wires close a cycle.
    """

    title: str
    boxes: tuple[Box, ...] = ()
    wires: tuple[Wire, ...] = ()
    note: str = ""  # '23 nodes, 1.2 ms, unchanged'
    text: str = ""  # the IR as its own printer prints it

    def __post_init__(self) -> None:
        ids = {box.id for box in self.boxes}
        if len(ids) != len(self.boxes):
            raise ValueError(f"view {self.title!r} has two boxes with one id: {_first_repeated(self.boxes)!r}")
        for wire in self.wires:
            if wire.source not in ids or wire.target not in ids:
                missing = wire.target if wire.source in ids else wire.source
                raise ValueError(f"view {self.title!r}: wire {wire.source!r} -> {wire.target!r}: no box {missing!r}")
        _ = self.order

    @cached_property
    def number(self) -> Mapping[str, int]:
        """The place of each box in `boxes`, by id."""
        return {box.id: k for k, box in enumerate(self.boxes)}

    @cached_property
    def order(self) -> tuple[int, ...]:
        """Indices of `boxes` so that wires point forward; stays in a scope while it can, then takes the first made."""
        return _order_by_scope([box.scope for box in self.boxes], self._ends())

    def _ends(self) -> list[tuple[int, int]]:
        return list(dict.fromkeys((self.number[wire.source], self.number[wire.target]) for wire in self.wires))


@dataclass(frozen=True)
class Drawing:
    """A titled row of views of the same computation."""

    title: str
    views: tuple[View, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Plain lists and dicts, without the fields that are empty."""
        return {"title": self.title, "views": [_plain(view) for view in self.views]}

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> Drawing:
        """The inverse of `to_json`."""
        return Drawing(data["title"], tuple(_view(view) for view in data["views"]))


def _first_repeated(boxes: Iterable[Box]) -> str:
    seen: set[str] = set()
    return next(box.id for box in boxes if box.id in seen or seen.add(box.id))  # type: ignore[func-returns-value]


def _order_by_scope(scopes: list[Scope], ends: list[tuple[int, int]]) -> tuple[int, ...]:
    """Kahn's algorithm with a heap of ready nodes for every scope, so that a scope's nodes stay together."""
    targets: list[list[int]] = [[] for _ in scopes]
    waiting = [0] * len(scopes)
    for source, target in ends:
        targets[source].append(target)
        waiting[target] += 1
    heaps: dict[Scope, list[int]] = {}
    done = [False] * len(scopes)

    def ready(k: int) -> None:
        for depth in range(len(scopes[k]) + 1):
            heapq.heappush(heaps.setdefault(scopes[k][:depth], []), k)

    for k, count in enumerate(waiting):
        if not count:
            ready(k)
    order: list[int] = []
    scope: Scope = ()
    while (taken := _take(heaps, scope, done)) is not None:
        done[taken] = True
        order.append(taken)
        scope = scopes[taken]
        for target in targets[taken]:
            waiting[target] -= 1
            if not waiting[target]:
                ready(target)
    if len(order) < len(scopes):
        raise ValueError(f"a graph with a cycle cannot be drawn ({len(scopes) - len(order)} nodes wait for each other)")
    return tuple(order)


def _take(heaps: dict[Scope, list[int]], scope: Scope, done: list[bool]) -> int | None:
    """The first ready node in `scope`, else in the nearest scope around it."""
    for depth in range(len(scope), -1, -1):
        heap = heaps.get(scope[:depth], [])
        while heap:
            k = heapq.heappop(heap)
            if not done[k]:
                return k
    return None


def _plain(view: View) -> dict[str, Any]:
    plain = {name: value for name in ("note", "text") if (value := getattr(view, name))}
    boxes, wires = [_full(box) for box in view.boxes], [_full(wire) for wire in view.wires]
    return {"title": view.title, **plain, "boxes": boxes, "wires": wires}


def _full(item: Box | Wire) -> dict[str, Any]:
    values = ((field.name, getattr(item, field.name)) for field in fields(item))
    return {name: list(value) if isinstance(value, tuple) else value for name, value in values if value}


def _view(data: Mapping[str, Any]) -> View:
    boxes = tuple(Box(**{"op": "", "kind": "", **_tuples(box)}) for box in data["boxes"])
    wires = tuple(Wire(**wire) for wire in data["wires"])
    return View(**{**data, "boxes": boxes, "wires": wires})


def _tuples(data: Mapping[str, Any]) -> dict[str, Any]:
    return {key: tuple(value) if isinstance(value, list) else value for key, value in data.items()}
