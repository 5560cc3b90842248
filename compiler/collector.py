"""Python's garbage collector, out of the way while something is compiled: `paused_collector`."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["paused_collector"]


@contextmanager
def paused_collector() -> Iterator[None]:
    """No search for cycles within the block, which makes hundreds of thousands of objects and keeps most of them.

    Where the collector is off already it stays off.
    """
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
