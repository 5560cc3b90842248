"""`Totals`: how long the kernels of a program took, over any number of runs, in little memory.

    totals.add(rows)            # of a log (run_log.py)
    totals.seconds              # of each step of the plan, over all runs

The time of a job that threads share, from handing it out until the last has done its part, is divided among its
launches by the time that the workers spent in each.  So no moment counts twice, and waiting for the last counts.  All
of this is had from sums over runs, so a run costs an addition.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from graphflow.runtime.run_log import nanoseconds_of_tick

if TYPE_CHECKING:
    from graphflow.runtime.timed import TimedProgram

__all__ = ["Totals", "launch_seconds", "workers_of"]

Array = np.ndarray[Any, Any]


class Totals:
    """The runs of a program, and the sums of their rows."""

    def __init__(self, program: TimedProgram) -> None:
        self.program = program
        self.runs = 0
        self._sums: dict[int, Array] = {}  # by how many words a row was, as there were threads

    def add(self, rows: Array) -> None:
        """Take note of runs."""
        self.runs += len(rows)
        # Sums of moments may wrap around; their differences, which are times, are right all the same.
        words = rows.shape[1]
        self._sums[words] = self._sums.get(words, 0) + rows.sum(axis=0)

    @property
    def seconds(self) -> Array:
        """Of each step of the plan, over all runs."""
        found = np.zeros(len(self.program.plan.steps))
        for sums in self._sums.values():
            np.add.at(found, self.program.steps, launch_seconds(self.program, sums))
        return found

    @property
    def threads(self) -> Array:
        """For each step of the plan how many workers had a part in a launch of it, in whichever run."""
        found = np.ones(len(self.program.plan.steps), np.int64)
        for sums in self._sums.values():
            np.maximum.at(found, self.program.steps, workers_of(self.program, sums))
        return found


def launch_seconds(program: TimedProgram, row: Array) -> Array:
    """Of each launch, for the row of a run or the sum of rows."""
    begin, end = np.moveaxis(program.array(row), -1, 0)
    took = (end - begin).sum(axis=0)
    launches, shared = took[: len(program.launched)], took[len(program.launched) :]
    jobs = np.array([one.job for one in program.launched], np.int64)
    spent = np.bincount(jobs, launches, program.jobs)
    whole = spent.copy()
    for job, ticks in zip(program.shared, shared.tolist(), strict=True):
        whole[job] = ticks or whole[job]  # 0: its sizes were too small to hand it out
    seconds: Array = launches * (whole / np.maximum(spent, 1))[jobs] * nanoseconds_of_tick(row) * 1e-9
    return seconds


def workers_of(program: TimedProgram, row: Array) -> Array:
    """Of each launch: how many workers had a part."""
    workers: Array = (program.array(row)[:, : len(program.launched), 0] != 0).sum(axis=0)
    return workers
