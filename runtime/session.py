"""`Session`: runs parts of a graph, and keeps the variables between runs.

    with tf.Session() as sess:
        sess.run(tf.global_variables_initializer())
        _, value = sess.run([train_op, loss], feed_dict={x: images})

The first run of some fetches with some feeds compiles them; later runs only check the feeds and call what was compiled.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from typing import TYPE_CHECKING, Any, Self

from graphflow.framework.config import ConfigProto
from graphflow.framework.default import default_session_is, get_default_graph, pop_session, push_session
from graphflow.framework.graph import Graph, Operation, Tensor
from graphflow.runtime.executable import build
from graphflow.runtime.feeding import Feed, feed_tensor
from graphflow.runtime.fetching import Fetches, structure_key
from graphflow.runtime.requirements import Requirements
from graphflow.runtime.store import VariableStore
from graphflow.runtime.threads import set_thread_count

if TYPE_CHECKING:
    from types import TracebackType

    from graphflow.runtime.executable import Executable

__all__ = ["InteractiveSession", "Session"]


class _Plan:
    """What is known of a pair (fetches, feeds): how to convert, what was compiled, how to put the answer together."""

    def __init__(self, session: BaseSession, fetches: Any, feed_keys: Sequence[Any]) -> None:
        graph = session.graph
        self.session = session
        self.fetches = Fetches(graph, fetches)
        tensors = [feed_tensor(graph, key) for key in feed_keys]
        self.feeds = [Feed(t) for t in tensors]
        self.tensors: tuple[Tensor, ...] = tuple(tensors)
        self._requirements: Requirements | None = Requirements(self.fetches.elements, self.tensors)
        self._executables: list[Any] = []
        self._last: tuple[list[tuple[int, ...]] | None, Any] = (None, None)

    def run(self, fed: Sequence[Any]) -> Any:
        """Convert, compile where that was not done, call; raises what TensorFlow would."""
        if not self.fetches.elements:
            return self.fetches.assemble(())
        session = self.session
        values = tuple([feed(v) for feed, v in zip(self.feeds, fed, strict=True)])
        if self._requirements is not None:
            self._requirements.check(session._state)
            self._requirements = None  # what has a value keeps it
        shapes = [v.shape for v in values]
        last_shapes, executable = self._last
        if shapes != last_shapes:
            executable = self._for_shapes(values, shapes)
        results = executable.run(values, session._state)
        return self.fetches.assemble([v if v is None or v.ndim else v[()] for v in results])

    def _for_shapes(self, values: tuple[Any, ...], shapes: list[tuple[int, ...]]) -> Any:
        """An executable that accepts the values; remembered as the last one unless variables' states decide too."""
        executable = self._executable(values)
        if executable is None:
            with self.session._lock:
                executable = self._executable(values) or self._build(values)
        self._last = (None if executable.assumed_initialized else shapes, executable)
        return executable

    def _executable(self, values: tuple[Any, ...]) -> Any:
        """The last used executable where it accepts the shapes, else another that does, else None."""
        executables, state = self._executables, self.session._state
        for position, executable in enumerate(executables):
            if executable.accepts(values, state):
                if position:  # a new list: other threads may be walking the old one
                    self._executables = [executable, *executables[:position], *executables[position + 1 :]]
                return executable
        return None

    def _build(self, values: tuple[Any, ...]) -> Any:
        session = self.session
        executable = build(session.graph, self.fetches.elements, self.tensors, values, session._state)
        session.compile_seconds += executable.compile_seconds
        self._executables = [executable, *self._executables]
        return executable


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
        self._state = VariableStore()
        self._plans: dict[Hashable, _Plan] = {}
        self._lock = threading.Lock()
        self._closed = False
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
        a value, NotFoundError for an unknown name, GraphError for a tensor of another graph.
        """
        if feed_dict:
            return self._plan(fetches, tuple(feed_dict)).run(tuple(feed_dict.values()))
        return self._plan(fetches, ()).run(())

    def make_callable(
        self, fetches: Any, feed_list: Sequence[Any] | None = None, accept_options: bool = False
    ) -> Callable[..., Any]:
        """A function of the values of feed_list, in that order, that does what `run` does with less to look up."""
        plan = self._plan(fetches, tuple(feed_list or ()))
        count = len(plan.feeds)

        def call(*values: Any, options: Any = None, run_metadata: Any = None) -> Any:
            if self._closed:
                raise RuntimeError("Attempted to use a closed Session.")
            if len(values) != count:
                raise TypeError(f"this callable takes {count} values, one an entry of feed_list, and got {len(values)}")
            return plan.run(values)

        return call

    def load_variable(self, ref: Tensor, value: Any) -> None:
        """Set a variable, given by its own tensor `w:0`, without declaring or compiling anything."""
        if self._closed:
            raise RuntimeError("Attempted to use a closed Session.")
        self._state.load(ref.op.name, Feed(ref)(value), ref.type_)

    def _plan(self, fetches: Any, feed_keys: tuple[Any, ...]) -> _Plan:
        if self._closed:
            raise RuntimeError("Attempted to use a closed Session.")
        key = (structure_key(fetches), feed_keys)
        try:
            found = self._plans.get(key)
        except TypeError:  # not hashable, so nothing that can be fetched or fed: say which
            return _Plan(self, fetches, feed_keys)
        if found is None:
            found = self._plans[key] = _Plan(self, fetches, feed_keys)
        return found

    def compiled(self) -> list[tuple[tuple[Tensor | Operation, ...], Executable]]:
        """What was compiled so far, for drawing and inspection: the fetches of a run and the program for its feeds."""
        if self._closed:
            raise RuntimeError("Attempted to use a closed Session.")
        return [(plan.fetches.elements, one) for plan in list(self._plans.values()) for one in plan._executables]

    def as_default(self) -> AbstractContextManager[Any]:
        """Make this the session of `Tensor.eval` and `Operation.run` within a `with` block, and leave it open."""
        return default_session_is(self)

    def close(self) -> None:
        """Let go of variables and compiled programs; the session can't be used any more."""
        self._closed = True
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
