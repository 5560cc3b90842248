"""What code generation may know about a CPU.

`host_target()` describes the machine that runs; `AVX512`, `AVX2`, `SSE2` and `NEON` are fixed machines to compare
assembly on. A `Target` is a plain value: kernels choose tile sizes from it and the compile cache puts it in its key.
`GRAPHFLOW_TARGET=sse2` makes a process generate code for that machine instead of its own, which must be able to run it.

    >>> AVX2.lanes("float32"), AVX2.vector_registers, AVX2.has_fma
    (8, 16, True)
"""

import functools
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

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
    # Imported here: the named targets must not load LLVM.
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
