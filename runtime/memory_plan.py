"""The bytes of a run before it: `Session.plan`, and the refusal of a run that can't fit (`check_room`).

>>> print(sess.plan(loss, {x: (256, 784)}))
a run needs 1.4 MB
  arena           401.6 kB  intermediate values; at the least 401.6 kB are alive at once
  outputs              4 B
  variables       814.1 kB
  constants            0 B
  scratch         131.1 kB  of 2 threads
largest buffers
  401.4 kB  variable  float32[784, 128]  VariableV2 'w'      train.py:5
  131.1 kB  arena     float32[256, 128]  Relu       'hidden' train.py:7
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from graphflow.compiler.arena import least, place
from graphflow.compiler.buffers import BufferSpec
from graphflow.compiler.capture import RANDOM_DRAWS
from graphflow.compiler.layout import Layout
from graphflow.core.dim import evaluate
from graphflow.core.dtype import DType
from graphflow.core.errors import ResourceExhaustedError
from graphflow.core.source import Source
from graphflow.runtime.bound import Placement, lifetimes
from graphflow.runtime.memory_limit import SMALL, VARIABLE, available, set_limit
from graphflow.runtime.native_call import trim_outputs
from graphflow.runtime.store import VariableStore
from graphflow.runtime.threads import pool

if TYPE_CHECKING:
    from graphflow.runtime.executable import Executable

__all__ = ["MemoryPlan", "PlannedBuffer", "bytes_text", "check_room", "memory_plan", "placed"]

SHOWN = 8
"""How many buffers are printed."""


@dataclass(frozen=True)
class PlannedBuffer:
    """Memory of one value.  kind: arena, output, variable, constant, or workspace (what a kernel packs operands in)."""

    kind: str
    bytes: int
    dtype: DType | None = None
    shape: tuple[int, ...] = ()
    op: str = ""
    name: str = ""
    source: Source | None = None

    @property
    def cells(self) -> tuple[str, ...]:
        """The columns of its line."""
        type_ = "" if self.dtype is None else f"{self.dtype}[{', '.join(map(str, self.shape))}]"
        name = f"'{self.name}'" if self.name else ""
        return bytes_text(self.bytes), self.kind, type_, self.op, name, "" if self.source is None else str(self.source)


@dataclass(frozen=True)
class MemoryPlan:
    """Bytes of one run, and its buffers, the largest first.

    arena: what intermediate values share; least: how much of them is alive at once, which no arena could go below.
    scratch: of all threads.  `total` is the sum of all; feeds are the caller's and not in it.
    """

    arena: int = 0
    least: int = 0
    outputs: int = 0
    variables: int = 0
    constants: int = 0
    scratch: int = 0
    threads: int = 1
    feeds: int = 0
    buffers: tuple[PlannedBuffer, ...] = ()

    @property
    def total(self) -> int:
        """What the run needs in all."""
        return self.arena + self.outputs + self.variables + self.constants + self.scratch

    def __str__(self) -> str:
        rows = [
            ("arena", self.arena, f"intermediate values; at the least {bytes_text(self.least)} are alive at once"),
            ("outputs", self.outputs, ""),
            ("variables", self.variables, ""),
            ("constants", self.constants, ""),
            ("scratch", self.scratch, f"of {self.threads} threads" if self.scratch and self.threads > 1 else ""),
        ]
        lines = [f"  {name:10} {bytes_text(size):>12}  {note}".rstrip() for name, size, note in rows]
        return "\n".join([f"a run needs {bytes_text(self.total)}", *lines, *self.largest()])

    def largest(self, count: int = SHOWN) -> list[str]:
        """A heading and a line for each of the largest buffers; nothing where there are none."""
        cells = [buffer.cells for buffer in self.buffers[:count]]
        if not cells:
            return []
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        rows = ["  ".join(f"{c:{w}}" for c, w in zip(row[1:], widths[1:], strict=True)) for row in cells]
        lines = [f"  {row[0]:>{widths[0]}}  {text}".rstrip() for row, text in zip(cells, rows, strict=True)]
        return ["largest buffers", *lines]


def bytes_text(size: int) -> str:
    """In units of a thousand: `812 B`, `1.2 MB`, `40.0 TB`."""
    if size < 1000:
        return f"{size} B"
    value, unit = float(size), 0
    while value >= 999.95 and unit < len(PREFIXES):
        value, unit = value / 1000, unit + 1
    return f"{value:.1f} {PREFIXES[unit - 1]}B"


PREFIXES = "kMGTPE"


def placed(layout: Layout, sizes: Mapping[str, int]) -> Placement:
    """Where everything lies in the arena for sizes of the symbols."""
    wanted = lifetimes(layout, lambda size: evaluate(size, sizes))
    offsets, total = place(list(wanted.values()))
    return Placement(dict(zip(wanted, offsets, strict=True)), total)


def memory_plan(executable: Executable, sizes: Mapping[str, int], placement: Placement | None = None) -> MemoryPlan:
    """What a run of a program takes for sizes of its symbols."""
    layout, threads = executable.layout, pool().threads
    wanted = list(lifetimes(layout, lambda size: evaluate(size, sizes)).values())
    buffers = sorted(_buffers(executable, sizes), key=lambda buffer: -buffer.bytes)

    def of(kind: str) -> int:
        return sum(buffer.bytes for buffer in buffers if buffer.kind == kind)

    return MemoryPlan(
        arena=(placement or placed(layout, sizes)).total,
        least=least(wanted),
        outputs=of("output"),
        variables=of("variable"),
        constants=of("constant"),
        scratch=threads * layout.scratch_bytes,
        threads=threads,
        feeds=sum(evaluate(t.size, sizes) * t.dtype.size for t in layout.feeds),
        buffers=tuple(buffers),
    )


def _buffers(executable: Executable, sizes: Mapping[str, int]) -> Iterator[PlannedBuffer]:
    seen: set[Any] = set()
    for spec in executable.plan.buffers:
        if spec.kind == "feed" or (spec.kind == "variable" and spec.key in seen):
            continue
        seen.add(spec.key if spec.kind == "variable" else None)
        shape = tuple(evaluate(d, sizes) for d in spec.shape)
        op, name, source = _named(executable, spec)
        yield PlannedBuffer(spec.kind, _bytes(spec, sizes), spec.dtype, shape, op, name, source)
    for size, _, _ in executable.layout.workspaces:
        yield PlannedBuffer("workspace", evaluate(size, sizes))


def _named(executable: Executable, spec: BufferSpec) -> tuple[str, str, Source | None]:
    """Op, name and line of the operation that a buffer is for."""
    if spec.kind == "variable" and not spec.key.startswith(RANDOM_DRAWS):
        variable = executable.graph.get_operation_by_name(spec.key)
        return variable.type, variable.name, variable.source
    if spec.origin is None:
        return "", spec.key if spec.kind == "variable" else "", None
    return spec.origin.op, spec.origin.name, spec.origin.source


def _bytes(spec: BufferSpec, sizes: Mapping[str, int]) -> int:
    return evaluate(spec.type.size, sizes) * spec.dtype.size


def check_room(
    executable: Executable,
    sizes: Mapping[str, int],
    placement: Placement,
    state: VariableStore,
    outs: Sequence[Any] | None,
) -> None:
    """ResourceExhaustedError for a run that takes more than the set limit, or than the system has.

    What there is already is not asked of the system again: variables with a value, constants, arrays given as `outs`.
    """
    layout = executable.layout
    given = {p for p, out in zip(executable.places, outs or (), strict=bool(outs)) if out is not None}
    kept = {(s.kind, s.key): s for s in layout.buffers if s.kind in ("output", "variable")}.values()
    old = sum(_bytes(s, sizes) for s in kept if s.kind == "variable" and _has(state, s, sizes))
    ready = old + sum(_bytes(s, sizes) for s in kept if s.kind == "output" and s.key in given)
    fresh = placement.total + pool().threads * layout.scratch_bytes + sum(_bytes(s, sizes) for s in kept) - ready
    limit = set_limit()
    if limit is not None:
        constants = sum(_bytes(s, sizes) for s in layout.buffers if s.kind == "constant")
        _require(fresh + old + constants, limit, f"{VARIABLE} allows", executable, sizes, placement)
    room = available() if fresh >= SMALL else None
    if room is not None and fresh > room:
        trim_outputs()
        room = available()
    if room is not None:
        _require(fresh, room, "the system has", executable, sizes, placement)


def _has(state: VariableStore, spec: BufferSpec, sizes: Mapping[str, int]) -> bool:
    value = state.values.get(spec.key)
    return value is not None and value.shape == tuple(evaluate(d, sizes) for d in spec.shape)


def _require(
    needed: int, room: int, who: str, executable: Executable, sizes: Mapping[str, int], placement: Placement
) -> None:
    if needed <= room:
        return
    plan = memory_plan(executable, sizes, placement)
    head = f"a run of {_fetched(executable)} needs {bytes_text(needed)} of memory, and {who} {bytes_text(room)}"
    raise ResourceExhaustedError("\n".join([head, *plan.largest()]))


def _fetched(executable: Executable) -> str:
    names = [f"'{fetch.name}'" for fetch in executable.fetches]
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
