"""The colours of the pictures, in one table for SVG, HTML and DOT; light and dark scheme."""

from __future__ import annotations

from dataclasses import dataclass

from graphflow.show.drawing import KINDS


@dataclass(frozen=True)
class Tone:
    """Fill and border of one kind of box, in the light and in the dark scheme."""

    fill: str
    edge: str
    dark_fill: str
    dark_edge: str


TONES: dict[str, Tone] = {
    "input": Tone("#e3eefc", "#4a86d8", "#17293f", "#5b96e6"),
    "variable": Tone("#fdf0d3", "#c98a12", "#352910", "#d9a03a"),
    "constant": Tone("#f0f2f4", "#9aa4af", "#22272d", "#6d7782"),
    "op": Tone("#ffffff", "#8a95a3", "#1b2026", "#7b8692"),
    "kernel": Tone("#efe9fc", "#8063cf", "#2a2140", "#a287ee"),
    "state": Tone("#fce5e7", "#cc5a6c", "#3a1c22", "#e27a8a"),
    "output": Tone("#dcf3e6", "#2a9a66", "#142f22", "#43b881"),
    "control": Tone("#ffffff", "#9aa4af", "#1b2026", "#6d7782"),
}

GROUND = {"light": "#fbfbfa", "dark": "#14171b"}
SCOPE = {"light": ("#000000", "#c9cfd6"), "dark": ("#ffffff", "#39424c")}
INK = {"light": "#1d232a", "dark": "#e6e9ed"}
FAINT = {"light": "#66707c", "dark": "#949eaa"}
WIRE = {"light": "#98a2ae", "dark": "#5d6875"}

SANS = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"
MONO = "ui-monospace, SFMono-Regular, Menlo, Consolas, 'Liberation Mono', 'DejaVu Sans Mono', monospace"


def kind_of(kind: str) -> str:
    """The kind to draw: one of KINDS."""
    return kind if kind in KINDS else "op"


def kind_rules(scheme: str, within: str = "") -> str:
    """CSS for the boxes of every kind: `.k-variable > rect { fill: …; stroke: … }`."""
    rules = []
    for kind, tone in TONES.items():
        fill, edge = (tone.fill, tone.edge) if scheme == "light" else (tone.dark_fill, tone.dark_edge)
        rules.append(f"{within}.k-{kind} > rect {{ fill: {fill}; stroke: {edge}; }}")
    return "\n".join(rules)
