"""Loops that every index walks through as one become one."""

import pytest

from graphflow.compiler.fuse import fuse
from graphflow.compiler.plan import plan
from graphflow.compiler.program import TensorProgram
from graphflow.core.dim import symbol
from graphflow.core.dtype import float32
from graphflow.core.type import TensorType
from graphflow.ops.elementwise import exp
from graphflow.ops.reduce import reduce_sum
from graphflow.ops.state import feed_node
from graphflow.ops.view import broadcast_to, pad, transpose

BATCH = symbol("n0", hint=5)


def fed(*shape, number=0):
    return feed_node(number, TensorType(float32, shape))


def padded(x, around, between=0):
    return pad(x, low=around, high=around, interior=tuple(between * min(n, 1) for n in around))


def extents(*outputs):
    feeds = tuple(TensorType(float32, ()) for _ in range(2))
    (step,) = plan(fuse(TensorProgram(feeds, outputs))).steps
    return [str(loop.extent) for loop in step.kernel.loops]


@pytest.mark.parametrize(
    "node, expected",
    [
        (exp(fed(3, 4, 5)), ["60"]),
        (exp(fed(BATCH, 4, 5)), ["20*n0"]),
        (fed(3, 4, 5) + broadcast_to(fed(5, number=1), shape=(3, 4, 5)), ["12", "5"]),
        (fed(3, 4, 5) + broadcast_to(fed(4, 1, number=1), shape=(3, 4, 5)), ["3", "4", "5"]),
        (exp(transpose(fed(3, 4, 5), perm=(2, 0, 1))), ["5", "12"]),
        (reduce_sum(fed(3, 4, 5), axes=(2,)), ["12"]),
        (reduce_sum(fed(3, 4, 5), axes=(0,)), ["20"]),
        (reduce_sum(fed(3, 4, 5), axes=(1,)), ["3", "5"]),
        (padded(fed(3, 4, 5), (0, 1, 0)), ["3", "30"]),
        (padded(fed(BATCH, 4, 5), (1, 0, 0)), ["20*n0 + 40"]),
        (padded(fed(3, 4, 5), (1, 0, 1)), ["20", "7"]),
        (padded(fed(3, 4, 64), (0, 1, 0)), ["3", "6", "64"]),  # long rows ask once
        (padded(fed(3, 4, 5), (0, 1, 0), between=1), ["3", "9", "5"]),
        (reduce_sum(padded(fed(3, 4, 5, 6), (0, 0, 1, 0)), axes=(1,)), ["3", "7", "6"]),
    ],
)
def test_loops(node, expected):
    assert extents(node) == expected
