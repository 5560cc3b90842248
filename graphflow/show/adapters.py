"""From graphs to views: `view_of_user_graph` for what a user declares, `view_of_program` for level 1 of the compiler.

Graphs are read by their attributes only, so that drawing depends on none of the modules that it draws.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from graphflow.show.drawing import Box, Scope, View, Wire

KIND_OF_OP: dict[str, str] = {
    "Placeholder": "input",
    "Feed": "input",
    "PlaceholderWithDefault": "input",
    "Const": "constant",
    "Variable": "variable",
    "VariableV2": "variable",
    "VarHandleOp": "variable",
    "NoOp": "control",
}
STATE_PREFIXES = ("Assign", "Apply", "ResourceApply", "Scatter", "SparseApply", "Update")
HIDDEN_ATTRS = {"type", "dtype", "feed", "variable", "number", "name", "T"}
LONGEST_VALUE = 40


def view_of_user_graph(graph_or_tensors: Any, title: str = "user graph") -> View:
    """The operations of a graph; or those that the given tensors, operations and variables need, which become outputs.

    Raises TypeError for what is neither.
    """
    if hasattr(graph_or_tensors, "get_operations"):
        operations, fetched = list(graph_or_tensors.get_operations()), set()
    else:
        roots = [_operation(element_of(leaf)) for leaf in leaves_of(graph_or_tensors)]
        operations, fetched = needed_by(roots), {op.name for op in roots}
    scopes = _scopes({op.name: op.type for op in operations})
    boxes = tuple(_box(op, scopes[op.name], op.name in fetched) for op in operations)
    wires = []
    for op in operations:
        wires += [Wire(x.op.name, op.name, type_text(x)) for x in op.inputs]
        wires += [Wire(c.name, op.name, "", True) for c in op.control_inputs]
    return View(title, boxes, tuple(wires), f"{len(boxes)} operation{'s' * (len(boxes) != 1)}")


def leaves_of(tree: Any) -> list[Any]:
    """What stands in nested lists, tuples and dicts, in order."""
    leaves, stack = [], [tree]
    while stack:
        item = stack.pop()
        if isinstance(item, Mapping):
            stack.extend(reversed(list(item.values())))
        elif isinstance(item, list | tuple):
            stack.extend(reversed(item))
        elif item is not None:
            leaves.append(item)
    return leaves


def element_of(leaf: Any) -> Any:
    """The tensor or operation that a leaf is; TypeError for what is neither nor stands for one."""
    convert = getattr(leaf, "_as_graph_element", None)
    element = leaf if convert is None else convert()
    if not hasattr(_operation(element), "control_inputs"):
        raise TypeError(f"show wants a graph, tensors or operations, not {type(leaf).__name__}")
    return element


def _operation(element: Any) -> Any:
    """The operation that an element is, or that makes it."""
    return element if hasattr(element, "control_inputs") else getattr(element, "op", None)


def needed_by(roots: Iterable[Any]) -> list[Any]:
    """The operations that `roots` depend on, themselves included, in the order of their declaration where known."""
    seen: dict[int, Any] = {}
    stack = list(roots)
    while stack:
        op = stack.pop()
        if id(op) not in seen:
            seen[id(op)] = op
            stack.extend(op.control_inputs)
            stack.extend(x.op for x in op.inputs)
    return sorted(seen.values(), key=lambda op: getattr(op, "id", 0))


def _scopes(types: Mapping[str, str]) -> dict[str, Scope]:
    """The scopes to draw around each name.

    Names nest in operations, too: `w/Assign` in `w`, `add/y` in `add`. An operation with more than constants below
    it stands in the scope of its own name; constants alone stand beside it.
    """
    more = set()
    for name, op in types.items():
        if op != "Const":
            more.update(_prefixes(name))
    scopes = {}
    for name in types:
        path = _prefixes(name)
        inner = [*path, name] if name in more else [p for p in path if p not in types or p in more]
        scopes[name] = tuple(_step(inner, k) for k in range(len(inner)))
    return scopes


def _step(prefixes: Sequence[str], k: int) -> str:
    """The part of a path that one prefix adds to the one before."""
    return prefixes[k][len(prefixes[k - 1]) + 1 :] if k else prefixes[0]


def _prefixes(name: str) -> list[str]:
    """`a`, `a/b` for `a/b/c`; empty parts are no scopes."""
    parts = name.split("/")[:-1]
    return ["/".join(parts[: k + 1]) for k in range(len(parts)) if parts[k]]


def _box(op: Any, scope: Scope, fetched: bool) -> Box:
    inside = "/".join(scope) + "/"
    label = op.name[len(inside) :] if op.name.startswith(inside) else ""
    kind = "output" if fetched else kind_of_op(op.type)
    detail = attributes(getattr(op, "attrs", {}))
    if kind == "constant" and "/" in (label or op.name) and detail:
        label = detail  # an operand such as the 2.0 of `2.0 * x`: its value says more than the name it was given
    types = ", ".join(type_text(x) for x in getattr(op, "outputs", ()))
    return Box(op.name, op.type, scope, label, detail, _where(op), kind, (), types)


def kind_of_op(op: str) -> str:
    """The kind of box for an op type."""
    if op in KIND_OF_OP:
        return KIND_OF_OP[op]
    return "state" if op.startswith(STATE_PREFIXES) else "op"


def type_text(x: Any) -> str:
    """`float32[?, 128]` for anything with dtype and shape; sizes that are not known before a run are `?`."""
    shape = getattr(getattr(x, "type_", x), "shape", None)
    dtype = getattr(x.dtype, "name", x.dtype)
    if shape is None:
        return f"{dtype}[…]"
    return f"{dtype}[{', '.join(_size(size) for size in shape)}]"


def _size(size: Any) -> str:
    size = getattr(size, "value", size)
    return str(size) if isinstance(size, int) else "?"


def attributes(attrs: Mapping[str, Any]) -> str:
    """`perm=(1, 0)`; of a constant only the value."""
    if set(attrs) - HIDDEN_ATTRS == {"value"}:
        return value_text(attrs["value"])
    return ", ".join(f"{key}={value_text(value)}" for key, value in attrs.items() if key not in HIDDEN_ATTRS)


def value_text(value: Any) -> str:
    """A constant or attribute on one short line."""
    text = " ".join(_plain(getattr(value, "value", value)).split())
    return text if len(text) <= LONGEST_VALUE else text[: LONGEST_VALUE - 1] + "…"


def _plain(value: Any) -> str:
    """The number of an array with one; sizes as they print, `n0` and not `Dim(n0)`, in tuples too."""
    if isinstance(value, tuple):
        return f"({', '.join(map(_plain, value))}{',' * (len(value) == 1)})"
    if hasattr(value, "terms"):
        return str(value)
    if getattr(value, "shape", None) == ():
        return str(value)  # the shortest that is this number in its dtype: 0.1, not 0.10000000149011612
    return repr(value)


def _where(op: Any) -> str:
    source = getattr(op, "source", None)
    return str(source) if source is not None and source.line else ""


def view_of_program(title: str, program: Any, note: str = "") -> View:
    """A level-1 program (`graphflow.compiler.program.TensorProgram`): its nodes with the numbers of its printed form.

    Origins place the nodes in the user's scopes. What is fetched becomes an output; what a variable gets becomes an
    update, in the scope of what computes it.
    """
    nodes = program.nodes()
    number = {node: f"%{k}" for k, node in enumerate(nodes)}
    boxes = [_node_box(node, number[node], program.origins.get(node, ())) for node in nodes]
    wires = [Wire(number[x], number[node], str(x.type)) for node in nodes for x in node.inputs]
    ends = [(f"fetch {k}", "Fetch", "output", node) for k, node in enumerate(program.outputs)]
    ends += [(f"{name} :=", "Store", "state", node) for name, node in program.updates]
    scopes = {box.id: box.scope for box in boxes}
    for end, op, kind, node in ends:
        scope = scopes[number[node]] if kind == "state" else ()
        boxes.append(Box(end, op, scope, end, "", "", kind, (), str(node.type)))
        wires.append(Wire(number[node], end, str(node.type)))
    return View(title, tuple(boxes), tuple(wires), note or f"{len(nodes)} nodes", str(program))


def _node_box(node: Any, number: str, origins: Sequence[Any]) -> Box:
    """A node under the name of its op; constants under their value, feeds and variables under the name they have."""
    name = str(node.attrs.get("variable", "")) or (origins[0].name if origins else "")
    where = str(origins[0].source) if origins and origins[0].source.line else ""
    kind, detail = kind_of_op(node.op.name), attributes(node.attrs)
    leaf = name.split("/")[-1] if kind in ("input", "variable") else ""
    leaf = leaf or (f"feed {node.attrs['feed']}" if "feed" in node.attrs else "")
    label = detail if kind == "constant" and detail else leaf or node.op.name
    scope = tuple(part for part in name.split("/")[:-1] if part)
    return Box(number, node.op.name, scope, label, detail, where, kind, (), str(node.type))
