"""Sums of many products become one, computed in place; the values stay."""

import numpy as np
import pytest

from graphflow.compiler.fuse import fuse
from graphflow.compiler.join import join
from graphflow.compiler.plan import plan
from graphflow.compiler.program import TensorProgram, verify
from graphflow.compiler.simplify import simplify
from graphflow.core.dtype import float64
from graphflow.core.type import TensorType
from graphflow.ops.contract import matmul
from graphflow.ops.elementwise import tanh
from graphflow.ops.reduce import reduce_sum
from graphflow.ops.state import feed_node
from tests.harness import check

ROWS, WIDE, NARROW = 5, 7, 6


def fed(number, *shape):
    return feed_node(number, TensorType(float64, shape))


def steps(count):
    return [(tanh(fed(2 * n, ROWS, WIDE)), tanh(fed(2 * n + 1, ROWS, NARROW))) for n in range(count)]


def product(a, g):
    return matmul(a, g, transpose_a=True, transpose_b=False)


def total(terms):
    result = terms[0]
    for term in terms[1:]:
        result = result + term
    return result


def program(count, outputs):
    feeds = tuple(TensorType(float64, (ROWS, width)) for _ in range(count) for width in (WIDE, NARROW))
    return TensorProgram(feeds, outputs)


def values(p):
    rng = np.random.default_rng(1)
    return [rng.standard_normal(t.dims) for t in p.feeds]


def ops(p):
    return [n.op.name for n in p.nodes()]


@pytest.mark.parametrize("count", [3, 4, 9])
def test_products_are_joined_and_nothing_is_copied(count):
    pairs = steps(count)
    before = program(count, (total([product(a, g) for a, g in pairs]),))
    after = join(simplify(before))
    verify(after)
    assert ops(after).count("MatMul") == 1
    fused = fuse(after)
    assert len(fused.assembly.places) == 2 * count
    assert not any("Concat" in step.ops for step in plan(fused).steps if step.kernel.contract is None)
    check(after, values(after))


def test_row_sums_are_joined_with_the_products_they_share_pieces_with():
    pairs = steps(4)
    outputs = (total([product(a, g) for a, g in pairs]), total([reduce_sum(g, axes=(0,)) for _, g in pairs]))
    after = join(simplify(program(4, outputs)))
    assert ops(after).count("MatMul") == 1
    assert ops(after).count("ReduceSum") == 1
    assert ops(after).count("Concat") == 2
    check(after, values(after))


def test_two_products_stay():
    (a, g), (b, h) = steps(2)
    before = simplify(program(2, (product(a, g) + product(b, h),)))
    assert join(before) is before


def test_products_that_others_read_stay():
    pairs = steps(3)
    terms = [product(a, g) for a, g in pairs]
    before = simplify(program(3, (total(terms), *terms)))
    assert join(before) is before


def test_other_terms_are_added_as_they_are():
    pairs = steps(4)
    extra = tanh(fed(8, WIDE, NARROW))
    outputs = (total([extra, *(product(a, g) for a, g in pairs)]),)
    feeds = (*program(4, ()).feeds, TensorType(float64, (WIDE, NARROW)))
    after = join(simplify(TensorProgram(feeds, outputs)))
    assert ops(after).count("MatMul") == 1
    check(after, values(after))


def test_pieces_of_fed_values_are_copied():
    pairs = [(fed(2 * n, ROWS, WIDE), fed(2 * n + 1, ROWS, NARROW)) for n in range(3)]
    after = join(simplify(program(3, (total([product(a, g) for a, g in pairs]),))))
    assert {node.op.name for node in fuse(after).assembly.places} == {"Copy"}
    check(after, values(after))


def test_long_chains_do_not_recurse():
    pairs = steps(3)
    chain = total([product(a, g) for a, g in pairs])
    for _ in range(3000):
        chain = tanh(chain)
    assert ops(join(program(3, (chain,)))).count("MatMul") == 1
