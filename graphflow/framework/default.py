"""Which graph and which session are meant when none is named: `get_default_graph`, `get_default_session`.

Both are stacks, one for each thread, over one graph that all threads share until `reset_default_graph`.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from graphflow.framework.graph import Graph

__all__ = [
    "default_graph_is", "default_session_is", "get_default_graph", "get_default_session", "require_session",
    "reset_default_graph",
]  # fmt: skip


class _Stacks(threading.local):
    def __init__(self) -> None:
        self.graphs: list[Graph] = []
        self.sessions: list[Any] = []


_stacks = _Stacks()
_global: list[Graph] = []  # one element at most: the graph that exists without being asked for


def get_default_graph() -> Graph:
    """The graph that new operations go to."""
    if _stacks.graphs:
        return _stacks.graphs[-1]
    if not _global:
        from graphflow.framework.graph import Graph

        _global.append(Graph())
    return _global[0]


def reset_default_graph() -> None:
    """Begin with an empty default graph; sessions and tensors of the old one go on living."""
    if _stacks.graphs:
        raise AssertionError(
            "Do not use tf.reset_default_graph() to clear nested graphs. If you need a cleared graph, "
            "exit the nesting and create a new graph."
        )
    _global.clear()


@contextmanager
def default_graph_is(graph: Graph) -> Iterator[Graph]:
    """Make `graph` the default within a `with` block."""
    _stacks.graphs.append(graph)
    try:
        yield graph
    finally:
        _stacks.graphs.remove(graph)


def get_default_session() -> Any:
    """The innermost session entered by `with`, or None."""
    return _stacks.sessions[-1] if _stacks.sessions else None


def push_session(session: Any, graph: Graph | None) -> None:
    """Make the session, and the graph where there is one, the defaults until `pop_session`."""
    _stacks.sessions.append(session)
    if graph is not None:
        _stacks.graphs.append(graph)


def pop_session(session: Any, graph: Graph | None) -> None:
    """Undo `push_session`, in any order."""
    for stack, entry in ((_stacks.sessions, session), (_stacks.graphs, graph)):
        places = [k for k, found in enumerate(stack) if found is entry]
        if places:
            del stack[places[-1]]


@contextmanager
def default_session_is(session: Any) -> Iterator[Any]:
    """Make `session` the default within a `with` block; its graph is left alone."""
    _stacks.sessions.append(session)
    try:
        yield session
    finally:
        _stacks.sessions.remove(session)


def require_session(session: Any, graph: Graph, what: str) -> Any:
    """`session` or the default one; raises ValueError where there is none, or it runs another graph."""
    session = session if session is not None else get_default_session()
    if session is None:
        raise ValueError(
            f"Cannot {what}: no default session is registered. Use `with sess.as_default()` or pass a session."
        )
    if session.graph is not graph:
        raise ValueError(f"Cannot {what}: the session runs {session.graph}, and it belongs to {graph}.")
    return session
