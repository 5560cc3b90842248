"""The lock of a session's variables: many steps that read, or one that updates, at a time.

lock = VariableLock()
with lock.using(updates=True):
    ...

Native calls enter and leave without Python where nobody has to wait: they look at the same words while they hold the
GIL, which is what makes looking and entering one action (`call_record.py`).  Whoever has to wait does so here, where
signals are heard, and native calls do not overtake.  So a step's updates are seen all or not at all.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from queue import SimpleQueue

from graphflow.runtime import call_record as at

__all__ = ["VariableLock"]


class VariableLock:
    """Not reentrant."""

    def __init__(self) -> None:
        self.words = at.new_table(at.STORE_WORDS)
        self._wakeups: SimpleQueue[None] = SimpleQueue()
        self._wake = self._wakeups.put  # a builtin: waking runs no Python code that a signal could interrupt
        self.words[at.WAKE] = id(self._wake)
        self._mutex = threading.Lock()
        self._turn = threading.Lock()  # of whoever waits for a wakeup; the others wait for their turn

    @cached_property
    def _functions(self) -> tuple[Callable[[bool], int], Callable[[None], None]]:
        """Enter if it may be, which is what they answer, and leave."""
        from graphflow.runtime.native_call import is_native, table_builtin

        if not is_native():
            return self._enter_in_python, self._leave_in_python
        return table_builtin("enter", "gf_enter", self.words), table_builtin("leave", "gf_leave", self.words)

    @property
    def address(self) -> int:
        """Where the words are."""
        return at.address(self.words)

    @contextmanager
    def using(self, *, updates: bool) -> Iterator[None]:
        """Wait until the variables may be used."""
        self._wait(updates)
        try:
            yield
        finally:
            self._functions[1](None)

    def _wait(self, updates: bool) -> None:
        enter, _ = self._functions
        if not self.words[at.WAITERS] and enter(updates):
            return
        with self._mutex:
            self.words[at.WAITERS] += 1
        try:
            with self._turn:
                while not enter(updates):
                    self._wakeups.get()
        finally:
            with self._mutex:
                self.words[at.WAITERS] -= 1

    def _enter_in_python(self, updates: bool) -> int:
        with self._mutex:
            users = int(self.words[at.USERS])
            allowed = users == 0 or (users > 0 and not updates)
            if allowed:
                self.words[at.USERS] = -1 if updates else users + 1
        return int(allowed)

    def _leave_in_python(self, _: None) -> None:
        with self._mutex:
            self.words[at.USERS] = max(int(self.words[at.USERS]), 1) - 1
            waiting = bool(self.words[at.WAITERS])
        if waiting:
            self._wake(None)
