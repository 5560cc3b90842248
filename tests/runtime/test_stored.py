"""Programs from the cache: the same answers, no compilation, and never another program's."""

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import graphflow as tf
from graphflow.compiler import cache
from graphflow.compiler.layout import Packed, pack, unpack
from graphflow.core.op import OPS, Elementwise
from graphflow.runtime.executable import Executable
from graphflow.runtime.order import Order, Stored

TRAINING = """
import json, sys
import numpy as np
import graphflow as tf
from graphflow.compiler.cache import STATISTICS

x = tf.placeholder(tf.float32, [None, 20])
labels = tf.placeholder(tf.int32, [None])
table = tf.constant(np.arange(40, dtype=np.float32).reshape(20, 2) / 40)
w = tf.Variable(tf.random_normal([20, 16], seed=3))
v = tf.Variable(tf.truncated_normal([16, 3], seed=4))
hidden = tf.concat([tf.nn.relu(tf.matmul(x, w)), tf.matmul(x, table)], 1)
logits = tf.matmul(hidden[:, :16], v) + tf.reduce_sum(hidden[:, 16:])
loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits))
step = tf.train.AdamOptimizer(0.01).minimize(loss)
rng = np.random.default_rng(0)
losses = []
with tf.Session() as sess:
    sess.run(tf.global_variables_initializer())
    for size in (8, 8, 5, 1):
        feed = {x: rng.random((size, 20), np.float32), labels: rng.integers(0, 3, size)}
        losses.append(float(sess.run([step, loss], feed)[1]))
print(json.dumps({"losses": losses, **vars(STATISTICS)}))
"""


def train(folder: Path) -> dict[str, Any]:
    """Run the program in a process of its own."""
    environment = {"GRAPHFLOW_CACHE": str(folder), "PYTHONPATH": ":".join(sys.path), "GRAPHFLOW_NUM_THREADS": "2"}
    command = [sys.executable, "-W", "error", "-c", TRAINING]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def test_a_second_process_compiles_nothing(tmp_path: Path) -> None:
    cold, warm = train(tmp_path / "cache"), train(tmp_path / "cache")
    assert cold["optimized"] > 0 == cold["hits"]
    assert warm["optimized"] == warm["misses"] == warm["writes"] == warm["rejected"] == 0
    assert warm["hits"] == cold["writes"] == cold["misses"]
    assert warm["losses"] == cold["losses"]


def test_eight_processes_at_once(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as threads:
        results = list(threads.map(train, [tmp_path / "cache"] * 8))
    assert len({tuple(r["losses"]) for r in results}) == 1
    assert sum(r["rejected"] for r in results) == 0
    last = train(tmp_path / "cache")
    assert last["optimized"] == last["misses"] == 0


def test_a_damaged_entry_is_compiled_again(tmp_path: Path) -> None:
    cold = train(tmp_path / "cache")
    for path in (tmp_path / "cache").iterdir():
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 4
        path.write_bytes(data)
    again = train(tmp_path / "cache")
    assert again["rejected"] == again["writes"] == cold["writes"]
    assert again["losses"] == cold["losses"]


def executable_of(fetches: Any, feed: dict[Any, Any] | None = None) -> tuple[Any, Executable]:
    """What a new session answers, and the program that it ran."""
    with tf.Session() as sess:
        value = sess.run(fetches, feed)
        return value, sess.compiled()[-1][1]


def is_stored(executable: Executable) -> bool:
    return isinstance(executable._made, Stored)


@pytest.fixture(autouse=True)
def _own_graph(cache_folder: Path) -> Any:
    with tf.Graph().as_default():
        yield


def softmax_of(rows: int, scale: float = 1.0, kind: Any = tf.float32) -> Any:
    return tf.nn.softmax(tf.constant(np.arange(rows * 3).reshape(rows, 3) / 10, kind) * tf.cast(scale, kind))


def test_an_equal_graph_of_another_session_is_stored() -> None:
    first, compiled = executable_of(softmax_of(4))
    with tf.Graph().as_default(), tf.name_scope("elsewhere"):
        second, stored = executable_of(softmax_of(4))
    assert not is_stored(compiled)
    assert is_stored(stored)
    np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("key", [..., (..., 0), (tf.newaxis, slice(1, None, 2)), (0, ..., slice(None, None, -1))])
def test_every_index_can_be_stored(key: Any) -> None:
    x = tf.placeholder(tf.float32, [3, 4])
    feed = {x: np.arange(12, dtype=np.float32).reshape(3, 4)}
    for known in (False, True):
        value, executable = executable_of(tf.tanh(x[key]), feed)
        assert is_stored(executable) is known
    np.testing.assert_allclose(value, np.tanh(feed[x][key]), rtol=1e-6)


@pytest.mark.parametrize("other", [{"rows": 5}, {"scale": 2.0}, {"kind": tf.float64}])
def test_another_graph_is_not(other: dict[str, Any]) -> None:
    executable_of(softmax_of(4))
    value, executable = executable_of(softmax_of(**{"rows": 4, **other}))
    assert not is_stored(executable)
    np.testing.assert_allclose(value.sum(axis=1), 1, rtol=1e-6)


def test_constants_are_compared_by_their_bytes() -> None:
    for last in (0.0, -0.0, 1e-40, np.nan):
        data = np.arange(40, dtype=np.float32)
        data[-1] = last
        x = tf.placeholder(tf.float32, [40])
        value, executable = executable_of(tf.constant(data) + x, {x: np.zeros(40, np.float32)})
        assert not is_stored(executable)
        np.testing.assert_array_equal(value[:-1], data[:-1])


def test_constants_of_the_graph_are_not_stored_again(cache_folder: Path) -> None:
    """They are in the graph that wants the program; one that was computed is not."""
    data = np.arange(100_000, dtype=np.float32)
    v = tf.Variable(data)
    for fetches, least, most in (
        (v.initializer, 0, data.nbytes),
        (tf.constant(data) * 2.0, data.nbytes, 2 * data.nbytes),
    ):
        first, _ = executable_of(fetches)
        newest = max(cache_folder.glob("*.gfc"), key=lambda path: path.stat().st_mtime_ns)
        assert least < newest.stat().st_size < most
        second, executable = executable_of(fetches)
        assert is_stored(executable)
        assert (first is None and second is None) or np.array_equal(first, second)
    with tf.Session() as sess:
        sess.run(v.initializer)
        np.testing.assert_array_equal(sess.run(v), data)
        assert all(is_stored(one) for _, one in sess.compiled()[:1])


def test_other_sizes_of_a_stored_program() -> None:
    x = tf.placeholder(tf.float32, [None, 3])
    y = tf.reduce_sum(tf.tanh(x), axis=1)
    executable_of(y, {x: np.ones((4, 3), np.float32)})
    with tf.Session() as sess:
        for rows in (4, 7, 1):
            value = sess.run(y, {x: np.ones((rows, 3), np.float32)})
            np.testing.assert_allclose(value, np.full(rows, 3 * np.tanh(1)), rtol=1e-6)
        programs = [one for _, one in sess.compiled()]
        assert len(programs) == 1
        assert is_stored(programs[0])


def test_conditions_hold_for_stored_programs() -> None:
    """`x[-2:]` is another program where there is one row only."""
    x = tf.placeholder(tf.float32, [None])
    y = x[-2:] * 2.0
    executable_of(y, {x: np.arange(4, dtype=np.float32)})
    with tf.Session() as sess:
        np.testing.assert_array_equal(sess.run(y, {x: np.arange(4, dtype=np.float32)}), [4, 6])
        np.testing.assert_array_equal(sess.run(y, {x: np.ones(1, np.float32)}), [2])


def test_that_a_size_must_be_known_is_stored_too(monkeypatch: pytest.MonkeyPatch) -> None:
    x = tf.placeholder(tf.float32, [None, None, None, 1])
    y = tf.nn.max_pool(x, [1, 2, 2, 1], [1, 2, 2, 1], "SAME")
    feed = {x: np.ones((2, 7, 7, 1), np.float32)}
    first, _ = executable_of(y, feed)

    def never(self: Order) -> None:
        raise AssertionError("a stored program was compiled")

    monkeypatch.setattr(Order, "compile", never)
    second, executable = executable_of(y, feed)
    assert is_stored(executable)
    np.testing.assert_array_equal(first, second)


def test_whether_variables_have_values_matters() -> None:
    v = tf.Variable(np.ones(3, np.float32))
    known = tf.is_variable_initialized(v)
    for _ in range(2):
        with tf.Session() as sess:
            assert not sess.run(known)
            sess.run(v.initializer)
            assert sess.run(known)


def test_the_plan_of_a_stored_program_is_made_again_for_a_look() -> None:
    y = softmax_of(6)
    _, compiled = executable_of(y)
    before = cache.STATISTICS.optimized
    with tf.Session() as sess:
        sess.run(y)
        stored = sess.compiled()[-1][1]
        text = str(tf.show(y, session=sess))
    assert is_stored(stored)
    assert str(stored.plan) == str(compiled.plan)
    assert [s.name for s in stored.stages] == [s.name for s in compiled.stages][: len(stored.stages)]
    assert stored.code.launches == compiled.code.launches
    assert cache.STATISTICS.optimized == before
    assert text is not None


def test_nothing_is_stored_while_debugging(cache_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    executable_of(softmax_of(4))
    entries = len(list(cache_folder.iterdir()))
    monkeypatch.setenv("GRAPHFLOW_DEBUG", "1")
    assert not is_stored(executable_of(softmax_of(4))[1])
    executable_of(softmax_of(5))
    assert len(list(cache_folder.iterdir())) == entries


def test_random_numbers_without_a_seed_differ_and_are_stored() -> None:
    drawn = []
    for _ in range(3):
        with tf.Graph().as_default():
            numbers, executable = executable_of([tf.random_normal([50]), tf.random_uniform([50])])
            drawn += [tuple(n) for n in numbers]
    assert is_stored(executable)
    assert len(set(drawn)) == 6


def test_ops_from_elsewhere_are_not_stored(cache_folder: Path) -> None:
    """Nothing in the key would say that the formula of such an op has changed."""
    op = Elementwise("TwiceForTest", "2x", lambda x: x + x, lambda k, x: k.add(x, x), None, (), None, "float", 1)
    try:
        x = tf.placeholder(tf.float32, [40])
        for _ in range(2):
            value, executable = executable_of(op(x), {x: np.ones(40, np.float32)})
            assert not is_stored(executable)
            np.testing.assert_array_equal(value, np.full(40, 2.0))
    finally:
        del OPS["TwiceForTest"]
    assert all(one.built_in for one in OPS.values())


def test_what_is_packed_is_unpacked_and_nothing_else() -> None:
    x = tf.placeholder(tf.float32, [None, 3])
    v = tf.Variable(np.arange(3, dtype=np.float32))
    table = tf.constant(np.arange(90, dtype=np.float32).reshape(3, 30))
    fetches = [tf.matmul(x, table), tf.assign(v, tf.reduce_sum(x * v, axis=0))]
    with tf.Session() as sess:
        sess.run(v.initializer)
        sess.run(fetches, {x: np.ones((5, 3), np.float32)})
        with tf.Session() as other:
            other.run(v.initializer)
            other.run(fetches, {x: np.ones((5, 3), np.float32)})
            stored = other.compiled()[-1][1]
        executable = sess.compiled()[-1][1]
    assert stored.layout == executable.layout
    made = stored._made
    assert isinstance(made, Stored)
    assert made.layout.buffers == executable.plan.buffers
    content = pack(Packed((), made.layout, made.assumed_initialized, made.objects))
    assert unpack(content, made.layout.feeds).layout == made.layout
    read = [cut for cut in range(0, len(content), 97) if is_readable(content[:cut], made)]
    assert read == []


def is_readable(content: bytes, made: Stored) -> bool:
    try:
        unpack(content, made.layout.feeds)
    except ValueError:
        return False
    return True
