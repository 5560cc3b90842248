"""Products are computed only where they are read; the values stay."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphflow.compiler.interpret import interpret
from graphflow.compiler.narrow import narrow
from graphflow.compiler.program import TensorProgram, verify
from graphflow.core.dtype import float64
from graphflow.core.type import TensorType
from graphflow.ops.contract import matmul
from graphflow.ops.elementwise import tanh
from graphflow.ops.state import feed_node
from graphflow.ops.view import strided_slice

M, K, N = 5, 4, 7


def factors(transpose_a, transpose_b, batch=()):
    shapes = ((K, M) if transpose_a else (M, K), (N, K) if transpose_b else (K, N))
    types = tuple(TensorType(float64, (*batch, *shape)) for shape in shapes)
    a, b = (feed_node(n, t) for n, t in enumerate(types))
    return types, matmul(a, b, transpose_a=transpose_a, transpose_b=transpose_b)


def cut(x, rows, columns):
    """Slices by (begin, step, count) of the last two axes."""
    whole = [(0, 1, size) for size in x.shape[:-2]]
    begin, stride, shape = zip(*whole, rows, columns, strict=True)
    return strided_slice.node(x, begin=begin, stride=stride, shape=shape)


def products(program):
    return [n for n in program.nodes() if n.op.name == "MatMul"]


def check_same(before, after):
    verify(after)
    rng = np.random.default_rng(0)
    feeds = [rng.standard_normal(t.dims) for t in before.feeds]
    for want, got in zip(interpret(before, feeds, {})[0], interpret(after, feeds, {})[0], strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-13, atol=1e-13)


def part(size):
    """(begin, step, count) of a part of an axis; steps may be negative."""
    return st.tuples(st.integers(0, size - 1), st.integers(0, size - 1), st.sampled_from([1, 2, -1])).map(
        lambda t: (max(t[:2]) if t[2] < 0 else min(t[:2]), t[2], abs(t[0] - t[1]) // abs(t[2]) + 1)
    )


@given(
    st.booleans(),
    st.booleans(),
    st.sampled_from([(), (2,)]),
    st.lists(st.tuples(part(M), part(N)), min_size=1, max_size=3),
)
def test_values_stay_and_nothing_unread_is_computed(transpose_a, transpose_b, batch, parts):
    types, product = factors(transpose_a, transpose_b, batch)
    before = TensorProgram(types, tuple(tanh(cut(product, *p)) for p in parts))
    after = narrow(before)
    check_same(before, after)
    for axis, size in ((-2, M), (-1, N)):
        ends = [end for p in parts for b, s, c in [p[axis]] for end in (b, b + s * (c - 1))]
        assert [p.shape[axis] for p in products(after)] == [max(ends) - min(ends) + 1], size


def test_products_that_read_each_other_are_all_narrowed():
    types = (TensorType(float64, (M, N)), TensorType(float64, (K, N)), TensorType(float64, (N - 2, N)))
    x, w, v = (feed_node(n, t) for n, t in enumerate(types))
    first = cut(matmul(x, w, transpose_a=False, transpose_b=True), (0, 1, M), (1, 1, K - 1))
    second = matmul(tanh(first), cut(v, (0, 1, K - 1), (0, 1, N)), transpose_a=False, transpose_b=False)
    before = TensorProgram(types, (cut(second, (0, 1, M), (2, 1, 3)),))
    after = narrow(before)
    check_same(before, after)
    assert sorted(p.shape for p in products(after)) == [(M, 3), (M, K - 1)]


@pytest.mark.parametrize("read", ["fetched", "whole", "both ends", "nothing"])
def test_products_that_are_read_everywhere_stay(read):
    types, product = factors(False, False)
    some = cut(product, (0, 1, M), (1, 1, 3))
    outputs = {
        "fetched": (product, some),
        "whole": (tanh(product), some),
        "both ends": (cut(product, (0, 1, M), (0, 1, 1)), cut(product, (0, 1, M), (N - 1, 1, 1))),
        "nothing": (cut(product, (0, 1, 0), (1, 1, 3)),),
    }[read]
    before = TensorProgram(types, outputs)
    assert narrow(before) is before
