"""Where the elements of a node lie: `Place`, a part of a buffer with its strides.

>>> place_of(y)                                   y: float32[4, 6], in memory of its own
Place(whole=y, offset=0, strides=(6, 1))
>>> place_of(y).moved(axis=1, by=2)               y[:, 2:]
Place(whole=y, offset=2, strides=(6, 1))
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from graphflow.core.dim import Size
from graphflow.core.node import Node
from graphflow.core.type import Shape

__all__ = ["Place", "place_of", "within"]


@dataclass(frozen=True)
class Place:
    """Element i lies at offset + sum of i * strides in the buffer of `whole`."""

    whole: Node
    offset: Size
    strides: tuple[Size, ...]

    def at(self, index: tuple[Size, ...]) -> Size:
        """Where element `index` lies."""
        position = self.offset
        for i, stride in zip(index, self.strides, strict=True):
            position = i * stride + position
        return position

    def moved(self, axis: int, by: Size) -> Place:
        """The place of what starts so many steps further along an axis."""
        return replace(self, offset=self.strides[axis] * by + self.offset)

    def stepped(self, first: int, steps: tuple[int, ...]) -> Place:
        """The place of every s-th element along the axes from `first` on, s of `steps`."""
        strides = list(self.strides)
        for axis, step in enumerate(steps, first):
            strides[axis] = strides[axis] * step
        return replace(self, strides=tuple(strides))

    def is_dense(self, shape: Shape) -> bool:
        """Whether a node of this shape has its elements here one after the other."""
        wide = [(s, t) for s, t, size in zip(self.strides, row_major(shape), shape, strict=True) if size != 1]
        return all(s == t for s, t in wide)

    def reshaped(self, shape: Shape, to: Shape) -> Place | None:
        """The place of the same elements in another shape; None where they do not lie evenly in it."""
        if self.is_dense(shape):
            return replace(self, strides=row_major(to))
        kept = [(size, s) for size, s in zip(shape, self.strides, strict=True) if size != 1]
        if [size for size, _ in kept] != [size for size in to if size != 1]:
            return None
        strides = iter(s for _, s in kept)
        return replace(self, strides=tuple(1 if size == 1 else next(strides) for size in to))


def place_of(node: Node) -> Place:
    """The place of a node in a buffer of its own."""
    return Place(node, 0, row_major(node.shape))


def within(whole: Node, place: Place) -> Place:
    """The same place in the buffer of another node of the same shape."""
    return replace(place, whole=whole)


def row_major(shape: Shape) -> tuple[Size, ...]:
    """How far apart neighbours along each axis lie."""
    strides: list[Size] = []
    step: Size = 1
    for size in reversed(shape):
        strides.append(step)
        step = size * step
    return tuple(reversed(strides))
