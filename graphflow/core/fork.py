"""What a fork waits for (`MAKING`), and what is mended in the child (`renew_after_fork`).

    with MAKING:                # no child finds this half done
        ...
    renew_after_fork(thing)     # in a child, `thing.after_fork()` is called

The child has one thread, that which forked.  Locks that others had stay locked for ever, and what others were doing is
never done.  What takes long and leaves no trace outside, such as a step, is not waited for.
"""

from __future__ import annotations

import os
import threading
import weakref
from typing import Protocol

__all__ = ["MAKING", "renew_after_fork"]

MAKING = threading.RLock()
"""Held while something is compiled.  One for all: compilers share the interpreter's and LLVM's locks anyway."""


class Renewable(Protocol):
    def after_fork(self) -> None:
        """Make new what may be locked by threads that do not exist."""


_known: weakref.WeakSet[Renewable] = weakref.WeakSet()


def renew_after_fork(thing: Renewable) -> None:
    """In a child after a fork, call `thing.after_fork()`, if it is still there."""
    _known.add(thing)


def _in_child() -> None:
    MAKING.release()
    for thing in list(_known):
        thing.after_fork()


if hasattr(os, "register_at_fork"):  # Windows cannot fork
    os.register_at_fork(before=MAKING.acquire, after_in_parent=MAKING.release, after_in_child=_in_child)
