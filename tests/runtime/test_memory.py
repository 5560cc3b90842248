"""The bytes of a run: told before it, refused where they are not there, given back, and nothing new from run to run."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import graphflow as tf
from graphflow.compiler.arena import least
from graphflow.runtime import bound, memory_limit, memory_plan
from graphflow.runtime.memory import RECYCLED
from graphflow.runtime.memory_plan import bytes_text
from graphflow.runtime.threads import pool

TERA = 10**12


@pytest.fixture(autouse=True)
def graph(monkeypatch: pytest.MonkeyPatch) -> Iterator[tf.Graph]:
    monkeypatch.delenv("GRAPHFLOW_MEMORY_LIMIT", raising=False)
    with tf.Graph().as_default() as g:
        yield g


class Network:
    """A layer with a gradient step; its batch is open."""

    def __init__(self, batch: int | None = None) -> None:
        self.x = tf.placeholder(tf.float32, [batch, 784], name="x")
        self.w = tf.Variable(np.random.default_rng(0).random((784, 512), np.float32), name="w")
        self.y = tf.nn.softmax(tf.matmul(self.x, self.w), name="y")
        self.loss = tf.reduce_mean(tf.square(self.y), name="loss")
        self.step = tf.train.MomentumOptimizer(0.1, 0.9).minimize(self.loss)

    def fed(self, rows: int) -> dict[tf.Tensor, Any]:
        return {self.x: np.ones((rows, 784), np.float32)}


# plan


def test_a_plan_has_the_bytes_of_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    network, rows = Network(), 100
    made: list[bound.Bound] = []
    original = bound.Bound.__init__
    monkeypatch.setattr(bound.Bound, "__init__", lambda self, *a: (made.append(self), original(self, *a))[1])
    with tf.Session() as sess:
        plan = sess.plan([network.step, network.loss, network.y], {network.x: (rows, 784)})
        assert not made  # nothing ran, and nothing has a value
        with pytest.raises(tf.errors.FailedPreconditionError):
            sess.run(network.w)
        sess.run(tf.global_variables_initializer())
        made.clear()
        sess.run([network.step, network.loss, network.y], network.fed(rows))
    (ran,) = made
    assert plan.arena == ran.arena.nbytes - 64
    assert plan.scratch == ran.scratch.nbytes - 64
    assert plan.outputs == 4 + 4 * rows * 512
    assert plan.variables == 2 * 4 * 784 * 512
    assert plan.feeds == 4 * rows * 784
    assert plan.threads == pool().threads
    assert plan.total == plan.arena + plan.outputs + plan.variables + plan.constants + plan.scratch
    assert plan.least == least(list(bound.lifetimes(ran.layout, lambda s: memory_plan.evaluate(s, ran.sizes)).values()))


def test_buffers_have_op_shape_and_line() -> None:
    network = Network()
    with tf.Session() as sess:
        plan = sess.plan([network.step, network.y], {network.x: (3000, 784)})
    assert [b.bytes for b in plan.buffers] == sorted((b.bytes for b in plan.buffers), reverse=True)
    output = next(b for b in plan.buffers if b.kind == "output")
    assert (output.op, output.name, output.shape, output.bytes) == ("Softmax", "y", (3000, 512), 3000 * 512 * 4)
    assert output.source == network.y.op.source
    variables = {b.name for b in plan.buffers if b.kind == "variable"}
    assert variables == {"w", "w/Momentum"}
    text = str(plan)
    assert text.startswith(f"a run needs {bytes_text(plan.total)}\n  arena ")
    line = next(line for line in text.splitlines() if "'y'" in line)
    assert line.split() == ["6.1", "MB", "output", "float32[3000,", "512]", "Softmax", "'y'", str(network.y.op.source)]


@pytest.mark.parametrize(
    "form", [tuple, tf.TensorShape, lambda s: np.ones(s, np.float32), lambda s: np.ones(s).tolist()]
)
def test_feeds_of_a_plan_are_shapes_or_values(form: Callable[[tuple[int, ...]], Any]) -> None:
    network = Network()
    with tf.Session() as sess:
        assert sess.plan(network.y, {network.x: form((7, 784))}).outputs == 7 * 512 * 4
        assert sess.plan(network.y, {"x:0": form((1, 784))}).outputs == 512 * 4
        assert sess.plan(network.y, {"x:0": (0, 784)}).outputs == 0


def test_known_shapes_need_not_be_given() -> None:
    network = Network(batch=5)
    with tf.Session() as sess:
        assert sess.plan(network.y).outputs == 5 * 512 * 4
        assert sess.plan([]).total == sess.plan(tf.no_op()).total == 0


def test_unknown_sizes_are_named(graph: tf.Graph) -> None:
    a = tf.placeholder(tf.float32, [None, 3, None], name="a")
    b = tf.placeholder(tf.float32, name="b")
    total = tf.reduce_sum(a) + tf.reduce_sum(b)
    with tf.Session() as sess:
        with pytest.raises(tf.errors.InvalidArgumentError, match=r"axes 0, 2 of 'a:0' \(.*test_memory.*shape of 'b:0'"):
            sess.plan(total)
        with pytest.raises(tf.errors.InvalidArgumentError, match=r"not given: axis 2 of 'a:0' \(declared at [^;]*\)$"):
            sess.plan(total, {a: (4, 3, None), b: ()})
        assert sess.plan(total, {a: (4, None, 5), b: 1.0}).outputs == 4


@pytest.mark.parametrize(
    "shape, message", [((3, 4), "shape"), ((3,), "shape"), ((-1, 784), "shape"), ((10**18, 784), "")]
)
def test_shapes_that_can_not_be(shape: tuple[int, ...], message: str) -> None:
    network = Network()
    with tf.Session() as sess, pytest.raises(tf.errors.InvalidArgumentError, match=f"{message}.*x:0"):
        sess.plan(network.y, {network.x: shape})


def test_a_plan_compiles_for_the_run() -> None:
    network = Network()
    with tf.Session() as sess:
        sess.run(network.w.initializer)
        sess.plan(network.y, {network.x: (4, 784)})
        count = len(sess.compiled())
        sess.run(network.y, network.fed(4))
        assert len(sess.compiled()) == count


@pytest.mark.parametrize(
    "size, text", [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (999_960, "1.0 MB"), (40 * TERA, "40.0 TB")]
)
def test_bytes_text(size: int, text: str) -> None:
    assert bytes_text(size) == text


# limits


def test_a_run_that_cannot_fit_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    network = Network()
    with tf.Session() as sess:
        sess.run(tf.global_variables_initializer())
        before = sess.run(network.w)
        plan = sess.plan([network.step, network.y], {network.x: (1000, 784)})
        monkeypatch.setenv("GRAPHFLOW_MEMORY_LIMIT", str(plan.total - 1))
        with pytest.raises(tf.errors.ResourceExhaustedError) as error:
            sess.run([network.step, network.y], network.fed(1000))
        first, heading, largest = str(error.value).splitlines()[:3]
        assert "GRAPHFLOW_MEMORY_LIMIT allows" in first
        assert bytes_text(plan.total) in first
        assert heading == "largest buffers"
        assert largest == plan.largest()[1]
        assert str(network.y.op.source) in str(error.value)
        assert isinstance(error.value, MemoryError)
        np.testing.assert_array_equal(sess.run(network.w), before)
        sess.run([network.step, network.y], network.fed(10))  # smaller ones go on
        monkeypatch.setenv("GRAPHFLOW_MEMORY_LIMIT", str(plan.total))
        sess.run([network.step, network.y], network.fed(1000))
        assert not np.array_equal(sess.run(network.w), before)


def test_a_callable_is_refused_too(monkeypatch: pytest.MonkeyPatch) -> None:
    x = tf.placeholder(tf.float32, [None])
    with tf.Session() as sess:
        call = sess.make_callable(x + 1.0, [x])
        call(np.ones(4, np.float32))
        monkeypatch.setenv("GRAPHFLOW_MEMORY_LIMIT", "1K")
        with pytest.raises(tf.errors.ResourceExhaustedError, match=r"4\.0 kB"):
            call(np.ones(1000, np.float32))
        out = np.empty(1000, np.float32)
        assert call(np.ones(1000, np.float32), out=out) is out  # its memory is there
        assert call(np.ones(256, np.float32)).shape == (256,)


@pytest.mark.parametrize("interpreted", ["0", "1"])
def test_a_hundred_terabytes(interpreted: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRAPHFLOW_INTERPRET", interpreted)
    large = tf.random_uniform([25 * 10**9, 1000], name="large")
    rows = tf.nn.softmax(tf.matmul(large, tf.ones([1000, 1000])), name="rows")
    state = tf.Variable(tf.ones([25 * 10**9, 1000]), name="state")
    with tf.Session() as sess:
        assert sess.plan(large).outputs == 100 * TERA
        for fetch in (large, tf.reduce_sum(rows, 0), state.initializer):
            with pytest.raises(tf.errors.ResourceExhaustedError, match=r"100\.0 TB .*test_memory"):
                sess.run(fetch)
        with pytest.raises(tf.errors.FailedPreconditionError):
            sess.run(state)


@pytest.mark.parametrize("text, size", [("", None), ("12", 12), ("2k", 2048), ("3M", 3 << 20), (" 1G ", 1 << 30)])
def test_set_limits(text: str, size: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRAPHFLOW_MEMORY_LIMIT", text)
    assert memory_limit.set_limit() == size


@pytest.mark.parametrize("text", ["much", "1.5G", "-1", "2GB"])
def test_a_limit_that_is_none(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRAPHFLOW_MEMORY_LIMIT", text)
    with tf.Session() as sess, pytest.raises(tf.errors.InvalidArgumentError, match="GRAPHFLOW_MEMORY_LIMIT"):
        sess.run(tf.random_uniform([3]))


@pytest.mark.parametrize("shape", [(2**40, 2**40), (2**31, 2**31), (2**60, 4)])
def test_more_than_can_be_addressed(shape: tuple[int, ...]) -> None:
    x = tf.placeholder(tf.float32, [None, 1], name="x")
    for large in (tf.random_uniform(shape), tf.reduce_sum(tf.ones(shape) * x[0], name="sum")):
        with tf.Session() as sess, pytest.raises(tf.errors.ResourceExhaustedError, match=r"at test_memory.*any memory"):
            sess.run(large, {x: [[1.0]]} if large.op.name == "sum" else None)


class System:
    """Files as the kernel would have them."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.groups, self.meminfo, self.own = folder / "cgroup", folder / "meminfo", folder / "own"
        (self.groups / "outer" / "inner").mkdir(parents=True)
        for name, value in (("GROUPS", self.groups), ("MEMINFO", self.meminfo), ("OWN_GROUP", self.own)):
            monkeypatch.setattr(memory_limit, name, value)

    def group(self, name: str, **values: object) -> None:
        self.own.write_text("1:name=systemd:/\n0::/outer/inner\n")
        for key, value in values.items():
            (self.groups / name / f"memory.{key.replace('_', '.')}").write_text(f"{value}\n")


def test_what_the_system_tells(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    system = System(tmp_path, monkeypatch)
    assert memory_limit.available() is None
    system.meminfo.write_text("MemTotal: 900 kB\nMemAvailable:   500 kB\nSwapFree: 100 kB\n")
    assert memory_limit.available() == 600 * 1024
    system.group("outer/inner", max="max", current=5)
    assert memory_limit.available() == 600 * 1024
    system.group("outer", max=500_000, current=100_000, stat="anon 9\ninactive_file 1000", swap_max=0, swap_current=0)
    assert memory_limit.available() == 401_000
    system.group("outer/inner", max=300_000, current=100_000, swap_max=50_000, swap_current=20_000)
    assert memory_limit.available() == 230_000
    system.group("outer/inner", max=50_000)
    assert memory_limit.available() == -20_000


def test_a_container_refuses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    system = System(tmp_path, monkeypatch)
    system.group("outer", max=10 << 20, current=8 << 20)
    x = tf.placeholder(tf.float32, [None])
    with tf.Session() as sess:
        assert sess.run(x + 1.0, {x: np.ones(100_000, np.float32)}).shape == (100_000,)
        with pytest.raises(tf.errors.ResourceExhaustedError, match=r"the system has 2\.1 MB"):
            sess.run(x + 1.0, {x: np.ones(1_000_000, np.float32)})


# what stays and what goes


def test_fixed_shapes_allocate_once(monkeypatch: pytest.MonkeyPatch) -> None:
    network = Network()
    with tf.Session() as sess:
        sess.run(tf.global_variables_initializer())
        fetches, small, large = [network.step, network.loss], network.fed(8), network.fed(40)
        for fed in (small, large):
            sess.run(fetches, fed)
        monkeypatch.setattr(bound, "aligned_empty", None)  # a call would raise
        monkeypatch.setattr("graphflow.runtime.store.aligned_empty", None)
        for fed in (small, large, small):
            sess.run(fetches, fed)


def test_trim_gives_arenas_and_results_back() -> None:
    x = tf.placeholder(tf.float32, [None, 64])
    y = tf.nn.softmax(tf.matmul(tf.tanh(x), tf.ones([64, 64])) @ tf.ones([64, 64]))
    with tf.Session() as sess:
        assert sess.trim() == 0
        sess.trim()  # what other sessions have left
        call = sess.make_callable([y, tf.reduce_sum(y)], [x])
        fed = {rows: np.full((rows, 64), 0.5, np.float32) for rows in (1000, 3000)}
        wanted = {rows: call(value) for rows, value in fed.items()}
        arenas = sum(b.nbytes for _, e in sess.compiled() for b in e.bounds)
        call(fed[3000])  # results that nobody keeps
        assert RECYCLED < 3000 * 64 * 4
        assert sess.trim() == arenas + 3000 * 64 * 4
        assert sess.trim() == 0
        for rows, value in fed.items():
            for one, other in zip(call(value), wanted[rows], strict=True):
                np.testing.assert_array_equal(one, other)
        assert len(sess.compiled()) == 1


def test_trim_leaves_what_is_running() -> None:
    network = Network()
    with tf.Session() as sess:
        sess.run(tf.global_variables_initializer())
        wanted = {rows: sess.run(network.y, network.fed(rows)) for rows in (1, 20)}
        done = threading.Event()

        def work(rows: int) -> int:
            runs = 0
            while not done.is_set():
                np.testing.assert_array_equal(sess.run(network.y, network.fed(rows)), wanted[rows])
                runs += 1
            return runs

        with ThreadPoolExecutor(3) as threads:
            working = [threads.submit(work, rows) for rows in (1, 20, 20)]
            for _ in range(200):
                sess.trim()
            done.set()
        assert min(one.result() for one in working) > 0
