"""`LearnedSizes`: which operation of a graph tells a run the size that a symbol stands for.

    y = x[1:]                             # x: [None]; how many there are of y, only a run can tell
    tf.random_uniform(tf.shape(y))        # has that size as an attribute, and y behind itself

A symbol of such a size begins with "?"; those of placeholders are known from what is fed.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from graphflow.core.dim import Dim, Symbol, atoms_of
from graphflow.framework.tensor import Operation

__all__ = ["LearnedSizes"]


class LearnedSizes:
    """The first operation with an output of each such size."""

    def __init__(self) -> None:
        self._told_by: dict[str, Operation] = {}

    def created(self, operation: Operation) -> None:
        for tensor in operation.outputs:
            for key in _learned_in(tensor.type_.shape):
                self._told_by.setdefault(key, operation)

    def behind(self, attrs: dict[str, Any]) -> tuple[Operation, ...]:
        """What has to be run before an operation with these attributes, so that their sizes are known."""
        found = [self._told_by[key] for value in attrs.values() for key in _learned_in(value) if key in self._told_by]
        return tuple(dict.fromkeys(found))


def _learned_in(value: Any) -> Iterator[str]:
    """The symbols in sizes that only a run can tell."""
    if isinstance(value, tuple):
        for part in value:
            yield from _learned_in(part)
    elif isinstance(value, Dim):
        yield from (a.key for a in atoms_of(value) if isinstance(a, Symbol) and a.key.startswith("?"))
