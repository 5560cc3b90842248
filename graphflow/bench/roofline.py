"""What this machine can do: multiply-adds and bytes a second, on one core and on all, measured by loops of our own.

    limits = measure(threads=1)
    limits.flops["float32"]                      # floating point operations a second
    limits.bandwidth(64 << 20, writes=False)     # bytes a second, of a working set of 64 MiB that is read
    limits.seconds(work, "float32")              # the least time that a kernel's work takes: its limit

Bandwidth depends on which cache holds the working set, so it is measured at several sizes and interpolated.
"""

from __future__ import annotations

import ctypes
import functools
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from graphflow.compiler.llvm.jit import compile_module
from graphflow.compiler.llvm.probe import PROBES, SLICES, arrays_of, fma_flops, granule, probe_module
from graphflow.compiler.llvm.target import Target, host_target
from graphflow.compiler.loops.work import Work
from graphflow.runtime.memory import aligned_empty
from graphflow.runtime.profile import shortest
from graphflow.runtime.threads import pool, set_thread_count, thread_count

__all__ = ["READS_ONLY", "WRITING", "Limits", "Probes", "measure", "measure_all", "quick_limits"]

MIB = 1 << 20
MOST_BYTES = 256 * MIB
FMA_ROUNDS = 20_000
READS_ONLY = 8  # a kernel that writes less than an eighth of what it moves is held to the rate of reading

WRITING = ("copy", "triad", "stream")

Curve = list[tuple[int, float]]  # (bytes of the working set, bytes a second)


@dataclass(frozen=True)
class Limits:
    """Floating point operations a second by dtype, and a bandwidth curve for each of the probes of memory."""

    threads: int
    flops: dict[str, float]
    curves: dict[str, Curve]

    def bandwidth(self, size: int, writes: bool) -> float:
        """Bytes a second for a working set of `size` bytes."""
        return max(interpolated(self.curves[name], size) for name in (WRITING if writes else ("read",)))

    def seconds(self, work: Work, dtype: str) -> float:
        """The least time: of computing or of moving bytes, whichever is more."""
        return max(self.compute_seconds(work, dtype), self.memory_seconds(work))

    def compute_seconds(self, work: Work, dtype: str) -> float:
        """Products at the peak rate; any other vector instruction does half as much as a multiply-add."""
        peak = self.flops["float64" if dtype in ("float64", "int64") else "float32"]
        return (work.flops + 2 * work.operations) / peak

    def memory_seconds(self, work: Work) -> float:
        """All bytes at the bandwidth of a working set of that size."""
        if work.bytes == 0:
            return 0.0
        return work.bytes / self.bandwidth(work.bytes, writes=work.written * READS_ONLY >= work.bytes)

    def ceilings(self) -> dict[str, float]:
        """Bandwidths to draw: of the smallest and of the largest working set measured."""
        ends = {"L2": 0, "memory": -1}
        return {name: max(curve[n][1] for curve in self.curves.values()) for name, n in ends.items()}

    def as_json(self) -> dict[str, Any]:
        """For a file."""
        return asdict(self)


def interpolated(curve: Curve, size: int) -> float:
    """The rate at a size, straight in its logarithm between two measured ones and level outside of them."""
    return float(np.interp(math.log(max(size, 1)), [math.log(s) for s, _ in curve], [rate for _, rate in curve]))


def measure(threads: int, seconds: float = 0.1, most_bytes: int = MOST_BYTES) -> Limits:
    """Measure with so many threads, each rate for about `seconds`; some five seconds in all as it stands.

    One thread, or as many as steps use, may be measured while steps run; for any other number the count changes.
    """
    before = thread_count()
    if threads in (1, before):
        return Probes(threads, seconds, most_bytes).run()
    set_thread_count(threads)
    try:
        return Probes(threads, seconds, most_bytes).run()
    finally:
        set_thread_count(before)


def working_sets(target: Target, threads: int, most_bytes: int) -> list[int]:
    """Bytes of all threads' arrays: half of the L2 caches, then four times as much until no cache can hold it."""
    size = min(threads * target.l2_bytes // 2, most_bytes)
    found = [size]
    while size < most_bytes and size < 4 * target.l3_bytes:
        size = min(4 * size, most_bytes)
        found.append(size)
    return found


class Probes:
    """The probe loops on so many threads, with memory for working sets of up to so many bytes."""

    def __init__(self, threads: int, seconds: float, most_bytes: int) -> None:
        self.target = host_target()
        self.module = compile_module(probe_module(self.target), self.target)
        self.threads, self.seconds = threads, seconds
        self.sizes = working_sets(self.target, threads, most_bytes)
        self.memory = aligned_empty((self.sizes[-1] // 4 + threads * 64 * granule(self.target),), np.dtype(np.float32))
        self.memory[...] = 1

    def run(self) -> Limits:
        flops = {dtype: self.fma(dtype) for dtype in ("float32", "float64")}
        curves = {name: [(size, self.bandwidth(name, size)) for size in self.sizes] for name in PROBES[2:]}
        return Limits(self.threads, flops, curves)

    def fma(self, dtype: str) -> float:
        """Operations a second."""
        stride = 4096
        self.memory.view(dtype)[: self.threads * stride // 4] = 0.5
        units = 8 * self.threads
        best = self.shortest(f"fma_{dtype}", FMA_ROUNDS, units, stride)
        self.memory[: self.threads * stride] = 1
        return units * FMA_ROUNDS * fma_flops(dtype, self.target) / best

    def bandwidth(self, probe: str, size: int) -> float:
        """Bytes a second with arrays of `size` bytes in all: each thread its share, in `SLICES` slices an array.

        More than there is memory for counts as so much: no cache holds either.
        """
        size = min(size, self.sizes[-1])
        share = size // self.threads // arrays_of(probe) // 4
        slice_ = max(share // SLICES // granule(self.target), 1) * granule(self.target)
        stride = -(-slice_ * SLICES * arrays_of(probe) * 4 // 64) * 64
        rounds = max(1, MIB * 8 // max(size, 1))  # of all slices: small ones take too little time to be timed
        units = SLICES * self.threads * rounds
        best = self.shortest(probe, slice_, units, stride)
        return units * slice_ * 4 * arrays_of(probe) / best

    def shortest(self, probe: str, dim: int, units: int, stride: int) -> float:
        """Seconds of the fastest of some runs."""
        dims = (ctypes.c_int64 * 1)(dim)
        address, start = self.module.address(probe), self.memory.ctypes.data
        if self.threads == 1:
            pointer, number = ctypes.c_void_p, ctypes.c_int64
            launch = ctypes.CFUNCTYPE(None, pointer, pointer, number, number, pointer)(address)
            return shortest(lambda: launch(None, dims, 0, units, start), self.seconds)
        return shortest(
            lambda: pool().parallel_for(address, 0, ctypes.addressof(dims), units, start, stride), self.seconds
        )


def measure_all(seconds: float = 0.1, most_bytes: int = MOST_BYTES) -> Sequence[Limits]:
    """(one core, all that may be used); the same twice where there is one."""
    one = measure(1, seconds, most_bytes)
    return one, (measure(thread_count(), seconds, most_bytes) if thread_count() > 1 else one)


@functools.cache
def quick_limits() -> Sequence[Limits]:
    """(one core, all), measured in about a second, once in a process: near enough to hold a profile against."""
    return measure_all(seconds=0.01, most_bytes=64 * MIB)
