"""The rewrite driver: fixed points, origins, deep graphs, and errors that name rules."""

import time

import pytest

from graphflow.compiler.program import Origin, TensorProgram, verify
from graphflow.compiler.rewrite import Rule, Rules, rewrite
from graphflow.compiler.simplify import simplify
from graphflow.core.dtype import float32, float64
from graphflow.core.errors import InternalError
from graphflow.core.source import Source
from graphflow.core.type import TensorType
from graphflow.ops.elementwise import absolute, cast, cos, exp, neg, sin, tanh
from graphflow.ops.state import feed_node

VECTOR = TensorType(float32, (3,))
X = feed_node(0, VECTOR)


def program(*outputs, **origins):
    return TensorProgram((VECTOR,), outputs, **origins)


def rule(name, op, apply):
    return Rule(name, name, (op,), apply)


def test_applies_below_and_above_until_nothing_is_left():
    rules = Rules([rule("a", "Sin", lambda n: cos(n.inputs[0])), rule("b", "Cos", lambda n: tanh(n.inputs[0]))])
    assert rewrite(program(exp(sin(sin(X)))), rules).outputs == (exp(tanh(tanh(X))),)


def test_what_a_rule_builds_is_rewritten_too():
    rules = Rules([rule("a", "Sin", lambda n: exp(cos(n.inputs[0]))), rule("b", "Cos", lambda n: tanh(n.inputs[0]))])
    assert rewrite(program(sin(X)), rules).outputs == (exp(tanh(X)),)


def test_the_first_rule_of_the_table_wins():
    rules = Rules([rule("a", "Sin", lambda n: cos(n.inputs[0])), rule("b", "Sin", lambda n: tanh(n.inputs[0]))])
    assert rules(sin(X)) is cos(X)


def test_updates_are_rewritten_and_keep_their_names():
    before = TensorProgram((VECTOR,), (sin(X),), (("w", exp(sin(X))),))
    after = rewrite(before, lambda n: cos(n.inputs[0]) if n.op.name == "Sin" else None)
    assert after.outputs == (cos(X),)
    assert after.updates == (("w", exp(cos(X))),)


def test_an_unchanged_program_is_the_same_object():
    before = program(sin(X))
    assert rewrite(before, lambda n: None) is before


def test_new_nodes_inherit_the_origin_of_what_they_replace():
    here, there = (Origin("s", "Sin", Source("a.py", 1, "f")),), (Origin("e", "Exp", Source("a.py", 2, "f")),)
    before = program(exp(sin(X)), origins={X: (), sin(X): here, exp(sin(X)): there})
    after = rewrite(before, lambda n: absolute(cos(n.inputs[0])) if n.op.name == "Sin" else None)
    assert after.origins == {X: (), cos(X): here, absolute(cos(X)): here, exp(absolute(cos(X))): there}


def test_a_rule_that_changes_a_type_is_named():
    with pytest.raises(InternalError, match="rule widen changes a type"):
        rewrite(program(sin(X)), Rules([rule("widen", "Sin", lambda n: cast(n, dtype=float64))]))


def test_a_plain_function_is_named_by_the_caller():
    with pytest.raises(InternalError, match="rule lower changes a type"):
        rewrite(program(sin(X)), lambda n: cast(n, dtype=float64) if n.op.name == "Sin" else None, "lower")


def test_rules_that_undo_each_other_are_named():
    rules = Rules([rule("there", "Sin", lambda n: cos(n.inputs[0])), rule("back", "Cos", lambda n: sin(n.inputs[0]))])
    with pytest.raises(InternalError, match="endless cycle: there -> back"):
        rewrite(program(sin(X)), rules)


def test_a_rule_that_wraps_its_own_node_is_named():
    with pytest.raises(InternalError, match="endless cycle: wrap"):
        rewrite(program(sin(X)), Rules([rule("wrap", "Sin", lambda n: neg(n))]))


def test_a_rule_that_grows_forever_is_named():
    with pytest.raises(InternalError, match="endless cycle: grow"):
        rewrite(program(sin(X)), Rules([rule("grow", "Sin", lambda n: sin(neg(n.inputs[0])))]))


def chain(length):
    y = X
    for n in range(length):
        y = (y * 1 + -neg(y)) if n % 2 else exp(y - 0)
    return program(y)


def test_a_deep_graph_takes_seconds():
    before = chain(10_000)
    started = time.perf_counter()
    after = simplify(before)
    seconds = time.perf_counter() - started
    verify(after)
    assert len(after.nodes()) < len(before.nodes()) / 2
    assert seconds < 10, f"{seconds:.1f} s"


def test_work_grows_with_the_graph_not_with_its_square():
    def visits(length):
        seen = []
        rewrite(chain(length), lambda node: seen.append(node))
        return len(seen)

    assert visits(2000) < 2.1 * visits(1000)
