"""Sums of many products become one product: A1' B1 + A2' B2 + ... is [A1; A2; ...]' [B1; B2; ...].

That is what the gradient of a weight is that is used at every time step.  The pieces are written where the long matrix
has them (`fuse`, assembled), so nothing is copied, and one long product runs at the speed of a large one.  Sums over
the rows of pieces are joined likewise.

Sums of pads that do not meet, which is what the gradients of slices are, become a concatenation.

Assumes: a simplified program.  Guarantees: the same values up to the order of a float sum.
"""

from __future__ import annotations

from graphflow.compiler.program import TensorProgram
from graphflow.compiler.rewrite import substitute
from graphflow.core.node import Node
from graphflow.core.type import TensorType, is_static, static
from graphflow.ops.contract import matmul
from graphflow.ops.reduce import reduce_sum
from graphflow.ops.view import concat, zeros_node

LEAST = 3
"""From this many terms on they are joined."""


def join(program: TensorProgram) -> TensorProgram:
    """The program with its long sums of products joined."""
    nodes = program.nodes()
    uses: dict[Node, int] = dict.fromkeys(program.roots, 2)
    for node in nodes:
        for x in node.inputs:
            uses[x] = uses.get(x, 0) + 1
    inner = {x for n in nodes if n.op.name == "Add" for x in n.inputs if x.op.name == "Add" and uses[x] == 1}
    joined = {n: new for n in nodes if n.op.name == "Add" and n not in inner and (new := _joined(n, uses)) is not None}
    return substitute(program, joined)


def _joined(root: Node, uses: dict[Node, int]) -> Node | None:
    """A sum with its products joined; None where there are too few."""
    families: dict[object, list[Node]] = {}
    for term in _terms(root, uses):
        families.setdefault(_family(term, uses), []).append(term)
    parts: list[Node] = []
    for family, terms in families.items():
        one = None if family is None else _one(terms)
        parts += terms if one is None else [one]
    if len(parts) == sum(map(len, families.values())):
        return None
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    return total


def _terms(root: Node, uses: dict[Node, int]) -> list[Node]:
    """What a tree of additions adds up, left to right."""
    found: list[Node] = []
    stack = [root]
    while stack:
        node = stack.pop()
        if node.op.name == "Add" and (node is root or uses[node] == 1):
            stack.extend(reversed(node.inputs))
        else:
            found.append(node)
    return found


def _family(term: Node, uses: dict[Node, int]) -> object:
    """Terms of one family can be joined; None for what can't."""
    if uses[term] != 1 or not all(is_static(x.shape) for x in term.inputs):
        return None
    flags = [term.attrs.get(key, False) for key in ("transpose_a", "transpose_b")]
    if term.op.name == "MatMul" and term.ndim == 2 and flags == [True, False]:
        return ("MatMul", term.type)
    if term.op.name == "ReduceSum" and term.attrs["axes"] == (0,) and term.inputs[0].ndim == 2:
        return ("ReduceSum", term.type)
    if term.op.name == "Pad" and (axis := _padded_axis(term)) is not None:
        return ("Pad", term.type, axis)
    return None


def _one(terms: list[Node]) -> Node | None:
    """Terms of one family as one node; None where that does not pay."""
    if terms[0].op.name == "Pad":
        return _side_by_side(terms)
    if len(terms) < LEAST:
        return None
    whole = [concat(*column, axis=0) for column in zip(*(t.inputs for t in terms), strict=True)]
    if terms[0].op.name == "MatMul":
        return matmul(*whole, transpose_a=True, transpose_b=False)  # type: ignore[no-any-return]
    return reduce_sum(whole[0], axes=(0,))  # type: ignore[no-any-return]


def _padded_axis(node: Node) -> int | None:
    """The one axis along which zeros are added, before and after only, as many as is known."""
    attrs = node.attrs
    if not is_static((*node.shape, *attrs["low"], *attrs["high"])):
        return None
    axes = [a for a in range(node.ndim) if attrs["low"][a] != 0 or attrs["high"][a] != 0]
    return axes[0] if len(axes) == 1 and not any(attrs["interior"]) and attrs["value"] == 0 else None


def _side_by_side(terms: list[Node]) -> Node | None:
    """The sum of pads along one axis as a concatenation; None if they meet, or if most of it is zeros."""
    axis = _padded_axis(terms[0])
    assert axis is not None
    terms = sorted(terms, key=lambda t: t.attrs["low"][axis])
    size, covered = static(terms[0].shape[axis]), sum(static(t.inputs[0].shape[axis]) for t in terms)
    pieces: list[Node] = []
    end = 0
    for term in terms:
        low, x = static(term.attrs["low"][axis]), term.inputs[0]
        if low < end:
            return None
        pieces += [*_zeros(x, axis, low - end), x]
        end = low + static(x.shape[axis])
    if len(terms) < 2 or 2 * covered < size or end > size:
        return None
    return concat(*pieces, *_zeros(terms[0], axis, size - end), axis=axis)  # type: ignore[no-any-return]


def _zeros(like: Node, axis: int, size: int) -> list[Node]:
    """A piece of zeros, if there is room for it."""
    shape = tuple(size if a == axis else s for a, s in enumerate(like.shape))
    return [zeros_node(TensorType(like.dtype, shape))] if size else []
