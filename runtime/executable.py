"""A compiled (fetches, feeds) pair: `build` compiles it, `Executable.run` runs it as one native call.

The machine code knows sizes as run-time values.  For each set of sizes that is fed, `Bound` (bound.py) holds what
depends on them: the arena with every intermediate at its place, and the record that native calls check feeds against.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from graphflow.compiler import interpret as interpreter
from graphflow.compiler.capture import RANDOM_DRAWS, feed_types
from graphflow.compiler.collector import paused_collector
from graphflow.compiler.debug import Report, is_checked
from graphflow.compiler.layout import layout_of
from graphflow.compiler.llvm.load import load_objects
from graphflow.compiler.llvm.target import host_target
from graphflow.core.dim import Dim, estimate
from graphflow.core.errors import FailedPreconditionError, InternalError
from graphflow.core.type import NeedsStatic, TensorType
from graphflow.framework.tensor import Operation, Tensor
from graphflow.runtime import perf_map
from graphflow.runtime.bound import Bound, Placement
from graphflow.runtime.bounds import Bounds
from graphflow.runtime.call_record import Table
from graphflow.runtime.deadline import NEVER
from graphflow.runtime.kept import Kept
from graphflow.runtime.memory_plan import check_room, placed
from graphflow.runtime.order import Order, Stored, is_interpreted
from graphflow.runtime.outs import check_outs
from graphflow.runtime.store import VariableStore
from graphflow.runtime.threads import pool

if TYPE_CHECKING:
    from graphflow.compiler.llvm.step import StepCode
    from graphflow.compiler.pipeline import Compiled, Stage
    from graphflow.compiler.plan import Plan
    from graphflow.framework.graph import Graph
    from graphflow.runtime.timed import TimedExecutable

__all__ = ["Executable", "build"]

Array = np.ndarray[Any, Any]

FAR = 1_000
"""A program serves sizes up to so many times those it was made for.  These decided how work is cut: a row that is one
unit of work there may be far more than one thread should have, and than Ctrl-C should wait for."""


@paused_collector()
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
    if not isinstance(made, Stored) and not executable.interpreted:
        order.store(executable)
    return executable


class Executable:
    """Machine code for one program, and its memory.

    A run needs `layout` and `module` only.  What a stored program's plan was is found out again if somebody asks.
    """

    timed = False  # whether a step writes down when its launches run: `TimedExecutable` (timed.py)
    bound_type: type[Bound] = Bound

    def __init__(
        self, graph: Graph, fetches: tuple[Tensor | Operation, ...], made: Compiled | Stored, start: float
    ) -> None:
        self.graph, self._made, self.start = graph, made, start
        self.fetches, self.places = fetches, _places(fetches)
        self.interpreted = is_interpreted()
        self.generated: tuple[Stage, ...] = ()
        pool()  # so that the symbol gf_parallel_for is known
        self.module: Any = None
        if isinstance(made, Stored):
            seen = perf_map.anchors(made.objects) if perf_map.is_wanted() else ()
            self.layout, self.module = made.layout, load_objects(made.objects, {*made.layout.functions, *seen})
        elif self.interpreted:
            self.layout = layout_of(made.plan, None)
        else:
            self.layout = layout_of(made.plan, self._generate(made.plan))
        self.kept = Kept(self.layout, self.module)
        self.assumed_initialized = made.assumed_initialized
        self.types = self.layout.feeds
        self.symbols = [_symbol_places(key, self.types) for key in self.layout.symbols]
        self.made_for = {str(d): estimate(d) for t in self.types for d in t.dims if isinstance(d, Dim)}
        self.bounds = Bounds()
        self.twin: TimedExecutable | None = None  # the same, timed, if somebody records
        self.last: Bound | None = None  # what ran last: native calls may use it from now on
        self.uses_variables = bool(self.layout.reads or self.layout.writes or self.assumed_initialized)
        self.known: dict[tuple[int, ...], bool] = {}
        self.compile_seconds = time.perf_counter() - start
        if perf_map.is_wanted() and self.module is not None:
            perf_map.write(self, self.module.address, (made if isinstance(made, Stored) else self.module).objects)

    @functools.cached_property
    def compiled(self) -> Compiled:
        """The plan and what every pass made of the program."""
        return self._made.compile() if isinstance(self._made, Stored) else self._made

    @property
    def is_stored(self) -> bool:
        """Whether it was compiled before and came from the cache."""
        return isinstance(self._made, Stored)

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
        return self._emit(self.plan)

    def _emit(self, plan: Plan) -> StepCode:
        from graphflow.compiler.llvm.step import emit_step

        checked = plan if is_checked() and not self.timed else None
        buffers = len(plan.buffers)
        variables = [] if checked else [n for n, spec in enumerate(plan.buffers) if spec.kind == "variable"]
        own = plan.steps, buffers, plan.symbols, host_target()
        return emit_step(*own, checked=checked, timed=self.timed, variables=variables)

    def _generate(self, plan: Plan) -> StepCode:
        from graphflow.compiler.llvm.jit import compile_module
        from graphflow.compiler.pipeline import Stage

        report = Report()
        start = time.perf_counter()
        code = self._emit(plan)
        emitted = Stage("emit", code, time.perf_counter() - start, True, start)
        start = time.perf_counter()
        self.module = compile_module(code.module, host_target())
        self.generated = (emitted, Stage("llvm", self.module, time.perf_counter() - start, True, start))
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
        assumed = self.assumed_initialized
        return state is None or all(state.is_initialized(n) == known for n, known in assumed.items())

    def _knows(self, sizes: dict[str, int]) -> bool:
        """Whether the program is right for these sizes, and was not made for far smaller ones; each set of them is
        looked at once."""
        key = tuple(sizes.values())
        if key not in self.known:
            near = all(sizes[name] <= FAR * least for name, least in self.made_for.items())
            self.known[key] = near and self._made.is_right_for(sizes)
        return self.known[key]

    def run(
        self,
        values: Sequence[Array],
        state: VariableStore,
        outs: Sequence[Any] | None = None,
        deadline: int = NEVER,
    ) -> list[Any]:
        """The fetches' values, one for each (None for operations); variables are updated all or not at all.

        outs: for each fetch an array to write to, or None.  InvalidArgumentError if one is not fit for that,
        DeadlineExceededError if it takes too long.  A run that was stopped for a signal whose handler does not raise
        starts over.
        """
        answer = None
        while answer is None:
            hold = state.lock.hold(updates=bool(self.layout.writes))
            try:
                answer = self._run(values, state, outs, hold, deadline)
            finally:
                state.lock.leave(hold)
        return answer

    def _run(
        self, values: Sequence[Array], state: VariableStore, outs: Sequence[Any] | None, hold: Table, deadline: int
    ) -> list[Any] | None:
        """The same, once, None if it was stopped; what it takes is in the hold, and for the caller to give up."""
        if self.uses_variables:
            state.lock.check()
            for name in self.layout.reads:
                if name not in state.values:
                    self._start(name, state)
        if self.interpreted:
            state.lock.wait(hold, deadline)
            self._placed(values, state, outs)
            return self._interpret(values, state, outs)
        bound = self._claimed(values, state, outs, hold)
        if outs is not None:
            check_outs(outs, self.fetches, [None if p is None else bound.types[p] for p in self.places], values)
        answer = bound.run(values, outs, state, hold, deadline)
        if answer is not None:
            self.last = bound if self.layout.checked is None else None  # calls pass by Python, for its error
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
        state.put(updates)
        return results

    def sizes(self, values: Sequence[Array]) -> dict[str, int]:
        """The sizes of its symbols in feeds of these shapes."""
        return {key: values[f].shape[a] for key, (f, a) in zip(self.layout.symbols, self.symbols, strict=True)}

    def trim(self) -> int:
        """Give memory back that no call is using; returns how many bytes.  The next run makes what it needs anew."""
        self.last = None
        return self.bounds.trim()

    def _placed(self, values: Sequence[Array], state: VariableStore, outs: Sequence[Any] | None) -> Placement:
        """Where everything will lie.  ResourceExhaustedError, and nothing has changed, if there is no room for it."""
        sizes = self.sizes(values)
        placement = placed(self.layout, sizes)
        check_room(self, sizes, placement, state, outs)
        return placement

    def _claimed(self, values: Sequence[Array], state: VariableStore, outs: Sequence[Any] | None, hold: Table) -> Bound:
        """Memory for these sizes that no other call is using, now the hold's."""
        key = tuple(values[f].shape[a] for f, a in self.symbols)
        bound = self.bounds.claimed(key, hold)
        if bound is None:
            bound = self.bound_type(self, key, self._placed(values, state, outs))
            bound.claim(hold)
            self.bounds.add(key, bound)
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
