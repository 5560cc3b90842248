"""The global step: a counter that `minimize(loss, global_step=...)` moves on."""

from __future__ import annotations

from typing import Any

from graphflow.core.dtype import int64
from graphflow.core.errors import GraphError
from graphflow.framework.default import get_default_graph
from graphflow.framework.graph import Graph
from graphflow.framework.keys import GraphKeys
from graphflow.framework.variables import Variable
from graphflow.initializers import Zeros
from graphflow.variable_scope import get_variable

__all__ = ["create_global_step", "get_global_step", "get_or_create_global_step", "global_step"]


def get_global_step(graph: Graph | None = None) -> Variable | None:
    """The graph's global step, None where there is none; raises GraphError where there are several."""
    graph = graph or get_default_graph()
    found = graph.get_collection(GraphKeys.GLOBAL_STEP)
    if len(found) > 1:
        raise GraphError(f"Multiple tensors in global_step collection: {', '.join(v.name for v in found)}")
    if found:
        return found[0]  # type: ignore[no-any-return]
    named = [v for v in graph.get_collection(GraphKeys.GLOBAL_VARIABLES) if v.name == "global_step:0"]
    return named[0] if named else None


def create_global_step(graph: Graph | None = None) -> Variable:
    """A new global step, int64 zero; raises GraphError (a ValueError) where there is one."""
    graph = graph or get_default_graph()
    if get_global_step(graph) is not None:
        raise GraphError('"global_step" already exists.')
    with graph.as_default(), graph.name_scope(None):
        collections = [GraphKeys.GLOBAL_VARIABLES, GraphKeys.GLOBAL_STEP]
        made: Variable = get_variable(
            GraphKeys.GLOBAL_STEP, shape=[], dtype=int64, initializer=Zeros(), trainable=False, collections=collections
        )
    return made


def get_or_create_global_step(graph: Graph | None = None) -> Variable:
    """The graph's global step, a new one where there is none."""
    found = get_global_step(graph)
    return create_global_step(graph) if found is None else found


def global_step(sess: Any, global_step_tensor: Any) -> int:
    """The value of the global step in a session."""
    return int(sess.run(global_step_tensor))
