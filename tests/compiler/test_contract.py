"""Contraction kernels against NumPy: sizes, strides, dtypes, targets, bounds and the order of units."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest

import graphflow as tf
from graphflow.compiler.llvm.contract.choose import make_plan
from graphflow.compiler.llvm.contract.emit import Axis, Contraction
from graphflow.compiler.llvm.contract.plan import Prefetch
from graphflow.compiler.llvm.contract.shape import STREAMS, crowds
from graphflow.compiler.llvm.contract.tile import UNROLL, sum_sets
from graphflow.compiler.llvm.jit import assembly_for
from graphflow.compiler.llvm.target import AVX2, AVX512, NEON, SSE2, Target
from graphflow.core.dim import Dim, symbol
from tests.compiler.contractions import (
    HOST,
    ORDERS,
    TARGETS,
    TRANSPOSES,
    Kernel,
    check,
    check_matmul,
    guarded,
    matmul_spec,
    random,
)

SIZES = [(1, 1, 1), (3, 5, 7), (13, 10, 300), (33, 49, 65), (100, 130, 20), (257, 300, 64)]


@pytest.mark.parametrize("ta, tb", TRANSPOSES)
@pytest.mark.parametrize("m, n, k", SIZES)
def test_matmul(m: int, n: int, k: int, ta: bool, tb: bool) -> None:
    check_matmul(m, n, k, ta, tb)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("m, n, k", [(5, 3, 4), (37, 70, 33), (64, 48, 700), (130, 513, 33)])
def test_matmul_targets(m: int, n: int, k: int, target: str) -> None:
    for ta, tb in TRANSPOSES[:: 3 if m > 100 else 1]:
        check_matmul(m, n, k, ta, tb, target=TARGETS[target])


@pytest.mark.parametrize("dtype", ["float64", "int32", "int64"])
def test_dtypes(dtype: str) -> None:
    for ta, tb in TRANSPOSES[:2]:
        check_matmul(29, 41, 37, ta, tb, dtype)


@pytest.mark.parametrize("m, n, k", [(0, 5, 3), (4, 0, 3), (4, 5, 0), (0, 0, 0)])
def test_empty(m: int, n: int, k: int) -> None:
    for tb in (False, True):
        check_matmul(m, n, k, False, tb)


def test_random_sizes() -> None:
    rng = np.random.default_rng(5)
    for _ in range(12):
        m, n, k = (int(x) for x in rng.integers(1, 90, 3))
        check_matmul(m, n, k, bool(rng.integers(2)), bool(rng.integers(2)))


def test_long_k_is_split() -> None:
    spec = matmul_spec(20, 12, 5000, ta=True)
    assert make_plan(spec, HOST).splits > 1
    check_matmul(20, 12, 5000, True, False)
    check_matmul(20, 12, 5000, True, True)
    assert make_plan(matmul_spec(60, 100, 8192), AVX512).splits > 1
    assert make_plan(matmul_spec(60, 300, 8192), AVX512).splits == 1  # tiles enough
    check_matmul(60, 300, 8192, False, False)
    check_matmul(20, 40, 5000, False, False, target=TARGETS["sse2"])


@pytest.mark.parametrize("target", TARGETS)
def test_long_sums_of_few_products(target: str) -> None:
    """Steps of k take turns with several sets of sums, whatever is left of k after whole turns."""
    chosen = TARGETS[target]
    for m, n, k in ((4, 4, 5003), (2, 3, 3333), (1, 16, 4100), (3, 5, 9001)):
        plan = make_plan(matmul_spec(m, n, k, ta=True), chosen)
        if not plan.inline:
            assert (sum_sets(plan, plan.rows * plan.vectors) > 1) == (chosen.has_fma and plan.rows * plan.vectors <= 4)
        for ta, tb in TRANSPOSES:
            check_matmul(m, n, k, ta, tb, target=chosen)


@pytest.mark.parametrize("batch", [0, 1, 2, 4, 13, 30, 64])
def test_symbolic_rows(batch: int) -> None:
    """One compilation, any number of rows."""
    rows = symbol("batch", hint=32)
    for n, k, tb in ((10, 20, False), (70, 33, True)):
        kernel = Kernel(matmul_spec(rows, n, k, tb=tb), symbols={"batch": batch})
        a, b = random((batch, k)), random((n, k) if tb else (k, n))
        check(kernel, a, b, a @ (b.T if tb else b), k)


@pytest.mark.parametrize("batch", [0, 1, 7, 700])
def test_symbolic_depth(batch: int) -> None:
    """The gradient of a dense layer's weights: k is the batch."""
    for hint in (32, 4000):
        k = symbol("batch", hint=hint)
        a, b = random((batch, 19)), random((batch, 12))
        check(Kernel(matmul_spec(19, 12, k, ta=True), symbols={"batch": batch}), a, b, a.T @ b, batch)


@pytest.mark.parametrize("n", [1, 10, 32, 100])
@pytest.mark.parametrize("target", ["host", "avx2", "sse2"])
def test_symbolic_columns(n: int, target: str) -> None:
    columns = symbol("n", hint=50)
    a, b = random((9, 15)), random((15, n))
    kernel = Kernel(matmul_spec(9, columns, 15), TARGETS[target], symbols={"n": n})
    check(kernel, a, b, a @ b, 15)


@pytest.mark.parametrize("heads", [0, 1, 5])
def test_symbolic_batch(heads: int) -> None:
    """A symbolic number of independent products with both operands moving, B packed."""
    m, n, k = 9, 20, 11
    a, b = random((heads, m, k)), random((heads, n, k), seed=3)
    batch = (Axis(symbol("heads"), m * k, n * k),)
    spec = Contraction("float32", batch, (Axis(m, k, 0),), Axis(n, 0, k), (Axis(k, 1, 1),))
    check(Kernel(spec, symbols={"heads": heads}), a, b, a @ b.swapaxes(-1, -2), k)


@pytest.mark.parametrize("shared", [False, True])
def test_batched(shared: bool) -> None:
    """Attention's shape: [2, 3] products; B the same for all heads if `shared`."""
    m, n, k = 17, 21, 9
    a, b = random((2, 3, m, k)), random((2, 1 if shared else 3, n, k), seed=3)
    batch = (Axis(2, 3 * m * k, b[0].size), Axis(3, m * k, 0 if shared else n * k))
    spec = Contraction("float32", batch, (Axis(m, k, 0),), Axis(n, 0, k), (Axis(k, 1, 1),))
    check(Kernel(spec), a, b, a @ b.swapaxes(-1, -2), k)
    spec = replace(spec, batch=(Axis(2, 3 * m * k, 0), Axis(3, m * k, 0)))
    check(Kernel(spec), a, b[0, 0], a @ b[0, 0].T, k)


def test_negative_strides() -> None:
    """A flipped filter is read backwards from an offset."""
    a, b = random((6, 11)), random((11, 20))
    spec = Contraction("float32", (), (Axis(6, 11, 0),), Axis(20, 0, 1), (Axis(11, 1, -20),), b_offset=200)
    check(Kernel(spec), a, b, a @ b[::-1], 11)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("m, n, k, ta", [(150, 140, 90, False), (20, 12, 5000, True), (45, 300, 280, False)])
def test_units_in_any_order(m: int, n: int, k: int, ta: bool, order: str) -> None:
    kernel = Kernel(matmul_spec(m, n, k, ta))
    a, b = random((k, m) if ta else (m, k)), random((k, n))
    assert kernel(a, b).tobytes() == kernel(a, b, ORDERS[order]).tobytes()


@pytest.mark.parametrize("at_end", [True, False])
@pytest.mark.parametrize("target", ["host", "avx2", "sse2"])
def test_bounds(target: str, at_end: bool) -> None:
    """Nothing outside A and B is read: it would end the process."""
    for m, n, k, ta, tb in [
        (13, 10, 20, 0, 0),
        (3, 37, 5, 1, 1),
        (50, 33, 9, 0, 1),
        (15, 300, 280, 0, 0),
        (20, 12, 5000, 1, 0),
    ]:
        a, b = random((k, m) if ta else (m, k)), random((n, k) if tb else (k, n))
        expected = (a.T if ta else a) @ (b.T if tb else b)
        kernel = Kernel(matmul_spec(m, n, k, bool(ta), bool(tb)), TARGETS[target])
        check(kernel, guarded(a, at_end), guarded(b, at_end), expected, k)


@pytest.mark.parametrize("target", [AVX512, AVX2, SSE2, NEON])
def test_tiles_fit_the_registers(target: Target) -> None:
    for m, n in ((1000, 1000), (32, 10), (1, 500), (64, 20)):
        plan = make_plan(matmul_spec(m, n, 100), target)
        assert plan.rows * plan.vectors + plan.vectors < target.vector_registers


def test_rows_that_lie_side_by_side_in_memory_are_read_once_and_asked_for_a_block_ahead() -> None:
    """The gradient of a layer's weights from many examples."""
    plan = make_plan(matmul_spec(784, 128, 10_000, ta=True), AVX512)
    assert plan.local
    assert plan.column_blocks == 1
    assert plan.prefetches == (Prefetch("a", plan.block_depth, 784, plan.rows, locality=2),)
    assert not make_plan(matmul_spec(784, 128, 100, ta=True), AVX512).prefetches


def test_few_rows_are_read_in_place_where_they_share_sets_of_the_cache_or_come_from_memory() -> None:
    few, far, near = (
        make_plan(matmul_spec(m, 16, k), AVX512).rows for m, k in ((4096, 4096), (4000, 4000), (400, 400))
    )
    assert not crowds(few, 4 * 4096, AVX512)
    assert few < far == STREAMS < near


@pytest.mark.parametrize("target, product", [(AVX512, "vfmadd"), (AVX2, "vfmadd"), (SSE2, "mulps"), (NEON, "fmla")])
def test_inner_loop_keeps_sums_in_registers(target: Target, product: str) -> None:
    """The loops over k, by several steps and by one, hold all products of a tile and touch no stack."""
    assembly = assembly_for(Kernel(matmul_spec(500, 512, 96), target).text, target)
    tile = assembly.split("dot.tile:")[1].split(".Lfunc_end")[0]
    blocks = [block for block in re.split(r"\n\.LBB\S+:", tile) if product in block]
    plan = make_plan(matmul_spec(500, 512, 96), target)
    sums = plan.rows * plan.vectors
    assert sorted(block.count(product) for block in blocks) == ([sums, UNROLL * sums] if target.has_fma else [sums])
    assert not any(re.search(r"\(%[re]sp\)|\[sp", block) for block in blocks)


def test_plan_ignores_nothing_symbolic() -> None:
    """Sizes of launches and workspace stay expressions of the symbols."""
    batch = symbol("batch")
    kernel = Kernel(matmul_spec(batch, 64, 32, tb=True), symbols={"batch": 1})
    assert isinstance(kernel.code.launches[-1].units, Dim)


@pytest.mark.parametrize("narrow", ["int32", "uint8", "float32"])
@pytest.mark.parametrize("n", [9, 17, 33])
def test_a_last_column_that_is_narrowed_writes_no_more_than_itself(n: int, narrow: str) -> None:
    wide = "float64" if narrow == "float32" else "int64"
    a = np.random.default_rng(n).integers(0, 4, (n, 5)).astype(wide)
    memory = np.full(n * n + 64, 7, narrow)
    out = memory[: n * n].reshape(n, n)
    with tf.Graph().as_default(), tf.Session() as sess:
        x, y = tf.placeholder(wide, a.shape), tf.placeholder(wide, a.shape)
        call = sess.make_callable(tf.cast(tf.matmul(x, y, transpose_b=True), narrow), [x, y])
        call(a, a)
        call(a, a, out=out)
    np.testing.assert_array_equal(out, a @ a.T)
    assert (memory[n * n :] == 7).all()
