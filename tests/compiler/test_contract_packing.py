"""Copies of operands: B in panels, A in rows or panels, blocks of k."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from llvmlite import ir

from graphflow.compiler.llvm.code import I64, PTR
from graphflow.compiler.llvm.contract import tile
from graphflow.compiler.llvm.contract.choose import make_plan
from graphflow.compiler.llvm.contract.emit import Axis, Contraction
from graphflow.compiler.llvm.target import AVX512
from graphflow.compiler.loops.ir import EVERY_STEP
from graphflow.core.dim import symbol
from tests.compiler.contractions import (
    HOST,
    ORDERS,
    TARGETS,
    Kernel,
    apart,
    check,
    guarded,
    matmul_spec,
    random,
    with_rows_apart,
)


def test_staged_and_packed() -> None:
    """Sizes that make the plan copy A, in each way it knows, and pack B beforehand."""
    wide = replace(HOST, vector_bits=512, vector_registers=32, l1_bytes=AVX512.l1_bytes, l2_bytes=AVX512.l2_bytes)
    for ta, m, n, k, staged in ((False, 6000, 520, 512, "rows"), (True, 6000, 520, 100, "columns")):
        spec = replace(matmul_spec(m, n, k, ta), readers=EVERY_STEP)
        plan = make_plan(spec, wide)
        assert (plan.staged, plan.packed, plan.local) == (staged, True, False)
        a, b = random((k, m) if ta else (m, k), seed=1), random((k, n), seed=2)
        check(Kernel(spec, wide), a, b, (a.T if ta else a) @ b, k)


@pytest.mark.parametrize("m, n, k, stride", [(90, 1610, 3001, 3072), (640, 1610, 700, 768), (641, 1610, 203, 0)])
def test_rows_staged_for_parts_of_k(m: int, n: int, k: int, stride: int) -> None:
    """A k that is cut into blocks has all row panels of a block side by side; the rows crowd, or lie side by side."""
    small = replace(HOST, l1_bytes=4096, l2_bytes=1 << 14)
    a = random((m, k), seed=1)
    stored = apart(a, stride) if stride else a.T.copy()
    for tb in (False, True):
        spec = matmul_spec(m, n, k, ta=not stride, tb=tb)
        spec = with_rows_apart(spec, stride) if stride else spec
        plan = make_plan(spec, small)
        assert plan.staged == "panels"
        assert plan.stage_parts > 1
        b = random((n, k) if tb else (k, n), seed=2)
        check(Kernel(spec, small), guarded(stored, True), guarded(b, True), a @ (b.T if tb else b), k)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("m, k, gap", [(35, 1300, 0), (96, 401, 3), (98, 700, 0), (192, 203, 5), (199, 400, 1)])
def test_rows_side_by_side_staged_in_groups(m: int, k: int, gap: int, target: str) -> None:
    """Whole groups of panels, panels that are left and the last rows; nothing outside of A is read."""
    small = replace(TARGETS[target], l1_bytes=4096, l2_bytes=1 << 14)
    for dtype in ("float32", "float64"):
        spec = matmul_spec(m, 1610, k, ta=True, dtype=dtype)
        spec = replace(spec, k=(replace(spec.k[0], a=m + gap),))
        assert make_plan(spec, small).staged == "panels"
        a, b = random((m, k), dtype, seed=1), random((k, 1610), dtype, seed=2)
        check(Kernel(spec, small), guarded(apart(a.T, m + gap), True), guarded(b, True), a @ b, k)
        backwards = replace(spec, k=(replace(spec.k[0], a=-m - gap),), a_offset=(k - 1) * (m + gap))
        assert make_plan(backwards, small).staged == "panels"
        check(Kernel(backwards, small), guarded(apart(a.T, m + gap), True), guarded(b, True), a[:, ::-1] @ b, k)


def test_staged_windows_of_one_channel() -> None:
    """Rows and steps of k both lie side by side there, but rows of a panel may be of several runs."""
    small = replace(HOST, l1_bytes=4096, l2_bytes=1 << 14)
    m = (Axis(60, 50, 0), Axis(45, 1, 0))
    k = (Axis(3, 50, 3 * 1600), Axis(3, 1, 1600))
    spec = Contraction("float32", (), m, Axis(1600, 0, 1), k)
    assert make_plan(spec, small).staged == "panels"
    image, b = random((62, 50)), random((3, 3, 1600), seed=1)
    windows_of = np.lib.stride_tricks.sliding_window_view(image, (3, 3))[:60, :45]
    check(Kernel(spec, small), guarded(image, True), guarded(b, True), np.einsum("ywij,ijn->ywn", windows_of, b), 9)


def test_what_l2_keeps_is_not_copied() -> None:
    """Neither is it asked for; but where it is too large, or pushed out, or comes with columns of A, it is packed."""
    near = make_plan(matmul_spec(500, 510, 500), AVX512)
    assert not near.packed
    assert not near.prefetches
    few = make_plan(matmul_spec(20, 510, 500), AVX512)
    assert not few.prefetches
    for far in (
        matmul_spec(500, 1030, 510),
        matmul_spec(3000, 510, 500),
        matmul_spec(500, 510, 500, ta=True),
        matmul_spec(500, 510, 500, tb=True),
        replace(matmul_spec(500, 510, 500), readers=EVERY_STEP),
    ):
        assert make_plan(far, AVX512).packed


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("m, n, k", [(100, 192, 300), (131, 203, 130), (97, 515, 133), (200, 90, 257)])
def test_read_where_it_lies(target: str, m: int, n: int, k: int) -> None:
    """Nothing outside of B is read, whole vectors or not."""
    chosen = replace(TARGETS[target], l2_bytes=1 << 20)
    plan = make_plan(matmul_spec(m, n, k), chosen)
    assert plan.packed == (not plan.whole_columns and chosen.vector_bits < 512)
    kernel = Kernel(matmul_spec(m, n, k), chosen)
    a, b = random((m, k)), random((k, n), seed=3)
    for at_end in (True, False):
        check(kernel, guarded(a, at_end), guarded(b, at_end), a @ b, k)


@pytest.mark.parametrize("target", TARGETS)
def test_the_first_tile_packs(target: str) -> None:
    """Columns side by side are packed beside products, not by a loop of their own unless rows may be too few."""
    small = replace(TARGETS[target], l1_bytes=4096, l2_bytes=1 << 14)
    for rows, alone in ((100, False), (symbol("rows", hint=100), True)):
        spec = matmul_spec(rows, 150, 300)
        plan = make_plan(spec, small)
        assert plan.local
        kernel = Kernel(spec, small, {"rows": 100})
        masked = small.vector_bits >= 256
        assert ("dot.packing" in str(kernel.text)) == masked
        assert ("dot.panel" in str(kernel.text)) == (alone or not masked)
        for count in (100, 3, 101) if alone else (100,):
            kernel.symbols["rows"] = count
            a, b = random((count, 300)), random((300, 150), seed=3)
            check(kernel, guarded(a, True), guarded(b, True), a @ b, 300)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("tb", [False, True])
def test_a_tile_of_few_columns(target: str, tb: bool) -> None:
    """The last column panel has a tile of its own where most of its vectors would be idle; also packed, also masked."""
    chosen = TARGETS[target]
    found = 0
    for n in (25, 33, 41, 98, 201):
        for m, k in ((70, 40), (150, 700)):
            kernel = Kernel(matmul_spec(m, n, k, tb=tb), chosen)
            found += "dot.edge" in str(kernel.text)
            a, b = random((m, k)), random((n, k) if tb else (k, n), seed=3)
            check(kernel, guarded(a, True), guarded(b, True), a @ (b.T if tb else b), k)
    assert found


@pytest.mark.parametrize("target", ["host", "small caches", "avx2"])
@pytest.mark.parametrize("m, n, k, stride", [(300, 1606, 600, 1024), (280, 1600, 450, 450), (301, 1606, 601, 601)])
def test_blocks_of_k(m: int, n: int, k: int, stride: int, target: str) -> None:
    """Columns are copied by the unit, rows beforehand where they crowd; sums stay in scratch from block to block."""
    limited = replace(TARGETS[target], l1_bytes=8192, l2_bytes=1 << 15)
    spec = with_rows_apart(matmul_spec(m, n, k), stride)
    plan = make_plan(spec, limited)
    assert plan.staged == ("panels" if stride == 1024 else "")
    assert plan.local
    assert plan.k_blocks > 1
    a, b = random((m, k)), random((k, n), seed=3)
    kernel, stored = Kernel(spec, limited), apart(a, stride)
    check(kernel, guarded(stored, True), guarded(b, False), a @ b, k)
    assert kernel(stored, b).tobytes() == kernel(stored, b, ORDERS["backwards"]).tobytes()


@pytest.mark.parametrize("count", [0, 1, 5, 300])
def test_blocks_of_k_of_symbolic_rows(count: int) -> None:
    limited = replace(HOST, l1_bytes=8192, l2_bytes=1 << 15)
    spec = matmul_spec(symbol("rows", hint=300), 1600, 250)
    assert make_plan(spec, limited).k_blocks > 1
    a, b = random((count, 250)), random((250, 1600), seed=3)
    check(Kernel(spec, limited, {"rows": count}), guarded(a, True) if count else a, b, a @ b, 250)


LOCAL = replace(HOST, l1_bytes=4096, l2_bytes=1 << 14)


@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 70),
    st.integers(1, 150),
    st.integers(1, 300),
    st.booleans(),
    st.booleans(),
    st.sampled_from(["float32", "float64", "int32", "int64"]),
)
def test_packed_where_it_is_read(m: int, n: int, k: int, ta: bool, tb: bool, dtype: str) -> None:
    """Small caches: each unit packs B itself, by blocks of k, and reads nothing outside A and B."""
    a, b = random((k, m) if ta else (m, k), dtype, 1), random((n, k) if tb else (k, n), dtype, 2)
    kernel = Kernel(matmul_spec(m, n, k, ta, tb, dtype), LOCAL)
    check(kernel, guarded(a, True), guarded(b, True), (a.T if ta else a) @ (b.T if tb else b), k)


@pytest.mark.parametrize("tb", [False, True])
@pytest.mark.parametrize("m, n, k", [(50, 130, 90), (50, 200, 300), (16, 400, 40), (60, 400, 80)])
def test_packing_needs_no_launch(m: int, n: int, k: int, tb: bool) -> None:
    """One launch, no workspace, and the same bits in any order of its units."""
    spec = matmul_spec(m, n, k, tb=tb)
    plan = make_plan(spec, LOCAL)
    assert plan.local
    kernel = Kernel(spec, LOCAL)
    a, b = random((m, k)), random((n, k) if tb else (k, n), seed=3)
    copies = plan.staged == "panels"
    assert len(kernel.code.launches) == 1 + copies
    assert copies or kernel.code.workspace_bytes == 0
    assert kernel.code.packed_bytes == 0
    check(kernel, guarded(a, True), guarded(b, True), a @ (b.T if tb else b), k)
    assert kernel(a, b).tobytes() == kernel(a, b, ORDERS["backwards"]).tobytes()


@pytest.mark.parametrize("m, n, k", [(64, 400, 300), (32, 2000, 130), (40, 1000, 90), (70, 333, 200), (500, 300, 300)])
def test_tiles_ask_for_what_is_packed_next(m: int, n: int, k: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every line of B but those that a unit begins with: the next column panel, and after the last the next block."""
    target = replace(LOCAL, vector_bits=256, vector_registers=16)
    plan = make_plan(matmul_spec(m, n, k), target)
    assert plan.tile_asks
    log = np.zeros(1 << 20, np.int64)

    def record(b: ir.IRBuilder, pointer: ir.Value, locality: int) -> None:
        if locality != 2:  # rows of A that are staged
            return
        count = b.inttoptr(ir.Constant(I64, log.ctypes.data), PTR)
        number = b.add(b.load(count, typ=I64), ir.Constant(I64, 1))
        b.store(b.ptrtoint(pointer, I64), b.gep(count, [number], source_etype=I64))
        b.store(number, count)

    monkeypatch.setattr(tile, "prefetch", record)
    kernel = Kernel(matmul_spec(m, n, k), target)
    a, b = random((m, k)), random((k, n), seed=3)
    check(kernel, a, b, a @ b, k)
    asked = set((log[1 : log[0] + 1] // 64).tolist())
    addresses = b.ctypes.data + np.arange(k)[:, None] * 4 * n + np.arange(n) * 4
    begins = (np.arange(k)[:, None] < plan.block_depth) & (np.arange(n) // plan.width % plan.column_block == 0)
    assert asked >= set((addresses[~begins] // 64).tolist())


@pytest.mark.parametrize("rows", [0, 1, 3, 4, 11, 64, 90])
def test_packing_for_a_symbolic_number_of_rows(rows: int) -> None:
    """Small tiles finish the rows, and their sums stay apart from those of other tiles between blocks of k."""
    spec = matmul_spec(symbol("rows", hint=64), 130, 300)
    plan = make_plan(spec, LOCAL)
    assert plan.local
    assert plan.k_blocks > 1
    a, b = random((rows, 300)), random((300, 130), seed=3)
    check(Kernel(spec, LOCAL, {"rows": rows}), guarded(a, True) if rows else a, guarded(b, True), a @ b, 300)


def test_packing_batched_products() -> None:
    """A batch whose B move too, and one whose B do not."""
    a, b = random((3, 40, 90)), random((3, 90, 130), seed=3)
    spec = Contraction("float32", (Axis(3, 3600, 11700),), (Axis(40, 90, 0),), Axis(130, 0, 1), (Axis(90, 1, 130),))
    assert make_plan(spec, LOCAL).local
    check(Kernel(spec, LOCAL), guarded(a, True), guarded(b, True), a @ b, 90)
    shared = replace(spec, batch=(Axis(3, 3600, 0),))
    check(Kernel(shared, LOCAL), guarded(a, True), guarded(b[0], True), a @ b[0], 90)
