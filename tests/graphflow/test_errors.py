"""Mistakes while declaring: raised on the guilty line, naming op, types, inputs and their lines."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import graphflow as tf


@pytest.fixture(autouse=True)
def graph() -> Iterator[tf.Graph]:
    with tf.Graph().as_default() as g:
        yield g


MISTAKES: list[tuple[Callable[[Any, Any], Any], str, str]] = [
    (lambda x, w: tf.matmul(x, w), "MatMul 'MatMul'", "inner dimensions differ: 784 and 64"),
    (lambda x, w: x + w, "Add 'add'", r"do not broadcast: sizes 784 and 10 differ"),
    (lambda x, w: tf.reshape(w, [3, -1]), "Reshape 'Reshape'", "do not divide by 3"),
    (lambda x, w: tf.reshape(w, [3, 3]), "Reshape 'Reshape'", "has 640 elements, .* has 9"),
    (lambda x, w: tf.concat([x, w], 0), "Concat 'concat'", "differ on axis 1"),
    (lambda x, w: tf.reduce_sum(w, 2), "Sum 'Sum'", "axis 2 is out of range for 2 axes"),
    (lambda x, w: tf.argmax(w, -3), "ArgMax 'ArgMax'", "axis -3 is out of range"),
    (
        lambda x, w: x + tf.zeros([784], tf.float64),
        "Add 'add'",
        "dtypes differ: float32 and float64 .tf.cast converts.",
    ),
    (lambda x, w: tf.transpose(w, [0, 0]), "Transpose 'transpose'", "not a permutation"),
    (lambda x, w: tf.squeeze(w, [0]), "Squeeze 'Squeeze'", "size 64, not 1"),
    (lambda x, w: w[64], "GetItem 'strided_slice'", "index 64 is out of range"),
    (lambda x, w: w[0, 0, 0], "GetItem 'strided_slice'", "3 indices for 2 axes"),
    (lambda x, w: tf.nn.conv2d(x, w, [1, 1, 1, 1], "SAME"), "Conv2D 'Conv2D'", "4 axes"),
    (
        lambda x, w: tf.nn.conv2d(tf.zeros([1, 5, 5, 0]), tf.reshape(w, [8, 8, 1, 10]), [1, 1, 1, 1], "SAME"),
        "Conv2D 'Conv2D'",
        "the image has 0 channels, the filter 1",
    ),
    (
        lambda x, w: tf.nn.bias_add(w, tf.zeros([3])),
        "BiasAdd 'BiasAdd'",
        "the bias has 3 elements, the input 10 channels",
    ),
    (lambda x, w: tf.logical_and(w, w), "LogicalAnd 'LogicalAnd'", "float32 is not bool"),
    (lambda x, w: tf.sqrt(tf.cast(w, tf.int32)), "Sqrt 'Sqrt'", "int32 is not a float"),
    (lambda x, w: tf.where(w, w, w), "Select 'Select'", "the condition is float32, not bool"),
    (lambda x, w: tf.expand_dims(w, 4), "ExpandDims 'ExpandDims'", "axis 4 is out of range"),
    (lambda x, w: tf.stack([x, w]), "Pack 'stack'", "differ"),
    (lambda x, w: tf.broadcast_to(w[0], [2, 1]), "BroadcastTo 'BroadcastTo'", "does not broadcast to .2, 1."),
    (lambda x, w: tf.tile(w, [2]), "Tile 'Tile'", "1 multiples for 2 axes"),
    (lambda x, w: tf.tile(w, [2, -1]), "Tile 'Tile'", r"multiples \[2, -1\] are negative"),
    (lambda x, w: tf.reverse(w, [1, -1]), "Reverse 'ReverseV2'", "name one of them twice"),
    (
        lambda x, w: tf.nn.sparse_softmax_cross_entropy_with_logits(labels=tf.constant([1, 2]), logits=w),
        "SparseSoftmaxCrossEntropyWithLogits",
        r"labels int32\[2\] do not fit logits float32\[64, 10\]",
    ),
]


@pytest.mark.parametrize("mistake, head, reason", MISTAKES)
def test_message_of_a_mistake(mistake: Callable[[Any, Any], Any], head: str, reason: str) -> None:
    x = tf.placeholder(tf.float32, [None, 784], name="x")
    w = tf.Variable(np.zeros((64, 10), np.float32), name="w")
    with pytest.raises(tf.GraphError) as caught:
        mistake(x, w)
    first, *inputs = str(caught.value).splitlines()
    assert re.match(rf"{head}.* at test_errors\.py:\d+: .*{reason}", first), first
    assert inputs
    assert all(re.match(r"  [a-z]: \w+\[.*\] +'[\w/]+' += \w+ +at test_errors\.py:\d+$", line) for line in inputs), (
        inputs
    )
    assert isinstance(caught.value, ValueError)
    assert isinstance(caught.value, TypeError)


def test_the_whole_message() -> None:
    x = tf.placeholder(tf.float32, [None, 784], name="x")
    w = tf.Variable(np.zeros((64, 10), np.float32), name="layer/w")
    line = sys._getframe().f_lineno
    with pytest.raises(tf.GraphError) as caught:
        tf.matmul(x, w, name="layer/y")
    assert str(caught.value) == (
        f"MatMul 'layer/y' at test_errors.py:{line + 2}: inner dimensions differ: 784 and 64\n"
        f"  a: float32[x_0, 784]  'x'       = Placeholder at test_errors.py:{line - 2}\n"
        f"  b: float32[64, 10]    'layer/w' = VariableV2  at test_errors.py:{line - 1}"
    )


def test_float_with_integers() -> None:
    n = tf.placeholder(tf.int32, [3], name="n")
    with pytest.raises(tf.GraphError, match=r"Mul 'mul': 0.5 is a float and the other input is int32: tf.cast"):
        n * 0.5
    assert (tf.placeholder(tf.float32, [3]) * 2).dtype is tf.float32


def test_another_graph_is_named() -> None:
    x = tf.placeholder(tf.float32, [3], name="x")
    with tf.Graph().as_default() as other:
        z = tf.placeholder(tf.float32, [3], name="z")
    with pytest.raises(ValueError, match="must be from the same graph") as caught:
        x + z
    text = str(caught.value)
    for part in (
        repr(x.graph),
        repr(other),
        "'x:0' (declared at test_errors.py:",
        "'z:0' (declared at test_errors.py:",
    ):
        assert part in text
    assert "as_default()" in text


def test_declared_in_vain_leaves_names_usable() -> None:
    x = tf.placeholder(tf.float32, [2])
    with pytest.raises(tf.GraphError):
        tf.matmul(x, x)
    assert tf.square(x, name="y").name == "y:0"


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda x: tf.nn.softmax_cross_entropy_with_logits(x, x), "named arguments"),
        (lambda x: tf.nn.softmax_cross_entropy_with_logits(labels=x), "Both labels and logits"),
        (lambda x: tf.nn.dropout(x, 1.5), r"range \(0, 1\], got 1.5"),
        (lambda x: tf.nn.dropout(x), "keep_prob or rate"),
        (lambda x: tf.nn.dropout(tf.cast(x, tf.int32), 0.5), "floating point"),
        (lambda x: tf.nn.max_pool(x, [1, 2, 2, 2], [1, 2, 2, 1], "SAME"), "batch and channels"),
        (lambda x: tf.nn.conv2d(x, x, [1, 1, 1, 1], "FULL"), "'SAME', 'VALID'"),
        (lambda x: tf.split(x, 3, 1), "does not split into 3 equal pieces"),
        (lambda x: tf.random_uniform([2], dtype=tf.int32), "maxval"),
        (
            lambda x: tf.nn.conv2d_backprop_filter(
                tf.ones([2, 5, 5, 1]), [3, 3, 1, 1], tf.ones([1, 5, 5, 1]), [1, 1, 1, 1], "SAME"
            ),
            "a batch of 2 and one of 1 do not fit",
        ),
        (lambda x: tf.slice(x, [0], [1]), "begin has 1 entries"),
        (lambda x: tf.reverse(x, [2]), r"axis 2 is out of range for the 2 axes of 'x:0' \(\?, 4\)"),
        (lambda x: tf.reverse(tf.constant(1.0), [0]), "axis 0 is out of range for the 0 axes"),
        (lambda x: tf.split(x, 2, 3), "axis 3 is out of range"),
        (lambda x: tf.unstack(x, axis=-3), "axis -3 is out of range"),
        (lambda x: tf.tensordot(x, x, [[2], [0]]), "axis 2 is out of range"),
        (lambda x: tf.tensordot(x, x, 3), "axis -3 is out of range"),
        (lambda x: tf.tensordot(x, x, -1), "the number of axes is -1"),
        (lambda x: tf.tensordot(x, x, [0, 1, 1]), "axes of a, and axes of b"),
        (lambda x: tf.argmax(x, [0, 1]), "the axis must be one integer"),
        (lambda x: tf.nn.softmax(x, [0, 1]), "the axis must be one integer"),
        (lambda x: tf.range([1, 2]), "must be one number"),
        (lambda x: tf.reshape(x, [float("nan")]), "made of integers"),
        (lambda x: tf.where(x), "not there yet"),
        (lambda x: tf.reshape(x, ["a"]), "made of integers"),
        (lambda x: x[::0], "step of a slice"),
        (lambda x: x["a"], "an index is"),
    ],
)
def test_bad_arguments(call: Callable[[Any], Any], message: str) -> None:
    with pytest.raises((ValueError, TypeError, NotImplementedError), match=message):
        call(tf.placeholder(tf.float32, [None, 4], name="x"))
