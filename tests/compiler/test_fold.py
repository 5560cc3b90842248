"""Constant folding: what is computed, what stays a splat, what is left alone."""

import numpy as np
import pytest

from graphflow.compiler.fold import constant_splat, fold, splat_scalar
from graphflow.compiler.interpret import interpret
from graphflow.compiler.program import TensorProgram, verify
from graphflow.core.dim import symbol
from graphflow.core.dtype import float32, float64, int32, int64
from graphflow.core.node import make_node
from graphflow.core.op import OPS
from graphflow.core.type import TensorType
from graphflow.ops.contract import matmul
from graphflow.ops.elementwise import add, cast, exp, floordiv, log, mod, power, square, truediv
from graphflow.ops.leaf import constant, feed_op
from graphflow.ops.random import random_bits
from graphflow.ops.reduce import reduce_sum
from graphflow.ops.view import broadcast_to, iota, reshape, strided_slice, transpose

BATCH = symbol("batch", hint=5)
RAMP = np.arange(6, dtype=np.float32).reshape(2, 3)


def folded(*roots):
    program = fold(TensorProgram((), roots))
    verify(program)
    return program.outputs if len(roots) > 1 else program.outputs[0]


def value(node):
    assert node.op.name == "Const", node
    return node.attrs["value"].value


def test_a_graph_of_constants_is_one_constant():
    x = constant(RAMP)
    got = value(folded(transpose(exp(x) * x, perm=(1, 0))))
    np.testing.assert_array_equal(got, (np.exp(RAMP) * RAMP).T)
    assert got.dtype == np.float32


def test_what_depends_on_a_feed_stays():
    x = make_node(feed_op, (), {"feed": 0, "type": TensorType(float32, (2, 3))})
    assert folded(x + constant(RAMP) * constant(RAMP)) is x + constant(RAMP * RAMP)


def test_a_splat_of_any_shape_stays_a_splat():
    ones = broadcast_to(constant(1, float32), shape=(BATCH, 1 << 30))
    assert folded(exp(ones * 2 + 1)) is broadcast_to(constant(np.exp(np.float32(3))), shape=(BATCH, 1 << 30))


def test_a_constant_of_equal_elements_becomes_a_splat():
    assert folded(constant(np.zeros((3, 4), np.float32))) is broadcast_to(constant(0, float32), shape=(3, 4))
    assert folded(constant(np.full(3, np.nan))).op.name == "BroadcastTo"


@pytest.mark.parametrize("data", [[0.0, -0.0], [1.0, 2.0], []])
def test_a_constant_of_other_elements_stays(data):
    x = constant(np.array(data))
    assert folded(x) is x


def test_a_broadcast_constant_is_never_written_out():
    row = broadcast_to(constant(RAMP), shape=(5, 2, 3))
    assert folded(row) is row


def test_a_dense_constant_and_a_splat_make_a_constant():
    np.testing.assert_array_equal(value(folded(constant(RAMP) + 1)), RAMP + 1)


def test_a_result_may_be_as_large_as_its_inputs_or_the_limit():
    small, large = constant(np.arange(300.0)), constant(np.arange(1e5))
    outer = matmul(reshape(small, shape=(300, 1)), reshape(small, shape=(1, 300)))
    assert folded(outer).op.name == "MatMul"  # 90,000 elements out of 600
    assert folded(large * large).op.name == "Const"
    assert value(folded(reduce_sum(large, axes=(0,)))) == 1e5 * (1e5 - 1) / 2


def test_a_sum_of_a_huge_broadcast_is_not_walked_through():
    y = reduce_sum(broadcast_to(constant(RAMP), shape=(1 << 30, 2, 3)), axes=(0, 1, 2))
    assert folded(y) is y


def test_symbolic_attributes_are_left_alone():
    y = strided_slice(constant(np.arange(9.0)), begin=(BATCH,), stride=(1,), shape=(2,))
    assert folded(y) is y


def test_random_numbers_are_left_alone():
    y = make_node(random_bits, (constant(0, int64),), {"seed": (1, 2), "stream": 0, "shape": (3,), "dtype": float32})
    assert folded(y) is y


def test_positions_are_cheaper_than_memory():
    y = iota.node(shape=(1000,), axis=0, dtype=int32)
    assert folded(y) is y


@pytest.mark.filterwarnings("error")
def test_nan_and_division_by_zero_are_values_and_not_warnings():
    zero, one = constant(0, float64), constant(1, float64)
    assert value(folded(truediv(one, zero))) == np.inf
    assert np.isnan(value(folded(truediv(zero, zero))))
    assert np.isnan(value(folded(log(constant(-1, float64)))))
    assert value(folded(add(constant(np.float32(3e38)), constant(np.float32(3e38))))) == np.inf
    assert value(folded(square(constant(2**31 - 1, int32)))) == 1
    assert value(folded(floordiv(constant(1, int32), constant(0, int32)))) == 0
    assert value(folded(mod(constant(1, int32), constant(0, int32)))) == 0
    assert value(folded(cast(constant(np.nan), dtype=int32))) == 0


def test_what_has_no_value_is_left_to_the_run():
    y = power(constant(2, int32), constant(-1, int32))
    assert folded(y) is y


def test_the_value_is_what_the_interpreter_says():
    for name, op in OPS.items():
        for case in op.cases:
            if not case.inputs or name.startswith("Dynamic"):
                continue
            result = op.node(*map(constant, case.inputs), **case.attrs)
            roots = result if isinstance(result, tuple) else (result,)
            before = TensorProgram((), roots)
            with np.errstate(all="ignore"):
                want, _ = interpret(before, (), {})
                got, _ = interpret(fold(before), (), {})
            for a, b in zip(got, want, strict=True):
                # NumPy adds up in an order that depends on how its operands lie, which folding may change
                np.testing.assert_allclose(a, b, rtol=1e-13, atol=0, equal_nan=True, err_msg=name, strict=True)


def test_splats_are_told_from_other_nodes():
    scalar = constant(2.5)
    assert constant_splat(scalar) == 2.5
    assert constant_splat(broadcast_to(scalar, shape=(BATCH,))) == 2.5
    assert constant_splat(constant(RAMP)) is None
    fed = make_node(feed_op, (), {"feed": 0, "type": TensorType(float32, ())})
    assert splat_scalar(broadcast_to(fed, shape=(3,))) is fed
    assert constant_splat(fed) is None
