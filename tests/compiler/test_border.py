"""Padding beside what kernels compute: which pads become concatenations, what that saves, and that values stay."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import graphflow as tf
from graphflow.compiler.plan import Plan
from graphflow.runtime.executable import Executable

Formula = Callable[[Any, Any], Any]
SIDE, CHANNELS = 12, 4


def conv(x: Any, w: Any, stride: int = 1, padding: str = "SAME") -> Any:
    return tf.nn.conv2d(x, w, strides=[1, stride, stride, 1], padding=padding)


def planned(formula: Formula, batch: int | None = 2) -> Plan:
    """The plan of a formula of an image and a filter of 3 x 3."""
    with tf.Graph().as_default(), tf.Session() as session:
        x = tf.placeholder(tf.float32, [batch, SIDE, SIDE, CHANNELS])
        w = tf.placeholder(tf.float32, [3, 3, CHANNELS, CHANNELS])
        session.plan(formula(x, w), {x: (2, SIDE, SIDE, CHANNELS), w: (3, 3, CHANNELS, CHANNELS)})
        ((_, executable),) = session.compiled()
        assert isinstance(executable, Executable)
        return executable.plan


def pads(plan: Plan) -> int:
    return sum("Pad" in step.ops for step in plan.steps)


@pytest.mark.parametrize("batch", [2, None])
@pytest.mark.parametrize(
    "formula, count",
    [
        (lambda x, w: conv(x, w), 1),  # what is fed has to be copied
        (lambda x, w: conv(tf.tanh(x), w), 1),  # this is computed while it is
        (lambda x, w: conv(tf.nn.relu(conv(x, w)), w), 1),
        (lambda x, w: conv(tf.nn.max_pool(conv(x, w), [1, 2, 2, 1], [1, 2, 2, 1], "SAME"), w), 1),
        (lambda x, w: [y := tf.nn.relu(conv(x, w)), conv(y, w) + y][1], 1),
        (lambda x, w: [y := tf.nn.relu(conv(x, w)), conv(y, w)], 2),  # a result has memory of its own
        (lambda x, w: tf.gradients(tf.reduce_sum(tf.square(conv(conv(x, w), w))), [x, w]), 1),
    ],
)
def test_what_kernels_compute_is_not_copied_to_be_padded(formula: Formula, count: int, batch: int | None) -> None:
    assert pads(planned(formula, batch)) == count


def test_opposite_sides_of_a_border_are_one_kernel() -> None:
    plan = planned(lambda x, w: conv(tf.nn.relu(conv(x, w)), w))
    assert [step.ops for step in plan.steps if "Conv" not in step.ops and "Pad" not in step.ops] == [("Copy",)] * 2


def test_a_border_is_made_just_before_it_is_needed() -> None:
    """A wave makes what is padded, border and all, and the next one reads it: no more than two such are alive."""

    def deep(x: Any, w: Any) -> Any:
        for _ in range(8):
            x = tf.nn.relu(conv(x, w))
        return x

    padded = [b for b in planned(deep).buffers if b.kind == "arena" and b.shape[1:] == (SIDE + 2, SIDE + 2, CHANNELS)]
    assert len(padded) == 8
    assert [b.last - b.first for b in padded] == [1] * 8


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_borders_of_any_width_surround_what_the_formula_has(data: st.DataObject) -> None:
    """Of any value, around some axes only, of sums, pools and what is read elsewhere too."""
    draw = data.draw
    shape = tuple(draw(st.integers(1, 6)) for _ in range(3))
    size, padding = draw(st.integers(1, 3)), [(draw(st.integers(0, 2)), draw(st.integers(0, 2))) for _ in range(2)]
    again, open_ = draw(st.booleans()), draw(st.booleans())
    rng = np.random.default_rng(0)
    image = rng.standard_normal((*shape, 2)).astype(np.float32)
    filters = [rng.standard_normal(s).astype(np.float32) for s in ((1, 1, 2, 3), (size, size, 3, 2))]
    value = draw(st.sampled_from([0.0, 1.5]))
    with tf.Graph().as_default(), tf.Session() as session:
        x = tf.placeholder(tf.float32, [None if open_ else shape[0], *shape[1:], 2])
        y = tf.nn.relu(conv(x, tf.constant(filters[0])))
        padded = tf.pad(y, [(0, 0), *padding, (0, 0)], constant_values=value)
        if any(n < size for n in padded.shape.as_list()[1:3]):
            return
        z = conv(padded, tf.constant(filters[1]), padding="VALID")
        got = session.run([z, tf.reduce_sum(tf.exp(-y), [1, 2])] if again else [z], {x: image})
    inner = np.maximum(image @ filters[0][0, 0], 0)
    outer = np.pad(inner, [(0, 0), *padding, (0, 0)], constant_values=value)
    windows = np.lib.stride_tricks.sliding_window_view(outer, (size, size), (1, 2))
    np.testing.assert_allclose(got[0], np.einsum("bhwcij,ijco->bhwo", windows, filters[1]), rtol=1e-4, atol=1e-5)
    if again:
        np.testing.assert_allclose(got[1], np.exp(-inner).sum((1, 2)), rtol=1e-5)
