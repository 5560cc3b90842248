"""Who wants to know what runs, and what sessions tell them.

    recorder = Recorder(events=100_000)
    start(recorder)
    ...                     # every run of every session, from any thread
    drain()                 # the recorder knows of all runs that have ended
    stop(recorder)

While somebody records, runs are those of a program's timed twin (timed.py): `RunPlan.run` hands the first to `run`, and
then native calls serve it.  They write each run to a log, whose rows `drain` takes and hands out: when a log is full,
which makes a call come by `RunPlan.run` again, when somebody asks, and when somebody starts or stops to record.  While
nobody does, all that is left is the test whether `ACTIVE` is empty, on the slow path.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from graphflow.runtime.clock import clock

if TYPE_CHECKING:
    from graphflow.runtime.bound import Bound
    from graphflow.runtime.executable import Executable
    from graphflow.runtime.recorder import Batch, Recorder, Thread
    from graphflow.runtime.run_log import RunLog
    from graphflow.runtime.run_plan import RunPlan
    from graphflow.runtime.session import BaseSession
    from graphflow.runtime.store import VariableStore
    from graphflow.runtime.timed import TimedBound, TimedExecutable

__all__ = ["ACTIVE", "drain", "is_wanted", "know", "know_log", "note_compilation", "run", "start", "stop"]

ACTIVE: tuple[Recorder, ...] = ()
"""Who records now."""

_changing = threading.RLock()  # reentrant: who handles a signal may ask what was recorded
_plans: weakref.WeakSet[RunPlan] = weakref.WeakSet()
_logs: list[tuple[RunLog, weakref.ref[TimedBound]]] = []


def start(recorder: Recorder) -> None:
    """Record all runs that begin from now on."""
    global ACTIVE
    with _changing:
        drain()
        recorder.since = clock()
        ACTIVE = (*ACTIVE, recorder)
        _close_plans()


def stop(recorder: Recorder) -> None:
    """Record no more; when nobody does, the memory that timed programs ran in is given up."""
    global ACTIVE
    with _changing:
        drain()
        ACTIVE = tuple(one for one in ACTIVE if one is not recorder)
        if ACTIVE:
            return
        _close_plans()
        for log, _ in _logs:
            log.program.forget_memory()
        _forget_logs()


def _close_plans() -> None:
    for plan in list(_plans):
        plan.close()


def drain() -> None:
    """Hand out all runs that have ended."""
    with _changing:
        if not _logs:
            return
        from graphflow.runtime.recorder import Batch

        batches = [Batch(log.program, log.program.session, log.take()) for log, _ in _logs]
        _forget_logs()
        _hand_out(batches)


def _forget_logs() -> None:
    _logs[:] = [(log, bound) for log, bound in _logs if _is_written(log, bound())]


def _is_written(log: RunLog, bound: TimedBound | None) -> bool:
    """Whether there may be more runs in it; a bound has another one if there are more threads now."""
    return bound is not None and bound.log is log


def _hand_out(batches: Sequence[Batch]) -> None:
    for recorder in ACTIVE:
        recorder.take(batches)


def know_log(bound: TimedBound) -> None:
    """What native calls write the runs of a bound to."""
    with _changing:
        _logs.append((bound.log, weakref.ref(bound)))


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
    state: VariableStore,
    executable: Executable,
    values: Sequence[Any],
    outs: Any,
    deadline: int,
    options: Any,
    run_metadata: Any,
) -> tuple[list[Any], Bound | None]:
    """What `executable.run` answers, recorded, and what native calls may use from now on."""
    from graphflow.runtime.recorder import Batch

    if executable.interpreted:
        batch, answer = _interpreted(session, state, executable, values, outs, deadline)
        last = None
        with _changing:
            drain()  # in the order in which they ended
            _hand_out([batch])
    else:
        twin = executable.twin or _twin(executable, session)
        answer = twin.run(values, state, outs, deadline)
        program, row = twin.latest()
        batch, last = Batch(program, session._number, row[None]), twin.last
    if _is_traced(options, run_metadata):
        from graphflow.runtime.step_stats import fill

        fill(run_metadata.step_stats, batch.runs()[0])
    return answer, last


def _interpreted(
    session: BaseSession, state: VariableStore, executable: Executable, values: Sequence[Any], outs: Any, deadline: int
) -> tuple[Batch, list[Any]]:
    import numpy as np

    from graphflow.runtime.recorded_threads import number_of_thread
    from graphflow.runtime.recorder import Batch
    from graphflow.runtime.run_log import BEGIN, END, ROW_HEAD, THREAD

    begin = clock()
    answer = executable.run(values, state, outs, deadline)
    rows = np.zeros((1, ROW_HEAD), np.int64)
    rows[0, [THREAD, BEGIN, END]] = number_of_thread(), begin, clock()
    return Batch(None, session._number, rows), answer


def _twin(executable: Executable, session: BaseSession) -> TimedExecutable:
    from graphflow.runtime.timed import timed

    twin, is_new = timed(executable, session._number)
    if is_new:
        _tell(session, twin, "compile to be timed")
    return twin


def note_compilation(session: BaseSession, executable: Executable) -> None:
    """A session has compiled something, or had it from the cache."""
    if ACTIVE:
        _tell(session, executable, "load" if executable.is_stored else "compile")


def _tell(session: BaseSession, executable: Executable, name: str) -> None:
    from graphflow.runtime.recorder import Compilation

    passes = []
    stages = () if executable.is_stored else executable.generated if executable.timed else executable.stages
    for stage in stages:
        begin, end = _nanoseconds(stage.start), _nanoseconds(stage.start + stage.seconds)
        passes.append((stage.name, begin, end, dict(getattr(stage.result, "seconds", {}))))
    begin = _nanoseconds(executable.start)
    end = begin + _nanoseconds(executable.compile_seconds)
    for recorder in ACTIVE:
        recorder.compiled(Compilation(_thread(session), name, begin, end, tuple(passes)))


def _nanoseconds(seconds: float) -> int:
    return round(seconds * 1e9)


def _thread(session: BaseSession) -> Thread:
    from graphflow.runtime.recorded_threads import number_of_thread
    from graphflow.runtime.recorder import named

    return named(session._number, number_of_thread())


def _after_fork() -> None:
    global _changing
    _changing = threading.RLock()


if hasattr(os, "register_at_fork"):  # Windows cannot fork
    os.register_at_fork(after_in_child=_after_fork)
