"""Keys of compiled programs: `digest_of(value)`, 64 hexadecimal digits that tell a value from any other.

This version of the package and the options in the environment are part of each.
"""

from __future__ import annotations

import hashlib
import os
from typing import Any

__all__ = ["DIGEST_BYTES", "digest_of"]

DIGEST_BYTES = 32
"""Of the digests here, and of those that tell whether a file is whole."""

OTHER_OPTIONS = ("GRAPHFLOW_CACHE", "GRAPHFLOW_CACHE_MB", "GRAPHFLOW_NUM_THREADS", "GRAPHFLOW_PERF")
"""Variables of the environment that change no code."""


def _read_sources() -> bytes:
    """Names, sizes and times of the package's own files: another version makes other code."""
    state = hashlib.blake2b(digest_size=DIGEST_BYTES)
    todo = [os.path.dirname(os.path.dirname(os.path.abspath(__file__)))]
    if not os.path.isdir(todo[0]):  # in an archive, of which nothing tells one version from another
        return os.urandom(DIGEST_BYTES)
    while todo:
        for entry in sorted(os.scandir(todo.pop()), key=lambda e: e.name):
            if entry.is_dir() and entry.name != "__pycache__":
                todo.append(entry.path)
            elif entry.name.endswith((".py", ".pyc")):
                status = entry.stat()
                state.update(f"{entry.name}\0{status.st_size}\0{status.st_mtime_ns}\n".encode())
    return state.digest()


_SOURCES = _read_sources()  # when the compiler is imported: what is edited later is not what runs


def digest_of(value: Any) -> str:
    """The key of a value made of tuples, strings, bytes and numbers, whose `repr` tells it from any other."""
    state = hashlib.blake2b(_SOURCES, digest_size=DIGEST_BYTES)
    state.update(repr((_options(), value)).encode())
    return state.hexdigest()


def _options() -> tuple[tuple[str, str], ...]:
    """What the environment says to graphflow, but for what changes no code."""
    found = ((k, v) for k, v in os.environ.items() if k.startswith("GRAPHFLOW_") and k not in OTHER_OPTIONS)
    return tuple(sorted(found))
