"""Many Python threads on one session: updates are seen all or not at all, whatever else goes on; closing is safe."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import graphflow as tf
from graphflow.runtime import bound, threads
from graphflow.runtime.call_record import USERS, WAITERS
from graphflow.runtime.threads import set_thread_count, thread_count

SIZES = (3, 100, 20_000)


class Pair:
    """Two variables that are equal after every step, and a step whose results tell whether they were during it."""

    def __init__(self, size: int) -> None:
        with tf.Graph().as_default():
            self.x = tf.placeholder(tf.float32, [None])
            self.a = tf.Variable(np.zeros(size, np.float32))
            self.b = tf.Variable(np.zeros(size, np.float32))
            self.steps = tf.Variable(0)
            change = tf.reduce_sum(self.x)
            self.add = tf.group(
                self.a.assign_add(tf.fill([size], change)),
                self.b.assign_add(tf.fill([size], change)),
                self.steps.assign_add(1),
            )
            self.halve = tf.group(self.a.assign(self.b * 0.5), self.b.assign(self.a * 0.5), self.steps.assign_add(1))
            self.both = [self.a, self.b]
            self.apart = tf.reduce_max(tf.abs(self.a - self.b))
            self.noise = tf.reduce_sum(tf.random_normal([50])) + self.apart * 0.0
            self.sess = tf.Session()
            self.sess.run(tf.global_variables_initializer())

    def check(self) -> None:
        """All elements of both are the same number."""
        a, b = self.sess.run(self.both)
        assert (a == a[0]).all(), "half of an update was seen"
        np.testing.assert_array_equal(a, b)


def work(pair: Pair, seed: int, is_over: Callable[[], bool]) -> int:
    """Random runs until it is over; how many were updates."""
    generator, updates = random.Random(seed), 0
    add = pair.sess.make_callable(pair.add, [pair.x])
    apart = pair.sess.make_callable(pair.apart)
    while not is_over():
        n = generator.randrange(1, 50)
        kind = generator.choice(["add", "add by run", "halve", "read", "apart", "noise", "deadline", "trim"])
        if kind == "add":
            add(np.full(n, 0.25, np.float32))
        elif kind == "add by run":
            pair.sess.run(pair.add, {pair.x: [0.5] * n})
        elif kind == "halve":
            pair.sess.run(pair.halve, options=tf.RunOptions(timeout_in_ms=60_000) if n % 2 else None)
        elif kind == "read":
            pair.check()
        elif kind == "apart":
            assert apart() == 0
        elif kind == "noise":
            assert np.isfinite(pair.sess.run(pair.noise))
        elif kind == "trim" and n % 5 == 0:
            pair.sess.trim()
        updates += kind in ("add", "add by run", "halve")
    return updates


def stress(pair: Pair, count: int, is_over: Callable[[], bool], meanwhile: Callable[[], Any]) -> None:
    """`count` threads at work on a pair, while this one does something else again and again."""
    found: list[int] = []
    failed: list[BaseException] = []

    def body(seed: int) -> None:
        try:
            found.append(work(pair, seed, is_over))
        except BaseException as error:  # noqa: BLE001 - told to the test below
            failed.append(error)

    workers = [threading.Thread(target=body, args=[seed]) for seed in range(count)]
    for worker in workers:
        worker.start()
    while not is_over() and not failed:
        meanwhile()
    for worker in workers:
        worker.join(120)
    assert not failed, failed
    assert len(found) == count, "somebody hangs"
    pair.check()
    assert pair.sess.run(pair.steps) == sum(found)
    words = pair.sess._state.lock.words
    assert words[USERS] == words[WAITERS] == 0


def open_and_close(generator: random.Random, pair: Pair) -> None:
    """Another session of the same graph, with another number of threads."""
    config = tf.ConfigProto(intra_op_parallelism_threads=generator.choice([1, 2, 3, 8]))
    with tf.Session(graph=pair.sess.graph, config=config) as other:
        other.run([pair.a.initializer, pair.b.initializer, pair.steps.initializer])
        other.run(pair.halve)
        assert other.run(pair.apart) == 0


def after(runs: int) -> Callable[[], bool]:
    """True from about so many calls on, from whatever thread."""
    left = iter(range(runs))
    return lambda: next(left, None) is None


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("aside", [False, True])
def test_updates_are_atomic(size: int, aside: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if aside:
        monkeypatch.setattr(bound, "LONG_NS", 0)
    before, generator, pair = thread_count(), random.Random(size), Pair(size)
    stress(pair, 4, after(600), lambda: open_and_close(generator, pair))
    pair.sess.close()
    if threads.has_workers():
        set_thread_count(before)


def test_scratch_has_room_for_the_threads_of_a_step() -> None:
    """Whoever changes their number meanwhile: what a step may use is what was made for it."""
    before, over = thread_count(), after(300)
    with tf.Graph().as_default(), tf.Session() as sess:
        x = tf.placeholder(tf.float32, [300, 300])
        y = tf.reduce_sum(tf.matmul(x, tf.tanh(x)))
        ones = np.ones((300, 300), np.float32)
        expected = sess.run(y, {x: ones})
        wrong = []

        def run() -> None:
            while not over():
                if sess.run(y, {x: ones}) != expected:
                    wrong.append(True)

        workers = [threading.Thread(target=run) for _ in range(3)]
        for worker in workers:
            worker.start()
        generator = random.Random(0)
        while not over() and threads.has_workers():
            set_thread_count(generator.randrange(1, 9))
        for worker in workers:
            worker.join()
        assert not wrong
        (executable,) = [one for _, one in sess.compiled()]
        for made in executable.bounds:
            assert made.record.limits[1] * made.layout.scratch_bytes <= made.scratch.nbytes
    if threads.has_workers():
        set_thread_count(before)


@pytest.mark.parametrize("aside", [False, True])
def test_who_waits_for_the_variables_updates_them_then(aside: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """First values too, which have memory of their own until they are there."""
    if aside:
        monkeypatch.setattr(bound, "LONG_NS", 0)
    with tf.Graph().as_default(), tf.Session() as sess:
        a, b = tf.Variable(np.ones(4, np.float32)), tf.Variable(np.full(4, 2, np.float32))
        sess.run(a.initializer)
        lock = sess._state.lock
        for fetches in (b.initializer, b.assign(b * 2.0).op, b.assign(b * 2.0).op):
            hold = lock.hold(updates=False)
            lock.wait(hold)
            waiting = threading.Thread(target=sess.run, args=[fetches])
            waiting.start()
            while not lock.words[WAITERS]:
                time.sleep(0.001)
            lock.leave(hold)
            waiting.join(60)
        np.testing.assert_array_equal(sess.run(b), np.full(4, 8))


# Ctrl-C at any moment, in a process of its own

INTERRUPTED = """
import os, random, signal, sys, threading, time
sys.path.insert(0, {root!r})
import numpy as np
import graphflow as tf
from graphflow.runtime import bound
from tests.runtime.test_concurrency import Pair, after, work
from graphflow.runtime.call_record import USERS, WAITERS

bound.LONG_NS = {long}
pair = Pair({size})
# Whatever is imported on the way must be there: an import that Ctrl-C breaks off can leave CPython's lock of imports.
work(pair, 0, after(200))
state = {{"over": False, "ready": False, "sent": 0}}

def interrupt():
    generator, last = random.Random(1), time.monotonic()
    while not state["over"]:
        time.sleep(generator.uniform(0, 0.004))
        # Python drops what is raised in a destructor or a callback of a weak reference: then once more
        if state["ready"] or time.monotonic() - last > 3:
            state["ready"], last = False, time.monotonic()
            state["sent"] += 1
            os.kill(os.getpid(), signal.SIGINT)

def others():
    work(pair, 7, lambda: state["over"])

helpers = [threading.Thread(target=f) for f in (interrupt, others)]
for helper in helpers:
    helper.start()
caught = 0
while caught < {count}:
    try:
        state["ready"] = True
        work(pair, caught, lambda: False)
    except KeyboardInterrupt:
        caught += 1
state["over"] = True
for helper in helpers:
    helper.join()
pair.check()
words = pair.sess._state.lock.words
assert words[USERS] == words[WAITERS] == 0, words
before = pair.sess.run(pair.steps)
pair.sess.run(pair.halve)
assert pair.sess.run(pair.steps) == before + 1
print("fine")
"""


def interrupted(size: int, long: int, count: int) -> None:
    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    program = INTERRUPTED.format(root=root, size=size, long=long, count=count)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    done = subprocess.run(
        [sys.executable, "-X", "faulthandler", "-c", program],
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert (done.returncode, done.stdout) == (0, "fine\n"), done.stderr


@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="signals are not sent here")
@pytest.mark.parametrize("long", [0, bound.LONG_NS])
def test_ctrl_c_at_any_moment(long: int) -> None:
    interrupted(20_000, long, 60)


@pytest.mark.soak
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("long", [0, bound.LONG_NS])
def test_ctrl_c_for_long(size: int, long: int) -> None:
    interrupted(size, long, 3_000)


@pytest.mark.soak
@pytest.mark.parametrize("size", SIZES)
def test_updates_are_atomic_for_long(size: int) -> None:
    before, generator, pair = thread_count(), random.Random(size), Pair(size)
    end = time.monotonic() + 60
    stress(pair, 8, lambda: time.monotonic() > end, lambda: open_and_close(generator, pair))
    if threads.has_workers():
        set_thread_count(before)


# closing


def test_closing_while_steps_run() -> None:
    """What has begun ends as it would have; what comes later is refused."""
    for n in range(12):
        pair = Pair(20_000)
        add = pair.sess.make_callable(pair.add, [pair.x])
        fed = np.ones(3, np.float32)
        add(fed)
        outcomes: list[str] = []

        def run(call: Callable[[], Any], outcomes: list[str] = outcomes) -> None:
            try:
                while True:
                    call()
            except RuntimeError as error:
                outcomes.append(str(error))

        calls = [
            lambda add=add, fed=fed: add(fed),
            lambda pair=pair: pair.sess.run(pair.halve),
            lambda pair=pair: pair.check(),
            lambda pair=pair: pair.sess.run(pair.noise),
        ]
        workers = [threading.Thread(target=run, args=[call]) for call in calls]
        for worker in workers:
            worker.start()
        time.sleep(0.0005 * n)
        pair.sess.close()
        for worker in workers:
            worker.join(60)
        assert outcomes == ["Attempted to use a closed Session."] * len(calls)
        with pytest.raises(RuntimeError, match=r"Attempted to use a closed Session\."):
            add(fed)


def test_a_step_that_runs_when_its_session_is_closed_and_forgotten_ends_well() -> None:
    size, layers = 600, 60
    with tf.Graph().as_default():
        x = tf.placeholder(tf.float32, [size, size])
        w = tf.Variable(np.full((size, size), 1 / size, np.float32))
        h = x
        for _ in range(layers):
            h = tf.matmul(h, w)
        fetches = [h, w.assign(w * 2.0)]
        sess = tf.Session()
        sess.run(w.initializer)
    ones, answers = np.ones((size, size), np.float32), []
    words = sess._state.lock.words
    call = sess.make_callable(fetches, [x])
    thread = threading.Thread(target=lambda call: answers.append(call(ones)), args=[call])
    thread.start()
    while not words[USERS] and thread.is_alive():
        time.sleep(0.0001)
    sess.close()
    del sess, call, w, h, fetches
    thread.join()
    h_value, w_value = answers[0]
    np.testing.assert_allclose(h_value, ones, rtol=1e-4)
    np.testing.assert_array_equal(w_value, np.full((size, size), 2 / size, np.float32))
