"""Tiles of rows and lanes whose elements are under guards: what rows or lanes share is read, and nothing else is."""

from __future__ import annotations

from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import graphflow as tf
from graphflow.compiler.llvm.schedule import make_schedule
from graphflow.compiler.llvm.target import AVX512

PAST, FINAL = "graphflow.compiler.llvm.past_caches", "graphflow.compiler.final"

SHARED = {
    "row": (1, 1, 0),
    "column": (1, 0, 1),
    "batch": (0, 1, 1),
    "batch's row": (0, 1, 0),
    "matrix": (1, 0, 0),
    "none": (0, 0, 0),
}
"""For each operand beside a transpose [batch, rows, columns]: the axes along which all share an element."""


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(sorted(SHARED)),
    st.tuples(st.integers(1, 3), st.integers(16, 90), st.integers(16, 90)),
    st.integers(0, 2),
    st.integers(-20, 20),
    st.sampled_from(["float32", "int64", "int8"]),
    st.booleans(),
)
@example("matrix", (2, 64, 33), 0, 1, "float32", False)
@example("matrix", (3, 33, 64), 0, -2, "float32", True)
def test_tiles_read_what_guards_leave_of_an_operand(
    name: str, shape: tuple[int, ...], axis: int, by: int, dtype: str, past: bool
) -> None:
    """The operand begins `by` elements later along an axis, or ends so many earlier, and is 0 beyond."""
    by = max(min(by, shape[axis] - 1), 1 - shape[axis])
    own = tuple(1 if shared else n for n, shared in zip(shape, SHARED[name], strict=True))
    x = (np.arange(np.prod(shape)) % 101).reshape(shape[0], shape[2], shape[1]).astype(dtype)
    y = (np.arange(np.prod(own)) % 103).reshape(own).astype(dtype)
    part = [n - abs(by) if a == axis else n for a, n in enumerate(shape)]
    pads = [[max(by, 0), max(-by, 0)] if a == axis else [0, 0] for a in range(3)]
    small = np.broadcast_to(y, shape)[tuple(slice(n) for n in part)]

    def formula(given_x: Any, given_y: Any) -> Any:
        operand = tf.broadcast_to(given_y, shape)[: part[0], : part[1], : part[2]]
        return tf.transpose(given_x, [0, 2, 1]) + tf.pad(operand, pads)

    np.testing.assert_array_equal(checked(formula, x, y, past=past), x.transpose(0, 2, 1) + np.pad(small, pads))


@pytest.mark.parametrize("past", [False, True])
@pytest.mark.parametrize("pads", [[[3, 0], [0, 0], [0, 0]], [[0, 2], [0, 0], [0, 0]], [[0, 0], [3, 0], [3, 0]]])
def test_a_padded_transpose_reads_nothing_beside_its_operand(pads: list[list[int]], past: bool) -> None:
    x = np.arange(3 * 128 * 512, dtype=np.float32).reshape(3, 128, 512)
    value = checked(lambda x, _: tf.pad(tf.transpose(x, [0, 2, 1]), pads), x, np.zeros(1, np.float32), past=past)
    np.testing.assert_array_equal(value, np.pad(x.transpose(0, 2, 1), pads))


def test_strips_read_nothing_for_a_block_behind_the_last() -> None:
    """One comes there that only stores what the last one read: what its rows share lies behind the operand."""
    x, y = np.arange(2 * 130 * 150, dtype=np.float32).reshape(2, 150, 130), np.ones((2, 1, 1), np.float32)
    value = checked(lambda x, y: tf.transpose(x, [0, 2, 1]) - y, x, y, past=True)
    np.testing.assert_array_equal(value, x.transpose(0, 2, 1) - y)


def checked(formula: Any, x: Any, y: Any, past: bool) -> Any:
    """The value of a formula computed in tiles, with every access checked; `past`: where results go past the caches."""
    large, past_caches = patch(f"{FINAL}.LARGE", 0), patch(f"{PAST}._leaves", lambda *_: past)
    with large, past_caches, patch.dict("os.environ", GRAPHFLOW_CHECK="2"), tf.Graph().as_default():
        given_ = [tf.placeholder(v.dtype, v.shape) for v in (x, y)]
        session = tf.Session()
        value = session.run(formula(*given_), dict(zip(given_, (x, y), strict=True)))
        ((_, executable),) = session.compiled()
        kernels = [s.kernel for s in executable.plan.steps]
        assert any(make_schedule(kernel, AVX512).tile is not None for kernel in kernels)
    return value
