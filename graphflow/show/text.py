"""A view as text: one aligned line an op, in an order in which every op follows its inputs.

user graph (6 nodes)
x         Placeholder  float32[batch, 784]  train.py:3
layer1/
  w       Variable     float32[784, 128]    train.py:6
  MatMul  MatMul       float32[batch, 128]  train.py:7  x, layer1/w  transpose_b=True
"""

from __future__ import annotations

import unicodedata

from graphflow.show.drawing import Box, Scope, View

INDENT = "  "
WIDEST = 48  # columns; a longer cell moves only its own line


def to_text(view: View) -> str:
    """The view, an op a line: name, op type, result type, the user's line, inputs and attributes; ends in a newline."""
    heading = f"{view.title} ({view.note or f'{len(view.boxes)} nodes'})"
    inputs = _inputs(view)
    rows: list[list[str]] = []
    scope: Scope = ()
    for k in view.order:
        box = view.boxes[k]
        rows += [[header] for header in _headers(scope, box.scope)]
        scope = box.scope
        rows.append(_cells(box, inputs[k]))
        rows += [[f"{INDENT * (len(scope) + 2)}{member}"] for member in box.members]
    return "\n".join([heading, *_aligned(rows)]) + "\n"


def _inputs(view: View) -> list[list[str]]:
    inputs: list[list[str]] = [[] for _ in view.boxes]
    for wire in view.wires:
        inputs[view.number[wire.target]].append(f"^{wire.source}" if wire.control else wire.source)
    return inputs


def _headers(old: Scope, new: Scope) -> list[str]:
    """A line for each scope that opens between two neighbours."""
    shared = 0
    while shared < min(len(old), len(new)) and old[shared] == new[shared]:
        shared += 1
    return [f"{INDENT * depth}{new[depth]}/" for depth in range(shared, len(new))]


def _cells(box: Box, inputs: list[str]) -> list[str]:
    reads = "  ".join(part for part in (", ".join(inputs), box.detail) if part)
    return [f"{INDENT * len(box.scope)}{_name(box)}", box.op, box.type, box.where, reads]


def _name(box: Box) -> str:
    """The name by which other lines refer to the box, without the scope above it; and its label if that says more."""
    name = box.id.removeprefix("/".join(box.scope) + "/")
    return name if box.label in ("", name, box.op, box.detail) else f"{name} {box.label}"


def _aligned(rows: list[list[str]]) -> list[str]:
    full = [row for row in rows if len(row) > 1]
    widths = [min(WIDEST, max((columns(cell) for cell in column), default=0)) for column in zip(*full, strict=True)]
    lines = []
    for row in rows:
        padded = [cell + " " * (width - columns(cell)) for cell, width in zip(row, widths, strict=False) if width]
        lines.append(("  ".join(padded) if len(row) > 1 else row[0]).rstrip())
    return lines


def columns(text: str) -> int:
    """How many columns of a terminal `text` fills: East Asian wide characters two, combining marks none."""
    if text.isascii():
        return len(text)
    wide = sum(unicodedata.east_asian_width(char) in "WF" for char in text)
    return len(text) + wide - sum(bool(unicodedata.combining(char)) for char in text)
