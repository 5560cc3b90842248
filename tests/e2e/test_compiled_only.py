"""A run is one native call that evaluates nothing by NumPy; the interpreter, asked for by name, says the same."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import graphflow as tf
from graphflow.compiler import interpret as interpreter
from graphflow.core.op import OPS
from graphflow.demo import cnn, mlp
from graphflow.runtime import executable as runtime

NETWORKS = {"mlp": mlp.build, "cnn": cnn.build}
BATCH = 6


@pytest.fixture(autouse=True)
def fresh_graph():
    with tf.Graph().as_default():
        yield


def digits(seed: int = 0, batch: int = BATCH) -> tuple[Any, Any]:
    """Something like images and labels."""
    rng = np.random.default_rng(seed)
    return rng.random((batch, 28, 28, 1), np.float32), rng.integers(0, 10, batch)


def feed(network: Any, seed: int = 0) -> dict[Any, Any]:
    images, labels = digits(seed)
    return {network.images: images, network.labels: labels}


def evaluations() -> int:
    """How many ops NumPy has evaluated in this process."""
    return interpreter.EVALUATIONS


def forbid(monkeypatch: pytest.MonkeyPatch) -> None:
    """From here on every evaluation by NumPy is an error."""

    def never(*_: Any, **__: Any) -> Any:
        raise AssertionError("a run evaluates an op by NumPy")

    monkeypatch.setattr(interpreter, "evaluate_node", never)
    monkeypatch.setattr(interpreter, "interpret", never)
    for op in OPS.values():
        monkeypatch.setattr(op, "eval", never)
        if hasattr(op, "_eval"):
            monkeypatch.setattr(op, "_eval", never)


@pytest.mark.parametrize("name", NETWORKS)
def test_training_evaluates_nothing_by_numpy(name):
    network = NETWORKS[name]()
    with tf.Session() as sess:
        before = evaluations()
        sess.run(tf.global_variables_initializer())
        for seed in range(3):
            sess.run([network.train_op, network.loss], feed(network, seed))
        sess.run(network.correct, feed(network))
        assert evaluations() == before


@pytest.mark.parametrize("name", NETWORKS)
def test_training_runs_with_numpy_forbidden(name, monkeypatch):
    network = NETWORKS[name]()
    with tf.Session() as sess:
        sess.run(tf.global_variables_initializer())
        sess.run([network.train_op, network.loss], feed(network))  # compiles, and folds constants
        forbid(monkeypatch)
        losses = [sess.run([network.train_op, network.loss], feed(network))[1] for _ in range(5)]
    assert losses[-1] < losses[0]


def test_compiling_without_constants_needs_no_numpy(monkeypatch):
    x = tf.placeholder(tf.float32, [None, 5])
    w = tf.placeholder(tf.float32, [5, 3])
    y = tf.nn.softmax(tf.tanh(tf.matmul(x, w)))
    forbid(monkeypatch)
    rng = np.random.default_rng(0)
    a, b = rng.random((4, 5), np.float32), rng.random((5, 3), np.float32)
    with tf.Session() as sess:
        got = sess.run(y, {x: a, w: b})
    e = np.exp(np.tanh(a @ b))
    np.testing.assert_allclose(got, e / e.sum(1, keepdims=True), rtol=1e-5)


class Counting:
    """Counts what is compiled; what is called counts itself."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.built: list[Any] = []
        init = runtime.Executable.__init__

        def counting_init(executable: Any, *args: Any) -> None:
            init(executable, *args)
            self.built.append(executable)

        monkeypatch.setattr(runtime.Executable, "__init__", counting_init)

    @property
    def calls(self) -> int:
        return sum(b.record.runs for executable in self.built for b in executable.bounds)


@pytest.mark.parametrize("name", NETWORKS)
def test_a_training_step_is_one_executable_and_one_native_call(name, monkeypatch):
    network = NETWORKS[name]()
    with tf.Session() as sess:
        sess.run(tf.global_variables_initializer())
        count = Counting(monkeypatch)
        for seed in range(4):
            sess.run([network.train_op, network.loss], feed(network, seed))
        assert len(count.built) == 1
        assert count.calls == 4
        (step,) = count.built
        trained = {v.op.name for v in tf.global_variables()}
        assert set(step.plan.writes) == trained
        assert [s.kind for s in step.plan.buffers].count("output") == 1  # the loss; all else stays inside


@pytest.mark.parametrize("name", NETWORKS)
def test_variables_are_updated_in_place(name):
    network = NETWORKS[name]()
    with tf.Session() as sess:
        sess.run(tf.global_variables_initializer())
        before = {key: (v.ctypes.data, v.copy()) for key, v in sess._state.values.items()}
        sess.run([network.train_op, network.loss], feed(network))
        for v in tf.global_variables():
            place, old = before[v.op.name]
            assert sess._state.values[v.op.name].ctypes.data == place
            assert not np.array_equal(sess._state.values[v.op.name], old), v.name


def test_no_update_of_the_networks_needs_memory_aside():
    """Every new value of a variable is written where the old one is: no copy at the end of the step."""
    for build in NETWORKS.values():
        with tf.Graph().as_default(), tf.Session() as sess:
            network = build()
            sess.run(tf.global_variables_initializer())
            sess.run([network.train_op, network.loss], feed(network))
            (plan,) = [e.plan for p in sess._plans.values() for e in p._executables if len(e.plan.writes) and e.types]
            assert not [step.kernel.name for step in plan.steps if step.kernel.name.startswith("copy")]


def train(build: Any, steps: int) -> tuple[list[float], dict[str, Any]]:
    """Losses and variables of a few steps from fixed initial values."""
    with tf.Graph().as_default(), tf.Session() as sess:
        tf.set_random_seed(3)
        network = build()
        sess.run(tf.global_variables_initializer())
        losses = [float(sess.run([network.train_op, network.loss], feed(network, s))[1]) for s in range(steps)]
        return losses, {v.op.name: sess.run(v) for v in tf.global_variables()}


@pytest.mark.parametrize("name", NETWORKS)
def test_the_interpreter_says_the_same(name, monkeypatch):
    losses, variables = train(NETWORKS[name], 2)
    monkeypatch.setenv("GRAPHFLOW_INTERPRET", "1")
    before = evaluations()
    expected, wanted = train(NETWORKS[name], 2)
    assert evaluations() > before
    np.testing.assert_allclose(losses, expected, rtol=1e-6)
    for key, value in wanted.items():
        np.testing.assert_allclose(variables[key], value, rtol=1e-4, atol=1e-6, err_msg=key)
