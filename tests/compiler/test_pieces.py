"""Nodes that are computed in the memory of others: how many kernels there are, and what they compute."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import graphflow as tf
from graphflow.compiler.fuse import fuse
from graphflow.compiler.plan import plan
from graphflow.compiler.program import TensorProgram
from graphflow.core.dim import symbol
from graphflow.core.dtype import float64
from graphflow.core.type import TensorType, static
from graphflow.ops.elementwise import tanh
from graphflow.ops.state import feed_node
from graphflow.ops.view import reshape
from graphflow.ops.window import interleave, phase_sizes
from tests.harness import check

BATCH = symbol("batch", hint=3)


def kernels(*outputs: Any) -> int:
    """How many kernels the plan has for a program of one feed, [batch, 2, 6]."""
    return len(plan(fuse(TensorProgram((TensorType(float64, (BATCH, 2, 6)),), outputs))).steps)


X = feed_node(0, TensorType(float64, (BATCH, 2, 6)))
Y = tanh(X)
FLAT = reshape(Y, shape=(BATCH, 12))


@pytest.mark.parametrize(
    "outputs, count",
    [
        ((FLAT,), 1),
        ((reshape(Y, shape=(BATCH, 3, 4)), tanh(Y)), 1),
        ((FLAT, Y), 2),
        ((FLAT, FLAT), 2),
        ((FLAT, reshape(Y, shape=(BATCH, 3, 4))), 2),
        ((reshape(X, shape=(BATCH, 12)),), 1),
        ((tanh(FLAT), FLAT), 2),
    ],
)
def test_an_output_of_another_shape_is_computed_in_place(outputs: Any, count: int) -> None:
    assert kernels(*outputs) == count


def test_outputs_of_other_shapes_have_their_values() -> None:
    x = np.arange(12.0).reshape(2, 6)
    with tf.Graph().as_default(), tf.Session() as sess:
        fed = tf.placeholder(tf.float64, [None, 6])
        kept = tf.Variable(np.zeros((4, 3)), name="kept")
        y = tf.tanh(fed)
        flat, tall = tf.reshape(y, [-1]), tf.reshape(y, [4, 3])
        sess.run(kept.initializer)
        for fetches in ([flat], [flat, y], [flat, tall], [flat, flat], [flat, tf.reshape(fed, [3, 4])]):
            for value in sess.run(fetches, {fed: x}):
                want = x if value.shape == (3, 4) else np.tanh(x)
                np.testing.assert_allclose(value.ravel(), want.ravel())
        values = sess.run([tf.assign(kept, tall), flat, y + tf.reshape(flat, [2, 6])], {fed: x})
        np.testing.assert_allclose(values[0].ravel(), np.tanh(x).ravel())
        np.testing.assert_allclose(values[1], np.tanh(x).ravel())
        np.testing.assert_allclose(values[2], 2 * np.tanh(x))


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_phases_are_computed_between_each_other(data: st.DataObject) -> None:
    """Of any sizes and strides, some phases computed, some fed, some the same; read again or only fetched."""
    strides = tuple(data.draw(st.lists(st.integers(1, 3), min_size=1, max_size=2)))
    space = tuple(data.draw(st.integers(s, 5)) for s in strides)
    phases = list(np.ndindex(*strides))
    types = [TensorType(float64, (2, *phase_sizes(space, strides, p), 3)) for p in phases]
    fed = [feed_node(n, t) for n, t in enumerate(types)]
    made = [tanh(x) if data.draw(st.booleans()) else x for x in fed]
    if data.draw(st.booleans()):
        made = [made[0] if x.shape == made[0].shape else x for x in made]
    y = interleave(*made, first=1, space=space, strides=strides)
    outputs = [y, tanh(y), reshape(y, shape=(2, 3 * int(np.prod(space)))), made[-1]]
    chosen = data.draw(st.lists(st.sampled_from(outputs), min_size=1, max_size=3))
    rng = np.random.default_rng(data.draw(st.integers(0, 9)))
    values = [rng.standard_normal(tuple(map(static, t.dims))) for t in types]
    check(TensorProgram(tuple(types), tuple(chosen)), values)
