"""`chrome_trace`: a recording in the trace event format of Chrome and Perfetto.

A process of the trace is a session, its threads are those that called `run`, with the workers that helped each.  A run
is an event, its kernels are events within; compilations are events with their passes within.  Times are microseconds.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from graphflow.profiling.limits import limit_seconds
from graphflow.runtime.events import KernelEvent, kernel_events

if TYPE_CHECKING:
    from graphflow.bench.roofline import Limits
    from graphflow.runtime.recorder import Compilation, Recorder, Run, Thread

__all__ = ["chrome_trace"]

Event = dict[str, Any]
WORKER = 1 << 32
"""Threads of a trace need numbers of their own: those of worker w start at w times this, above any thread's number."""


def chrome_trace(recorder: Recorder, limits: Sequence[Limits] | None) -> dict[str, Any]:
    """The trace as JSON values."""
    runs, compilations = list(recorder.runs), list(recorder.compilations)
    events: list[Event] = []
    names: dict[tuple[int, int], str] = {}
    for run in runs:
        events += _run(run, limits, names)
    for one in compilations:
        events += _compilation(one, names)
    events.sort(key=lambda event: (event["ts"], -event["dur"]))
    about = {"runs": recorder.count, "runs_left_out": recorder.dropped}
    return {"traceEvents": [*_metadata(names), *events], "displayTimeUnit": "ns", "otherData": about}


def _run(run: Run, limits: Sequence[Limits] | None, names: dict[tuple[int, int], str]) -> Iterator[Event]:
    yield _event("run", "run", run.thread, run.begin, run.end, names)
    for one in kernel_events(run):
        yield _event(one.kernel.label, "kernel", run.thread, one.begin, one.end, names, one.worker) | {
            "args": _arguments(one, limits)
        }


def _compilation(one: Compilation, names: dict[tuple[int, int], str]) -> Iterator[Event]:
    yield _event(one.name, "compilation", one.thread, one.begin, one.end, names)
    for name, begin, end, stages in one.passes:
        args = {f"{stage} (ms)": round(seconds * 1e3, 3) for stage, seconds in stages.items()}
        yield _event(name, "pass", one.thread, begin, end, names) | ({"args": args} if args else {})


def _event(
    name: str,
    category: str,
    thread: Thread,
    begin: int,
    end: int,
    names: dict[tuple[int, int], str],
    worker: int = 0,
) -> Event:
    tid = thread.number + worker * WORKER
    names[thread.session, tid] = f"{thread.name} worker {worker}" if worker else thread.name
    at = {"pid": thread.session, "tid": tid, "ts": begin / 1000, "dur": max(end - begin, 0) / 1000}
    return {"name": name, "cat": category, "ph": "X", **at}


def _metadata(names: dict[tuple[int, int], str]) -> Iterator[Event]:
    for session in sorted({session for session, _ in names}):
        yield {"name": "process_name", "ph": "M", "pid": session, "args": {"name": f"session {session}"}}
    for (session, tid), name in sorted(names.items()):
        yield {"name": "thread_name", "ph": "M", "pid": session, "tid": tid, "args": {"name": name}}


def _arguments(one: KernelEvent, limits: Sequence[Limits] | None) -> dict[str, Any]:
    """What a kernel is and does; rates are of the whole kernel in this run, whichever threads shared it."""
    kernel, seconds = one.kernel, one.seconds
    found: dict[str, Any] = {
        "ops": list(kernel.ops),
        "operations": list(kernel.names),
        "lines": list(kernel.sources),
        "launch": one.launch,
        "threads": one.threads,
        "kernel_us": seconds * 1e6,
        "bytes": kernel.work.bytes,
        "flop": kernel.flop,
    }
    if seconds > 0:
        found |= {"GFLOP/s": kernel.flop / seconds * 1e-9, "GB/s": kernel.work.bytes / seconds * 1e-9}
        if limits is not None:
            found["share_of_limit"] = limit_seconds(kernel, one.threads, limits) / seconds
    return found
