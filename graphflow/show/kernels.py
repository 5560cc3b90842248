"""From a plan to a view: a box a kernel, with the ops that were fused into it, and boxes for the memory around them.

buffer 3: arena float32[n0, 128]      a wire from the kernel that writes it to those that read it
buffer 1: variable hidden/w           a box above its readers; and one below the kernel that updates it in place,
                                      alone if nothing else reads the old value
"""

from __future__ import annotations

import os.path
from collections.abc import Callable, Iterable

from graphflow.compiler.buffers import BufferSpec
from graphflow.compiler.loops.ir import Kernel, walk
from graphflow.compiler.plan import PLUMBING, Plan, Step
from graphflow.compiler.program import Origin
from graphflow.core.node import Array, Node
from graphflow.show.adapters import value_text
from graphflow.show.drawing import Box, View, Wire

__all__ = ["view_of_plan"]

LEADERS = 3
"""How many of the user's ops the name of a kernel tells."""


def view_of_plan(title: str, plan: Plan, note: str = "") -> View:
    """The kernels of a plan, and the feeds, variables, constants and outputs that they read and write."""
    return _Kernels(title, plan, note or f"{len(plan.steps)} kernels").view()


class _Kernels:
    """Collects boxes and wires; `holder` is the box that has the contents of a buffer at this point of the run."""

    def __init__(self, title: str, plan: Plan, note: str) -> None:
        self.title, self.plan, self.note = title, plan, note
        self.boxes: list[Box] = []
        self.wires: list[Wire] = []
        self.holder: dict[int, str] = {}

    def view(self) -> View:
        self.draw_memory()
        for step in self.plan.steps:
            self.draw(step)
        return View(self.title, tuple(self.boxes), tuple(self.wires), self.note, str(self.plan))

    def draw_memory(self) -> None:
        """What a run finds in memory: a box for each feed and constant; variables with the same readers share one."""
        variables: dict[tuple[int, ...], list[int]] = {}
        for buffer, readers in self.first_readers().items():
            if self.plan.buffers[buffer].kind == "variable":
                own = len(readers) == 1 and buffer in _written(self.plan.steps[readers[0]])
                if not own:
                    variables.setdefault(readers, []).append(buffer)
            else:
                self.boxes.append(self.leaf(buffer))
                self.holder[buffer] = self.boxes[-1].id
        for together in variables.values():
            box = self.variables(together, "", "Variable", "variable")
            self.boxes.append(box)
            self.holder.update(dict.fromkeys(together, box.id))

    def first_readers(self) -> dict[int, tuple[int, ...]]:
        """The steps that read a buffer before any step of this run writes it."""
        readers: dict[int, list[int]] = {}
        written: set[int] = set()
        for number, step in enumerate(self.plan.steps):
            for buffer in _read(step):
                if buffer not in written:
                    readers.setdefault(buffer, []).append(number)
            written.update(_written(step))
        return {buffer: tuple(steps) for buffer, steps in readers.items()}

    def draw(self, step: Step) -> None:
        """A kernel, wires from what it reads, and the variables and outputs that it leaves behind."""
        name, written = step.kernel.name, _written(step)
        types = ", ".join(dict.fromkeys(str(self.plan.buffers[b].type) for b in written))
        told = self.told(step)
        where = ", ".join(dict.fromkeys(str(o.source) for o in told if o.source.line))
        label = _label(told) or " · ".join(_first(step.ops, LEADERS))
        members = tuple(self.member(node) for node in _computing(step))
        self.boxes.append(
            Box(name, _sort(step.kernel), (), label, _space(step.kernel), where, "kernel", members, types)
        )
        sources: dict[str, list[int]] = {}
        for buffer in _read(step):
            if buffer in self.holder:
                sources.setdefault(self.holder[buffer], []).append(buffer)
        self.wires += [Wire(source, name, self.types(buffers)) for source, buffers in sources.items()]
        self.holder.update(dict.fromkeys(written, name))
        self.leave(name, written)

    def told(self, step: Step) -> list[Origin]:
        """The user's ops in a kernel: first that of its contraction, the others in their order."""
        nodes = sorted(_computing(step), key=lambda node: node.op.form != "contraction")
        return [origins[0] for node in nodes if (origins := self.plan.program.origins.get(node))]

    def member(self, node: Node) -> str:
        origins = self.plan.program.origins.get(node, ())
        where = str(origins[0].source) if origins and origins[0].source.line else ""
        return f"{node.op.name} {node.type} {where}".rstrip()

    def leave(self, name: str, written: list[int]) -> None:
        """Boxes below a kernel: the variables that it updates together, and each output."""
        updated = [b for b in written if self.plan.buffers[b].kind == "variable"]
        boxes = [self.variables(updated, " :=", "Update in place", "state")] if updated else []
        boxes += [self.output(self.plan.buffers[b]) for b in written if self.plan.buffers[b].kind == "output"]
        self.boxes += boxes
        self.wires += [Wire(name, box.id, box.type) for box in boxes]

    def leaf(self, buffer: int) -> Box:
        spec = self.plan.buffers[buffer]
        if spec.kind == "constant":
            value = spec.key.value if isinstance(spec.key, Array) else spec.key
            return Box(f"buffer {buffer}", "Const", (), value_text(value), "", "", "constant", (), str(spec.type))
        origin = self.origin(lambda node: node.attrs.get("feed") == spec.key)
        label = origin.name if origin else ""
        where = str(origin.source) if origin else ""
        return Box(f"feed {spec.key}", "Feed", (), label, "", where, "input", (), str(spec.type))

    def output(self, spec: BufferSpec) -> Box:
        origins = self.plan.program.origins.get(self.plan.program.outputs[spec.key], ())
        label = origins[0].name if origins else ""
        where = str(origins[0].source) if origins else ""
        return Box(f"fetch {spec.key}", "Fetch", (), label, "", where, "output", (), str(spec.type))

    def origin(self, wanted: Callable[[Node], bool]) -> Origin | None:
        nodes = (node for node in self.plan.program.nodes() if wanted(node))
        return next((origins[0] for n in nodes if (origins := self.plan.program.origins.get(n))), None)

    def variables(self, buffers: list[int], suffix: str, op: str, kind: str) -> Box:
        """One box for one variable or more: under what their names share, with a line each."""
        names = [str(self.plan.buffers[b].key) for b in buffers]
        label = os.path.commonpath(names) or f"{len(names)} variables"
        lines = tuple(f"{name} {self.plan.buffers[b].type}" for name, b in zip(names, buffers, strict=True))
        members = lines if len(lines) > 1 else ()
        return Box(f"{names[0]}{suffix}", op, (), label, "", "", kind, members, self.types(buffers))

    def types(self, buffers: list[int]) -> str:
        """`float32[784, 128]`, `3 × float32[784, 128]`, or how many tensors of several types."""
        types = list(dict.fromkeys(str(self.plan.buffers[b].type) for b in buffers))
        if len(types) > 1:
            return f"{len(buffers)} tensors"
        return types[0] if len(buffers) == 1 else f"{len(buffers)} × {types[0]}"


def _read(step: Step) -> list[int]:
    """The buffers whose contents a kernel needs, each once."""
    values = walk([store.value for store in step.kernel.stores])
    slots = [e.data[0] for e in values if e.kind == "load"]
    contract = step.kernel.contract
    if contract is not None:
        slots = [contract.a, contract.b, *slots]
    return list(dict.fromkeys(step.arguments[slot] for slot in slots))


def _written(step: Step) -> list[int]:
    return list(dict.fromkeys(step.arguments[store.buffer] for store in step.kernel.stores))


def _sort(kernel: Kernel) -> str:
    """What leads a kernel, and with it how its code is made."""
    if kernel.contract is not None:
        return "contraction"
    kinds = {e.kind for e in walk([store.value for store in kernel.stores])}
    if "reduce" in kinds:
        return "row reduction" if any(store.depth < len(kernel.loops) for store in kernel.stores) else "reduction"
    if "random" in kinds:
        return "random numbers"
    return "elementwise" if kernel.loops else "scalar"


def _space(kernel: Kernel) -> str:
    """`n0 × 128 · Σ 784`: the points that a kernel computes, and how many products a contraction adds for each."""
    space = " × ".join(str(loop.extent) for loop in kernel.loops)
    if kernel.contract is None:
        return space
    return f"{space} · Σ {' × '.join(str(loop.extent) for loop in kernel.contract.k)}"


def _computing(step: Step) -> list[Node]:
    return [node for node in step.nodes if node.op.name not in PLUMBING]


def _label(told: list[Origin]) -> str:
    """The user's ops in a kernel; `∇` for the gradient of one that is not there itself."""
    own = {origin.op for origin in told if not _is_gradient(origin)}
    names = [f"∇{o.op}" if _is_gradient(o) and o.op not in own else o.op for o in told]
    return " · ".join(_first(dict.fromkeys(names), LEADERS))


def _is_gradient(origin: Origin) -> bool:
    return origin.name.startswith("gradients/")


def _first(texts: Iterable[str], count: int) -> list[str]:
    """At most `count` of them, and how many more there are."""
    found = list(texts)
    return found if len(found) <= count else [*found[:count], f"+ {len(found) - count}"]
