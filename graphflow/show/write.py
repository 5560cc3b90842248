"""`show(graph)` prints a graph; `show(graph, "train.html")` draws it into a file; the suffix chooses the form."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TextIO

from graphflow.show.adapters import view_of_user_graph
from graphflow.show.dot import to_dot
from graphflow.show.drawing import Drawing, View
from graphflow.show.html import to_html
from graphflow.show.svg import to_svg
from graphflow.show.text import to_text


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
    session_program: Iterable[View] | None = None,
    out: TextIO | None = None,
) -> None:
    """Print or draw `target`: a Graph; tensors, operations or variables (what they need is shown); a View; a Drawing.

    file: None prints text to `out` (standard output); else a path that ends in .txt, .dot, .svg or .html, written
    whole or not at all. .html has a tab for each view, .txt all views in turn; .dot and .svg show the first.
    session_program: the views of a compiled run, after each pass and of the kernels, to show beside the user's graph.
    Raises ValueError for another suffix, TypeError for a target that is none of these.
    """
    write = WRITERS[".txt"] if file is None else _writer(file)
    text = write(drawing_of(target, session_program or (), "graph" if file is None else Path(file).stem))
    if file is None:
        print(text, end="", file=out or sys.stdout)
    else:
        write_whole(Path(file), text)


def drawing_of(target: Any, more: Iterable[View], title: str) -> Drawing:
    """`target` as a drawing, with `more` views after its own."""
    if isinstance(target, Drawing):
        return Drawing(target.title, (*target.views, *more))
    first = target if isinstance(target, View) else view_of_user_graph(target)
    return Drawing(title, (first, *more))


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
