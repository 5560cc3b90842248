"""No kernel of any kind of program leaves its buffers, at odd sizes and at sizes that it was not compiled for.

Everything here runs with bounds checks (`GRAPHFLOW_CHECK=2`), which also fill with NaN what nobody has written yet: so
the same bits without checks mean that nothing is read before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import graphflow as tf
from graphflow.bench import tf1
from graphflow.bench.workloads import select
from graphflow.compiler.llvm.check_ranges import Ranges
from graphflow.compiler.llvm.code import const
from graphflow.demo import cnn, mlp
from graphflow.runtime.threads import set_thread_count, thread_count
from tests.e2e.test_random_programs import check_programs
from tests.graphflow.test_convolutions import (  # collected here once more, to run with checks
    test_convolution_of_any_geometry,
    test_depthwise,
    test_pools,
)

__all__ = ["test_convolution_of_any_geometry", "test_depthwise", "test_pools"]

WORKLOADS = (
    "chain:1003", "axpy:37", "gelu_sum:70001", "density:77", "softmax:33x100", "softmax:5x3", "layernorm:17x77",
    "transpose:33x50", "transpose:7x130", "colsum:65x33", "rowsum:65x33", "rowsum:3x70001", "gemm:33x65x17",
    "gemm:130x300x70xfloat64", "gemm:257x33x129", "gemm:3x700x5", "bmm:7x5", "bmm:65x3", "bmm:9x16", "gemv:65x77",
    "dense:33x65x17", "conv3x3:2x9x5x7", "conv3x3:1x17x16x33", "conv3x3:2x15x33x41", "conv1x1:2x9x17x5",
    "depthwise:2x9x19", "bottleneck:1x7x16", "attention:2x3x17x9", "mlp_train:5x33x17x3", "cnn_train:3",
    "lstm_train:3x5x7x9x4", "transformer_train:2x5x16x3", "adam_small:30",
)  # fmt: skip
EVERY_ELEMENT = (
    "axpy:37", "softmax:33x100", "layernorm:17x77", "transpose:33x50", "rowsum:65x33", "colsum:65x33",
    "gemm:33x65x17", "gemm:130x300x70xfloat64", "gemm:3x700x5", "bmm:7x5", "gemv:65x77", "dense:33x65x17",
    "conv3x3:2x9x5x7", "conv3x3:2x15x33x41", "conv1x1:2x9x17x5", "depthwise:2x9x19", "attention:2x3x17x9",
)  # fmt: skip
"""Those that touch all elements of all buffers."""

NETWORKS = {"mlp": mlp.build, "cnn": cnn.build}
BATCHES = (5, 1, 2, 16, 33, 0)


@pytest.fixture(autouse=True, scope="module")
def checked() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRAPHFLOW_CHECK", "2")
        yield


@pytest.fixture
def same_threads_afterwards() -> Iterator[None]:
    before = thread_count()
    yield
    set_thread_count(before)


def unchecked(run: Callable[[], list[Any]], monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What `run` gives without checks."""
    with monkeypatch.context() as patch:
        patch.delenv("GRAPHFLOW_CHECK")
        return run()


def assert_same_bits(got: list[Any], wanted: list[Any]) -> None:
    for g, w in zip(got, wanted, strict=True):
        assert np.asarray(g).tobytes() == np.asarray(w).tobytes()


@pytest.mark.parametrize("name", WORKLOADS)
def test_workloads(name, same_threads_afterwards, monkeypatch):
    def run() -> list[Any]:
        (workload,) = select([name])
        step = tf1.make_step(tf, workload)
        results = []
        for count in (1, 2, 3):
            set_thread_count(count)
            results.append(np.array(step()))
        return results

    assert_same_bits(run(), unchecked(run, monkeypatch))


@pytest.mark.parametrize("name", EVERY_ELEMENT)
def test_a_buffer_that_is_a_byte_too_short_is_noticed(name, monkeypatch):
    (workload,) = select([name])
    program = tf1.Program(tf, workload)
    program.step(plain_run=True)()
    buffers = program.session.compiled()[-1][1].plan.buffers
    record = Ranges.set
    for short in range(len(buffers)):

        def shortened(self: Any, b: Any, slot: int, pointer: Any, size: Any, short: int = short) -> None:
            record(self, b, slot, pointer, b.sub(size, const(int(slot == short))))

        monkeypatch.setattr(Ranges, "set", shortened)
        with pytest.raises(tf.errors.InternalError, match=rf" of buffer {short}, {buffers[short].kind} "):
            tf1.Program(tf, workload).step(plain_run=True)()
        monkeypatch.undo()


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_trained_with_batches_of_every_size(name, monkeypatch):
    def run() -> list[Any]:
        results: list[Any] = []
        with tf.Graph().as_default(), tf.Session() as sess:
            tf.set_random_seed(3)
            network = NETWORKS[name]()
            sess.run(tf.global_variables_initializer())
            for batch in BATCHES:
                rng = np.random.default_rng(batch)
                images, labels = rng.random((batch, 28, 28, 1), np.float32), rng.integers(0, 10, batch)
                feed = {network.images: images, network.labels: labels}
                if batch:
                    results += sess.run([network.loss, network.train_op], feed)[:1]
                results.append(sess.run(network.correct, feed))
            return [*results, *sess.run(tf.global_variables())]

    assert_same_bits(run(), unchecked(run, monkeypatch))


@pytest.mark.parametrize("kind", ["plain", "open", "gradient"])
def test_random_programs_with_checks(kind):
    check_programs(kind, 1000, 5)


@pytest.mark.parametrize("shape", [(0,), (1,), (7,), (1000,), (3, 5), (64, 65), (2, 3, 4, 5)])
def test_reductions_and_transposes_of_unknown_sizes(shape, monkeypatch):
    """Compiled for one shape, run for others too."""

    def run() -> list[Any]:
        with tf.Graph().as_default(), tf.Session() as sess:
            x = tf.placeholder(tf.float32, [None] * len(shape))
            axes = range(-1, len(shape))
            sums = [f(x, axis=None if a < 0 else a) for f in (tf.reduce_sum, tf.reduce_max) for a in axes]
            turned = tf.transpose(tf.exp(x))
            results: list[Any] = []
            for more in (0, 1, 17):
                fed = np.random.default_rng(more).random(tuple(n + more for n in shape), np.float32)
                results += sess.run([*sums, turned], {x: fed})
            return results

    assert_same_bits(run(), unchecked(run, monkeypatch))
