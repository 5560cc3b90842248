"""Graphs, operations and tensors: names, collections, look-ups, shapes, conversion, lazy imports."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import numpy as np
import pytest

import graphflow as tf


@pytest.fixture(autouse=True)
def graph() -> Iterator[tf.Graph]:
    with tf.Graph().as_default() as g:
        yield g


def test_names_are_unique_and_case_makes_no_difference(graph: tf.Graph) -> None:
    names = [tf.constant(1.0, name=n).name for n in ("c", "c", "C", "c_1", "c")]
    assert names == ["c:0", "c_1:0", "C_2:0", "c_1_1:0", "c_3:0"]


def test_operators_are_named_as_tensorflow_names_them(graph: tf.Graph) -> None:
    x = tf.placeholder(tf.float32, [2], name="x")
    results = [x + 1.0, x - 1.0, x * x, x / x, -x, x[0], tf.add(x, x), tf.multiply(x, x), x > 0.0]
    names = [r.op.name for r in results]
    assert names == ["add", "sub", "mul", "truediv", "Neg", "strided_slice", "Add_1", "Mul_1", "Greater"]
    assert graph.get_operation_by_name("add/y").type == "Const"


def test_operation_knows_where_it_came_from(graph: tf.Graph) -> None:
    x = tf.placeholder(tf.float32, [None, 784], name="x")
    y = tf.matmul(x, tf.zeros([784, 10]), name="y")
    assert (y.op.type, y.op.name, y.op.inputs[0], y.op.outputs) == ("MatMul", "y", x, [y])
    assert y.op.source.file == __file__
    assert y.op.source.function == "test_operation_knows_where_it_came_from"
    assert y.op.values() == (y,)
    assert y.op.get_attr("transpose_a") is False
    assert y.op.get_attr("T") is tf.float32
    assert y.op.node_def.input == ["x", "zeros"]
    assert x.consumers() == [y.op]
    with pytest.raises(ValueError, match="no attr named 'nothing'"):
        y.op.get_attr("nothing")


def test_lookup_by_name(graph: tf.Graph) -> None:
    x = tf.placeholder(tf.float32, name="images")
    assert graph.get_tensor_by_name("images:0") is x
    assert graph.get_operation_by_name("images") is x.op
    assert graph.as_graph_element("images") is x.op
    assert graph.get_operations() == [x.op]


@pytest.mark.parametrize(
    "look_up, error, message",
    [
        (lambda g: g.get_tensor_by_name("image:0"), KeyError, "'image', does not exist.* Did you mean 'images'"),
        (lambda g: g.get_tensor_by_name("images:1"), KeyError, "only has 1 outputs"),
        (lambda g: g.get_tensor_by_name("images"), ValueError, "refers to an Operation, not a Tensor; 'images:0'"),
        (lambda g: g.get_tensor_by_name("images:x"), ValueError, "looks a lot like a Tensor name"),
        (lambda g: g.get_operation_by_name("images:0"), ValueError, "refer to a Tensor, not a Operation"),
        (lambda g: g.get_operation_by_name("nothing"), KeyError, "not in the graph"),
        (lambda g: g.get_operation_by_name(3), TypeError, "are strings"),
        (lambda g: g.as_graph_element(3), TypeError, "Can not convert a int into a Tensor or Operation"),
    ],
)
def test_lookup_of_what_is_not_there(graph: tf.Graph, look_up, error, message) -> None:
    tf.placeholder(tf.float32, name="images")
    with pytest.raises(error, match=message):
        look_up(graph)


def test_default_graph_and_reset() -> None:
    inner = tf.Graph()
    outer = tf.get_default_graph()
    with inner.as_default():
        assert tf.get_default_graph() is inner
        assert tf.constant(1).graph is inner
        with pytest.raises(AssertionError, match="nested graphs"):
            tf.reset_default_graph()
    assert tf.get_default_graph() is outer


def test_reset_makes_the_global_graph_anew() -> None:
    code = (
        "import graphflow as tf; a = tf.constant(1); tf.reset_default_graph(); print(tf.get_default_graph() is a.graph)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout == "False\n"


def test_operations_go_to_the_graph_of_their_inputs(graph: tf.Graph) -> None:
    x = tf.placeholder(tf.float32, [2])
    with tf.Graph().as_default():
        assert (x + 1.0).graph is graph


def test_finalized_graph_refuses(graph: tf.Graph) -> None:
    graph.finalize()
    with pytest.raises(RuntimeError, match="Graph is finalized and cannot be modified"):
        tf.constant(1)


def test_collections(graph: tf.Graph) -> None:
    a = tf.constant(1, name="in/a")
    b = tf.constant(2, name="out/b")
    tf.add_to_collections(["one", "two"], a)
    tf.add_to_collection("one", b)
    tf.add_to_collection("one", 3)
    assert tf.get_collection("one") == [a, b, 3]
    assert tf.get_collection("one", scope="in/") == [a]
    assert tf.get_collection("none") == []
    tf.get_collection_ref("two").append(b)
    assert graph.get_collection("two") == [a, b]
    assert graph.get_all_collection_keys() == ["one", "two"]
    graph.clear_collection("one")
    assert tf.get_collection("one") == []


def test_control_dependencies(graph: tf.Graph) -> None:
    a, b = tf.constant(1, name="a"), tf.constant(2, name="b")
    with tf.control_dependencies([a, b.op]):
        c = tf.identity(3, name="c")
        d = tf.identity(c, name="d")
        with tf.control_dependencies(None):
            e = tf.identity(a, name="e")
    assert c.op.inputs[0].op.control_inputs == (a.op, b.op)
    assert c.op.control_inputs == ()  # its input waits already, as in TensorFlow
    assert d.op.control_inputs == ()
    assert e.op.control_inputs == ()
    assert tf.group(a, [b], name="both").control_inputs == (a.op, b.op)
    assert tf.no_op(name="nothing").type == "NoOp"
    assert [t.op.name for t in tf.tuple([a, None, b]) if t is not None] == [
        "tuple/control_dependency",
        "tuple/control_dependency_1",
    ]


def test_tensor_is_not_a_value(graph: tf.Graph) -> None:
    x = tf.placeholder(tf.float32, [3], name="x")
    with pytest.raises(TypeError, match="no truth value"):
        bool(x)
    with pytest.raises(TypeError, match="no len"):
        len(x)
    with pytest.raises(NotImplementedError, match="symbolic Tensor"):
        np.asarray(x)
    with pytest.raises(TypeError, match="can't be iterated"):
        list(tf.placeholder(tf.float32, [None]))
    assert [t.shape.as_list() for t in x] == [[], [], []]
    assert x == x
    assert x != tf.identity(x)
    assert {x: 1}[x] == 1
    assert str(x) == 'Tensor("x:0", shape=(3,), dtype=float32)'
    assert repr(x) == "<tf.Tensor 'x:0' shape=(3,) dtype=float32>"


def test_shapes() -> None:
    x = tf.placeholder(tf.float32, [None, 784])
    assert x.shape.as_list() == [None, 784] == x.get_shape().as_list()
    assert (x.shape.ndims, x.shape[1].value, x.shape[0].value, str(x.shape)) == (2, 784, None, "(?, 784)")
    assert not x.shape.is_fully_defined()
    assert x.shape == [None, 784]
    assert x.shape.is_compatible_with([32, 784])
    assert not x.shape.is_compatible_with([32, 783])
    assert x.shape.merge_with([32, None]).as_list() == [32, 784]
    assert int(x.shape[1]) == 784
    assert tf.TensorShape([2, 3]).num_elements() == 6
    assert tf.TensorShape([2]).concatenate([3]) == tf.TensorShape([2, 3])
    unknown = tf.placeholder(tf.float32)
    assert (unknown.shape.ndims, str(unknown.shape)) == (None, "<unknown>")
    with pytest.raises(ValueError, match="not defined on an unknown"):
        unknown.shape.as_list()
    unknown.set_shape([None, 3])
    assert unknown.shape.as_list() == [None, 3]
    with pytest.raises(ValueError, match=r"not compatible|incompatible"):
        unknown.set_shape([None, 4])


def test_dimensions_compute() -> None:
    size = tf.TensorShape([784, None])
    assert size[0] // 2 == 392
    assert (size[0] * 2).value == 1568
    assert (size[1] * 2).value is None
    assert size[1].is_compatible_with(7)
    with pytest.raises(TypeError, match="not known until a run"):
        int(size[1])
    with pytest.raises(ValueError, match="negative"):
        tf.Dimension(-2)


def test_unknown_sizes_are_followed_through_the_graph() -> None:
    x = tf.placeholder(tf.float32, [None, 4, 2], name="x")
    batch = tf.shape(x)[0]
    assert str(tf.reshape(x, [-1, 8]).type_) == "float32[x_0, 8]"
    assert str(tf.reshape(x, [batch, 8]).type_) == "float32[x_0, 8]"
    assert str(tf.reshape(x, tf.stack([batch * 4, 2])).type_) == "float32[4*x_0, 2]"
    assert str(tf.zeros([batch, 3]).type_) == "float32[x_0, 3]"
    assert str(tf.ones_like(x).type_) == "float32[x_0, 4, 2]"
    assert str(tf.fill(tf.shape(x)[:2], 1.0).type_) == "float32[x_0, 4]"
    assert str(tf.range(batch).type_) == "int32[x_0]"
    assert str(tf.random_normal([batch, 2]).type_) == "float32[x_0, 2]"
    assert str(tf.concat([x, x], 1).type_) == "float32[x_0, 8, 2]"
    assert tf.reshape(tf.placeholder(tf.float32), tf.placeholder(tf.int32, [2])).shape.as_list() == [None, None]


def test_a_window_of_unknown_size_leaves_unknown_how_many_there_are() -> None:
    x, w = tf.placeholder(tf.float32, [1, 17, 17, 3]), tf.placeholder(tf.float32, [None, 3, None, 5])
    assert tf.nn.conv2d(x, w, [1, 3, 3, 1], "VALID").shape.as_list() == [1, None, 5, 5]
    assert tf.nn.conv2d(x, w, [1, 9, 3, 1], "VALID").shape.as_list() == [1, None, 5, 5]  # 2 for windows up to 8
    assert tf.nn.conv2d(x, w, [1, 3, 3, 1], "SAME").shape.as_list() == [1, 6, 6, 5]


@pytest.mark.parametrize(
    "key, shape",
    [
        (0, [5]),
        (-1, [5]),
        (slice(None, 2), [None, 5]),
        (slice(None, 1), [None, 5]),
        ((slice(None), slice(1, None, 2)), [None, 2]),
        ((Ellipsis, 0), [None]),
        ((tf.newaxis, 0, slice(None, None, -1)), [1, 5]),
        ((slice(None), None, slice(1, -1)), [None, 1, 3]),
        ((slice(None), np.int64(2)), [None]),
    ],
)
def test_indexing(key, shape) -> None:
    x = tf.placeholder(tf.float32, [None, 5])
    assert x[key].shape.as_list() == shape


def test_unknown_sizes_are_not_taken_for_those_of_others() -> None:
    """The channels of an image must be those of the filter, 1; that says nothing of how many images there are."""
    images = tf.placeholder(tf.float32, [None, None, None, 1])
    filters = tf.placeholder(tf.float32, [None, 2, None, 16])
    y = tf.nn.conv2d(images, filters, [1, 1, 1, 1], "SAME", dilations=[1, 2, 2, 1])
    assert y.shape.as_list() == [None, None, None, 16]


def test_a_slice_that_ends_before_it_begins() -> None:
    x = tf.placeholder(tf.float32, [None, 3])
    assert x[1:0].shape.as_list() == x[-2:-3].shape.as_list() == [0, 3]
    with tf.Session() as sess:
        assert sess.run(x[2:0], {x: np.ones((4, 3))}).shape == (0, 3)


def test_unknown_rank_keeps_the_dtype() -> None:
    x = tf.placeholder(tf.float32, name="x")
    assert (tf.argmax(x, 1).dtype, tf.shape(x).dtype, tf.equal(x, 1.0).dtype) == (tf.int64, tf.int32, tf.bool)
    assert tf.reduce_mean(x).shape.as_list() == []
    assert tf.nn.softmax(x).shape.ndims is None


def test_constants() -> None:
    assert tf.constant(1).dtype is tf.int32
    assert tf.constant(1.0).dtype is tf.float32
    assert tf.constant(True).dtype is tf.bool
    assert tf.constant(np.zeros(2)).dtype is tf.float64
    assert tf.constant([], dtype=tf.float32).shape == [0]
    assert tf.constant(5.0, shape=[2, 2]).shape == [2, 2]
    assert tf.constant([1, 2, 3], shape=[5]).op.attrs["value"].value.tolist() == [1, 2, 3, 3, 3]
    with pytest.raises(ValueError, match="does not fit the shape"):
        tf.constant([1, 2, 3], shape=[2])


@pytest.mark.parametrize(
    "value, dtype, error, message",
    [
        (None, None, ValueError, "None values not supported"),
        ([[1], [2, 3]], None, ValueError, "not rectangular"),
        ("text", None, TypeError, "can't become a tensor"),
        (0.5, tf.int32, TypeError, "Expected int32, got 0.5 of type 'float' instead"),
        (True, tf.float32, TypeError, "Expected float32, got True"),
        (3_000_000_000, None, ValueError, "does not fit int32"),
        (300, tf.uint8, ValueError, "does not fit uint8"),
        (1.0, "complex64", TypeError, "not an element type"),
    ],
)
def test_what_can_not_become_a_constant(value, dtype, error, message) -> None:
    with pytest.raises(error, match=message):
        tf.constant(value, dtype)


def test_convert_to_tensor() -> None:
    x = tf.placeholder(tf.float32, [], name="x")
    assert tf.convert_to_tensor(x) is x
    assert tf.convert_to_tensor([x, 1.0]).shape == [2]
    assert tf.convert_to_tensor([[x, 1], [2, x]]).type_.dims == (2, 2)
    assert tf.convert_to_tensor(tf.TensorShape([1, 2])).dtype is tf.int32
    with pytest.raises(TypeError, match=r"is float32.*tf\.cast"):
        tf.convert_to_tensor(x, tf.int32)
    with pytest.raises(ValueError, match="partially known"):
        tf.convert_to_tensor(tf.TensorShape([None]))


def test_numbers_take_the_dtype_of_the_tensors() -> None:
    x = tf.placeholder(tf.float64, [3])
    n = tf.placeholder(tf.int64, [3])
    assert (x + 1).dtype is tf.float64
    assert (2.0 * x).dtype is tf.float64
    assert (np.ones(3, np.float32) * x).dtype is tf.float64
    assert (n + 1).dtype is tf.int64
    assert (n / 2).dtype is tf.float64
    assert tf.where(x > 0, x, 0).dtype is tf.float64
    assert tf.maximum(1, 2.5).dtype is tf.float32


def test_networkx(graph: tf.Graph) -> None:
    x = tf.placeholder(tf.float32, [None, 2], name="x")
    with tf.control_dependencies([x]):
        tf.square(tf.zeros([2]), name="y")
    drawn = graph.to_networkx()
    assert drawn.nodes["x"]["op"] == "Placeholder"
    assert drawn.nodes["x"]["type"] == "float32[x_0, 2]"
    assert drawn.nodes["x"]["source"].startswith("test_graph.py:")
    assert drawn.edges["zeros", "y"] == {"tensor": ("zeros:0",), "control": False}
    assert drawn.edges["x", "zeros/Const"]["control"] is True


def test_public_names_exist() -> None:
    missing = [name for name in tf.__all__ if name not in dir(tf)]
    assert not missing
    assert len(tf.__all__) == len(set(tf.__all__))
    assert not [
        name for name in tf.__all__ if name not in ("Session", "InteractiveSession", "show") and not hasattr(tf, name)
    ]


def test_unknown_attribute_names_the_nearest() -> None:
    with pytest.raises(AttributeError, match=r"has no attribute 'redcue_mean'\. Did you mean 'reduce_mean'"):
        tf.redcue_mean  # noqa: B018


def test_import_is_light() -> None:
    heavy = "llvmlite", "networkx", "graphflow.compiler.llvm"
    code = f"import sys, graphflow; print([m for m in {heavy} if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout == "[]\n"


def test_an_open_size_beside_one_stays_open() -> None:
    x, row, whole = (tf.placeholder(tf.float32, shape) for shape in ([None, 3], [1, 3], [5, 3]))
    assert [t.shape.as_list() for t in (x + row, row + x, x + whole)] == [[None, 3], [None, 3], [5, 3]]
