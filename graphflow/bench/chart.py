"""The two pictures of a run, as standalone SVG documents.

ratios_svg(results)               a dot for each peer and workload: how many times as fast graphflow is
roofline_svg(kernels, limits)     kernels below the roof that the machine's arithmetic and memory make
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from html import escape
from typing import Any

from graphflow.show import palette
from graphflow.show.measure import SMALL, width_of

WIDTH, LEFT, RIGHT, TOP, ROW = 960.0, 150.0, 40.0, 64.0, 19.0
HEIGHT, BOTTOM = 620.0, 48.0  # of the roofline
FARTHEST = 30.0  # from a dot to its name, downward

COLOURS = {
    "tf115": "#b5651d",
    "tf": "#e8871e",
    "tf-xla": "#d4b106",
    "jax": "#4a86d8",
    "torch": "#d9483b",
    "torch-compile": "#a13d8f",
    "pytensor": "#2a9a66",
    "numba": "#13a0a8",
    "numpy": "#7b8692",
}
OTHER = "#8063cf"

Scale = Callable[[float], float]


def ratios_svg(results: Mapping[str, Any]) -> str:
    """A row for each workload that graphflow and a peer ran, in their order; right of the line graphflow leads."""
    rows = [row for row in results["rows"] if row["ratio"] is not None]
    peers = [name for name in results["frameworks"] if name != "graphflow"]
    found = [ratio for row in rows for _, ratio in ratios(row)]
    x = logarithmic(min([0.5, *found]), max([2.0, *found]), LEFT, WIDTH - RIGHT)
    bottom = TOP + ROW * max(len(rows), 1)
    parts = [*legend(peers), *ratio_axis(x, min([0.5, *found]), max([2.0, *found]), bottom)]
    for number, row in enumerate(rows):
        parts += ratio_row(row, TOP + ROW * (number + 0.5), x)
    return document("graphflow beside its peers", bottom + BOTTOM, parts)


def ratios(row: Mapping[str, Any]) -> list[tuple[str, float]]:
    """(peer, its time over graphflow's), the best peer last so that it is drawn on top."""
    own = row["seconds"]["graphflow"]
    pairs = [(name, seconds / own) for name, seconds in row["seconds"].items() if name != "graphflow"]
    return sorted(pairs, key=lambda pair: -pair[1])


def legend(peers: Sequence[str]) -> Iterator[str]:
    """The peers' colours, above the plot."""
    x = LEFT
    for name in peers:
        yield f'<circle cx="{n(x)}" cy="38" r="4.5" fill="{COLOURS.get(name, OTHER)}"/>'
        yield text(x + 9, 42, name, "small")
        x += 32 + width_of(name, SMALL)


def ratio_axis(x: Scale, low: float, high: float, bottom: float) -> Iterator[str]:
    """Lines at 1, 2, 5, 10 … and what they mean."""
    for value in steps(low, high):
        kind = "one" if value == 1 else "grid"
        yield f'<path class="{kind}" d="M{n(x(value))} {n(TOP)}V{n(bottom)}"/>'
        yield text(x(value), bottom + 16, f"{value:g}×", "tick")
    yield text((LEFT + WIDTH - RIGHT) / 2, bottom + 36, "graphflow is this many times as fast", "tick")


def ratio_row(row: Mapping[str, Any], y: float, x: Scale) -> Iterator[str]:
    """A workload's name and dots; the best peer's is larger."""
    yield text(LEFT - 10, y + 4, row["name"], "name")
    pairs = ratios(row)
    for name, ratio in pairs:
        radius = 5.5 if name == row["best_peer"] else 3.5
        about = f"{row['name']}: {ratio:.2f} × {name} ({row['seconds'][name] * 1e6:,.1f} µs)"
        yield (
            f'<circle class="dot" cx="{n(x(ratio))}" cy="{n(y)}" r="{radius}" fill="{COLOURS.get(name, OTHER)}">'
            f"<title>{escaped(about)}</title></circle>"
        )


def roofline_svg(kernels: Sequence[Mapping[str, Any]], limits: Sequence[Mapping[str, Any]]) -> str:
    """Operations a second over operations a byte, both logarithmic.

    A kernel stands under its "name", or under "label" if there is one ("" for none).  Roofs are those of all cores;
    what one core computes is dashed.
    """
    points = [point for point in map(roof_point, kernels) if point is not None]
    low_x, high_x = bounds([p[0] for p in points], 1 / 16, 1024.0)
    peak = max(max(one["flops"].values()) for one in limits)
    low_y, high_y = bounds([p[1] for p in points], peak / 4096, peak)
    x = logarithmic(low_x, high_x, LEFT / 2, WIDTH - RIGHT)
    y = logarithmic(low_y, high_y * 1.5, HEIGHT - BOTTOM, TOP)
    parts = list(roof_axes(x, y, (low_x, high_x), (low_y, high_y * 1.5)))
    one, all_ = limits[0], limits[-1]
    parts += slanted_roofs(all_, x, y, (low_x, high_x), low_y)
    parts += flat_roofs(all_, x, y, high_x, "roof", named_at_end=True)
    if one["threads"] != all_["threads"]:
        parts += flat_roofs(one, x, y, high_x, "roof dashed", named_at_end=False)
    parts += dots(kernels, x, y)
    return document("kernels and what this machine allows", HEIGHT, parts)


def roof_point(kernel: Mapping[str, Any]) -> tuple[float, float] | None:
    """(operations a byte, operations a second); an instruction that is no multiply-add takes the place of two."""
    done, moved = kernel["flops"] + 2 * kernel["operations"], kernel["read"] + kernel["written"]
    return (done / moved, done / kernel["seconds"]) if done and moved else None


def roof_axes(x: Scale, y: Scale, across: tuple[float, float], up: tuple[float, float]) -> Iterator[str]:
    """Grid lines at powers of ten, and what the axes are."""
    for value in powers(*across):
        yield f'<path class="grid" d="M{n(x(value))} {n(TOP)}V{n(HEIGHT - BOTTOM)}"/>'
        yield text(x(value), HEIGHT - BOTTOM + 16, f"{value:g}", "tick")
    for value in powers(*up):
        yield f'<path class="grid" d="M{n(LEFT / 2)} {n(y(value))}H{n(WIDTH - RIGHT)}"/>'
        yield text(LEFT / 2 - 8, y(value) + 4, f"{value / 1e9:g}", "name")
    yield text(WIDTH / 2, HEIGHT - 12, "operations a byte", "tick")
    yield text(LEFT / 2, TOP - 12, "Gflop/s", "small")


def flat_roofs(
    limits: Mapping[str, Any], x: Scale, y: Scale, end: float, kind: str, named_at_end: bool
) -> Iterator[str]:
    """What the cores can compute, from where L2 can feed them. Names at one end keep clear of those at the other."""
    fastest = max(curve[0][1] for curve in limits["curves"].values())
    for dtype, peak in limits["flops"].items():
        start = min(peak / fastest, end)
        yield f'<path class="{kind}" d="M{n(x(start))} {n(y(peak))}H{n(x(end))}"/>'
        name = f"{dtype}, {cores(limits['threads'])}: {peak / 1e9:,.0f} Gflop/s"
        yield (
            text(x(end), y(peak) - 4, name, "roofname") if named_at_end else text(x(start), y(peak) + 12, name, "small")
        )


def slanted_roofs(
    limits: Mapping[str, Any], x: Scale, y: Scale, across: tuple[float, float], low: float
) -> Iterator[str]:
    """What L2 and memory can deliver, up to what can be computed from it."""
    top = max(limits["flops"].values())
    for where, nth in (("L2", 0), ("memory", -1)):
        rate = max(curve[nth][1] for curve in limits["curves"].values())
        start, end = max(across[0], low / rate), min(across[1], top / rate)
        if start < end:
            yield f'<path class="roof" d="M{n(x(start))} {n(y(start * rate))}L{n(x(end))} {n(y(end * rate))}"/>'
            name = f"{where}, {cores(limits['threads'])}: {rate / 1e9:,.0f} GB/s"
            yield text(x(start) + 24, y(start * rate), name, "small")


def cores(threads: int) -> str:
    """A number of cores, in words."""
    return "1 core" if threads == 1 else f"{threads} cores"


def dots(kernels: Sequence[Mapping[str, Any]], x: Scale, y: Scale) -> Iterator[str]:
    """The kernels, with names that keep clear of each other; where there is no room near a dot, none."""
    taken: list[tuple[float, float, float]] = []  # where names begin, on which line, how wide
    for kernel in kernels:
        point = roof_point(kernel)
        if point is None:
            continue
        across, up = x(point[0]), y(point[1])
        label, name = up + 4, kernel.get("label", kernel["name"])
        words = f"{name} {kernel['share']:.0%}" if name else ""
        wide = width_of(words, SMALL)
        while words and any(abs(label - b) < 11 and a < across + wide and across < a + w for a, b, w in taken):
            label += 11
        words = words if label <= up + FARTHEST else ""
        taken += [(across, label, wide)] if words else []
        time = f"{kernel['seconds'] * 1e6:,.1f} µs"
        about = escaped(f"{kernel['name']}: {kernel['share']:.0%} of its limit ({kernel['bound']}), {time}")
        place = f'cx="{n(across)}" cy="{n(up)}"'
        yield f'<circle class="dot" {place} r="4" fill="{OTHER}"><title>{about}</title></circle>'
        if words:
            yield text(across + 7, label, words, "small")


# scales


def logarithmic(low: float, high: float, start: float, end: float) -> Scale:
    """Values low…high onto pixels start…end."""
    first, span = math.log(low), math.log(high) - math.log(low)
    return lambda value: start + (end - start) * (math.log(value) - first) / span


def bounds(values: Sequence[float], low: float, high: float) -> tuple[float, float]:
    """A range that holds the values and what is given."""
    return min([low, *values]), max([high, *values])


def steps(low: float, high: float) -> list[float]:
    """1, 2, 5, 10 … between two values."""
    exponents = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    return [m * 10.0**e for e in exponents for m in (1, 2, 5) if low <= m * 10.0**e <= high]


def powers(low: float, high: float) -> list[float]:
    """The powers of ten between two values."""
    exponents = range(math.ceil(math.log10(low)), math.floor(math.log10(high)) + 1)
    return [10.0**e for e in exponents]


# documents


def document(title: str, height: float, parts: Sequence[str]) -> str:
    """An SVG document in light and dark."""
    size = f'width="{n(WIDTH)}" height="{n(height)}" viewBox="0 0 {n(WIDTH)} {n(height)}"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img">\n<title>{escaped(title)}</title>'
    ground = '<rect class="ground" width="100%" height="100%"/>'
    return "\n".join([head, f"<style>{style()}</style>", ground, text(16, 22, title, "title"), *parts, "</svg>"]) + "\n"


def style() -> str:
    """Fonts, and colours for both schemes."""
    fixed = f"""
text {{ font: 11px {palette.SANS}; }}
.title {{ font-size: 15px; font-weight: 600; }}
.name, .roofname {{ text-anchor: end; }}
.tick {{ text-anchor: middle; }}
path {{ fill: none; stroke-width: 1px; }}
.one, .roof {{ stroke-width: 1.6px; }}
.dashed {{ stroke-dasharray: 5 4; }}
.dot {{ fill-opacity: 0.85; }}"""
    return f"{fixed}\n{scheme('light')}\n@media (prefers-color-scheme: dark) {{\n{scheme('dark')}\n}}\n"


def scheme(name: str) -> str:
    """The colours of one scheme."""
    return f""".ground {{ fill: {palette.GROUND[name]}; }}
.title, .name, .roofname {{ fill: {palette.INK[name]}; }}
.small, .tick {{ fill: {palette.FAINT[name]}; }}
.grid {{ stroke: {palette.SCOPE[name][1]}; stroke-opacity: 0.5; }}
.one, .roof {{ stroke: {palette.WIRE[name]}; }}"""


def text(x: float, y: float, words: str, kind: str) -> str:
    """A line of text."""
    return f'<text class="{kind}" x="{n(x)}" y="{n(y)}">{escaped(words)}</text>'


def n(value: float) -> str:
    """A coordinate, to a tenth of a pixel."""
    return f"{value:.1f}".removesuffix(".0")


def escaped(words: str) -> str:
    """Text inside of XML."""
    return escape(words)
