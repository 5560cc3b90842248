"""Concatenations are computed in place, along any axis, and are what NumPy's are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphflow.compiler.fuse import fuse
from graphflow.compiler.join import join
from graphflow.compiler.plan import Plan, plan
from graphflow.compiler.program import TensorProgram
from graphflow.compiler.simplify import simplify
from graphflow.core.node import Node
from graphflow.core.op import OPS
from graphflow.core.type import NeedsStatic, static
from graphflow.ops.view import concat, pad
from tests.harness import check, feed_nodes, feed_types

DTYPES = ("float32", "float64", "int32", "bool")
SIZES = (0, 1, 1, 2, 3, 5, 16, 17)


def op(name: str, *xs: Any, **attrs: Any) -> Any:
    return OPS[name](*xs, **attrs)


def array(shape: tuple[int, ...], dtype: str, seed: int = 0) -> Any:
    """Random values."""
    return (np.random.default_rng(seed).standard_normal(shape) * 3).astype(dtype)


def program(body: Callable[..., Any], arrays: list[Any], leading: bool = False) -> TensorProgram:
    """A function of feeds as a program."""
    types = feed_types(arrays, leading)
    made = body(*feed_nodes(types))
    return TensorProgram(types, tuple(made) if isinstance(made, (tuple, list)) else (made,))


def planned(body: Callable[..., Any], arrays: list[Any]) -> Plan:
    """The plan, once the values were found right."""
    one = join(simplify(program(body, arrays)))
    check(one, arrays)
    return plan(fuse(one))


def guards(found: Plan) -> int:
    """How many values are selected by an index."""
    return sum(str(step.kernel).count(" if ") for step in found.steps)


def written(found: Plan, kind: str) -> list[int]:
    """The waves that write a buffer of a kind."""
    number = next(n for n, b in enumerate(found.buffers) if b.kind == kind)
    return [s.wave for s in found.steps if number in {s.arguments[store.buffer] for store in s.kernel.stores}]


X, Y, Z = (array(s, "float32", n) for n, s in enumerate([(6, 20, 5), (6, 3, 5), (6, 1, 5)]))


@pytest.mark.parametrize("axis", [0, 1, 2, -1])
def test_every_piece_is_computed_where_it_belongs(axis):
    arrays = [np.moveaxis(x, 1, axis) for x in (X, Y, Z)]
    found = planned(lambda x, y, z: concat(op("Tanh", x), y, op("Exp", z), axis=axis), arrays)
    assert not guards(found)
    assert [b.kind for b in found.buffers].count("arena") == 0
    assert written(found, "output") == [0, 0, 0]


def test_feeds_are_copied_side_by_side():
    found = planned(lambda *xs: concat(*xs, axis=1), [X, Y, Z, X + 1])
    assert [step.ops for step in found.steps] == [("Copy",)] * 4
    assert {step.wave for step in found.steps} == {0}


def test_a_product_writes_into_the_whole():
    arrays = [array((8, 6), "float32"), array((6, 5), "float32", 1)]
    found = planned(lambda a, b: concat(a, op("MatMul", a, b), op("Relu", op("MatMul", a, b)), axis=1), arrays)
    assert [s.kernel.contract is not None for s in found.steps].count(True) == 1
    assert not guards(found)


def test_vectors_are_stacked_along_the_last_axis():
    found = planned(lambda *xs: op("Pack", *(op("Tanh", x) for x in xs), axis=-1), [X, X + 1, X + 2])
    assert not guards(found)
    assert all(len(step.kernel.loops) == 1 for step in found.steps)


def test_a_matrix_times_a_vector_is_a_column():
    arrays = [array((40, 6), "float32"), array((6, 1), "float32", 1), array((40, 2), "float32", 2)]
    planned(lambda a, b, c: concat(op("MatMul", a, b), c, op("Sigmoid", op("MatMul", a, b)), axis=1), arrays)


def test_a_concatenation_of_concatenations_is_one_piece_of_memory():
    def body(x: Any, y: Any) -> Any:
        inner = [concat(op("Tanh", x), op("Exp", y), op("Sigmoid", x), axis=1) for x, y in ((x, y), (y, x), (x, x))]
        return concat(*inner, axis=0)

    found = planned(body, [X, X[::-1].copy()])
    assert not guards(found)
    assert not [b for b in found.buffers if b.kind == "arena"]


def test_what_is_fetched_too_is_copied():
    def body(x: Any, y: Any, z: Any) -> Any:
        t = op("Tanh", x)
        return concat(t, y, t, z, axis=1), t

    planned(body, [X, Y, Z])


def test_a_piece_that_is_reshaped_elsewhere_lies_dense():
    def body(x: Any, y: Any, z: Any) -> Any:
        t = op("MatMul", x, y)
        return concat(t, z, op("Exp", t), axis=1), op("Exp", op("Reshape", t, shape=(3, 10)))

    planned(body, [array((6, 4), "float32"), array((4, 5), "float32", 1), array((6, 3), "float32", 2)])


def test_two_cheap_pieces_are_selected_where_they_are_read():
    half = X[:, :10].copy()
    found = planned(lambda x, y: op("Tanh", concat(op("Neg", y), x, axis=1)), [half, half + 1])
    assert len(found.steps) == 1


# gradients of slices: sums of pads


def padded(x: Node, axis: int, low: int, size: int) -> Node:
    """x within zeros along an axis."""
    lows = tuple(low if a == axis else 0 for a in range(x.ndim))
    highs = tuple(size - low - static(x.shape[axis]) if a == axis else 0 for a in range(x.ndim))
    return pad(x, low=lows, high=highs, interior=(0,) * x.ndim)  # type: ignore[no-any-return]


@settings(deadline=None, derandomize=True, database=None, max_examples=25)
@given(st.data())
def test_sums_of_pads_that_do_not_meet_are_concatenations(data):
    axis = data.draw(st.integers(0, 2))
    sizes = data.draw(st.lists(st.integers(1, 4), min_size=2, max_size=6))
    gaps = data.draw(st.lists(st.integers(0, 2), min_size=len(sizes), max_size=len(sizes)))
    order = data.draw(st.permutations(range(len(sizes))))
    shape = [3, 4, 5]
    arrays = [array((*shape[:axis], s, *shape[axis + 1 :]), "float64", n) for n, s in enumerate(sizes)]
    lows = [sum(sizes[:n]) + sum(gaps[: n + 1]) for n in range(len(sizes))]

    def body(*xs: Node) -> Any:
        terms = [padded(op("Tanh", xs[n]), axis, lows[n], sum(sizes) + sum(gaps)) for n in order]
        total = terms[0]
        for term in terms[1:]:
            total = total + term
        return total * 2

    one = join(simplify(program(body, arrays)))
    assert "Pad" not in [n.op.name for n in one.nodes()] or sum(gaps) > sum(sizes)
    check(one, arrays)


def test_pads_that_meet_are_added():
    def body(x: Any, y: Any) -> Any:
        return padded(x, 0, 0, 9) + padded(y, 0, 3, 9)

    arrays = [array((6, 4), "float64"), array((6, 4), "float64", 1)]
    one = join(simplify(program(body, arrays)))
    assert "Concat" not in [n.op.name for n in one.nodes()]
    check(one, arrays)


# any concatenation of anything


class Concatenations:
    """Random nodes of one dtype and rank, concatenated again and again."""

    def __init__(self, data: st.DataObject) -> None:
        self.data = data
        self.dtype = data.draw(st.sampled_from(DTYPES))
        self.rank = data.draw(st.integers(1, 3))
        self.arrays: list[Any] = []
        self.steps: list[tuple[Any, ...]] = []
        self.leading = data.draw(st.booleans())
        shape = [data.draw(st.sampled_from(SIZES)) for _ in range(self.rank)]
        axis = data.draw(st.integers(0, self.rank - 1))
        for _ in range(data.draw(st.integers(1, 4))):
            shape[axis] = data.draw(st.sampled_from(SIZES))
            self.arrays.append(array(tuple(shape), self.dtype, len(self.arrays)))

    def body(self, *feeds: Node) -> list[Node]:
        """A few outputs over the feeds."""
        draw, nodes = self.data.draw, list(feeds)
        for _ in range(draw(st.integers(1, 8))):
            step = draw(st.sampled_from((self.changed, self.changed, self.joined, self.joined, self.viewed)))
            try:
                nodes.append(step(draw(st.sampled_from(nodes)), nodes))
            except NeedsStatic:
                continue
        found = [n for n in nodes[:-1] if draw(st.integers(0, 4)) == 0]
        return [*found, nodes[-1]]

    def changed(self, x: Node, nodes: list[Node]) -> Node:
        """Computed with."""
        if self.dtype == "bool":
            return op("LogicalNot", x)
        if self.dtype == "int32" or self.data.draw(st.booleans()):
            return op("Neg", x)
        return op("Tanh", op("Exp", op("Tanh", x)))

    def joined(self, x: Node, nodes: list[Node]) -> Node:
        """Concatenated with what fits."""
        axis = self.data.draw(st.integers(0, x.ndim - 1))
        rest = [
            n
            for n in nodes
            if n.ndim == x.ndim and not any(n.shape[a] != x.shape[a] for a in range(x.ndim) if a != axis)
        ]
        pieces = [x, *self.data.draw(st.lists(st.sampled_from(rest), min_size=1, max_size=3))]
        return concat(*pieces, axis=axis)  # type: ignore[no-any-return]

    def viewed(self, x: Node, nodes: list[Node]) -> Node:
        """Seen otherwise: transposed, reversed, reshaped, cut or with another axis."""
        how = self.data.draw(st.sampled_from(("Transpose", "Reverse", "Reshape", "Cut", "Axis", "Sum")))
        if how == "Transpose":
            return op("Transpose", x, perm=tuple(self.data.draw(st.permutations(range(x.ndim)))))
        if how == "Reverse":
            return op("Reverse", x, axes=(self.data.draw(st.integers(0, x.ndim - 1)),))
        if how == "Reshape":
            return op("Reshape", x, shape=(x.type.size,))
        if how == "Cut":
            return x[tuple(slice(None, None, 2) for _ in x.shape)]  # type: ignore[no-any-return]
        if how == "Axis":
            at = self.data.draw(st.integers(0, x.ndim))
            return op("Reshape", x, shape=(*x.shape[:at], 1, *x.shape[at:]))
        return x if self.dtype == "bool" or x.ndim == 1 else op("ReduceSum", x, axes=(x.ndim - 1,))


@settings(deadline=None, derandomize=True, database=None, max_examples=100)
@given(st.data())
def test_any_concatenation_is_what_numpy_makes_of_it(data):
    drawn = Concatenations(data)
    one = program(drawn.body, drawn.arrays, drawn.leading)
    try:
        simple = simplify(one)
        check(one, drawn.arrays)
        check(simple, drawn.arrays)
    except NeedsStatic:
        assert drawn.leading
