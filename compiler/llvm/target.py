"""What code generation may know about a CPU.

`host_target()` describes the machine that runs; `AVX512`, `AVX2`, `SSE2` and `NEON` are fixed machines to compare
assembly on. A `Target` is a plain value: kernels choose tile sizes from it and the compile cache puts it in its key.
`GRAPHFLOW_TARGET=sse2` makes a process generate code for that machine instead of its own, which must be able to run it.

    >>> AVX2.lanes("float32"), AVX2.vector_registers, AVX2.has_fma
    (8, 16, True)
"""

import functools
import math
import os
import platform
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

KIB = 1024
MIB = 1024 * KIB

# Bytes one element takes in a buffer, for every dtype that kernels compute on.
ELEMENT_BYTES = {
    "bool": 1,
    "int8": 1,
    "uint8": 1,
    "int16": 2,
    "uint16": 2,
    "float16": 2,
    "bfloat16": 2,
    "int32": 4,
    "uint32": 4,
    "float32": 4,
    "int64": 8,
    "uint64": 8,
    "float64": 8,
}

FLUSH_MXCSR = 1 << 15 | 1 << 6  # flush results to zero, denormals (as operands) are zero
FLUSH_FPCR = 1 << 24

# Caches of an ordinary core of recent years, for systems that do not say.
DEFAULT_CACHES = (32 * KIB, 512 * KIB, 8 * MIB)


@dataclass(frozen=True)
class Target:
    """A CPU as LLVM names it, with the few facts that tile sizes depend on.

    `features` are LLVM's, each with its sign: `("+avx2", "-avx512f")`. `vector_bits` is the width to write vectors in,
    `vector_registers` how many registers of that width there are. Cache sizes are bytes that one core sees; `l3_bytes`
    is shared by all cores.
    """

    triple: str
    cpu: str
    features: tuple[str, ...]
    vector_bits: int
    vector_registers: int
    has_fma: bool
    l1_bytes: int = DEFAULT_CACHES[0]
    l2_bytes: int = DEFAULT_CACHES[1]
    l3_bytes: int = DEFAULT_CACHES[2]

    def lanes(self, dtype: str) -> int:
        """How many elements of `dtype` one vector register holds. KeyError if no kernel computes on `dtype`."""
        return self.vector_bits // (8 * ELEMENT_BYTES[dtype])

    @property
    def arch(self) -> str:
        """The architecture's name in the triple: "x86_64", "aarch64"."""
        return self.triple.partition("-")[0]

    @property
    def has_avx512(self) -> bool:
        """True where kernels write vectors of 512 bits, which is with AVX-512 F and VL."""
        return self.is_x86 and self.vector_bits == 512

    @property
    def is_x86(self) -> bool:
        """True for x86-64, where MXCSR and `pause` exist."""
        return self.arch in ("x86_64", "amd64")

    @property
    def is_aarch64(self) -> bool:
        """True for 64-bit ARM, where FPCR and `yield` exist."""
        return self.arch in ("aarch64", "arm64")


X86_LINUX = "x86_64-unknown-linux-gnu"

AVX512 = Target(
    X86_LINUX, "skylake-avx512", ("-prefer-256-bit",), 512, 32, True, l1_bytes=32 * KIB, l2_bytes=MIB, l3_bytes=16 * MIB
)
AVX2 = Target(X86_LINUX, "haswell", (), 256, 16, True, l1_bytes=32 * KIB, l2_bytes=256 * KIB)
SSE2 = Target(X86_LINUX, "x86-64", (), 128, 16, False, l1_bytes=32 * KIB, l2_bytes=256 * KIB)
NEON = Target("aarch64-unknown-linux-gnu", "neoverse-n1", ("+neon",), 128, 32, True, l1_bytes=64 * KIB, l2_bytes=MIB)

NAMED = {"avx512": AVX512, "avx2": AVX2, "sse2": SSE2, "neon": NEON}


@functools.cache
def host_target() -> Target:
    """What this process generates code for: its machine, or the one that GRAPHFLOW_TARGET names.

    ValueError if GRAPHFLOW_TARGET is none of `NAMED`, or one that this machine can't run.
    """
    machine = this_machine()
    name = os.environ.get("GRAPHFLOW_TARGET", "").strip().lower()
    return narrowed(machine, name) if name else machine


@functools.cache
def this_machine() -> Target:
    """The machine that this process runs on."""
    # Imported here: thread counts and the named targets must not load LLVM.
    from graphflow.compiler.llvm.host import host_description

    triple, cpu, features = host_description()
    caches = cache_bytes(Path("/sys/devices/system/cpu/cpu0/cache"))
    return from_features(triple, cpu, host_features(features), caches)


def narrowed(machine: Target, name: str) -> Target:
    """The named target with `machine`'s triple and caches. ValueError if there is none, or `machine` can't run it."""
    if name not in NAMED:
        raise ValueError(f"GRAPHFLOW_TARGET must be one of {', '.join(NAMED)}, got {name!r}")
    wanted = NAMED[name]
    if not can_run(machine, wanted):
        raise ValueError(f"GRAPHFLOW_TARGET={name}: this machine ({machine.cpu}) can't run such code")
    caches = {level: getattr(machine, level) for level in ("l1_bytes", "l2_bytes", "l3_bytes")}
    return replace(wanted, triple=machine.triple, **caches)


def can_run(machine: Target, wanted: Target) -> bool:
    """Whether code for the named target `wanted` runs on `machine`: same architecture, as wide, FMA if it has it."""
    same = (machine.is_x86, machine.is_aarch64) == (wanted.is_x86, wanted.is_aarch64)
    return same and machine.vector_bits >= wanted.vector_bits and (machine.has_fma or not wanted.has_fma)


def host_features(found: dict[str, bool]) -> tuple[str, ...]:
    """LLVM's feature map as a sorted tuple of signed names.

    Several Intel CPUs make LLVM split 512-bit vectors in two ("prefer-256-bit"); our kernels write the width they
    want, so the preference is switched off wherever 512-bit vectors exist.
    """
    features = [("+" if on else "-") + name for name, on in sorted(found.items())]
    if found.get("avx512f"):
        features.append("-prefer-256-bit")
    return tuple(features)


def from_features(triple: str, cpu: str, features: tuple[str, ...], caches: tuple[int, int, int]) -> Target:
    """The target with these LLVM features: vector width, registers and FMA follow from them."""
    l1, l2, l3 = caches
    bits, registers, fma = vector_facts(triple, features)
    return Target(triple, cpu, features, bits, registers, fma, l1_bytes=l1, l2_bytes=l2, l3_bytes=l3)


def vector_facts(triple: str, features: tuple[str, ...]) -> tuple[int, int, bool]:
    """(vector bits, vector registers, has FMA). SVE counts as NEON: kernels need a width known beforehand."""
    if triple.startswith(("aarch64", "arm64")):
        return 128, 32, True
    # The 32 registers and the masks of AVX-512 serve narrower vectors only with VL; no CPU of interest lacks it.
    if {"+avx512f", "+avx512vl"} <= set(features):
        return 512, 32, True
    fma = "+fma" in features
    if "+avx2" in features or "+avx" in features:
        return 256, 16, fma
    return 128, 16, fma


def cache_bytes(folder: Path) -> tuple[int, int, int]:
    """(L1 data, L2, L3) in bytes from Linux's description of one core's caches; defaults for what it does not say."""
    sizes = dict(zip((1, 2, 3), DEFAULT_CACHES, strict=True))
    for level, size in described_caches(folder):
        if level in sizes and size > 0:
            sizes[level] = size
    return sizes[1], sizes[2], sizes[3]


def described_caches(folder: Path) -> Iterator[tuple[int, int]]:
    """(level, bytes) of each data or unified cache under `folder`; nothing where the folder does not exist."""
    for index in sorted(folder.glob("index*")):
        try:
            kind = (index / "type").read_text().strip()
            level = int((index / "level").read_text())
            size = size_in_bytes((index / "size").read_text())
        except (OSError, ValueError):  # virtual machines and containers hide some of these files
            continue
        if kind != "Instruction":
            yield level, size


def size_in_bytes(text: str) -> int:
    """The kernel's "48K", "2M" or "512" as bytes. ValueError for anything else."""
    text = text.strip()
    unit = {"K": KIB, "M": MIB, "G": 1024 * MIB}.get(text[-1:], 1)
    return int(text[:-1] if unit > 1 else text) * unit


def available_cpus() -> int:
    """How many CPUs this process may keep busy: its affinity mask, cut by the container's CPU quota; at least 1."""
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if platform.system() != "Linux":
        return cpus
    quota = cpu_quota(Path("/proc/self/cgroup"), Path("/sys/fs/cgroup"))
    return max(1, math.ceil(min(cpus, quota)))


def cpu_quota(membership: Path, mount: Path) -> float:
    """CPUs' worth of time that cgroups allow, infinity if unlimited: the smallest quota on the way to the root."""
    try:
        lines = membership.read_text().splitlines()
    except OSError:
        return math.inf
    return min(quotas(lines, mount), default=math.inf)


def quotas(lines: Iterable[str], mount: Path) -> Iterator[float]:
    """Every quota that binds a process with these lines in /proc/self/cgroup (`id:controllers:path`)."""
    for line in lines:
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controllers == "":
            yield from (quota_v2(folder) for folder in upward(mount, path))
        elif "cpu" in controllers.split(","):
            yield from (
                quota_v1(folder) for root in (mount / "cpu", mount / controllers) for folder in upward(root, path)
            )


def upward(root: Path, path: str) -> Iterator[Path]:
    """The folder of a cgroup and of each of its parents. Inside a container only the root may be visible."""
    folder = root / path.strip("/")
    while folder != root and root in folder.parents:
        yield folder
        folder = folder.parent
    yield root


def quota_v2(folder: Path) -> float:
    """CPUs allowed by a version 2 cgroup: "max 100000" or "150000 100000" (1.5 CPUs)."""
    try:
        quota, period = (folder / "cpu.max").read_text().split()
        return math.inf if quota == "max" else int(quota) / int(period)
    except (OSError, ValueError, ZeroDivisionError):
        return math.inf


def quota_v1(folder: Path) -> float:
    """CPUs allowed by a version 1 cgroup; a quota of -1 means unlimited."""
    try:
        quota = int((folder / "cpu.cfs_quota_us").read_text())
        period = int((folder / "cpu.cfs_period_us").read_text())
        return quota / period if quota > 0 else math.inf
    except (OSError, ValueError, ZeroDivisionError):
        return math.inf


def emit_flush_denormals(builder: Any, target: Target) -> Any:
    """Emit code that makes this thread treat denormals as zero; returns the mode before, for `emit_restore_denormals`.

    On x86 results and operands are flushed (MXCSR bits FTZ and DAZ), on 64-bit ARM too (FPCR bit FZ); elsewhere nothing
    is emitted and the result is None. `builder` is an llvmlite `IRBuilder`.
    """
    saved = emit_read_float_mode(builder, target)
    if saved is not None:
        flush = FLUSH_MXCSR if target.is_x86 else FLUSH_FPCR
        emit_restore_denormals(builder, target, builder.or_(saved, saved.type(flush)))
    return saved


def emit_read_float_mode(builder: Any, target: Target) -> Any:
    """Emit code that reads MXCSR (an i32) or FPCR (an i64); None on other architectures."""
    from llvmlite import ir

    if target.is_aarch64:
        return builder.call(intrinsic(builder, "llvm.aarch64.get.fpcr", ir.IntType(64)), ())
    if not target.is_x86:
        return None
    # In the entry block, so that a call inside a loop does not grow the stack.
    with builder.goto_entry_block():
        slot = builder.alloca(ir.IntType(32), name="mxcsr")
    builder.call(intrinsic(builder, "llvm.x86.sse.stmxcsr", ir.VoidType(), ir.PointerType()), (slot,))
    return builder.load(slot, typ=ir.IntType(32))


def emit_restore_denormals(builder: Any, target: Target, saved: Any) -> None:
    """Emit code that brings back the mode that `emit_flush_denormals` returned."""
    from llvmlite import ir

    if saved is None:
        return
    if target.is_aarch64:
        builder.call(intrinsic(builder, "llvm.aarch64.set.fpcr", ir.VoidType(), ir.IntType(64)), (saved,))
        return
    with builder.goto_entry_block():
        slot = builder.alloca(ir.IntType(32), name="mxcsr")
    builder.store(saved, slot)
    builder.call(intrinsic(builder, "llvm.x86.sse.ldmxcsr", ir.VoidType(), ir.PointerType()), (slot,))


def emit_stream_fence(builder: Any, target: Target) -> None:
    """Emit code after which other threads find what this one stored past the caches.

    On ARM such stores are ordered like all others, by whatever tells the other thread that they are done.
    """
    from llvmlite import ir

    if target.is_x86:
        builder.call(intrinsic(builder, "llvm.x86.sse.sfence", ir.VoidType()), ())


def intrinsic(builder: Any, name: str, result: Any, *parameters: Any) -> Any:
    """The declaration of LLVM's intrinsic `name` in the module under construction, made at first use."""
    from llvmlite import ir

    module = builder.module
    found = module.globals.get(name)
    return found if found is not None else ir.Function(module, ir.FunctionType(result, parameters), name)
