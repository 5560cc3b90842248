"""`other_ways(name)`: pairs of contexts; what sessions give in both has the same bits.

bounds      plain code, and code that checks each access to memory
recorded    plain code, and code that notes when each kernel began and ended
kept        code that is compiled and written to a cache, and code that comes from there
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any
from unittest.mock import patch

import graphflow as tf
from graphflow.compiler.cache import STATISTICS

__all__ = ["WAYS", "other_ways"]

WAYS = ("bounds", "recorded", "kept")

Contexts = tuple[AbstractContextManager[Any], AbstractContextManager[Any]]


@contextmanager
def other_ways(name: str) -> Iterator[Contexts]:
    """The contexts, to be entered one after the other."""
    if name == "bounds":
        yield nullcontext(), patch.dict(os.environ, GRAPHFLOW_CHECK="2")
    elif name == "recorded":
        yield nullcontext(), tf.profile()
    else:
        with tempfile.TemporaryDirectory() as folder:
            yield patch.dict(os.environ, GRAPHFLOW_CACHE=folder), from_cache(folder)


@contextmanager
def from_cache(folder: str) -> Iterator[None]:
    """Nothing is compiled here."""
    with patch.dict(os.environ, GRAPHFLOW_CACHE=folder):
        before = STATISTICS.optimized
        yield
        assert STATISTICS.optimized == before, "a program that was kept was compiled again"
