"""A child that is forked off a process in which sessions have run: it works, or says why not, and never hangs."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system can't fork")

START = """
import gc, os, signal, threading, time, traceback
import numpy as np
import graphflow as tf
from graphflow.runtime import bound
from graphflow.runtime.call_record import UPDATING, UPDATING_ASIDE, USERS
from graphflow.runtime.memory import RECYCLED
from graphflow.runtime.threads import pool, set_thread_count

set_thread_count(3)
x = tf.placeholder(tf.float32, [None, 600])
w = tf.Variable(tf.ones([600, 600]))
count = tf.Variable(0)
y = tf.tanh(tf.matmul(x, w))
step = tf.group(w.assign(w * 0.5), count.assign_add(1))
sess = tf.Session()
sess.run(tf.global_variables_initializer())
fed = {x: np.ones((300, 600), np.float32)}
assert fed[x].nbytes >= RECYCLED

def use(session, before):
    for n in range(3):
        value, old = session.run([y, count], fed)
        assert old == before + n, old
        np.testing.assert_allclose(value, np.tanh(600 * 0.5 ** old), rtol=1e-5)
        session.run(step)

def in_child(function, *arguments):
    child = os.fork()
    if not child:
        signal.alarm(60)
        try:
            function(*arguments)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0

def wait_until(condition):
    while not condition():
        time.sleep(0.001)
"""

AFTER_USE = """
use(sess, 0)
kept = sess.run(y, fed)
value = kept.copy()

def child():
    global kept
    use(sess, 3)
    assert (kept == value).all()
    del kept  # to memory that is recycled here
    use(sess, 6)
    with tf.Session() as other:
        other.run(tf.global_variables_initializer())
        use(other, 0)

in_child(child)
use(sess, 3)
assert (kept == value).all()
in_child(lambda: in_child(child_of_child))
"""

WHILE_ANOTHER_THREAD_UPDATES = """
h = x
for _ in range(400):
    h = tf.tanh(tf.matmul(h, w))
long = tf.group(w.assign(w * 0.5 + 0.0 * tf.reduce_mean(h)), count.assign_add(1))
big = {x: np.ones((2000, 600), np.float32)}
words = sess._state.lock.words
thread = threading.Thread(target=sess.run, args=[long, big])
thread.start()
wait_until(lambda: words[USERS] == UPDATING_ASIDE)
in_child(use, sess, 0)
assert words[USERS] == UPDATING_ASIDE, "the step was over before the child: nothing was tested"
thread.join()
use(sess, 1)
"""

WHILE_ANOTHER_THREAD_UPDATES_IN_PLACE = """
use(sess, 0)
lock = sess._state.lock
hold = lock.hold(updates=True)
lock.wait(hold)
assert lock.words[USERS] == UPDATING

def child():
    for fetches in (count, step):
        try:
            sess.run(fetches)
        except tf.errors.FailedPreconditionError as error:
            assert "forked while another thread was updating" in str(error)
        else:
            raise AssertionError("variables may be torn")
    with tf.Session() as other:
        other.run(tf.global_variables_initializer())
        use(other, 0)

in_child(child)
lock.leave(hold)
use(sess, 3)
"""

WHILE_ANOTHER_THREAD_WAITS_OR_READS = """
use(sess, 0)
lock = sess._state.lock
reading, waiting = lock.hold(updates=False), lock.hold(updates=True)
lock.wait(reading)
thread = threading.Thread(target=sess.run, args=[step])
thread.start()
wait_until(lambda: lock.words[1])
in_child(use, sess, 3)
lock.leave(reading)
thread.join()
use(sess, 4)
"""

WHILE_ANOTHER_THREAD_COMPILES = """
over = threading.Event()

def compile():
    n = 0
    while not over.is_set():
        with tf.Graph().as_default(), tf.Session() as other:
            z = tf.placeholder(tf.float32, [None])
            for k in range(10):
                z = tf.tanh(z * (k + n)) + tf.reduce_sum(z)
            other.run(z, {"Placeholder:0": [1.0]})
        n += 1

def child():
    assert gc.isenabled()
    use(sess, 0)
    with tf.Session() as other:
        other.run(tf.global_variables_initializer())
        assert other.run(tf.reduce_sum(y) * 0.0 + 7.0, fed) == 7

use_before = sess.run(count)
thread = threading.Thread(target=compile)
thread.start()
try:
    for _ in range(8):
        in_child(child)
        time.sleep(0.03)
finally:
    over.set()
    thread.join()
"""


def run(program: str) -> None:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    environment["GRAPHFLOW_CACHE"] = "off"
    # Python 3.12 and later warn of any fork of a process with threads.
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", f"{START}\n{program}\nprint('fine')"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout, done.stderr) == (0, "fine\n", "")


def test_after_use() -> None:
    run(AFTER_USE.replace("lambda: in_child(child_of_child)", "lambda: in_child(use, sess, 6)"))


def test_while_another_thread_updates() -> None:
    run(WHILE_ANOTHER_THREAD_UPDATES)


def test_while_another_thread_updates_in_place() -> None:
    run(WHILE_ANOTHER_THREAD_UPDATES_IN_PLACE)


def test_while_another_thread_waits_or_reads() -> None:
    run(WHILE_ANOTHER_THREAD_WAITS_OR_READS)


def test_while_another_thread_compiles() -> None:
    run(WHILE_ANOTHER_THREAD_COMPILES)
