"""The same bits for any number of threads, and one session used by many threads at once."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

import numpy as np
import pytest

import graphflow as tf
from graphflow.compiler.llvm import waves
from graphflow.demo import cnn, mlp
from graphflow.runtime.threads import has_workers, pool, set_thread_count, thread_count
from tests.e2e.programs import PROGRAMS, benched

COUNTS = (1, 2, 4)


@pytest.fixture(autouse=True)
def fresh_graph():
    with tf.Graph().as_default():
        yield


@pytest.fixture(autouse=True)
def same_threads_afterwards() -> Iterator[None]:
    before = thread_count()
    yield
    set_thread_count(before)


def for_each_count(run: Callable[[], list[Any]]) -> None:
    """Assert that `run` gives the same bits for each number of threads."""
    set_thread_count(COUNTS[0])
    wanted = [np.asarray(v) for v in run()]
    for count in COUNTS[1:]:
        set_thread_count(count)
        for got, w in zip(run(), wanted, strict=True):
            assert np.asarray(got).tobytes() == w.tobytes()


def trained(build: Callable[[], Any], batch: int, steps: int) -> list[Any]:
    """Losses and variables of some steps from fixed initial values."""
    with tf.Graph().as_default(), tf.Session() as sess:
        tf.set_random_seed(1)
        network = build()
        sess.run(tf.global_variables_initializer())
        losses = []
        for seed in range(steps):
            rng = np.random.default_rng(seed)
            feed = {
                network.images: rng.random((batch, 28, 28, 1), np.float32),
                network.labels: rng.integers(0, 10, batch),
            }
            losses.append(sess.run([network.loss, network.train_op], feed)[0])
        return [np.array(losses), *(sess.run(v) for v in tf.global_variables())]


def wide_mlp() -> Any:
    """A network whose layers are large enough for every launch to go to the pool."""
    from graphflow.demo.network import Network

    images, labels = tf.placeholder(tf.float32, [None, 28, 28, 1]), tf.placeholder(tf.int64, [None])
    x = tf.reshape(images, [-1, 784])
    for n, (inputs, outputs) in enumerate(((784, 512), (512, 512), (512, 10))):
        w = tf.get_variable(f"w{n}", initializer=tf.random_normal([inputs, outputs], stddev=0.03))
        b = tf.get_variable(f"b{n}", initializer=tf.zeros([outputs]))
        x = tf.matmul(x if n == 0 else tf.tanh(x), w) + b
    loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=x))
    return Network(images, labels, loss, loss, tf.train.AdamOptimizer(1e-3).minimize(loss))


@pytest.mark.parametrize("build, batch", [(mlp.build, 64), (cnn.build, 32), (wide_mlp, 128)])
def test_training_gives_the_same_bits(build, batch):
    for_each_count(lambda: trained(build, batch, 3))


@pytest.mark.parametrize("name", PROGRAMS)
def test_small_programs_give_the_same_bits_where_everything_is_shared(name, monkeypatch):
    monkeypatch.setattr(waves, "PARALLEL_NS", 0)  # every launch goes to the pool
    for_each_count(PROGRAMS[name])


SHARED = (
    "mlp_train:128x300x128x10", "cnn_train:16", "lstm_train:16x4x32x64x10", "transformer_train:4x32x64x10",
    "attention:2x4x65x32", "conv3x3:4x17x32x40", "depthwise:2x29x65", "bmm:600x16", "gemm:20x7000x30",
    "gemm:301x257x530xfloat64", "gemv:900x1500", "density:30001", "layernorm:700x300", "transpose:700x900",
    "adam_small:20",
)  # fmt: skip


@pytest.mark.parametrize("name", SHARED)
def test_workloads_give_the_same_bits(name):
    for_each_count(benched(name))


@pytest.mark.skipif(not has_workers(), reason="this system has no worker threads")
def test_a_session_uses_as_many_threads_as_its_configuration_says():
    x = tf.placeholder(tf.float32, [None])
    y, value = tf.tanh(x), np.ones(1_000_000, np.float32)
    for count in (2, 4, 1, 3, 0):
        config = tf.ConfigProto(intra_op_parallelism_threads=count)
        with tf.Session(config=config) as sess:
            sess.run(y, {x: value})
        count = count or 3  # 0 leaves it as it was
        assert thread_count() == pool().threads == count
        deadline = time.monotonic() + 5  # workers that are not wanted any more end some time later
        while pool().running != count - 1 and time.monotonic() < deadline:
            time.sleep(0.001)
        assert pool().running == count - 1


REDUCTIONS: dict[str, Callable[[Any], Any]] = {
    "sum of all": tf.reduce_sum,
    "mean of squares": lambda x: tf.reduce_mean(tf.square(x)),
    "rows": lambda x: tf.reduce_sum(tf.exp(x), 1),
    "columns": lambda x: tf.reduce_sum(x * x, 0),
    "greatest": lambda x: tf.reduce_max(x, 0),
    "softmax": tf.nn.softmax,
    "argmax": lambda x: tf.argmax(x, 1),
    "product of a few": lambda x: tf.reduce_prod(x[:, :8], 1),
    "gram": lambda x: tf.matmul(x, x, transpose_a=True),
    "transposed": lambda x: tf.transpose(x) * 2,
}


@pytest.mark.parametrize("name", REDUCTIONS)
@pytest.mark.parametrize("shape", [(3000, 200), (7, 100_003)])
def test_large_arrays_give_the_same_bits(name, shape):
    if name == "gram" and shape[1] > 1000:
        shape = (100_003, 7)
    x = tf.placeholder(tf.float32, [None, shape[1]])
    y = REDUCTIONS[name](x)
    value = np.random.default_rng(0).standard_normal(shape).astype(np.float32)

    def run() -> list[Any]:
        with tf.Session() as sess:
            return [sess.run(y, {x: value})]

    for_each_count(run)


def test_random_numbers_do_not_depend_on_threads():
    def run() -> list[Any]:
        with tf.Graph().as_default(), tf.Session() as sess:
            tf.set_random_seed(4)
            draws = tf.random_normal([1000, 300]), tf.truncated_normal([300_001]), tf.random_uniform([7, 50_000])
            return [*sess.run(draws), *sess.run(draws)]

    for_each_count(run)


def test_a_session_lives_through_changes_of_the_thread_count():
    x = tf.placeholder(tf.float32, [None, 300])
    y = tf.matmul(tf.exp(x), x, transpose_a=True)
    value = np.random.default_rng(0).standard_normal((400, 300)).astype(np.float32)
    with tf.Session() as sess:
        wanted = sess.run(y, {x: value})
        for count in (4, 1, 3, 2, 1, 4):
            set_thread_count(count)
            np.testing.assert_array_equal(sess.run(y, {x: value}), wanted)


# one session, many threads


def together(count: int, work: Callable[[int], Any]) -> list[Any]:
    """What `work` answers in as many threads that start at once."""
    start = Barrier(count)

    def run(number: int) -> Any:
        start.wait()
        return work(number)

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(run, range(count)))


def test_the_same_fetch_from_many_threads():
    x = tf.placeholder(tf.float32, [None, 40])
    w = tf.Variable(np.random.default_rng(0).standard_normal((40, 50)).astype(np.float32))
    y = tf.nn.softmax(tf.matmul(x, w))
    with tf.Session() as sess:
        sess.run(tf.global_variables_initializer())
        weights = sess.run(w)

        def work(number: int) -> None:
            rng = np.random.default_rng(number)
            for _ in range(40):
                a = rng.standard_normal((int(rng.integers(1, 90)), 40)).astype(np.float32)
                e = np.exp(a @ weights - (a @ weights).max(1, keepdims=True))
                np.testing.assert_allclose(sess.run(y, {x: a}), e / e.sum(1, keepdims=True), rtol=1e-3, atol=1e-5)

        together(4, work)


def test_stateless_fetches_run_side_by_side():
    """Without variables there is no lock: every thread has memory of its own."""
    x = tf.placeholder(tf.float32, [None])
    y = tf.reduce_sum(tf.sqrt(tf.exp(x) + 1)) + x
    call_with = [np.full(20_000 + 7 * n, n / 8, np.float32) for n in range(4)]
    with tf.Session() as sess:
        call = sess.make_callable(y, [x])
        wanted = [call(a).copy() for a in call_with]

        def work(number: int) -> None:
            for _ in range(60):
                np.testing.assert_array_equal(call(call_with[number]), wanted[number])

        together(4, work)


def test_different_fetches_from_many_threads():
    x = tf.placeholder(tf.float32, [None, 8])
    fetches = [tf.exp(x), tf.reduce_sum(x, 0), tf.matmul(x, x, transpose_b=True), tf.nn.relu(x) * 2, tf.argmax(x, 1)]
    a = np.random.default_rng(0).standard_normal((20, 8)).astype(np.float32)
    with tf.Session() as sess, tf.Session() as other:
        wanted = [other.run(f, {x: a}) for f in fetches]

        def work(number: int) -> None:
            for n in range(20):
                at = (number + n) % len(fetches)
                np.testing.assert_array_equal(sess.run(fetches[at], {x: a}), wanted[at])

        together(5, work)


def test_no_update_is_lost():
    v = tf.Variable(np.zeros(1000, np.float32))
    add = v.assign_add(np.ones(1000, np.float32))
    with tf.Session() as sess:
        sess.run(tf.global_variables_initializer())
        together(4, lambda _: [sess.run(add.op) for _ in range(100)])
        np.testing.assert_array_equal(sess.run(v), np.full(1000, 400, np.float32))


def test_updates_are_seen_all_or_not_at_all():
    a, b = tf.Variable(np.zeros(5000)), tf.Variable(np.zeros(5000))
    both = tf.group(a.assign_add(np.ones(5000)), b.assign_sub(np.ones(5000)))
    total = tf.reduce_max(tf.abs(a + b))
    with tf.Session() as sess:
        sess.run(tf.global_variables_initializer())

        def work(number: int) -> None:
            for _ in range(100):
                if number % 2:
                    sess.run(both)
                else:
                    assert sess.run(total) == 0

        together(4, work)
