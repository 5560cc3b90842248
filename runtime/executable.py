"""A compiled (fetches, feeds) pair: `build` compiles it, `Executable.run` runs it as one native call.

The machine code knows sizes as run-time values.  For each set of sizes that is fed, `_Bound` holds what depends on
them: the arena with every intermediate at its place, and a native caller that checks the feeds and jumps into the step.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from graphflow.compiler import interpret as interpreter
from graphflow.compiler.arena import Lifetime, place
from graphflow.compiler.capture import RANDOM_DRAWS, feed_types
from graphflow.compiler.debug import Report
from graphflow.compiler.layout import Layout, layout_of
from graphflow.compiler.llvm.jit import compile_module, load_object
from graphflow.compiler.llvm.step import StepCode, emit_step
from graphflow.compiler.llvm.target import host_target
from graphflow.compiler.pipeline import Compiled, Stage
from graphflow.compiler.plan import Plan
from graphflow.core.dim import Dim, Size, evaluate
from graphflow.core.errors import FailedPreconditionError, InternalError, ResourceExhaustedError
from graphflow.core.type import NeedsStatic, TensorType
from graphflow.framework.tensor import Operation, Tensor
from graphflow.runtime import native_call as native
from graphflow.runtime.memory import aligned_empty
from graphflow.runtime.order import Order, Stored, is_interpreted
from graphflow.runtime.store import VariableStore
from graphflow.runtime.threads import pool

if TYPE_CHECKING:
    from graphflow.framework.graph import Graph

__all__ = ["Executable", "build", "lifetimes"]

Array = np.ndarray[Any, Any]

NOTHING_NEW: dict[str, Array] = {}
KEPT_SIZES = 8
"""For how many sets of sizes a program keeps its memory; the oldest gives way."""


def build(
    graph: Graph,
    fetches: Sequence[Tensor | Operation],
    feeds: Sequence[Tensor],
    values: Sequence[Array],
    state: VariableStore,
) -> Executable:
    """Compile for feeds like `values`, or take from the cache what was compiled for such.

    Sizes that the user left open stay open unless the program needs a number.
    """
    shapes = [v.shape for v in values]
    static: frozenset[str] = frozenset()
    start = time.perf_counter()
    while True:
        order = Order(fetches, feeds, feed_types(feeds, shapes, static), state.is_initialized)
        try:
            made = order.stored() or order.compile()
            break
        except NeedsStatic as e:
            if not set(e.symbols) - static:
                raise InternalError(f"internal error: {e}, and it is {sorted(static)}") from e
            static |= set(e.symbols)
    executable = Executable(graph, tuple(fetches), made, start)
    if isinstance(made, Compiled) and not executable.interpreted:
        order.store(executable)
    return executable


class Executable:
    """Machine code for one program, and its memory.

    A run needs `layout` and `module` only.  What a stored program's plan was is found out again if somebody asks.
    """

    def __init__(
        self, graph: Graph, fetches: tuple[Tensor | Operation, ...], made: Compiled | Stored, start: float
    ) -> None:
        self.graph, self._made = graph, made
        self.places = _places(fetches)
        self.interpreted = is_interpreted()
        self.generated: tuple[Stage, ...] = ()
        pool()  # so that the symbol gf_parallel_for is known
        self.module: Any = None
        if isinstance(made, Stored):
            self.layout, self.module = made.layout, load_object(made.object_code, ("step",))
        elif self.interpreted:
            self.layout = layout_of(made.plan, None)
        else:
            self.layout = layout_of(made.plan, self._generate(made.plan))
        self.assumed_initialized = made.assumed_initialized
        self.types = self.layout.feeds
        self.symbols = [_symbol_places(key, self.types) for key in self.layout.symbols]
        self.free: dict[tuple[int, ...], list[_Bound]] = {}
        self.touches = bool(self.layout.reads or self.layout.writes)
        self.known: dict[tuple[int, ...], bool] = {}
        self.compile_seconds = time.perf_counter() - start

    @functools.cached_property
    def compiled(self) -> Compiled:
        """The plan and what every pass made of the program."""
        return self._made.compile() if isinstance(self._made, Stored) else self._made

    @property
    def plan(self) -> Plan:
        """Kernels, their order, buffers."""
        return self.compiled.plan

    @property
    def stages(self) -> tuple[Stage, ...]:
        """What every pass made, and how long it took; machine code that was stored has none for its generation."""
        return self.compiled.stages + self.generated

    @functools.cached_property
    def code(self) -> StepCode:
        """What the step was written as."""
        return emit_step(self.plan.steps, len(self.plan.buffers), self.plan.symbols, host_target())

    def _generate(self, plan: Plan) -> StepCode:
        report = Report()
        start = time.perf_counter()
        code = emit_step(plan.steps, len(plan.buffers), plan.symbols, host_target())
        emitted = Stage("emit", code, time.perf_counter() - start, True)
        start = time.perf_counter()
        self.module = compile_module(code.module, host_target())
        self.generated = (emitted, Stage("llvm", self.module, time.perf_counter() - start, True))
        self.code = code
        for stage in self.generated:
            report.note(f"{stage.name:<14} {stage.seconds * 1e3:8.2f} ms")
        if report.level >= 4:
            report.text("llvm", self.module.ir())
        if report.level >= 5:
            report.text("assembly", self.module.assembly())
        return code

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
        assumed = self.assumed_initialized.items()
        return state is None or all(state.is_initialized(n) == known for n, known in assumed)

    def _knows(self, sizes: dict[str, int]) -> bool:
        """Whether the program is right for these sizes; each set of them is looked at once."""
        key = tuple(sizes.values())
        if key not in self.known:
            self.known[key] = self._made.is_right_for(sizes)
        return self.known[key]

    def run(self, values: Sequence[Array], state: VariableStore) -> list[Any]:
        """The fetches' values, one for each (None for operations); variables are updated all or not at all."""
        if not self.touches:
            outputs = self._outputs(values, state)
        else:
            with state.lock:
                for name in self.layout.reads:
                    if name not in state.values:
                        self._start(name, state)
                outputs = self._outputs(values, state)
        return [None if p is None else outputs[p] for p in self.places]

    def _outputs(self, values: Sequence[Array], state: VariableStore) -> list[Array]:
        return self._interpret(values, state) if self.interpreted else self._call(values, state)

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

    def _interpret(self, values: Sequence[Array], state: VariableStore) -> list[Any]:
        outputs, updates = interpreter.interpret(self.plan.program, values, state.values)
        for name, value in updates.items():
            state.load(name, value, dict(self.plan.program.updates)[name].type)
        return [np.array(v) for v in outputs]

    def _call(self, values: Sequence[Array], state: VariableStore) -> list[Array]:
        key = tuple(values[f].shape[a] for f, a in self.symbols)
        idle = self.free.get(key)
        if idle is None:
            while len(self.free) >= KEPT_SIZES:
                self.free.pop(next(iter(self.free)), None)
            idle = self.free.setdefault(key, [])
        bound = idle.pop() if idle else _Bound(self, key)
        try:
            return bound.run(values, state)
        finally:
            idle.append(bound)


def lifetimes(layout: Layout, number: Callable[[Size], int]) -> dict[int, Lifetime]:
    """For each entry of a step's table that lies in the arena its bytes and its first and last wave."""
    found = {
        n: (number(s.type.size) * s.dtype.size, s.first, s.last)
        for n, s in enumerate(layout.buffers)
        if s.kind == "arena"
    }
    for n, (size, first, last) in enumerate(layout.workspaces, len(layout.buffers)):
        found[n] = number(size), first, last
    return found


def _places(fetches: Sequence[Tensor | Operation]) -> list[int | None]:
    """For each fetch its number among the program's outputs; None for operations."""
    count = iter(range(len(fetches)))
    return [next(count) if isinstance(f, Tensor) else None for f in fetches]


def _symbol_places(key: str, types: Sequence[TensorType]) -> tuple[int, int]:
    """A feed and an axis whose size a symbol is."""
    return next(
        (f, a) for f, t in enumerate(types) for a, d in enumerate(t.dims) if isinstance(d, Dim) and str(d) == key
    )


class _Bound:
    """A program for one set of sizes: arena, tables, and the native caller."""

    def __init__(self, executable: Executable, key: tuple[int, ...]) -> None:
        self.layout, self.module = executable.layout, executable.module
        self.sizes = dict(zip(self.layout.symbols, key, strict=True))
        self.key = key
        self.table = [0] * (len(self.layout.buffers) + len(self.layout.workspaces))
        self.keep: list[Array] = []
        self.outputs = [s for s in self.layout.buffers if s.kind == "output"]
        self.outputs.sort(key=lambda s: s.key)
        self.output_types = [(self._shape(s.type), s.dtype.numpy) for s in self.outputs]
        self.variables = [(n, s) for n, s in enumerate(self.layout.buffers) if s.kind == "variable"]
        self.state: VariableStore | None = None  # whose memory, and in which version, the caller was made for
        self.version = -1
        self._lay_out()

    def _shape(self, type_: TensorType) -> tuple[int, ...]:
        return tuple(evaluate(d, self.sizes) for d in type_.dims)

    def _lay_out(self) -> None:
        """Put every intermediate and workspace into one arena, and scratch beside it."""
        wanted = lifetimes(self.layout, lambda size: evaluate(size, self.sizes))
        offsets, total = place(list(wanted.values()))
        self.arena = self._memory(total)
        for n, offset in zip(wanted, offsets, strict=True):
            self.table[n] = self.arena.ctypes.data + offset
        for n, spec in enumerate(self.layout.buffers):
            if spec.kind == "constant":
                self.table[n] = spec.key.value.ctypes.data
        self.pool = pool()
        self._make_scratch()

    def _make_scratch(self) -> None:
        """Scratch for as many threads as a step may use now."""
        self.threads = self.pool.threads
        self.scratch = self._memory(self.threads * self.layout.scratch_bytes)

    def _memory(self, size: int) -> Array:
        try:
            return aligned_empty((size + 64,), np.dtype(np.uint8))
        except MemoryError as e:
            raise ResourceExhaustedError(f"a run needs {size:,} bytes for its intermediate values") from e

    def run(self, values: Sequence[Array], state: VariableStore) -> list[Array]:
        """One native call."""
        fresh = self._bind(state)
        if self.threads != self.pool.threads:
            self._make_scratch()
        outputs = [state.outputs.empty(shape, dtype) for shape, dtype in self.output_types]
        status = self.caller(*values, *outputs, self.scratch)
        if status < 0:
            raise InternalError(f"internal error: the step refuses its arguments: {native.explain(status)}")
        if fresh:
            state.commit(fresh)
            self.version = state.version
        return outputs

    def _bind(self, state: VariableStore) -> dict[str, Array]:
        """The caller for the memory that the variables have now; new values get memory of their own."""
        if self.state is state and self.version == state.version:
            return NOTHING_NEW
        fresh: dict[str, Array] = {}
        for n, spec in self.variables:
            array = state.begin(spec.key, TensorType(spec.dtype, self._shape(spec.type)))
            if spec.key in fresh:
                array = fresh[spec.key]
            elif spec.key in self.layout.writes:
                fresh[spec.key] = array
            self.table[n] = array.ctypes.data
        self.keep = list(fresh.values()) + [state.values[s.key] for _, s in self.variables if s.key in state.values]
        self._make_caller()
        self.state, self.version = state, state.version
        return fresh

    def _make_caller(self) -> None:
        arguments = []
        for feed, type_ in enumerate(self.layout.feeds):
            slot = next((n for n, s in enumerate(self.layout.buffers) if s.kind == "feed" and s.key == feed), None)
            shape = self._shape(type_)
            arguments.append(native.Argument(type_.dtype.name, shape, self._slot(slot)))
        for spec in self.outputs:
            slot = self.layout.buffers.index(spec)
            arguments.append(native.Argument(spec.dtype.name, self._shape(spec.type), slot, written=True))
        arguments.append(native.Argument("uint8", (native.FREE,), native.SCRATCH, written=True))
        dims = [self.sizes[key] for key in self.layout.symbols]
        owner = (self.module, self.arena, self.keep, self.layout)
        self.caller = native.make_step_caller(
            self.module.address("step"), arguments, buffers=[*self.table, 0], dims=dims, owner=owner
        )

    def _slot(self, slot: int | None) -> int:
        """A feed that no kernel reads goes to a slot that nobody looks at."""
        return len(self.table) if slot is None else slot
