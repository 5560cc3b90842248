"""A view as SVG: drawn to the end here, so that any viewer shows it; follows the reader's light or dark scheme."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape

from graphflow.show import palette
from graphflow.show.drawing import Box, View
from graphflow.show.layout import Picture, Rect, Trace, place
from graphflow.show.measure import LABEL, LINE, MEMBER, MEMBERS_GAP, PADDING_X, PADDING_Y, SMALL, TITLE, box_lines

CLASS = {TITLE: "title", SMALL: "small", MEMBER: "member"}


def to_svg(view: View) -> str:
    """The view as a standalone SVG document with every scope open."""
    picture = place(view)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_n(picture.width)}" height="{_n(picture.height)}" '
        f'viewBox="0 0 {_n(picture.width)} {_n(picture.height)}" role="img">',
        f"<title>{_text(view.title)}</title>",
        f"<style>{_style()}</style>",
        '<rect class="ground" width="100%" height="100%"/>',
        *(_scope(scope[-1], rect, len(scope)) for scope, rect in picture.scopes),
        *_wires(picture),
        *(_box(view.boxes[k], picture.boxes[view.boxes[k].id]) for k in view.order),
        *(f'<text class="label" x="{_n(x)}" y="{_n(y)}">{_text(text)}</text>' for x, y, text in picture.labels),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _style() -> str:
    fixed = f"""
text {{ font: {SMALL.size}px {palette.SANS}; }}
.title {{ font-size: {TITLE.size}px; font-weight: 600; text-anchor: middle; }}
.small {{ text-anchor: middle; }}
.member, .label {{ font: {LABEL.size}px {palette.MONO}; }}
.label {{ text-anchor: middle; paint-order: stroke; stroke-width: 4px; stroke-linejoin: round; }}
.name {{ font-weight: 600; }}
.wire {{ fill: none; stroke-width: 1.2px; }}
.ctl {{ stroke-dasharray: 4 3; }}
.box > rect {{ stroke-width: 1.2px; }}
.k-control > rect {{ stroke-dasharray: 4 3; }}
.scope {{ stroke-width: 1px; fill-opacity: 0.026; }}"""
    return f"{fixed}\n{_scheme('light')}\n@media (prefers-color-scheme: dark) {{\n{_scheme('dark')}\n}}\n"


def _scheme(scheme: str) -> str:
    fill, edge = palette.SCOPE[scheme]
    return f""".ground {{ fill: {palette.GROUND[scheme]}; }}
.title, .member {{ fill: {palette.INK[scheme]}; }}
.small, .name {{ fill: {palette.FAINT[scheme]}; }}
.label {{ fill: {palette.FAINT[scheme]}; stroke: {palette.GROUND[scheme]}; }}
.wire {{ stroke: {palette.WIRE[scheme]}; }}
.head {{ fill: {palette.WIRE[scheme]}; }}
.scope {{ fill: {fill}; stroke: {edge}; }}
{palette.kind_rules(scheme)}"""


def _scope(name: str, rect: Rect, depth: int) -> str:
    return (
        f'<g><rect class="scope" {_place(rect)} rx="{max(6, 14 - 3 * depth)}"/>'
        f'<text class="name" x="{_n(rect.x + 12)}" y="{_n(rect.y + 19)}">{_text(name)}</text></g>'
    )


def _wires(picture: Picture) -> Iterator[str]:
    for trace in picture.traces:
        hop = trace.hop
        bend = (hop.y1 + hop.y2) / 2
        way = (
            f"M{_n(hop.x0)} {_n(hop.y0)}V{_n(hop.y1)}"
            f"C{_n(hop.x0)} {_n(bend)} {_n(hop.x1)} {_n(bend)} {_n(hop.x1)} {_n(hop.y2)}V{_n(hop.y3)}"
        )
        yield f'<path class="{"wire ctl" if trace.control else "wire"}" d="{way}"/>'
        if trace.head:
            yield _head(trace)


def _head(trace: Trace) -> str:
    if trace.up:
        return f'<path class="head" d="M{_n(trace.hop.x0)} {_n(trace.hop.y0)}l-3.5 6.5h7z"/>'
    return f'<path class="head" d="M{_n(trace.hop.x1)} {_n(trace.hop.y3)}l-3.5 -6.5h7z"/>'


def _box(box: Box, rect: Rect) -> str:
    lines: list[str] = []
    y = rect.y + PADDING_Y
    above = TITLE
    for text, font in box_lines(box):
        y += LINE[font] + (MEMBERS_GAP if font is MEMBER and above is not MEMBER else 0.0)
        above = font
        x = rect.x + (PADDING_X if font is MEMBER else rect.width / 2)
        lines.append(f'<text class="{CLASS[font]}" x="{_n(x)}" y="{_n(y - 4)}">{_text(text)}</text>')
    about = " · ".join(part for part in (box.id, box.op, box.type, box.detail, box.where) if part)
    radius = _n(min(rect.height / 2, 15.0 if box.kind in ("constant", "input") else 6.0))
    shape = f'<rect {_place(rect)} rx="{radius}"/>'
    kind = palette.kind_of(box.kind)
    return f'<g class="box k-{kind}" data-id="{_text(box.id)}"><title>{_text(about)}</title>{shape}{"".join(lines)}</g>'


def _place(rect: Rect) -> str:
    return f'x="{_n(rect.x)}" y="{_n(rect.y)}" width="{_n(rect.width)}" height="{_n(rect.height)}"'


def _n(value: float) -> str:
    """A coordinate, to a tenth of a pixel."""
    return f"{round(value, 1):g}" if abs(value) < 1e5 else f"{value:.1f}"


def _text(text: str) -> str:
    """`text` in an XML document: escaped, and without the control characters that XML forbids."""
    allowed = "".join(char if char >= " " or char in "\t\n" else "�" for char in text)
    return escape(allowed.encode("utf-8", "replace").decode())
