"""`TimedExecutable`: the same program, compiled so that it writes down when its launches run (llvm/stamps.py).

    executable, is_new = timed(executable, session=1)
    executable.run(values, state)
    latest()                            # what the calling thread ran last: the program and a row (run_log.py)

It is compiled when it is first asked for and not kept on disk.  Its runs are written to logs, which somebody has to
read (recording.py).  The program itself is as it was: what nobody records pays nothing.
"""

from __future__ import annotations

import ctypes
import functools
import threading
import time
import weakref
from collections.abc import Sequence
from typing import Any

import numpy as np

from graphflow.compiler.llvm.stamps import STAMP_WORDS, TICKS, can_stamp
from graphflow.core.fork import MAKING
from graphflow.runtime import recording
from graphflow.runtime.bound import Bound, Placement
from graphflow.runtime.call_record import Table
from graphflow.runtime.clock import clock
from graphflow.runtime.executable import Executable
from graphflow.runtime.kernel_facts import KernelFacts, facts_of
from graphflow.runtime.native_call import is_native
from graphflow.runtime.run_log import ROW_HEAD, RunLog
from graphflow.runtime.run_log_code import log_code
from graphflow.runtime.store import VariableStore

__all__ = ["TimedExecutable", "TimedProgram", "latest", "timed"]

Array = np.ndarray[Any, Any]
_latest = threading.local()


def timed(executable: Executable, session: int) -> tuple[TimedExecutable, bool]:
    """The timed twin of a program of a session, and whether it was compiled now."""
    with MAKING:
        if executable.twin is not None:
            return executable.twin, False
        if not can_stamp():
            raise NotImplementedError("kernels are timed where there is CLOCK_MONOTONIC, and this system has none")
        compiled = executable.compiled
        executable.twin = TimedExecutable(executable.graph, executable.fetches, compiled, time.perf_counter())
        executable.twin.session = session
        return executable.twin, True


def latest() -> tuple[TimedProgram, Array]:
    """What the calling thread's last run by way of Python was of, and its row of the log."""
    run: tuple[TimedProgram, Array] = _latest.run
    return run


class TimedProgram:
    """What is known of a program's kernels at certain sizes."""

    def __init__(self, executable: TimedExecutable, key: tuple[int, ...]) -> None:
        self._executable = weakref.ref(executable)
        self.session = executable.session
        self.plan, self.sizes = executable.plan, dict(zip(executable.layout.symbols, key, strict=True))
        self.launched, self.shared = executable.code.launched, executable.code.shared
        self.steps = [one.step for one in self.launched]
        self.jobs = max((one.job + 1 for one in self.launched), default=0)

    @functools.cached_property
    def kernels(self) -> tuple[KernelFacts, ...]:
        """For each step of the plan what it has to do."""
        return tuple(facts_of(step, self.plan.program.origins, self.sizes) for step in self.plan.steps)

    def forget_memory(self) -> None:
        """Let go of the memory that it ran in, as far as no run is using it."""
        executable = self._executable()
        if executable is not None:
            executable.forget_memory()

    @property
    def stamps(self) -> int:
        """How many pairs of moments a worker writes."""
        return len(self.launched) + len(self.shared)

    def array(self, row: Array) -> Array:
        """The stamps in a row as [worker, launch or shared job, (begin, end)]."""
        workers = (len(row) - ROW_HEAD) // max(self.stamps * STAMP_WORDS, 1)
        return row[ROW_HEAD:].reshape(workers, self.stamps, STAMP_WORDS)


class TimedBound(Bound):
    """A bound whose threads have room for stamps behind their scratch, and whose runs are logged."""

    is_recorded = True

    def __init__(self, executable: Executable, key: tuple[int, ...], placement: Placement) -> None:
        assert isinstance(executable, TimedExecutable)
        self.code, self.program = executable.code, executable.program_for(key)
        super().__init__(executable, key, placement)

    def _make_scratch(self) -> None:
        super()._make_scratch()
        assert self.code.stamps is not None
        threads, room, first = self.pool.threads, self.layout.scratch_bytes // 8, self.code.stamps // 8
        words = self.scratch[: threads * room * 8].view(np.int64).reshape(threads, room)
        stamps = words[:, first : first + STAMP_WORDS * self.program.stamps]
        stamps.fill(0)
        self.log = RunLog(self.program, stamps)
        if is_native():
            self.log.call_native(log_code())
        self.record.set_log(self.log.address)
        recording.know_log(self)

    def run(
        self, values: Sequence[Array], outs: Sequence[Any] | None, state: VariableStore, hold: Table, deadline: int
    ) -> list[Any] | None:
        """As any bound does; `latest` has the times then."""
        if self.record.threads != self.pool.threads:
            self._make_scratch()
        if self.log.is_full:
            recording.drain()
        self.log.hold()
        answer = super().run(values, outs, state, hold, deadline)
        if answer is not None:
            _latest.run = self.program, self.log.last
        return answer

    def _in_python(
        self, values: Sequence[Array], outs: Sequence[Any] | None, state: VariableStore, hold: Table, deadline: int
    ) -> list[Any]:
        begin = self._moment()
        answer = super()._in_python(values, outs, state, hold, deadline)
        self.log.write(begin, self._moment())
        return answer

    def _moment(self) -> tuple[int, int]:
        ticks = ctypes.CFUNCTYPE(ctypes.c_int64)(self.module.address(TICKS))
        return clock(), ticks()


class TimedExecutable(Executable):
    """Machine code that takes its own time; of a session by its number."""

    timed = True
    bound_type = TimedBound
    session = 0

    @functools.cached_property
    def _programs(self) -> dict[tuple[int, ...], TimedProgram]:
        return {}

    def program_for(self, key: tuple[int, ...]) -> TimedProgram:
        """The one description of the program at these sizes."""
        found = self._programs.get(key)
        return found if found is not None else self._programs.setdefault(key, TimedProgram(self, key))

    latest = staticmethod(latest)

    def forget_memory(self) -> None:
        """Let go of arenas that no run is using."""
        self.bounds.clear()
        self.last = None
