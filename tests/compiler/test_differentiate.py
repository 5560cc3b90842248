"""Derivatives of graphs: closed forms up to the third order, which node is meant, what there is no path to."""

import numpy as np
import pytest

from graphflow.compiler.differentiate import differentiate
from graphflow.compiler.interpret import interpret
from graphflow.compiler.program import Origin, TensorProgram, verify
from graphflow.compiler.simplify import simplify
from graphflow.core.dim import symbol
from graphflow.core.dtype import float32, float64, int32
from graphflow.core.errors import InternalError
from graphflow.core.op import Op
from graphflow.core.source import Source
from graphflow.core.type import TensorType
from graphflow.ops.contract import matmul
from graphflow.ops.elementwise import add, cast, cos, exp, floor, log, mul, sigmoid, sin, sqrt, stop_gradient, tanh
from graphflow.ops.gradient import mark, promise
from graphflow.ops.leaf import constant
from graphflow.ops.reduce import reduce_sum
from graphflow.ops.state import feed_node
from graphflow.ops.view import broadcast_to

VECTOR = TensorType(float64, (5,))
X = feed_node(0, VECTOR)
POINTS = np.array([0.3, 0.7, 1.1, 1.9, 2.5])


def ones(node):
    return broadcast_to(constant(1, node.dtype), shape=node.shape) if node.shape else constant(1, node.dtype)


def derivative(f, order):
    """The order-th derivative of f as a function of nodes: promises inside promises, each with a tag of its own."""
    if order == 0:
        return f

    def slope(x):
        y = derivative(f, order - 1)(mark(x, order))
        return promise([y], [ones(y)], order, x.type)

    return slope


def evaluate(*roots, feeds=(POINTS,), types=(VECTOR,)):
    program = differentiate(TensorProgram(tuple(types), roots))
    verify(program)
    assert not {n.op.name for n in program.nodes()} & {"Promise", "Mark"}
    with np.errstate(all="ignore"):
        plain = interpret(program, feeds, {})[0]
        for a, b in zip(interpret(simplify(program), feeds, {})[0], plain, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-12)
    return plain if len(roots) > 1 else plain[0]


def s(x):
    return 1 / (1 + np.exp(-x))


CLOSED_FORMS = {
    "x³": (lambda x: x * x * x, [lambda x: x**3, lambda x: 3 * x**2, lambda x: 6 * x, lambda x: np.full(5, 6.0)]),
    "exp(2x)": (lambda x: exp(x * 2), [lambda x, k=k: 2.0**k * np.exp(2 * x) for k in range(4)]),
    "sin": (lambda x: sin(x), [np.sin, np.cos, lambda x: -np.sin(x), lambda x: -np.cos(x)]),
    "log": (lambda x: log(x), [np.log, lambda x: 1 / x, lambda x: -1 / x**2, lambda x: 2 / x**3]),
    "1/x": (lambda x: 1 / x, [lambda x: 1 / x, lambda x: -1 / x**2, lambda x: 2 / x**3, lambda x: -6 / x**4]),
    "sqrt": (
        lambda x: sqrt(x),
        [np.sqrt, lambda x: 0.5 * x**-0.5, lambda x: -0.25 * x**-1.5, lambda x: 0.375 * x**-2.5],
    ),
    "x**2.5": (
        lambda x: x**2.5,
        [lambda x: x**2.5, lambda x: 2.5 * x**1.5, lambda x: 3.75 * x**0.5, lambda x: 1.875 * x**-0.5],
    ),
    "tanh": (
        lambda x: tanh(x),
        [
            np.tanh,
            lambda x: 1 - np.tanh(x) ** 2,
            lambda x: -2 * np.tanh(x) * (1 - np.tanh(x) ** 2),
            lambda x: (6 * np.tanh(x) ** 2 - 2) * (1 - np.tanh(x) ** 2),
        ],
    ),
    "sigmoid": (
        lambda x: sigmoid(x),
        [
            s,
            lambda x: s(x) * (1 - s(x)),
            lambda x: s(x) * (1 - s(x)) * (1 - 2 * s(x)),
            lambda x: s(x) * (1 - s(x)) * (1 - 6 * s(x) + 6 * s(x) ** 2),
        ],
    ),
    "x sin(x)": (
        lambda x: x * sin(x),
        [
            lambda x: x * np.sin(x),
            lambda x: np.sin(x) + x * np.cos(x),
            lambda x: 2 * np.cos(x) - x * np.sin(x),
            lambda x: -3 * np.sin(x) - x * np.cos(x),
        ],
    ),
}


@pytest.mark.parametrize("order", range(4))
@pytest.mark.parametrize("name", CLOSED_FORMS)
def test_closed_form(name, order):
    f, wanted = CLOSED_FORMS[name]
    np.testing.assert_allclose(evaluate(derivative(f, order)(X)), wanted[order](POINTS), rtol=1e-10, atol=1e-12)


def test_hessian_of_a_quadratic_form():
    """The gradient of v · ∇(xᵀ A x) is (A + Aᵀ) v."""
    a, v = np.random.default_rng(0).standard_normal((2, 5, 5))
    x = feed_node(0, TensorType(float64, (5, 1)))

    def form(z):
        left = matmul(z, constant(a), transpose_a=True, transpose_b=False)
        return reduce_sum(matmul(left, z, transpose_a=False, transpose_b=False), axes=(0, 1))

    inner = mark(mark(x, 0), 1)
    slope = promise([form(inner)], [constant(1.0)], 1, x.type)
    second = promise([slope], [constant(v[:, :1])], 0, x.type)
    got = evaluate(second, feeds=(POINTS[:, None],), types=(x.type,))
    np.testing.assert_allclose(got, (a + a.T) @ v[:, :1], rtol=1e-12)


def test_several_ys_with_weights_are_summed():
    x = mark(X, 0)
    weights = [constant(np.arange(5.0)), constant(np.full(5, 2.0))]
    got = evaluate(promise([sin(x), x * x], weights, 0, VECTOR))
    np.testing.assert_allclose(got, np.arange(5) * np.cos(POINTS) + 4 * POINTS)


def test_a_y_that_is_given_twice_counts_twice():
    y = exp(mark(X, 0))
    np.testing.assert_allclose(evaluate(promise([y, y], [ones(y), ones(y)], 0, VECTOR)), 2 * np.exp(POINTS))


def test_a_y_that_is_x_has_its_weight_as_gradient():
    x = mark(X, 0)
    np.testing.assert_array_equal(evaluate(promise([x], [constant(POINTS)], 0, VECTOR)), POINTS)


def test_equal_nodes_keep_apart_where_they_are_marked():
    """a = x + 1 and b = x + 1 are one node; d(a * b²)/da is b², d/db is 2ab."""
    a, b = mark(X + 1, 0), mark(X + 1, 1)
    y = a * b * b
    to_a, to_b = (promise([y], [ones(y)], tag, VECTOR) for tag in (0, 1))
    got = evaluate(to_a, to_b)
    np.testing.assert_allclose(got[0], (POINTS + 1) ** 2)
    np.testing.assert_allclose(got[1], 2 * (POINTS + 1) ** 2)


def test_an_equal_node_that_is_not_x_is_a_constant():
    """y = a * b with b equal to a, but not a: dy/da is b alone."""
    a, b = mark(exp(X), 0), exp(X)
    np.testing.assert_allclose(evaluate(promise([a * b], [ones(X)], 0, VECTOR)), np.exp(POINTS))


def test_an_x_above_another_x():
    """With y = exp(a), a = 2x: dy/da is exp(a), dy/dx twice that."""
    x = mark(X, 0)
    a = mark(x * 2, 1)
    y = exp(a)
    got = evaluate(promise([y], [ones(y)], 0, VECTOR), promise([y], [ones(y)], 1, VECTOR))
    np.testing.assert_allclose(got[0], 2 * np.exp(2 * POINTS))
    np.testing.assert_allclose(got[1], np.exp(2 * POINTS))


def test_all_promises_of_a_sweep_share_their_work():
    x = mark(X, 0)
    y = tanh(tanh(x))
    program = TensorProgram((VECTOR,), (promise([y], [ones(y)], 0, VECTOR), promise([y], [ones(y)], 9, VECTOR)))
    assert sum(n.op.name == "Tanh" for n in differentiate(program).nodes()) == 2


@pytest.mark.parametrize(
    "y",
    [
        constant(POINTS),
        X * 2,
        floor(mark(X, 0)),
        stop_gradient(mark(X, 0)),
        cast(cast(mark(X, 0), dtype=int32), dtype=float64),
    ],
    ids=["constant", "another node", "floor", "stop_gradient", "through integers"],
)
def test_where_no_path_leads_the_gradient_is_zero(y):
    np.testing.assert_array_equal(evaluate(promise([y], [ones(y)], 0, VECTOR)), np.zeros(5))


def test_zeros_have_the_type_of_x():
    batch = symbol("batch", hint=4)
    wanted = TensorType(float32, (batch, 3))
    program = differentiate(TensorProgram((wanted,), (promise([X], [X], 0, wanted),)))
    assert program.outputs[0].type == wanted


def test_unknown_sizes_stay_unknown():
    batch = symbol("batch", hint=2)
    type_ = TensorType(float64, (batch, 5))
    x = feed_node(0, type_)
    y = reduce_sum(mark(x, 0) * mark(x, 0), axes=(0, 1))
    for rows in (1, 4):
        fed = np.ones((rows, 5))
        got = evaluate(promise([y], [constant(1.0)], 0, type_), feeds=(fed,), types=(type_,))
        np.testing.assert_array_equal(got, 2 * fed)


def test_a_deep_graph_needs_no_recursion():
    y = mark(X, 0)
    for n in range(5000):
        y = cos(y) if n % 2 else add(y, 1)
    program = differentiate(TensorProgram((VECTOR,), (promise([y], [ones(y)], 0, VECTOR),)))
    assert len(program.nodes()) > 5000


def test_marks_without_promises_vanish():
    program = TensorProgram((VECTOR,), (exp(mark(X, 0)),), (("w", mark(X, 1)),))
    assert differentiate(program).outputs == (exp(X),)
    assert differentiate(program).updates == (("w", X),)


def test_a_program_without_gradients_is_the_same_object():
    program = TensorProgram((VECTOR,), (exp(X),))
    assert differentiate(program) is program


def test_gradients_remember_the_user_s_operation():
    y = exp(mark(X, 0))
    origin = (Origin("layer/Exp", "Exp", Source("train.py", 7, "f")),)
    gradient = promise([y], [constant(POINTS)], 0, VECTOR)
    program = differentiate(TensorProgram((VECTOR,), (gradient,), origins={y: origin}))
    (found,) = program.origins[mul(constant(POINTS), exp(X))]
    assert (found.name, found.op, str(found.source)) == ("gradients/layer/Exp", "Exp", "train.py:7")


def test_a_rule_that_answers_another_type_is_named(monkeypatch):
    monkeypatch.setattr(type(exp), "grad", lambda self, g, y, x: cast(g, dtype=float32))
    y = exp(mark(X, 0))
    with pytest.raises(InternalError, match=r"gradient of .*Exp.* is float32\[5\] where its input is float64\[5\]"):
        differentiate(TensorProgram((VECTOR,), (promise([y], [ones(y)], 0, VECTOR),)))


def test_every_op_without_a_rule_says_so():
    with pytest.raises(NotImplementedError, match="has no gradient"):
        Op.grad(exp, X, X)
