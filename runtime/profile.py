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
from functools import partial
from typing import Any

import numpy as np

from graphflow.compiler.llvm.jit import CompiledModule, compile_module
from graphflow.compiler.llvm.kernel import KernelCode, Launch, Memory, Number
from graphflow.compiler.llvm.launches import emit_launches, entry_of
from graphflow.compiler.llvm.target import host_target
from graphflow.compiler.llvm.waves import PARALLEL_NS
from graphflow.compiler.loops.work import Work, work_of
from graphflow.compiler.plan import Plan, Step
from graphflow.core.dim import evaluate
from graphflow.core.dtype import DType
from graphflow.runtime.executable import Executable
from graphflow.runtime.memory import aligned_empty
from graphflow.runtime.threads import pool

__all__ = ["KernelTime", "LaunchTime", "dtype_of", "time_kernels"]

Array = np.ndarray[Any, Any]
Runner = Callable[[int], object]
BYTES = np.dtype(np.uint8)
LEAST_RUNS = 5
BATCH_SECONDS = 50e-6


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
    seen; short ones run in batches, so that what a call from Python costs is not in it.
    """
    return _Profile(executable, feeds, variables).run(seconds)


class _Profile:
    def __init__(self, executable: Executable, feeds: Sequence[Array], variables: Mapping[str, Array]) -> None:
        self.plan: Plan = executable.plan
        places = zip(self.plan.symbols, executable.symbols, strict=True)
        self.sizes = {key: feeds[feed].shape[axis] for key, (feed, axis) in places}
        self.dims = (ctypes.c_int64 * (len(self.sizes) + 1))(*self.sizes.values())
        self.buffers = [self._buffer(n, feeds, variables) for n in range(len(self.plan.buffers))]
        self.workspaces: list[Array] = []
        module, self.codes = emit_launches([s.kernel for s in self.plan.steps], self.plan.symbols, host_target())
        self.module: CompiledModule = compile_module(module, host_target())
        self.stride = -(-max((c.scratch_bytes for c in self.codes), default=0) // 64) * 64 + 64
        self.scratch = aligned_empty((pool().threads * self.stride,), BYTES)

    def run(self, seconds: float) -> list[KernelTime]:
        runners = [self._runners(step, code) for step, code in zip(self.plan.steps, self.codes, strict=True)]
        for of_kernel in runners:
            for runner in of_kernel:
                runner(1)
        found = []
        for step, code, of_kernel in zip(self.plan.steps, self.codes, runners, strict=True):
            times = tuple(
                LaunchTime(launch.name, self._units(launch), self._threads(launch), per_run(runner, seconds))
                for launch, runner in zip(code.launches, of_kernel, strict=True)
            )
            sources = tuple(dict.fromkeys(str(origin.source) for origin in step.origins))
            work = work_of(step.kernel, self.sizes)
            found.append(KernelTime(step.kernel.name, step.ops, sources, dtype_of(step).name, work, times))
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

    def _runners(self, step: Step, code: KernelCode) -> list[Runner]:
        """For each launch a function that runs it so many times."""
        workspace = aligned_empty((evaluate(code.workspace_bytes, self.sizes) + 64,), BYTES)
        packed = aligned_empty((evaluate(code.packed_bytes, self.sizes) + 64,), BYTES)
        self.workspaces += [workspace, packed]
        pointers = (ctypes.c_void_p * max(len(code.arguments), 1))()
        for n, argument in enumerate(code.arguments):
            if isinstance(argument, Memory):
                pointers[n] = (packed if argument is Memory.PACKED else workspace).ctypes.data
            elif isinstance(argument, Number):
                pointers[n] = argument.value
            else:
                pointers[n] = self.buffers[step.arguments[argument]].ctypes.data + step.offsets[argument]
        return [self._runner(launch, pointers) for launch in code.launches]

    def _runner(self, launch: Launch, pointers: Any) -> Runner:
        pointer, number = ctypes.c_void_p, ctypes.c_int64
        native = ctypes.CFUNCTYPE(None, pointer, pointer, number, pointer, number, number)
        function = native(self.module.address(entry_of(launch, shared=self._threads(launch) > 1)))
        fixed = self.dims, self._units(launch), pointer(self.scratch.ctypes.data), self.stride
        return lambda count: function(pointers, *fixed, count)

    def _units(self, launch: Launch) -> int:
        return evaluate(launch.units, self.sizes)

    def _threads(self, launch: Launch) -> int:
        """How many may work at it in a step."""
        units = self._units(launch)
        return pool().threads if units > 1 and units * launch.unit_ns >= PARALLEL_NS else 1


def dtype_of(step: Step) -> DType:
    """What a kernel computes in: that of its products, else of the widest value that it stores."""
    if step.kernel.contract is not None:
        return step.kernel.contract.dtype
    return max((step.kernel.buffers[s.buffer].dtype for s in step.kernel.stores), key=lambda dtype: dtype.size)


def per_run(runner: Runner, seconds: float) -> float:
    """The shortest time of a run, in batches of at least `BATCH_SECONDS`."""
    once = shortest(partial(runner, 1), 0)
    count = min(max(int(BATCH_SECONDS / once), 1), 1000)
    return shortest(partial(runner, count), seconds) / count


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
