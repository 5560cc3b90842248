"""Values written over what they were made of: `overwritten`.

y = tanh(x)        if nobody reads x any more, and y's kernel reads x[i] only to store y[i], y takes x's buffer
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping

from graphflow.compiler.loops.lower import Group, Lowered
from graphflow.core.node import Node

__all__ = ["overwritten", "reads_own"]


def reads_own(lowered: Lowered, node: Node) -> bool:
    """Whether a kernel reads a node at no other element than the one that it computes at the time."""
    own = tuple(f"i{n}" for n in range(len(node.shape)))
    return all(tuple(map(str, at)) == own for at in lowered.reads.get(node, ()))


def overwritten(
    steps: Iterable[tuple[int, Group, Lowered]], in_arena: Callable[[Node], bool], shared: Collection[Node]
) -> dict[Node, Node]:
    """For each value that overwrites another the node whose buffer it takes.

    `steps` are (wave, group, kernel) in order; values in `shared` lie in one buffer with others.
    """
    steps = list(steps)
    last: dict[Node, tuple[int, int]] = {}  # the last wave that touches a buffer, and how many kernels of it do
    for wave, _, lowered in steps:
        for node in lowered.buffers:
            before = last.get(node, (wave, 0))
            last[node] = wave, (before[1] if before[0] == wave else 0) + 1
    owner: dict[Node, Node] = {}
    for wave, group, lowered in steps:
        dying = [x for x in lowered.buffers if x not in group.inside and last[x] == (wave, 1)]
        free = [x for x in dying if in_arena(x) and x not in shared and reads_own(lowered, x)]
        for y in group.outputs:
            if y in shared or not in_arena(y):
                continue
            x = next((x for x in free if x.type == y.type), None)
            if x is not None:
                free.remove(x)
                owner[y] = owner.get(x, x)
    return owner


def joined_lives(lives: Mapping[Node, tuple[int, int]], owner: Mapping[Node, Node]) -> dict[Node, tuple[int, int]]:
    """First and last wave of each buffer, the values that overwrite its first included."""
    found = dict(lives)
    for y, x in owner.items():
        found[x] = min(found[x][0], lives[y][0]), max(found[x][1], lives[y][1])
    return found
