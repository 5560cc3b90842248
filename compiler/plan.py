"""Where everything lives and when it runs: kernels in waves, buffers, lifetimes, updates in place.

Assumes: groups in an order that can run.  Guarantees: `Plan` is all that the runtime needs besides machine code.  A
variable's new value goes to the variable's own memory where every other reader of the old value can run before, and
the kernel itself reads it only at the element that it writes; else it is computed aside and copied at the end.
Waves are `schedule`'s; a value that dies is overwritten where that is possible (`overwrite`); offsets are assigned when
sizes are known (`arena`).
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from graphflow.compiler.buffers import BufferSpec, base_of, is_buffer
from graphflow.compiler.final import with_final
from graphflow.compiler.fuse import Fused
from graphflow.compiler.loops.collapse import collapse
from graphflow.compiler.loops.ir import Kernel
from graphflow.compiler.loops.keep import keep
from graphflow.compiler.loops.lower import Group, Lowered, lower
from graphflow.compiler.loops.rebase import rebase
from graphflow.compiler.loops.work import operations
from graphflow.compiler.overwrite import joined_lives, overwritten, reads_own
from graphflow.compiler.program import Origin, TensorProgram
from graphflow.compiler.readers import with_readers
from graphflow.compiler.schedule import Task, schedule
from graphflow.core.dim import Dim, Symbol, atoms_of, estimate
from graphflow.core.errors import InternalError
from graphflow.core.node import Node, make_node
from graphflow.core.op import OPS

__all__ = ["Plan", "Step", "plan"]

PLUMBING = ("Const", "BroadcastTo", "Reshape")
"""Ops that cost nothing where they are inlined."""


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
        self.program, self.assembly = fused.program, fused.assembly
        outputs = {n for g in fused.groups for n in g.outputs} | set(self.assembly.parts)
        self.base = base_of(outputs.__contains__)
        self.lowered = {g: lower(g, self.base, f"k{n}", self.assembly.places) for n, g in enumerate(fused.groups)}
        self.groups = list(fused.groups)
        self.maker = {node: g for g in fused.groups for node in g.outputs}
        self.in_place: dict[Node, str] = {}
        self.target: dict[Node, str] = {}  # variables that copies write
        self.fetched = {node: n for n, node in enumerate(self.program.outputs)}
        self.variables = {n.attrs["variable"]: n for n in self.program.nodes() if n.op.name == "Variable"}

    def run(self) -> Plan:
        before = self._with_parts({g: self._needs(g) for g in self.groups})
        for name, node in self.program.updates:
            self._try_in_place(name, node, before)
        order = _ordered(self.groups, before)
        for group, lowered, name in self._copies():
            self.lowered[group] = lowered
            self.target[group.outputs[0]] = name
            old = self.variables.get(name)
            before[group] = self._needs(group) | {g for g in order if old in self.lowered[g].reads}
            order.append(group)
        return self._finish(order, self._waves(order, before))

    def _needs(self, group: Group) -> set[Group]:
        read = self._loaded(self.lowered[group])
        return {self.maker[n] for n in read if n in self.maker and self.maker[n] is not group}

    def _with_parts(self, needs: Mapping[Group, set[Group]]) -> dict[Group, set[Group]]:
        """What fills a part of a whole with a constant waits for what other parts need, unless that waits for it, as it
        may if it makes something else besides: till then nothing is alive."""
        before = {group: set(needed) for group, needed in needs.items()}
        for part, place in self.assembly.places.items():
            group = self.maker.get(part)
            if group is not None and not self.lowered[group].reads:
                others = {g for m in self.assembly.makers(place.whole) for g in needs[self.maker[m]]}
                before[group].update(g for g in others if not _depends(g, group, before))
        return before

    def _loaded(self, lowered: Lowered) -> list[Node]:
        """The nodes that a kernel reads: for a whole, what fills it."""
        return [m for n in lowered.reads for m in self.assembly.makers(n)]

    def _try_in_place(self, name: str, node: Node, before: dict[Group, set[Group]]) -> None:
        """Let the kernel write the variable itself, if what reads the old value can run before."""
        old = self.variables.get(name)
        if old is None:
            self.in_place[node] = name
            return
        maker = self.maker.get(node)
        if maker is None:
            return
        readers = [g for g in self.groups if g is not maker and old in self.lowered[g].reads]
        if (
            old.type != node.type
            or not reads_own(self.lowered[maker], old)
            or any(_depends(r, maker, before) for r in readers)
        ):
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
            stored = {*self.maker, *self.assembly.parts, copy}
            lowered = lower(group, base_of(stored.__contains__), f"copy{number}", self.assembly.places)
            result.append((group, lowered, name))
        return result

    def _waves(self, order: Sequence[Group], before: Mapping[Group, set[Group]]) -> dict[Group, int]:
        """The wave of each kernel."""
        number = {g: n for n, g in enumerate(order)}
        tasks: list[Task] = []
        sizes: dict[Hashable, int] = {}
        for group in order:
            lowered = self.lowered[group]
            touched = tuple(n for n in lowered.buffers if self._in_arena(n))
            sizes.update((n, estimate(n.type.size) * n.dtype.size) for n in touched)
            tasks.append(Task(frozenset(number[g] for g in before[group]), touched, operations(lowered.kernel)))
        return dict(zip(order, schedule(tasks, sizes), strict=True))

    def _in_arena(self, node: Node) -> bool:
        """Whether a node's buffer lives during the run only."""
        return not (is_buffer(node) or node in self.in_place or node in self.target or node in self.fetched)

    def _finish(self, order: Sequence[Group], waves: Mapping[Group, int]) -> Plan:
        steps = sorted(((waves[g], g, self.lowered[g]) for g in order), key=lambda step: step[0])
        owner = overwritten(steps, self._in_arena, {*self.assembly.places, *self.assembly.parts})
        life = joined_lives(_lifetimes([(wave, low.buffers) for wave, _, low in steps]), owner)
        numbers: dict[Any, int] = {}
        specs: list[BufferSpec] = []
        for _, _, low in steps:
            for node in low.buffers:
                spec = replace(self._spec(node, life), origin=next(iter(self.program.origins.get(node, ())), None))
                key = (spec.kind, spec.key) if spec.kind in ("variable", "feed") else owner.get(node, node)
                if key not in numbers:
                    numbers[key] = len(specs)
                    specs.append(spec)
                numbers[node] = numbers[key]
        made = tuple(
            self._step(low, wave, tuple(numbers[n] for n in low.buffers), _computed(g, low)) for wave, g, low in steps
        )
        made = with_final(made, specs)
        reads = tuple(sorted({s.key for s in specs if s.kind == "variable"} & self.variables.keys()))
        writes = tuple(name for name, _ in self.program.updates)
        return Plan(self.program, with_readers(made, specs), tuple(specs), _symbols(self.program), reads, writes)

    def _spec(self, node: Node, life: Mapping[Node, tuple[int, int]]) -> BufferSpec:
        if node.op.name == "Feed":
            return BufferSpec("feed", node.attrs["feed"], node.type)
        if node.op.name == "Variable":
            return BufferSpec("variable", node.attrs["variable"], node.type)
        if node.op.name == "Const":
            return BufferSpec("constant", node.attrs["value"], node.type)
        name = self.in_place.get(node) or self.target.get(node)
        if name is not None:
            return BufferSpec("variable", name, node.type)
        if node in self.fetched:
            return BufferSpec("output", self.fetched[node], node.type)
        return BufferSpec("arena", None, node.type, *life[node])

    def _step(self, lowered: Lowered, wave: int, arguments: tuple[int, ...], nodes: tuple[Node, ...]) -> Step:
        found: dict[Origin, None] = {}
        for node in nodes:
            found.update(dict.fromkeys(self.program.origins.get(node, ())))
        kernel, offsets = rebase(collapse(lowered.kernel))
        kernel = keep(kernel, [n for n, a in enumerate(arguments) if arguments.count(a) == 1])
        shifts = tuple(o * n.dtype.size for o, n in zip(offsets, lowered.buffers, strict=True))
        return Step(kernel, wave, arguments, shifts, tuple(found), nodes)


def _computed(group: Group, lowered: Lowered) -> tuple[Node, ...]:
    """The nodes that a group computes, inlined ones too, inputs first."""
    loaded = set(lowered.reads) - group.inside
    seen: set[Node] = set()
    stack = list(group.inside)
    while stack:
        node = stack.pop()
        if node in seen or node in loaded or is_buffer(node):
            continue
        seen.add(node)
        stack.extend(node.inputs)
    return tuple(sorted(seen, key=lambda n: n.serial))


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
    """Each after what must run before it; otherwise as they stand.  Raises InternalError for a circle."""
    place_of = {g: n for n, g in enumerate(groups)}
    done: dict[Group, None] = {}
    for group in groups:
        stack, begun = [group], {group}
        while stack:
            g = stack[-1]
            waiting = [x for x in sorted(before[g], key=place_of.__getitem__) if x not in done]
            if g in done or not waiting:
                stack.pop()
                done.setdefault(g)
                continue
            if waiting[0] in begun:
                raise InternalError(f"internal error: kernels wait for each other: {stack[stack.index(waiting[0]) :]}")
            stack.append(waiting[0])
            begun.add(waiting[0])
    return list(done)


def _lifetimes(steps: Sequence[tuple[int, Sequence[Node]]]) -> dict[Node, tuple[int, int]]:
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
