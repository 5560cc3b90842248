"""Whether a program that was captured for some sizes is right for others: `broken_at(program, {"n0": 1})`.

A symbol has no truth value, so inference grants what it can't decide: that `x[-2:]` finds two rows, that a window fits.
This pass asks that of the sizes seen at capture, and the runtime of each set of sizes that is new to a program; where
the answer is a node, the run is compiled for numbers instead.

Assumes: gradients are expanded, and no rule has hidden a node behind a simpler one.
Guarantees: the program that it was given.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from graphflow.compiler.interpret import concrete
from graphflow.compiler.program import TensorProgram
from graphflow.core.dim import Dim, fed
from graphflow.core.node import Node, topological
from graphflow.core.type import NeedsStatic, ShapeError, TensorType, is_static
from graphflow.ops.gradient import promise_op

__all__ = ["broken_at", "conditions"]


def conditions(program: TensorProgram) -> TensorProgram:
    """The program itself; raises NeedsStatic if it is not right for the very sizes it was captured with."""
    sizes = {str(d): fed(d) for t in program.feeds for d in t.dims if isinstance(d, Dim)}
    node = broken_at(program, sizes) if sizes else None
    if node is None:
        return program
    raise NeedsStatic(_unknown_in(node)[0])


def broken_at(program: TensorProgram, sizes: Mapping[str, int]) -> Node | None:
    """The first node that these sizes make invalid or of another type; None where the program is right for them."""
    for node in topological(program.roots + program.declared):
        if node.op is not promise_op and _unknown_in(node) and not _holds(node, sizes):
            return node
    return None


def _holds(node: Node, sizes: Mapping[str, int]) -> bool:
    wanted = _at(node.type, sizes)
    if any(d < 0 for d in wanted.dims if isinstance(d, int)):
        return False
    if not node.inputs:
        return True
    attrs = {key: concrete(value, sizes) for key, value in node.attrs.items()}
    try:
        found = node.op.infer(*(_at(x.type, sizes) for x in node.inputs), **attrs)
    except ShapeError:
        return False
    return found == wanted and is_static(wanted.shape)


def _at(type_: TensorType, sizes: Mapping[str, int]) -> TensorType:
    return type_ if is_static(type_.shape) else type_.with_shape(concrete(type_.dims, sizes))


def _unknown_in(node: Node) -> list[Dim]:
    """The unknown sizes of a node: of its attributes first, which are likelier to be at fault."""
    found = []
    stack: list[Any] = [*node.attrs.values(), node.type.dims, *(x.type.dims for x in node.inputs)]
    for value in stack:
        if isinstance(value, tuple):
            stack.extend(value)
        elif isinstance(value, Dim):
            found.append(value)
    return found
