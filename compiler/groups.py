"""Groups of stored nodes, each of which will be one kernel, and how they merge: `Groups`.

Groups are merged while that saves memory traffic: a consumer into its producer where both run over the same points, a
row's reductions with what is computed from them, siblings that read the same data.  A node that only its own group
reads loses its buffer again.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from graphflow.compiler.assemble import Assembly
from graphflow.compiler.buffers import base_of, is_buffer, is_large
from graphflow.compiler.loops.ir import Expr, walk
from graphflow.compiler.loops.lower import SOMEWHERE, Group, lower
from graphflow.compiler.ranks import may_merge, merge_ranks
from graphflow.compiler.reads import Reads, is_own, is_reduced, reads_in, walk_of
from graphflow.compiler.split import FEW, LONG
from graphflow.core.dim import Size, estimate, product
from graphflow.core.node import Node
from graphflow.core.type import Shape

__all__ = ["Groups"]

RECOMPUTED = 48
"""Up to this cost a row's values are computed again for each of its reductions."""

RANDOM, REDUCED = 60, 8
"""What a random number, and an element of a reduction that others reduce again, cost."""

COLUMN_BLOCK = 64
"""About how many columns run side by side."""

LEAST_COLUMNS = 512
"""Columns that make enough blocks for threads to share."""

COLUMN_ROWS = 512
"""Columns of so many elements stay in a core's second cache from one pass over them to the next."""

COLUMN_ELEMENTS = 1 << 20
"""Up to so many elements are read down columns; of more, rows in long pieces, be it twice: memory likes that better."""

SHARED = 8
"""Siblings merge for a node with an element for so many points; for less they would only be read and written in more
streams at once, which caches of few ways and prefetchers suffer from."""

MERGED_DEPTH = 80
"""The longest chain of nodes in a group: lowering and emitting recurse along it."""


@dataclass(eq=False)
class _Group:
    """A group that may still grow: its iteration space, what it computes, what it reads."""

    space: Shape
    outputs: list[Node]
    contraction: Node | None
    depth: int  # no chain of its nodes is longer
    needs: dict[_Group, None] = field(default_factory=dict)
    users: dict[_Group, None] = field(default_factory=dict)
    reads: Reads = field(default_factory=dict)
    fed: Reads = field(default_factory=dict)  # what it reads of large memory that no group fills
    constant: bool = False  # reads nothing at all
    row: int | None = None  # the axis of larger spaces along which it reduces
    rank: int = 0  # smaller than those of its users


class Groups:
    """All groups of a program, and how they merge."""

    def __init__(self, assembly: Assembly, stored: set[Node]) -> None:
        self.assembly, self.program, self.stored = assembly, assembly.program, stored
        program = assembly.program
        self.base = base_of(stored.__contains__)
        self.of: dict[Node, _Group] = {}
        self.readers: dict[Node, dict[_Group, None]] = {}  # of large memory that no group fills
        self.order = [n for n in program.nodes() if n in stored and n not in assembly.parts]
        depth: dict[Node, int] = {}
        for node in program.nodes():
            depth[node] = 1 + max((depth[x] for x in node.inputs if x not in stored), default=0)
        for rank, node in enumerate(self.order):
            contraction = node if node.op.form == "contraction" else None
            self.of[node] = _Group(node.shape, [node], contraction, depth[node], rank=rank)
        for node in self.order:
            self._link(self.of[node])

    def _link(self, group: _Group) -> None:
        """Read off what a group loads, by lowering it."""
        lowered = lower(self.as_group(group), self.base, "trial", self.assembly.places)
        group.reads = {node: set(at) for node, at in lowered.reads.items() if node in self.of}
        for whole in (node for node in lowered.reads if node in self.assembly.parts):
            for part in self.assembly.makers(whole):
                group.reads.setdefault(part, set()).add(SOMEWHERE)
        group.fed = {node: set(at) for node, at in lowered.reads.items() if is_buffer(node) and is_large(node)}
        for node in group.fed:
            self.readers.setdefault(node, {})[group] = None
        group.row, group.constant = _row_of(group.outputs[0]), not lowered.reads
        for node in group.reads:
            if self.of[node] is not group:
                group.needs[self.of[node]] = None
                self.of[node].users[group] = None

    def as_group(self, group: _Group) -> Group:
        """A group as it stands."""
        return Group(tuple(group.outputs), group.space, frozenset(group.outputs), group.contraction, _inner(group))

    def merge(self) -> None:
        """Merge consumers into producers and siblings into each other, first come first."""
        for node in self.order:
            group = self.of[node]
            for other in self._candidates(group):
                joined = self._join(other, group)
                if joined is not None:
                    group = joined

    def _candidates(self, group: _Group) -> list[_Group]:
        """What a group could merge with: its producers, their other users, who walks through the same memory, and who
        fills other parts of a whole with constants, such as a border's opposite side."""
        producers = list(group.needs)
        siblings = [s for p in producers for s in p.users if s is not group and self._share_elements(group, s)]
        beside = [s for n in group.fed for s in self.readers[n] if s is not group and self._walk_alike(group, s, n)]
        return list(dict.fromkeys(producers + siblings + beside + self._constant_parts(group)))

    def _share_elements(self, a: _Group, b: _Group) -> bool:
        """Whether two groups read a node that is worth being read once: beside many points, a number is not."""
        points = min(estimate(product(g.space)) for g in (a, b))
        return any(SHARED * estimate(n.type.size) >= points for n in a.reads if n in b.reads)

    def _constant_parts(self, group: _Group) -> list[_Group]:
        """Who fills parts of the whole that a group fills a part of, if both read nothing."""
        place = self.assembly.places.get(group.outputs[0]) if group.constant else None
        makers = self.assembly.makers(place.whole) if place is not None else []
        return [self.of[m] for m in makers if self.of[m].constant and self.of[m] is not group]

    def _walk_alike(self, a: _Group, b: _Group, node: Node) -> bool:
        """Whether two groups, as one, would meet the elements of a node at the same time."""
        space = self._space(a, b)
        if space is None or a.contraction is not None or b.contraction is not None:
            return False
        row = a.row if a.row is not None else b.row
        return walk_of(a.fed[node], a.space, space, row) == walk_of(b.fed[node], b.space, space, row)

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
        row = a.row if a.row is not None else b.row
        reads = reads_in(b.reads, b.space, space, row)
        if not all(self._aligned(a, node, at, space, row) for node, at in reads.items() if self.of[node] is a):
            return None
        if not may_merge(a, b):
            return None
        return self._merged(a, b, space)

    def _depth(self, a: _Group, b: _Group) -> int:
        """The longest chain of nodes, if b joins a."""
        return a.depth + b.depth if any(self.of[n] is a for n in b.reads) else max(a.depth, b.depth)

    def _space(self, a: _Group, b: _Group) -> Shape | None:
        """The space of both together: the same, or that of the larger where the other's are its rows."""
        if a.row is not None and b.row is not None and a.row != b.row:
            return None
        row = a.row if a.row is not None else b.row
        if a.space == b.space:
            return a.space if a.contraction is None or b.row is None else None
        if a.contraction is not None or row is None:
            return None
        small, large = sorted((a.space, b.space), key=len)
        if not small or len(large) != len(small) + 1 or small != (*large[:row], *large[row + 1 :]):
            return None
        whole, rows = (a, b) if a.space == large else (b, a)
        if any(len(n.shape) < len(small) for n in rows.outputs):  # they have rows of their own, along another axis
            return None
        if row == len(small):
            return None if _is_for_many(small, large[row]) else large
        along_rows = any(g.row == len(small) for g in (*whole.needs, *whole.users))
        return large if not along_rows and _fits_columns(small, large[row]) else None

    def _aligned(self, a: _Group, node: Node, at: set[tuple[Size, ...]], space: Shape, row: int | None) -> bool:
        """Whether b reads a's node at its own point, or along the row that both work on."""
        row = len(space) - 1 if row is None or row >= len(space) else row
        rank = len(node.shape)
        axes = [n for n in range(len(space)) if rank == len(space) or n != row]
        if rank != len(axes):
            return False
        for index in at:
            if len(index) != rank:
                return False
            other = [n for n, i in zip(axes, index, strict=True) if not is_own(i, n)]
            if not other:
                continue
            reduced = other == [row] and is_reduced(index[row])
            if not reduced or a.contraction is not None or self._cost(node, row) > RECOMPUTED:
                return False
        return True

    def _cost(self, node: Node, axis: int) -> int:
        """What an element of a stored node costs to compute again, but for what stays the same along an axis."""
        inside = frozenset(self.of[node].outputs)
        own = Group((node,), node.shape, inside, None)
        kernel = lower(own, self.base, "trial", self.assembly.places).kernel
        along = kernel.loops[axis].symbol
        return sum(_own_cost(e) for e in walk([s.value for s in kernel.stores]) if along in e.vars)

    def _merged(self, a: _Group, b: _Group, space: Shape) -> _Group:
        merge_ranks(a, b)
        a.row = a.row if a.row is not None else b.row
        for group in (a, b):
            group.reads, group.fed = (reads_in(reads, group.space, space, a.row) for reads in (group.reads, group.fed))
        a.space, a.depth = space, self._depth(a, b)
        moved, b.outputs = b.outputs, []
        a.outputs = sorted(a.outputs + moved, key=lambda n: (-len(n.shape), n.serial))
        for node in moved:
            self.of[node] = a
        for node, at in b.reads.items():
            a.reads.setdefault(node, set()).update(at)
        for node, at in b.fed.items():
            a.fed.setdefault(node, set()).update(at)
            self.readers[node].pop(b)
            self.readers[node][a] = None
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
            kept = tuple(n for n in g.outputs if n in roots or n in read or n in self.assembly.places)
            result.append(Group(kept, g.space, frozenset(g.outputs), g.contraction, _inner(g)))
        return tuple(result)


def _own_cost(e: Expr) -> int:
    """What an expression costs beyond its operands."""
    if e.kind == "apply":
        return int(e.data[0].cost)
    return {"random": RANDOM, "reduce": REDUCED}.get(e.kind, 0)


def _row_of(node: Node) -> int | None:
    """The one axis along which a node reduces its input, of those that its input has besides others."""
    if node.op.form != "reduction" or "axes" not in node.attrs or node.inputs[0].ndim < 2:
        return None
    axes = node.attrs["axes"]
    return int(axes[0]) if len(axes) == 1 else None


def _inner(group: _Group) -> int | None:
    """The axis of a group's space that runs innermost, where it is not the last one."""
    inside = group.row is not None and any(len(n.shape) < len(group.space) for n in group.outputs)
    return group.row if inside else None


def _is_for_many(rows: Shape, length: Size) -> bool:
    """Whether rows are so few and long that parts of them had better be shared: a row that is reduced is one unit."""
    return estimate(product(rows)) <= FEW and estimate(length) >= LONG


def _fits_columns(columns: Shape, rows: Size) -> bool:
    """Whether columns are worth a kernel: blocks for all threads, which stay in their caches."""
    count, length = estimate(product(columns)), estimate(rows)
    many = estimate(columns[-1]) >= COLUMN_BLOCK and count >= LEAST_COLUMNS
    return many and length <= COLUMN_ROWS and count * length <= COLUMN_ELEMENTS


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
