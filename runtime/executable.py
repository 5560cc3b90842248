"""A compiled (fetches, feeds) pair: `build` compiles it, `Executable.run` runs it as one native call.

The machine code knows sizes as run-time values.  For each set of sizes that is fed, `Bound` (bound.py) holds what
depends on them: the arena with every intermediate at its place, and the record that native calls check feeds against.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from graphflow.compiler import interpret as interpreter
from graphflow.compiler.capture import RANDOM_DRAWS, feed_types
from graphflow.compiler.debug import Report
from graphflow.compiler.llvm.jit import compile_module
from graphflow.compiler.llvm.step import StepCode, emit_step
from graphflow.compiler.llvm.target import host_target
from graphflow.compiler.pipeline import Compiled, Stage, compile_graph
from graphflow.core.dim import Dim
from graphflow.core.errors import FailedPreconditionError, InternalError
from graphflow.core.type import NeedsStatic, TensorType
from graphflow.framework.tensor import Operation, Tensor
from graphflow.runtime.bound import Bound
from graphflow.runtime.outs import check_outs
from graphflow.runtime.store import VariableStore
from graphflow.runtime.threads import pool

if TYPE_CHECKING:
    from graphflow.framework.graph import Graph

__all__ = ["Executable", "build"]

Array = np.ndarray[Any, Any]

KEPT_SIZES, KEPT_BYTES = 64, 1 << 27
"""For how many sets of sizes a program keeps memory, and how many bytes; the oldest give way, save for one."""


def build(
    graph: Graph,
    fetches: Sequence[Tensor | Operation],
    feeds: Sequence[Tensor],
    values: Sequence[Array],
    state: VariableStore,
) -> Executable:
    """Compile for feeds like `values`: sizes that the user left open stay open unless the program needs a number."""
    shapes = [v.shape for v in values]
    static: frozenset[str] = frozenset()
    start = time.perf_counter()
    while True:
        types = feed_types(feeds, shapes, static)
        try:
            compiled = compile_graph(fetches, feeds, types, state.is_initialized)
            break
        except NeedsStatic as e:
            if not set(e.symbols) - static:
                raise InternalError(f"internal error: {e}, and it is {sorted(static)}") from e
            static |= set(e.symbols)
    return Executable(graph, tuple(fetches), compiled, start)


class Executable:
    """Machine code for one program, and its memory."""

    def __init__(self, graph: Graph, fetches: tuple[Tensor | Operation, ...], compiled: Compiled, start: float) -> None:
        self.graph, self.compiled, self.plan = graph, compiled, compiled.plan
        self.stages = list(compiled.stages)
        self.fetches = fetches
        self.places = _places(fetches)
        self.interpreted = os.environ.get("GRAPHFLOW_INTERPRET", "") not in ("", "0")
        self.types = self.plan.program.feeds
        self.symbols = [_symbol_places(key, self.types) for key in self.plan.symbols]
        self.bounds: dict[tuple[int, ...], list[Bound]] = {}
        self.last: Bound | None = None  # what ran last: native calls may use it from now on
        self.uses_variables = bool(self.plan.reads or self.plan.writes or compiled.assumed_initialized)
        self.known: dict[tuple[int, ...], bool] = {}
        if not self.interpreted:
            self.code, self.module = self._generate()
        self.compile_seconds = time.perf_counter() - start

    def _generate(self) -> tuple[StepCode, Any]:
        pool()  # so that the symbol gf_parallel_for is known
        report = Report()
        start = time.perf_counter()
        code = emit_step(self.plan.steps, len(self.plan.buffers), self.plan.symbols, host_target())
        self.stages.append(Stage("emit", code, time.perf_counter() - start, True))
        start = time.perf_counter()
        module = compile_module(code.module, host_target())
        self.stages.append(Stage("llvm", module, time.perf_counter() - start, True))
        for stage in self.stages[-2:]:
            report.note(f"{stage.name:<14} {stage.seconds * 1e3:8.2f} ms")
        if report.level >= 4:
            report.text("llvm", module.ir())
        if report.level >= 5:
            report.text("assembly", module.assembly())
        return code, module

    def accepts(self, values: Sequence[Array], state: VariableStore | None = None) -> bool:
        """Whether this program is right for feeds of these shapes."""
        sizes: dict[str, int] = {}
        for type_, value in zip(self.types, values, strict=True):
            if len(type_.dims) != value.ndim:
                return False
            for dim, size in zip(type_.dims, value.shape, strict=True):
                known = dim if isinstance(dim, int) else sizes.setdefault(str(dim), size)
                if known != size:
                    return False
        if not self._knows(sizes):
            return False
        assumed = self.compiled.assumed_initialized
        return state is None or all(state.is_initialized(n) == known for n, known in assumed.items())

    def _knows(self, sizes: dict[str, int]) -> bool:
        """Whether the program is right for these sizes; each set of them is looked at once."""
        key = tuple(sizes.values())
        if key not in self.known:
            self.known[key] = self.compiled.is_right_for(sizes)
        return self.known[key]

    def run(self, values: Sequence[Array], state: VariableStore, outs: Sequence[Any] | None = None) -> list[Any]:
        """The fetches' values, one for each (None for operations); variables are updated all or not at all.

        outs: for each fetch an array to write to, or None.  InvalidArgumentError if one is not fit for that.
        """
        if not self.uses_variables:
            return self._run(values, state, outs)
        with state.lock.using(updates=bool(self.plan.writes)):
            for name in self.plan.reads:
                if name not in state.values:
                    self._start(name, state)
            return self._run(values, state, outs)

    def _run(self, values: Sequence[Array], state: VariableStore, outs: Sequence[Any] | None) -> list[Any]:
        if self.interpreted:
            return self._interpret(values, state, outs)
        bound = self._claimed(values)
        try:
            if outs is not None:
                check_outs(outs, self.fetches, [None if p is None else bound.types[p] for p in self.places], values)
            answer = bound.run(values, outs, state)
        finally:
            bound.release()
        self.last = bound
        return answer

    def _start(self, name: str, state: VariableStore) -> None:
        if name.startswith(RANDOM_DRAWS):
            state.start_stream(name)
            return
        operation = self.graph.get_operation_by_name(name)
        raise FailedPreconditionError(
            f"Attempting to use uninitialized value: variable '{name}' (declared at {operation.source}) has none in "
            "this session; run tf.global_variables_initializer() first, or restore it",
            op=operation,
        )

    def _interpret(self, values: Sequence[Array], state: VariableStore, outs: Sequence[Any] | None) -> list[Any]:
        outputs, updates = interpreter.interpret(self.plan.program, values, state.values)
        results = [None if p is None else np.array(outputs[p])[()] for p in self.places]
        if outs is not None:
            check_outs(outs, self.fetches, [None if r is None else (r.dtype, r.shape) for r in results], values)
            for n, out in enumerate(outs):
                if out is not None:
                    out[...] = results[n]
                    results[n] = out
        for name, value in updates.items():
            state.put(name, value, dict(self.plan.program.updates)[name].type)
        return results

    def _kept_bytes(self) -> int:
        return sum(b.arena.nbytes + b.scratch.nbytes for of_sizes in list(self.bounds.values()) for b in of_sizes)

    def _claimed(self, values: Sequence[Array]) -> Bound:
        """Memory for these sizes that no other call is using, now the caller's."""
        key = tuple(values[f].shape[a] for f, a in self.symbols)
        bounds = self.bounds.get(key)
        if bounds is None:
            while len(self.bounds) >= KEPT_SIZES or (len(self.bounds) > 1 and self._kept_bytes() > KEPT_BYTES):
                self.bounds.pop(next(iter(self.bounds)), None)
            bounds = self.bounds.setdefault(key, [])
        for bound in list(bounds):
            if bound.claim():
                return bound
        bound = Bound(self, key)
        bound.claim()
        bounds.append(bound)
        return bound


def _places(fetches: Sequence[Tensor | Operation]) -> list[int | None]:
    """For each fetch its number among the program's outputs; None for operations."""
    count = iter(range(len(fetches)))
    return [next(count) if isinstance(f, Tensor) else None for f in fetches]


def _symbol_places(key: str, types: Sequence[TensorType]) -> tuple[int, int]:
    """A feed and an axis whose size a symbol is."""
    return next(
        (f, a) for f, t in enumerate(types) for a, d in enumerate(t.dims) if isinstance(d, Dim) and str(d) == key
    )
