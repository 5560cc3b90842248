"""What never changes is packed once: by the set-up of a program, not by its steps."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import graphflow as tf
from graphflow.compiler.cache import STATISTICS
from graphflow.compiler.layout import Packed, pack, unpack
from graphflow.compiler.loops.ir import EVERY_STEP
from graphflow.runtime.executable import Executable
from graphflow.runtime.order import Stored


def random(shape: tuple[int, ...], seed: int = 0, dtype: str = "float32") -> Any:
    """Small whole numbers: sums of products are exact."""
    return np.random.default_rng(seed).integers(-4, 5, shape).astype(dtype)


def only_program(session: tf.Session) -> Executable:
    (found,) = [executable for _, executable in session.compiled()]
    return found


def launches_of(session: tf.Session) -> list[str]:
    """The launches in the step's code, in order."""
    text = str(only_program(session).code.module.get_global("step"))
    return [line.split("@")[1].split("(")[0].strip('"') for line in text.splitlines() if "call" in line and "@" in line]


@settings(deadline=None, derandomize=True, database=None, max_examples=40)
@given(
    st.sampled_from(["float32", "float64"]),
    st.booleans(),
    st.lists(st.sampled_from((0, 1, 2, 5, 17, 64, 130, 200)), min_size=1, max_size=4),
    st.sampled_from((1, 3, 64, 130, 300)),
    st.sampled_from((1, 2, 17, 64, 130, 200)),
)
def test_constant_weights(dtype: str, transposed: bool, batches: list[int], k: int, n: int) -> None:
    """One compilation for any number of rows, one packed copy for all of its runs."""
    w = random((n, k) if transposed else (k, n), dtype=dtype)
    with tf.Graph().as_default(), tf.Session() as sess:
        x = tf.placeholder(dtype, [None, k])
        y = tf.nn.relu(tf.matmul(x, tf.constant(w), transpose_b=transposed))
        for seed, m in enumerate([64, *batches, *batches]):
            value = random((m, k), seed + 1, dtype)
            expected = np.maximum(value @ (w.T if transposed else w), 0)
            np.testing.assert_array_equal(sess.run(y, {x: value}), expected)


def test_a_step_packs_no_constant() -> None:
    """One launch a product; the copy is where every set of sizes finds it."""
    w, v = random((784, 512)), random((512, 784), 1)
    with tf.Graph().as_default(), tf.Session() as sess:
        x = tf.placeholder(tf.float32, [None, 784])
        y = tf.matmul(tf.nn.relu(tf.matmul(x, tf.constant(w))), tf.constant(v))
        for m in (64, 64, 100, 3, 64):
            value = random((m, 784), m)
            np.testing.assert_array_equal(sess.run(y, {x: value}), np.maximum(value @ w, 0) @ v)
        executable = only_program(sess)
        assert not any("pack" in name for name in launches_of(sess))
        assert executable.code.launches == len(executable.plan.steps) == 2
        assert [n >= 784 * 512 * 4 for n in executable.layout.kept] == [True, True]
        assert executable.layout.workspaces == ()
        bounds = list(executable.bounds)
        assert len(bounds) == 3
        slots = slice(len(executable.layout.buffers), None)
        assert all(bound.table[slots] == executable.kept.addresses for bound in bounds)


def test_a_copy_serves_all_that_read_alike() -> None:
    """Products with other epilogues too; transposed it is another copy."""
    w = random((300, 300))
    with tf.Graph().as_default(), tf.Session() as sess:
        x, y = (tf.placeholder(tf.float32, [100, 300]) for _ in range(2))
        c = tf.constant(w)
        fetches = [tf.nn.relu(tf.matmul(x, c)), tf.tanh(tf.matmul(y, c) / 1000), tf.matmul(y, c, transpose_b=True)]
        values = random((100, 300), 1), random((100, 300), 2)
        found = sess.run(fetches, {x: values[0], y: values[1]})
        np.testing.assert_array_equal(found[0], np.maximum(values[0] @ w, 0))
        np.testing.assert_allclose(found[1], np.tanh(values[1] @ w / 1000), rtol=1e-6)
        np.testing.assert_array_equal(found[2], values[1] @ w.T)
        assert len(only_program(sess).layout.kept) == 2


def test_a_kept_copy_has_a_workspace_beside_it() -> None:
    """A long k with few results is split: partial sums are the step's, the packed weights are not."""
    w = random((9, 20000))
    with tf.Graph().as_default(), tf.Session() as sess:
        x = tf.placeholder(tf.float32, [5, 4, 20000])
        c = tf.constant(w)
        y = tf.matmul(tf.reshape(tf.transpose(x, [1, 0, 2]), [20, 20000]), c, transpose_b=True)
        for seed in range(3):
            value = random((5, 4, 20000), seed)
            expected = value.transpose(1, 0, 2).reshape(20, -1) @ w.T
            np.testing.assert_array_equal(sess.run(y, {x: value}), expected)


@pytest.mark.parametrize("padding", ["SAME", "VALID"])
def test_filters(padding: str) -> None:
    """A convolution with constant filters is the one with fed filters."""
    w, image = random((3, 3, 16, 80)), random((2, 12, 12, 16), 1)
    with tf.Graph().as_default(), tf.Session() as sess:
        x, f = tf.placeholder(tf.float32, [None, 12, 12, 16]), tf.placeholder(tf.float32, w.shape)
        kept, fed = (tf.nn.conv2d(x, g, [1, 1, 1, 1], padding) for g in (tf.constant(w), f))
        for _ in range(2):
            np.testing.assert_array_equal(sess.run(kept, {x: image}), sess.run(fed, {x: image, f: w}))


def test_variables_are_packed_in_every_step() -> None:
    w = random((300, 300))
    with tf.Graph().as_default(), tf.Session() as sess:
        x, new = tf.placeholder(tf.float32, [100, 300]), tf.placeholder(tf.float32, [300, 300])
        v = tf.Variable(w)
        y, change = tf.matmul(x, v), tf.assign(v, new)
        sess.run(tf.global_variables_initializer())
        value = random((100, 300), 1)
        np.testing.assert_array_equal(sess.run(y, {x: value}), value @ w)
        sess.run(change, {new: w + 1})
        np.testing.assert_array_equal(sess.run(y, {x: value}), value @ (w + 1))
        assert all(executable.layout.kept == () for _, executable in sess.compiled())


def test_a_constant_that_moves_with_a_size_is_packed_in_the_step() -> None:
    """Which rows of it are read depends on the size of a feed."""
    w = random((400, 130))
    with tf.Graph().as_default(), tf.Session() as sess:
        x = tf.placeholder(tf.float32, [100, None])
        k = tf.shape(x)[1]
        y = tf.matmul(x, tf.slice(tf.constant(w), [0, 0], [k, 130]))
        for size in (200, 300, 150):
            value = random((100, size), size)
            np.testing.assert_array_equal(sess.run(y, {x: value}), value @ w[:size])


def test_kept_memory_survives_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRAPHFLOW_CACHE", str(tmp_path / "cache"))
    w, value = random((300, 200)), random((100, 300), 1)

    def run() -> Executable:
        with tf.Graph().as_default(), tf.Session() as sess:
            x = tf.placeholder(tf.float32, [None, 300])
            y = tf.matmul(x, tf.constant(w))
            for m in (100, 7, 100):
                np.testing.assert_array_equal(sess.run(y, {x: value[:m]}), value[:m] @ w)
            return only_program(sess)

    cold, before = run(), STATISTICS.hits
    warm = run()
    assert STATISTICS.hits == before + 1
    assert isinstance(warm._made, Stored)
    assert warm.layout.kept == cold.layout.kept != ()
    packed = pack(Packed((), cold.layout, {}, (b"code",)))
    assert unpack(packed, cold.layout.feeds).layout == cold.layout
    with pytest.raises(ValueError, match="where a count should be"):
        unpack(pack(Packed((), replace(cold.layout, kept=(-1,)), {}, (b"code",))), cold.layout.feeds)


def test_readers_of_an_operand() -> None:
    """Contractions that read the same values in the same way are counted; a constant has all there will ever be."""
    with tf.Graph().as_default(), tf.Session() as sess:
        x = tf.placeholder(tf.float32, [4, 200])
        w = tf.placeholder(tf.float32, [200, 200])
        h = x
        for _ in range(5):
            h = tf.tanh(tf.matmul(h, w))
        y = tf.matmul(h, tf.constant(random((200, 30))))
        sess.run(y, {x: random((4, 200)), w: random((200, 200)) / 1000})
        contracts = [s.kernel.contract for s in only_program(sess).plan.steps]
        assert [c.readers for c in contracts if c] == [(1, 5)] * 5 + [(1, EVERY_STEP)]


@settings(deadline=None, derandomize=True, database=None, max_examples=15)
@given(st.sampled_from((1, 4, 30, 33)), st.sampled_from((64, 130, 200)), st.integers(2, 6), st.booleans())
def test_recurrent_products(m: int, n: int, turns: int, transposed: bool) -> None:
    """A weight that several products of a step read, packed once or by each of them; it changes from run to run."""
    with tf.Graph().as_default(), tf.Session() as sess:
        x, w = tf.placeholder(tf.float64, [m, n]), tf.placeholder(tf.float64, [n, n])
        h = x
        for _ in range(turns):
            h = tf.tanh(tf.matmul(h, w, transpose_b=transposed) / n)
        for seed in range(2):
            value, weight = random((m, n), seed, "float64"), random((n, n), seed + 5, "float64")
            expected = value
            for _ in range(turns):
                expected = np.tanh(expected @ (weight.T if transposed else weight) / n)
            np.testing.assert_allclose(sess.run(h, {x: value, w: weight}), expected, rtol=1e-9, atol=1e-12)


def test_several_readers_share_a_launch() -> None:
    """Where units have few rows, packing in each of them would be much of their work."""
    with tf.Graph().as_default(), tf.Session() as sess:
        x, w = tf.placeholder(tf.float32, [32, 512]), tf.placeholder(tf.float32, [512, 512])
        h = x
        for _ in range(4):
            h = tf.matmul(h, w, transpose_b=True) / 4096
        sess.run(h, {x: random((32, 512)), w: random((512, 512))})
        launches = launches_of(sess)
        assert len([name for name in launches if "pack" in name]) <= 1
        assert only_program(sess).code.launches == 4 + 1
