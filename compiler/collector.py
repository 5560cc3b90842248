"""Python's garbage collector, out of the way while something is compiled: `paused_collector`."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["paused_collector"]


@contextmanager
def paused_collector() -> Iterator[None]:
    """No search for cycles within the block, which makes hundreds of thousands of objects and keeps most of them; nor
    right after it: they count as old from then on, and are looked at with what is old.

    Where the collector is off already it stays off.
    """
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        if not gc.get_freeze_count():  # else what the program has put aside for good would come back
            gc.freeze()
            gc.unfreeze()
        gc.enable()
