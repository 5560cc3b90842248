"""`RunLog`: what is written down of each run of a timed program, until somebody takes it.

    log = RunLog(program, stamps)       # stamps: [worker, word], where the program's workers write theirs
    record.set_log(log.address)         # every native call of the record writes a row, or is refused if the log is full
    log.take()                          # what was not taken before, as [run, word]
    log.last                            # the row of the last run

A row is the number of the thread that called, the first and the last moment of the run, both as nanoseconds of
CLOCK_MONOTONIC and as ticks, and the stamps of each worker, which are ticks (stamps.py).

Rows are a ring.  `WRITTEN` is changed by the one call that has the record, `TAKEN` by the one thread that takes at a
time, and both only grow: so neither has to wait for the other.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from graphflow.runtime import call_record as at
from graphflow.runtime.recorded_threads import known_threads, number_of_thread

if TYPE_CHECKING:
    from graphflow.compiler.llvm.load import LoadedLibrary
    from graphflow.runtime.timed import TimedProgram

__all__ = ["BEGIN", "END", "FIRST_TICK", "LAST_TICK", "ROW_HEAD", "THREAD", "RunLog", "nanoseconds_of_tick"]

Array = np.ndarray[Any, Any]
Moment = tuple[int, int]  # nanoseconds and ticks
THREAD, BEGIN, END, FIRST_TICK, LAST_TICK = range(5)
ROW_HEAD = LAST_TICK + 1
LOG_BYTES, FEWEST_ROWS = 1 << 19, 16
"""About how large a log is.  Taking rows costs some 50 microseconds however few there are."""


class RunLog:
    """The runs of a program in one memory.  The thread that makes it is the one that holds the record."""

    def __init__(self, program: TimedProgram, stamps: Array) -> None:
        self.program, self.stamps = program, stamps
        workers, count = stamps.shape
        row_words = ROW_HEAD + workers * count
        self.capacity = max(LOG_BYTES // (8 * row_words), FEWEST_ROWS)
        self.rows = np.zeros((self.capacity, row_words), np.int64)
        self.words = words = at.new_table(at.LOG_WORDS)
        words.keep = (self.rows, stamps)
        words[at.ROWS], words[at.CAPACITY], words[at.ROW_WORDS] = self.rows.ctypes.data, self.capacity, row_words
        words[at.STAMPS], words[at.STRIDE], words[at.STAMP_BYTES] = stamps.ctypes.data, stamps.strides[0], 8 * count
        words[at.WORKERS], words[at.KNOWN] = workers, at.address(known_threads())
        self.hold()

    def call_native(self, code: LoadedLibrary) -> None:
        """Let native calls write it, with these functions (run_log_code.py)."""
        self.words[at.BEGINS], self.words[at.ENDS] = code.address("gf_log_begins"), code.address("gf_log_ends")

    def hold(self) -> None:
        """The calling thread is the one that holds the record."""
        self.words[at.CALLER] = number_of_thread()

    @property
    def address(self) -> int:
        """Where its words are."""
        return at.address(self.words)

    @property
    def is_full(self) -> bool:
        """Whether no run has room before somebody takes what there is."""
        return bool(self.words[at.WRITTEN] - self.words[at.TAKEN] == self.capacity)

    @property
    def last(self) -> Array:
        """The row of the last run, for whoever holds the record."""
        row: Array = self.rows[(self.words[at.WRITTEN] - 1) % self.capacity].copy()
        return row

    def write(self, begin: Moment, end: Moment) -> None:
        """What native calls do, where there are none: a run of the thread that holds the record."""
        row = self.rows[self.words[at.WRITTEN] % self.capacity]
        row[[THREAD, BEGIN, END, FIRST_TICK, LAST_TICK]] = self.words[at.CALLER], begin[0], end[0], begin[1], end[1]
        row[ROW_HEAD:] = self.stamps.ravel()
        self.stamps.fill(0)
        self.words[at.WRITTEN] += 1

    def take(self) -> Array:
        """The rows that nobody has taken; for one thread at a time."""
        written, taken = int(self.words[at.WRITTEN]), int(self.words[at.TAKEN])
        first, last = taken % self.capacity, taken % self.capacity + written - taken
        rows = np.concatenate((self.rows[first:last], self.rows[: max(last - self.capacity, 0)]))
        self.words[at.TAKEN] = written
        return rows


def nanoseconds_of_tick(row: Array) -> float:
    """How long a tick is, by the row of a run or the sum of rows."""
    ticks, time = row[LAST_TICK] - row[FIRST_TICK], row[END] - row[BEGIN]
    return float(time / ticks) if ticks else 1.0
