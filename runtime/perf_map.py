"""`GRAPHFLOW_PERF=1`: tell Linux' `perf` what machine code is where, so that `perf report` names kernels.

    GRAPHFLOW_PERF=1 perf record python train.py; perf report

By perf's convention for generated code there is a file /tmp/perf-PID.map with a line for each function: its address and
its size in hexadecimal, and its name.  A kernel's name is its ops and the user's lines.  ELF objects only, as perf is.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from graphflow.runtime.executable import Executable

__all__ = ["Function", "anchors", "functions_in", "is_wanted", "map_file", "write"]

FOLDER = "/tmp"  # perf looks there and nowhere else
ELF64_LITTLE = b"\x7fELF\x02\x01"
FUNCTION, GLOBAL, SYMBOLS = 2, 1, 2  # the type and the binding of a symbol, the type of a section
SECTION, SYMBOL = struct.Struct("<IIQQQQIIQQ"), struct.Struct("<IBBHQQ")
LINES = 2


def is_wanted() -> bool:
    """Whether GRAPHFLOW_PERF asks for it."""
    return os.environ.get("GRAPHFLOW_PERF", "") not in ("", "0")


def map_file() -> str:
    """Where perf looks for the functions of this process."""
    return f"{FOLDER}/perf-{os.getpid()}.map"


def anchors(objects: Iterable[bytes]) -> tuple[str, ...]:
    """Of each object a function that others may call: where it is tells where the rest is."""
    return tuple(next(f.name for f in functions_in(code) if f.is_visible) for code in objects)


def write(executable: Executable, address: Callable[[str], int], objects: Sequence[bytes]) -> None:
    """Add the functions of a program's code, given the addresses of its `anchors`.

    ValueError if an object is no 64-bit ELF object.
    """
    names = _names(executable)
    lines = []
    for code, anchor in zip(objects, anchors(objects), strict=True):
        functions = list(functions_in(code))
        start = address(anchor) - next(f.offset for f in functions if f.name == anchor)
        for f in functions:
            work = names.get(f.name) or names.get(f.name.partition(".")[0], "")  # kernel0.tile is a part of kernel0
            lines.append(f"{start + f.offset:x} {f.size:x} graphflow {f.name} {work}".rstrip())
    with os.fdopen(os.open(map_file(), os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o600), "w") as file:
        file.write("\n".join([*lines, ""]))


def _names(executable: Executable) -> dict[str, str]:
    """For each function of a launch the ops and lines of the first kernel it computes, and how many more it does."""
    users: dict[str, dict[int, None]] = {}
    for one in executable.code.launched:
        users.setdefault(one.function, {})[one.step] = None
    names = {}
    for function, numbers in users.items():
        first, *others = (executable.plan.steps[n] for n in numbers)
        lines = list(dict.fromkeys(str(origin.source) for origin in first.origins))[:LINES]
        more = [f"and {len(others)} more"] if others else []
        names[function] = " ".join((*first.ops, *lines, *more))
    return names


class Function(NamedTuple):
    """A function of an object: its name, offset in its section, bytes, and whether other objects see it."""

    name: str
    offset: int
    size: int
    is_visible: bool


def functions_in(object_code: bytes) -> Iterator[Function]:
    """The functions that a relocatable ELF object defines."""
    if not object_code.startswith(ELF64_LITTLE):
        raise ValueError("perf maps are made of 64-bit little-endian ELF objects, and this code is none")
    table = struct.unpack_from("<Q", object_code, 40)[0]
    size, count = struct.unpack_from("<HH", object_code, 58)
    sections = [SECTION.unpack_from(object_code, table + n * size) for n in range(count)]
    for section in sections:
        if section[1] == SYMBOLS:
            yield from _functions(object_code, section, sections[section[6]])


def _functions(object_code: bytes, section: tuple[Any, ...], strings: tuple[Any, ...]) -> Iterator[Function]:
    for at in range(section[4], section[4] + section[5], SYMBOL.size):
        name, info, _, where, value, size = SYMBOL.unpack_from(object_code, at)
        if info & 15 == FUNCTION and where:
            start = strings[4] + name
            found = object_code[start : object_code.index(b"\0", start)].decode()
            yield Function(found, value, size, info >> 4 == GLOBAL)
