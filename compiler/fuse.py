"""Who gets a buffer: nodes become groups, each of which will be one kernel; everything else is inlined.

Assumes: a simplified program.  Guarantees: a list of groups in an order that can run, whose outputs are exactly the
nodes that get buffers; each group's nodes without a buffer are computed inside of it.

First every node that is expensive to repeat gets a buffer (`stored`), and with it a group of its own.  Then groups are
merged while that saves memory traffic: a consumer into its producer where both run over the same points, a row's
reductions with what is computed from them, siblings that read the same data.  A node that only its own group reads
loses its buffer again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from graphflow.compiler.loops.lower import Group, lower
from graphflow.compiler.program import TensorProgram
from graphflow.core.dim import Size, Symbol
from graphflow.core.node import Node, make_node
from graphflow.core.op import OPS
from graphflow.core.type import Shape, is_static, static

__all__ = ["Fused", "base_of", "fuse"]

CHEAP = 2
"""Up to this cost a value is computed again rather than stored."""

DEAR = 8
"""Up to this cost a view is computed wherever it is read."""

ENDLESS = 1 << 20
"""Where counting work stops: nodes that share operands count them again."""

RECOMPUTED = 48
"""Up to this cost a row's values are computed again for each of its reductions."""

DEPTH = 40
"""The longest chain of inlined nodes."""

MERGED_DEPTH = 80
"""The longest chain of nodes in a group: lowering and emitting recurse along it."""


@dataclass(frozen=True)
class Fused:
    """A program and its groups, in an order that can run.

    `pieces`: nodes that are computed right where a concatenation has them: (the concatenation, first element).
    """

    program: TensorProgram
    groups: tuple[Group, ...]
    pieces: Mapping[Node, tuple[Node, int]] = field(default_factory=dict)


def fuse(program: TensorProgram) -> Fused:
    """Decide who gets a buffer."""
    program = _with_own_roots(program)
    stored = _stored(program)
    pieces = _pieces(program, stored)
    graph = _Groups(program, stored, pieces)
    graph.merge()
    return Fused(program, graph.finished(), pieces)


def is_buffer(node: Node) -> bool:
    """Whether a node's elements are in memory before the run: fed, a variable, an array constant."""
    return node.op.form == "memory" or (node.op.name == "Const" and node.type.size != 1)


def base_of(stored: Callable[[Node], bool]) -> Callable[[Node], Node | None]:
    """The function that finds the node whose buffer holds a node's elements in the same order."""

    def base(node: Node) -> Node | None:
        while True:
            if is_buffer(node) or stored(node):
                return node
            if node.op.name != "Reshape" or keeps_order(node):
                return None
            node = node.inputs[0]

    return base


def _with_own_roots(program: TensorProgram) -> TensorProgram:
    """Every output and update as a node of its own that a kernel computes: what is not gets copied."""
    seen: set[Node] = set()
    roots = []
    for n, root in enumerate(program.roots):
        own = root not in seen and not is_buffer(root) and root.op.name not in ("Const", "Reshape")
        node = root if own else make_node(OPS["Copy"], (root,), {"number": n})
        seen.add(node)
        roots.append(node)
    origins = dict(program.origins)
    for old, new in zip(program.roots, roots, strict=True):
        origins.setdefault(new, origins.get(old, ()))
    return program.with_roots(roots, origins)


# who is stored


def _stored(program: TensorProgram) -> set[Node]:
    """The nodes that get buffers before groups are merged."""
    nodes = program.nodes()
    users = _users(nodes)
    stored = set(program.roots) | _addressed(nodes)
    work: dict[Node, int] = {}
    depth: dict[Node, int] = {}
    for node in nodes:
        work[node] = min(_own_work(node) + sum(work[x] for x in node.inputs), ENDLESS)
        depth[node] = 1 + max((depth[x] for x in node.inputs), default=0)
        if node in stored or is_buffer(node) or depth[node] > DEPTH or _worth_storing(node, users, work[node]):
            stored.add(node)
            work[node] = depth[node] = 0
    return {n for n in stored if not is_buffer(n) and n.op.name != "Const"}


def _pieces(program: TensorProgram, stored: set[Node]) -> dict[Node, tuple[Node, int]]:
    """The inputs of concatenations along the first axis that can be computed in place, and where."""
    pieces: dict[Node, tuple[Node, int]] = {}
    for node in program.nodes():
        if node not in stored or node in program.roots or not _leading(node):
            continue
        own = [x for x in node.inputs if x in stored and x not in pieces and x not in program.roots]
        if len(set(own)) < len(node.inputs):
            continue
        start = 0
        for x in node.inputs:
            pieces[x] = node, start
            start += static(x.type.size)
    return pieces


def _own_work(node: Node) -> int:
    """About what an element costs beyond its operands."""
    return 0 if node.op.form == "view" and node.op.cost <= DEAR else node.op.cost if node.inputs else 0


def _addressed(nodes: list[Node]) -> set[Node]:
    """What contractions and reshapes need in memory, and contractions themselves."""
    found: set[Node] = set()
    for node in nodes:
        if node.op.form == "contraction":
            found.add(node)
            found.update(_memory(x) for x in node.inputs)
        if node.op.name == "Reshape" and not keeps_order(node):
            found.add(_same_elements(node.inputs[0]))
    for node in reversed(nodes):
        if node in found and _leading(node):
            found.update(x for x in node.inputs if not is_buffer(x) and x.op.name != "Const")
    return found


def _leading(node: Node) -> bool:
    """Whether a node is a concatenation whose inputs lie one after the other."""
    return node.op.name == "Concat" and node.attrs["axis"] % node.ndim == 0 and is_static(node.shape)


def _memory(node: Node) -> Node:
    """What must be in memory so that `node` can be addressed linearly."""
    while node.op.linear or node.op.name == "Reshape":
        if is_buffer(node):
            return node
        node = node.inputs[0]
    return node


def _same_elements(node: Node) -> Node:
    """The node under reshapes: what must be in memory for them to be free."""
    while node.op.name == "Reshape":
        node = node.inputs[0]
    return node


def keeps_order(reshape: Node) -> bool:
    """Whether a reshape only adds or drops axes of size 1, so that its index rule is linear."""
    return [s for s in reshape.shape if s != 1] == [s for s in reshape.inputs[0].shape if s != 1]


def _users(nodes: Iterable[Node]) -> dict[Node, list[Node]]:
    users: dict[Node, list[Node]] = {}
    for node in nodes:
        for x in node.inputs:
            users.setdefault(x, []).append(node)
    return users


def _worth_storing(node: Node, users: dict[Node, list[Node]], work: int) -> bool:
    """Whether computing a node where it is used would repeat too much; `work` is what it costs, down to memory."""
    if not node.inputs or (node.op.form == "view" and node.op.cost <= DEAR):
        return False
    if node.op.form == "reduction":
        return True
    readers = _readers(node, users)
    if node.type.size == 1:
        return node.op.cost > CHEAP and any(reader.type.size != 1 for reader, _ in readers)
    often = any(repeats for _, repeats in readers) or len({reader for reader, _ in readers}) > 1
    return often and work > CHEAP


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


# groups


@dataclass(eq=False)
class _Group:
    """A group that may still grow: its iteration space, what it computes, what it reads."""

    space: Shape
    outputs: list[Node]
    contraction: Node | None
    depth: int  # no chain of its nodes is longer
    needs: dict[_Group, None] = field(default_factory=dict)
    users: dict[_Group, None] = field(default_factory=dict)
    reads: dict[Node, set[tuple[Size, ...]]] = field(default_factory=dict)
    has_rows: bool = False

    @property
    def first(self) -> int:
        """The serial number of the earliest node: nothing earlier can need the group."""
        return min(n.serial for n in self.outputs)


class _Groups:
    """All groups of a program, and how they merge."""

    def __init__(
        self, program: TensorProgram, stored: set[Node], pieces: Mapping[Node, tuple[Node, int]] | None = None
    ) -> None:
        self.program, self.stored = program, stored
        self.assembled = {whole for whole, _ in (pieces or {}).values()}
        self.base = base_of(stored.__contains__)
        self.of: dict[Node, _Group] = {}
        self.order = [n for n in program.nodes() if n in stored and n not in self.assembled]
        depth: dict[Node, int] = {}
        for node in program.nodes():
            depth[node] = 1 + max((depth[x] for x in node.inputs if x not in stored), default=0)
        for node in self.order:
            contraction = node if node.op.form == "contraction" else None
            self.of[node] = _Group(node.shape, [node], contraction, depth[node])
        for node in self.order:
            self._link(self.of[node])

    def _link(self, group: _Group) -> None:
        """Read off what a group loads, by lowering it."""
        lowered = lower(self.as_group(group), self.base, "trial")
        group.reads = {node: set(at) for node, at in lowered.reads.items() if node in self.of}
        for whole in (node for node in lowered.reads if node in self.assembled):
            group.reads.update((piece, {()}) for piece in whole.inputs)
        group.has_rows = group.has_rows or _is_row_reduction(group.outputs[0])
        for node in group.reads:
            if self.of[node] is not group:
                group.needs[self.of[node]] = None
                self.of[node].users[group] = None

    def as_group(self, group: _Group) -> Group:
        """A group as it stands."""
        return Group(tuple(group.outputs), group.space, frozenset(group.outputs), group.contraction)

    def merge(self) -> None:
        """Merge consumers into producers and siblings into each other, first come first."""
        for node in self.order:
            group = self.of[node]
            for other in self._candidates(group):
                joined = self._join(other, group)
                if joined is not None:
                    group = joined

    def _candidates(self, group: _Group) -> list[_Group]:
        """What a group could merge with: its producers, then their other users."""
        producers = list(group.needs)
        siblings = [s for p in producers for s in p.users if s is not group]
        shared = [s for n in group.reads for s in self.of[n].users if s is not group]
        return list(dict.fromkeys(producers + siblings + shared))

    def _join(self, a: _Group, b: _Group) -> _Group | None:
        """a and b as one group, if that is right and worth it; a runs before b or beside it."""
        if a is b or not (a.outputs and b.outputs):
            return None
        if a.contraction is not None and b.contraction is not None:
            return None
        if b.contraction is not None:
            return None
        space = self._space(a, b)
        if space is None or self._depth(a, b) > MERGED_DEPTH:
            return None
        if not all(self._aligned(a, node, at, space) for node, at in b.reads.items() if self.of[node] is a):
            return None
        if reaches([b], a) or reaches([x for x in a.users if x is not b], b):
            return None
        return self._merged(a, b, space)

    def _depth(self, a: _Group, b: _Group) -> int:
        """The longest chain of nodes, if b joins a."""
        return a.depth + b.depth if any(self.of[n] is a for n in b.reads) else max(a.depth, b.depth)

    def _space(self, a: _Group, b: _Group) -> Shape | None:
        """The space of both together: the same, or that of the larger where the other's are its rows."""
        if a.space == b.space:
            return a.space if a.contraction is None or not b.has_rows else None
        if a.contraction is not None:
            return None
        small, large = sorted((a.space, b.space), key=len)
        rows = len(large) - 1
        if small == large[:rows] and (a.has_rows or b.has_rows) and rows >= 1:
            return large
        return None

    def _aligned(self, a: _Group, node: Node, at: set[tuple[Size, ...]], space: Shape) -> bool:
        """Whether b reads a's node at its own point, or along the row that both work on."""
        rank = len(node.shape)
        if rank < len(space) - 1:
            return False
        for index in at:
            own = len(index) == rank and all(_is_own(i, n) for n, i in enumerate(index[: len(space) - 1]))
            if not own:
                return False
            if rank < len(space) or not space or _is_own(index[-1], rank - 1):
                continue
            if not _is_reduced(index[-1]) or a.contraction is not None or self._cost(node) > RECOMPUTED:
                return False
        return True

    def _cost(self, node: Node) -> int:
        """What computing an element of a stored node again costs, down to what other groups store."""
        group = self.of[node]
        total, seen, stack = 0, set(), [node]
        while stack:
            x = stack.pop()
            if x in seen or is_buffer(x) or (x in self.of and self.of[x] is not group):
                continue
            seen.add(x)
            if x.op.form == "reduction" and x is not node:
                continue
            total += 0 if x.op.form == "view" else x.op.cost
            stack.extend(x.inputs)
        return total

    def _merged(self, a: _Group, b: _Group, space: Shape) -> _Group:
        a.space, a.depth = space, self._depth(a, b)
        moved, b.outputs = b.outputs, []
        a.outputs = sorted(a.outputs + moved, key=lambda n: (-len(n.shape), n.serial))
        a.has_rows = a.has_rows or b.has_rows
        for node in moved:
            self.of[node] = a
        for node, at in b.reads.items():
            a.reads.setdefault(node, set()).update(at)
        for other in b.needs:
            other.users.pop(b, None)
            if other is not a:
                a.needs[other] = None
                other.users[a] = None
        for other in b.users:
            other.needs.pop(b, None)
            if other is not a:
                a.users[other] = None
                other.needs[a] = None
        a.needs.pop(a, None)
        a.users.pop(b, None)
        a.users.pop(a, None)
        return a

    def finished(self) -> tuple[Group, ...]:
        """The groups in an order that can run, without buffers that nobody else reads."""
        roots = set(self.program.roots)
        groups = list(dict.fromkeys(self.of[n] for n in self.order))
        read = {node for g in groups for node in g.reads if self.of[node] is not g}
        result = []
        for g in topological_groups(groups):
            kept = tuple(n for n in g.outputs if n in roots or n in read)
            result.append(Group(kept, g.space, frozenset(g.outputs), g.contraction))
        return tuple(result)


def _is_row_reduction(node: Node) -> bool:
    """Whether a node reduces the last axis, or the last axes, of its input."""
    if node.op.form != "reduction" or "axes" not in node.attrs:
        return False
    axes, rank = node.attrs["axes"], node.inputs[0].ndim
    return tuple(axes) == (rank - 1,)


def _is_own(index: Size, axis: int) -> bool:
    """Whether an index is the kernel's own variable of an axis (or 0, where the axis has one element)."""
    return str(index) in (f"i{axis}", "0")


def _is_reduced(index: Size) -> bool:
    """Whether an index is the variable of a reduction."""
    atoms = [] if isinstance(index, int) else list(index.terms)
    return (
        len(atoms) == 1
        and len(atoms[0][0]) == 1
        and isinstance(atoms[0][0][0], Symbol)
        and atoms[0][0][0].key[0] == "r"
    )


def reaches(start: Iterable[_Group], goal: _Group) -> bool:
    """Whether goal needs one of the groups, directly or not."""
    last = max(n.serial for n in goal.outputs)
    stack = [g for g in start if g is goal or g.first < last]
    seen = set(stack)
    while stack:
        group = stack.pop()
        if group is goal:
            return True
        for user in group.users:
            if user not in seen and user.first <= last:
                seen.add(user)
                stack.append(user)
    return False


def topological_groups(groups: list[_Group]) -> list[_Group]:
    """Groups so that each stands after those it needs; otherwise in the given order."""
    waiting = {g: len(g.needs) for g in groups}
    ready = [g for g in groups if not waiting[g]]
    order = []
    while ready:
        group = ready.pop(0)
        order.append(group)
        for user in group.users:
            waiting[user] -= 1
            if not waiting[user]:
                ready.append(user)
    assert len(order) == len(groups), "groups need each other in a circle"
    return order
