"""Who wants to know what runs: `Recorder`, and what sessions tell it.

    recorder = Recorder(events=100_000)
    start(recorder)
    ...                     # every run of every session, from any thread
    stop(recorder)
    recorder.runs           # the last ones, with the stamps of their launches
    recorder.totals         # of all, by program

While somebody records, native calls serve nothing and `RunPlan.run` hands runs to `run`, which takes the program's
timed twin (timed.py).  While nobody does, all that is left is the test whether `ACTIVE` is empty, on the slow path.
"""

from __future__ import annotations

import os
import threading
import time
import weakref
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from graphflow.runtime.step_stats import fill
from graphflow.runtime.totals import Totals

if TYPE_CHECKING:
    from graphflow.runtime.executable import Executable
    from graphflow.runtime.run_plan import RunPlan
    from graphflow.runtime.session import BaseSession
    from graphflow.runtime.timed import TimedExecutable, TimedProgram

__all__ = ["ACTIVE", "Compilation", "Recorder", "Run", "Thread", "is_wanted", "know", "note_compilation", "run"]

ACTIVE: tuple[Recorder, ...] = ()
"""Who records now."""

STAMP_BYTES = 16
_changing = threading.Lock()
_plans: weakref.WeakSet[RunPlan] = weakref.WeakSet()
_local = threading.local()


@dataclass(frozen=True)
class Thread:
    """Which thread of which session: the session's number, counted as they are made, the thread's number and name."""

    session: int
    number: int
    name: str


class Run(NamedTuple):
    """A run: who, from when to when (nanoseconds of `time.perf_counter_ns`), and the stamps of its launches."""

    thread: Thread
    begin: int
    end: int
    program: TimedProgram | None
    stamps: bytes

    @property
    def events(self) -> int:
        """How many events of a trace it may be."""
        return 1 + len(self.stamps) // STAMP_BYTES


@dataclass(frozen=True)
class Compilation:
    """A compilation: what was done, from when to when, and its passes as (name, begin, end, stages within)."""

    thread: Thread
    name: str
    begin: int
    end: int
    passes: tuple[tuple[str, int, int, dict[str, float]], ...]


class Recorder:
    """The last runs, as many as make `limit` events of a trace, and totals of all; safe with threads."""

    def __init__(self, limit: int) -> None:
        if limit < 1:
            raise ValueError(f"a recording keeps at least one event, and not {limit}")
        self.limit = limit
        self.runs: deque[Run] = deque()
        self.compilations: list[Compilation] = []
        self.count = self.events = self.dropped = 0
        self.nanoseconds = 0
        self.totals: dict[Any, Totals] = {}
        self._lock = threading.Lock()

    def add(self, run: Run) -> None:
        """Take note of a run; the oldest make room for it."""
        program = run.program
        with self._lock:
            self.runs.append(run)
            self.count += 1
            self.nanoseconds += run.end - run.begin
            self.events += run.events
            while self.events > self.limit and len(self.runs) > 1:
                self.events -= self.runs.popleft().events
                self.dropped += 1
            if program is not None:
                totals = self.totals.get(program)
                if totals is None:
                    totals = self.totals[program] = Totals(program)
                totals.add(run.stamps)

    def compiled(self, compilation: Compilation) -> None:
        """Take note of a compilation."""
        with self._lock:
            self.compilations.append(compilation)


def start(recorder: Recorder) -> None:
    """Record all runs that begin from now on."""
    global ACTIVE
    with _changing:
        ACTIVE = (*ACTIVE, recorder)
        for plan in list(_plans):
            plan.close()


def stop(recorder: Recorder) -> None:
    """Record no more; the memory that timed programs ran in is given up."""
    global ACTIVE
    with _changing:
        ACTIVE = tuple(one for one in ACTIVE if one is not recorder)
    for program in recorder.totals:
        program.forget_memory()


def know(plan: RunPlan) -> None:
    """A plan whose native calls have to end when somebody starts to record."""
    with _changing:
        _plans.add(plan)


def is_wanted(options: Any, run_metadata: Any) -> bool:
    """Whether a run is to be recorded: for somebody, or for its own metadata."""
    return bool(ACTIVE) or _is_traced(options, run_metadata)


def _is_traced(options: Any, run_metadata: Any) -> bool:
    return run_metadata is not None and options is not None and options.trace_level > 0


def run(
    session: BaseSession,
    executable: Executable,
    values: Sequence[Any],
    outs: Any,
    deadline: int,
    options: Any,
    run_metadata: Any,
) -> list[Any]:
    """What `executable.run` answers, recorded."""
    recorders = ACTIVE
    thread = _thread(session)
    if executable.interpreted:
        begin = time.perf_counter_ns()
        answer = executable.run(values, session._state, outs, deadline)
        found = Run(thread, begin, time.perf_counter_ns(), None, b"")
    else:
        twin = executable.twin or _twin(executable, recorders, thread)
        begin = time.perf_counter_ns()
        answer = twin.run(values, session._state, outs, deadline)
        found = Run(thread, begin, time.perf_counter_ns(), *twin.latest())
    for recorder in recorders:
        recorder.add(found)
    if _is_traced(options, run_metadata):
        fill(run_metadata.step_stats, found)
    return answer


def _twin(executable: Executable, recorders: Sequence[Recorder], thread: Thread) -> TimedExecutable:
    from graphflow.runtime.timed import timed

    twin, is_new = timed(executable)
    if is_new:
        _tell(recorders, thread, twin, "compile to be timed")
    return twin


def note_compilation(session: BaseSession, executable: Executable) -> None:
    """A session has compiled something, or had it from the cache."""
    if ACTIVE:
        _tell(ACTIVE, _thread(session), executable, "load" if executable.is_stored else "compile")


def _tell(recorders: Sequence[Recorder], thread: Thread, executable: Executable, name: str) -> None:
    passes = []
    stages = () if executable.is_stored else executable.generated if executable.timed else executable.stages
    for stage in stages:
        begin, end = _nanoseconds(stage.start), _nanoseconds(stage.start + stage.seconds)
        passes.append((stage.name, begin, end, dict(getattr(stage.result, "seconds", {}))))
    begin = _nanoseconds(executable.start)
    end = begin + _nanoseconds(executable.compile_seconds)
    for recorder in recorders:
        recorder.compiled(Compilation(thread, name, begin, end, tuple(passes)))


def _nanoseconds(seconds: float) -> int:
    return round(seconds * 1e9)


def _thread(session: BaseSession) -> Thread:
    known: dict[int, Thread] = _local.__dict__.setdefault("threads", {})
    found = known.get(session._number)
    if found is None:
        found = Thread(session._number, threading.get_native_id(), threading.current_thread().name)
        known[session._number] = found
    return found


def _after_fork() -> None:
    global _changing
    _changing = threading.Lock()


if hasattr(os, "register_at_fork"):  # Windows cannot fork
    os.register_at_fork(after_in_child=_after_fork)
