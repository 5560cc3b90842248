"""Who gets a buffer before groups are merged: `stored`.

What is expensive to repeat is stored: reductions, contractions and what they read, values that are used more than once
or that a broadcast would repeat.  Everything else is inlined where it is read.
"""

from __future__ import annotations

from collections.abc import Iterable

from graphflow.compiler.buffers import is_buffer, is_large, keeps_order, same_elements
from graphflow.compiler.program import TensorProgram
from graphflow.core.dim import estimate
from graphflow.core.node import Node

__all__ = ["CHEAP", "ENDLESS", "addressed", "own_work", "stored_nodes", "users_of"]

CHEAP = 2
"""Up to this cost a value is computed again rather than stored."""

RECOMPUTED = 48
"""Up to this cost a large value is computed again rather than written to memory and read back."""

DEAR = 8
"""Up to this cost a view is computed wherever it is read."""

ENDLESS = 1 << 20
"""Where counting work stops: nodes that share operands count them again."""

DEPTH = 40
"""The longest chain of inlined nodes."""


def stored_nodes(program: TensorProgram, wanted: Iterable[Node]) -> set[Node]:
    """The nodes that get buffers before groups are merged; `wanted` get one in any case."""
    nodes = program.nodes()
    users = users_of(nodes)
    stored = {*program.roots, *addressed(nodes), *wanted}
    work: dict[Node, int] = {}
    depth: dict[Node, int] = {}
    sources: dict[Node, frozenset[Node]] = {}  # what has a buffer below nodes that may be computed again
    for node in nodes:
        work[node] = min(own_work(node) + sum(work[x] for x in node.inputs), ENDLESS)
        depth[node] = 1 + max((depth[x] for x in node.inputs), default=0)
        below = frozenset().union(*(sources[x] for x in node.inputs)) if work[node] <= RECOMPUTED else frozenset()
        sources[node] = below
        if node in stored or is_buffer(node) or depth[node] > DEPTH or _worth_storing(node, users, work[node], below):
            stored.add(node)
            work[node] = depth[node] = 0
            sources[node] = frozenset({node})
    return {n for n in stored if not is_buffer(n) and n.op.name != "Const"}


def own_work(node: Node) -> int:
    """About what an element costs beyond its operands."""
    return 0 if node.op.form == "view" and node.op.cost <= DEAR else node.op.cost if node.inputs else 0


def addressed(nodes: list[Node]) -> set[Node]:
    """What contractions and reshapes need in memory, and contractions themselves."""
    found: set[Node] = set()
    for node in nodes:
        if node.op.form == "contraction":
            found.add(node)
            found.update(_memory(x) for x in node.inputs)
        if node.op.name == "Reshape" and not keeps_order(node):
            found.add(same_elements(node))
    return found


def _memory(node: Node) -> Node:
    """What must be in memory so that `node` can be addressed linearly."""
    while node.op.linear or node.op.name == "Reshape":
        if is_buffer(node):
            return node
        node = node.inputs[0]
    return node


def users_of(nodes: Iterable[Node]) -> dict[Node, list[Node]]:
    users: dict[Node, list[Node]] = {}
    for node in nodes:
        for x in node.inputs:
            users.setdefault(x, []).append(node)
    return users


def _worth_storing(node: Node, users: dict[Node, list[Node]], work: int, sources: frozenset[Node]) -> bool:
    """Whether computing a node where it is used would repeat too much: `work`, and reading its `sources`, each time."""
    if not node.inputs or (node.op.form == "view" and node.op.cost <= DEAR):
        return False
    if node.op.form == "reduction":
        return True
    readers = _readers(node, users)
    if node.type.size == 1:
        return node.op.cost > CHEAP and any(reader.type.size != 1 for reader, _ in readers)
    if any(repeats for _, repeats in readers):
        return work > CHEAP
    several = len({reader for reader, _ in readers})
    return several > 1 and work > CHEAP and not (work <= RECOMPUTED and _is_cheaper_read(node, several, sources))


def _is_cheaper_read(node: Node, readers: int, sources: frozenset[Node]) -> bool:
    """Whether readers that walk through memory move less of it if each computes a large value from its sources."""
    if not is_large(node):
        return False
    of_its_size = sum(estimate(x.type.size) * 2 > estimate(node.type.size) for x in sources)
    return readers * of_its_size <= of_its_size + 1 + readers


def _readers(node: Node, users: dict[Node, list[Node]]) -> list[tuple[Node, bool]]:
    """(node that computes with it, whether it meets each element more than once), through views."""
    found: list[tuple[Node, bool]] = []
    stack = [(user, node, False) for user in users.get(node, [])]
    while stack:
        user, x, expanded = stack.pop()
        grows = user.op.form != "contraction" and user.op.rereads(x.type, user.type, **user.attrs)
        if user.op.form == "view":
            stack.extend((u, user, expanded or grows) for u in users.get(user, []))
        else:
            found.append((user, expanded or grows))
    return found
