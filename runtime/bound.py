"""`Bound`: a program for one set of sizes, with the memory it runs in and the record that native calls read."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from graphflow.compiler.arena import Lifetime
from graphflow.compiler.layout import Layout
from graphflow.core.dim import Size, estimate, evaluate
from graphflow.core.errors import InternalError, ResourceExhaustedError
from graphflow.core.type import TensorType
from graphflow.runtime import call_record as at
from graphflow.runtime.memory import aligned_empty
from graphflow.runtime.native_call import Call, Form, Record, Slot, is_native
from graphflow.runtime.store import VariableStore
from graphflow.runtime.threads import pool

if TYPE_CHECKING:
    from graphflow.runtime.executable import Executable

__all__ = ["Bound", "Placement", "lifetimes"]

Array = np.ndarray[Any, Any]

NOTHING_NEW: dict[str, Array] = {}
BRIEF_NS = 5_000
"""Steps of less work keep the GIL: giving it up and getting it back costs some 50 ns where nobody wants it, and up to
the interpreter's switch interval where somebody does."""


def lifetimes(layout: Layout, number: Callable[[Size], int]) -> dict[int, Lifetime]:
    """For each entry of a step's table that lies in the arena its bytes and its first and last wave."""
    found = {
        n: (number(s.type.size) * s.dtype.size + layout.red_zone, s.first, s.last)
        for n, s in enumerate(layout.buffers)
        if s.kind == "arena"
    }
    for n, (size, first, last) in enumerate(layout.workspaces, len(layout.buffers)):
        found[n] = number(size) + layout.red_zone, first, last
    return found


@dataclass(frozen=True)
class Placement:
    """Where entries of a step's table lie in the arena, and how many bytes it has."""

    offsets: Mapping[int, int]
    total: int


class Bound:
    """Arena, tables and record.  Its own of the call that claimed it, in Python (`claim`) or in native code.

    A call takes one `Bound`, and no two calls share one: a call that finds it busy takes or makes another, so that
    calls from many threads run side by side, each in its own arena.  What they share are the variables; these have a
    lock (`variable_lock.py`).
    """

    is_recorded = False  # whether its runs are written down: `TimedBound` (timed.py)

    def __init__(self, executable: Executable, key: tuple[int, ...], placement: Placement) -> None:
        self.layout, self.module = executable.layout, executable.module
        self.sizes = dict(zip(self.layout.symbols, key, strict=True))
        self.outputs = sorted((s for s in self.layout.buffers if s.kind == "output"), key=lambda s: s.key)
        self.variables = [(n, s) for n, s in enumerate(self.layout.buffers) if s.kind == "variable"]
        self.state: VariableStore | None = None  # whose memory, and in which version, the table points to
        self.version = -1
        self.keep: list[Array] = []
        self.table = [0] * (len(self.layout.buffers) + len(self.layout.workspaces))
        self._lay_out(placement)
        self.kept = executable.kept
        self.table += self.kept.addresses
        self.record = self._make_record()
        self.record.set_owner(self)
        self.pool = pool()
        self._make_scratch()
        self.types = [(slot.dtype, slot.shape) for slot in self.record.outputs]
        self._places = tuple(-1 if place is None else place for place in executable.places)
        self._call = Call(Form(at.LIST, self._places), _refused, held=True) if is_native() else None
        if self._call is not None:
            self._call.serve([self])
        self._uses_variables = executable.uses_variables

    def _shape(self, type_: TensorType) -> tuple[int, ...]:
        return tuple(evaluate(d, self.sizes) for d in type_.dims)

    def _lay_out(self, placement: Placement) -> None:
        """Put every intermediate and workspace into one arena."""
        self.arena = self._memory(placement.total)
        for n, offset in placement.offsets.items():
            self.table[n] = self.arena.ctypes.data + offset
        for n, spec in enumerate(self.layout.buffers):
            if spec.kind == "constant":
                self.table[n] = spec.key.value.ctypes.data

    def _memory(self, size: int) -> Array:
        try:
            return aligned_empty((size + 64,), np.dtype(np.uint8))
        except MemoryError as e:
            raise ResourceExhaustedError(f"a run needs {size:,} bytes for its intermediate values") from e

    def _make_scratch(self) -> None:
        """Scratch for as many threads as a step may use now."""
        threads = self.pool.threads
        self.scratch = self._memory(threads * self.layout.scratch_bytes)
        self.record.set_threads(self.scratch.ctypes.data, self.pool.threads_address, threads)

    def _make_record(self) -> Record:
        buffers = self.layout.buffers
        slots = {(s.kind, s.key): n for n, s in enumerate(buffers) if s.kind in ("feed", "output")}
        feeds = self.layout.feeds
        unread = len(self.table)  # feeds that no kernel reads go behind what the step looks at
        return Record(
            self.module.address("step"),
            [Slot(t.dtype.numpy, self._shape(t), slots.get(("feed", n), unread + n)) for n, t in enumerate(feeds)],
            [Slot(s.dtype.numpy, self._shape(s.type), slots["output", s.key]) for s in self.outputs],
            [*self.table, *[0] * len(feeds)],
            [self.sizes[key] for key in self.layout.symbols],
            brief=self._is_brief(),
        )

    def _is_brief(self) -> bool:
        """Whether the step was expected to be when it was compiled, and its sizes are no larger than they were then."""
        sizes = [dim for spec in self.layout.buffers for dim in spec.shape]
        as_expected = all(evaluate(dim, self.sizes) <= estimate(dim) for dim in sizes)
        return as_expected and self.layout.nanoseconds <= BRIEF_NS

    @property
    def nbytes(self) -> int:
        """Of the arena and of scratch."""
        return self.arena.nbytes + self.scratch.nbytes

    def retire(self) -> bool:
        """Let nobody use it any more, so that its memory goes as soon as nobody refers to it; false if a call does."""
        if not self.claim():
            return False
        if self._call is not None:
            self._call.serve([])  # which refers back to this
        return True

    def claim(self) -> bool:
        """Make it the caller's, who has to `release` it; false if a call is using it."""
        return bool(self.record.claim(None))

    def release(self) -> None:
        """Let others use it."""
        self.record.release()

    def run(self, values: Sequence[Array], outs: Sequence[Any] | None, state: VariableStore) -> list[Any]:
        """The fetches for checked arrays; the caller has claimed this and holds the lock of the variables."""
        fresh = self._bind(state)
        if self.record.threads != self.pool.threads:
            self._make_scratch()
        try:
            answer = self._in_python(values, outs) if self._call is None else self._call.function(*values, out=outs)
        except RuntimeError:
            if self.layout.checked is None:
                raise
            raise self.layout.checked.error(self.module.address) from None
        if answer is REFUSED:
            raise InternalError("internal error: a step refuses arguments that were checked")
        if fresh:
            state.commit(fresh)
            self._bound_to(state)
        return answer

    def _in_python(self, values: Sequence[Array], outs: Sequence[Any] | None) -> list[Any]:
        given: list[Array | None] = [None] * len(self.types)
        for output, out in zip(self._places, outs or (), strict=bool(outs)):
            if out is not None:
                given[output] = out
        results = self.record.run(values, given)
        return [None if output < 0 else results[output] for output in self._places]

    def _bind(self, state: VariableStore) -> dict[str, Array]:
        """Point the table to the memory that the variables have now; new values get memory of their own."""
        if not self._uses_variables or (self.state is state and self.version == state.version):
            return NOTHING_NEW
        fresh: dict[str, Array] = {}
        for n, spec in self.variables:
            array = state.begin(spec.key, TensorType(spec.dtype, self._shape(spec.type)))
            if spec.key in fresh:
                array = fresh[spec.key]
            elif spec.key in self.layout.writes:
                fresh[spec.key] = array
            self.record.buffers[n] = array.ctypes.data
        self.keep = list(fresh.values()) + [state.values[s.key] for _, s in self.variables if s.key in state.values]
        self._bound_to(state)
        return fresh

    def _bound_to(self, state: VariableStore) -> None:
        self.state, self.version = state, state.version
        self.record.use_store(state.lock.address, self.version, updates=bool(self.layout.writes))


REFUSED = object()


def _refused(*_: Any, **__: Any) -> object:
    return REFUSED
