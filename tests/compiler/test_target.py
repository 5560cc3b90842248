"""CPU facts: named machines, this one, and caches."""

import subprocess
import sys
from pathlib import Path

import pytest

from graphflow.compiler.llvm.jit import assembly_for
from graphflow.compiler.llvm.target import (
    AVX2,
    AVX512,
    DEFAULT_CACHES,
    ELEMENT_BYTES,
    NEON,
    SSE2,
    Target,
    cache_bytes,
    host_features,
    host_target,
    size_in_bytes,
    vector_facts,
)


@pytest.mark.parametrize(
    "target, float32, float64, registers, fma",
    [(AVX512, 16, 8, 32, True), (AVX2, 8, 4, 16, True), (SSE2, 4, 2, 16, False), (NEON, 4, 2, 32, True)],
)
def test_named_targets(target: Target, float32: int, float64: int, registers: int, fma: bool) -> None:
    assert (target.lanes("float32"), target.lanes("float64")) == (float32, float64)
    assert (target.vector_registers, target.has_fma) == (registers, fma)
    assert target.lanes("bool") == target.vector_bits // 8


def test_lanes_of_an_unknown_dtype() -> None:
    with pytest.raises(KeyError):
        AVX2.lanes("complex64")


def test_host() -> None:
    host = host_target()
    assert host is host_target()
    assert host.vector_bits in (128, 256, 512)
    assert all(feature[0] in "+-" for feature in host.features)
    assert 0 < host.l1_bytes <= host.l2_bytes
    assert all(host.lanes(dtype) * size * 8 == host.vector_bits for dtype, size in ELEMENT_BYTES.items())
    assert host.is_x86 or host.is_aarch64 or host.vector_bits == 128


@pytest.mark.parametrize(
    "features, facts",
    [
        (("+avx512f", "+avx512vl", "+avx2", "+fma"), (512, 32, True)),
        (("+avx512f", "-avx512vl", "+avx2", "+fma"), (256, 16, True)),
        (("+avx", "-avx2", "-fma"), (256, 16, False)),
        (("+sse2", "-avx"), (128, 16, False)),
    ],
)
def test_facts_follow_from_features(features: tuple[str, ...], facts: tuple[int, int, bool]) -> None:
    assert vector_facts(SSE2.triple, features) == facts
    assert vector_facts("arm64-apple-darwin24", features) == (128, 32, True)


def test_wide_vectors_are_not_split() -> None:
    assert host_features({"avx512f": True, "sse": False}) == ("+avx512f", "-sse", "-prefer-256-bit")
    assert host_features({"avx2": True}) == ("+avx2",)
    double = """define void @f(ptr %p) {
      %x = load <16 x float>, ptr %p, align 4
      %y = fadd <16 x float> %x, %x
      store <16 x float> %y, ptr %p, align 4
      ret void
    }"""
    assert "zmm" in assembly_for(double, AVX512)
    assert "ymm" in assembly_for(double, AVX2)


def describe_cache(folder: Path, index: int, level: str, kind: str, size: str) -> None:
    place = folder / f"index{index}"
    place.mkdir()
    for name, text in {"level": level, "type": kind, "size": size}.items():
        (place / name).write_text(text + "\n")


def test_caches(tmp_path: Path) -> None:
    assert cache_bytes(tmp_path / "absent") == DEFAULT_CACHES
    describe_cache(tmp_path, 0, "1", "Data", "48K")
    describe_cache(tmp_path, 1, "1", "Instruction", "64K")
    describe_cache(tmp_path, 2, "2", "Unified", "2M")
    describe_cache(tmp_path, 3, "3", "Unified", "unknown")
    assert cache_bytes(tmp_path) == (48 << 10, 2 << 20, DEFAULT_CACHES[2])


def test_sizes() -> None:
    assert [size_in_bytes(text) for text in ("48K\n", "2M", "1G", "512")] == [48 << 10, 2 << 20, 1 << 30, 512]


def test_facts_come_without_llvm() -> None:
    """Named targets must not load the compiler."""
    code = "import sys, graphflow.compiler.llvm.target; assert 'llvmlite' not in sys.modules"
    path = str(Path(__file__).parents[2])
    subprocess.run([sys.executable, "-c", code], cwd=path, check=True, timeout=60)
