"""Each rule by example, on NaN, infinities, zeros of both signs and subnormal numbers; then whole programs.

A rule of the algebra is instantiated from its own pattern, for every dtype that it holds for; a rule that is code has
examples in `EXAMPLES`, and a rule without one fails.  Before and after are compared bit for bit.
"""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphflow.compiler.interpret import bind_sizes, interpret
from graphflow.compiler.program import TensorProgram, verify
from graphflow.compiler.rules import ALGEBRA, CONDITIONS, CONSTANTS, FLOAT, INT, Algebra
from graphflow.compiler.rules_contract import CONTRACT
from graphflow.compiler.rules_elementwise import ELEMENTWISE
from graphflow.compiler.rules_view import VIEW
from graphflow.compiler.simplify import RULES, simplify
from graphflow.core.dim import symbol
from graphflow.core.dtype import DTYPES, as_dtype, bool_, float32, float64, int32
from graphflow.core.node import make_node
from graphflow.core.op import OPS
from graphflow.core.type import TensorType
from graphflow.ops.contract import conv, matmul, swap_last
from graphflow.ops.elementwise import (
    absolute,
    add,
    cast,
    ceil,
    equal,
    floor,
    greater,
    greater_equal,
    identity,
    less,
    logical_and,
    logical_or,
    maximum,
    minimum,
    mul,
    neg,
    power,
    relu,
    rint,
    select,
    sign,
    sqrt,
    square,
    stop_gradient,
    sub,
    tanh,
    truediv,
)
from graphflow.ops.leaf import constant
from graphflow.ops.reduce import (
    reduce_all,
    reduce_any,
    reduce_argmax,
    reduce_max,
    reduce_min,
    reduce_prod,
    reduce_sum,
)
from graphflow.ops.state import feed_node
from graphflow.ops.view import broadcast_to, concat, iota, pad, reshape, reverse, strided_slice, transpose
from graphflow.ops.window import interleave, windows

BATCH = symbol("batch", hint=3)


def special(dtype):
    """The values at which algebra goes wrong."""
    if dtype.is_bool:
        return np.array([False, True])
    if dtype.is_integer:
        small = [0, 1, 2, 3, 100] if dtype.kind == "uint" else [0, 1, 2, 3, 100, -1, -2, -7]
        return np.array([dtype.min, dtype.max, *small], dtype.numpy)
    info = np.finfo(dtype.numpy)
    extremes = [info.max, -info.max, info.tiny, info.smallest_subnormal, -info.smallest_subnormal]
    return np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 1.0, -1.5, 3.14159, 1e-3, 7.0, *extremes], dtype.numpy)


def values(type_, seed):
    """Special values, drawn for each seed anew."""
    sizes = tuple(size if isinstance(size, int) else 3 for size in type_.dims)
    return np.asarray(np.random.default_rng(seed).choice(special(type_.dtype), sizes))


def run(program, feeds):
    with np.errstate(all="ignore"):
        return interpret(program, feeds, {})[0]


def assert_same_bits(got, want):
    """Equal in dtype, shape, value, sign of zero; NaN is NaN."""
    for a, b in zip(got, want, strict=True):
        np.testing.assert_array_equal(a, b, strict=True)
        if a.dtype.kind == "f":
            number = ~np.isnan(a)
            np.testing.assert_array_equal(np.signbit(a)[number], np.signbit(b)[number])


def check(before, after, feed_types, seeds=(1, 2)):
    """before and after have one type and, for special values, one value."""
    assert after is not before
    assert after.type == before.type
    old, new = (TensorProgram(tuple(feed_types), (node,)) for node in (before, after))
    verify(new)
    for seed in seeds:
        feeds = [values(t, 31 * seed + n) for n, t in enumerate(feed_types)]
        assert_same_bits(run(new, feeds), run(old, feeds))
        assert_same_bits(run(simplify(old), feeds), run(old, feeds))


# the algebra

ROWS = [(row, d) for row in ALGEBRA for d in DTYPES.values() if row.kind.holds(d)]


def instance(row, dtype, shape, constants):
    """The row's pattern on feeds and constants of a type; (node, types of the feeds)."""
    nodes, types = [], []
    for name in row.holes:
        if name in CONSTANTS:
            nodes.append(constant(constants[CONSTANTS.index(name)], dtype))
            continue
        types.append(TensorType(bool_ if name in CONDITIONS else dtype, shape))
        nodes.append(feed_node(len(types) - 1, types[-1]))
    if len(types) == 0 or types[0].ndim == 0:
        return row.left(*nodes), types
    return row.left(*(n if n.shape else broadcast_to(n, shape=shape) for n in nodes)), types


@pytest.mark.parametrize("row, dtype", ROWS, ids=[f"{row.name}:{d}" for row, d in ROWS])
def test_row_holds(row, dtype):
    choices = [(-2.5, 0.0), (-0.0, np.inf), (np.nan, 0.1)] if dtype.is_floating else [(3, 2), (127, 100)]
    for shape in ((240,), (3, 5), (), (BATCH, 4)):
        for constants in choices if set(row.holes) & set(CONSTANTS) else choices[:1]:
            before, types = instance(row, dtype, shape, constants)
            after = row.apply(before)
            assert after is not None, f"{row.name} does not apply to {before!r}"
            check(before, after, types)


@pytest.mark.parametrize("row", [r for r in ALGEBRA if r.kind.name != "any"], ids=lambda row: row.name)
def test_row_leaves_other_dtypes_alone(row):
    for dtype in DTYPES.values():
        if row.kind.holds(dtype) or dtype.is_bool or set(row.holes) & set(CONDITIONS):
            continue
        try:
            before, _ = instance(row, dtype, (4,), (1, 2))
        except (ValueError, OverflowError):
            continue  # the pattern itself can't be written for this dtype
        assert row.apply(before) is None


@pytest.mark.parametrize("y", [0.0, 1.0, -1.0, 2.0], ids=str)
def test_a_dense_constant_is_not_a_number(y):
    x = feed_node(0, TensorType(float64, (2,)))
    other = constant([y, 5.0])
    for op in (add, sub, mul):
        assert RULES(op(x, other)) is None


def test_floats_keep_what_only_integers_may_lose():
    x = feed_node(0, TensorType(float64, (2,)))
    for node in (x + 0, x * 0, x - x, equal(x, x), (x + 0.1) + 0.2, truediv(x, 3.0)):
        assert RULES(node) is None, node


WRONG = [
    Algebra("x + 0", FLOAT, lambda x: x + 0, lambda x: x),
    Algebra("x - -0.0", FLOAT, lambda x: x - (-0.0), lambda x: x),
    Algebra("x * 0", FLOAT, lambda x: x * 0, lambda x: 0),
    Algebra("x - x", FLOAT, lambda x: x - x, lambda x: 0),
    Algebra("-(x - y)", FLOAT, lambda x, y: -(x - y), lambda x, y: y - x),
    Algebra("x / a", FLOAT, lambda x, a: truediv(x, a), lambda x, a: x * (1 / a)),
    Algebra("(x + a) + b", FLOAT, lambda x, a, b: (x + a) + b, lambda x, a, b: x + (a + b)),
    Algebra("not x < y", FLOAT, lambda x, y: ~less(x, y), lambda x, y: greater_equal(x, y)),
    Algebra("x == x", FLOAT, lambda x: equal(x, x), lambda x: True),
    Algebra("|x|", INT, lambda x: absolute(x), lambda x: x),
]


@pytest.mark.parametrize("row", WRONG, ids=lambda row: row.name)
def test_the_check_finds_what_is_wrong(row):
    dtype = as_dtype("int32") if row.kind is INT else float64
    before, types = instance(row, dtype, (240,), (0.1, 0.7))
    after = row.apply(before)
    assert after is not None
    with pytest.raises(AssertionError):
        check(before, after, types)


# rules that are code


def fed(shape, dtype=float32, feed=0):
    return feed_node(feed, TensorType(as_dtype(dtype), shape))


def raw(name, *inputs, **attrs):
    """A node as it is, without what `node` normalises."""
    return make_node(OPS[name], inputs, attrs)


X, Y = fed((3, 4)), fed((3, 4), feed=1)
ROW, ROW_Y, SCALAR, CONDITION = fed((4,)), fed((4,), feed=1), fed(()), fed((4,), bool_, feed=2)
WIDE = (BATCH, 3, 4)


def wide(x, shape=WIDE):
    return broadcast_to(x, shape=shape)


def number(value, shape=(3, 4), dtype=float32):
    return broadcast_to(constant(value, dtype), shape=shape)


def piece(x, begin, stride, shape):
    return strided_slice(x, begin=begin, stride=stride, shape=shape)


PHASES = interleave(fed((BATCH, 3)), fed((BATCH, 2), feed=1), first=1, space=(5,), strides=(2,))


def convolved(low, high):
    """A padded image [batch, 3, 3, 1] multiplied by turned filters of one pixel: no sums, whose order might differ."""
    image = pad(fed((BATCH, 3, 3, 1)), low=low, high=high, interior=(0,) * 4)
    return conv(image, swap_last(fed((1, 1, 2, 1), feed=1)), strides=(1, 1), dilations=(1, 1))


EXAMPLES = {
    "nothing": [identity(X), stop_gradient(X)],
    "constant_second": [
        2 * X,
        raw("Add", number(1.5), X),
        logical_and(True, greater(X, Y)),
        equal(1, fed((3,), int32)),
    ],
    "divide_by_power_of_two": [truediv(X, 2), truediv(X, -0.25), truediv(SCALAR, 2.0**100), truediv(X, 2.0**126)],
    "cast_to_own_type": [cast(X, dtype=float32)],
    "cast_of_cast": [
        cast(cast(X, dtype=float64), dtype=to) for to in (float32, float64, int32, bool_, as_dtype("int8"))
    ]
    + [
        cast(cast(fed((7,), source), dtype=as_dtype(through)), dtype=as_dtype(to))
        for source, through, to in (
            ("int8", "int32", "uint8"),
            ("int32", "float64", "float32"),
            ("int32", "float64", "int64"),
            ("uint8", "float32", "int32"),
            ("bool", "float32", "int8"),
            ("bool", "int32", "bool"),
        )
    ],
    "compute_before_broadcast": [
        neg(wide(X)),
        mul(wide(ROW), wide(ROW_Y)),
        wide(ROW) * 2.5,
        3 - wide(SCALAR),
        select(wide(CONDITION), wide(ROW), 0),
        cast(wide(X), dtype=int32),
        wide(SCALAR) + number(np.inf, WIDE),
        sqrt(wide(fed((3, 1)))),
    ],
    "compute_before_axes": [
        neg(reshape(ROW, shape=(4, 1))),
        mul(reshape(ROW, shape=(1, 4, 1)), reshape(ROW_Y, shape=(1, 4, 1))),
        reshape(fed((BATCH, 3)), shape=(BATCH, 3, 1)) * 2.5,
        select(reshape(CONDITION, shape=(4, 1)), reshape(ROW, shape=(4, 1)), 0),
        cast(reshape(SCALAR, shape=(1, 1)), dtype=int32),
    ],
    "known_size": [raw("SizeOf", size=7, dtype=int32)],
    "broadcast_to_own_shape": [wide(X, (3, 4)), wide(fed(WIDE))],
    "broadcast_of_broadcast": [wide(wide(fed((3, 1)), (3, 4))), wide(wide(ROW, (1, 1, 4)))],
    "broadcast_without_leading_ones": [wide(fed((1, 3, 4))), wide(fed((1, 1)))],
    "view_of_splat": [
        reshape(wide(SCALAR, (BATCH, 4)), shape=(4, BATCH)),
        raw("Reshape", SCALAR, shape=(1, 1)),
        raw("Reshape", wide(SCALAR, (1, 1)), shape=()),
        transpose(wide(SCALAR), perm=(2, 0, 1)),
        piece(wide(SCALAR), (0, 2, 0), (1, -1, 2), (BATCH, 2, 2)),
        reverse(wide(SCALAR), axes=(0,)),
        wide(wide(SCALAR, (3, 1))),
        windows(number(1, (1, 5, 5, 1)), first=1, window=(2, 2), strides=(1, 1), dilations=(1, 1)),
    ],
    "reshape_to_own_shape": [raw("Reshape", X, shape=(3, 4)), raw("Reshape", X, shape=(-1, 4))],
    "reshape_of_reshape": [
        reshape(reshape(X, shape=(12,)), shape=(2, 6)),
        raw("Reshape", reshape(X, shape=(12,)), shape=(3, 4)),
    ],
    "reshape_with_known_sizes": [raw("Reshape", X, shape=(2, -1)), raw("Reshape", fed(WIDE), shape=(-1, 4))],
    "transpose_of_transpose": [
        transpose(transpose(fed(WIDE), perm=(2, 0, 1)), perm=(2, 0, 1)),
        transpose(transpose(fed(WIDE), perm=(1, 2, 0)), perm=(2, 0, 1)),
    ],
    "transpose_that_moves_nothing": [
        transpose(X, perm=(0, 1)),
        transpose(fed((3, 1, 4, 1)), perm=(1, 0, 3, 2)),
        transpose(fed((1, BATCH)), perm=(1, 0)),
    ],
    "reverse_of_reverse": [reverse(reverse(X, axes=(0, 1)), axes=(1,)), reverse(reverse(X, axes=(0,)), axes=(0,))],
    "reverse_of_one": [reverse(fed((1, 4)), axes=(0, 1)), reverse(fed((1, 4)), axes=(0,)), reverse(X, axes=())],
    "slice_of_all": [piece(X, (0, 0), (1, 1), (3, 4)), piece(fed((BATCH, 1)), (0, 0), (1, -3), (BATCH, 1))],
    "slice_of_slice": [
        piece(piece(fed((20,)), (3,), (2,), (7,)), (1,), (3,), (2,)),
        piece(piece(fed((20, 6)), (18, 0), (-2, 1), (9, 6)), (8, 5), (-1, -2), (9, 3)),
        piece(piece(fed((BATCH, 6)), (0, 1), (1, 2), (BATCH, 2)), (0, 1), (1, 1), (BATCH, 1)),
    ],
    "slice_of_concat": [
        piece(concat(X, fed((2, 4), feed=1), axis=0), (3, 0), (1, 2), (2, 2)),
        piece(concat(X, fed((2, 4), feed=1), axis=0), (2, 3), (-1, -1), (3, 4)),
        piece(concat(fed((BATCH, 2)), fed((BATCH, 3), feed=1), axis=-1), (0, 2), (1, 1), (BATCH, 3)),
    ],
    "slice_of_convolved_padding": [
        piece(convolved((0, 1, 2, 0), (0, 2, 1, 0)), (0, 1, 0, 0), (1,) * 4, (BATCH, 4, 5, 2)),
        piece(convolved((0, 1, 1, 0), (0, 1, 1, 0)), (0, 1, 1, 0), (1,) * 4, (BATCH, 3, 3, 2)),
    ],
    "slice_of_interleave": [
        piece(PHASES, (0, 1), (1, 1), (BATCH, 3)),
        piece(PHASES, (0, 0), (1, 1), (BATCH, 4)),
        piece(interleave(X, Y, first=0, space=(6,), strides=(2,)), (3, 1), (1, 1), (2, 3)),
    ],
    "slice_of_reshape": [
        piece(reshape(wide(X), shape=(BATCH, 3, 2, 2)), (0, 1, 0, 0), (1, 2, 1, 1), (BATCH, 1, 2, 2)),
        piece(reshape(X, shape=(3, 2, 2)), (2, 0, 0), (-1, 1, 1), (2, 2, 2)),
    ],
    "pad_with_nothing": [raw("Pad", X, low=(0, 0), high=(0, 0), interior=(0, 0), value=1)],
    "pad_of_same": [pad(number(2.0), low=(1, 0), high=(0, 2), interior=(1, 0), value=2.0)],
    "concat_of_nonempty": [
        concat(X, axis=0),
        concat(X, fed((0, 4), feed=1), axis=0),
        concat(fed((0, 4)), X, Y, axis=0),
    ],
    "concat_of_splats": [concat(wide(SCALAR, (BATCH, 4)), wide(SCALAR, (BATCH, 2)), axis=1)],
    "concat_of_concat": [concat(concat(X, Y, axis=1), X, axis=-1), concat(X, concat(X, Y, axis=-2), axis=0)],
    "reduce_over_nothing": [raw("ReduceSum", X, axes=()), raw("ReduceMax", X, axes=())],
    "reduce_one_element": [
        *(reduce_(fed((3, 1, 4)), axes=(1,)) for reduce_ in (reduce_sum, reduce_max, reduce_min, reduce_prod)),
        *(reduce_(fed((3, 1, 4)), axes=(0, 1)) for reduce_ in (reduce_max, reduce_prod)),
        reduce_sum(fed((1, BATCH, 1)), axes=(0, 2)),
        reduce_any(fed((1,), bool_), axes=(0,)),
        reduce_sum(fed((1, 7), int32), axes=(0,)),
    ],
    "reduce_of_reduce": [
        reduce_max(reduce_max(fed(WIDE), axes=(0,)), axes=(1,)),
        reduce_min(reduce_min(fed(WIDE), axes=(1,)), axes=(0,)),
        reduce_sum(reduce_sum(fed((3, 4, 5), int32), axes=(2,)), axes=(0,)),
        reduce_prod(reduce_prod(fed((3, 4, 5), int32), axes=(0, 2)), axes=(0,)),
        reduce_all(reduce_all(fed((3, 4), bool_), axes=(0,)), axes=(0,)),
    ],
    "reduce_of_broadcast": [
        reduce_max(wide(X, (5, 3, 4)), axes=(0,)),
        reduce_max(wide(ROW, (5, 3, 4)), axes=(0, 2)),
        reduce_min(wide(fed((3, 1, 4)), (3, 5, 4)), axes=(1, 2)),
        reduce_any(wide(fed((3, 1), bool_), (2, 3, 5)), axes=(0, 2)),
        reduce_sum(wide(fed((3, 1), int32), (BATCH, 3, 5)), axes=(0, 1, 2)),
    ],
    "transposed_factor": [
        matmul(swap_last(X), Y, transpose_a=False, transpose_b=False),
        matmul(swap_last(X), swap_last(Y), transpose_a=True, transpose_b=False),
        matmul(fed((2, 3, 4)), swap_last(fed((2, 5, 4), feed=1)), transpose_a=False, transpose_b=False),
    ],
    "power_of_number": [
        power(X, 3.0),
        power(X, -1.5),
        power(3.0 + X, number(0.3)),
        power(fed((3,), int32), 3),
        power(fed((), float64), 0.5),
        power(fed((), float64), np.inf),
        power(fed((), float64), np.nan),
    ],
    "product_of_repeated_rows": [
        matmul(wide(ROW, (5, 4)), fed((4, 3), feed=1), transpose_a=False, transpose_b=False),
        matmul(wide(fed((1, 4)), (BATCH, 4)), fed((3, 4), feed=1), transpose_a=False, transpose_b=True),
        matmul(reshape(wide(fed((3, 1, 4)), (3, 2, 4)), shape=(6, 4)), fed((5, 4), feed=1), transpose_b=True),
        matmul(reshape(wide(fed((BATCH, 1, 4)), (BATCH, 3, 4)), shape=(BATCH * 3, 4)), fed((4, 5), feed=1)),
        matmul(reshape(wide(fed((2, 4)), (3, 2, 4)), shape=(6, 4)), fed((4, 5), feed=1)),
    ],
}

CODED = {rule.name: rule for rule in (*ELEMENTWISE, *VIEW, *CONTRACT)}
CASES = [(name, n) for name in CODED for n in range(len(EXAMPLES.get(name, ())))]


def feeds_of(root):
    """The types of the feeds that an example reads, and one more that tells the size of a batch."""
    found = {n.attrs["feed"]: n.type for n in TensorProgram((), (root,)).nodes() if n.op.name == "Feed"}
    return [found.get(n, TensorType(float32, (BATCH,))) for n in range(max(found, default=-1) + 2)]


def test_every_rule_has_an_example():
    assert CODED.keys() == EXAMPLES.keys()


@pytest.mark.parametrize("name, which", CASES, ids=[f"{name}:{n}" for name, n in CASES])
def test_rule_holds(name, which):
    before = EXAMPLES[name][which]
    rule = CODED[name]
    assert before.op.name in rule.ops or not rule.ops
    after = rule.apply(before)
    assert after is not None, f"{name} does not apply to {before!r}"
    check(before, after, feeds_of(before), seeds=(1, 2, 3))


UNTOUCHED = {
    "a sum of float copies": reduce_sum(wide(X, (5, 3, 4)), axes=(0,)),
    "two sums of floats": reduce_sum(reduce_sum(fed(WIDE), axes=(0,)), axes=(0,)),
    "the largest of perhaps no copies": reduce_max(wide(X), axes=(0,)),
    "more copies than a byte counts": reduce_sum(wide(fed((3,), "uint8"), (300, 3)), axes=(0,)),
    "a cast that loses digits": cast(cast(fed((3,), int32), dtype=float32), dtype=float64),
    "a cast that saturates": cast(cast(fed((3,), int32), dtype=float64), dtype=as_dtype("int8")),
    "a division by a subnormal's inverse": truediv(X, 2.0**127),
    "a slice of more than what padding adds": piece(
        convolved((0, 1, 1, 0), (0, 1, 1, 0)), (0, 2, 1, 0), (1,) * 4, (BATCH, 3, 3, 2)
    ),
    "a slice over two pieces": piece(concat(X, Y, axis=0), (2, 0), (1, 1), (2, 4)),
    "zeros padded with minus zero": pad(number(0.0, (BATCH, 4)), low=(0, 1), high=(0, 0), interior=(0, 0), value=-0.0),
    "broadcasts from two shapes": wide(ROW, (3, 4)) * wide(fed((3, 1), feed=1), (3, 4)),
    "a transpose": transpose(X, perm=(1, 0)),
    "a product of rows that repeat only within": matmul(reshape(wide(ROW, (6, 4)), shape=(3, 8)), fed((8, 2), feed=1)),
    "a sum of products that repeat": matmul(wide(ROW, (5, 4)), fed((5, 3), feed=1), transpose_a=True),
    "positions": reduce_argmax(wide(X), axes=(1,), dtype=int32),
}


@pytest.mark.parametrize("what", UNTOUCHED)
def test_what_is_not_exact_is_left_alone(what):
    assert RULES(UNTOUCHED[what]) is None


def test_rule_names_tell_rules_apart():
    names = [rule.name for rule in RULES.rules]
    assert len(set(names)) == len(names)
    assert all(rule.doc for rule in RULES.rules)


# programs


class Drawn:
    """A random graph of ops whose result IEEE 754 defines, with a pool of nodes for each dtype."""

    def __init__(self, data):
        self.data = data
        self.types = [TensorType(d, s) for d in (float32, int32, bool_) for s in ((BATCH, 4), (4,), ())]
        self.pool = [feed_node(n, t) for n, t in enumerate(self.types)]

    def choose(self, wanted):
        found = [n for n in self.pool if wanted(n)]
        return found[self.data.draw(st.integers(0, len(found) - 1))]

    def pick(self, options):
        return self.data.draw(st.sampled_from(options))

    def like(self, x):
        """Another node that meets x elementwise: of its type, narrower, or a number."""
        narrow = (4,) if x.shape == (BATCH, 4) else ()
        other = self.choose(lambda n: n.dtype is x.dtype and n.shape in (x.shape, (), narrow))
        return self.pick([other, x, *([] if x.dtype is bool_ else [0, 1, 2, -1, -0.0])])

    def step(self):
        grow = self.pick([self.unary, self.binary, self.logic, self.choice, self.view, self.reduction])
        self.pool.append(grow())

    def unary(self):
        x = self.choose(lambda n: n.dtype is not bool_)
        if x.dtype is int32:
            return self.pick([neg, absolute, sign, square, relu, identity, lambda v: power(v, self.pick([0, 1, 2]))])(x)
        ops = [neg, absolute, sign, square, sqrt, floor, ceil, rint, identity, stop_gradient]
        ops += [lambda v: relu(v) + 0.0, lambda v: power(v, self.pick([0, 1, 2]))]
        ops += [lambda v: truediv(v, self.pick([1, -1, 2, 3]))]
        return self.pick(ops)(x)

    def binary(self):
        x = self.choose(lambda n: n.dtype is not bool_)
        ops = [add, sub, mul, lambda a, b: maximum(a, b) + 0, lambda a, b: minimum(a, b) + 0]
        ops += [lambda a, b: a * b - a, lambda a, b: -a + b, lambda a, b: a - (-(a * b))]
        return self.pick(ops)(x, self.like(x))

    def logic(self):
        c = self.choose(lambda n: n.dtype is bool_)
        x = self.choose(lambda n: n.dtype is not bool_)
        y = self.like(x)
        ops = [lambda: ~c, lambda: logical_and(c, self.like(c)), lambda: logical_or(c, ~c)]
        return self.pick([*ops, lambda: less(x, y), lambda: equal(x, y)])()

    def choice(self):
        x = self.choose(lambda n: n.dtype is not bool_)
        c = self.choose(lambda n: n.dtype is bool_ and n.shape in (x.shape, ()))
        ops = [lambda: select(c, x, self.like(x)), lambda: cast(x, dtype=self.pick([float32, int32]))]
        return self.pick([*ops, lambda: cast(c, dtype=x.dtype)])()

    def view(self):
        x = self.choose(lambda n: n.shape in ((BATCH, 4), (4,)))
        last = x.ndim - 1
        ones, zeros, backwards = (1,) * x.ndim, (0,) * x.ndim, (*range(x.ndim),)[::-1]
        at = (*zeros[:last], self.pick([0, 1, 2, 4]))
        views = [
            lambda: reverse(x, axes=(last,)),
            lambda: reverse(reverse(x, axes=(0,)), axes=(self.pick([0, last]),)),
            lambda: transpose(transpose(x, perm=backwards), perm=backwards),
            lambda: broadcast_to(x, shape=(BATCH, 4)),
            lambda: reshape(reshape(x, shape=(*x.shape, 1)), shape=x.shape),
            lambda: piece(concat(x, reverse(x, axes=(last,)), axis=last), at, ones, x.shape),
            lambda: piece(pad(x, low=at, high=(*zeros[:last], 4), interior=zeros), at, ones, x.shape),
            lambda: broadcast_to(piece(x, zeros, ones, (*x.shape[:last], 1)), shape=x.shape),
        ]
        return self.pick(views)()

    def reduction(self):
        x = self.choose(lambda n: n.ndim > 0)
        axes = (*range(x.ndim),)[self.pick([0, -1]) :]
        if x.dtype is bool_:
            return self.pick([reduce_any, reduce_all])(x, axes=axes)
        if x.dtype is int32:
            return self.pick([reduce_sum, reduce_prod, reduce_max, reduce_min])(x, axes=axes)
        if self.pick([True, False]):
            return self.pick([reduce_max, reduce_min])(x, axes=axes) + 0.0
        return reduce_sum(rint(minimum(maximum(x, -8), 8)), axes=axes)  # exact in any order

    def program(self):
        for _ in range(self.data.draw(st.integers(1, 12))):
            self.step()
        return TensorProgram(tuple(self.types), tuple(self.pool[-3:]), (("w", self.pool[len(self.types) :][0]),))


@given(st.data())
@settings(max_examples=150, deadline=None)
def test_programs_keep_their_values(data):
    before = Drawn(data).program()
    after = simplify(before)
    verify(after)
    assert simplify(after) is after
    feeds = [values(t, n) for n, t in enumerate(before.feeds)]
    assert_same_bits(run(after, feeds), run(before, feeds))


def test_a_gradient_of_a_mean_becomes_small():
    """d mean(x²) / dx is x * 2 scaled by one number: no broadcast, no node for the seed of the chain rule."""
    x = fed((8, 4))
    seed = broadcast_to(reshape(truediv(constant(1, float32), 32.0), shape=(1, 1)), shape=(8, 4))
    after = simplify(TensorProgram((x.type,), (seed * (x * 2),)))
    names = [n.op.name for n in after.nodes() if n.op.name not in ("Const", "Feed")]
    assert sorted(names) == ["BroadcastTo", "BroadcastTo", "Mul", "Mul"]


def test_tanh_of_broadcasts_is_computed_once():
    assert simplify(TensorProgram((ROW.type,), (tanh(wide(ROW) * 2 + 1),))).outputs == (wide(tanh(ROW * 2 + 1)),)


def test_positions_and_sizes_stay_symbolic():
    y = add(cast(iota.node(shape=(BATCH, 4), axis=0, dtype=int32), dtype=int32), 0)
    program = TensorProgram((TensorType(float32, (BATCH, 4)),), (y,))
    assert bind_sizes(program, [np.zeros((3, 4))]) == {"batch": 3}
    assert simplify(program).outputs == (iota.node(shape=(BATCH, 4), axis=0, dtype=int32),)
