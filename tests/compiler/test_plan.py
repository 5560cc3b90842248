"""Where things live: the arena, updates in place, and what a run may fetch and feed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import graphflow as tf
from graphflow.compiler.plan import Plan


@pytest.fixture(autouse=True)
def fresh_graph():
    with tf.Graph().as_default():
        yield


# updates in place

START = np.arange(12, dtype=np.float32).reshape(3, 4) - 5
SQUARE = np.arange(49, dtype=np.float64).reshape(7, 7) / 7 - 3


def plans(sess: Any) -> list[Plan]:
    """The plans of what a session has compiled since its variables were initialized."""
    return [e.plan for p in sess._plans.values() for e in p._executables if e.plan.reads]


def updated(initial: Any, new: Callable[[Any], Any]) -> tuple[Any, Plan]:
    """A variable after v := new(v), run twice, and the plan."""
    v = tf.Variable(initial)
    op = v.assign(new(v.value())).op
    with tf.Session() as sess:
        sess.run(tf.global_variables_initializer())
        sess.run(op)
        sess.run(op)
        return sess.run(v), plans(sess)[0]


def aside(plan: Plan) -> bool:
    """Whether a new value is computed elsewhere and copied."""
    return any(b.kind == "arena" for b in plan.buffers)


SAFE: dict[str, tuple[Any, Callable[[Any], Any], Callable[[Any], Any]]] = {
    "elementwise": (START, lambda v: v * 2 + 1, lambda v: v * 2 + 1),
    "softmax": (START, tf.nn.softmax, lambda v: np.exp(v) / np.exp(v).sum(1, keepdims=True)),
    "its own maximum": (START, lambda v: v / tf.reduce_max(v), lambda v: v / v.max()),
}
UNSAFE: dict[str, tuple[Any, Callable[[Any], Any], Callable[[Any], Any]]] = {
    "transpose": (SQUARE, tf.transpose, lambda v: v.T),
    "reverse": (START, lambda v: tf.reverse(v, [0]), lambda v: v[::-1]),
    "shift": (START, lambda v: tf.concat([v[1:], v[:1]], 0), lambda v: np.roll(v, -1, 0)),
    "shift of a row": (START, lambda v: tf.concat([v[:, 1:], v[:, :1]], 1), lambda v: np.roll(v, -1, 1)),
    "its own sum": (START, lambda v: v + tf.reduce_sum(v), lambda v: v + v.sum()),
    "its rows' sums": (START, lambda v: v + tf.reduce_sum(v, 1, keepdims=True), lambda v: v + v.sum(1, keepdims=True)),
    "its columns' sums": (START, lambda v: v + tf.reduce_sum(v, 0), lambda v: v + v.sum(0)),
    "product with itself": (SQUARE, lambda v: tf.matmul(v, v), lambda v: v @ v),
    "product with a part": (SQUARE, lambda v: tf.matmul(v, v * 0.5) + v, lambda v: v @ (v * 0.5) + v),
    "first row everywhere": (START, lambda v: v - v[:1], lambda v: v - v[:1]),
    "mirrored sum": (START, lambda v: v + tf.reverse(v, [1]), lambda v: v + v[:, ::-1]),
    "reshaped": (START, lambda v: tf.transpose(tf.reshape(v, [4, 3])), lambda v: v.reshape(4, 3).T),
}


@pytest.mark.parametrize("name", SAFE | UNSAFE)
def test_a_variable_made_of_itself(name):
    initial, new, by_numpy = (SAFE | UNSAFE)[name]
    got, _ = updated(initial, new)
    np.testing.assert_allclose(got, by_numpy(by_numpy(initial)), rtol=2e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["transpose", "reverse", "shift", "product with itself", "mirrored sum"])
def test_what_reads_elsewhere_is_computed_aside(name):
    initial, new, _ = UNSAFE[name]
    assert aside(updated(initial, new)[1])


def test_what_reads_its_own_element_is_computed_in_place():
    initial, new, _ = SAFE["elementwise"]
    assert not aside(updated(initial, new)[1])


def run_twice(*updates: Any) -> list[Any]:
    """All variables after updates were run twice together."""
    with tf.Session() as sess:
        sess.run(tf.global_variables_initializer())
        for _ in range(2):
            sess.run(list(updates))
        return [sess.run(v) for v in tf.global_variables()]


def test_two_variables_are_swapped():
    a, b = tf.Variable(START), tf.Variable(START * 10)
    old_a, old_b = tf.identity(a), tf.identity(b)
    with tf.control_dependencies([old_a, old_b]):
        swap = tf.group(a.assign(old_b), b.assign(old_a))
    with tf.Session() as sess:
        sess.run(tf.global_variables_initializer())
        sess.run(swap)
        np.testing.assert_array_equal(sess.run(a), START * 10)
        np.testing.assert_array_equal(sess.run(b), START)
        sess.run(swap)
        np.testing.assert_array_equal(sess.run(a), START)


def test_three_variables_go_round():
    values = [START, START + 100, START * 3]
    variables = [tf.Variable(v) for v in values]
    old = [tf.identity(v) for v in variables]
    with tf.control_dependencies(old):
        moved = [v.assign(old[(n + 1) % 3]) for n, v in enumerate(variables)]
    for got, wanted in zip(run_twice(*moved), [values[2], values[0], values[1]], strict=True):
        np.testing.assert_array_equal(got, wanted)


def test_two_variables_made_of_each_other():
    a, b = tf.Variable(START), tf.Variable(START + 1)
    old_a, old_b = tf.tanh(a), tf.tanh(b)
    with tf.control_dependencies([old_a, old_b]):
        moved = [a.assign(old_a + tf.reverse(old_b, [0])), b.assign(tf.reverse(old_a, [1]) - old_b)]
    x, y = START, START + 1
    for _ in range(2):
        x, y = np.tanh(x) + np.tanh(y)[::-1], np.tanh(x)[:, ::-1] - np.tanh(y)
    got = run_twice(*moved)
    np.testing.assert_allclose(got[0], x, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(got[1], y, rtol=1e-5, atol=1e-6)


def test_an_update_that_is_read_by_another():
    a, b = tf.Variable(SQUARE), tf.Variable(np.eye(7))
    new_a = a.assign(tf.matmul(a, b))
    new_b = b.assign(tf.transpose(new_a) + b)
    x, y = SQUARE, np.eye(7)
    for _ in range(2):
        x = x @ y
        y = x.T + y
    got = run_twice(new_a, new_b)
    np.testing.assert_allclose(got[0], x)
    np.testing.assert_allclose(got[1], y)


def test_one_value_for_two_variables():
    a, b = tf.Variable(START), tf.Variable(START * 0)
    value = tf.nn.relu(a)
    for got in run_twice(a.assign(value), b.assign(value)):
        np.testing.assert_array_equal(got, np.maximum(START, 0))


def test_a_variable_set_twice_in_a_run():
    v = tf.Variable(1.0)
    with tf.control_dependencies([v.assign_add(2.0)]):
        again = v.assign(v.read_value() * 10)
    with tf.Session() as sess:
        sess.run(tf.global_variables_initializer())
        assert sess.run(again) == 30
        assert sess.run(v) == 30


# fetches and feeds


def test_old_and_new_value_in_one_run():
    v = tf.Variable(START)
    old = tf.identity(v)
    with tf.control_dependencies([old]):
        new = v.assign(tf.transpose(tf.reshape(v, [4, 3])) * 2)
    with tf.Session() as sess:
        sess.run(tf.global_variables_initializer())
        before, after = sess.run([old, new])
        wanted = START.reshape(4, 3).T * 2
        np.testing.assert_array_equal(before, START)
        np.testing.assert_array_equal(after, wanted)
        np.testing.assert_array_equal(sess.run(v), wanted)
        after[...] = 0  # the caller's own
        np.testing.assert_array_equal(sess.run(v), wanted)


def test_a_fetched_value_is_the_callers_own():
    v, x = tf.Variable(START), tf.placeholder(tf.float32, [3, 4])
    c = tf.constant(START)
    same = tf.identity(x)
    with tf.Session() as sess:
        sess.run(tf.global_variables_initializer())
        fed = START.copy()
        for _ in range(2):
            results = sess.run([v, x, c, same, tf.reshape(x, [4, 3]), tf.reshape(v, [12])], {x: fed})
            for got in results:
                np.testing.assert_array_equal(got.reshape(3, 4), START)
                got[...] = 77
        np.testing.assert_array_equal(fed, START)


def test_the_same_tensor_twice():
    x = tf.placeholder(tf.float32, [3, 4])
    y = tf.exp(x)
    with tf.Session() as sess:
        a, b, (c, d) = sess.run([y, y, (x, tf.exp(x))], {x: START})
    np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(a, d)
    np.testing.assert_array_equal(c, START)


def test_nothing_to_fetch():
    with tf.Session() as sess:
        assert sess.run([]) == []
        assert sess.run({}) == {}
        assert sess.run(tf.no_op()) is None
        assert sess.run([tf.group(), ()]) == [None, ()]


def test_intermediate_tensors_can_be_fed():
    x = tf.placeholder(tf.float32, [3, 4])
    y = tf.exp(x)
    z = tf.reduce_sum(y * 2, 1)
    v = tf.Variable(START)
    w = v * 3
    with tf.Session() as sess:
        np.testing.assert_allclose(sess.run(z, {y: START}), (START * 2).sum(1))
        np.testing.assert_allclose(sess.run([y, z], {y: START, x: START})[0], START)
        np.testing.assert_allclose(sess.run(w, {v: START + 1}), (START + 1) * 3)
        np.testing.assert_allclose(sess.run(w + z[:, None], {w: START, z: START[:, 0]}), START + START[:, :1])


def test_a_fed_constant_is_not_folded():
    c = tf.constant(2.0)
    y = c * 3 + 1
    with tf.Session() as sess:
        assert sess.run(y) == 7
        assert sess.run(y, {c: 5.0}) == 16
        assert sess.run(y) == 7
