"""What an epilogue reads beside the sums: memory is asked for it while a tile computes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from llvmlite import ir

import graphflow as tf
from graphflow.compiler.llvm.code import I64, PTR
from graphflow.compiler.llvm.contract import kernel
from graphflow.compiler.program import TensorProgram
from graphflow.core.op import OPS
from tests.compiler.contractions import HOST, random
from tests.e2e.random.machines import compiled_for
from tests.harness import compile_program, feed_nodes, feed_types, run

Array = np.ndarray[Any, Any]

COLUMNS = 517


def asked_of(monkeypatch: pytest.MonkeyPatch, rows: int, depth: int) -> tuple[set[int], Array]:
    """The lines that a run of `(a @ b) * beside` asks for, and `beside`; the product is right."""
    log = np.zeros(1 << 20, np.int64)

    def record(b: ir.IRBuilder, pointer: ir.Value) -> None:
        count = b.inttoptr(ir.Constant(I64, log.ctypes.data), PTR)
        number = b.add(b.atomic_rmw("add", count, ir.Constant(I64, 1), "monotonic"), ir.Constant(I64, 1))
        b.store(b.ptrtoint(pointer, I64), b.gep(count, [number], source_etype=I64))

    monkeypatch.setattr(kernel, "prefetch", record)
    feeds = random((rows, depth)), random((depth, COLUMNS), seed=1), random((rows, COLUMNS), seed=2)
    types = feed_types(feeds)
    a, b, beside = feed_nodes(types)
    product = OPS["MatMul"](a, b, transpose_a=False, transpose_b=False)
    (got,), _ = run(compile_program(TensorProgram(types, (product * beside,))), feeds)
    np.testing.assert_allclose(got, (feeds[0] @ feeds[1]) * feeds[2], rtol=1e-4, atol=1e-4)
    return set((log[1 : log[0] + 1] // 64).tolist()), feeds[2]


LARGE = HOST.l2_bytes // 2 // (COLUMNS * 4) + 5


@pytest.mark.parametrize("depth", [1, 30, 300, 1500])
def test_each_line_is_asked_for(depth: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """By tiles written out in the launch, by others, and by those that add to sums of earlier blocks of k."""
    asked, beside = asked_of(monkeypatch, LARGE, depth)
    addresses = beside.ctypes.data + np.arange(beside.size - 1) * 4  # the last line may begin within a vector
    assert len(set((addresses // 64).tolist()) - asked) <= LARGE  # so may that of each row


@pytest.mark.parametrize("depth", [30, 300])
def test_what_is_near_is_not_asked_for(depth: int, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not asked_of(monkeypatch, LARGE // 4, depth)[0]


def test_what_an_epilogue_sums_up_itself_is_not_asked_for() -> None:
    """Its places are not those of the results: here a gradient's only channel, which a softmax divides by itself."""
    batch = HOST.l2_bytes // 2 // (50 * 4 * 3 * 4) + 38
    x, g = random((batch, 50, 4, 3)), random((batch, 48, 2, 1), seed=1)
    with compiled_for("host avx2"), tf.Graph().as_default(), tf.Session() as sess:
        image, incoming = (tf.placeholder(tf.float32, v.shape) for v in (x, g))
        w = tf.nn.conv2d_backprop_filter(image, [3, 3, 3, 1], incoming, [1, 1, 1, 1], "VALID")
        np.testing.assert_array_equal(sess.run(tf.nn.softmax(w, 3), {image: x, incoming: g}), np.ones((3, 3, 3, 1)))
