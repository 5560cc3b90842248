"""Modules in two halves: each function once, and the same values as in one piece."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import graphflow as tf
from graphflow.compiler.llvm import halves
from graphflow.compiler.llvm.jit import compile_object, optimized_ir
from graphflow.compiler.llvm.target import host_target
from graphflow.runtime.executable import Executable

pytestmark = pytest.mark.usefixtures("unchecked")


def train(steps: int) -> tuple[list[Any], Executable]:
    """The losses of a network, and its step's program."""
    rng = np.random.default_rng(0)
    with tf.Graph().as_default(), tf.Session() as session:
        x, t = tf.placeholder(tf.float32, [64, 48]), tf.placeholder(tf.float32, [64, 10])
        h = tf.nn.relu(tf.matmul(x, tf.Variable(rng.normal(0, 0.1, (48, 96)).astype(np.float32))))
        h = tf.nn.softmax(tf.matmul(h, tf.Variable(rng.normal(0, 0.1, (96, 10)).astype(np.float32))))
        loss = tf.reduce_mean(tf.square(h - t))
        step = tf.train.AdamOptimizer(0.01).minimize(loss)
        session.run(tf.global_variables_initializer())
        feed = {x: rng.random((64, 48), np.float32), t: rng.random((64, 10), np.float32)}
        losses = [session.run([step, loss], feed)[1] for _ in range(steps)]
        return losses, session.compiled()[-1][1]


def test_halves_compute_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(halves, "SMALL", 1 << 40)
    expected, whole = train(5)
    monkeypatch.setattr(halves, "SMALL", 0)
    found, split = train(5)
    assert found == expected
    assert (len(whole.module.objects), len(split.module.objects)) == (1, 2)


def test_halves_have_every_function_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(halves, "SMALL", 0)
    _, executable = train(1)
    module = executable._emit(executable.plan).module
    defined = {f.name for f in module.functions if not f.is_declaration}
    parts = halves.halves_of(module)
    found = [f.name for part in parts for f in part.functions if not f.is_declaration]
    assert sorted(found) == sorted(defined)
    assert {"step"} < defined
    groups = [{name.partition(".")[0] for name in defined_in(part)} for part in parts]
    assert not groups[0] & groups[1]


def test_code_with_variables_of_its_own_stays_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bounds checks keep tables: there is one of each."""
    monkeypatch.setattr(halves, "SMALL", 0)
    monkeypatch.setenv("GRAPHFLOW_CHECK", "2")
    _, checked = train(2)
    assert len(checked.module.objects) == 1


def defined_in(part: Any) -> list[str]:
    return [f.name for f in part.functions if not f.is_declaration]


def test_halves_are_no_larger_than_they_say(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(halves, "SMALL", 0)
    _, executable = train(1)
    parts = halves.halves_of(executable._emit(executable.plan).module)
    sizes = [sum(len(b.instructions) for f in part.functions for b in f.blocks) for part in parts]
    assert 0 < sizes[0] <= halves.FIRST * sum(sizes)


def test_small_modules_stay_whole() -> None:
    with tf.Graph().as_default(), tf.Session() as session:
        assert session.run(tf.constant([1.0, 2.0]) * tf.Variable(2.0).initialized_value()).tolist() == [2, 4]
        (_, executable) = session.compiled()[-1]
    assert len(executable.module.objects) == 1
    module = executable._emit(executable.plan).module
    assert halves.halves_of(module) == (module,)


def test_halves_are_kept_on_disk(monkeypatch: pytest.MonkeyPatch, cache_folder: Path) -> None:
    monkeypatch.setattr(halves, "SMALL", 0)
    expected, _ = train(3)
    found, executable = train(3)
    assert found == expected
    assert executable.is_stored


def test_text_is_of_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(halves, "SMALL", 0)
    _, executable = train(1)
    names = {f.name for f in executable.code.module.functions if not f.is_declaration}
    assert all(f'@"{name}"' in executable.module.text for name in names)
    assert "define i32 @step(" in executable.module.ir()
    compile_object(executable.module.text, host_target())
    assert optimized_ir(executable.module.text, host_target()) == executable.module.ir()
