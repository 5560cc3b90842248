"""Buffers: what they are (`BufferSpec`), which nodes have one before the run, and where a view finds its elements."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from graphflow.compiler.program import Origin
from graphflow.core.dim import estimate
from graphflow.core.dtype import DType
from graphflow.core.node import Node
from graphflow.core.type import Shape, TensorType

__all__ = ["BufferSpec", "base_of", "is_buffer", "is_large", "keeps_order", "same_elements"]

LARGE = 1 << 22
"""Bytes that no core's own cache holds from one kernel to the next."""


@dataclass(frozen=True)
class BufferSpec:
    """Memory of a node.  kind: feed (key: its number), variable (name), constant (array), output (number), arena.

    What is in the arena lives from the wave `first` to the wave `last`.
    """

    kind: str
    key: Any
    type: TensorType
    first: int = 0
    last: int = 0
    origin: Origin | None = field(default=None, compare=False)

    @property
    def dtype(self) -> DType:
        return self.type.dtype

    @property
    def shape(self) -> Shape:
        return self.type.dims


def is_buffer(node: Node) -> bool:
    """Whether a node's elements are in memory before the run: fed, a variable, an array constant."""
    return node.op.form == "memory" or (node.op.name == "Const" and node.type.size != 1)


def is_large(node: Node) -> bool:
    """Whether a node's elements come from memory each time that they are read."""
    return estimate(node.type.size) * node.dtype.size >= LARGE


def base_of(stored: Callable[[Node], bool]) -> Callable[[Node], Node | None]:
    """The function that finds the node whose buffer holds a node's elements in the same order."""

    def base(node: Node) -> Node | None:
        while True:
            if is_buffer(node) or stored(node):
                return node
            if node.op.name != "Reshape" or keeps_order(node):
                return None
            node = node.inputs[0]

    return base


def same_elements(node: Node) -> Node:
    """The node under reshapes."""
    while node.op.name == "Reshape":
        node = node.inputs[0]
    return node


def keeps_order(reshape: Node) -> bool:
    """Whether a reshape only adds or drops axes of size 1, so that its index rule is linear."""
    return [s for s in reshape.shape if s != 1] == [s for s in reshape.inputs[0].shape if s != 1]
