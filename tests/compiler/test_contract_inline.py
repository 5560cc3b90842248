"""Tiles that are written out: small products and short sums."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import graphflow as tf
from graphflow.compiler.llvm.contract.choose import make_plan
from graphflow.compiler.llvm.contract.emit import Axis
from graphflow.compiler.llvm.jit import assembly_for
from graphflow.compiler.llvm.target import AVX2, AVX512, Target
from graphflow.core.dim import symbol
from tests.compiler.contractions import (
    HOST,
    ORDERS,
    TARGETS,
    TRANSPOSES,
    Kernel,
    batched_spec,
    check,
    check_matmul,
    guarded,
    matmul_spec,
    random,
)

SMALL = [(2, 2, 2), (3, 5, 7), (8, 8, 8), (5, 17, 3), (16, 16, 16), (13, 33, 31), (32, 32, 32), (1, 9, 4), (4, 1, 6)]


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("tb", [False, True])
def test_many_small_products(tb: bool, target: str) -> None:
    """Written out in one function without calls, for every remainder of rows and columns."""
    for m, n, k in SMALL:
        kernel = Kernel(batched_spec(7, m, n, k, tb), TARGETS[target])
        a, b = random((7, m, k)), random((7, n, k) if tb else (7, k, n), seed=3)
        assert len(kernel.code.launches) == 1
        check(kernel, guarded(a, True), guarded(b, True), a @ (b.swapaxes(-1, -2) if tb else b), k)


@pytest.mark.parametrize("dtype", ["float64", "int32", "int64"])
def test_many_small_products_dtypes(dtype: str) -> None:
    for m, n, k in SMALL[:6]:
        a, b = random((6, m, k), dtype), random((6, k, n), dtype, 3)
        check(Kernel(batched_spec(6, m, n, k, False, dtype)), a, b, a @ b, k)


@pytest.mark.parametrize("weight", [0, 1000])
@pytest.mark.parametrize("batch", [0, 1, 3000])
def test_many_small_products_in_units(batch: int, weight: int) -> None:
    """A symbolic number of them, some to a unit, with an epilogue written many times or once."""
    spec = batched_spec(symbol("batch"), 6, 10, 5, False)
    assert make_plan(spec, HOST).inline
    kernel = Kernel(spec, symbols={"batch": batch}, weight=weight)
    a, b = random((batch, 6, 5)), random((batch, 5, 10), seed=3)
    check(kernel, a, b, a @ b, 5)
    assert kernel(a, b).tobytes() == kernel(a, b, ORDERS["backwards"]).tobytes()


SHORT = [(300, 17, 9), (2003, 4, 4), (1001, 3, 5), (257, 130, 1), (40, 1300, 2), (90, 700, 33), (700, 20, 64)]


@pytest.mark.parametrize("ta, tb", TRANSPOSES)
@pytest.mark.parametrize("target", TARGETS)
def test_short_sums(target: str, ta: bool, tb: bool) -> None:
    """Rows and columns of one product in several units, with remainders of both; nothing is read outside."""
    chosen = TARGETS[target]
    for m, n, k in SHORT if target == "host" else SHORT[1:4]:
        a, b = random((k, m) if ta else (m, k)), random((n, k) if tb else (k, n), seed=3)
        spec = matmul_spec(m, n, k, ta, tb)
        kernel = Kernel(spec, chosen)
        assert make_plan(spec, chosen).inline
        for at_end in (True, False):
            check(kernel, guarded(a, at_end), guarded(b, at_end), (a.T if ta else a) @ (b.T if tb else b), k)
        assert kernel(a, b).tobytes() == kernel(a, b, ORDERS["backwards"]).tobytes()


def test_short_sums_are_cut_along_rows_and_columns() -> None:
    tall, wide = (make_plan(matmul_spec(m, n, 2), AVX512) for m, n in ((100_000, 8), (17, 200_000)))
    assert (tall.column_blocks, wide.row_blocks <= 3) == (1, True)
    assert tall.row_blocks > 8
    assert wide.column_blocks > 8


def test_many_rows_pack_b_once() -> None:
    spec = matmul_spec(5000, 40, 24, tb=True)
    plan = make_plan(spec, HOST)
    assert plan.inline
    assert plan.packs_first
    assert len(Kernel(spec).code.launches) == 2


@pytest.mark.parametrize("dtype", ["float64", "int32", "int64"])
def test_short_sums_dtypes(dtype: str) -> None:
    for ta, tb in TRANSPOSES:
        check_matmul(501, 37, 7, ta, tb, dtype)


@pytest.mark.parametrize("weight", [0, 1000])
@pytest.mark.parametrize("rows", [0, 1, 5, 29, 64, 1000])
def test_short_sums_of_symbolic_rows(rows: int, weight: int) -> None:
    """Single rows finish them; with an epilogue written many times or once."""
    for n, k, tb in ((10, 20, False), (70, 33, True), (3, 1, False)):
        spec = matmul_spec(symbol("rows", hint=500), n, k, tb=tb)
        assert make_plan(spec, HOST).inline
        a, b = random((rows, k)), random((n, k) if tb else (k, n), seed=3)
        kernel = Kernel(spec, HOST, {"rows": rows}, weight)
        check(kernel, guarded(a, True) if rows else a, guarded(b, True), a @ (b.T if tb else b), k)
        assert kernel(a, b).tobytes() == kernel(a, b, ORDERS["backwards"]).tobytes()


def test_short_sums_batched() -> None:
    """Outer products, each in several units; and products that share B, whose rows are all rows of one."""
    a, b = random((5, 300, 1)), random((5, 1, 700), seed=3)
    spec = batched_spec(5, 300, 700, 1, False)
    assert not make_plan(spec, HOST).in_units
    check(Kernel(spec), guarded(a, True), guarded(b, True), a @ b, 1)
    shared = replace(batched_spec(300, 16, 24, 16, False), batch=(Axis(300, 256, 0),))
    assert make_plan(shared, HOST).inline
    a, b = random((300, 16, 16)), random((16, 24), seed=3)
    check(Kernel(shared), guarded(a, True), guarded(b, True), a @ b, 16)


@pytest.mark.parametrize("tb", [False, True])
def test_operands_beyond_the_cache_are_asked_for(tb: bool) -> None:
    """Rows of a tall A, and both operands of small products; nothing where they fit, or do not lie in one piece."""
    small = replace(HOST, l2_bytes=1 << 14)
    for spec, a, b in (
        (matmul_spec(3001, 12, 20, tb=tb), random((3001, 20)), random((12, 20) if tb else (20, 12), seed=3)),
        (batched_spec(200, 7, 9, 12, tb), random((200, 7, 12)), random((200, 9, 12) if tb else (200, 12, 9), seed=3)),
    ):
        asked = [ask.operand for ask in make_plan(spec, small).asks]
        assert asked == ([0, 1] if spec.batch else [0])
        assert not make_plan(spec, replace(small, l2_bytes=1 << 24)).asks
        apart = make_plan(replace(spec, m=(replace(spec.m[0], a=50),)), small)
        assert 0 not in [ask.operand for ask in apart.asks]
        kernel = Kernel(spec, small)
        assert "llvm.prefetch" in str(kernel.text)
        for at_end in (True, False):
            check(kernel, guarded(a, at_end), guarded(b, at_end), a @ (b.swapaxes(-1, -2) if tb else b), 20)


@pytest.mark.parametrize("target, product", [(AVX512, "vfmadd"), (AVX2, "vfmadd")])
def test_tiles_of_short_sums_stay_in_registers(target: Target, product: str) -> None:
    """The block that has most of the products stores its sums and nothing else."""
    for n, k in ((16, 16), (64, 48)):
        text = assembly_for(Kernel(matmul_spec(4096, n, k), target).text, target).split("dot:")[1]
        largest = max(text.split("\n.LBB"), key=lambda block: block.count(product))
        assert largest.count(product) > 8
        assert "rsp)" not in largest


def test_what_is_computed_before_all_tiles_may_be_a_loop() -> None:
    """The softmax of the only element of a product, along which nothing moves."""
    a, b = (np.random.default_rng(n).standard_normal((33, 1)) for n in range(2))
    with tf.Graph().as_default(), tf.Session() as sess:
        x, y, z = (tf.placeholder(tf.float64, shape) for shape in ((33, 1), (33, 1), (1, 1)))
        loss = tf.nn.softmax(tf.matmul(x, y, transpose_a=True)) * z
        np.testing.assert_array_equal(sess.run(loss, {x: a, y: b, z: [[2.0]]}), [[2.0]])
