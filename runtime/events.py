"""`kernel_events`: when which kernel of a recorded run was at work on which thread."""

from __future__ import annotations

import functools
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from graphflow.runtime.totals import launch_seconds, workers_of

if TYPE_CHECKING:
    from graphflow.runtime.kernel_facts import KernelFacts
    from graphflow.runtime.recording import Run

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
    stamps = program.array(run.stamps)
    of_launches = launch_seconds(program, stamps)[0]
    seconds, threads = [0.0] * len(program.kernels), [0] * len(program.kernels)
    for one, spent, workers in zip(program.launched, of_launches.tolist(), workers_of(stamps)[0], strict=True):
        seconds[one.step] += spent
        threads[one.step] = max(threads[one.step], int(workers))
    events = []
    for worker, rows in enumerate(stamps[0].tolist()):
        for one, (begin, end) in zip(program.launched, rows, strict=True):
            if begin:
                moments = begin - _clocks_apart(), end - _clocks_apart()
                kernel = program.kernels[one.step]
                whole = threads[one.step], *moments, seconds[one.step]
                events.append(KernelEvent(kernel, one.function, worker, *whole))
    return sorted(events, key=lambda event: (event.begin, event.worker))


@functools.cache
def _clocks_apart() -> int:
    """How far CLOCK_MONOTONIC, which machine code reads, is ahead of Python's clock: 0 where they are the same."""
    if "CLOCK_MONOTONIC" in time.get_clock_info("perf_counter").implementation:
        return 0
    return time.clock_gettime_ns(time.CLOCK_MONOTONIC) - time.perf_counter_ns()
