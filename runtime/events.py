"""`kernel_events`: when which kernel of a recorded run was at work on which thread."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from graphflow.runtime.totals import launch_seconds, workers_of

if TYPE_CHECKING:
    from graphflow.runtime.kernel_facts import KernelFacts
    from graphflow.runtime.recorder import Run

__all__ = ["KernelEvent", "kernel_events"]


@dataclass(frozen=True)
class KernelEvent:
    """A worker's part in a launch: nanoseconds of `time.perf_counter_ns`.  `seconds` are the whole kernel's in the
    run, and `threads` the most workers that shared a launch of it.  Worker 0 is the thread that called."""

    kernel: KernelFacts
    launch: str
    worker: int
    threads: int
    begin: int
    end: int
    seconds: float


def kernel_events(run: Run) -> list[KernelEvent]:
    """In the order in which they began."""
    program = run.program
    if program is None or not program.launched:
        return []
    seconds, threads = [0.0] * len(program.kernels), [0] * len(program.kernels)
    of_launches = zip(launch_seconds(program, run.row).tolist(), workers_of(program, run.row), strict=True)
    for one, (spent, workers) in zip(program.launched, of_launches, strict=True):
        seconds[one.step] += spent
        threads[one.step] = max(threads[one.step], int(workers))
    events = []
    for worker, rows in enumerate(program.array(run.row).tolist()):
        for one, (begin, end) in zip(program.launched, rows, strict=False):  # those of shared jobs come behind
            if begin:
                moments = run.moment(begin), run.moment(end)
                kernel = program.kernels[one.step]
                whole = threads[one.step], *moments, seconds[one.step]
                events.append(KernelEvent(kernel, one.function, worker, *whole))
    return sorted(events, key=lambda event: (event.begin, event.worker))
