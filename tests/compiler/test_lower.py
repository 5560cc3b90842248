"""Kernels as text, one of each kind: what `lower` makes of a group and what `print_kernel` shows of it."""

from __future__ import annotations

from collections.abc import Callable
from textwrap import dedent
from typing import Any

import numpy as np
import pytest

from graphflow.compiler.fuse import fuse
from graphflow.compiler.plan import plan
from graphflow.compiler.program import TensorProgram
from graphflow.core.dim import symbol
from graphflow.core.dtype import float32, int64
from graphflow.core.node import make_node
from graphflow.core.op import OPS
from graphflow.core.type import TensorType
from tests.harness import check, feed_nodes

BATCH = symbol("n0", hint=7)


def of(*shape: Any) -> TensorType:
    return TensorType(float32, shape)


def program(types: tuple[TensorType, ...], body: Callable[..., Any]) -> TensorProgram:
    made = body(*feed_nodes(types))
    return TensorProgram(types, made if isinstance(made, tuple) else (made,))


def op(name: str, *xs: Any, **attrs: Any) -> Any:
    return OPS[name](*xs, **attrs)


def iota_added(x: Any) -> Any:
    """Where each row's largest is, plus the row's number."""
    rows = make_node(OPS["Iota"], (), {"shape": (BATCH,), "axis": 0, "dtype": int64})
    return op("ReduceArgMax", x, axes=(1,), dtype=int64) + rows


EXAMPLES: dict[str, tuple[Any, Any, str]] = {
    "elementwise": (
        (of(BATCH, 10), of(10)),
        lambda x, b: op("Tanh", x + b),
        """
        kernel k0(b0: float32[10*n0], b1: float32[10], b2: float32[10*n0])
          for i0 in n0:
            for i1 in 10:
              b2[10*i0 + i1] = Tanh(Add(b0[10*i0 + i1], b1[i1]))
        """,
    ),
    "row reduction": (
        (of(BATCH, 10),),
        lambda x: op("ReduceMax", op("Exp", x), axes=(1,)),
        """
        kernel k0(b0: float32[10*n0], b1: float32[n0])
          for i0 in n0:
            b1[i0] = max(r1 < 10: Exp(b0[10*i0 + r1]))
        """,
    ),
    "column reduction": (
        (of(BATCH, 10),),
        lambda x: op("ReduceSum", x, axes=(0,)),
        """
        kernel k0(b0: float32[10*n0], b1: float32[10])
          for i0 in 10:
            b1[i0] = sum(r1 < n0: b0[i0 + 10*r1])
        """,
    ),
    "row reduction and what is made of it": (
        (of(BATCH, 10),),
        lambda x: x - op("BroadcastTo", op("Reshape", op("ReduceMax", x, axes=(1,)), shape=(BATCH, 1)), shape=x.shape),
        """
        kernel k0(b0: float32[10*n0], b1: float32[10*n0])
          for i0 in n0:
            for i1 in 10:
              b1[10*i0 + i1] = Sub(b0[10*i0 + i1], max(r2 < 10: b0[10*i0 + r2]))
        """,
    ),
    "contraction with epilogue": (
        (of(BATCH, 784), of(784, 128), of(128)),
        lambda x, w, b: op("Relu", op("MatMul", x, w, transpose_a=False, transpose_b=False) + b),
        """
        kernel k0(b0: float32[784*n0], b1: float32[100352], b2: float32[128], b3: float32[128*n0])
          sum = contract(r2 < 784: b0[784*i0 + r2] * b1[i1 + 128*r2])
          for i0 in n0:
            for i1 in 128:
              b3[128*i0 + i1] = Relu(Add(sum, b2[i1]))
        """,
    ),
    "view": (
        (of(6),),
        lambda x: op("Pad", x, low=(2,), high=(1,), interior=(1,)),
        """
        kernel k0(b0: float32[6], b1: float32[14])
          for i0 in 14:
            b1[i0] = (b0[(i0)//2 - 1] if 0 <= i0 - 2 < 11 and i0 - 2 % 2 == 0 else 0.0)
        """,
    ),
    "position": (
        (of(BATCH, 4),),
        iota_added,
        """
        kernel k0(b0: float32[4*n0], b1: int64[n0])
          for i0 in n0:
            b1[i0] = Add(argmax(r1 < 4: b0[4*i0 + r1]), int64(i0))
        """,
    ),
    "two outputs": (
        (of(BATCH, 1000),),
        lambda x: (op("ReduceSum", op("Exp", x), axes=(1,)), op("Exp", x)),
        """
        kernel k0(b0: float32[1000*n0], b1: float32[1000*n0], b2: float32[n0])
          b3: float32[1000] of the thread
          for i0 in n0:
            b2[i0] = sum(r2 < 1000: b3[r2] := Exp(b0[1000*i0 + r2]))
            for i1 in 1000:
              b1[1000*i0 + i1] = b3[i1]
        """,
    ),
}


@pytest.mark.parametrize("name", EXAMPLES)
def test_kernel_as_text(name):
    types, body, text = EXAMPLES[name]
    planned = plan(fuse(program(types, body)))
    assert str(planned.steps[0].kernel) == dedent(text).strip()
    assert len(planned.steps) == 1


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_examples_compute_what_they_say(name):
    types, body, _ = EXAMPLES[name]
    rng = np.random.default_rng(0)
    feeds = [rng.standard_normal([7 if d is BATCH else d for d in t.dims]).astype(np.float32) for t in types]
    check(program(types, body), feeds, scale=10)


def test_a_contraction_needs_linear_addresses():
    """A matrix product of a padded image reads the padding from memory; only then it is a contraction."""
    types = (of(4, 6), of(8, 3))
    made = program(types, lambda x, w: op("MatMul", op("Pad", x, low=(0, 1), high=(0, 1), interior=(0, 0)), w))
    steps = plan(fuse(made)).steps
    assert [step.kernel.contract is not None for step in steps] == [False, True]


def test_views_of_stored_values_are_free():
    """A transposed, sliced, reversed input of a product is an address, not a copy."""
    types = (of(9, 8), of(9, 5))

    def body(x: Any, w: Any) -> Any:
        piece = op("StridedSlice", op("Reverse", x, axes=(1,)), begin=(0, 1), stride=(1, 2), shape=(9, 3))
        return op("MatMul", op("Transpose", piece, perm=(1, 0)), w)

    steps = plan(fuse(program(types, body))).steps
    assert len(steps) == 1
    assert steps[0].kernel.contract is not None


def test_guarded_values_of_nothing_are_not_read():
    """Windows that hang over the edge, and slices of nothing."""
    types = (of(0, 3), of(2, 3))
    check(program(types, lambda x, y: op("Concat", x, y, x, axis=0)), [np.zeros((0, 3), "f"), np.ones((2, 3), "f")])
