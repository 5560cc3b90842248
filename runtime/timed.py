"""`TimedExecutable`: the same program, compiled so that it writes down when its launches run (llvm/stamps.py).

    executable, is_new = timed(executable)
    executable.run(values, state)
    latest()                            # what the calling thread ran last: the program and its stamps

It is compiled when it is first asked for and not kept on disk.  The program itself is as it was: what nobody records
pays nothing.
"""

from __future__ import annotations

import functools
import threading
import time
import weakref
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from graphflow.compiler.llvm.stamps import STAMP_WORDS, can_stamp
from graphflow.compiler.llvm.step import Launched
from graphflow.core.fork import MAKING
from graphflow.runtime.bound import Bound, Placement
from graphflow.runtime.call_record import Table
from graphflow.runtime.executable import Executable
from graphflow.runtime.kernel_facts import KernelFacts, facts_of
from graphflow.runtime.store import VariableStore

__all__ = ["TimedExecutable", "TimedProgram", "latest", "timed"]

Array = np.ndarray[Any, Any]
_latest = threading.local()


def timed(executable: Executable) -> tuple[TimedExecutable, bool]:
    """The timed twin, and whether it was compiled now."""
    with MAKING:
        if executable.twin is not None:
            return executable.twin, False
        if not can_stamp():
            raise NotImplementedError("kernels are timed where there is CLOCK_MONOTONIC, and this system has none")
        compiled = executable.compiled
        executable.twin = TimedExecutable(executable.graph, executable.fetches, compiled, time.perf_counter())
        return executable.twin, True


def latest() -> tuple[TimedProgram, bytes]:
    """What the calling thread's last timed run was of, and its stamps (`TimedProgram.array`)."""
    times: tuple[TimedProgram, bytes] = _latest.times
    return times


class TimedProgram:
    """What is known of a program's kernels at certain sizes."""

    def __init__(self, executable: TimedExecutable, sizes: Mapping[str, int]) -> None:
        self._executable = weakref.ref(executable)
        self.plan, self.sizes = executable.plan, dict(sizes)
        self.launched: tuple[Launched, ...] = executable.code.launched

    @functools.cached_property
    def kernels(self) -> tuple[KernelFacts, ...]:
        """For each step of the plan what it has to do."""
        return tuple(facts_of(step, self.plan.program.origins, self.sizes) for step in self.plan.steps)

    def forget_memory(self) -> None:
        """Let go of the memory that it ran in, as far as no run is using it."""
        executable = self._executable()
        if executable is not None:
            executable.forget_memory()

    def array(self, stamps: bytes, runs: int = 1) -> Array:
        """Stamps of runs as [run, worker, launch, (begin, end)], nanoseconds; 0 where a worker had no part."""
        return np.frombuffer(stamps, np.int64).reshape(runs, -1, len(self.launched), STAMP_WORDS)


class TimedBound(Bound):
    """A bound whose threads have room for stamps behind their scratch."""

    def __init__(self, executable: Executable, key: tuple[int, ...], placement: Placement) -> None:
        assert isinstance(executable, TimedExecutable)
        assert executable.code.stamps is not None
        self.first, self.launches = executable.code.stamps, executable.code.launches
        super().__init__(executable, key, placement)
        self.program = executable.program_for(key, self.sizes)

    def _make_scratch(self) -> None:
        super()._make_scratch()
        room = self.layout.scratch_bytes
        words = self.scratch[: self.pool.threads * room].view(np.int64).reshape(self.pool.threads, room // 8)
        self.stamps = words[:, self.first // 8 : self.first // 8 + STAMP_WORDS * self.launches]
        self.stamps.fill(0)

    def run(
        self, values: Sequence[Array], outs: Sequence[Any] | None, state: VariableStore, hold: Table, deadline: int
    ) -> list[Any] | None:
        """As any bound does; `latest` has the times then."""
        self.stamps.fill(0)
        answer = super().run(values, outs, state, hold, deadline)
        _latest.times = self.program, self.stamps.tobytes()
        return answer


class TimedExecutable(Executable):
    """Machine code that takes its own time."""

    timed = True
    bound_type = TimedBound

    @functools.cached_property
    def _programs(self) -> dict[tuple[int, ...], TimedProgram]:
        return {}

    def program_for(self, key: tuple[int, ...], sizes: Mapping[str, int]) -> TimedProgram:
        """The one description of the program at these sizes."""
        found = self._programs.get(key)
        return found if found is not None else self._programs.setdefault(key, TimedProgram(self, sizes))

    latest = staticmethod(latest)

    def forget_memory(self) -> None:
        """Let go of arenas that no run is using."""
        self.bounds.clear()
        self.last = None
