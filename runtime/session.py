"""`Session`: runs parts of a graph, and keeps the variables between runs.

    with tf.Session() as sess:
        sess.run(tf.global_variables_initializer())
        _, value = sess.run([train_op, loss], feed_dict={x: images})

The first run of some fetches with some feeds compiles them; later runs only check the feeds and call what was compiled.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Hashable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from typing import TYPE_CHECKING, Any, Self

from graphflow.framework.config import ConfigProto
from graphflow.framework.default import default_session_is, get_default_graph, pop_session, push_session
from graphflow.framework.graph import Graph, Operation, Tensor
from graphflow.runtime.feeding import Feed
from graphflow.runtime.fetching import structure_key
from graphflow.runtime.growth import GrowthWatch
from graphflow.runtime.memory import return_to_system
from graphflow.runtime.store import VariableStore
from graphflow.runtime.threads import set_thread_count

if TYPE_CHECKING:
    from types import TracebackType

    from graphflow.runtime.executable import Executable
    from graphflow.runtime.memory_plan import MemoryPlan
    from graphflow.runtime.run_plan import RunPlan

__all__ = ["InteractiveSession", "Session"]


_NUMBERS = itertools.count(1)


class BaseSession:
    """What Session and InteractiveSession share."""

    def __init__(self, target: str = "", graph: Graph | None = None, config: ConfigProto | None = None) -> None:
        if graph is not None and not isinstance(graph, Graph):
            raise TypeError(f"graph must be a tf.Graph, but got {type(graph)}")
        if config is not None and not isinstance(config, ConfigProto):
            raise TypeError(f"config must be a tf.ConfigProto, but got {type(config)}")
        if target:
            raise NotImplementedError(f"a session runs in this process; there is no target {target!r}")
        self.graph = get_default_graph() if graph is None else graph
        self.compile_seconds = 0.0
        self._number = next(_NUMBERS)
        self._state = VariableStore()
        self._plans: dict[Hashable, RunPlan] = {}
        self._closed = False
        self._timeout = 0 if config is None else config.operation_timeout_in_ms
        self._growth = GrowthWatch(self.graph, self._runs)
        _use_threads(config)

    @property
    def sess_str(self) -> str:
        return ""

    def run(
        self, fetches: Any, feed_dict: Mapping[Any, Any] | None = None, options: Any = None, run_metadata: Any = None
    ) -> Any:
        """The values of fetches: tensors, operations (None), variables and names, in lists, tuples and dicts at will.

        feed_dict: values for placeholders, or in place of any other tensor, by tensor or by name.  Raises
        InvalidArgumentError for a feed that is missing or does not fit, FailedPreconditionError for a variable without
        a value, NotFoundError for an unknown name, GraphError for a tensor of another graph, DeadlineExceededError for
        what takes longer than `options` or the session's config allow.  Any number of threads may call it.
        """
        keys = tuple(feed_dict) if feed_dict else ()
        try:
            plan = self._plans[structure_key(fetches), keys]
        except (KeyError, TypeError):  # a first run, or something that can't be hashed, so that it is no tensor
            plan = self._plan(fetches, keys)
        if options is not None or run_metadata is not None:
            return plan.run(*(feed_dict or {}).values(), options=options, run_metadata=run_metadata)
        return plan.call(*feed_dict.values()) if feed_dict else plan.call()

    def make_callable(
        self, fetches: Any, feed_list: Sequence[Any] | None = None, accept_options: bool = False
    ) -> Callable[..., Any]:
        """A function of the values of feed_list, in that order, that does what `run` does with nothing to look up.

        It checks its arguments and runs in native code; what does not fit as it is goes the way of `run`.  With `out=`
        it writes the results into arrays of the caller's: one for a single fetch, else a list or tuple with an array or
        None for each fetch.  They must be of the very dtype and shape, C-contiguous, writeable, and share no memory
        with feeds or with each other; InvalidArgumentError says what is not so.
        """
        return self._plan(fetches, tuple(feed_list or ())).call

    def plan(self, fetches: Any, feed_dict: Mapping[Any, Any] | None = None) -> MemoryPlan:
        """The bytes that `run` would need: print it, or read its fields.  Compiles what is not compiled, runs nothing.

        feed_dict: values as for `run`, or shapes, which are tuples of sizes: `{x: (64, 784)}`.  Placeholders of known
        shape may be left out.  Raises InvalidArgumentError that names the sizes which nobody gives.
        """
        if self._closed:
            raise RuntimeError("Attempted to use a closed Session.")
        from graphflow.runtime.fetching import Fetches
        from graphflow.runtime.planned_feeds import shapes_for

        keys, stand_ins = shapes_for(self.graph, Fetches(self.graph, fetches).elements, feed_dict)
        return self._plan(fetches, tuple(keys)).plan(tuple(stand_ins))

    def trim(self) -> int:
        """Give back memory that is kept for the next run, and that of freed results; returns how many bytes.

        The next run of each program makes anew what it needs.  What a run is using in this moment stays.
        """
        freed = self._release()
        return_to_system()
        return freed

    def _release(self) -> int:
        if not self._plans:
            return 0
        from graphflow.runtime.native_call import trim_outputs

        return sum(plan.trim() for plan in list(self._plans.values())) + self._state.trim() + trim_outputs()

    def load_variable(self, ref: Tensor, value: Any) -> None:
        """Set a variable, given by its own tensor `w:0`, without declaring or compiling anything."""
        if self._closed:
            raise RuntimeError("Attempted to use a closed Session.")
        self._state.load(ref.op.name, Feed(ref)(value), ref.type_)

    def _plan(self, fetches: Any, feed_keys: tuple[Any, ...]) -> RunPlan:
        """What is known of a run; made where it is the first."""
        if self._closed:
            raise RuntimeError("Attempted to use a closed Session.")
        from graphflow.runtime.run_plan import RunPlan

        key = (structure_key(fetches), feed_keys)
        try:
            found = self._plans.get(key)
        except TypeError:  # not hashable, so nothing that can be fetched or fed: say which
            return RunPlan(self, fetches, feed_keys)
        if found is None:
            found = self._plans.setdefault(key, RunPlan(self, fetches, feed_keys))
            self._growth.begin()
        return found

    def _runs(self) -> int:
        """A number that changes with every run that went well."""
        return sum(plan.runs for plan in list(self._plans.values()))

    def compiled(self) -> list[tuple[tuple[Tensor | Operation, ...], Executable]]:
        """What was compiled so far, for drawing and inspection: the fetches of a run and the program for its feeds."""
        if self._closed:
            raise RuntimeError("Attempted to use a closed Session.")
        return [(plan.fetches.elements, one) for plan in list(self._plans.values()) for one in plan._executables]

    def as_default(self) -> AbstractContextManager[Any]:
        """Make this the session of `Tensor.eval` and `Operation.run` within a `with` block, and leave it open."""
        return default_session_is(self)

    def close(self) -> None:
        """Let go of variables and compiled programs; the session can't be used any more.  Runs that other threads have
        begun end as they would have."""
        self._closed = True
        self._growth.end()
        self._release()
        self._plans.clear()
        self._state = VariableStore()


def _use_threads(config: ConfigProto | None) -> None:
    if config is None or config.intra_op_parallelism_threads <= 0:
        return
    set_thread_count(config.intra_op_parallelism_threads)


class Session(BaseSession):
    """Runs a graph, the default one where none is given.

    In a `with` block session and graph are the defaults; the session is closed at its end.
    """

    def __enter__(self) -> Self:
        self._stack = ExitStack()
        self._stack.enter_context(self.graph.as_default())
        self._stack.enter_context(self.as_default())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exception: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, exception, traceback)
        self.close()


class InteractiveSession(BaseSession):
    """A session that is the default one from its construction until `close`; for notebooks."""

    def __init__(self, target: str = "", graph: Graph | None = None, config: ConfigProto | None = None) -> None:
        super().__init__(target, graph, config)
        self._explicit = graph is not None
        push_session(self, self.graph if self._explicit else None)

    def close(self) -> None:
        super().close()
        pop_session(self, self.graph if self._explicit else None)
