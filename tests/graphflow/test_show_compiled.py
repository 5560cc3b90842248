"""Pictures of compiled programs: the kernels and the memory around them, from a session or compiled for a look."""

from __future__ import annotations

import io
import re
from pathlib import Path

import numpy as np
import pytest

import graphflow as tf
from graphflow.show import View, views_of
from graphflow.show.compiled import views_of_session, views_of_trial


class Line:
    """y = relu(x w + b), and a step that counts and moves b."""

    def __init__(self) -> None:
        self.graph = tf.Graph()
        with self.graph.as_default():
            self.x = tf.placeholder(tf.float32, [None, 3], name="x")
            with tf.variable_scope("layer"):
                w = tf.get_variable("w", initializer=tf.ones([3, 2]))
                self.b = tf.get_variable("b", initializer=tf.zeros([2]))
            self.steps = tf.Variable(0, name="steps", trainable=False)
            self.y = tf.nn.relu(tf.matmul(self.x, w) + self.b, name="y")
            loss = tf.reduce_mean(self.y, name="loss")
            self.step = tf.group(self.b.assign_sub(tf.gradients(loss, self.b)[0]), self.steps.assign_add(1))
            self.init = tf.global_variables_initializer()

    def session(self) -> tf.Session:
        sess = tf.Session(graph=self.graph)
        sess.run(self.init)
        return sess


ROWS = np.ones((5, 3), np.float32)


def kernels(views: tuple[View, ...]) -> View:
    assert views[-1].title == "kernels"
    return views[-1]


def test_each_pass_has_a_view_with_its_figures() -> None:
    line = Line()
    with line.session() as sess:
        sess.run([line.step, line.y], {line.x: ROWS})
        views = views_of_session([line.step, line.y], sess)
        (executable,) = [one for fetches, one in sess.compiled() if line.y in fetches]
    assert [view.title for view in views[:2]] == ["after capture", "after differentiate"]
    assert all(re.fullmatch(r"\d+ nodes, [\d.]+ ms(, unchanged)?", view.note) for view in views[:-1])
    assert [part.split()[-1] for part in kernels(views).note.split(", ")[:2]] == ["kernels", "launches"]
    assert kernels(views).text == str(executable.plan)
    assert views == views_of(executable)


def test_a_box_for_each_kernel_and_for_the_memory_around_it() -> None:
    line = Line()
    with line.session() as sess:
        sess.run([line.step, line.y], {line.x: ROWS})
        view = kernels(views_of_session(line.graph, sess))
        steps = next(one for fetches, one in sess.compiled() if line.y in fetches).plan.steps
    boxes = {box.id: box for box in view.boxes}
    assert [box.id for box in view.boxes if box.kind == "kernel"] == [step.kernel.name for step in steps]
    (layer,) = [box for box in view.boxes if box.op == "contraction"]
    assert layer.title == "MatMul · Add · Relu"
    assert layer.detail == "n0 × 2 · Σ 3"
    assert [member.split()[0] for member in layer.members] == ["MatMul", "Add", "Relu"]
    assert all(member.split()[-1] in layer.where for member in layer.members)
    assert layer.where.startswith("test_show_compiled.py:")
    feed = boxes["feed 0"]
    assert (feed.title, feed.kind, feed.type) == ("x", "input", "float32[n0, 3]")
    into = {boxes[wire.source].title: wire.label for wire in view.wires if wire.target == layer.id}
    assert into == {"x": "float32[n0, 3]", "layer/w": "float32[3, 2]", "layer/b": "float32[2]"}
    assert (boxes["fetch 0"].title, boxes["fetch 0"].kind) == ("y", "output")


def test_variables_stand_above_their_readers_and_below_what_updates_them() -> None:
    line = Line()
    with line.session() as sess:
        sess.run([line.step, line.y], {line.x: ROWS})
        view = kernels(views_of_session(line.step, sess))
    kinds = {box.id: box.kind for box in view.boxes if box.kind in ("variable", "state")}
    assert kinds["layer/b"] == "variable"
    assert kinds["layer/b :="] == kinds["steps :="] == "state"
    assert "steps" not in kinds  # only the kernel that updates it reads it


def test_variables_that_are_used_together_share_a_box() -> None:
    graph = tf.Graph()
    with graph.as_default():
        a, b = tf.Variable(tf.ones([4]), name="pair/a"), tf.Variable(tf.ones([4]), name="pair/b")
        total = tf.reduce_sum(a * b)
        init = tf.global_variables_initializer()
    with tf.Session(graph=graph) as sess:
        sess.run(init)
        sess.run(total)
        view = kernels(views_of_session(total, sess))
    (box,) = [box for box in view.boxes if box.kind == "variable"]
    assert (box.title, box.members, box.type) == ("pair", ("pair/a float32[4]", "pair/b float32[4]"), "2 × float32[4]")


def test_a_graph_shows_the_largest_program_and_tensors_the_one_that_computes_them() -> None:
    line = Line()
    with line.session() as sess:
        sess.run(line.y, {line.x: ROWS})
        sess.run([line.step, line.y], {line.x: ROWS})
        small, large = kernels(views_of_session(line.y, sess)), kernels(views_of_session(line.graph, sess))
        assert len(small.boxes) < len(large.boxes)
        assert kernels(views_of_session([line.y, line.step], sess)) == large


def test_what_a_session_did_not_compile_is_an_error() -> None:
    line = Line()
    with line.session() as sess:
        with pytest.raises(ValueError, match="compiled nothing that computes this; run it first"):
            tf.show(line.y, session=sess)
        with pytest.raises(ValueError, match="another graph"):
            tf.show(Line().y, session=sess)
        with pytest.raises(TypeError, match="a View is drawn as it is"):
            tf.show(View("v"), session=sess)
    with pytest.raises(RuntimeError, match="closed"):
        tf.show(line.graph, session=sess)


def test_printing_shows_the_users_graph_and_with_a_session_everything() -> None:
    line = Line()
    short, long, one = io.StringIO(), io.StringIO(), io.StringIO()
    tf.show(line.graph, out=short)
    with line.session() as sess:
        sess.run(line.step, {line.x: ROWS})
        tf.show(line.graph, session=sess, out=long)
        tf.show(line.graph, session=sess, view="kernels", out=one)
    assert short.getvalue().startswith("user graph (")
    assert "after" not in short.getvalue()
    assert long.getvalue().startswith(short.getvalue())
    assert "\nafter capture (" in long.getvalue()
    assert one.getvalue().startswith("kernels (")
    assert "for i0 in" in one.getvalue()


def test_a_page_without_a_session_has_the_passes_too(tmp_path: Path) -> None:
    line = Line()
    tf.show(line.graph, tmp_path / "graph.html")
    page = (tmp_path / "graph.html").read_text("utf-8")
    assert all(f'"title":"{title}"' in page for title in ("user graph", "after capture", "after fold", "kernels"))
    trial = kernels(views_of_trial(line.graph))
    assert trial.note.endswith("sizes left open taken for 32")
    assert {box.title for box in trial.boxes if box.kind == "state"} == {"layer/b", "steps"}  # no initializers
    static = kernels(views_of_trial(tf.ones([2]) * 2.0))
    assert "taken for" not in static.note


def test_what_cannot_be_compiled_for_a_look_says_why() -> None:
    with tf.Graph().as_default():
        (view,) = views_of_trial(tf.abs(tf.placeholder(tf.float32, name="anything")))
        assert (view.title, view.note) == ("not compiled", "the shapes of anything:0 are known in a run only")
        x = tf.placeholder(tf.float32, [None])
        (view,) = views_of_trial(tf.reshape(x, [5, 5]))
        assert "Reshape" in view.note
        assert views_of_trial(tf.get_default_graph()) != ()
    assert views_of_trial(tf.Graph()) == ()


def test_an_interpreted_program_has_kernels_to_look_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRAPHFLOW_INTERPRET", "1")
    line = Line()
    with line.session() as sess:
        sess.run(line.y, {line.x: ROWS})
        assert kernels(views_of_session(line.y, sess)).note == "1 kernel, interpreted"
