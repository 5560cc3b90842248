"""`RunPlan`: everything that is known of a pair (fetches, feeds), made at its first run.

plan = RunPlan(session, fetches, feed_keys)
plan.call(*values)          # what Session.run and make_callable's function call, native where that is possible
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from graphflow.core.fork import MAKING, renew_after_fork
from graphflow.framework.config import RunOptions
from graphflow.framework.graph import Tensor
from graphflow.runtime import recording
from graphflow.runtime.bound import Bound
from graphflow.runtime.deadline import deadline_in
from graphflow.runtime.executable import Executable, build
from graphflow.runtime.feeding import Feed, feed_tensor
from graphflow.runtime.fetching import Fetches
from graphflow.runtime.memory_plan import MemoryPlan, memory_plan
from graphflow.runtime.native_call import Call, Form, is_native
from graphflow.runtime.requirements import Requirements

if TYPE_CHECKING:
    from graphflow.runtime.session import BaseSession

__all__ = ["RunPlan"]


class RunPlan:
    """How to convert feeds, what was compiled, how to put the answer together.

    `call` serves arguments that fit something that has run before in native code; `run` serves all others.
    """

    def __init__(self, session: BaseSession, fetches: Any, feed_keys: Sequence[Any]) -> None:
        graph = session.graph
        self.session = session
        self.fetches = Fetches(graph, fetches)
        tensors = [feed_tensor(graph, key) for key in feed_keys]
        self.feeds = [Feed(t) for t in tensors]
        self.tensors: tuple[Tensor, ...] = tuple(tensors)
        self._requirements: Requirements | None = Requirements(self.fetches.elements, self.tensors)
        self._executables: list[Executable] = []
        self._last: tuple[list[tuple[int, ...]] | None, Executable | None] = (None, None)
        self._serving = threading.Lock()
        self._slow_runs = 0
        self._native = Call(self._form(), self.run) if is_native() else None
        self.call: Callable[..., Any] = self.run if self._native is None else self._native.function
        recording.know(self)
        renew_after_fork(self)

    def after_fork(self) -> None:
        """In a child after a fork: whoever was changing what is served does not exist here."""
        self._serving = threading.Lock()

    def _form(self) -> Form:
        """What native code makes of the results; numbers of fetched elements become those of outputs."""
        outputs = [n for n, e in enumerate(self.fetches.elements) if isinstance(e, Tensor)]
        numbers = {element: output for output, element in enumerate(outputs)}
        places = tuple(numbers.get(place, -1) for place in self.fetches.places)
        return Form(self.fetches.form, places, self.fetches.assemble)

    def run(self, *fed: Any, out: Any = None, options: Any = None, run_metadata: Any = None, **unknown: Any) -> Any:
        """Convert, compile where that was not done, call; raises what TensorFlow would."""
        session, state = self.session, self.session._state
        if session._closed:  # asked after the state is at hand, so that a run which begins here keeps the variables
            raise RuntimeError("Attempted to use a closed Session.")
        if unknown:
            names = ", ".join(unknown)
            raise TypeError(f"this callable takes values for its feed_list, in that order, and out=, but no {names}=")
        if len(fed) != len(self.feeds):
            raise TypeError(
                f"this callable takes {len(self.feeds)} values, one an entry of feed_list, and got {len(fed)}"
            )
        outs = None if out is None else self.fetches.flatten_out(out)
        if not self.fetches.elements:
            return self.fetches.assemble(())
        values = tuple([feed(v) for feed, v in zip(self.feeds, fed, strict=True)])
        if self._requirements is not None:
            self._requirements.check(state)
            self._requirements = None  # what has a value keeps it
        executable = self._for_shapes(values)
        deadline = deadline_in(_timeout(options) or session._timeout)
        if recording.is_wanted(options, run_metadata):
            results, last = recording.run(session, state, executable, values, outs, deadline, options, run_metadata)
        else:
            results, last = executable.run(values, state, outs, deadline), executable.last
        self._serve(last)
        self._slow_runs += 1
        return self.fetches.assemble(results)

    @property
    def runs(self) -> int:
        """A number that changes with every run, whether native code or Python was called."""
        programs = (p for e in list(self._executables) for p in (e, e.twin) if p is not None)
        return self._slow_runs + sum(bound.record.runs for p in programs for bound in p.bounds)

    def _serve(self, bound: Bound | None) -> None:
        """Let native calls use what has just run, before all else; while somebody records, only what is recorded."""
        if self._native is None or bound is None or self.session._timeout:
            return  # native calls have no deadline
        with self._serving:
            served = self._native.served
            is_right = bound.is_recorded == bool(recording.ACTIVE)
            if bound not in served and not self.session._closed and is_right:
                self._native.serve([bound, *served])

    def close(self) -> None:
        """Native calls serve nothing any more: `run` says that the session is closed, or what is to be served now."""
        if self._native is not None:
            with self._serving:
                self._native.serve([])

    def plan(self, values: tuple[Any, ...]) -> MemoryPlan:
        """The bytes of a run with feeds of these shapes, compiled where that was not done; values are not read."""
        if not self.fetches.elements:
            return MemoryPlan()
        executable = self._for_shapes(values)
        return memory_plan(executable, executable.sizes(values))

    def trim(self) -> int:
        """Give back the memory of programs that no call is using; returns how many bytes."""
        self.close()  # the next run serves what it makes
        return sum(executable.trim() for executable in list(self._executables))

    def _for_shapes(self, values: tuple[Any, ...]) -> Executable:
        """An executable that accepts the values; remembered as the last one unless variables' states decide too."""
        shapes = [v.shape for v in values]
        last_shapes, executable = self._last
        if executable is not None and shapes == last_shapes:
            return executable
        executable = self._executable(values)
        if executable is None:
            with MAKING:
                executable = self._executable(values) or self._build(values)
        self._last = (None if executable.assumed_initialized else shapes, executable)
        return executable

    def _executable(self, values: tuple[Any, ...]) -> Executable | None:
        """The last used executable where it accepts the shapes, else another that does, else None."""
        executables, state = self._executables, self.session._state
        for position, executable in enumerate(executables):
            if executable.accepts(values, state):
                if position:  # a new list: other threads may be walking the old one
                    self._executables = [executable, *executables[:position], *executables[position + 1 :]]
                return executable
        return None

    def _build(self, values: tuple[Any, ...]) -> Executable:
        session = self.session
        executable = build(session.graph, self.fetches.elements, self.tensors, values, session._state)
        session.compile_seconds += executable.compile_seconds
        recording.note_compilation(session, executable)
        self._executables = [executable, *self._executables]
        return executable


def _timeout(options: Any) -> int:
    """Milliseconds; 0 if there is none."""
    if options is None:
        return 0
    if not isinstance(options, RunOptions):
        raise TypeError(f"options must be tf.RunOptions, but got {type(options)}")
    return int(options.timeout_in_ms)
