"""Products of which only a part is read are computed only there.

    (A B)[:, 32:160]   becomes   A (B[:, 32:160])    where nobody reads the other columns

The gradient of a concatenation asks for it: of [x, h] W, as a recurrent cell computes it, only the part of h goes back.

Assumes: a simplified program.  Guarantees: the same values.
"""

from __future__ import annotations

from graphflow.compiler.program import TensorProgram
from graphflow.compiler.rewrite import substitute
from graphflow.core.node import Node
from graphflow.core.type import is_static
from graphflow.ops.contract import matmul
from graphflow.ops.view import strided_slice

Span = tuple[int, int]


def narrow(program: TensorProgram) -> TensorProgram:
    """The program with its products as narrow as their readers are."""
    readers: dict[Node, list[Node | None]] = {root: [None] for root in program.roots}
    for node in program.nodes():
        for x in set(node.inputs):
            readers.setdefault(x, []).append(node)
    narrowed: dict[Node, Node] = {}
    for node, read_by in readers.items():
        slices = [r for r in read_by if r is not None and r.op.name == "StridedSlice"]
        if node.op.name == "MatMul" and is_static(node.shape) and len(slices) == len(read_by):
            narrowed.update(_narrowed(node, slices))
    return substitute(program, narrowed)


def _narrowed(product: Node, slices: list[Node]) -> dict[Node, Node]:
    """What the slices of a product become; nothing where together they read all rows and columns."""
    rows, columns = _span(slices, -2), _span(slices, -1)
    if rows is None or columns is None or (rows, columns) == ((0, product.shape[-2]), (0, product.shape[-1])):
        return {}
    a, b = product.inputs
    transpose_a, transpose_b = bool(product.attrs["transpose_a"]), bool(product.attrs["transpose_b"])
    a = _cut(a, -1 if transpose_a else -2, rows)
    b = _cut(b, -2 if transpose_b else -1, columns)
    part = matmul(a, b, transpose_a=transpose_a, transpose_b=transpose_b)
    return {s: _moved(s, part, (rows[0], columns[0])) for s in slices}


def _span(slices: list[Node], axis: int) -> Span | None:
    """What slices read of an axis: from the first to behind the last; None where that is not known or nothing."""
    ends: list[int] = []
    for s in slices:
        begin, stride, count = (s.attrs[key][axis] for key in ("begin", "stride", "shape"))
        if not is_static((begin, stride, count)) or count == 0:
            return None
        ends += [begin, begin + stride * (count - 1)]
    return min(ends), max(ends) + 1


def _cut(x: Node, axis: int, span: Span) -> Node:
    """`x` from `span[0]` to `span[1]` along an axis; `x` itself where that is all."""
    axis %= x.ndim
    if span == (0, x.shape[axis]):
        return x
    begin = tuple(span[0] if n == axis else 0 for n in range(x.ndim))
    shape = tuple(span[1] - span[0] if n == axis else size for n, size in enumerate(x.shape))
    return strided_slice.node(x, begin=begin, stride=(1,) * x.ndim, shape=shape)


def _moved(old: Node, part: Node, start: Span) -> Node:
    """A slice of a product as a slice of its part that starts at (row, column)."""
    begin = (*old.attrs["begin"][:-2], *(b - s for b, s in zip(old.attrs["begin"][-2:], start, strict=True)))
    if old.shape == part.shape and not any(begin) and all(s == 1 for s in old.attrs["stride"]):
        return part
    return strided_slice.node(part, begin=begin, stride=old.attrs["stride"], shape=old.shape)
