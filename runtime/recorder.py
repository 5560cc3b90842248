"""`Recorder`: what somebody who records gets to know, the last runs and totals of all.

recorder = Recorder(100_000)
recorder.take([batch])              # runs, as logs have them (run_log.py); recording.py says when
recorder.runs                       # the last ones, with the stamps of their launches
recorder.totals                     # of all, by program
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from graphflow.runtime.clock import clocks_apart
from graphflow.runtime.recorded_threads import thread_of
from graphflow.runtime.run_log import BEGIN, END, FIRST_TICK, ROW_HEAD, THREAD, nanoseconds_of_tick
from graphflow.runtime.totals import Totals

if TYPE_CHECKING:
    from graphflow.runtime.timed import TimedProgram

__all__ = ["Batch", "Compilation", "Recorder", "Run", "Thread"]

Array = np.ndarray[Any, Any]
STAMP_WORDS = 2  # of a launch and a worker (stamps.py)


@dataclass(frozen=True)
class Thread:
    """Which thread of which session: the session's number, counted as they are made, the thread's number and name."""

    session: int
    number: int
    name: str


class Run(NamedTuple):
    """A run: who, from when to when (nanoseconds of `time.perf_counter_ns`), what, and its row of the log."""

    thread: Thread
    begin: int
    end: int
    program: TimedProgram | None
    row: Array

    def moment(self, ticks: int) -> int:
        """A moment of a stamp as `begin` and `end` are."""
        return self.begin + round((ticks - int(self.row[FIRST_TICK])) * nanoseconds_of_tick(self.row))


class Batch(NamedTuple):
    """Runs of a program, None if it was interpreted, in a session: rows of a log."""

    program: TimedProgram | None
    session: int
    rows: Array

    @property
    def events(self) -> int:
        """How many events of a trace each run may be."""
        stamps: int = self.rows.shape[1] - ROW_HEAD
        return 1 + stamps // STAMP_WORDS

    def since(self, moment: int) -> Batch:
        """The runs that began after that."""
        after = self.rows[:, BEGIN] >= moment
        return self if after.all() else self._replace(rows=self.rows[after])

    def runs(self) -> list[Run]:
        """One by one."""
        apart = clocks_apart()
        heads = self.rows[:, :ROW_HEAD].tolist()
        return [
            Run(named(self.session, head[THREAD]), head[BEGIN] - apart, head[END] - apart, self.program, row)
            for head, row in zip(heads, self.rows, strict=True)
        ]


def named(session: int, thread: int) -> Thread:
    """A thread in a session, by the numbers of both."""
    return Thread(session, *thread_of(thread))


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
        self.since = 0
        self.compilations: list[Compilation] = []
        self.count = self.nanoseconds = 0
        self.totals: dict[TimedProgram, Totals] = {}
        self._kept: deque[tuple[int, list[Batch]]] = deque()  # what was taken together, with its events
        self._events = 0  # of all that is kept
        self._lock = threading.Lock()

    def take(self, batches: Sequence[Batch]) -> None:
        """Take note of runs, of which none ended before any that was taken before."""
        begun = [later for batch in batches if len((later := batch.since(self.since)).rows)]
        if not begun:
            return
        with self._lock:
            for batch in begun:
                self.count += len(batch.rows)
                self.nanoseconds += int((batch.rows[:, END] - batch.rows[:, BEGIN]).sum())
                if batch.program is not None:
                    self._totals_of(batch.program).add(batch.rows)
            events = sum(len(batch.rows) * batch.events for batch in begun)
            self._kept.append((events, begun))
            self._events += events
            while self._events - self._kept[0][0] >= self.limit:
                self._events -= self._kept.popleft()[0]

    def _totals_of(self, program: TimedProgram) -> Totals:
        return self.totals.get(program) or self.totals.setdefault(program, Totals(program))

    @property
    def runs(self) -> list[Run]:
        """The last runs, in the order of their beginning: as many as make `limit` events, and at least one."""
        with self._lock:
            batches = [batch for _, together in self._kept for batch in together]
        found = sorted(
            ((run, batch.events) for batch in batches for run in batch.runs()), key=lambda pair: pair[0].begin
        )
        first, events = len(found), 0
        while first and (first == len(found) or events + found[first - 1][1] <= self.limit):
            first -= 1
            events += found[first][1]
        return [run for run, _ in found[first:]]

    @property
    def dropped(self) -> int:
        """How many runs came before `runs`."""
        return self.count - len(self.runs)

    def compiled(self, compilation: Compilation) -> None:
        """Take note of a compilation."""
        with self._lock:
            self.compilations.append(compilation)
