"""What is made of pieces, computed in place: each piece by a kernel of its own, straight into the memory of the whole.

    y = Concat(Tanh(x), f, axis=1)        Tanh(x) stores at y[i0, i1], a copy of f at y[i0, i1 + 8]
    y = Interleave(a, b, strides=(2,))    a stores at y[i0, 2 * i1], b at y[i0, 2 * i1 + 1]

An output that is another one in other sizes is a copy, and has that one as its only piece.

A piece is any node that a kernel computes; it lies in the whole with the whole's strides, and whoever else reads it
reads it there.  What can't lie there (a feed, a fetched value, a piece that stands twice, a view that others read) is
copied.  The whole may be a piece of a larger one.

Assumes: a program whose roots are computed by kernels.  Guarantees: the same values; the memory of a whole is filled
exactly by its parts.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import product as cartesian

from graphflow.compiler.buffers import is_buffer, keeps_order
from graphflow.compiler.loops.place import Place, place_of, within
from graphflow.compiler.program import TensorProgram
from graphflow.compiler.stored import CHEAP, ENDLESS, addressed, own_work, users_of
from graphflow.core.node import Node, make_node
from graphflow.core.op import OPS

__all__ = ["Assembly", "assemble"]

FEW = 2
"""So many pieces that cost next to nothing are selected where the whole is read."""


@dataclass(frozen=True)
class Assembly:
    """A program, the parts of the concatenations that are computed in place, and where each part lies."""

    program: TensorProgram
    parts: Mapping[Node, tuple[Node, ...]]
    places: Mapping[Node, Place]

    def makers(self, node: Node) -> list[Node]:
        """The nodes whose kernels fill the memory of a node: itself, or the parts of parts of a whole."""
        found, stack = [], [node]
        while stack:
            x = stack.pop()
            if x in self.parts:
                stack.extend(reversed(self.parts[x]))
            else:
                found.append(x)
        return found


def assemble(program: TensorProgram) -> Assembly:
    """The program with what must be copied as copies, and what lies where."""
    nodes = program.nodes()
    claims = _Claims(program, nodes)
    for node in reversed(nodes):  # a whole before the wholes that are its pieces
        if claims.is_whole(node):
            claims.assemble(node)
    return claims.rebuilt()


class _Claims:
    """Which nodes are computed as pieces, in terms of the program as it was."""

    def __init__(self, program: TensorProgram, nodes: list[Node]) -> None:
        self.program, self.nodes = program, nodes
        self.roots = frozenset(program.roots)
        self.addressed = addressed(nodes)
        self.users = users_of(nodes)
        self.reshaped = {n.inputs[0] for n in nodes if n.op.name == "Reshape" and not keeps_order(n)}
        self.work = _work(nodes)
        self.places: dict[Node, Place] = {}
        self.pieces: dict[Node, list[tuple[Node | None, Place]]] = {}  # None: a copy of the input

    def is_whole(self, node: Node) -> bool:
        """Whether the pieces of a node are to be computed in its memory."""
        if node.op.name == "Copy":
            maker, place = _without_reshapes(node.inputs[0], place_of(node))
            return node in self.program.outputs and self._fits(maker, place)
        if node.op.name == "Concat":
            return node in self.places or self.worth_storing(node)
        return node.op.name == "Interleave"

    def worth_storing(self, whole: Node) -> bool:
        """Whether selecting a piece by the index, wherever the whole is read, is not the better way."""
        few = len(whole.inputs) <= FEW and self.work[whole] <= CHEAP
        return not few or whole in self.addressed or whole in self.roots

    def assemble(self, whole: Node) -> None:
        """Find out what computes each piece, and where."""
        self.pieces[whole] = []
        for x, at in _inputs(whole, self.places.get(whole) or place_of(whole)):
            maker, own = _without_reshapes(x, at)
            if self._fits(maker, own):
                self.places[maker] = own
                self.pieces[whole].append((maker, own))
            else:
                self.pieces[whole].append((None, at))

    def _fits(self, node: Node, place: Place) -> bool:
        """Whether a node can be computed at a place in a whole."""
        if is_buffer(node) or node.op.name in ("Const", "Reshape") or node in self.roots or node in self.places:
            return False
        if node in self.reshaped and not place.is_dense(node.shape):
            return False
        return node.op.form != "view" or len(self.users[node]) == 1 or node in self.addressed

    def rebuilt(self) -> Assembly:
        """The program with copies of what does not fit."""
        new: dict[Node, Node] = {}
        copies: dict[tuple[Node, int], Node] = {}
        origins = dict(self.program.origins)
        for node in self.nodes:
            inputs = [new[x] for x in node.inputs]
            for n, (maker, _) in enumerate(self.pieces.get(node, ())):
                if maker is None:
                    number = len(self.program.roots) + len(copies)
                    inputs[n] = copies[node, n] = make_node(OPS["Copy"], (inputs[n],), {"number": number})
                    origins[inputs[n]] = origins.get(node, ())
            same = all(x is y for x, y in zip(inputs, node.inputs, strict=True))
            new[node] = node if same else make_node(node.op, inputs, dict(node.attrs))
            origins.setdefault(new[node], origins.get(node, ()))
        parts: dict[Node, tuple[Node, ...]] = {}
        places: dict[Node, Place] = {}
        for whole, pieces in self.pieces.items():
            made = [copies[whole, n] if maker is None else new[maker] for n, (maker, _) in enumerate(pieces)]
            parts[new[whole]] = tuple(made)
            places.update((x, within(new[at.whole], at)) for x, (_, at) in zip(made, pieces, strict=True))
        return Assembly(self.program.with_roots((new[r] for r in self.program.roots), origins), parts, places)


def _inputs(whole: Node, place: Place) -> Iterator[tuple[Node, Place]]:
    """The inputs of what lies at a place, and where each lies."""
    if whole.op.name == "Interleave":
        first, steps = whole.attrs["first"], whole.attrs["strides"]
        for x, phase in zip(whole.inputs, cartesian(*map(range, steps)), strict=True):
            at = place
            for axis, r in enumerate(phase, first):
                at = at.moved(axis, r)
            yield x, at.stepped(first, steps)
        return
    if whole.op.name == "Copy":
        yield whole.inputs[0], place
        return
    axis, start = whole.attrs["axis"] % whole.ndim, 0
    for x in whole.inputs:
        yield x, place.moved(axis, start)
        start = x.shape[axis] + start


def _without_reshapes(node: Node, place: Place) -> tuple[Node, Place]:
    """What a node is a reshape of, and where that lies, as far as it lies evenly."""
    while node.op.name == "Reshape":
        x = node.inputs[0]
        inner = place.reshaped(node.shape, x.shape)
        if inner is None:
            break
        node, place = x, inner
    return node, place


def _work(nodes: Iterable[Node]) -> dict[Node, int]:
    """About what an element costs, down to memory; sums count as endless."""
    work: dict[Node, int] = {}
    for node in nodes:
        total = ENDLESS if node.op.form in ("contraction", "reduction") else own_work(node)
        work[node] = min(total + sum(work[x] for x in node.inputs), ENDLESS)
    return work
