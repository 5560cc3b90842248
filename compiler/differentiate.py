"""Promises of gradients become the graph they promise.

Assumes: each promise's xs are marked inside its ys.  Guarantees: no promise and no mark is left.
Reverse-mode accumulation (Linnainmaa 1970), one sweep for all promises with the same ys; op rules are graphs, so that
a promise of a promise (a second derivative) is expanded inside out.
"""

from __future__ import annotations

from graphflow.compiler.program import Origin, Origins, TensorProgram, inherit
from graphflow.core.errors import InternalError
from graphflow.core.node import Node, make_node, topological
from graphflow.core.type import TensorType
from graphflow.ops.view import zeros_node


def differentiate(program: TensorProgram) -> TensorProgram:
    """The program without promises."""
    nodes = program.nodes()
    if not any(n.op.name in ("Promise", "Mark") for n in nodes):
        return program
    origins = dict(program.origins)
    expanded: dict[Node, Node] = {}
    sweeps: dict[tuple[Node, ...], dict[int, Node]] = {}
    tags = _wanted_tags(nodes)
    for node in nodes:
        inputs = tuple(expanded[x] for x in node.inputs)
        if node.op.name == "Promise":
            if inputs not in sweeps:
                sweeps[inputs] = sweep(inputs, tags, origins)
            expanded[node] = sweeps[inputs].get(node.attrs["tag"]) or zeros_node(node.type)
        else:
            expanded[node] = node if inputs == node.inputs else make_node(node.op, inputs, dict(node.attrs))
        inherit(origins, [expanded[node]], origins.get(node, ()))
    return _strip_marks(program.with_roots((expanded[r] for r in program.roots), origins))


def _wanted_tags(nodes: list[Node]) -> set[int]:
    return {n.attrs["tag"] for n in nodes if n.op.name == "Promise"}


def sweep(inputs: tuple[Node, ...], tags: set[int], origins: Origins) -> dict[int, Node]:
    """Gradients of sum(ys * gs) by tag; inputs are ys, then gs."""
    ys, gs = inputs[: len(inputs) // 2], inputs[len(inputs) // 2 :]
    order = topological(ys)
    active = _depends_on_marks(order, tags)
    cotangents: dict[Node, Node] = {}
    found: dict[int, Node] = {}
    for y, g in zip(ys, gs, strict=True):
        cotangents[y] = cotangents[y] + g if y in cotangents else g
    for node in reversed(order):
        g_ = cotangents.get(node)
        if g_ is None or node not in active:
            continue
        if node.op.name == "Mark":
            tag = node.attrs["tag"]
            found[tag] = found[tag] + g_ if tag in found else g_
        _pass_on(node, g_, active, cotangents, origins)
    return found


def _depends_on_marks(order: list[Node], tags: set[int]) -> set[Node]:
    active: set[Node] = set()
    for node in order:
        marked = node.op.name == "Mark" and node.attrs["tag"] in tags
        through = node.op.differentiable and node.dtype.is_floating and any(x in active for x in node.inputs)
        if marked or through:
            active.add(node)
    return active


def _pass_on(node: Node, g: Node, active: set[Node], cotangents: dict[Node, Node], origins: Origins) -> None:
    if not any(x in active for x in node.inputs):
        return
    parts = node.op.grad(g, node, *node.inputs, **node.attrs)
    parts = parts if isinstance(parts, tuple) else (parts,)
    origin = tuple(Origin(f"gradients/{o.name}", o.op, o.source) for o in origins.get(node, ())[:1])
    for x, part in zip(node.inputs, parts, strict=True):
        if part is None or x not in active:
            continue
        inherit(origins, [part], origin)
        _check(node, x.type, part)
        cotangents[x] = cotangents[x] + part if x in cotangents else part
        inherit(origins, [cotangents[x]], origin)


def _check(node: Node, expected: TensorType, part: Node) -> None:
    if part.type != expected:
        raise InternalError(f"internal error: the gradient of {node!r} is {part.type} where its input is {expected}")


def _strip_marks(program: TensorProgram) -> TensorProgram:
    origins = dict(program.origins)
    plain: dict[Node, Node] = {}
    for node in program.nodes():
        inputs = tuple(plain[x] for x in node.inputs)
        if node.op.name == "Mark":
            plain[node] = inputs[0]
        else:
            plain[node] = node if inputs == node.inputs else make_node(node.op, inputs, dict(node.attrs))
        inherit(origins, [plain[node]], origins.get(node, ()))
    return program.with_roots((plain[r] for r in program.roots), origins)
