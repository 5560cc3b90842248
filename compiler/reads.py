"""At which indices a group reads which nodes, in the variables of its own space or of one with an axis more."""

from __future__ import annotations

import re

from graphflow.core.dim import Size, Symbol, symbol
from graphflow.core.node import Node
from graphflow.core.type import Shape

__all__ = ["Reads", "is_own", "is_reduced", "reads_in", "walk_of"]

Reads = dict[Node, set[tuple[Size, ...]]]

REDUCTION = re.compile(r"\br\d+\b")
"""The variables of reductions, in a printed index."""


def reads_in(reads: Reads, own: Shape, space: Shape, row: int | None) -> Reads:
    """What is read by who works in a space `own`, with its axes named as the larger space has them."""
    return {node: _renamed(at, own, space, row) for node, at in reads.items()}


def walk_of(at: set[tuple[Size, ...]], own: Shape, space: Shape, row: int | None) -> set[tuple[str, ...]]:
    """Indices in a larger space, but for the names of reductions: that along a row is called like the row."""
    along = "r0" if row is None else f"i{row}"
    indices = _renamed(at, own, space, row)
    return {tuple(along if is_reduced(i) else REDUCTION.sub("r", str(i)) for i in index) for index in indices}


def _renamed(at: set[tuple[Size, ...]], own: Shape, space: Shape, row: int | None) -> set[tuple[Size, ...]]:
    if len(own) == len(space) or row is None or row == len(own):
        return at
    new = {f"i{n}": symbol(f"i{n + 1}") for n in range(row, len(own))}
    return {tuple(new.get(str(i), i) for i in index) for index in at}


def is_own(index: Size, axis: int) -> bool:
    """Whether an index is the kernel's own variable of an axis (or 0, where the axis has one element)."""
    return str(index) in (f"i{axis}", "0")


def is_reduced(index: Size) -> bool:
    """Whether an index is the variable of a reduction."""
    atoms = [] if isinstance(index, int) else list(index.terms)
    return (
        len(atoms) == 1
        and len(atoms[0][0]) == 1
        and isinstance(atoms[0][0][0], Symbol)
        and atoms[0][0][0].key[0] == "r"
    )
