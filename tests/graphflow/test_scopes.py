"""Name scopes, variable scopes and the rules by which `get_variable` shares."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import graphflow as tf


@pytest.fixture(autouse=True)
def graph() -> Iterator[tf.Graph]:
    with tf.Graph().as_default() as g:
        yield g


def test_name_scopes_nest_and_are_unique() -> None:
    with tf.name_scope("a") as a:
        first = tf.constant(1, name="c")
        with tf.name_scope("b") as b:
            inner = tf.constant(1, name="c")
    with tf.name_scope("a") as again:
        second = tf.constant(1, name="c")
    with tf.name_scope(a):
        entered = tf.constant(1, name="c")
    assert (a, b, again) == ("a/", "a/b/", "a_1/")
    assert [t.op.name for t in (first, inner, second, entered)] == ["a/c", "a/b/c", "a_1/c", "a/c_1"]


def test_name_scope_of_nothing_is_the_top() -> None:
    with tf.name_scope("a"), tf.name_scope(None):
        assert tf.constant(1, name="c").op.name == "c"
    with tf.name_scope(None, "default", [tf.constant(1)]) as scope:
        assert scope == "default/"


def test_name_scope_as_a_name_is_exact() -> None:
    with tf.name_scope("layer") as scope:
        tf.constant(1, name="c")
        assert tf.identity(2, name=scope).op.name == "layer"


@pytest.mark.parametrize("name", ["a b", "ü", "a:0"])
def test_bad_scope_names(name: str) -> None:
    with pytest.raises(ValueError, match="not a valid scope name"), tf.name_scope(name):
        pass


def test_variable_scope_names_variables_and_operations() -> None:
    with tf.variable_scope("layer") as scope:
        v = tf.get_variable("v", [1])
        c = tf.constant(1, name="c")
        w = tf.Variable(1.0, name="w")
        with tf.name_scope("named"):
            u = tf.get_variable("u", [1])
            x = tf.Variable(1.0, name="x")
    assert (v.name, c.name, w.name, u.name, x.name) == (
        "layer/v:0",
        "layer/c:0",
        "layer/w:0",
        "layer/u:0",
        "layer/named/x:0",
    )
    assert (scope.name, scope.original_name_scope) == ("layer", "layer/")
    with tf.variable_scope("layer", reuse=True):
        assert tf.get_variable("v", [1]) is v
        assert tf.constant(1, name="c").name == "layer_1/c:0"
    with tf.variable_scope(scope):
        assert tf.get_variable_scope().name == "layer"
        assert tf.constant(1, name="c").name == "layer_2/c:0"
        assert tf.get_variable("other", [1]).name == "layer/other:0"


def test_reuse_rules() -> None:
    with tf.variable_scope("s"):
        v = tf.get_variable("v", [2])
        with pytest.raises(ValueError, match=r"Variable s/v already exists, disallowed.*test_scopes.py:\d+"):
            tf.get_variable("v", [2])
        tf.get_variable_scope().reuse_variables()
        assert tf.get_variable("v", [2]) is v
        with tf.variable_scope("inner", reuse=False), pytest.raises(ValueError, match="does not exist"):
            tf.get_variable("new", [2])  # True is inherited
    with tf.variable_scope("s", reuse=True):
        with pytest.raises(ValueError, match="Variable s/other does not exist"):
            tf.get_variable("other", [2])
        with pytest.raises(ValueError, match=r"specified shape \(3,\) and found shape \(2,\)"):
            tf.get_variable("v", [3])
        with pytest.raises(ValueError, match="specified dtype float64 and found dtype float32"):
            tf.get_variable("v", [2], tf.float64)
    with tf.variable_scope("s", reuse=tf.AUTO_REUSE):
        assert tf.get_variable("v", [2]) is v
        made = tf.get_variable("made", [2])
        assert tf.get_variable("made") is made
    with pytest.raises(ValueError, match="reuse=True cannot be used without a name_or_scope"):
        tf.variable_scope(None, "x", reuse=True)


def test_default_names_are_unique() -> None:
    names = []
    for _ in range(2):
        with tf.variable_scope(None, "layer"):
            names.append(tf.get_variable("w", [1]).name)
    assert names == ["layer/w:0", "layer_1/w:0"]


def test_variable_scopes_do_not_become_unique_and_their_inner_counts_begin_anew() -> None:
    with tf.variable_scope("net"), tf.variable_scope(None, "layer") as first:
        pass
    with tf.variable_scope("net"), tf.variable_scope(None, "layer") as second:
        pass
    assert first.name == second.name == "net/layer"


def test_scope_settings_are_inherited() -> None:
    with tf.variable_scope("s", initializer=tf.ones_initializer(), dtype=tf.float64, regularizer=tf.nn.l2_loss):
        with tf.variable_scope("t"):
            v = tf.get_variable("v", [2])
        u = tf.get_variable("u", [2], regularizer=tf.no_regularizer)
    assert v.dtype is tf.float64
    assert "ones" in v.initial_value.op.name
    assert u.dtype is tf.float64
    (loss,) = tf.get_collection(tf.GraphKeys.REGULARIZATION_LOSSES)
    assert loss.op.name == "s/t/v/Regularizer/L2Loss"


def test_default_initializers() -> None:
    assert "random_uniform" in tf.get_variable("f", [2, 3]).initial_value.op.name
    assert "zeros" in tf.get_variable("i", [2, 3], tf.int32).initial_value.op.name


@pytest.mark.parametrize(
    "options, message",
    [
        ({}, "must be fully defined"),
        ({"shape": [None, 2]}, "must be fully defined"),
        ({"shape": [2], "initializer": tf.zeros_initializer, "dtype": "float99"}, "not an element type"),
    ],
)
def test_bad_variables(options, message: str) -> None:
    with pytest.raises((ValueError, TypeError), match=message):
        tf.get_variable("v", **options)


def test_initializers_of_all_kinds() -> None:
    value = tf.get_variable("value", initializer=tf.constant([1.0, 2.0]))
    number = tf.get_variable("number", initializer=3)
    function = tf.get_variable("function", [2], initializer=lambda shape, dtype=None: tf.ones(shape, dtype))
    kind = tf.get_variable("kind", [2], initializer=tf.zeros_initializer)
    assert [v.shape.as_list() for v in (value, number, function, kind)] == [[2], [], [2], [2]]
    assert number.dtype is tf.int32
    with pytest.raises(ValueError, match="do not specify shape"):
        tf.get_variable("both", [2], initializer=tf.constant([1.0, 2.0]))


def test_custom_getter() -> None:
    seen = []

    def getter(inner, name, *args, **kwargs):
        seen.append(name)
        return inner(name, *args, **kwargs)

    with tf.variable_scope("s", custom_getter=getter):
        v = tf.get_variable("v", [1])
    assert (seen, v.name) == (["s/v"], "s/v:0")


def test_get_variable_ignores_control_dependencies_and_name_scopes() -> None:
    with tf.name_scope("named"), tf.control_dependencies([tf.constant(1)]):
        v = tf.get_variable("v", [1])
    assert v.name == "v:0"
    assert v.initializer.control_inputs == ()
