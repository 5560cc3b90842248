"""The debug ladder, each rung a superset of the one below it.

GRAPHFLOW_DEBUG=1   how long each pass took
GRAPHFLOW_DEBUG=2   the graph after each pass that changed it
GRAPHFLOW_DEBUG=3   kernels as loops, buffers, order
GRAPHFLOW_DEBUG=4   LLVM IR, optimized
GRAPHFLOW_DEBUG=5   assembly
GRAPHFLOW_DUMP=dir  the same as files: dir/001-differentiate.txt ...
GRAPHFLOW_CHECK=2   code with bounds checks (llvm/check.py), which is no rung: `is_checked`
"""

from __future__ import annotations

import itertools
import os
import sys
from pathlib import Path
from typing import Any

__all__ = ["Report", "is_checked", "level"]

_NUMBERS = itertools.count(1)
ALL = 5
LEVELS = ("", "0", "1", "2")


def is_checked() -> bool:
    """Whether the environment asks for checked code.  Raises ValueError for a level that there is not."""
    text = os.environ.get("GRAPHFLOW_CHECK", "").strip()
    if text not in LEVELS:
        raise ValueError(f"GRAPHFLOW_CHECK={text!r} is not a level from 0 to 2")
    return text == "2"


def level() -> int:
    """The rung that the environment asks for; 0 for none.  Raises ValueError for what is no number."""
    text = os.environ.get("GRAPHFLOW_DEBUG", "0") or "0"
    if not text.isdigit():
        raise ValueError(f"GRAPHFLOW_DEBUG={text!r} is not a number from 0 to {ALL}")
    return int(text)


class Report:
    """Where the dumps of one compilation go: standard error, or files of a folder."""

    def __init__(self) -> None:
        folder = os.environ.get("GRAPHFLOW_DUMP")
        self.folder = Path(folder) if folder else None
        self.level = ALL if self.folder else level()

    def stage(self, stage: Any) -> None:
        """Print what a pass made."""
        if not self.level:
            return
        changed = "" if stage.changed else "  (unchanged)"
        self.note(f"{stage.name:<14} {stage.seconds * 1e3:8.2f} ms{changed}")
        rung = 3 if stage.name == "plan" else 2
        if stage.changed and stage.name != "fuse" and self.level >= rung:
            self.text(stage.name, str(stage.result))

    def note(self, line: str) -> None:
        """One line of rung 1."""
        if self.level and self.folder is None:
            print(f"graphflow: {line}", file=sys.stderr)

    def text(self, name: str, text: str) -> None:
        """A dump."""
        if self.folder is None:
            print(f"--- {name}\n{text}", file=sys.stderr)
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / f"{next(_NUMBERS):03d}-{name}.txt").write_text(text + "\n", encoding="utf-8")
