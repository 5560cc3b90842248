"""Ctrl-C and deadlines: a step stops soon or runs to its end, and variables are as before it or as after it."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest

import graphflow as tf
from graphflow.compiler.llvm.limits import NEVER, NEXT_LOOK
from graphflow.runtime import bound, threads
from graphflow.runtime.call_record import USERS
from graphflow.runtime.native_call import is_native
from graphflow.runtime.threads import set_thread_count, thread_count
from tests.e2e.programs import PROGRAMS

pytestmark = pytest.mark.skipif(not is_native() or not hasattr(time, "CLOCK_MONOTONIC"), reason="steps do not stop")

SIZE, LAYERS = 1024, 150
"""Products of a step: of a second's work and more, of which the tests below see the first tenth."""


class Model:
    """`count` is 1 more after each step, and `w` is halved; `mean` is read in as long a time."""

    def __init__(self) -> None:
        with tf.Graph().as_default():
            self.x = tf.placeholder(tf.float32, [SIZE, SIZE])
            self.w = tf.Variable(tf.ones([SIZE, SIZE]))
            self.count = tf.Variable(0)
            self.layers = tf.placeholder(tf.int32, [None])
            h = self.x
            for _ in range(LAYERS):
                h = tf.tanh(tf.matmul(h, self.w))
            self.mean = tf.reduce_mean(h)
            halved = self.w.assign(self.w * 0.5 + 0.0 * self.mean)
            self.step = tf.group(halved, self.count.assign_add(1))
            self.quick = tf.group(self.w.assign(self.w * 0.5), self.count.assign_add(1))
            self.sess = tf.Session()
            self.sess.run(tf.global_variables_initializer())
        self.fed = {self.x: np.full((SIZE, SIZE), 0.5, np.float32)}

    def run(self, fetches: Any, **options: Any) -> Any:
        return self.sess.run(fetches, self.fed, options=tf.RunOptions(**options) if options else None)

    def steps(self) -> int:
        """How many steps were made, by both variables."""
        count, w = self.sess.run([self.count, self.w])
        np.testing.assert_array_equal(w, np.float32(0.5**count))
        return int(count)

    def is_running(self) -> bool:
        """Whether a step is using the variables and can be stopped."""
        bounds = [b for _, one in self.sess.compiled() for b in one.bounds]
        looks = [int(b.record.limits[NEXT_LOOK]) for b in bounds]
        return bool(self.sess._state.lock.words[USERS]) and any(0 < look < NEVER for look in looks)


@pytest.fixture(scope="module")
def made() -> Iterator[Model]:
    model = Model()
    yield model
    model.sess.close()


@pytest.fixture(params=[1, 2])
def model(made: Model, request: pytest.FixtureRequest) -> Iterator[Model]:
    before = thread_count()
    if threads.has_workers():
        set_thread_count(request.param)
    yield made
    if threads.has_workers():
        set_thread_count(before)


@contextmanager
def when(condition: Callable[[], bool], action: Callable[[], Any]) -> Iterator[None]:
    """Carry something out from another thread as soon as a condition holds."""
    over = threading.Event()

    def wait() -> None:
        while not condition() and not over.is_set():
            time.sleep(0.001)
        if not over.is_set():
            action()

    thread = threading.Thread(target=wait)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def interrupt() -> None:
    os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.parametrize("what", ["step", "mean"])
def test_ctrl_c_stops_a_long_step(model: Model, what: str) -> None:
    before = model.steps()
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt), when(model.is_running, interrupt):
            model.run(getattr(model, what))
        assert model.steps() == before


def test_a_handler_that_does_not_raise_uses_the_session_and_lets_the_step_start_over(made: Model) -> None:
    before, seen = made.steps(), []
    old = signal.signal(signal.SIGINT, lambda *_: seen.append(made.steps()))
    try:
        with when(made.is_running, interrupt):
            made.run(made.step)
    finally:
        signal.signal(signal.SIGINT, old)
    assert seen == [before]
    assert made.steps() == before + 1


def test_other_signals_are_handled_when_the_step_is_done(made: Model) -> None:
    before, seen = made.steps(), []
    old = signal.signal(signal.SIGTERM, lambda *_: seen.append(made.steps()))
    try:
        with when(made.is_running, lambda: os.kill(os.getpid(), signal.SIGTERM)):
            made.run(made.step)
    finally:
        signal.signal(signal.SIGTERM, old)
    assert seen == [before + 1]


def test_ctrl_c_is_the_main_threads(made: Model) -> None:
    before = made.steps()
    worker = threading.Thread(target=made.run, args=[made.step])
    worker.start()
    with pytest.raises(KeyboardInterrupt), when(made.is_running, interrupt):
        threading.Event().wait(60)
    worker.join()
    assert made.steps() == before + 1


def test_nobody_waits_for_a_run_that_was_stopped(made: Model) -> None:
    """What it had is given up: another thread can update at once."""
    before = made.steps()
    with pytest.raises(KeyboardInterrupt), when(made.is_running, interrupt):
        made.run(made.step)
    other = threading.Thread(target=made.sess.run, args=[made.quick])
    other.start()
    other.join(60)
    assert not other.is_alive()
    assert made.steps() == before + 1
    assert int(made.sess._state.lock.words[USERS]) == 0


# deadlines


def test_deadline(model: Model) -> None:
    before = model.steps()
    for what in (model.step, model.mean):
        with pytest.raises(tf.errors.DeadlineExceededError, match="longer than it was given"):
            model.run(what, timeout_in_ms=20)
    assert model.steps() == before
    model.run(model.quick, timeout_in_ms=60_000)
    assert model.steps() == before + 1


def test_deadline_of_a_run_that_waits_for_the_variables(made: Model) -> None:
    before = made.steps()
    late = []

    def read() -> None:
        with pytest.raises(tf.errors.DeadlineExceededError, match="before it could use the variables"):
            made.sess.run(made.count, options=tf.RunOptions(timeout_in_ms=1))
        late.append(True)

    with when(made.is_running, read):
        made.run(made.step)
    assert late == [True]
    assert made.steps() == before + 1


def test_deadline_of_a_session(made: Model) -> None:
    with tf.Session(graph=made.sess.graph, config=tf.ConfigProto(operation_timeout_in_ms=20)) as sess:
        sess.run([made.w.initializer, made.count.initializer], options=tf.RunOptions(timeout_in_ms=60_000))
        call = sess.make_callable(made.step, [made.x])
        for _ in range(2):
            with pytest.raises(tf.errors.DeadlineExceededError):
                call(*made.fed.values())
            with pytest.raises(tf.errors.DeadlineExceededError):
                sess.run(made.mean, made.fed)
        assert sess.run(made.count, options=tf.RunOptions(timeout_in_ms=60_000)) == 0


def test_options_of_another_type(made: Model) -> None:
    with pytest.raises(TypeError, match=r"options must be tf\.RunOptions"):
        made.sess.run(made.count, options={"timeout_in_ms": 3})


# new values aside


@pytest.mark.parametrize("name", [name for name in PROGRAMS if "train" in name or "adam" in name])
def test_the_same_bits_aside(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps that may be stopped compute what others do, whatever reads old and new values."""
    in_place = PROGRAMS[name]()
    monkeypatch.setattr(bound, "LONG_NS", 0)
    for got, expected in zip(PROGRAMS[name](), in_place, strict=True):
        np.testing.assert_array_equal(got, expected)


def test_two_arrays_take_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bound, "LONG_NS", 0)
    with tf.Graph().as_default(), tf.Session() as sess:
        a, b = (tf.Variable(np.full(100, n, np.float32)) for n in (1, 2))
        exchange = tf.group(a.assign(b.read_value()), b.assign(a.read_value()))
        double = a.assign(a * 2.0)
        sess.run(tf.global_variables_initializer())
        values = sess._state.values
        places, found = [], []
        for _ in range(4):
            sess.run(double)
            places.append(values[a.op.name].ctypes.data)
            found.append(sess.run(a)[0])
        assert found == [2, 4, 8, 16]
        assert places[:2] == places[2:]
        assert places[0] != places[1]
        assert sess.trim() >= 400
        assert not sess._state.spares
        sess.run(exchange)
        np.testing.assert_array_equal(sess.run(a), np.full(100, 2))
        monkeypatch.setattr(bound, "LONG_NS", NEVER)
        for n in range(3):  # the first still goes aside: the run before took long
            sess.run(double)
            places.append(values[a.op.name].ctypes.data)
            assert sess.run(a)[0] == 4 * 2**n
        assert places[-1] == places[-2]


def test_without_room_for_both_a_step_updates_in_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bound, "LONG_NS", 0)
    with tf.Graph().as_default(), tf.Session() as sess:
        w = tf.Variable(np.ones(1 << 20, np.float32))
        double = w.assign(w * 2.0).op
        sess.run(w.initializer)
        place = sess._state.values[w.op.name].ctypes.data
        monkeypatch.setenv("GRAPHFLOW_MEMORY_LIMIT", "6M")
        for _ in range(2):
            sess.run(double)
        assert sess._state.values[w.op.name].ctypes.data == place
        monkeypatch.setenv("GRAPHFLOW_MEMORY_LIMIT", "20M")
        sess.run(double)
        assert sess._state.values[w.op.name].ctypes.data != place
        assert sess.run(w)[0] == 8
