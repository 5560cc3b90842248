"""Which line of the user's program made a node: `user_source()`.

Frames of the package itself are skipped, those of its demo programs and benchmarks excepted: they are written as a user
writes.
"""

from __future__ import annotations

import functools
import os
import sys
from dataclasses import dataclass

__all__ = ["Source", "user_source"]

_PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep
_PROGRAMS = (_PACKAGE + "demo" + os.sep, _PACKAGE + "bench" + os.sep)


@dataclass(frozen=True, slots=True)
class Source:
    """A place in the user's program; `str` gives `train.py:12`."""

    file: str
    line: int
    function: str

    def __str__(self) -> str:
        return f"{os.path.basename(self.file)}:{self.line}"


UNKNOWN = Source("<unknown>", 0, "")


@functools.cache
def _is_users(file: str) -> bool:
    return not file.startswith(_PACKAGE) or file.startswith(_PROGRAMS)


def user_source() -> Source:
    """The innermost frame that is not graphflow's own."""
    frame = sys._getframe(1)
    while frame is not None:
        file = frame.f_code.co_filename
        if _is_users(file):
            return Source(file, frame.f_lineno, frame.f_code.co_name)
        if frame.f_back is None:
            break
        frame = frame.f_back
    return UNKNOWN
