"""What native code assumes of CPython and NumPy is compared with what they say, and there is a way without it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from graphflow.runtime import array_layout, c_api

ROOT = Path(__file__).resolve().parents[2]


def test_a_foreign_layout_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    array_layout.check_layout()
    monkeypatch.setattr(array_layout, "laid_out_as_assumed", lambda array: False)
    with pytest.raises(RuntimeError, match="keeps arrays in a way that is not known"):
        array_layout.check_layout()


def test_threads_without_a_gil_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "_is_gil_enabled", lambda: False, raising=False)
    with pytest.raises(RuntimeError, match="keeps arrays in a way that is not known"):
        array_layout.check_layout()


@pytest.mark.parametrize(
    "name, offset",
    [
        ("OB_TYPE", array_layout.OB_TYPE - 8),
        ("DATA", array_layout.SHAPE),
        ("NDIM", array_layout.FLAGS),
        ("SHAPE", array_layout.SHAPE + 8),  # the strides
        ("DESCR", array_layout.DATA),
        ("FLAGS", array_layout.NDIM),
        ("TYPE_NUM", array_layout.TYPE_NUM + 4),
        ("BYTEORDER", array_layout.BYTEORDER - 1),
    ],
)
def test_each_offset_is_verified(monkeypatch: pytest.MonkeyPatch, name: str, offset: int) -> None:
    monkeypatch.setattr(array_layout, name, offset)
    with pytest.raises(RuntimeError):
        array_layout.check_layout()


def test_numpy_s_table_is_tried_out(monkeypatch: pytest.MonkeyPatch) -> None:
    table = c_api.numpy_table.__wrapped__()
    assert c_api.makes_arrays(table)
    monkeypatch.setattr(c_api, "NDARRAY_TYPE", c_api.NDARRAY_TYPE + 1)
    with pytest.raises(RuntimeError, match="offers its functions in a way that is not known"):
        c_api.numpy_table.__wrapped__()


WITHOUT = """
import warnings
import numpy as np
from graphflow.runtime import array_layout
array_layout.laid_out_as_assumed = lambda array: False
import graphflow as tf

x = tf.placeholder(tf.float32, [None])
w = tf.Variable([1.0, 2.0])
y, total, step = x * 2.0, tf.reduce_sum(x), w.assign_add([1.0, 1.0])
with tf.Session() as sess:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        sess.run(w.initializer)
        sess.run(y, {x: [1.0]})
    assert [c.category for c in caught] == [RuntimeWarning], caught
    assert "slower Python path" in str(caught[0].message)
    call = sess.make_callable([y, total, step.op], [x])
    for n in (3, 3, 5):
        a = np.arange(n, dtype=np.float32)
        out = np.zeros(n, np.float32)
        product, whole, nothing = call(a, out=[out, None, None])
        assert product is out and np.array_equal(out, 2 * a) and whole == a.sum() and nothing is None
    assert type(whole) is np.float32
    assert np.array_equal(sess.run(w), [4, 5])
    for wrong in (np.zeros(3), a):
        try:
            call(a, out=[wrong, None, None])
        except tf.errors.InvalidArgumentError as error:
            assert "out= for 'mul" in str(error), error
        else:
            raise AssertionError(wrong)
print("done")
"""


def test_there_is_a_way_without_native_calls() -> None:
    done = subprocess.run([sys.executable, "-c", WITHOUT], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "done\n", "")
