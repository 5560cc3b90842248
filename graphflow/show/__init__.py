"""Pictures of graphs: `gf.show(graph)` prints, `gf.show(graph, "graph.html")` draws (.txt, .dot, .svg, .html).

    gf.show([train_op, loss], "train.html", session=sess)    what a session compiled: every pass, and the fused kernels
    gf.show(graph, session=sess, view="kernels")             one view; here the kernels, printed as loops

    drawing.py   the neutral model: Box, Wire, View, Drawing          adapters.py  from graphs to views
    compiled.py  the views of a compiled program                      kernels.py   from a plan to a view
    text.py dot.py svg.py html.py   a view in each form                layout.py layers.py measure.py  where things go

The package can be called, so that `gf.show` is the function whatever was imported first.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

from graphflow.show.adapters import view_of_program, view_of_user_graph
from graphflow.show.compiled import views_of
from graphflow.show.drawing import Box, Drawing, View, Wire
from graphflow.show.kernels import view_of_plan
from graphflow.show.write import show

__all__ = [
    "Box",
    "Drawing",
    "View",
    "Wire",
    "show",
    "view_of_plan",
    "view_of_program",
    "view_of_user_graph",
    "views_of",
]


class _Callable(ModuleType):
    def __call__(self, *args: Any, **kwargs: Any) -> None:
        show(*args, **kwargs)


sys.modules[__name__].__class__ = _Callable
