"""CPU facts: named machines, this one, caches, quotas, and code that flushes denormals."""

import ctypes
import math
import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest
from llvmlite import ir

from graphflow.compiler.llvm import target as module
from graphflow.compiler.llvm.jit import assembly_for, compile_module
from graphflow.compiler.llvm.target import (
    AVX2,
    AVX512,
    DEFAULT_CACHES,
    ELEMENT_BYTES,
    NEON,
    SSE2,
    Target,
    available_cpus,
    cache_bytes,
    cpu_quota,
    emit_flush_denormals,
    emit_restore_denormals,
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


def test_quota_of_version_2(tmp_path: Path) -> None:
    membership, mount = tmp_path / "cgroup", tmp_path / "mount"
    inner = mount / "outer" / "inner"
    inner.mkdir(parents=True)
    membership.write_text("0::/outer/inner\n")
    assert cpu_quota(membership, mount) == math.inf
    (inner / "cpu.max").write_text("max 100000\n")
    (mount / "outer" / "cpu.max").write_text("150000 100000\n")
    assert cpu_quota(membership, mount) == 1.5
    (inner / "cpu.max").write_text("50000 100000\n")
    assert cpu_quota(membership, mount) == 0.5


@pytest.mark.parametrize("folder", ["cpu", "cpu,cpuacct"])
def test_quota_of_version_1(tmp_path: Path, folder: str) -> None:
    membership, mount = tmp_path / "cgroup", tmp_path / "mount"
    (mount / folder).mkdir(parents=True)
    membership.write_text("7:memory:/x\n3:cpu,cpuacct:/docker/abc\n")
    (mount / folder / "cpu.cfs_quota_us").write_text("250000\n")
    (mount / folder / "cpu.cfs_period_us").write_text("100000\n")
    assert cpu_quota(membership, mount) == 2.5
    (mount / folder / "cpu.cfs_quota_us").write_text("-1\n")
    assert cpu_quota(membership, mount) == math.inf


def test_available_cpus_is_the_quota_rounded_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "system", lambda: "Linux")
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: range(8), raising=False)
    for quota, cpus in [(math.inf, 8), (2.5, 3), (0.2, 1), (64.0, 8)]:
        monkeypatch.setattr(module, "cpu_quota", lambda *paths, quota=quota: quota)
        assert available_cpus() == cpus


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system does not pin processes to CPUs")
def test_threads_follow_the_affinity_mask() -> None:
    code = (
        "import os, sys; os.sched_setaffinity(0, {int(sys.argv[1])});"
        "from graphflow.runtime.threads import thread_count; assert thread_count() == 1, thread_count()"
    )
    environment = {key: value for key, value in os.environ.items() if key != "GRAPHFLOW_NUM_THREADS"}
    command = [sys.executable, "-c", code, str(max(os.sched_getaffinity(0)))]
    subprocess.run(command, cwd=Path(__file__).parents[2], env=environment, check=True, timeout=60)


def denormal_module(target: Target) -> ir.Module:
    """`float f(float x)`: x / 2 with denormals flushed, if the target can."""
    made = ir.Module("denormal")
    function = ir.Function(made, ir.FunctionType(ir.FloatType(), (ir.FloatType(),)), "f")
    builder = ir.IRBuilder(function.append_basic_block("entry"))
    slot = builder.alloca(ir.FloatType())
    builder.store(function.args[0], slot)
    saved = emit_flush_denormals(builder, target)
    half = builder.fmul(builder.load(slot), ir.FloatType()(0.5))
    builder.store(half, slot)
    emit_restore_denormals(builder, target, saved)
    builder.ret(builder.load(slot))
    return made


def test_denormals_are_flushed_and_the_mode_restored() -> None:
    target = host_target()
    if not target.is_x86 and not target.is_aarch64:
        pytest.skip("no flush mode is known for this CPU")
    # Unoptimized: the optimizer does not know that arithmetic depends on the mode.
    code = compile_module(denormal_module(target), target, optimize="none")
    halve = ctypes.CFUNCTYPE(ctypes.c_float, ctypes.c_float)(code.address("f"))
    assert halve(4.0) == 2.0
    assert halve(1e-40) == 0.0
    assert ctypes.c_float(1e-40).value * 0.5 > 0.0


def test_flushing_on_other_machines() -> None:
    assert "ldmxcsr" in assembly_for(denormal_module(SSE2), SSE2)
    assert "FPCR" in assembly_for(denormal_module(NEON), NEON)
    plain = Target("riscv64-unknown-linux-gnu", "generic-rv64", (), 128, 32, True)
    assert "call" not in str(denormal_module(plain))


def test_facts_come_without_llvm() -> None:
    """Thread counts and named targets must not load the compiler."""
    code = (
        "import sys; from graphflow.compiler.llvm.target import available_cpus; available_cpus();"
        "assert 'llvmlite' not in sys.modules"
    )
    path = str(Path(__file__).parents[2])
    subprocess.run([sys.executable, "-c", code], cwd=path, check=True, timeout=60)
