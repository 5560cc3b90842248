"""The views of a compiled program, after each pass and of its kernels: from a session, or compiled for a look."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from graphflow.compiler.arena import least, place
from graphflow.compiler.program import TensorProgram
from graphflow.core.dim import fed
from graphflow.core.errors import OpError
from graphflow.framework.graph import Graph, Operation, Tensor
from graphflow.runtime.bound import lifetimes
from graphflow.runtime.executable import Executable, build
from graphflow.runtime.store import VariableStore
from graphflow.show.adapters import element_of, leaves_of, needed_by, view_of_program
from graphflow.show.drawing import View
from graphflow.show.kernels import view_of_plan

if TYPE_CHECKING:
    from graphflow.runtime.session import BaseSession

__all__ = ["views_of", "views_of_session", "views_of_trial"]

ASSUMED_SIZE = 32
"""What a size that the user left open is taken for where nothing was run."""


def views_of(executable: Executable, about: str = "") -> tuple[View, ...]:
    """What each pass made of a program, and its kernels; `about` is added to the note of these."""
    views = []
    for stage in executable.stages:
        if isinstance(stage.result, TensorProgram):
            note = f"{_count(len(stage.result.nodes()), 'node')}, {stage.seconds * 1e3:.1f} ms"
            note += "" if stage.changed else ", unchanged"
            views.append(view_of_program(f"after {stage.name}", stage.result, note))
    return (
        *views,
        view_of_plan("kernels", executable.plan, ", ".join([*_figures(executable), *([about] * bool(about))])),
    )


def _figures(executable: Executable) -> list[str]:
    """`13 kernels`, `14 launches`, `llvm 225 ms`, `arena 1.2 MB`."""
    figures = [_count(len(executable.plan.steps), "kernel")]
    if executable.interpreted:
        return [*figures, "interpreted"]
    figures.append(_count(executable.code.launches, "launch", "launches"))
    figures += [f"llvm {stage.seconds * 1e3:.0f} ms" for stage in executable.stages if stage.name == "llvm"]
    return [*figures, _arena(executable)]


def _count(number: int, one: str, many: str = "") -> str:
    return f"{number} {one if number == 1 else many or one + 's'}"


def _bytes(size: int) -> str:
    """To the nearest unit of a thousand: `812 B`, `1.2 MB`."""
    if size < 1000:
        return f"{size} B"
    return f"{size / 1e3:.1f} kB" if size < 1e6 else f"{size / 1e6:.1f} MB"


def _arena(executable: Executable) -> str:
    """Bytes of intermediate values for the sizes that were seen when the program was compiled: `arena 1.2 MB`.

    Where the arena has holes, the most that is alive at once stands behind it: `arena 1.2 MB (1.1 MB alive)`.
    """
    wanted = list(lifetimes(executable.layout, fed).values())
    arena, alive = _bytes(place(wanted)[1]), _bytes(least(wanted))
    return f"arena {arena}" if arena == alive else f"arena {arena} ({alive} alive)"


def views_of_session(target: Any, session: BaseSession) -> tuple[View, ...]:
    """The views of what a session compiled: of the largest program for a graph; for tensors of the one that runs them.

    Raises ValueError where the session compiled nothing that computes the target, or runs another graph.
    """
    graph = target if isinstance(target, Graph) else None
    wanted = set() if graph else {_operation(element) for element in _elements(target)}
    if any(g is not session.graph for g in ([graph] if graph else [op.graph for op in wanted])):
        raise ValueError("show: the session runs another graph than the one to be shown")
    programs = [p for p in session.compiled() if wanted <= {_operation(fetch) for fetch in p[0]}]
    if not programs:
        raise ValueError("show: the session has compiled nothing that computes this; run it first")
    fetches = None if graph else min(len(fetches) for fetches, _ in programs)
    fitting = [one for found, one in programs if fetches in (None, len(found))]
    return views_of(max(reversed(fitting), key=lambda one: len(one.plan.steps)))


def views_of_trial(target: Any) -> tuple[View, ...]:
    """The views of `target` compiled as if it were run: sizes left open are taken for 32, variables for initialized.

    A graph stands for everything in it that nothing else needs, initializers left out.  What cannot be compiled
    without knowing what will be fed has one empty view that says why.
    """
    graph = target if isinstance(target, Graph) else None
    fetches = _ends(graph) if graph else _elements(target)
    if not fetches:
        return ()
    operations = needed_by([_operation(fetch) for fetch in fetches])
    feeds = [op.outputs[0] for op in operations if op.type == "Placeholder"]
    unranked = [feed.name for feed in feeds if feed.type_.shape is None]
    if unranked:
        return (_not_compiled(f"the shapes of {', '.join(unranked)} are known in a run only"),)
    values = [np.broadcast_to(np.zeros((), feed.dtype.numpy), _assumed_shape(feed)) for feed in feeds]
    try:
        executable = build(operations[0].graph, fetches, feeds, values, _Initialized())
    except OpError as error:
        return (_not_compiled(str(error)),)
    assumed = any(not isinstance(size, int) for feed in feeds for size in feed.type_.dims)
    return views_of(executable, f"sizes left open taken for {ASSUMED_SIZE}" if assumed else "")


class _Initialized(VariableStore):
    """A store in which every variable counts as initialized, as it is when a step runs."""

    def is_initialized(self, name: str) -> bool:
        return True


def _assumed_shape(feed: Tensor) -> tuple[int, ...]:
    return tuple(size if isinstance(size, int) else ASSUMED_SIZE for size in feed.type_.dims)


def _not_compiled(reason: str) -> View:
    return View("not compiled", note=reason.splitlines()[0], text=reason)


def _elements(target: Any) -> list[Tensor | Operation]:
    return [element_of(leaf) for leaf in leaves_of(target)]


def _operation(element: Tensor | Operation) -> Operation:
    return element if isinstance(element, Operation) else element.op


def _ends(graph: Graph) -> list[Tensor | Operation]:
    """What a graph can be run for: operations that no other needs, but neither leaves nor what sets variables up."""
    operations = graph.get_operations()
    read = {x.op for op in operations for x in op.inputs} | {c for op in operations for c in op.control_inputs}
    setup = _initializers(graph)
    ends = [
        op for op in operations if op not in read and (op.inputs or op.control_inputs) and op.type != "ReadVariable"
    ]
    kept = [op for op in ends if not setup.intersection(needed_by([op]))]
    return [op.outputs[0] if op.outputs else op for op in kept]


def _initializers(graph: Graph) -> set[Operation]:
    assigns = [op for op in graph.get_operations() if op.type == "Assign"]
    return {op for op in assigns if op.name == f"{op.inputs[0].op.name}/Assign"}
