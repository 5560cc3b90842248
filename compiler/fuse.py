"""Who gets a buffer: nodes become groups, each of which will be one kernel; everything else is inlined.

Assumes: a simplified program.  Guarantees: a list of groups in an order that can run, whose outputs are exactly the
nodes that get buffers; each group's nodes without a buffer are computed inside of it.

Concatenations are computed in place where that is the better way (`assemble`).  Every node that is expensive to repeat
gets a buffer (`stored_nodes`), and with it a group of its own; then groups are merged (`Groups`).
"""

from __future__ import annotations

from dataclasses import dataclass

from graphflow.compiler.assemble import Assembly, assemble
from graphflow.compiler.buffers import is_buffer
from graphflow.compiler.groups import Groups
from graphflow.compiler.loops.lower import Group
from graphflow.compiler.program import TensorProgram
from graphflow.compiler.stored import stored_nodes
from graphflow.core.node import Node, make_node
from graphflow.core.op import OPS

__all__ = ["Fused", "fuse"]


@dataclass(frozen=True)
class Fused:
    """A program, what lies where in it, and its groups in an order that can run."""

    assembly: Assembly
    groups: tuple[Group, ...]

    @property
    def program(self) -> TensorProgram:
        return self.assembly.program


def fuse(program: TensorProgram) -> Fused:
    """Decide who gets a buffer."""
    assembly = assemble(_with_own_roots(program))
    stored = stored_nodes(assembly.program, [*assembly.parts, *assembly.places])
    groups = Groups(assembly, stored)
    groups.merge()
    return Fused(assembly, groups.finished())


def _with_own_roots(program: TensorProgram) -> TensorProgram:
    """Every output and update as a node of its own that a kernel computes: what is not gets copied."""
    seen: set[Node] = set()
    roots = []
    for n, root in enumerate(program.roots):
        own = root not in seen and not is_buffer(root) and root.op.name not in ("Const", "Reshape")
        node = root if own else make_node(OPS["Copy"], (root,), {"number": n})
        seen.add(node)
        roots.append(node)
    origins = dict(program.origins)
    for old, new in zip(program.roots, roots, strict=True):
        origins.setdefault(new, origins.get(old, ()))
    return program.with_roots(roots, origins)
