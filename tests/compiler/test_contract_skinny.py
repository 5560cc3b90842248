"""Products of few rows: sweeps over B as it lies, and dot products in blocks of k."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from graphflow.compiler.llvm.contract.choose import make_plan
from graphflow.compiler.llvm.contract.emit import Axis, Contraction
from graphflow.compiler.llvm.jit import assembly_for
from graphflow.compiler.llvm.target import AVX2, AVX512, NEON, SSE2, Target
from graphflow.core.dim import symbol
from tests.compiler.contractions import (
    HOST,
    ORDERS,
    TARGETS,
    Kernel,
    batched_spec,
    check,
    guarded,
    matmul_spec,
    random,
)


def limited(target: str) -> Target:
    """A target with such caches that small operands are large."""
    return replace(TARGETS[target], l1_bytes=8192, l2_bytes=1 << 15)


@pytest.mark.parametrize("ta", [False, True])
@pytest.mark.parametrize("target", TARGETS)
def test_sweep(target: str, ta: bool) -> None:
    """Odd sizes, parts of k, rows of A that are copied: nothing is read outside, in any order of units."""
    for m, n, k in ((1, 1003, 130), (2, 517, 300), (3, 643, 415), (7, 1300, 61), (16, 400, 512), (13, 530, 301)):
        spec = matmul_spec(m, n, k, ta)
        assert make_plan(spec, limited(target)).sweep
        a, b = random((k, m) if ta else (m, k)), random((k, n), seed=3)
        kernel = Kernel(spec, limited(target))
        for at_end in (True, False):
            check(kernel, guarded(a, at_end), guarded(b, at_end), (a.T if ta else a) @ b, k)
        assert kernel(a, b).tobytes() == kernel(a, b, ORDERS["backwards"]).tobytes()


def test_sweep_copies_rows_that_crowd() -> None:
    far, near = (make_plan(matmul_spec(16, 4096, k), AVX512) for k in (4096, 4100))
    assert (far.staged, near.staged) == ("rows", "")
    small, spec = replace(HOST, l1_bytes=8192, l2_bytes=1 << 18), matmul_spec(16, 600, 1024)
    assert make_plan(spec, small).staged == "rows"
    a, b = random((16, 1024)), random((1024, 600), seed=3)
    check(Kernel(spec, small), a, b, a @ b, 1024)


@pytest.mark.parametrize("dtype", ["float64", "int32", "int64"])
def test_sweep_dtypes(dtype: str) -> None:
    a, b = random((5, 210), dtype), random((210, 333), dtype, 3)
    spec = matmul_spec(5, 333, 210, dtype=dtype)
    assert make_plan(spec, limited("host")).sweep
    check(Kernel(spec, limited("host")), a, b, a @ b, 210)


@pytest.mark.parametrize("n, k", [(1, 1), (1000, 3), (1030, 517), (5, 2000), (0, 4), (4, 0)])
def test_sweep_of_symbolic_sizes(n: int, k: int) -> None:
    columns, depth = symbol("n", hint=2000), symbol("k", hint=2000)
    spec = Contraction("float32", (), (Axis(2, depth, 0),), Axis(columns, 0, 1), (Axis(depth, 1, columns),))
    for target in ("host", "sse2"):
        assert make_plan(spec, limited(target)).sweep
        a, b = random((2, k)), random((k, n), seed=3)
        check(Kernel(spec, limited(target), {"n": n, "k": k}), a, b, a @ b, k)


def test_sweep_batched() -> None:
    spec = batched_spec(3, 2, 700, 90, False)
    assert make_plan(spec, limited("host")).sweep
    a, b = random((3, 2, 90)), random((3, 90, 700), seed=3)
    check(Kernel(spec, limited("host")), guarded(a, True), guarded(b, True), a @ b, 90)


@pytest.mark.parametrize("target, product", [(AVX512, "vfmadd"), (AVX2, "vfmadd")])
def test_sweep_reads_a_row_of_b_once_for_all_rows(target: Target, product: str) -> None:
    """The loop over several vectors holds all of its products and touches no stack."""
    for m in (1, 4):
        spec = matmul_spec(m, 4096, 4096)
        plan = make_plan(spec, target)
        assert (plan.sweep, plan.rows, plan.packed) == (8 if m == 1 else 4, m, False)
        tile = assembly_for(Kernel(spec, target).text, target).split("dot.tile:")[1].split(".Lfunc_end")[0]
        largest = max(tile.split("\n.LBB"), key=lambda block: block.count(product))
        assert largest.count(product) >= 2 * m * plan.sweep
        assert "rsp)" not in largest


def test_few_rows_read_the_whole_matrix_in_one_unit_of_rows() -> None:
    for target in (AVX512, AVX2, SSE2, NEON):
        for m in (1, 2, 8, 16):
            assert make_plan(matmul_spec(m, 4096, 4096), target).row_panels == 1
        assert not make_plan(matmul_spec(64, 4096, 4096), target).sweep
        assert not make_plan(matmul_spec(1, 30, 50_000), target).sweep


@pytest.mark.parametrize("ta", [False, True])
@pytest.mark.parametrize("target", TARGETS)
def test_dot_products_in_blocks(target: str, ta: bool) -> None:
    """L1 keeps a block of A while the columns of B go by; an A with rows side by side is copied."""
    for m, n, k in ((5, 301, 1003), (8, 400, 1100), (3, 40, 777)):
        spec = matmul_spec(m, n, k, ta, tb=True)
        plan = make_plan(spec, replace(limited(target), l2_bytes=1 << 18))
        assert plan.dots
        assert plan.staged == ("rows" if ta else "")
        assert plan.k_blocks > 1 or plan.splits > 1 or plan.rows == 1
        a, b = random((k, m) if ta else (m, k)), random((n, k), seed=3)
        kernel = Kernel(spec, replace(limited(target), l2_bytes=1 << 18))
        for at_end in (True, False):
            check(kernel, guarded(a, at_end), guarded(b, at_end), (a.T if ta else a) @ b.T, k)
        assert kernel(a, b).tobytes() == kernel(a, b, ORDERS["backwards"]).tobytes()


def test_blocks_of_dot_products_start_at_whole_vectors() -> None:
    for k in (1003, 4096, 5000):
        plan = make_plan(matmul_spec(8, 4096, k, tb=True), AVX512)
        assert plan.k_blocks > 1
        assert plan.k_step == plan.lanes


def test_columns_at_once_follow_how_they_lie() -> None:
    """Few where they start in the same sets of L1, more where each has pages of its own."""
    dots = [make_plan(matmul_spec(1, 4096, k, tb=True), AVX512).dots for k in (4096, 4100)]
    assert dots == [4, 16]


@pytest.mark.parametrize("n, k", [(256, 256), (100, 100), (300, 40)])
def test_a_vector_times_long_columns_is_not_packed(n: int, k: int) -> None:
    """Though it is so few products that it might be written out: packing would take longer."""
    assert make_plan(matmul_spec(1, n, k, tb=True), HOST).dots
    a, b = random((1, k)), random((n, k), seed=3)
    check(Kernel(matmul_spec(1, n, k, tb=True)), a, b, np.asarray(a @ b.T), k)
