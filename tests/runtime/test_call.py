"""Callables: any arguments are survived, nothing leaks, nothing is copied, results are the caller's own."""

from __future__ import annotations

import gc
import sys
import threading
import tracemalloc
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import graphflow as tf
from graphflow.core.errors import InvalidArgumentError
from graphflow.runtime.memory import RECYCLED
from graphflow.runtime.native_call import idle_output_bytes, trim_outputs

Array = np.ndarray[Any, Any]


class Subclass(np.ndarray[Any, Any]):
    """An array all the same."""


def floats(*shape: int) -> Array:
    return np.arange(np.prod(shape), dtype=np.float32).reshape(shape)


def read_only(array: Array) -> Array:
    array.flags.writeable = False
    return array


class Program:
    """y = 2 x + z for x: [?, 3] and z: [3], and the sum of y."""

    def __init__(self) -> None:
        with tf.Graph().as_default():
            self.x = tf.placeholder(tf.float32, [None, 3], name="x")
            self.z = tf.placeholder(tf.float32, [3], name="z")
            self.y = tf.add(self.x * 2.0, self.z, name="y")
            self.total = tf.reduce_sum(self.y)
            self.nothing = tf.no_op()
            self.sess = tf.Session()

    def callable(self, fetches: Any) -> Callable[..., Any]:
        return self.sess.make_callable(fetches, [self.x, self.z])  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def program() -> Iterator[Program]:
    made = Program()
    yield made
    made.sess.close()


X, Z = floats(4, 3), floats(3)
Y = X * 2 + Z


@pytest.mark.parametrize("rows", [0, 1, 4, 5])
def test_values(program: Program, rows: int) -> None:
    x = floats(rows, 3)
    got = program.callable(program.y)(x, Z)
    assert type(got) is np.ndarray
    assert got.dtype == np.float32
    np.testing.assert_array_equal(got, x * 2 + Z)


def test_forms_of_the_answer(program: Program) -> None:
    y, total, nothing = program.y, program.total, program.nothing
    for _ in range(3):  # the first goes through Python
        assert type(program.callable(total)(X, Z)) is np.float32
        assert program.callable(nothing)(X, Z) is None
        got = program.callable([total, y, nothing, y])(X, Z)
        assert type(got) is list
        assert got[0] == Y.sum()
        assert got[2] is None
        assert got[1] is got[3]
        np.testing.assert_array_equal(got[1], Y)
        pair = program.callable((y, total))(X, Z)
        assert type(pair) is tuple
        np.testing.assert_array_equal(pair[0], Y)
        nested = program.callable({"a": [y, (total,)], "b": nothing})(X, Z)
        assert list(nested) == ["a", "b"]
        assert nested["a"][1] == (Y.sum(),)
        assert nested["b"] is None
        assert program.callable([])(X, Z) == []


def test_the_hot_path_is_native(program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    call = program.callable(program.y)
    sizes = [floats(rows, 3) for rows in (1, 2, 3)]
    for x in sizes:
        call(x, Z)
    plan = next(p for p in program.sess._plans.values() if p.call is call)
    before = len(plan._native.served), sum(bound.record.runs for bound in plan._native.served)
    monkeypatch.setattr(type(plan.feeds[0]), "__call__", lambda *_: pytest.fail("converted in Python"))
    for x in sizes * 3:
        call(x, Z)
        program.sess.run(program.y, {program.x: x, program.z: Z})
    assert (len(plan._native.served), sum(bound.record.runs for bound in plan._native.served)) == (
        before[0],
        before[1] + 18,
    )


def converted(x: Array) -> list[Any]:
    """What means the same as x, in other forms."""
    return [
        x.tolist(),
        x.astype(np.float64),
        x.astype(np.int8),
        x.astype(">f4" if sys.byteorder == "little" else "<f4"),
        np.asfortranarray(x),
        np.repeat(x, 2, axis=1)[:, ::2],
        np.frombuffer(b"x" + x.tobytes(), np.uint8)[1:].view(np.float32).reshape(4, 3),
        read_only(x.copy()),
        x.view(Subclass),
        memoryview(x),
        tuple(map(tuple, x.tolist())),
    ]


CONVERTED = converted(X)


@pytest.mark.parametrize("x", CONVERTED)
def test_what_is_converted(program: Program, x: Any) -> None:
    call = program.callable([program.y])
    for _ in range(2):
        (got,) = call(x, Z)
        np.testing.assert_array_equal(got, Y)


BAD: list[Any] = [
    None,
    "text",
    b"bytes",
    1.0,
    np.float32(1),
    np.array(1.0, np.float32),
    object(),
    np.ndarray,
    floats(4, 4),
    floats(3),
    floats(4, 3, 1),
    np.zeros((4, 3), object),
    np.zeros((4, 3), "S4"),
    np.zeros((4, 3), np.dtypes.StringDType()),
    np.zeros((4, 3), np.complex64),
    np.zeros((4, 3), [("a", np.float32)]),
    np.zeros((4, 3), "M8[s]"),
    [[1.0, 2.0], [3.0]],
    float,
]


@pytest.mark.parametrize("x", BAD)
def test_what_is_refused(program: Program, x: Any) -> None:
    call = program.callable(program.y)
    call(X, Z)
    for _ in range(2):
        with pytest.raises((ValueError, TypeError)):
            call(x, Z)
    np.testing.assert_array_equal(call(X, Z), Y)


def test_symbols_agree_in_native_code_too() -> None:
    with tf.Graph().as_default(), tf.Session() as sess:
        a, b = tf.placeholder(tf.float32, [None]), tf.placeholder(tf.float32, [None])
        call = sess.make_callable(a + b, [a, b])
        for _ in range(2):
            np.testing.assert_array_equal(call(floats(3), floats(3)), 2 * floats(3))
            np.testing.assert_array_equal(call(floats(1), floats(3)), floats(3))
            with pytest.raises(ValueError, match="broadcast"):
                call(floats(2), floats(3))


FUZZ = [*[floats(4, 3)] * 4, floats(1, 3), floats(0, 3), *converted(floats(4, 3)), *BAD, *[floats(3)] * 4, {}]
FUZZ += [[FUZZ[0]], [None], (FUZZ[1], None), [FUZZ[2], np.zeros((), np.float32)], (None, FUZZ[3])]
ANYTHING = st.integers(0, len(FUZZ) - 1).map(FUZZ.__getitem__)
KEYWORDS = st.dictionaries(st.sampled_from(["out", "options", "run_metadata", "x", "ou"]), ANYTHING, max_size=2)
_program: list[Program] = []


@settings(max_examples=400, deadline=None)
@given(st.lists(ANYTHING, max_size=4), KEYWORDS, st.integers(0, 3))
def test_any_arguments_are_survived(values: list[Any], keywords: dict[str, Any], form: int) -> None:
    if not _program:
        _program.append(Program())
    program = _program[0]
    fetches = [program.y, [program.y, program.total], (program.nothing, program.y), {"y": program.y}][form]
    call = program.callable(fetches)
    call(X, Z)
    counts = [sys.getrefcount(thing) for thing in (*values, *keywords.values())]
    try:
        answer = call(*values, **keywords)
    except (TypeError, ValueError):
        answer = None
    del answer
    assert [sys.getrefcount(thing) for thing in (*values, *keywords.values())] == counts
    np.testing.assert_array_equal(program.callable(program.y)(X, Z), Y)


def test_wrong_counts_and_keywords(program: Program) -> None:
    call = program.callable(program.y)
    for values in ((), (X,), (X, Z, Z)):
        with pytest.raises(TypeError, match=rf"takes 2 values, .* got {len(values)}"):
            call(*values)
    with pytest.raises(TypeError, match="and out=, but no outs="):
        call(X, Z, outs=X)
    with pytest.raises(TypeError, match=r"takes values for its feed_list, in that order, .* but no z="):
        call(X, z=Z)
    np.testing.assert_array_equal(call(X, Z, options=None, run_metadata=None), Y)
    np.testing.assert_array_equal(call(X, Z, out=None), Y)


# out=


def test_out(program: Program) -> None:
    call = program.callable(program.y)
    for _ in range(3):
        out = np.zeros((4, 3), np.float32)
        assert call(X, Z, out=out) is out
        np.testing.assert_array_equal(out, Y)
    several = program.callable([program.total, program.nothing, program.y])
    for container in (list, tuple):
        total, y = np.zeros((), np.float32), np.zeros((4, 3), np.float32).view(Subclass)
        got = several(X, Z, out=container([total, None, y]))
        assert got[0] is total
        assert got[1] is None
        assert got[2] is y
        assert total == Y.sum()
        np.testing.assert_array_equal(y, Y)
        fresh = several(X, Z, out=container([None, None, None]))
        assert type(fresh[0]) is np.float32
        np.testing.assert_array_equal(fresh[2], Y)


WRONG_OUTS: list[tuple[Any, str]] = [
    ([Y.copy()], r"must be a numpy\.ndarray, but got <class 'list'>"),
    (3.0, r"must be a numpy\.ndarray"),
    (np.zeros((4, 3)), r"must be float32\[4, 3\], but got float64\[4, 3\]"),
    (np.zeros((3, 4), np.float32), r"but got float32\[3, 4\]"),
    (np.zeros(12, np.float32), r"but got float32\[12\]"),
    (np.zeros((4, 3), ">f4" if sys.byteorder == "little" else "<f4"), "must be float32"),
    (np.zeros((3, 4), np.float32).T, "must be C-contiguous"),
    (np.zeros(49, np.uint8)[1:].view(np.float32).reshape(4, 3), "must be C-contiguous and aligned"),
    (read_only(np.zeros((4, 3), np.float32)), "is read-only"),
    (X, "shares memory with a feed"),
    (X.view(), "shares memory with a feed"),
]


@pytest.mark.parametrize("out, message", WRONG_OUTS)
def test_wrong_outs(program: Program, out: Any, message: str) -> None:
    call = program.callable(program.y)
    call(X, Z)
    for _ in range(2):
        with pytest.raises(InvalidArgumentError, match=rf"out= for 'y:0' .*{message}.*test_call\.py"):
            call(X, Z, out=out)
    np.testing.assert_array_equal(X, floats(4, 3))


def test_outs_that_do_not_go_with_the_fetches(program: Program) -> None:
    out = np.zeros((8, 3), np.float32)
    two = program.callable([program.y, program.x])
    two(X, Z)
    with pytest.raises(InvalidArgumentError, match="shares memory with the array of another fetch"):
        two(X, Z, out=[out[:4], out[1:5]])
    two(X, Z, out=[out[:4], out[4:]])
    np.testing.assert_array_equal(out, np.concatenate([Y, X]))
    with pytest.raises(InvalidArgumentError, match="for each of 2 fetches, but got <class 'list'> of 1"):
        two(X, Z, out=[out])
    with pytest.raises(InvalidArgumentError, match="an operation has no value"):
        program.callable([program.nothing])(X, Z, out=[out])
    with pytest.raises(InvalidArgumentError, match="'y:0' is fetched twice"):
        program.callable([program.y, program.y])(X, Z, out=[out[:4], out[4:]])
    with pytest.raises(InvalidArgumentError, match="not with nested ones"):
        program.callable({"y": program.y})(X, Z, out=out[:4])


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 20), st.integers(0, 20), st.integers(0, 3), st.integers(0, 3))
def test_overlap_is_what_numpy_says(first: int, second: int, rows: int, feed: int) -> None:
    """Native code and Python agree, on arrays of no bytes too."""
    if not _program:
        _program.append(Program())
    program = _program[0]
    memory = np.zeros(90, np.float32)
    x = memory[feed : feed + 3 * rows].reshape(rows, 3)
    outs = [memory[n : n + 3 * rows].reshape(rows, 3) for n in (3 * first, 3 * second + 1)]
    meet = [np.may_share_memory(a, b) for a, b in ((x, outs[0]), (x, outs[1]), (outs[0], outs[1]))]
    call = program.callable([program.y, program.x])
    call(x, Z)
    if any(meet):
        with pytest.raises(InvalidArgumentError, match="shares memory"):
            call(x, Z, out=outs)
        return
    y, same = call(x, Z, out=outs)
    np.testing.assert_array_equal(y, x * 2 + Z)
    np.testing.assert_array_equal(same, x)


# memory


def test_feeds_of_the_right_kind_are_not_copied() -> None:
    """The step reads where the array is: seen by its address in the table of the record, and by a change in between."""
    program = Program()
    call = program.callable(program.y)
    x = floats(4, 3)
    call(x, Z)
    (plan,) = program.sess._plans.values()
    (bound,) = plan._native.served
    slot = bound.record.feeds[0].slot
    assert bound.record.buffers[slot] == x.ctypes.data
    other = floats(4, 3)
    program.sess.run(program.y, {program.x: other, program.z: Z})
    call(other, Z)
    assert bound.record.buffers[slot] == other.ctypes.data
    call(X.tolist(), Z)
    assert bound.record.buffers[slot] not in (x.ctypes.data, other.ctypes.data)


def test_large_outputs_get_the_memory_of_freed_ones() -> None:
    with tf.Graph().as_default(), tf.Session() as sess:
        x = tf.placeholder(tf.float32, [None])
        call = sess.make_callable(x + 1.0, [x])
        large = floats(RECYCLED)
        first = call(large)
        kept = first[10:20]  # a view keeps the memory
        place = first.ctypes.data
        assert place % 64 == 0
        del first
        second = call(large)
        assert second.ctypes.data != place
        np.testing.assert_array_equal(kept, large[10:20] + 1)
        trim_outputs()
        del kept
        assert idle_output_bytes() == large.nbytes
        third = call(large)
        assert third.ctypes.data == place
        assert idle_output_bytes() == 0
        del second, third
        assert idle_output_bytes() == 2 * large.nbytes
        assert trim_outputs() == 2 * large.nbytes
        assert idle_output_bytes() == 0
        assert call(floats(2 * RECYCLED)).base is not None
        assert call(floats(5)).base is None


def test_reference_counts(program: Program) -> None:
    x, z, wrong = floats(4, 3), floats(3), floats(2)
    y, outs = np.zeros((4, 3), np.float32), [np.zeros((4, 3), np.float32), None]
    calls = [program.callable(f) for f in (program.y, [program.y, program.total], {"t": program.total})]
    dtype = np.dtype(np.float32)

    def use() -> None:
        for call in calls:
            call(x, z)
            with pytest.raises(ValueError, match="Cannot feed"):
                call(wrong, z)
            with pytest.raises(TypeError):
                call(x)
        calls[0](x, z, out=y)
        calls[1](x, z, out=outs)
        with pytest.raises(ValueError, match="shares memory"):
            calls[1](x, z, out=[x, None])
        with pytest.raises(ValueError, match="shares memory"):
            calls[0](x, z, out=x)

    things = (x, z, wrong, y, outs, outs[0], *calls, dtype, None, type(None), np.ndarray, program.sess, program)
    use()
    gc.collect()  # errors refer to frames, and these to None
    before = [sys.getrefcount(thing) for thing in things]
    for _ in range(30):
        use()
    gc.collect()
    after = [sys.getrefcount(thing) for thing in things]
    assert [abs(a - b) <= 5 for a, b in zip(after, before, strict=True)] == [True] * len(things), (before, after)


def test_a_hundred_thousand_calls_leave_nothing(program: Program) -> None:
    single, several = program.callable(program.y), program.callable([program.total, program.y])
    out = np.zeros((4, 3), np.float32)

    def use(count: int) -> None:
        for _ in range(count):
            single(X, Z)
            single(X, Z, out=out)
            several(X, Z)

    use(100)
    blocks = sys.getallocatedblocks()
    counts = [sys.getrefcount(thing) for thing in (X, Z, out, np.dtype(np.float32), single, several)]
    use(100_000)
    assert abs(sys.getallocatedblocks() - blocks) < 100
    now = [sys.getrefcount(thing) for thing in (X, Z, out, np.dtype(np.float32), single, several)]
    assert max(abs(a - b) for a, b in zip(now, counts, strict=True)) <= 5
    tracemalloc.start()
    try:
        use(100)
        before = tracemalloc.get_traced_memory()[0]
        use(2000)
        assert tracemalloc.get_traced_memory()[0] - before < 2000
    finally:
        tracemalloc.stop()


def test_sessions_callables_and_graphs_go_together() -> None:
    def make() -> tuple[weakref.ref[Any], weakref.ref[Any]]:
        program = Program()
        call = program.callable([program.y, program.total])
        call(X, Z)
        program.sess.run({"a": program.y}, {program.x: X, program.z: Z})
        return weakref.ref(program.sess), weakref.ref(program.y.graph)

    session, graph = make()
    gc.collect()
    assert session() is None
    assert graph() is None


def test_a_callable_outlives_everything_else() -> None:
    program = Program()
    call = program.callable(program.y)
    del program
    gc.collect()
    np.testing.assert_array_equal(call(X, Z), Y)
    np.testing.assert_array_equal(call(X, Z), Y)


def test_a_closed_session_serves_no_call() -> None:
    program = Program()
    call = program.callable(program.y)
    call(X, Z)
    program.sess.close()
    with pytest.raises(RuntimeError, match=r"Attempted to use a closed Session\."):
        call(X, Z)


# threads and variables


def test_many_threads_call_at_once(program: Program) -> None:
    call = program.callable(program.y)

    def work(seed: int) -> None:
        generator = np.random.default_rng(seed)
        for rows in generator.integers(0, 12, 300):
            x = generator.random((rows, 3), np.float32)
            np.testing.assert_array_equal(call(x, Z), x * 2 + Z)

    with ThreadPoolExecutor(4) as workers:
        list(workers.map(work, range(4)))


def test_updates_are_seen_whole() -> None:
    """Long steps release the GIL: readers and writers run from many threads, and no reader sees half an update."""
    size = 200_000
    with tf.Graph().as_default(), tf.Session() as sess:
        w = tf.Variable(tf.zeros([size]))
        spread = tf.reduce_max(w) - tf.reduce_min(w)
        sess.run(w.initializer)
        add = sess.make_callable(w.assign_add(tf.ones([size])).op)
        read = sess.make_callable([spread, w])
        seen: list[float] = []

        def write() -> None:
            for _ in range(40):
                add()

        def look() -> None:
            for _ in range(40):
                difference, value = read()
                seen.append(float(difference) + float(np.ptp(value)))

        threads = [threading.Thread(target=target) for target in (write, look, write, look)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert set(seen) == {0.0}
        assert sess.run(w)[0] == 80


def test_variables_may_move_between_calls() -> None:
    with tf.Graph().as_default(), tf.Session() as sess:
        w = tf.Variable([1.0, 2.0])
        x = tf.placeholder(tf.float32, [2])
        call = sess.make_callable(w * x, [x])
        with pytest.raises(tf.errors.FailedPreconditionError):
            call([1, 1])
        sess.run(w.initializer)
        ones = np.ones(2, np.float32)
        np.testing.assert_array_equal(call(ones), [1, 2])
        w.load([3.0, 4.0])
        np.testing.assert_array_equal(call(ones), [3, 4])
        sess.run(w.assign([5.0, 6.0]))
        np.testing.assert_array_equal(call(ones), [5, 6])
