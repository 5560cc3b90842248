"""How many bytes a run may take: `set_limit` of the user, `available` as the system and the container tell.

    GRAPHFLOW_MEMORY_LIMIT=2G python train.py       every run that needs more is refused

The system's numbers are Linux': MemAvailable and free swap, and what is left below `memory.max` of every control group
(version 2) around the process.  Where they can't be read nothing is known, and nothing is refused.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

from graphflow.core.errors import InvalidArgumentError

__all__ = ["SMALL", "available", "has_room", "set_limit"]

VARIABLE = "GRAPHFLOW_MEMORY_LIMIT"
SMALL = 1 << 20
"""A run that takes less is not worth asking the system."""
UNITS = {"": 0, "K": 10, "M": 20, "G": 30, "T": 40}
MEMINFO, OWN_GROUP, GROUPS = Path("/proc/meminfo"), Path("/proc/self/cgroup"), Path("/sys/fs/cgroup")


def set_limit() -> int | None:
    """GRAPHFLOW_MEMORY_LIMIT in bytes; None where it is not set.  InvalidArgumentError for what is no size."""
    text = os.environ.get(VARIABLE, "").strip()
    if not text:
        return None
    found = re.fullmatch(r"(\d+)([KMGT]?)", text.upper())
    if found is None:
        raise InvalidArgumentError(f"{VARIABLE} is a number of bytes such as 2000000000 or 512M or 2G, not {text!r}")
    return int(found[1]) << UNITS[found[2]]


def has_room(more: int, taken: int) -> bool:
    """Whether a run that has so many bytes may take so many more."""
    limit, room = set_limit(), available()
    return (limit is None or taken + more <= limit) and (room is None or more <= room)


def available() -> int | None:
    """Bytes that this process could still get, swap included; None where the system does not tell."""
    found = [size for size in (_of_system(), *_of_groups()) if size is not None]
    return min(found, default=None)


def _of_system() -> int | None:
    rows = _rows(MEMINFO)
    if "MemAvailable:" not in rows:
        return None
    return 1024 * (rows["MemAvailable:"] + rows.get("SwapFree:", 0))


def _of_groups() -> Iterator[int | None]:
    """What is left in the process' own control group and in each around it."""
    own = [line[3:] for line in _text(OWN_GROUP).splitlines() if line.startswith("0::")]
    if not own:
        return
    folder = GROUPS / own[0].lstrip("/")
    while True:
        yield _left_in(folder)
        if folder == GROUPS or GROUPS not in folder.parents:
            return
        folder = folder.parent


def _left_in(group: Path) -> int | None:
    """`max` less what is used; the cache of files that were not used lately can go, and swap may be had too."""
    most, used = _number(group / "memory.max"), _number(group / "memory.current")
    if most is None or used is None:
        return None
    left = most - used + _rows(group / "memory.stat").get("inactive_file", 0)
    swap, swapped = _number(group / "memory.swap.max"), _number(group / "memory.swap.current")
    if swapped is None:
        return left
    return None if swap is None else left + max(swap - swapped, 0)


def _number(file: Path) -> int | None:
    """The number in a file; None for `max`, or no file."""
    text = _text(file).strip()
    return int(text) if text.isdigit() else None


def _rows(file: Path) -> dict[str, int]:
    """First word and number of each line."""
    rows = (line.split() for line in _text(file).splitlines())
    return {row[0]: int(row[1]) for row in rows if len(row) > 1 and row[1].isdigit()}


def _text(file: Path) -> str:
    try:
        return file.read_text()
    except OSError:
        return ""
