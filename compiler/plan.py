"""Where everything lives and when it runs: kernels in waves, buffers, lifetimes, updates in place.

Assumes: groups in an order that can run.  Guarantees: `Plan` is all that the runtime needs besides machine code.  A
variable's new value goes to the variable's own memory where every other reader of the old value can run before, and
the kernel itself reads it only at the element that it writes; else it is computed aside and copied at the end.
Offsets are assigned when sizes are known (`place`): first the largest buffer, at the lowest place that is free
throughout its lifetime.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from graphflow.compiler.fuse import Fused, base_of, is_buffer
from graphflow.compiler.loops.collapse import collapse
from graphflow.compiler.loops.ir import Kernel
from graphflow.compiler.loops.lower import Group, Lowered, lower
from graphflow.compiler.loops.rebase import rebase
from graphflow.compiler.program import Origin, TensorProgram
from graphflow.core.dim import Dim, Size, Symbol, atoms_of
from graphflow.core.dtype import DType
from graphflow.core.node import Node, make_node
from graphflow.core.op import OPS
from graphflow.core.type import Shape, TensorType

__all__ = ["BufferSpec", "Plan", "Step", "place", "plan"]

ALIGNMENT = 64

PLUMBING = ("Const", "BroadcastTo", "Reshape")
"""Ops that cost nothing where they are inlined."""


@dataclass(frozen=True)
class BufferSpec:
    """Memory of a node.  kind: feed (key: its number), variable (name), constant (array), output (number), arena.

    What is in the arena lives from the wave `first` to the wave `last`.
    """

    kind: str
    key: Any
    type: TensorType
    first: int = 0
    last: int = 0

    @property
    def dtype(self) -> DType:
        return self.type.dtype

    @property
    def shape(self) -> Shape:
        return self.type.dims


@dataclass(frozen=True)
class Step:
    """A kernel, its wave, the buffers that are its arguments, the bytes by which each argument starts later, and the
    nodes that it computes (inlined ones too), inputs first.  Steps of one wave do not need each other."""

    kernel: Kernel
    wave: int
    arguments: tuple[int, ...]
    offsets: tuple[int, ...]
    origins: tuple[Origin, ...] = ()
    nodes: tuple[Node, ...] = ()

    @property
    def ops(self) -> tuple[str, ...]:
        """The names of the ops, without repetition and without those that only say how data lies."""
        return tuple(dict.fromkeys(n.op.name for n in self.nodes if n.op.name not in PLUMBING))


@dataclass(frozen=True)
class Plan:
    """Steps in order; buffers; which variables must be initialized (`reads`) and which get new values (`writes`)."""

    program: TensorProgram
    steps: tuple[Step, ...]
    buffers: tuple[BufferSpec, ...]
    symbols: tuple[str, ...]
    reads: tuple[str, ...]
    writes: tuple[str, ...]

    def __str__(self) -> str:
        lines = [f"buffer {n}: {b.kind} {_key(b)}{b.type}" for n, b in enumerate(self.buffers)]
        for n, step in enumerate(self.steps):
            arguments = (f"{a}+{o}" if o else str(a) for a, o in zip(step.arguments, step.offsets, strict=True))
            lines.append(f"step {n} (wave {step.wave}): {', '.join(arguments)}  # {' '.join(step.ops)}")
            lines.append(str(step.kernel))
        return "\n".join(lines)


def _key(buffer: BufferSpec) -> str:
    return "" if buffer.kind in ("arena", "constant") else f"{buffer.key} "


def plan(fused: Fused) -> Plan:
    """The plan of a fused program."""
    return _Planner(fused).run()


class _Planner:
    def __init__(self, fused: Fused) -> None:
        self.program = fused.program
        self.pieces = fused.pieces
        outputs = {n for g in fused.groups for n in g.outputs} | {whole for whole, _ in self.pieces.values()}
        self.base = base_of(outputs.__contains__)
        self.lowered = {g: lower(g, self.base, f"k{n}") for n, g in enumerate(fused.groups)}
        self.groups = list(fused.groups)
        self.maker = {node: g for g in fused.groups for node in g.outputs}
        self.in_place: dict[Node, str] = {}

    def run(self) -> Plan:
        before: dict[Group, set[Group]] = {g: self._needs(g) for g in self.groups}
        for name, node in self.program.updates:
            self._try_in_place(name, node, before)
        order = _ordered(self.groups, before)
        copies = self._copies()
        return self._finish(order, copies)

    def _needs(self, group: Group) -> set[Group]:
        read = [m for n in self.lowered[group].buffers for m in (n.inputs if self._is_assembled(n) else (n,))]
        return {self.maker[n] for n in read if n in self.maker and self.maker[n] is not group}

    def _is_assembled(self, node: Node) -> bool:
        """Whether a concatenation's parts are computed in place."""
        return node.op.name == "Concat" and self.pieces.get(node.inputs[0], (None, 0))[0] is node

    def _whole(self, node: Node) -> Node:
        """The node whose buffer a node lies in."""
        return self.pieces[node][0] if node in self.pieces else node

    def _try_in_place(self, name: str, node: Node, before: dict[Group, set[Group]]) -> None:
        """Let the kernel write the variable itself, if what reads the old value can run before."""
        maker = self.maker[node]
        old = _variable_node(self.program, name)
        if old is None:
            self.in_place[node] = name
            return
        own = tuple(f"i{n}" for n in range(len(node.shape)))
        reads = self.lowered[maker].reads.get(old, frozenset())
        aligned = all(tuple(map(str, at)) == own for at in reads)
        readers = [g for g in self.groups if g is not maker and old in self.lowered[g].buffers]
        if old.type != node.type or not aligned or any(_depends(r, maker, before) for r in readers):
            return
        before[maker] |= set(readers)
        self.in_place[node] = name

    def _copies(self) -> list[tuple[Group, Lowered, str]]:
        """Kernels that run last: new values that were computed aside."""
        result = []
        for number, (name, node) in enumerate(self.program.updates):
            if node in self.in_place:
                continue
            copy = make_node(OPS["Copy"], (node,), {"number": -1 - number})
            group = Group((copy,), copy.shape, frozenset((copy,)))
            stored = set(self.maker) | {copy}
            result.append((group, lower(group, base_of(stored.__contains__), f"copy{number}"), name))
        return result

    def _finish(self, order: list[Group], copies: list[tuple[Group, Lowered, str]]) -> Plan:
        numbers: dict[Any, int] = {}
        specs: list[BufferSpec] = []
        steps = [(g, self.lowered[g]) for g in order] + [(g, low) for g, low, _ in copies]
        target = {g.outputs[0]: name for g, _, name in copies}
        waves = self._waves(steps, target)
        steps.sort(key=lambda step: waves[step[0]])
        life = _lifetimes([(waves[g], [self._whole(n) for n in low.buffers]) for g, low in steps])
        outputs = {node: n for n, node in enumerate(self.program.outputs)}
        for _, low in steps:
            for node in low.buffers:
                spec = self._spec(self._whole(node), outputs, target, life)
                key = (spec.kind, spec.key) if spec.kind in ("variable", "feed") else self._whole(node)
                if key not in numbers:
                    numbers[key] = len(specs)
                    specs.append(spec)
                numbers[node] = numbers[key]
        made = tuple(
            self._step(low, waves[g], tuple(numbers[n] for n in low.buffers), _computed(g, low)) for g, low in steps
        )
        reads = tuple(sorted({s.key for s in specs if s.kind == "variable"} & self._variables_read()))
        writes = tuple(name for name, _ in self.program.updates)
        return Plan(self.program, made, tuple(specs), _symbols(self.program), reads, writes)

    def _waves(self, steps: Sequence[tuple[Group, Lowered]], target: Mapping[Node, str]) -> dict[Group, int]:
        """For each group the earliest wave in which it can run: after what it reads was written, and before or after
        others touch the memory that it writes, as the order of `steps` has it."""
        waves: dict[Group, int] = {}
        written: dict[Any, int] = {}
        read: dict[Any, int] = {}
        for group, low in steps:
            made = {self._memory_of(n, target) for n in group.outputs}
            used = {
                self._memory_of(m, target) for n in low.buffers for m in (n.inputs if self._is_assembled(n) else (n,))
            }
            after = [written.get(m, -1) for m in used | made] + [read.get(m, -1) for m in made]
            wave = 1 + max(after, default=-1)
            waves[group] = wave
            read.update((m, max(wave, read.get(m, -1))) for m in used - made)
            written.update((m, wave) for m in made)
        return waves

    def _memory_of(self, node: Node, target: Mapping[Node, str]) -> Any:
        """What tells whether two nodes share memory before offsets are assigned."""
        if node.op.name == "Variable":
            return node.attrs["variable"]
        return self.in_place.get(node) or target.get(node) or node

    def _spec(
        self, node: Node, outputs: Mapping[Node, int], target: Mapping[Node, str], life: Mapping[Node, tuple[int, int]]
    ) -> BufferSpec:
        if node.op.name == "Feed":
            return BufferSpec("feed", node.attrs["feed"], node.type)
        if node.op.name == "Variable":
            return BufferSpec("variable", node.attrs["variable"], node.type)
        if node.op.name == "Const":
            return BufferSpec("constant", node.attrs["value"], node.type)
        name = self.in_place.get(node) or target.get(node)
        if name is not None:
            return BufferSpec("variable", name, node.type)
        if node in outputs:
            return BufferSpec("output", outputs[node], node.type)
        return BufferSpec("arena", None, node.type, *life[node])

    def _variables_read(self) -> set[str]:
        return {n.attrs["variable"] for n in self.program.nodes() if n.op.name == "Variable"}

    def _step(self, lowered: Lowered, wave: int, arguments: tuple[int, ...], nodes: tuple[Node, ...]) -> Step:
        found: dict[Origin, None] = {}
        for node in nodes:
            found.update(dict.fromkeys(self.program.origins.get(node, ())))
        kernel, offsets = rebase(collapse(lowered.kernel))
        starts = [self.pieces[n][1] if n in self.pieces else 0 for n in lowered.buffers]
        shifts = tuple((o + s) * n.dtype.size for o, s, n in zip(offsets, starts, lowered.buffers, strict=True))
        return Step(kernel, wave, arguments, shifts, tuple(found), nodes)


def _computed(group: Group, lowered: Lowered) -> tuple[Node, ...]:
    """The nodes that a group computes, inlined ones too, inputs first."""
    loaded = set(lowered.buffers) - group.inside
    seen: set[Node] = set()
    stack = list(group.inside)
    while stack:
        node = stack.pop()
        if node in seen or node in loaded or is_buffer(node):
            continue
        seen.add(node)
        stack.extend(node.inputs)
    return tuple(sorted(seen, key=lambda n: n.serial))


def _variable_node(program: TensorProgram, name: str) -> Node | None:
    return next((n for n in program.nodes() if n.op.name == "Variable" and n.attrs["variable"] == name), None)


def _depends(group: Group, on: Group, before: Mapping[Group, set[Group]]) -> bool:
    """Whether `group` must run after `on`."""
    seen, stack = {group}, [group]
    while stack:
        g = stack.pop()
        if g is on:
            return True
        new = before[g] - seen
        seen |= new
        stack.extend(new)
    return False


def _ordered(groups: Sequence[Group], before: Mapping[Group, set[Group]]) -> list[Group]:
    """Each after what must run before it; otherwise as they stand."""
    place_of = {g: n for n, g in enumerate(groups)}
    done: dict[Group, None] = {}
    for group in groups:
        stack = [group]
        while stack:
            g = stack[-1]
            waiting = [x for x in sorted(before[g], key=place_of.__getitem__) if x not in done]
            if g in done or not waiting:
                stack.pop()
                done.setdefault(g)
            else:
                stack.append(waiting[0])
    return list(done)


def _lifetimes(steps: Sequence[tuple[int, list[Node]]]) -> dict[Node, tuple[int, int]]:
    """First and last wave that touch each node's buffer."""
    life: dict[Node, tuple[int, int]] = {}
    for wave, nodes in steps:
        for node in nodes:
            life[node] = (life.get(node, (wave, wave))[0], wave)
    return life


def _symbols(program: TensorProgram) -> tuple[str, ...]:
    """The symbols of the feeds' shapes, in the order of their first appearance."""
    found: dict[str, None] = {}
    for type_ in program.feeds:
        for dim in type_.dims:
            if isinstance(dim, Dim):
                found.update({a.key: None for a in atoms_of(dim) if isinstance(a, Symbol)})
    return tuple(found)


def place(sizes: Sequence[tuple[int, int, int]]) -> tuple[list[int], int]:
    """Offsets for buffers given as (bytes, first step, last step), and the bytes of the arena."""
    offsets = [0] * len(sizes)
    placed: list[tuple[int, int, int, int]] = []  # start, end, first step, last step; in order of their starts
    total = 0
    for n in sorted(range(len(sizes)), key=lambda n: (-sizes[n][0], n)):
        _, first, last = sizes[n]
        size, offset = _padded(sizes[n][0]), 0
        for start, end, begins, ends in placed:
            if end <= offset or begins > last or ends < first:
                continue
            if offset + size <= start:
                break
            offset = end
        offsets[n] = offset
        insort(placed, (offset, offset + size, first, last))
        total = max(total, offset + size)
    return offsets, total


def _padded(size: int) -> int:
    return -(-max(size, 1) // ALIGNMENT) * ALIGNMENT


def byte_size(spec: BufferSpec) -> Size:
    """Bytes of a buffer."""
    return spec.type.size * spec.dtype.size
