"""The lock of a session's variables: many steps that read, or one that updates, at a time.

    lock = VariableLock(values)
    hold = lock.hold(updates=True)
    try:
        lock.wait(hold)
        ...
    finally:
        lock.leave(hold)

Native calls enter and leave without Python where nobody has to wait: they look at the same words while they hold the
GIL, which is what makes looking and entering one action (`call_record.py`).  Whoever has to wait does so here, where
signals are heard, and native calls do not overtake.  So a step's updates are seen all or not at all.

Ctrl-C may strike between any two lines of Python.  What somebody has is therefore written in the hold by the same
native function that takes it (`native_lock_code.py`), and `leave` gives up what is written there, be it nothing.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Any

from graphflow.core.errors import DeadlineExceededError, FailedPreconditionError
from graphflow.core.fork import renew_after_fork
from graphflow.runtime import call_record as at
from graphflow.runtime.deadline import NEVER, seconds_left

__all__ = ["VariableLock"]

TORN = """the process was forked while another thread was updating the variables of this session: in the child they \
may be half old and half new; fork where no step is running, or use another session in the child"""


Functions = tuple[Callable[[at.Table], int], Callable[[at.Table], int], Callable[[at.Table], Any]]


class VariableLock:
    """Not reentrant.  `values` is the dict of the variables' arrays, for native code to put new ones into."""

    leave: Callable[[at.Table], Any]
    """Give up whatever a hold has.  A builtin, so that a `finally` with this call alone is always carried out."""

    def __init__(self, values: dict[str, Any]) -> None:
        self.words = at.new_table(at.STORE_WORDS)
        self.words[at.VALUES] = id(values)
        self._torn = False
        self._functions: Functions | None = None
        self._values = values
        self._renew()
        renew_after_fork(self)

    def _renew(self) -> None:
        self._mutex = threading.Lock()
        self._wakeups: SimpleQueue[None] = SimpleQueue()
        self._wake = self._wakeups.put  # a builtin: waking runs no Python code that a signal could interrupt
        self.words[at.WAKE] = id(self._wake)

    def after_fork(self) -> None:
        """In a child after a fork: other threads, with what they had, do not exist here."""
        if self.words[at.USERS] == at.UPDATING:
            self._torn = True
            self.words[at.STORE_VERSION] += 1  # native calls, which do not look, are served no more
        self.words[[at.USERS, at.WAITERS, at.UPDATERS]] = 0
        self._renew()

    @property
    def address(self) -> int:
        """Where the words are."""
        return at.address(self.words)

    def hold(self, *, updates: bool) -> at.Table:
        """What a run has in its hands: nothing yet."""
        if self._functions is None:
            self._functions = self._builtins()
            self.leave = self._functions[2]
        hold = at.new_table(at.HOLD_WORDS)
        hold[at.UPDATES] = updates
        return hold

    def _builtins(self) -> Functions:
        """Ask; enter if it may be, which is what both answer; leave."""
        from graphflow.runtime.native_call import is_native, table_builtin

        if not is_native():
            return self._ask_in_python, self._enter_in_python, self._leave_in_python
        ask, enter, leave = (table_builtin(name, f"gf_{name}", self.words) for name in ("ask", "enter", "leave"))
        return ask, enter, leave

    def check(self) -> None:
        """FailedPreconditionError if a fork has torn the variables."""
        if self._torn:
            raise FailedPreconditionError(TORN)

    def wait(self, hold: at.Table, deadline: int = NEVER) -> None:
        """Wait until the hold has the variables.  DeadlineExceededError if that is not before the deadline."""
        assert self._functions is not None
        self._until(self._functions[1], hold, deadline)

    def wait_for_turn(self, hold: at.Table, deadline: int) -> None:
        """Wait until a native call with that hold may have the variables, if nobody else is quicker."""
        assert self._functions is not None
        self._until(self._functions[0], hold, deadline)

    def _until(self, allowed: Callable[[at.Table], int], hold: at.Table, deadline: int) -> None:
        while not allowed(hold):
            try:
                self._wakeups.get(timeout=seconds_left(deadline))
            except Empty:
                raise DeadlineExceededError("the run was out of time before it could use the variables") from None

    def _ask_in_python(self, hold: at.Table) -> int:
        with self._mutex:
            allowed = self._may_have(hold)
            if not allowed and not hold[at.WAITING]:
                self._count_waiter(hold, 1)
            return int(allowed)

    def _enter_in_python(self, hold: at.Table) -> int:
        with self._mutex:
            allowed = self._may_have(hold)
            if allowed:
                self.words[at.USERS] = at.UPDATING if hold[at.UPDATES] else int(self.words[at.USERS]) + 1
                hold[at.USING] = 1
            if allowed == bool(hold[at.WAITING]):
                self._count_waiter(hold, -1 if allowed else 1)
            return int(allowed)

    def _may_have(self, hold: at.Table) -> bool:
        users, waiters, updaters = (int(self.words[n]) for n in (at.USERS, at.WAITERS, at.UPDATERS))
        in_turn = bool(hold[at.WAITING]) or not waiters
        return in_turn and (users == 0 or (users > 0 and not hold[at.UPDATES] and not updaters))

    def _leave_in_python(self, hold: at.Table) -> None:
        with self._mutex:
            if hold[at.WAITING]:
                self._count_waiter(hold, -1)
            if hold[at.USING]:
                hold[at.USING] = 0
                self.words[at.USERS] = max(int(self.words[at.USERS]), 1) - 1
            if hold[at.RECORD]:
                ctypes.c_int64.from_address(int(hold[at.RECORD]) + 8 * at.BUSY).value = 0
                hold[at.RECORD] = 0
            if self.words[at.WAITERS]:
                self._wake(None)

    def _count_waiter(self, hold: at.Table, change: int) -> None:
        hold[at.WAITING] += change
        self.words[at.WAITERS] += change
        self.words[at.UPDATERS] += change * int(hold[at.UPDATES])
        if change < 0 and self.words[at.WAITERS]:
            self._wake(None)
