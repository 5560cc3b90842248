"""Windows that share what they read are computed several turns at once, guards left out where all of them hold."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import graphflow as tf
from graphflow.compiler.llvm.jam import MANY_TURNS, TURNS, turns_at_once
from graphflow.compiler.llvm.schedule import make_schedule
from graphflow.compiler.llvm.target import AVX2, AVX512, NEON, SSE2
from graphflow.compiler.loops.guards import clear_of_guards, without_guards
from graphflow.compiler.loops.ir import Kernel, walk
from graphflow.compiler.plan import Plan
from graphflow.core.dim import symbol

TARGETS = [AVX512, AVX2, SSE2, NEON]
Formula = Callable[[Any, Any], Any]


def depthwise(size: int, stride: int, padding: str) -> Formula:
    return lambda x, w: tf.nn.depthwise_conv2d(x, w[:size, :size], [1, stride, stride, 1], padding)


def max_pool(size: int, stride: int, padding: str) -> Formula:
    return lambda x, w: tf.nn.max_pool(x, [1, size, size, 1], [1, stride, stride, 1], padding)


def avg_pool(size: int, stride: int, padding: str) -> Formula:
    return lambda x, w: tf.nn.avg_pool(x, [1, size, size, 1], [1, stride, stride, 1], padding)


def gradient_of(formula: Formula) -> Formula:
    return lambda x, w: tf.gradients(tf.reduce_sum(formula(x, w)), x)[0]


def run(formula: Formula, x: Any, w: Any, open_: bool = False) -> tuple[Any, Plan]:
    """(the value of a formula of images and a filter, its plan); with `open_`, the batch is known when it is fed."""
    with tf.Graph().as_default(), tf.Session() as session:
        images = tf.placeholder(x.dtype, [None if open_ else x.shape[0], *x.shape[1:]])
        value = session.run(formula(images, tf.constant(w)), {images: x})
        ((_, executable),) = session.compiled()
        return value, executable.plan


def jams(plan: Plan, target: Any = AVX512) -> list[Kernel]:
    """The kernels of which a loop is jammed."""
    return [s.kernel for s in plan.steps if make_schedule(s.kernel, target).jam is not None]


def images(*shape: int, dtype: str = "float32") -> Any:
    return np.random.default_rng(0).normal(size=shape).astype(dtype)


WINDOWS = st.sampled_from([depthwise, max_pool, avg_pool])
SIZES = st.integers(1, 7)


@settings(max_examples=60, deadline=None)
@given(
    WINDOWS,
    st.tuples(SIZES, st.integers(1, 2), st.sampled_from(["SAME", "VALID"])),
    st.tuples(st.integers(0, 3), st.integers(7, 21), st.integers(7, 21), st.sampled_from([1, 3, 16, 17, 33, 64])),
    st.sampled_from(["float32", "float64"]),
    st.booleans(),
    st.booleans(),
    st.lists(st.sampled_from([np.nan, np.inf, -np.inf, -0.0]), max_size=3),
    st.sampled_from([TURNS, MANY_TURNS]),
)
def test_jammed_and_plain_loops_compute_the_same(
    window: Any,
    how: tuple[int, int, str],
    shape: Any,
    dtype: str,
    gradient: bool,
    open_: bool,
    odd: list[float],
    most: int,
) -> None:
    formula = gradient_of(window(*how)) if gradient else window(*how)
    x, w = images(*shape, dtype=dtype), images(7, 7, shape[-1], 1, dtype=dtype)
    for place, number in enumerate(odd if x.size else ()):
        x.flat[place * 37 % x.size] = number
        w.flat[place * 53 % w.size] = number
    with patch("graphflow.compiler.llvm.jam.MANY_TURNS", most), np.errstate(all="ignore"):
        found, _ = run(formula, x, w, open_)
    with patch("graphflow.compiler.llvm.schedule.jammed", lambda *_: None):
        wanted, plan = run(formula, x, w, open_)
        assert not jams(plan)
    np.testing.assert_allclose(found, wanted, rtol=2e-5, atol=1e-5)


@pytest.mark.parametrize("size", [5, 7])
@pytest.mark.parametrize("height", [4, 7, 9, 15])
def test_numbers_that_are_not_finite_meet_the_padding_as_in_numpy(size: int, height: int) -> None:
    x, w = images(1, height, 12, 16), images(size, size, 16, 1)
    w[0, 0, 3], w[-1, size // 2, 5], w[size // 2, -1, 7] = np.inf, np.nan, -np.inf
    x[0, 0, 0, 3] = np.nan
    found, plan = run(depthwise(size, 1, "SAME"), x, w)
    assert jams(plan)
    half = size // 2
    padded = np.pad(x, ((0, 0), (half, half), (half, half), (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (size, size), axis=(1, 2))
    with np.errstate(invalid="ignore"):
        wanted = np.einsum("bhwcyx,yxc->bhwc", windows, w[..., 0])
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-4)


TURNS_OF_EXTENTS = {AVX512: (4, 5, 7, 8, 5, 7, 8, 7), AVX2: (4, 4, 4, 4, 4, 4, 4, 4)}


@pytest.mark.parametrize("target", TURNS_OF_EXTENTS, ids=["avx512", "avx2"])
def test_blocks_of_turns_are_of_about_the_same_size(target: Any) -> None:
    extents = (4, 5, 7, 8, 9, 14, 16, 28)
    assert tuple(turns_at_once(n, target) for n in extents) == TURNS_OF_EXTENTS[target]
    assert turns_at_once(symbol("n"), target) == TURNS


MEETING = {
    "depthwise": lambda padding: depthwise(3, 1, padding),
    "long ones, row by row": lambda padding: depthwise(7, 1, padding),
    "depthwise with strides": lambda padding: depthwise(5, 2, padding),
    "largest": lambda padding: max_pool(3, 2, padding),
    "mean": lambda padding: avg_pool(3, 1, padding),
}


@pytest.mark.parametrize("padding", ["SAME", "VALID"])
@pytest.mark.parametrize("window", MEETING.values(), ids=MEETING)
def test_windows_that_meet_are_jammed(window: Callable[[str], Formula], padding: str) -> None:
    _, plan = run(window(padding), images(2, 12, 12, 32), images(7, 7, 32, 1))
    assert [len(jams(plan, target)) for target in TARGETS] == [1] * len(TARGETS)


APART = {
    "windows beside each other": lambda x, w: tf.nn.max_pool(x, [1, 2, 2, 1], [1, 2, 2, 1], "VALID"),
    "no windows": lambda x, w: tf.reduce_sum(x, 1),
    "long ones that meet from row to row": lambda x, w: tf.nn.avg_pool(x, [1, 6, 6, 1], [1, 1, 1, 1], "VALID"),
}


@pytest.mark.parametrize("formula", APART.values(), ids=APART)
def test_what_shares_little_is_not(formula: Formula) -> None:
    assert not jams(run(formula, images(2, 12, 12, 32), images(5, 5, 32, 1))[1])


def test_guards_hold_inside_of_the_image_alone() -> None:
    (kernel,) = jams(run(depthwise(3, 1, "SAME"), images(1, 9, 9, 16), images(5, 5, 16, 1))[1])
    clear = clear_of_guards(kernel, kernel.loops[-1], kernel.loops[-2], TURNS)
    assert clear is not None
    assert [(str(c.at), c.low, c.high) for c in clear.conditions] == [("i1 - 1", 0, 9), ("i1 + 1", 0, 9)]
    assert (clear.first, clear.stop) == ((1,), (9 - TURNS,))
    assert not [e for e in walk([s.value for s in without_guards(kernel.stores)]) if e.kind == "guard"]
