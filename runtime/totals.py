"""`Totals`: how long the kernels of a program took, over any number of runs, in little memory.

    totals.add(stamps)          # of a run
    totals.seconds              # of each step of the plan, over all runs

The time of a job, from its first moment on any worker to its last, is divided among its launches by the time that the
workers spent in each.  So no moment counts twice, and waiting for the last worker counts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from graphflow.runtime.timed import TimedProgram

__all__ = ["Totals", "launch_seconds", "workers_of"]

Array = np.ndarray[Any, Any]
BATCH = 256
"""So many runs are added up at once: NumPy takes about as long for one."""


class Totals:
    """The runs of a program, and the seconds of each of its kernels."""

    def __init__(self, program: TimedProgram) -> None:
        self.program = program
        self.runs = 0
        self._seconds = np.zeros(len(program.plan.steps))
        self._threads = np.ones(len(program.plan.steps), np.int64)
        self._waiting: list[bytes] = []

    def add(self, stamps: bytes) -> None:
        """Take note of a run."""
        self.runs += 1
        waiting = self._waiting
        if len(waiting) >= BATCH or (waiting and len(waiting[0]) != len(stamps)):  # there are more threads now
            self._add_up()
            waiting = self._waiting
        waiting.append(stamps)

    @property
    def seconds(self) -> Array:
        """Of each step of the plan, over all runs."""
        self._add_up()
        return self._seconds

    @property
    def threads(self) -> Array:
        """For each step of the plan the most workers that shared a launch of it."""
        self._add_up()
        return self._threads

    def _add_up(self) -> None:
        waiting, self._waiting = self._waiting, []
        if not waiting or not self.program.launched:
            return
        stamps = self.program.array(b"".join(waiting), len(waiting))
        steps = [one.step for one in self.program.launched]
        np.add.at(self._seconds, steps, launch_seconds(self.program, stamps).sum(axis=0))
        np.maximum.at(self._threads, steps, workers_of(stamps).max(axis=0))


def launch_seconds(program: TimedProgram, stamps: Array) -> Array:
    """[run, launch] of stamps [run, worker, launch, (begin, end)]."""
    begin, end = stamps[..., 0], stamps[..., 1]
    ran = begin > 0
    busy = np.where(ran, end - begin, 0).sum(axis=1)
    first = np.where(ran, begin, np.iinfo(np.int64).max).min(axis=1)
    last = np.where(ran, end, 0).max(axis=1)
    jobs = np.array([one.job for one in program.launched])
    starts = np.flatnonzero(np.diff(jobs, prepend=-1))
    whole = np.maximum(np.maximum.reduceat(last, starts, axis=1) - np.minimum.reduceat(first, starts, axis=1), 0)
    spent = np.add.reduceat(busy, starts, axis=1)
    scale = np.where(spent > 0, whole / np.maximum(spent, 1), 0.0)
    seconds: Array = busy * scale[:, jobs] * 1e-9
    return seconds


def workers_of(stamps: Array) -> Array:
    """[run, launch]: how many workers had a part."""
    workers: Array = (stamps[..., 0] > 0).sum(axis=1)
    return workers
