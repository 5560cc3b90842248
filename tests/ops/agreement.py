"""Compiled and interpreted side by side, through the public API, for feeds in every kind of memory.

    agree(lambda a, b: tf.matmul(a, b), [a, b], memory=["offset", "reversed"], tolerance=1e-5)

The oracle is each op's NumPy `eval` (`GRAPHFLOW_INTERPRET=1`), which gets plain copies.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import chain
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st

import graphflow as tf

Array = np.ndarray[Any, Any]
Build = Callable[..., Any]

SIZES = (0, 1, 2, 3, 5, 8, 15, 16, 17, 31, 33, 64, 65)
SPECIAL = (np.nan, np.inf, -np.inf, 0.0, -0.0)
FLOATS = st.sampled_from(("float32", "float64"))
# Without the phase that traces every line to explain a failure: compiling under it takes minutes.
PHASES = (
    Phase.explicit,
    Phase.generate,
)
QUICK = settings(
    max_examples=20, phases=PHASES, deadline=None, derandomize=True, database=None,
    suppress_health_check=list(HealthCheck),
)  # fmt: skip
LONG = settings(max_examples=400, phases=PHASES, deadline=None, database=None, suppress_health_check=list(HealthCheck))


def offset(x: Array) -> Array:
    """One element behind a multiple of 64 bytes."""
    raw = np.empty(x.nbytes + 128, np.uint8)
    start = -raw.ctypes.data % 64 + x.itemsize
    return filled(raw[start : start + x.nbytes].view(x.dtype).reshape(x.shape), x)


def unaligned(x: Array) -> Array:
    """One byte behind a multiple of 64."""
    raw = np.empty(x.nbytes + 128, np.uint8)
    start = -raw.ctypes.data % 64 + 1
    return filled(raw[start : start + x.nbytes].view(x.dtype).reshape(x.shape), x)


def every_other(x: Array) -> Array:
    """Every second element of each axis of a larger array."""
    large = np.zeros(tuple(2 * n + 1 for n in x.shape), x.dtype)
    return filled(large[tuple(slice(1, None, 2) for _ in x.shape)], x)


def filled(view: Array, x: Array) -> Array:
    """The view with x's values."""
    view[...] = x
    return view


MEMORY: dict[str, Callable[[Array], Array]] = {
    "plain": lambda x: np.array(x, order="C"),
    "offset": offset,
    "unaligned": unaligned,
    "Fortran": np.asfortranarray,
    "every other": every_other,
    "reversed": lambda x: np.ascontiguousarray(np.flip(x))[tuple(slice(None, None, -1) for _ in x.shape)],
}
PLACES = st.sampled_from(sorted(MEMORY))


def numbers(shape: Sequence[int], dtype: str = "float32", seed: int = 0, special: bool = False) -> Array:
    """Normally distributed numbers (integers from -9 to 9); `special`: with NaN, infinities and zeros among them."""
    rng = np.random.default_rng(seed)
    if dtype == "bool":
        return np.asarray(rng.random(shape) < 0.5)
    if not dtype.startswith("float"):
        return np.asarray(rng.integers(0 if dtype.startswith("u") else -9, 10, shape)).astype(dtype)
    x = rng.standard_normal(shape)
    return np.asarray(np.where(rng.random(shape) < 0.03, rng.choice(SPECIAL, shape), x) if special else x, dtype)


def agree(
    build: Build, values: Sequence[Array], more: Sequence[Array] = (), *, memory: Sequence[str], tolerance: float = 0.0
) -> None:
    """Assert that the compiled program answers what the interpreter does, the same bits where `tolerance` is 0.

    `tolerance` is relative to the largest finite number of the result, at least 1.  With `more`, values of other sizes,
    no size is known while declaring, and a second run in the same session is fed these.
    """
    runs = [values, more] if more else [values]
    shapes = [[None] * v.ndim if more else v.shape for v in values]
    placed = [[MEMORY[how](v) for how, v in zip(memory, one, strict=True)] for one in runs]
    compiled = answers(build, values, shapes, placed)
    with pytest.MonkeyPatch.context() as patch, np.errstate(all="ignore"):
        patch.setenv("GRAPHFLOW_INTERPRET", "1")
        wanted = answers(build, values, shapes, runs)
    for got, want in zip(chain.from_iterable(compiled), chain.from_iterable(wanted), strict=True):
        same(np.asarray(got), np.asarray(want), tolerance)


def answers(build: Build, values: Sequence[Array], shapes: Sequence[Any], feeds: Sequence[Any]) -> list[list[Any]]:
    """What a session answers to each of the feeds."""
    with tf.Graph().as_default(), tf.Session() as sess:
        fed = [tf.placeholder(v.dtype, shape) for v, shape in zip(values, shapes, strict=True)]
        fetched = build(*fed)
        fetches = list(fetched) if isinstance(fetched, list | tuple) else [fetched]
        return [sess.run(fetches, dict(zip(fed, one, strict=True))) for one in feeds]


def same(got: Array, want: Array, tolerance: float) -> None:
    """Assert dtype, shape and values; NaN and infinities are where they should be."""
    assert got.dtype == want.dtype
    assert got.shape == want.shape
    if not tolerance or got.dtype.kind != "f":
        np.testing.assert_array_equal(got, want)
        return
    finite = np.abs(want[np.isfinite(want)])
    largest = max(1.0, float(finite.max())) if finite.size else 1.0
    np.testing.assert_allclose(got, want, rtol=0, atol=tolerance * largest)
