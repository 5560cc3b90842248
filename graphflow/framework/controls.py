"""The open `control_dependencies` blocks of a graph."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from graphflow.framework.tensor import Operation, Tensor

__all__ = ["ControlStack"]


class _Block:
    """One open block: what comes first, and what was declared within."""

    def __init__(self, first: tuple[Operation, ...]) -> None:
        self.first = first
        self.inside: set[Operation] = set()


class ControlStack:
    """Blocks from the outermost to the innermost; `cleared` hides the enclosing ones."""

    def __init__(self) -> None:
        self._blocks: list[_Block] = []

    def active(self) -> tuple[Operation, ...]:
        """What everything declared now comes after."""
        return tuple(dict.fromkeys(op for block in self._blocks for op in block.first))

    def of_inputs(self, inputs: tuple[Tensor, ...]) -> tuple[Operation, ...]:
        """The control inputs of an operation: a block adds none where an input of it was declared within that block."""
        if not self._blocks:
            return ()
        wanted: dict[Operation, None] = {}
        for block in self._blocks:
            if not any(x.op in block.inside for x in inputs):
                wanted.update(dict.fromkeys(block.first))
        direct = {x.op for x in inputs}
        return tuple(op for op in wanted if op not in direct)

    def created(self, operation: Operation) -> None:
        for block in self._blocks:
            block.inside.add(operation)

    @contextmanager
    def within(self, first: tuple[Operation, ...]) -> Iterator[None]:
        block = _Block(first)
        self._blocks.append(block)
        try:
            yield
        finally:
            self._blocks.remove(block)

    @contextmanager
    def cleared(self) -> Iterator[None]:
        saved, self._blocks = self._blocks, []
        try:
            yield
        finally:
            self._blocks = saved
