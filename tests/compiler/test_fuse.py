"""What becomes one kernel."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import graphflow as tf
from graphflow.compiler.fuse import fuse
from graphflow.compiler.llvm.schedule import make_schedule
from graphflow.compiler.llvm.target import AVX512
from graphflow.compiler.loops.ir import walk
from graphflow.compiler.pipeline import TENSOR_PASSES
from graphflow.compiler.plan import Plan, plan
from graphflow.compiler.program import TensorProgram
from graphflow.core.dim import symbol
from graphflow.core.dtype import float32
from graphflow.core.op import OPS
from graphflow.core.type import TensorType
from graphflow.demo import cnn, mlp
from tests.harness import feed_nodes

BATCH = symbol("n0", hint=32)


@pytest.fixture(autouse=True)
def fresh_graph():
    with tf.Graph().as_default():
        yield


def planned(shapes: list[tuple[Any, ...]], body: Callable[..., Any]) -> Plan:
    """The plan of a function of float32 feeds."""
    types = tuple(TensorType(float32, s) for s in shapes)
    made = body(*feed_nodes(types))
    program = TensorProgram(types, made if isinstance(made, tuple) else (made,))
    for one in TENSOR_PASSES:
        program = one.run(program)
    return plan(fuse(program))


def op(name: str, *xs: Any, **attrs: Any) -> Any:
    return OPS[name](*xs, **attrs)


def row_normalized(x: Any) -> Any:
    """(x - mean) / sqrt(variance + eps) along the last axis."""
    mean = op("Mean", x, axis=-1, keepdims=True)
    variance = op("Mean", op("Square", x - mean), axis=-1, keepdims=True)
    return (x - mean) * op("Rsqrt", variance + 1e-5)


ONE_KERNEL = {
    "chain": ([(BATCH, 10)], lambda x: op("Tanh", op("Exp", x * 2) + 1)),
    "broadcasts": ([(BATCH, 10), (10,), (BATCH, 1)], lambda x, b, c: op("Relu", x * c + b)),
    "softmax": ([(BATCH, 10)], lambda x: op("Softmax", x)),
    "log softmax": ([(BATCH, 10)], lambda x: op("LogSoftmax", x)),
    "softmax in the middle": ([(BATCH, 10), (10,)], lambda x, b: op("Tanh", op("Softmax", x + b) * 3)),
    "views": ([(8, 6)], lambda x: op("Transpose", op("Reverse", x, axes=(0,)), perm=(1, 0)) * 2),
    "sum of squares": ([(BATCH, 10)], lambda x: op("ReduceSum", op("Square", x), axes=(0, 1))),
    "product, bias, relu": ([(BATCH, 784), (784, 128), (128,)], lambda x, w, b: op("Relu", op("MatMul", x, w) + b)),
    "product, residual": ([(BATCH, 16), (16, 16)], lambda x, w: op("MatMul", x, w) + x),
    "convolution, bias, relu": (
        [(BATCH, 12, 12, 3), (5, 5, 3, 8), (8,)],
        lambda x, w, b: op("Relu", op("Conv", x, w, strides=(1, 1), dilations=(1, 1)) + b),
    ),
}


@pytest.mark.parametrize("name", ONE_KERNEL)
def test_one_kernel_without_memory_between(name):
    found = planned(*ONE_KERNEL[name])
    assert len(found.steps) == 1, found
    assert not [b for b in found.buffers if b.kind == "arena"]


@pytest.mark.parametrize("name", ["product, bias, relu", "product, residual", "convolution, bias, relu"])
def test_what_follows_a_contraction_is_its_epilogue(name):
    (step,) = planned(*ONE_KERNEL[name]).steps
    assert step.kernel.contract is not None


def test_two_products_are_two_kernels():
    found = planned([(8, 8), (8, 8)], lambda a, b: op("MatMul", op("Relu", op("MatMul", a, b)), b))
    assert [s.kernel.contract is not None for s in found.steps] == [True, True]


def test_an_expensive_value_is_computed_once():
    """exp feeds a column sum and a product of its own: it is stored, not computed for each."""
    found = planned(
        [(64, 64), (64, 8)],
        lambda x, w: op("MatMul", op("Exp", x), w) + op("ReduceSum", op("Exp", x)[:, :8], axes=(0,)),
    )
    exps = [str(step.kernel).count("Exp(") for step in found.steps]
    assert sum(exps) == 1


def test_a_row_s_statistics_need_no_memory_of_their_own_size():
    """Layer normalisation: mean and variance may be stored a number a row, the rows themselves are not."""
    found = planned([(BATCH, 64)], row_normalized)
    assert len(found.steps) <= 2
    assert all(b.shape in ((BATCH,), (BATCH, 1)) for b in found.buffers if b.kind == "arena")


def test_what_is_read_at_many_places_does_not_explode():
    """Each value is read at its own place and beside it, thirty times over."""

    def body(x: Any) -> Any:
        for _ in range(30):
            x = x + op("Pad", x[1:], low=(0,), high=(1,), interior=(0,))
        return x

    found = planned([(50,)], body)
    assert sum(len(walk([s.value for s in step.kernel.stores])) for step in found.steps) < 3000


def test_deep_graphs_fuse_in_reasonable_pieces():
    def body(x: Any) -> Any:
        for n in range(500):
            x = op("Tanh", x + n)
        return x

    found = planned([(50,)], body)
    assert 2 <= len(found.steps) <= 100


# whole training steps


def training_plan(build: Callable[[], Any]) -> Plan:
    """The plan of a training step of one of the demo's networks."""
    network = build()
    with tf.Session() as sess:
        sess.run(tf.global_variables_initializer())
        feed = {network.images: np.zeros((32, 28, 28, 1), np.float32), network.labels: np.zeros(32, np.int64)}
        sess.run([network.train_op, network.loss], feed)
        (found,) = [e.plan for p in sess._plans.values() for e in p._executables if e.types]
        return found


def kernels(found: Plan, *names: str) -> list[Any]:
    """The steps that compute all these ops."""
    return [step for step in found.steps if set(names) <= set(step.ops)]


def test_the_mlp_is_trained_in_few_kernels():
    found = training_plan(mlp.build)
    assert len(found.steps) <= 13, found
    products = kernels(found, "MatMul")
    assert len(products) == 5
    assert all(step.kernel.contract is not None for step in products)
    assert len(kernels(found, "MatMul", "Add", "Relu")) == 1  # the hidden layer with bias and activation
    assert len(kernels(found, "MatMul", "Sqrt", "RealDiv")) == 2  # the weights' gradients with Adam's update
    assert len(kernels(found, "ReduceSum", "Sqrt", "RealDiv")) == 2  # the biases'
    assert len(kernels(found, "ReduceMax", "Exp", "RealDiv")) == 1  # the softmax and its gradient


def test_the_cnn_is_trained_in_few_kernels():
    found = training_plan(cnn.build)
    assert len(found.steps) <= 26, found
    assert all(s.kernel.contract is not None for name in ("Conv", "ConvFilter", "MatMul") for s in kernels(found, name))
    assert len(kernels(found, "Conv")) == 3
    assert len(kernels(found, "ConvFilter", "Sub")) == 2  # the filters' gradients with the update


def test_adam_alone_is_one_kernel_a_variable():
    v = tf.Variable(np.ones((40, 30), np.float32))
    train_op = tf.train.AdamOptimizer(0.1).minimize(tf.reduce_sum(tf.square(v)))
    with tf.Session() as sess:
        sess.run(tf.global_variables_initializer())
        sess.run(train_op)
        (found,) = [e.plan for p in sess._plans.values() for e in p._executables if e.plan.reads]
    (update,) = [s for s in found.steps if [loop.extent for loop in s.kernel.loops] == [1200]]
    assert len(update.kernel.stores) == 3  # the variable and its two slots, in one pass
    assert not [b for b in found.buffers if b.kind == "arena" and b.type.size == 1200]


@pytest.mark.parametrize("rows", [1, 2, 16])
@pytest.mark.parametrize("normalized", [tf.nn.softmax, row_normalized, tf.nn.log_softmax])
def test_few_long_rows_are_units_for_many(rows: int, normalized: Callable[[Any], Any]) -> None:
    """A unit is what one thread does, and what Ctrl-C waits for: it must not be a row of millions."""
    with tf.Session() as session:
        shape = (rows, 1 << 22)
        x = tf.placeholder(tf.float32, shape)
        session.plan(normalized(x), {x: shape})
        (_, executable) = session.compiled()[-1]
    units = [make_schedule(step.kernel, AVX512).units for step in executable.plan.steps]
    large = [
        n for step, n in zip(executable.plan.steps, units, strict=True) if step.kernel.buffers[0].size == rows << 22
    ]
    assert large
    assert min(large) >= rows * (1 << 22) // (1 << 16)


def test_a_large_feed_is_read_once_by_all_who_walk_through_it_alike():
    def sums(x, g):
        return op("Sum", g, axis=0), op("Sum", g * x, axis=0), op("Sum", x, axis=0)

    found = planned([(4096, 1024)] * 2, sums)
    large = [step for step in found.steps if any(found.buffers[a].kind == "feed" for a in step.arguments)]
    assert len(large) == 1, found


def test_a_large_feed_and_its_transpose_are_two_walks():
    found = planned([(2048, 2048)], lambda x: (op("Exp", x), op("Exp", op("Transpose", x, perm=(1, 0)))))
    assert len(found.steps) == 2, found


def test_a_large_value_is_computed_again_rather_than_stored():
    found = planned([(4096, 1024)], lambda x: (op("Sum", op("Exp", x), axis=0), op("Sum", op("Exp", x), axis=1)))
    assert not [b for b in found.buffers if b.kind == "arena" and b.type.dims == (4096, 1024)], found


def test_rows_that_are_reduced_are_no_rows_of_a_larger_space(monkeypatch):
    """A matrix with its sums over axis 0 in one kernel, and copies of the matrix: [1, n, n] has no such axis."""
    monkeypatch.setattr("graphflow.compiler.buffers.LARGE", 0)  # who reads the same feed is in one kernel
    monkeypatch.setattr("graphflow.compiler.groups.LEAST_COLUMNS", 16)
    n = 65
    x = tf.placeholder(tf.float32, [n, n])
    y = 1.0 - x
    largest = tf.reduce_max(tf.reverse(y, [0]), 0)
    shifted = tf.pad(y[:, :-1], [[0, 0], [1, 0]])
    fetches = [tf.reduce_logsumexp(shifted, 0), tf.stack([y, y], 0), tf.gradients(tf.reduce_sum(largest), x)[0]]
    fed = np.random.default_rng(0).standard_normal((n, n)).astype(np.float32)
    with tf.Session() as sess:
        _, copies, slope = sess.run(fetches, {x: fed})
    np.testing.assert_array_equal(copies, [1 - fed, 1 - fed])
    np.testing.assert_array_equal(slope, -(fed == fed.min(0)).astype(np.float32))


def test_what_shares_a_number_alone_is_not_walked_through_at_once() -> None:
    """Adam's updates read one rate: each is a loop of its own, over as many arrays as it needs."""
    weights = [tf.Variable(np.zeros(300, np.float32), name=f"w{n}") for n in range(4)]
    feeds = [tf.placeholder(tf.float32, [300]) for _ in weights]
    loss = tf.add_n([tf.reduce_sum(w * x) for w, x in zip(weights, feeds, strict=True)])
    update = tf.train.AdamOptimizer(0.01).minimize(loss)
    with tf.Session() as sess:
        sess.run(tf.global_variables_initializer())
        sess.run(update, dict.fromkeys(feeds, np.ones(300, np.float32)))
        (steps,) = [e.compiled.plan.steps for fetches, e in sess.compiled() if update.name in str(fetches)]
    large = [s for s in steps if any(str(loop.extent) == "300" for loop in s.kernel.loops)]
    assert [len(s.kernel.stores) for s in large] == [3] * len(weights)
