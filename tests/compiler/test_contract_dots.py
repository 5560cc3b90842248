"""Dot products along k."""

from __future__ import annotations

import re
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
    TARGETS,
    Kernel,
    check,
    check_matmul,
    guarded,
    matmul_spec,
    random,
)

DOTS = [(1, 1000, 100), (1, 1, 5000), (1, 1, 3), (4, 301, 95), (2, 7, 33), (32, 128, 784), (9, 70, 999)]


@pytest.mark.parametrize("target", TARGETS)
def test_dot_products(target: str) -> None:
    """Vectors along k, where k lies side by side in both operands: odd sizes, nothing read outside."""
    for m, n, k in DOTS:
        a, b = random((m, k)), random((n, k), seed=3)
        kernel = Kernel(matmul_spec(m, n, k, tb=True), TARGETS[target])
        for at_end in (True, False):
            check(kernel, guarded(a, at_end), guarded(b, at_end), a @ b.T, k)


@pytest.mark.parametrize("dtype", ["float64", "int32", "int64"])
def test_dot_products_dtypes(dtype: str) -> None:
    for m, n, k in DOTS[:5]:
        check_matmul(m, n, k, False, True, dtype)


def test_a_sum_of_nothing_has_a_block() -> None:
    tiny = replace(HOST, l1_bytes=512, l2_bytes=1024)
    spec = matmul_spec(5, 1, 0, tb=True)
    plan = make_plan(spec, tiny)
    assert (plan.dots, plan.k_blocks) == (1, 1)
    check(Kernel(spec, tiny), random((5, 0)), random((1, 0)), np.zeros((5, 1), np.float32), 0)


def test_matrix_times_vector_is_not_packed() -> None:
    for target in (AVX512, AVX2, SSE2, NEON):
        plan = make_plan(matmul_spec(1, 1000, 1000, tb=True), target)
        assert plan.dots
        assert not plan.packed
        assert_in_registers(matmul_spec(1, 1000, 1000, tb=True), target)


@pytest.mark.parametrize("k, dots", [(3, False), (64, True), (1000, True), (16_384, True)])
def test_two_vectors_are_multiplied_along_them(k: int, dots: bool) -> None:
    """However short: one column leaves all lanes but one empty."""
    for target in (AVX512, AVX2, SSE2, NEON):
        assert bool(make_plan(matmul_spec(1, 1, k), target).dots) == dots


def assert_in_registers(spec: Contraction, target: Target) -> None:
    """The tile compiles for the target and calls nothing."""
    tile = assembly_for(Kernel(spec, target).text, target).split("dot.tile:")[1].split(".Lfunc_end")[0]
    assert not re.search(r"\bcall|\bbl\b", tile)


@pytest.mark.parametrize("sizes", [{"m": 1, "n": 70, "k": 40}, {"m": 3, "n": 5, "k": 7}, {"m": 0, "n": 4, "k": 4}])
def test_dot_products_of_symbolic_sizes(sizes: dict[str, int]) -> None:
    m, n, k = symbol("m", hint=2), symbol("n", hint=300), symbol("k", hint=300)
    spec = Contraction("float32", (), (Axis(m, k, 0),), Axis(n, 0, k), (Axis(k, 1, 1),))
    assert make_plan(spec, HOST).dots
    a, b = random((sizes["m"], sizes["k"])), random((sizes["n"], sizes["k"]), seed=3)
    check(Kernel(spec, symbols=sizes), a, b, a @ b.T, sizes["k"])
