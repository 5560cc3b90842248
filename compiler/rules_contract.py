"""Rules for sums of products: what of a product is a view of a smaller one, or of its factors.

The table at the end has a row for each.

A function here takes a node and returns what it is equal to, as in rules.py, or None: the same sums of the same
products.  In which order a contraction adds up is nobody's promise, and may change with its sizes.
"""

from __future__ import annotations

from graphflow.compiler.rewrite import Rule
from graphflow.core.dim import product
from graphflow.core.node import Node, make_node
from graphflow.core.op import broadcast_node
from graphflow.core.type import Shape
from graphflow.ops.view import reshape

__all__ = ["CONTRACT", "repeated_rows"]


def transposed_factor(node: Node) -> Node | None:
    """A product reads a factor with its last two axes exchanged by itself."""
    factors = list(node.inputs)
    flags = [bool(node.attrs.get(key, False)) for key in ("transpose_a", "transpose_b")]
    for n, x in enumerate(node.inputs):
        if x.op.name == "Transpose" and x.attrs["perm"] == (*range(x.ndim - 2), x.ndim - 1, x.ndim - 2):
            factors[n], flags[n] = x.inputs[0], not flags[n]
    if factors == list(node.inputs):
        return None
    return make_node(node.op, factors, {"transpose_a": flags[0], "transpose_b": flags[1]})


def product_of_repeated_rows(node: Node) -> Node | None:
    """Rows that are the same have the same product, which is computed once.

    The gradient of a mean over positions is such a factor: MatMul(Reshape(BroadcastTo(g: [8, 1, k], [8, 128, k]),
    [1024, k]), b) is Reshape(BroadcastTo(MatMul(g: [8, k], b) as [8, 1, n], [8, 128, n]), [1024, n]).
    """
    a, b = node.inputs
    found = None if node.ndim != 2 or node.attrs.get("transpose_a", False) else repeated_rows(a)
    if found is None:
        return None
    x, rows, wide = found
    few = make_node(node.op, (reshape.node(x, shape=(product(rows), a.shape[-1])), b), dict(node.attrs))
    n = node.shape[-1]
    many = broadcast_node(reshape.node(few, shape=(*rows, n)), (*wide, n))
    return reshape.node(many, shape=node.shape)


def repeated_rows(matrix: Node) -> tuple[Node, Shape, Shape] | None:
    """What a matrix repeats rows of, the axes of these rows, and the same axes with the copies in it; None if it has no
    copies.

    Of Reshape(BroadcastTo(g: [8, 1, k], [8, 128, k]), [1024, k]) it is g, (8, 1) and (8, 128).
    """
    wide, k = matrix.inputs[0] if matrix.op.name == "Reshape" else matrix, matrix.shape[-1:]
    if wide.op.name != "BroadcastTo":
        return None
    x = wide.inputs[0]
    rows = (*[1] * (wide.ndim - x.ndim), *x.shape[:-1])
    if wide.shape[-1:] != k or x.shape[-1:] != k or rows == wide.shape[:-1]:
        return None
    return x, rows, wide.shape[:-1]


CONTRACT = (
    Rule.of("MatMul", transposed_factor),
    Rule.of("MatMul", product_of_repeated_rows),
)
