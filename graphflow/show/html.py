"""A drawing as one HTML file that needs nothing else: no network, no fonts, no server.

The page lays the graph out itself, so that scopes open and close: `page/layers.js` and `page/layout.js` are the
algorithms of `layers.py` and `layout.py`; `page/draw.js` makes the elements, `page/page.js` listens.
A link can name a state: `graph.html#view=2&open=all&select=layer1/MatMul`.
"""

from __future__ import annotations

import json
import re
from html import escape
from importlib.resources import files
from typing import Any

from graphflow.show import palette
from graphflow.show.drawing import Drawing, View
from graphflow.show.text import to_text

SCRIPTS = ("layers.js", "layout.js", "draw.js", "page.js")


def to_html(drawing: Drawing) -> str:
    """The drawing as a self-contained page with a tab for each view."""
    drawing = drawing if drawing.views else Drawing(drawing.title, (View("graph"),))
    parts = {
        "title": escape(drawing.title),
        "style": _read("page.css") + _kinds(),
        "data": json_in_html(page_data(drawing)),
        "script": "\n".join(_read(name) for name in SCRIPTS),
    }
    return re.sub(r"\{\{(\w+)\}\}", lambda match: parts[match[1]], _read("page.html"))


def page_data(drawing: Drawing) -> dict[str, Any]:
    """What the page reads: the drawing, and for each view an order of its boxes and its text."""
    return {
        "drawing": drawing.to_json(),
        "orders": [view.order for view in drawing.views],
        "texts": ["" if view.text else to_text(view) for view in drawing.views],
    }


def json_in_html(data: object) -> str:
    """JSON that cannot end the script element it stands in, nor open a comment."""
    text = json.dumps(data, ensure_ascii=True, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _read(name: str) -> str:
    return (files("graphflow.show") / "page" / name).read_text(encoding="utf-8")


def _kinds() -> str:
    light, dark = palette.kind_rules("light"), palette.kind_rules("dark")
    return f"\n{light}\n@media (prefers-color-scheme: dark) {{\n{dark}\n}}\n"
