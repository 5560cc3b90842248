#!/usr/bin/env python3
"""Run the programs in README.md and docs/, and write what they print into the pages.

    python scripts/run_doc_programs.py            # everything that is the same on every CPU
    python scripts/run_doc_programs.py --native   # the excerpts of LLVM IR and assembly too

A page marks its code blocks with comments that a reader of the page does not see:

    <!-- program fit.py -->          the block below is a program; it is run in a folder of its own
    <!-- program fit.py A=1 -->      ... with A=1 in its environment; without a block it is run again
    <!-- output of fit.py -->        the block below is what it printed
    <!-- error of fit.py -->         ... what it ended with, from the name of the exception on
    <!-- simplify of fit.py -->      ... what that pass made (compiler/debug.py names them), in its last compilation
    <!-- llvm kernel2 of fit.py -->  ... one function of its LLVM IR, or (`assembly`) of its assembly
    <!-- assembly kernel2 loop of fit.py -->  ... the longest loop without a branch in that function

A test (tests/test_docs.py) fails where a page does not show what its programs print today.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGES = (
    "README.md",
    "docs/architecture.md",
    "docs/adding_an_op.md",
    "docs/debugging.md",
    "docs/compile_cache.md",
    "docs/performance.md",
    "docs/profiling.md",
)
NATIVE = ("llvm", "assembly")
"""What depends on the CPU."""

BLOCK = re.compile(
    r"^<!-- (?P<mark>[^\n]*?) -->\n(?:```(?P<language>\w*)\n(?P<text>.*?)^```\n)?", re.MULTILINE | re.DOTALL
)
PROGRAM = re.compile(r"^<!-- program (\S+)[^\n]*? -->\n```python\n(.*?)^```\n", re.MULTILINE | re.DOTALL)
DIRECTIVES = re.compile(r"^\s*(?:\.cfi_\w+|\.p2align|#).*\n", re.MULTILINE)
INSTRUCTION = re.compile(r"^\t(\S+)\t([^\n]*)", re.MULTILINE)


@dataclass
class Ran:
    """What a program printed: standard output, its error, the dumps of its last compilation by name."""

    output: str
    error: str
    failed: bool
    dumps: dict[str, str] = field(default_factory=dict)


def refreshed(page: str, native: bool = False) -> str:
    """The page with every marked block as its program prints it.  Raises ValueError for a mark that names none."""
    programs = programs_of(page)
    marks = [match["mark"] for match in BLOCK.finditer(page) if match["mark"].startswith("program ")]
    with ThreadPoolExecutor(2) as pool:
        runs = dict(zip(marks, pool.map(lambda mark: run(mark.split()[1:], programs), marks), strict=True))
    ran: dict[str, Ran] = {}

    def block(match: re.Match[str]) -> str:
        mark = match["mark"]
        if mark in runs:
            name = mark.split()[1]
            ran[name] = runs[mark]
            if ran[name].failed and f"<!-- error of {name} -->" not in page:
                raise ValueError(f"{name} fails, and the page does not show it: {ran[name].error}")
            return match[0]
        part, _, name = mark.rpartition(" of ")
        if name not in ran or match["text"] is None:
            raise ValueError(f"<!-- {mark} --> stands before a block and after a program")
        if part.split()[0] in NATIVE and not native:
            return match[0]
        return f"<!-- {mark} -->\n```{match['language']}\n{shown(part, ran[name])}```\n"

    return BLOCK.sub(block, page)


def programs_of(page: str) -> dict[str, str]:
    """The text of each program by its name."""
    return dict(PROGRAM.findall(page))


def run(words: list[str], programs: Mapping[str, str]) -> Ran:
    """Run a program, given by its name and settings, in an empty folder where the compiler's dumps go too."""
    name, *settings = words
    clean = {key: value for key, value in os.environ.items() if not key.startswith("GRAPHFLOW_")}
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, name).write_text(programs[name], encoding="utf-8")
        dumps = Path(folder, "dumps")
        environment = {**clean, "PYTHONPATH": str(ROOT), "GRAPHFLOW_DUMP": str(dumps), "GRAPHFLOW_CACHE": "off"}
        for setting in settings:
            key, _, value = setting.partition("=")
            environment[key] = value
        command = [sys.executable, "-W", "error", name]
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
        found = {path.stem[4:]: path.read_text("utf-8") for path in sorted(dumps.glob("*.txt"))}
    return Ran(done.stdout, error_of(done.stderr), done.returncode != 0, found)


def error_of(stderr: str) -> str:
    """The exception's own lines, without the traceback above them."""
    last = stderr.rpartition("Traceback (most recent call last):\n")[2]
    found = re.search(r"^(?:\w+\.)*(\w+: .*)", last, re.MULTILINE | re.DOTALL)
    return found[1] if found else stderr


def shown(part: str, ran: Ran) -> str:
    """A part of what a program printed."""
    kind, *function = part.split()
    if kind == "output":
        return ran.output
    if kind == "error":
        return ran.error
    if kind not in ran.dumps:
        raise ValueError(f"there is no {kind}, only {', '.join(ran.dumps)}; standard error: {ran.error}")
    if not function:
        return ran.dumps[kind]
    text = function_of(ran.dumps[kind], function[0])
    return loop_of(text) if function[1:] == ["loop"] else text


def function_of(text: str, name: str) -> str:
    """One function of LLVM IR or of assembly, without what only an assembler wants to know."""
    define = re.search(rf"^define [^\n]*@{re.escape(name)}\(.*?^}}\n", text, re.MULTILINE | re.DOTALL)
    if define:
        return define[0]
    body = re.search(rf"^{re.escape(name)}:\n.*?(?=^\.Lfunc_end)", text, re.MULTILINE | re.DOTALL)
    if body is None:
        raise ValueError(f"there is no function {name}")
    return INSTRUCTION.sub(lambda line: f"    {line[1]:<13}{line[2]}", DIRECTIVES.sub("", body[0]))


def loop_of(text: str) -> str:
    """The longest run of instructions that ends with a jump to its beginning. ValueError if there is none."""
    blocks = re.findall(r"^(\S+):\n((?:    .*\n)*?)(?=\S+:|$)", text, re.MULTILINE)
    ended = [(label, re.search(rf"(?:.*\n)*?.*\bj\w+ +{re.escape(label)}\n", body)) for label, body in blocks]
    loops = [f"{label}:\n{body[0]}" for label, body in ended if body]
    if not loops:
        raise ValueError("the function has no loop of one block")
    return max(loops, key=lambda loop: loop.count("\n"))


def main() -> None:
    """Write the pages that are not current."""
    parser = argparse.ArgumentParser(description="Write into the pages what their programs print.")
    parser.add_argument("--native", action="store_true", help="also what depends on the CPU")
    native = parser.parse_args().native
    for name in PAGES:
        page = (ROOT / name).read_text("utf-8")
        new = refreshed(page, native)
        if new != page:
            (ROOT / name).write_text(new, encoding="utf-8")
        print(f"{name}: {'unchanged' if new == page else 'written'}")


if __name__ == "__main__":
    main()
