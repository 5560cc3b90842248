"""A view in the language of Graphviz, name scopes as clusters. Writing it needs no Graphviz.

dot -Tpdf graph.dot > graph.pdf
"""

from __future__ import annotations

from collections.abc import Iterator

from graphflow.show.drawing import Box, Scope, View, Wire
from graphflow.show.palette import TONES, kind_of


def to_dot(view: View) -> str:
    """The view as one `digraph`: a cluster a scope, types on the edges, control dependencies dashed."""
    boxes = [view.boxes[k] for k in view.order]
    lines = [
        f"digraph {quoted(view.title)} {{",
        '  graph [fontname="Helvetica" fontsize=11 rankdir=TB nodesep=0.3 ranksep=0.5]',
        '  node [fontname="Helvetica" fontsize=11 shape=box style="rounded,filled"]',
        '  edge [fontname="Courier" fontsize=9 color="#7d8794" arrowsize=0.7]',
        *_clusters(boxes),
        *(_edge(wire) for wire in view.wires),
        "}",
    ]
    return "\n".join(lines) + "\n"


def _clusters(boxes: list[Box]) -> Iterator[str]:
    """Nodes inside nested `subgraph cluster…` blocks; every scope opens once, wherever the order visits it."""
    scoped = sorted(boxes, key=lambda box: box.scope)
    opened: Scope = ()
    for box in scoped:
        shared = 0
        while shared < min(len(opened), len(box.scope)) and opened[shared] == box.scope[shared]:
            shared += 1
        yield from ("  " * (depth + 1) + "}" for depth in range(len(opened) - 1, shared - 1, -1))
        for depth in range(shared, len(box.scope)):
            pad = "  " * (depth + 1)
            yield f"{pad}subgraph {quoted('cluster_' + '/'.join(box.scope[: depth + 1]))} {{"
            yield f'{pad}  graph [label={quoted(box.scope[depth])} labeljust=l style=rounded color="#c3cad3"]'
        opened = box.scope
        yield "  " * (len(opened) + 1) + _node(box)
    yield from ("  " * (depth + 1) + "}" for depth in range(len(opened) - 1, -1, -1))


def _node(box: Box) -> str:
    lines = [box.title, box.subtitle, box.detail, *box.members]
    label = "\\n".join(escaped(line) for line in lines if line)
    tone = TONES[kind_of(box.kind)]
    dashed = ' style="rounded,filled,dashed"' if box.kind == "control" else ""
    return f'{quoted(box.id)} [label="{label}" fillcolor="{tone.fill}" color="{tone.edge}"{dashed}]'


def _edge(wire: Wire) -> str:
    label = f"label={quoted(wire.label)}" if wire.label else ""
    style = "style=dashed" if wire.control else ""
    attributes = " ".join(part for part in (label, style) if part)
    return f"  {quoted(wire.source)} -> {quoted(wire.target)}" + (f" [{attributes}]" if attributes else "")


def escaped(text: str) -> str:
    """`text` inside a double-quoted DOT string."""
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def quoted(text: str) -> str:
    """`text` as a double-quoted DOT string."""
    return f'"{escaped(text)}"'
