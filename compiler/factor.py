"""Sums of products that share a factor: the factor is taken out of the sum.

    a1 g + a2 g + ... + b1 h + b2 h + ...   is   (a1 + a2 + ...) g + (b1 + b2 + ...) h

The gradient of a weight below a mean over positions asks for it, A' G, where all positions of an example have the same
row in G: instead of a product for each position there is an addition, and a product for each example.

Infinities and NaN are where they would be.  A sum of the factors alone would have lost one thing: where g is infinite,
a1 g + a2 g is NaN if the signs of a1 and a2 differ or one is zero, and (a1 + a2) g need not be.  So there are two
sums, of the positive and of the negative numbers, or twice half of one where all have one sign; and they are of numbers
scaled down by a power of two, so that what overflows does so in the products.  Halves of numbers of one sign are not
zero, however small these are, though sums that are less than the scale times the least normal number may be flushed.

Assumes: a simplified program.  Guarantees: the same values up to the order of a float sum.
"""

from __future__ import annotations

import numpy as np

from graphflow.compiler.program import TensorProgram
from graphflow.compiler.rewrite import rewrite
from graphflow.compiler.rules_contract import repeated_rows
from graphflow.core.dim import product
from graphflow.core.node import Node
from graphflow.ops.contract import matmul
from graphflow.ops.elementwise import greater, less, logical_or, maximum, minimum, select
from graphflow.ops.reduce import reduce_max, reduce_min, reduce_sum
from graphflow.ops.view import concat, reshape

LEAST = 8
"""So many copies of a factor at the least: each takes an addition, and what is left of the product is twice as long."""


def factor(program: TensorProgram) -> TensorProgram:
    """The program with common factors taken out of its sums of products."""
    return rewrite(program, _factored, "factor")


def _factored(node: Node) -> Node | None:
    """A' B, where rows of B are copies, as a product of B's rows without copies; None where there are too few."""
    if node.op.name != "MatMul" or node.ndim != 2 or not node.dtype.is_floating:
        return None
    a, b = node.inputs
    found = repeated_rows(b)
    if found is None or not node.attrs.get("transpose_a", False) or node.attrs.get("transpose_b", False):
        return None
    x, rows, wide = found
    axes = tuple(n for n, size in enumerate(wide) if rows[n] != size)
    copies = product(tuple(wide[n] for n in axes))
    if not isinstance(copies, int) or copies < LEAST:
        return None
    (m, n), few = node.shape, product(rows)
    scale = 2.0 ** (copies - 1).bit_length()
    positive, negative = (reshape(s, shape=(few, m)) for s in _sums(reshape(a, shape=(*wide, m)), scale, axes))
    once = reshape(x, shape=(few, n))
    sums, factors = concat(positive, negative, axis=0), concat(once, once, axis=0)
    return matmul(sums, factors, transpose_a=True, transpose_b=False) * scale  # type: ignore[no-any-return]


def _sums(a: Node, scale: float, axes: tuple[int, ...]) -> tuple[Node, Node]:
    """The sums over axes of what is positive and of what is negative, scaled down; where all is one, half of the sum
    and again."""
    positive, negative = (reduce_sum(part(a * (1 / scale), 0), axes=axes) for part in (maximum, minimum))
    above, below = greater(reduce_min(a, axes=axes), 0), less(reduce_max(a, axes=axes), 0)
    half, least = (positive + negative) * 0.5, float(np.finfo(a.dtype.name).tiny)
    signed = select(above, maximum(half, least), minimum(half, -least))
    one_sign = logical_or(above, below)
    return select(one_sign, signed, positive), select(one_sign, signed, negative)
