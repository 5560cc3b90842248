"""`facts_of`: what a kernel computes, for whom, and how much that is.

    facts = facts_of(step, plan.program.origins, {"n0": 128})
    facts.label                # "k1 MatMul Tanh"
    facts.sources              # ("train.py:8",)
    facts.flop, facts.work.bytes
    for part in facts.parts:   # the nodes that it computes, and which part of its time is theirs
        print(part.op, part.name, part.source, part.share)

A fused kernel has one time and many ops.  Its time is divided among them by what each would take one core at the least;
that is an estimate where everything else is counted.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from graphflow.compiler.layout import FLOPS_PER_NS, OPERATIONS_PER_NS
from graphflow.compiler.loops.work import Work, work_of
from graphflow.compiler.plan import PLUMBING, Step
from graphflow.compiler.program import Origin
from graphflow.core.dim import evaluate
from graphflow.core.node import Node
from graphflow.runtime.profile import dtype_of

__all__ = ["KernelFacts", "Part", "facts_of"]

UNNAMED = "(none)"


@dataclass(frozen=True)
class Part:
    """A node of a kernel: its op, the user's operation and line, its part of the time and its operations."""

    op: str
    name: str
    source: str
    share: float
    flop: float

    @property
    def scope(self) -> str:
        """The name scope of the user's operation; empty at the top."""
        return self.name.rpartition("/")[0]


@dataclass(frozen=True)
class KernelFacts:
    """A kernel as tables and traces show it."""

    name: str
    ops: tuple[str, ...]
    names: tuple[str, ...]
    sources: tuple[str, ...]
    dtype: str
    work: Work
    parts: tuple[Part, ...]

    @property
    def label(self) -> str:
        """The kernel and its ops."""
        return " ".join((self.name, *self.ops))

    @property
    def flop(self) -> int:
        """Operations of all kinds; of products a multiplication and an addition each."""
        return self.work.flops + self.work.operations


def facts_of(step: Step, origins: Mapping[Node, tuple[Origin, ...]], sizes: Mapping[str, int]) -> KernelFacts:
    """What there is to know of a kernel at these sizes; `origins` are those of the program's nodes."""
    work = work_of(step.kernel, sizes)
    parts = _parts(step, work, origins, sizes)
    found = step.origins or tuple(o for node in step.nodes for o in _origins(node, origins))
    names, sources = (
        tuple(dict.fromkeys(texts)) for texts in ([o.name for o in found], [str(o.source) for o in found])
    )
    return KernelFacts(step.kernel.name, step.ops, names, sources, dtype_of(step).name, work, parts)


def _parts(
    step: Step, work: Work, origins: Mapping[Node, tuple[Origin, ...]], sizes: Mapping[str, int]
) -> tuple[Part, ...]:
    nodes = [n for n in step.nodes if n.op.name not in PLUMBING] or list(step.nodes)
    products = max(sum(n.op.form == "contraction" for n in nodes), 1)
    flops = [work.flops / products if n.op.form == "contraction" else 0.0 for n in nodes]
    others = [0.0 if n.op.form == "contraction" else float(_operations(n, sizes)) for n in nodes]
    weights = [f / FLOPS_PER_NS + o / OPERATIONS_PER_NS for f, o in zip(flops, others, strict=True)]
    total, counted = sum(weights), sum(others)
    scale = work.operations / counted if counted else 0.0
    parts = []
    for node, f, o, weight in zip(nodes, flops, others, weights, strict=True):
        share = weight / total if total else 1 / len(nodes)
        origin = next(iter(_origins(node, origins)), None)
        name, source = (UNNAMED, UNNAMED) if origin is None else (origin.name, str(origin.source))
        parts.append(Part(node.op.name, name, source, share, f + o * scale))
    return tuple(parts)


def _origins(node: Node, origins: Mapping[Node, tuple[Origin, ...]]) -> tuple[Origin, ...]:
    """Whose a node is; a copy of ours is its input's."""
    while node not in origins and node.inputs:
        node = node.inputs[0]
    return origins.get(node, ())


def _operations(node: Node, sizes: Mapping[str, int]) -> int:
    """About how many scalar operations a node is; for what only moves elements, how many these are."""
    of = node.inputs[0] if node.op.form == "reduction" and node.inputs else node
    return max(int(node.op.cost), 1) * evaluate(of.type.size, sizes, default=True)
