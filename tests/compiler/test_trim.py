"""Convolutions of images in wide padding: parts by the taps that meet pixels compute what the whole would."""

from __future__ import annotations

from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import graphflow as tf
from graphflow.compiler.program import TensorProgram
from graphflow.compiler.trim import runs_along, trim, trimmed
from graphflow.core.dim import symbol
from graphflow.core.dtype import float32
from graphflow.core.node import Node
from graphflow.core.type import TensorType
from graphflow.ops.contract import conv, conv_filter
from graphflow.ops.state import feed_node
from graphflow.ops.view import pad

TRIM = "graphflow.compiler.trim"


@given(st.integers(1, 30), st.integers(0, 20), st.integers(0, 30), st.integers(1, 5), st.integers(1, 12))
def test_a_run_has_the_taps_that_meet_pixels(pixels: int, low: int, windows: int, taps: int, dilation: int) -> None:
    runs = runs_along(pixels, low, windows, taps, dilation)
    assert [n for run in runs for n in range(run.start, run.stop)] == list(range(windows))
    for run in runs:
        for window in range(run.start, run.stop):
            under = [window + tap * dilation - low for tap in range(taps)]
            assert [tap for tap in range(taps) if 0 <= under[tap] < pixels] == list(run.taps)
            if run.taps:
                assert under[run.taps.start] == run.pixel + window - run.start


KINDS = ("convolution", "gradient of the image", "gradient of the filter")


def computed(kind: str, x: Any, w: Any, g: Any, dilations: tuple[int, int], open_: bool = False) -> tuple[Any, int]:
    """(the value of a dilated convolution or of a gradient of it, how many contractions the program has)."""
    with tf.Graph().as_default(), tf.Session() as session:
        image, incoming = (tf.placeholder(a.dtype, [None if open_ else a.shape[0], *a.shape[1:]]) for a in (x, g))
        filters = tf.placeholder(w.dtype, w.shape)
        y = tf.nn.conv2d(image, filters, strides=[1, 1, 1, 1], padding="SAME", dilations=[1, *dilations, 1])
        fetched = (tf.nn.relu(y), *tf.gradients(y, [image, filters], incoming))[KINDS.index(kind)]
        value = session.run(fetched, {image: x, filters: w, incoming: g})
        ((_, executable),) = session.compiled()
        return value, sum(s.kernel.contract is not None for s in executable.plan.steps)


ALWAYS = {"LEAST_SAVED": -(1 << 40), "LEAST_GAIN": 0.1}


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(KINDS),
    st.tuples(st.integers(1, 2), st.integers(5, 17), st.integers(5, 17)),
    st.tuples(st.sampled_from([1, 2, 3, 5]), st.sampled_from([1, 3])),
    st.tuples(st.integers(1, 6), st.integers(1, 6)),
    st.sampled_from([(4, 4, 8), (4, 2, 6), (17, 17, 33)]),
    st.sampled_from(["float32", "float64"]),
    st.booleans(),
    st.lists(st.sampled_from([np.nan, np.inf, -np.inf]), max_size=2),
)
def test_parts_and_the_whole_compute_the_same(
    kind: str, shape: Any, window: Any, dilations: Any, channels: Any, dtype: str, open_: bool, odd: list[float]
) -> None:
    rng, (c, own, o) = np.random.default_rng(0), channels
    shapes = ((*shape, c), (*window, own, o), (*shape, o))
    x, w, g = (rng.normal(size=s).astype(dtype) for s in shapes)
    for place, number in enumerate(odd):
        x.flat[place * 37 % x.size] = w.flat[place * 53 % w.size] = g.flat[place * 71 % g.size] = number
    with patch.multiple(TRIM, **ALWAYS):
        found, _ = computed(kind, x, w, g, dilations, open_)
    with patch(f"{TRIM}.trimmed", lambda _: None):
        wanted, _ = computed(kind, x, w, g, dilations, open_)
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-4)


def test_a_tap_that_is_not_finite_meets_the_padding_as_in_numpy() -> None:
    x, w = np.ones((1, 12, 12, 4), np.float32), np.ones((3, 3, 4, 8), np.float32)
    w[0, 0, 1, 3], w[2, 1, 0, 5] = np.inf, np.nan
    with patch.multiple(TRIM, **ALWAYS):
        found, kernels = computed("convolution", x, w, np.ones((1, 12, 12, 8), np.float32), (6, 6))
    assert kernels == 4
    assert np.isnan(found[..., 5]).all()
    corner = np.zeros((12, 12), bool)
    corner[:6], corner[:, :6] = True, True
    np.testing.assert_array_equal(np.isnan(found[0, ..., 3]), corner)
    assert np.isfinite(np.delete(found, (3, 5), -1)).all()


def test_a_gradient_that_is_not_finite_meets_the_padding_as_in_numpy() -> None:
    x, w, g = (np.ones(shape, np.float32) for shape in ((1, 12, 12, 4), (3, 3, 4, 8), (1, 12, 12, 8)))
    g[0, 0, 11, 2] = np.inf  # the first row of taps meets padding there, and the last column
    with patch.multiple(TRIM, **ALWAYS):
        found, kernels = computed("gradient of the filter", x, w, g, (6, 6))
    assert kernels == 9
    beyond = np.zeros((3, 3), bool)
    beyond[0], beyond[:, 2] = True, True
    np.testing.assert_array_equal(np.isnan(found[..., 2]), np.repeat(beyond[..., None], 4, -1))
    assert np.isfinite(np.delete(found, 2, -1)).all()


def image(*shape: Any) -> Node:
    return feed_node(0, TensorType(float32, shape))


def dilated(x: Node, channels: int, dilation: int, taps: int = 3, stride: int = 1, value: float = 0.0) -> Node:
    w = feed_node(1, TensorType(float32, (taps, taps, x.shape[-1], channels)))
    edge = (0, dilation * (taps // 2), dilation * (taps // 2), 0)
    padded = pad.node(x, low=edge, high=edge, interior=(0,) * 4, value=value)
    return conv.node(padded, w, strides=(stride, stride), dilations=(dilation, dilation))  # type: ignore[no-any-return]


def filter_gradient_of(node: Node) -> Node:
    """The gradient of the filter of a convolution."""
    attrs = {key: node.attrs[key] for key in ("strides", "dilations")}
    window = node.inputs[1].shape[:2]
    return conv_filter.node(node.inputs[0], feed_node(2, node.type), window=window, **attrs)  # type: ignore[no-any-return]


def parts(node: Node) -> int:
    """How many convolutions there are in place of one."""
    return sum(n.op.name == node.op.name for n in trim(TensorProgram((), (node,))).nodes())


def test_wide_padding_is_left_out() -> None:
    x = image(2, 33, 33, 256)
    assert [parts(dilated(x, 256, d)) for d in (12, 18)] == [9, 9]
    assert parts(dilated(image(symbol("n", 8), 33, 33, 256), 256, 12)) == 9
    assert parts(dilated(image(1, 65, 65, 256), 256, 24)) == 9
    assert [parts(filter_gradient_of(dilated(x, 256, d))) for d in (12, 18)] == [9, 9]


LEFT = {
    "little padding": dilated(image(2, 33, 33, 256), 256, 1),
    "fewer products by Winograd's filtering": dilated(image(1, 65, 65, 256), 256, 12),
    "little work": dilated(image(1, 33, 33, 8), 8, 12),
    "little padding around small images": dilated(image(8, 14, 14, 64), 64, 1, taps=5),
    "strides": dilated(image(2, 33, 33, 256), 256, 12, stride=2),
    "padding with ones": dilated(image(2, 33, 33, 256), 256, 12, value=1.0),
    "open sizes": dilated(image(2, symbol("h"), 33, 256), 256, 12),
    "no padding": conv.node(image(2, 9, 9, 4), image(3, 3, 4, 8), strides=(1, 1), dilations=(1, 1)),
}


@pytest.mark.parametrize("node", LEFT.values(), ids=LEFT)
def test_other_convolutions_are_left_as_they_are(node: Node) -> None:
    assert trimmed(node) is None
    assert trimmed(filter_gradient_of(node)) is None
