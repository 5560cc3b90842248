"""`GRAPHFLOW_PERF=1`: tell Linux' `perf` what machine code is where, so that `perf report` names kernels.

    GRAPHFLOW_PERF=1 perf record python train.py; perf report

By perf's convention for generated code there is a file /tmp/perf-PID.map with a line for each function: its address and
its size in hexadecimal, and its name.  A kernel's name is its ops and the user's lines.  ELF objects only, as perf is.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from graphflow.compiler.llvm.elf import GLOBAL, ObjectFile

if TYPE_CHECKING:
    from graphflow.runtime.executable import Executable

__all__ = ["Function", "anchors", "functions_in", "is_wanted", "map_file", "write"]

FOLDER = "/tmp"  # perf looks there and nowhere else
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
    file = ObjectFile(object_code)
    for number in file.functions():
        symbol = file.symbols[number]
        yield Function(file.name(number), int(symbol["value"]), int(symbol["size"]), symbol["info"] >> 4 == GLOBAL)
