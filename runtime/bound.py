"""`Bound`: a program for one set of sizes, with the memory it runs in and the record that native calls read."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from graphflow.compiler.arena import Lifetime
from graphflow.compiler.layout import Layout
from graphflow.compiler.llvm.limits import INTERRUPTED, LATE
from graphflow.core.dim import Size, estimate, evaluate
from graphflow.core.errors import DeadlineExceededError, InternalError, ResourceExhaustedError
from graphflow.core.type import TensorType, static
from graphflow.runtime import call_record as at
from graphflow.runtime.deadline import NEVER
from graphflow.runtime.memory import aligned_empty
from graphflow.runtime.memory_limit import SMALL, has_room
from graphflow.runtime.native_call import Call, Form, Record, Slot, is_native
from graphflow.runtime.store import VariableStore
from graphflow.runtime.threads import pool

if TYPE_CHECKING:
    from graphflow.runtime.executable import Executable

__all__ = ["Bound", "Placement", "lifetimes"]

Array = np.ndarray[Any, Any]

BRIEF_NS = 5_000
"""Steps of less work keep the GIL: giving it up and getting it back costs some 50 ns where nobody wants it, and up to
the interpreter's switch interval where somebody does."""
LONG_NS = 100_000_000
"""From here on a step writes new values of variables aside, so that Ctrl-C need not wait for its end."""


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
        self.variables = [
            (n, s.key, TensorType(s.dtype, self._shape(s.type)))
            for n, s in enumerate(self.layout.buffers)
            if s.kind == "variable"
        ]
        self.state: VariableStore | None = None  # whose memory the table points to
        self.keep: list[Array] = []
        self.is_aside = False  # whether new values have memory of their own
        self.new: dict[str, Array] = {}  # what becomes variables' values when the step is done,
        self.old: dict[str, Array] = {}  # and what they then had before
        self.table = [0] * (len(self.layout.buffers) + len(self.layout.workspaces))
        self._lay_out(placement)
        self.kept = executable.kept
        self.table += self.kept.addresses
        first = len(self.table)
        self.updated = {buffer: first + n for n, buffer in enumerate(self.layout.updates)}  # the places of new values
        self.table += [0] * len(self.updated)
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
        self.is_long = self._expected_ns() >= LONG_NS

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

    def _expected_ns(self) -> float:
        """About how long the step takes, which is as many times longer as its sizes are larger than they were."""
        sizes = [s.type.size for s in self.layout.buffers]
        return self.layout.nanoseconds * max((evaluate(n, self.sizes) / max(estimate(n), 1) for n in sizes), default=1)

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
        if not self.claim(at.new_table(at.HOLD_WORDS)):
            return False
        if self._call is not None:
            self._call.serve([])  # which refers back to this
        return True

    def claim(self, hold: at.Table) -> bool:
        """Make it the hold's, which gives it up with all that it has; false if a call is using it."""
        hold.keep = self  # whoever leaves writes to the record, which others may have forgotten by then
        return bool(self.record.claim(hold))

    def run(
        self, values: Sequence[Array], outs: Sequence[Any] | None, state: VariableStore, hold: at.Table, deadline: int
    ) -> list[Any] | None:
        """The fetches for checked arrays, None if a signal came; the hold has this.

        A step that may take long, or has a deadline, writes new values of variables aside, so that it can be stopped.
        Where there is no room for that it writes in place, and runs to its end.

        Nothing here has the variables.  It is for the native call to see that they are free and still those in the
        table, to use them and to give them up, so that no handler of a signal ever runs while they are locked.
        """
        while True:
            self._bind(state, (self.is_long or deadline != NEVER) and self._can_go_aside(state))
            if self.record.threads != self.pool.threads:
                self._make_scratch()
            if self._call is None:
                return self._in_python(values, outs, state, hold, deadline)
            self.record.begin(hold, self.new, deadline)
            start = time.perf_counter_ns()
            try:
                answer: Any = self._call.function(*values, out=outs)
            except RuntimeError:
                if self.layout.checked is None:
                    raise
                raise self.layout.checked.error(self.module.address) from None
            if answer is not REFUSED:
                self.is_long = time.perf_counter_ns() - start >= LONG_NS
                state.spares.update(self.old)
                self.new, self.old = {}, {}
                results: list[Any] = answer
                return results
            if self.record.stop == INTERRUPTED:
                return None
            if self.record.stop == LATE:
                raise DeadlineExceededError("the run took longer than it was given; variables are as before it")
            if not hold[at.AGAIN]:
                raise InternalError("internal error: a step refuses arguments that were checked")
            state.lock.wait_for_turn(hold, deadline)

    def _can_go_aside(self, state: VariableStore) -> bool:
        """Whether the step updates variables, and there is memory for what they have and for what they get."""
        if not self.updated or self._call is None:
            return False
        updated = {name: type_ for n, name, type_ in self.variables if n in self.updated}
        fresh: int = sum(static(t.size) * t.dtype.size for name, t in updated.items() if name not in state.spares)
        taken = sum(array.nbytes for array in (*state.values.values(), *state.spares.values()))
        return fresh < SMALL or has_room(fresh, taken + self.nbytes)

    def _in_python(
        self, values: Sequence[Array], outs: Sequence[Any] | None, state: VariableStore, hold: at.Table, deadline: int
    ) -> list[Any]:
        state.lock.wait(hold, deadline)
        self._bind(state, aside=False)
        given: list[Array | None] = [None] * len(self.types)
        for output, out in zip(self._places, outs or (), strict=bool(outs)):
            if out is not None:
                given[output] = out
        results = self.record.run(values, given)
        state.commit(self.new)
        self.new = {}
        return [None if output < 0 else results[output] for output in self._places]

    def _bind(self, state: VariableStore, aside: bool) -> None:
        """Point the table to the memory that the variables have now, or are to have."""
        up_to_date = self.state is state and self.record.version == state.version
        if not self._uses_variables or (up_to_date and not aside and not self.is_aside and not self.new):
            return
        self.record.forget_store()
        version, self.state, self.is_aside = state.version, state, aside
        self.new, self.old, self.keep = {}, {}, []
        for n, name, type_ in self.variables:
            array = state.begin(name, type_)
            new = state.aside(name, type_) if aside and n in self.updated else array
            if name in self.layout.writes and new is not state.values.get(name):
                self.new[name] = new
            if new is not array:
                self.old[name] = array
            self.record.buffers[n] = array.ctypes.data
            self.record.buffers[self.updated.get(n, n)] = new.ctypes.data
            self.keep += [array, new]
        writes = bool(self.layout.writes)
        self.record.use_store(state.lock.address, version, updates=writes, stops=aside or not writes)


REFUSED = object()


def _refused(*_: Any, **__: Any) -> object:
    return REFUSED
