"""How long each kernel of a compiled program takes: `time_kernels`.

    for fetches, executable in sess.compiled():
        for kernel in time_kernels(executable, feeds, variables):
            print(kernel.name, kernel.seconds, kernel.work.flops, kernel.sources)

Kernels run one by one in memory of their own, first all of them in order, so that each finds the values that it would
find, then each again and again: what fits a cache is in the cache.  The session's variables are not touched.
"""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from graphflow.compiler.llvm.jit import CompiledModule, compile_module
from graphflow.compiler.llvm.kernel import KernelCode, Launch
from graphflow.compiler.llvm.launches import NOTHING, emit_launches, entry_of
from graphflow.compiler.llvm.step import PARALLEL_NS
from graphflow.compiler.llvm.target import host_target
from graphflow.compiler.loops.work import Work, work_of
from graphflow.compiler.plan import Plan, Step
from graphflow.core.dim import evaluate
from graphflow.core.dtype import DType
from graphflow.runtime.executable import Executable
from graphflow.runtime.store import aligned_empty
from graphflow.runtime.threads import pool

__all__ = ["KernelTime", "LaunchTime", "time_kernels"]

Array = np.ndarray[Any, Any]
BYTES = np.dtype(np.uint8)
LEAST_RUNS = 5


@dataclass(frozen=True)
class LaunchTime:
    """One launch of a kernel: units of work, threads that may share them, seconds."""

    name: str
    units: int
    threads: int
    seconds: float


@dataclass(frozen=True)
class KernelTime:
    """A kernel, the ops that it computes, the user's lines they stand on, what it has to do, and how long it takes."""

    name: str
    ops: tuple[str, ...]
    sources: tuple[str, ...]
    dtype: str
    work: Work
    launches: tuple[LaunchTime, ...]

    @property
    def seconds(self) -> float:
        """Of all launches."""
        return sum(one.seconds for one in self.launches)

    @property
    def threads(self) -> int:
        """Of the launch that takes longest."""
        return max(self.launches, key=lambda one: one.seconds).threads


def time_kernels(
    executable: Executable, feeds: Sequence[Array], variables: Mapping[str, Array], seconds: float = 0.02
) -> list[KernelTime]:
    """Time the kernels in the order in which a step runs them, each for about `seconds`.

    feeds: values as they are fed, in order; variables: the session's, by name.  The time of a launch is the shortest
    seen, less what calling costs.
    """
    return _Profile(executable, feeds, variables).run(seconds)


class _Profile:
    def __init__(self, executable: Executable, feeds: Sequence[Array], variables: Mapping[str, Array]) -> None:
        self.plan: Plan = executable.plan
        places = zip(self.plan.symbols, executable.symbols, strict=True)
        self.sizes = {key: feeds[feed].shape[axis] for key, (feed, axis) in places}
        self.dims = (ctypes.c_int64 * (len(self.sizes) + 1))(*self.sizes.values())
        self.buffers = [self._buffer(n, feeds, variables) for n in range(len(self.plan.buffers))]
        module, self.codes = emit_launches([s.kernel for s in self.plan.steps], self.plan.symbols, host_target())
        self.module: CompiledModule = compile_module(module, host_target())
        self.stride = -(-max((c.scratch_bytes for c in self.codes), default=0) // 64) * 64 + 64
        self.scratch = aligned_empty((pool().threads * self.stride,), BYTES)
        self.overhead = shortest(self._serial(NOTHING, (ctypes.c_void_p * 1)(), 0), 0.005)

    def run(self, seconds: float) -> list[KernelTime]:
        calls = [self._calls(step, code) for step, code in zip(self.plan.steps, self.codes, strict=True)]
        for of_kernel in calls:
            for _, _, call in of_kernel:
                call()
        found = []
        for step, code, of_kernel in zip(self.plan.steps, self.codes, calls, strict=True):
            times = tuple(
                LaunchTime(
                    launch.name, self._units(launch), threads, max(shortest(call, seconds) - self.overhead, 1e-9)
                )
                for launch, (_, threads, call) in zip(code.launches, of_kernel, strict=True)
            )
            sources = tuple(dict.fromkeys(str(origin.source) for origin in step.origins))
            work = work_of(step.kernel, self.sizes)
            found.append(KernelTime(step.kernel.name, step.ops, sources, _dtype(step).name, work, times))
        return found

    def _buffer(self, number: int, feeds: Sequence[Array], variables: Mapping[str, Array]) -> Array:
        """Memory with what stands in it before a run; what kernels make starts as zeros."""
        spec = self.plan.buffers[number]
        if spec.kind == "feed":
            return np.ascontiguousarray(feeds[spec.key], spec.dtype.numpy)
        if spec.kind == "constant":
            return np.asarray(spec.key.value)
        made = aligned_empty(tuple(evaluate(d, self.sizes) for d in spec.type.dims), spec.dtype.numpy)
        made[...] = variables[spec.key] if spec.kind == "variable" and spec.key in variables else 0
        return made

    def _calls(self, step: Step, code: KernelCode) -> list[tuple[Array, int, Callable[[], Any]]]:
        """For each launch what must stay alive, how many threads it may use, and the call."""
        workspace = aligned_empty((evaluate(code.workspace_bytes, self.sizes) + 64,), BYTES)
        pointers = (ctypes.c_void_p * max(len(code.arguments), 1))()
        for n, argument in enumerate(code.arguments):
            if argument is None:
                pointers[n] = workspace.ctypes.data
            else:
                pointers[n] = self.buffers[step.arguments[argument]].ctypes.data + step.offsets[argument]
        made = []
        for launch in code.launches:
            units = self._units(launch)
            parallel = units > 1 and units * launch.unit_ns >= PARALLEL_NS
            call = (
                self._shared(launch, pointers, units) if parallel else self._serial(entry_of(launch), pointers, units)
            )
            made.append((workspace, pool().threads if parallel else 1, call))
        return made

    def _units(self, launch: Launch) -> int:
        return evaluate(launch.units, self.sizes)

    def _serial(self, name: str, pointers: Any, units: int) -> Callable[[], Any]:
        """On this thread."""
        pointer, number = ctypes.c_void_p, ctypes.c_int64
        function = ctypes.CFUNCTYPE(None, pointer, pointer, number, number, pointer)(self.module.address(name))
        begin, end, dims, scratch = number(0), number(units), self.dims, pointer(self.scratch.ctypes.data)
        return lambda: function(pointers, dims, begin, end, scratch)

    def _shared(self, launch: Launch, pointers: Any, units: int) -> Callable[[], Any]:
        """By the pool, as a step does it."""
        address, scratch, workers = self.module.address(entry_of(launch)), self.scratch.ctypes.data, pool()
        arguments, dims = ctypes.addressof(pointers), ctypes.addressof(self.dims)

        def call() -> object:
            workers.parallel_for(address, arguments, dims, units, scratch, self.stride)
            return pointers

        return call


def _dtype(step: Step) -> DType:
    """What a kernel computes in: that of its products, else of the widest value that it stores."""
    if step.kernel.contract is not None:
        return step.kernel.contract.dtype
    return max((step.kernel.buffers[s.buffer].dtype for s in step.kernel.stores), key=lambda dtype: dtype.size)


def shortest(call: Callable[[], Any], seconds: float) -> float:
    """The shortest time of a call, over about `seconds` and at least `LEAST_RUNS` calls."""
    best, runs = float("inf"), 0
    end = time.perf_counter() + seconds
    while runs < LEAST_RUNS or time.perf_counter() < end:
        start = time.perf_counter()
        call()
        best = min(best, time.perf_counter() - start)
        runs += 1
    return best
