"""`show(graph)` prints a graph; `show(graph, "train.html")` draws it into a file; the suffix chooses the form."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from graphflow.show.adapters import view_of_user_graph
from graphflow.show.compiled import views_of_session, views_of_trial
from graphflow.show.dot import to_dot
from graphflow.show.drawing import Drawing, View
from graphflow.show.html import to_html
from graphflow.show.svg import to_svg
from graphflow.show.text import to_text

if TYPE_CHECKING:
    from graphflow.runtime.session import BaseSession


def drawing_text(drawing: Drawing) -> str:
    """Every view as text; its own printed form where it has one."""
    return "\n".join(_printed(view) for view in drawing.views)


def _printed(view: View) -> str:
    if not view.text:
        return to_text(view)
    note = f" ({view.note})" if view.note else ""
    return f"{view.title}{note}\n{view.text.rstrip()}\n"


WRITERS: dict[str, Callable[[Drawing], str]] = {
    ".txt": drawing_text,
    ".dot": lambda drawing: to_dot(drawing.views[0]),
    ".svg": lambda drawing: to_svg(drawing.views[0]),
    ".html": to_html,
}


def show(
    target: Any,
    file: str | os.PathLike[str] | None = None,
    *,
    session: BaseSession | None = None,
    view: str | None = None,
    out: TextIO | None = None,
) -> None:
    """Print or draw `target`: a Graph; tensors, operations or variables (what they need is shown); a View; a Drawing.

    file: None prints text to `out` (standard output); else a path that ends in .txt, .dot, .svg or .html, written
    whole or not at all. .html has a tab for each view: the user's graph, the program after each pass, the kernels.
    .txt has all views in turn; .dot and .svg show the first.
    session: show what this session compiled for `target`; of a graph its largest program. Without it the page has
    `target` as compiled for a look, with sizes that were left open taken for 32.
    view: show only the view of this title: "user graph", "after capture", ..., "kernels".
    Raises ValueError for another suffix, a view that is not there, or a session that did not compile the target;
    TypeError for a target that is none of these.
    """
    write = WRITERS[".txt"] if file is None else _writer(file)
    compiled = session is not None or view is not None or write is to_html
    drawing = drawing_of(target, session, compiled, "graph" if file is None else Path(file).stem)
    text = write(drawing if view is None else _only(view, drawing))
    if file is None:
        print(text, end="", file=out or sys.stdout)
    else:
        write_whole(Path(file), text)


def drawing_of(target: Any, session: BaseSession | None, compiled: bool, title: str) -> Drawing:
    """`target` as a drawing, with the views of the compiled program if they are asked for."""
    if isinstance(target, Drawing | View):
        if session is not None:
            raise TypeError(f"show: a {type(target).__name__} is drawn as it is; a session adds views to a graph")
        return target if isinstance(target, Drawing) else Drawing(title, (target,))
    views = (view_of_user_graph(target),)
    if session is not None:
        return Drawing(title, (*views, *views_of_session(target, session)))
    return Drawing(title, (*views, *views_of_trial(target)) if compiled else views)


def _only(title: str, drawing: Drawing) -> Drawing:
    found = tuple(view for view in drawing.views if view.title == title)
    if not found:
        known = ", ".join(repr(view.title) for view in drawing.views)
        raise ValueError(f"show: there is no view {title!r}; there are {known}")
    return Drawing(drawing.title, found)


def _writer(file: str | os.PathLike[str]) -> Callable[[Drawing], str]:
    suffix = Path(file).suffix.lower()
    if suffix not in WRITERS:
        known = ", ".join(WRITERS)
        raise ValueError(
            f"show writes {known}: {os.fspath(file)!r} has {f'suffix {suffix!r}' if suffix else 'no suffix'}"
        )
    return WRITERS[suffix]


def write_whole(path: Path, text: str) -> None:
    """Replace the file in one step: a reader sees the old contents or the new, and an error leaves the old."""
    handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with open(handle, "w", encoding="utf-8", newline="\n") as stream:
            stream.write(text)
        os.chmod(temporary, path.stat().st_mode & 0o777 if path.exists() else 0o666 & ~_umask())
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def _umask() -> int:
    mask = os.umask(0o022)
    os.umask(mask)
    return mask
