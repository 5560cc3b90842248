"""Pictures of graphs: `gf.show(graph)` prints, `gf.show(graph, "graph.html")` draws (.txt, .dot, .svg, .html).

    drawing.py   the neutral model: Box, Wire, View, Drawing          adapters.py  from graphs to views
    text.py dot.py svg.py html.py   a view in each form                layout.py layers.py measure.py  where things go

The package can be called, so that `gf.show` is the function whatever was imported first.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

from graphflow.show.adapters import view_of_program, view_of_user_graph
from graphflow.show.drawing import Box, Drawing, View, Wire
from graphflow.show.write import show

__all__ = ["Box", "Drawing", "View", "Wire", "show", "view_of_program", "view_of_user_graph"]


class _Callable(ModuleType):
    def __call__(self, *args: Any, **kwargs: Any) -> None:
        show(*args, **kwargs)


sys.modules[__name__].__class__ = _Callable
