"""Common factors of sums of products: taken out, with infinities and NaN where they were."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphflow.compiler.factor import LEAST, factor
from graphflow.compiler.interpret import interpret
from graphflow.compiler.program import TensorProgram, verify
from graphflow.core.dim import symbol
from graphflow.core.dtype import as_dtype, float32
from graphflow.core.node import Node
from graphflow.core.op import OPS
from graphflow.core.type import TensorType
from tests.harness import TOLERANCE, check, feed_nodes, feed_types

FLAGS = {"transpose_a": True, "transpose_b": False}


def gradient(types: tuple[TensorType, ...]) -> TensorProgram:
    """A' G for a: [examples, positions, m] and g: [examples, n], whose rows all positions of an example share."""
    a, g = feed_nodes(types)
    examples, positions, m = a.shape
    matrix = OPS["Reshape"](a, shape=(examples * positions, m))
    return TensorProgram(types, (OPS["MatMul"](matrix, shared(g, examples, positions, g.shape[1]), **FLAGS),))


def shared(g: Node, examples: Any, positions: Any, n: Any) -> Any:
    wide = OPS["BroadcastTo"](OPS["Reshape"](g, shape=(examples, 1, n)), shape=(examples, positions, n))
    return OPS["Reshape"](wide, shape=(examples * positions, n))


def product_of(program: TensorProgram) -> Node:
    (found,) = (node for node in program.nodes() if node.op.name == "MatMul")
    return found


def depth(program: TensorProgram) -> Any:
    return product_of(program).inputs[0].shape[0]


def agree(feeds: list[np.ndarray], *, compiled: bool = True) -> None:
    """Whether the program with its factors out has the values of the program as it was."""
    program = gradient(feed_types(feeds))
    new = factor(program)
    verify(new)
    assert new is not program
    with np.errstate(all="ignore"):
        (wanted,), _ = interpret(program, feeds, {})
        (sizes,), _ = interpret(program, [np.abs(f) for f in feeds], {})
        (got,) = check(new, feeds, scale=100) if compiled else interpret(new, feeds, {})[0]
    finite = np.isfinite(wanted)
    np.testing.assert_array_equal(got[~finite], wanted[~finite])
    assert (np.abs(got[finite] - wanted[finite]) <= TOLERANCE[wanted.dtype.name][1] * sizes[finite]).all()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    "examples, positions, m, n",
    [(1, 8, 1, 1), (3, 9, 5, 7), (8, 128, 40, 33), (0, 8, 2, 3), (2, 8, 0, 3), (2, 8, 3, 0)],
)
def test_the_same_values(examples, positions, m, n, dtype):
    rng = np.random.default_rng(n)
    shapes = (examples, positions, m), (examples, n)
    agree([rng.normal(size=shape).astype(dtype) for shape in shapes])


SPECIAL = st.sampled_from([0.0, -0.0, 1.0, -1.0, 2.5, -0.5, np.inf, -np.inf, np.nan])


@settings(deadline=None)
@given(st.data())
def test_infinities_and_nan_are_where_they_were(data):
    """An infinite gradient times numbers of two signs, or a zero, is NaN; times numbers of one sign it is infinite."""
    sign = data.draw(st.sampled_from([1, -1, 0]))
    a, g = (np.array(data.draw(st.lists(SPECIAL, min_size=n, max_size=n)), "f") for n in (48, 8))
    if sign:
        a = np.abs(a) * np.float32(sign)
    agree([a.reshape(2, 8, 3), g.reshape(2, 4)], compiled=False)


def test_special_numbers_in_machine_code():
    numbers = np.array([0, -0.0, 1, -1, np.inf, -np.inf, np.nan], "f")
    rng = np.random.default_rng(0)
    a, g = rng.choice(numbers, (3, 8, 40), p=[0.01, 0.01, 0.9, 0.05, 0.01, 0.01, 0.01]), rng.choice(numbers, (3, 20))
    agree([a, g])


def test_what_has_one_sign_stays_infinite():
    a, g = np.full((2, 8, 2), 0.5, "f"), np.full((2, 3), np.inf, "f")
    a[..., 1] *= -1
    with np.errstate(all="ignore"):
        (got,) = check(factor(gradient(feed_types([a, g]))), [a, g])
    np.testing.assert_array_equal(got, [[np.inf] * 3, [-np.inf] * 3])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_least_numbers_have_signs(dtype):
    """Scaled down they are flushed to zero, which times an infinity is NaN."""
    a, g = np.full((2, 8, 2), np.finfo(dtype).tiny, dtype), np.full((2, 3), np.inf, dtype)
    a[..., 1] *= -1
    agree([a, g])


def test_sums_of_factors_do_not_overflow():
    agree([np.full((2, 16, 2), 3e38, "f"), np.full((2, 3), 1e-10, "f")])


def test_the_product_is_as_long_as_there_are_different_rows():
    types = TensorType(float32, (8, 128, 40)), TensorType(float32, (8, 33))
    program = gradient(types)
    assert (depth(program), depth(factor(program))) == (8 * 128, 2 * 8)


def test_an_open_number_of_examples():
    batch = symbol("n0", hint=5)
    types = TensorType(float32, (batch, 8, 4)), TensorType(float32, (batch, 3))
    program = factor(gradient(types))
    assert depth(program) == 2 * batch
    for count in (0, 1, 5, 40):
        rng = np.random.default_rng(count)
        check(program, [rng.normal(size=(count, 8, 4)).astype("f"), rng.normal(size=(count, 3)).astype("f")], scale=10)


def left_alone() -> dict[str, TensorProgram]:
    some, whole = symbol("n0", hint=50), as_dtype("int32")
    few = TensorType(float32, (2, LEAST - 1, 4)), TensorType(float32, (2, 3))
    unknown = TensorType(float32, (2, some, 4)), TensorType(float32, (2, 3))
    integers = TensorType(whole, (2, 8, 4)), TensorType(whole, (2, 3))
    a, g = feed_nodes(types := (TensorType(float32, (4, 16)), TensorType(float32, (2, 3))))
    upright = OPS["MatMul"](a, shared(g, 2, 8, 3), transpose_a=False, transpose_b=False)
    return {
        "few copies": gradient(few),
        "who knows how many": gradient(unknown),
        "integers": gradient(integers),
        "another factor": TensorProgram(types, (upright,)),
    }


@pytest.mark.parametrize("what", ["few copies", "who knows how many", "integers", "another factor"])
def test_what_is_left_alone(what):
    program = left_alone()[what]
    assert factor(program) is program
