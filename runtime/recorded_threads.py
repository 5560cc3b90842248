"""The threads whose runs are recorded: each has a number from its first recorded run until it ends.

number = number_of_thread()         # the calling thread's
thread_of(number)                   # what the system calls it, and its name
known_threads()                     # a table in which native code finds the number of the thread that it is in
"""

from __future__ import annotations

import itertools
import os
import threading
from typing import NamedTuple

from graphflow.runtime import call_record as at

__all__ = ["IDENT", "NUMBER", "THREAD_WORDS", "NamedThread", "known_threads", "number_of_thread", "thread_of"]

ROOM = 256
"""For so many threads at a time; others are recorded too, by way of Python."""

# The table: how many entries, then the entries, of which any may be free.
(
    IDENT,  # what CPython and the threads' library call the thread; 0: free
    NUMBER,
) = range(2)
THREAD_WORDS = NUMBER + 1

_table = at.new_table(1 + ROOM * THREAD_WORDS)
_entries = _table[1:].reshape(ROOM, THREAD_WORDS)
_numbers = itertools.count(1)
_threads: dict[int, NamedThread] = {}
_local = threading.local()
_lock = threading.Lock()


class NamedThread(NamedTuple):
    """A thread as the system numbers it and as Python names it."""

    native_id: int
    name: str


class _Entry:
    """A thread's place in the table.  It goes with the thread's local data, before its ident can be another's."""

    def __init__(self) -> None:
        self.number = next(_numbers)
        _threads[self.number] = NamedThread(threading.get_native_id(), threading.current_thread().name)
        with _lock:
            free = [n for n in range(ROOM) if not _entries[n, IDENT]][:1]
            self._entries = [_entries[n] for n in free]
            for n in free:
                _entries[n, NUMBER] = self.number
                _entries[n, IDENT] = threading.get_ident()
                _table[0] = max(int(_table[0]), n + 1)

    def __del__(self) -> None:
        for entry in self._entries:
            entry[IDENT] = 0


def known_threads() -> at.Table:
    """The table, which stays where it is."""
    return _table


def number_of_thread() -> int:
    """The calling thread's number, never 0."""
    entry: _Entry | None = getattr(_local, "entry", None)
    if entry is None:
        entry = _local.entry = _Entry()
    return entry.number


def thread_of(number: int) -> NamedThread:
    """The thread that has or had a number."""
    return _threads[number]


def _after_fork() -> None:
    """A child's one thread is new to the system."""
    global _lock
    _lock = threading.Lock()
    _local.__dict__.clear()
    _table[:] = 0


if hasattr(os, "register_at_fork"):  # Windows cannot fork
    os.register_at_fork(after_in_child=_after_fork)
