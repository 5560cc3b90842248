"""Programs: how they print, what the verifier catches."""

import numpy as np
import pytest

from graphflow.compiler.program import Origin, TensorProgram, attribute, inherit, verify
from graphflow.core.dim import symbol
from graphflow.core.dtype import float32, int32
from graphflow.core.errors import InternalError
from graphflow.core.node import Node, make_node
from graphflow.core.source import Source
from graphflow.core.type import TensorType
from graphflow.ops.contract import matmul
from graphflow.ops.elementwise import exp, tanh
from graphflow.ops.leaf import constant, variable_op
from graphflow.ops.reduce import reduce_sum
from graphflow.ops.state import feed_node
from graphflow.ops.view import transpose

BATCH = symbol("batch", hint=4)
IMAGES = TensorType(float32, (BATCH, 6))


def example():
    x = feed_node(0, IMAGES)
    w = make_node(variable_op, (), {"type": TensorType(float32, (6, 3)), "variable": "layer/w"})
    y = tanh(matmul(x, w, transpose_a=False, transpose_b=False))
    new = w + constant(np.ones((6, 3), np.float32))
    origins = {
        w: (Origin("layer/w", "VariableV2", Source("/home/me/train.py", 12, "main")),),
        y: (Origin("layer/Tanh", "Tanh", Source("/home/me/train.py", 14, "main")),),
    }
    return TensorProgram((IMAGES,), (y, reduce_sum(y, axes=(0, 1))), (("layer/w", new),), origins)


GOLDEN = """\
%0  float32[batch, 6] = Feed(feed=0)
%1  float32[6, 3]     = Variable(variable=layer/w)                            # layer/w train.py:12
%2  float32[batch, 3] = MatMul(%0, %1, transpose_a=False, transpose_b=False)
%3  float32[batch, 3] = Tanh(%2)                                              # layer/Tanh train.py:14
%4  float32[6, 3]     = Const(value=<float32[6, 3]>)
%5  float32[6, 3]     = Add(%1, %4)
%6  float32[]         = ReduceSum(%3, axes=(0, 1))
fetch %3
fetch %6
layer/w := %5"""


def test_prints_one_line_a_node_inputs_first():
    assert str(example()) == GOLDEN


def test_an_empty_program_prints():
    assert str(TensorProgram((), ())) == ""


@pytest.mark.parametrize(
    "value, text", [((1, (BATCH, 2)), "(1, (batch, 2))"), (float32, "float32"), ((), "()")], ids=str
)
def test_attributes_print_as_in_python(value, text):
    assert attribute(value) == text


def test_nodes_are_listed_inputs_first_and_once():
    nodes = example().nodes()
    place = {node: n for n, node in enumerate(nodes)}
    assert len(place) == len(nodes)
    assert all(place[x] < place[node] for node in nodes for x in node.inputs)


def test_with_roots_keeps_names_and_order():
    before = example()
    after = before.with_roots([exp(r) for r in before.roots], {})
    assert after.outputs == tuple(exp(r) for r in before.outputs)
    assert after.updates == (("layer/w", exp(before.updates[0][1])),)


def test_origins_do_not_make_programs_different():
    before = example()
    assert before == before.with_roots(before.roots, {})


def test_inherit_stops_at_what_has_an_origin():
    x = feed_node(0, IMAGES)
    old, new = (Origin("a", "Exp", Source("a.py", 1, "")),), (Origin("b", "Tanh", Source("a.py", 2, "")),)
    origins = {exp(x): old}
    inherit(origins, [tanh(exp(x))], new)
    assert origins == {exp(x): old, tanh(exp(x)): new}


def test_verify_accepts_what_make_node_makes():
    verify(example())


def broken(op, inputs, attrs, type_):
    """A node whose type nobody inferred."""
    return Node(op, inputs, attrs, type_)


def test_verify_finds_a_wrong_type():
    x = feed_node(0, IMAGES)
    node = broken(exp, (x,), {}, TensorType(int32, (BATCH, 6)))
    with pytest.raises(InternalError, match=r"(?s)int32\[batch, 6\] = Exp.* should be float32\[batch, 6\].*%0 "):
        verify(TensorProgram((IMAGES,), (tanh.node(x), node)))


def test_verify_finds_inputs_that_do_not_fit():
    node = broken(transpose, (feed_node(0, IMAGES),), {"perm": (0, 0)}, IMAGES)
    with pytest.raises(InternalError, match=r"is not valid: perm .* is not a permutation"):
        verify(TensorProgram((IMAGES,), (node,)))


def test_verify_finds_a_missing_attribute():
    node = broken(transpose, (feed_node(0, IMAGES),), {}, IMAGES)
    with pytest.raises(InternalError, match=r"is not valid: .*perm"):
        verify(TensorProgram((IMAGES,), (node,)))


def test_verify_looks_below_the_roots():
    wrong = broken(exp, (feed_node(0, IMAGES),), {}, TensorType(float32, (7,)))
    with pytest.raises(InternalError, match="internal error"):
        verify(TensorProgram((IMAGES,), (), (("w", tanh(wrong)),)))
