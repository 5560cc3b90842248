"""Padding around what a kernel computes is written beside it, not copied with it: a border of its own.

    Pad(Relu(Conv(...)), low=(0, 1, 1, 0), high=(0, 1, 1, 0))

    Concat(zeros, Concat(zeros, Relu(Conv(...)), zeros, axis=2), zeros, axis=1)

A convolution reads what is padded in memory, and a concatenation is computed in place (`assemble`): the first
convolution stores its results where the next one reads them.  What no kernel stores by itself (feeds, and what is
computed of them element by element) is copied with its padding, as before.

Assumes: a program whose pads are simplified.  Guarantees: the same values.
"""

from __future__ import annotations

from graphflow.compiler.buffers import is_buffer
from graphflow.compiler.program import TensorProgram
from graphflow.compiler.rewrite import substitute
from graphflow.compiler.stored import addressed
from graphflow.core.dim import Size
from graphflow.core.node import Node
from graphflow.ops.leaf import constant
from graphflow.ops.view import broadcast_to, concat

__all__ = ["border"]


def border(program: TensorProgram) -> TensorProgram:
    """The program with concatenations for pads that must be in memory, of what a kernel stores there."""
    nodes = program.nodes()
    in_memory, roots = addressed(nodes), frozenset(program.roots)
    pads = [node for node in nodes if node.op.name == "Pad" and node in in_memory and not any(node.attrs["interior"])]
    return substitute(program, {pad: _bordered(pad) for pad in pads if _is_stored(pad.inputs[0], roots)})


def _is_stored(x: Node, roots: frozenset[Node]) -> bool:
    """Whether x is the result of sums, with what is computed of it element by element, and no result of the program."""
    seen, stack = set[Node](), [x] if x not in roots else []
    while stack:
        node = stack.pop()
        if node.op.form in ("contraction", "reduction"):
            return True
        if node.op.form == "map" and not is_buffer(node) and node not in seen:
            seen.add(node)
            stack.extend(node.inputs)
    return False


def _bordered(pad: Node) -> Node:
    """A pad as concatenations: the last axis first, so that most of the border is in the largest pieces."""
    (x,) = pad.inputs
    for axis in reversed(range(pad.ndim)):
        before, after = (_piece(x, axis, pad.attrs[side][axis], pad.attrs["value"]) for side in ("low", "high"))
        if before or after:
            x = concat(*before, x, *after, axis=axis)
    return x


def _piece(like: Node, axis: int, size: Size, value: float) -> list[Node]:
    """So much of a border along an axis, if there is any."""
    shape = tuple(size if a == axis else n for a, n in enumerate(like.shape))
    return [] if size == 0 else [broadcast_to(constant(value, like.dtype), shape=shape)]
