"""Tests test the compiler: nothing comes from the cache on disk, and nothing goes there, unless a test asks for it.

Ctrl-C is what it is in a terminal: a shell lets what it starts in the background, tests among it, ignore it.
"""

import os
import signal
from pathlib import Path

import pytest

from graphflow.compiler import cache

os.environ["GRAPHFLOW_CACHE"] = "off"  # for the processes that tests start, too
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of the test's own, not made yet."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("GRAPHFLOW_CACHE", str(folder))
    monkeypatch.setattr(cache, "STATISTICS", cache.Statistics())
    monkeypatch.setattr("graphflow.compiler.llvm.jit.STATISTICS", cache.STATISTICS)
    return folder


@pytest.fixture
def unchecked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Code as users run it, also under `make bounds`: with bounds checks a program is in one piece and kept nowhere."""
    monkeypatch.delenv("GRAPHFLOW_CHECK", raising=False)
