"""Kernels that differ in extents and row strides only are one function."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

import graphflow as tf
from graphflow.compiler.program import TensorProgram
from graphflow.core.op import OPS
from tests.harness import assert_same, check, compile_program, feed_nodes, feed_types, op_node, run


def op(name: str, *xs: Any, **attrs: Any) -> Any:
    return OPS[name](*xs, **attrs)


def shifted(x: Any) -> Any:
    """x with a zero before it, along the last axis."""
    ends = (0,) * (x.ndim - 1)
    return op("Pad", x, low=(*ends, 1), high=(0,) * x.ndim, interior=(0,) * x.ndim) * 2


def positions(x: Any) -> Any:
    """Row numbers."""
    return op_node("Iota", (), {"shape": x.shape, "axis": 0, "dtype": "float32"})[0]


BODIES: dict[str, Callable[[Any], Any]] = {
    "chain": lambda x: op("Tanh", x * 2 + 1),
    "pad": shifted,
    "reverse": lambda x: op("Reverse", x, axes=(x.ndim - 1,)) + x,
    "transpose": lambda x: op("Transpose", x, perm=tuple(reversed(range(x.ndim)))) * 2,
    "column": lambda x: op("Exp", x[..., :1]) + x,
    "position": lambda x: x * positions(x),
}


def body_program(body: Callable[[Any], Any], arrays: list[Any]) -> TensorProgram:
    types = feed_types(arrays)
    return TensorProgram(types, tuple(body(x) for x in feed_nodes(types)))


def arrays(shapes: list[tuple[int, ...]]) -> list[Any]:
    rng = np.random.default_rng(0)
    return [rng.uniform(-1, 1, shape).astype(np.float32) for shape in shapes]


@settings(deadline=None, derandomize=True, database=None, max_examples=30)
@given(
    st.sampled_from(sorted(BODIES)),
    st.integers(1, 3).flatmap(
        lambda rank: st.lists(
            st.tuples(*[st.sampled_from((1, 2, 3, 15, 16, 17, 40, 65)) for _ in range(rank)]), min_size=2, max_size=5
        )
    ),
)
def test_any_sizes_side_by_side_are_what_each_is_alone(body, shapes):
    feeds = arrays(shapes)
    got = check(body_program(BODIES[body], feeds), feeds)
    for number, feed in enumerate(feeds):
        (alone,), _ = run(compile_program(body_program(BODIES[body], [feed])), [feed])
        assert_same(got[number], alone, body)


def test_other_sizes_are_the_same_function():
    feeds = arrays([(n,) for n in (500, 600, 777, 5000)])
    assert compile_program(body_program(BODIES["chain"], feeds)).code.kernels == 1


def test_pieces_of_other_widths_are_copied_by_the_same_function():
    feeds = arrays([(70, width) for width in (65, 66, 80, 90)])
    types = feed_types(feeds)
    executable = compile_program(TensorProgram(types, (op("Concat", *feed_nodes(types), axis=1),)))
    assert executable.code.kernels == 1
    np.testing.assert_array_equal(run(executable, feeds)[0][0], np.concatenate(feeds, 1))


def test_one_kernel_alone_has_its_numbers_in_the_code():
    (feed,) = arrays([(70, 65)])
    code = compile_program(body_program(BODIES["chain"], [feed])).code
    assert "number0" not in str(code.module)
    assert code.kernels == 1


def test_adam_over_many_variables_compiles_as_few_functions_and_runs_as_one_wave():
    with tf.Graph().as_default():
        sizes = range(10, 400, 13)
        start = [np.linspace(-1, 1, size, dtype=np.float32) for size in sizes]
        variables = [tf.Variable(x) for x in start]
        loss = tf.add_n([tf.reduce_sum(tf.square(v)) for v in variables])
        train_op = tf.train.AdamOptimizer(0.1).minimize(loss)
        with tf.Session() as sess:
            sess.run(tf.global_variables_initializer())
            sess.run(train_op)
            (executable,) = [e for p in sess._plans.values() for e in p._executables if e.plan.reads]
            updates = [step for step in executable.plan.steps if "Sqrt" in step.ops and len(step.kernel.stores) == 3]
            assert len(updates) == len(variables)
            assert len({step.wave for step in updates}) == 1
            assert executable.code.kernels <= 8
            for x, v in zip(start, variables, strict=True):
                np.testing.assert_allclose(sess.run(v), x - 0.1 * np.sign(x), atol=1e-3)


@settings(max_examples=12, deadline=None, derandomize=True, database=None)
@given(st.lists(st.sampled_from([3, 8, 16, 17, 32, 40]), min_size=2, max_size=3), st.sampled_from([16, 24, 33]))
def test_transposes_of_equal_rows_and_other_heights_agree(heights: list[int], width: int) -> None:
    """Tiles of the same strides in the lanes and others from row to row."""
    values = [np.random.default_rng(h).random((h, width)) for h in heights]
    with tf.Graph().as_default(), tf.Session() as sess:
        fed = [tf.placeholder(tf.float64, v.shape) for v in values]
        turned = sess.run([tf.transpose(x) for x in fed], dict(zip(fed, values, strict=True)))
    for got, value in zip(turned, values, strict=True):
        np.testing.assert_array_equal(got, value.T)
