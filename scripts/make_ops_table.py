#!/usr/bin/env python3
"""Write docs/ops.md: a row for every op, made from its declaration.

    python scripts/make_ops_table.py

A test (tests/test_docs.py) fails where the file is not what the declarations say.
"""

from __future__ import annotations

import argparse
import sys
import types
from collections.abc import Iterator
from pathlib import Path

import graphflow as tf
from graphflow import ops
from graphflow.core.op import OPS, Composite, Elementwise, Op
from graphflow.ops.state import StateOp

PAGE = Path(__file__).resolve().parent.parent / "docs" / "ops.md"

FAMILIES = {
    "elementwise": "Elementwise",
    "view": "Views: where elements come from",
    "reduce": "Reductions",
    "window": "Windows of images",
    "contract": "Sums of products",
    "convolve": "Convolutions",
    "pool": "Pooling",
    "nn": "Neural networks",
    "shape": "Shapes as values",
    "random": "Random numbers",
    "state": "State",
    "gradient": "Gradients",
    "leaf": "Leaves",
}
"""The modules of graphflow/ops with the headings of their tables, in the order of the page."""

TAKES = {"float": " Floats only.", "int": " Integers only.", "bool": " bool only.", "number": " Not bool.", "any": ""}
"""What an elementwise op accepts, by the word of its declaration."""

HEAD = """# Ops

One row for each op that is declared in [`graphflow/ops`](../graphflow/ops). This page is generated
(`python scripts/make_ops_table.py`); the docstrings are those of the declarations.

* **kind**: `elementwise`; `primitive`, an op with an index rule; `composite`, an operation of the user's graph
  that the compiler sees as a function of other ops; `state`, an op that is gone once a run is captured.
* **derivative**: `own`, declared with the op; `parts`, that of the ops which it is made of; `-`, none.
* **cases**: examples in the declaration; each is a test (see [adding an op](adding_an_op.md#what-is-generated)).
* **used by**: the functions of `tf` that name the op; an op without any is made by operators, by optimizers
  or by the compiler itself.
"""


def page() -> str:
    """The whole page."""
    users = functions_by_op()
    families = {op: family_of(op) for op in OPS.values()}
    tables = [table(one, [op for op, family in families.items() if family == one], users) for one in FAMILIES]
    cases = sum(len(op.cases) for op in OPS.values())
    return "\n".join([HEAD, f"{len(OPS)} ops with {cases} cases.", *tables, ""])


def table(family: str, members: list[Op], users: dict[str, list[str]]) -> str:
    """The heading and the rows of one family."""
    heading = f"\n## {FAMILIES[family]}\n"
    lines = [heading, "| op | what it is | kind | derivative | cases | used by |", "|---|---|---|---|---|---|"]
    for op in members:
        called = ", ".join(f"`{name}`" for name in users.get(op.name, []))
        lines.append(f"| `{op.name}` | {summary(op)} | {kind(op)} | {derivative(op)} | {len(op.cases)} | {called} |")
    return "\n".join(lines)


def family_of(op: Op) -> str:
    """The module that declares an op: the one that was loaded before others could import the op from it."""
    loaded = [name for name in vars(ops) if name in FAMILIES]  # a package gets a module's name once that has run
    return next(name for name in loaded if any(value is op for value in vars(getattr(ops, name)).values()))


def summary(op: Op) -> str:
    """The docstring's first paragraph on one line, with what Markdown would take for markup escaped."""
    text = " ".join(op.doc.strip().split("\n\n")[0].split())
    parts = text.replace("|", r"\|").split("`")
    parts[::2] = [part.replace("*", r"\*") for part in parts[::2]]
    return "`".join(parts) + (TAKES[op.accepts] if isinstance(op, Elementwise) else "")


def kind(op: Op) -> str:
    """See the page's head."""
    kinds: tuple[tuple[type[Op], str], ...] = (
        (Elementwise, "elementwise"),
        (Composite, "composite"),
        (StateOp, "state"),
    )
    return next((name for one, name in kinds if isinstance(op, one)), "primitive")


def derivative(op: Op) -> str:
    """See the page's head."""
    if isinstance(op, Composite):
        return "parts"
    declared = isinstance(op, Elementwise) or type(op).grad is not Op.grad
    return "own" if op.differentiable and declared else "-"


def functions_by_op() -> dict[str, list[str]]:
    """For each op the public functions that name it: in their code, or in what they close over."""
    found: dict[str, list[str]] = {}
    for prefix, module in (("tf", tf), ("tf.nn", tf.nn)):
        for name in sorted(module.__all__):
            function = getattr(module, name)
            if isinstance(function, types.FunctionType):
                for op in sorted(set(named_ops(function))):
                    found.setdefault(op, []).append(f"{prefix}.{name}")
    return found


def named_ops(function: types.FunctionType) -> Iterator[str]:
    """The ops that a function names."""
    yield from (c for c in function.__code__.co_consts if isinstance(c, str) and c in OPS)
    cells = function.__closure__ or ()
    yield from (cell.cell_contents.name for cell in cells if isinstance(cell.cell_contents, Op))


def main() -> None:
    """Write the page, or exit with 1 if `--check` finds it to be another."""
    parser = argparse.ArgumentParser(description="Write docs/ops.md from the declarations of the ops.")
    parser.add_argument("--check", action="store_true", help="write nothing; fail if the page is not current")
    if not parser.parse_args().check:
        PAGE.write_text(page(), encoding="utf-8")
    elif PAGE.read_text("utf-8") != page():
        sys.exit(f"{PAGE.name} is not what the declarations say: python scripts/make_ops_table.py")


if __name__ == "__main__":
    main()
