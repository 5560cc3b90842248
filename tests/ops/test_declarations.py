"""What every op declares about itself, checked for each of its cases.

The value of its level-1 form is its `eval`'s; its first and second derivatives agree with central differences, in
float64, along a random direction.  A composite's `eval` is an independent reference for what it is made of.
"""

from dataclasses import replace

import numpy as np
import pytest

import graphflow.ops  # noqa: F401  (declares them)
from graphflow.compiler.differentiate import differentiate
from graphflow.compiler.interpret import interpret
from graphflow.compiler.program import TensorProgram, verify
from graphflow.core.dtype import as_dtype
from graphflow.core.node import make_node
from graphflow.core.op import OPS, Case
from graphflow.core.type import TensorType
from graphflow.ops.gradient import Mark, Promise, mark, promise
from graphflow.ops.leaf import Leaf, constant
from graphflow.ops.shape import ShapedBy
from graphflow.ops.state import StateOp, feed_node

CASES = [(op, c) for op in OPS.values() for c in op.cases]
IDS = [f"{op.name}-{n}" for op in OPS.values() for n in range(len(op.cases))]
SEEN_BY_CAPTURE_ONLY = (StateOp, Leaf, Mark, Promise)


def result(op, nodes, attrs):
    """The outputs of an op as a tuple of nodes."""
    made = op.node(*nodes, **attrs) if nodes else make_node(op, (), attrs)
    return made if isinstance(made, tuple) else (made,)


def feeds_of(op, case: Case):
    """A node for each input; the shape that a ShapedBy op takes must be known."""
    nodes = [feed_node(n, TensorType(as_dtype(x.dtype), x.shape)) for n, x in enumerate(case.inputs)]
    return [nodes[0], constant(case.inputs[1])] if isinstance(op, ShapedBy) else nodes


def types_of(case: Case):
    return tuple(TensorType(as_dtype(x.dtype), x.shape) for x in case.inputs)


def floats(op, case: Case):
    """The inputs that there are derivatives with respect to."""
    return [n for n, x in enumerate(case.inputs) if x.dtype.kind == "f"]


def smooth(op, case: Case):
    """Whether derivatives of this case are to be checked."""
    if not (op.differentiable and case.grad and floats(op, case)):
        return False
    return all(y.dtype.is_floating for y in result(op, feeds_of(op, case), case.attrs))


SMOOTH = [(op, c) for op, c in CASES if smooth(op, c)]
SMOOTH_IDS = [i for i, (op, c) in zip(IDS, CASES, strict=True) if smooth(op, c)]

TWICE = [pytest.param(op, c, id=i) for i, (op, c) in zip(SMOOTH_IDS, SMOOTH, strict=True)]


def run(program, inputs):
    with np.errstate(all="ignore"):
        return interpret(program, inputs, {})[0]


def noise(type_, seed):
    return np.random.default_rng(seed).standard_normal(tuple(type_.dims)).astype(type_.dtype.numpy)


def gradients(ys, xs, tag, seed):
    """Promises of the derivatives of the weighted sum of ys with respect to what is marked `tag + n` for the n-th x."""
    weights = [constant(noise(y.type, seed + n)) for n, y in enumerate(ys)]
    return [promise(list(ys), weights, tag + n, x.type) for n, x in enumerate(xs)], weights


def weighted(values, weights):
    return sum(float((v * w.attrs["value"].value).sum()) for v, w in zip(values, weights, strict=True))


def assert_slopes(program, weights, slopes, case, which, tolerance):
    """The slopes are those of the weighted sum of the program's outputs, by central differences."""
    step = 1e-6
    for n, slope in zip(which, slopes, strict=True):
        x = case.inputs[n]
        direction = np.random.default_rng(9).standard_normal(x.shape)
        ends = []
        for sign in (1, -1):
            inputs = [*case.inputs]
            inputs[n] = (x + sign * step * direction).astype(x.dtype)
            ends.append(weighted(run(program, inputs), weights))
        difference = (ends[0] - ends[1]) / (2 * step)
        np.testing.assert_allclose((slope * direction).sum(), difference, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("op, case", CASES, ids=IDS)
def test_value(op, case):
    program = TensorProgram(types_of(case), result(op, feeds_of(op, case), case.attrs))
    verify(program)
    with np.errstate(all="ignore"):
        want = op.eval(*case.inputs, **case.attrs)
    want = want if isinstance(want, tuple) else (want,)
    for a, b in zip(run(program, case.inputs), want, strict=True):
        assert a.shape == np.shape(b)
        tolerance = 1e-6 if a.dtype == np.float32 else 1e-9
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=1e-9)


@pytest.mark.parametrize("op, case", CASES, ids=IDS)
def test_type_of_the_value(op, case):
    outputs = result(op, feeds_of(op, case), case.attrs)
    for y, v in zip(outputs, run(TensorProgram(types_of(case), outputs), case.inputs), strict=True):
        assert y.type == TensorType(as_dtype(v.dtype), v.shape)


@pytest.mark.parametrize("op, case", SMOOTH, ids=SMOOTH_IDS)
def test_first_derivative(op, case):
    feeds, which = feeds_of(op, case), floats(op, case)
    marked = [mark(x, which.index(n)) if n in which else x for n, x in enumerate(feeds)]
    promised, weights = gradients(result(op, marked, case.attrs), [feeds[n] for n in which], 0, 5)
    program = differentiate(TensorProgram(types_of(case), tuple(promised)))
    verify(program)
    plain = TensorProgram(types_of(case), result(op, feeds, case.attrs))
    assert_slopes(plain, weights, run(program, case.inputs), case, which, 1e-5)


@pytest.mark.parametrize("op, case", TWICE)
def test_second_derivative(op, case):
    """The slope of a weighted sum of first derivatives, which are programs themselves."""
    feeds, which = feeds_of(op, case), floats(op, case)
    count = len(which)
    inner = [mark(x, count + which.index(n)) if n in which else x for n, x in enumerate(feeds)]
    outer = [mark(x, which.index(n)) if n in which else x for n, x in enumerate(inner)]
    first, _ = gradients(result(op, outer, case.attrs), [feeds[n] for n in which], 0, 5)
    second, weights = gradients(first, [feeds[n] for n in which], count, 70)
    program = differentiate(TensorProgram(types_of(case), tuple(second)))
    verify(program)
    plain = differentiate(TensorProgram(types_of(case), tuple(first)))
    assert_slopes(plain, weights, run(program, case.inputs), case, which, 2e-4)


@pytest.mark.parametrize("op", OPS.values(), ids=OPS.keys())
def test_says_what_it_is(op):
    assert op.doc.strip(), "no documentation"
    assert op.cases or isinstance(op, SEEN_BY_CAPTURE_ONLY), "no case"


@pytest.mark.parametrize("op", OPS.values(), ids=OPS.keys())
def test_a_derivative_is_never_only_claimed(op):
    if not op.differentiable or isinstance(op, SEEN_BY_CAPTURE_ONLY):
        return
    could = [c for c in op.cases if smooth(op, replace(c, grad=True))]
    assert not could or any(c.grad for c in could), "differentiable, but no case checks its derivative"
