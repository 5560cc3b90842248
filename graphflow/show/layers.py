"""Layered drawing of one level of a graph (Sugiyama, Tagawa and Toda 1981): every link points down.

    arranged = arrange(items, links)      # items know their size; the answer: where each goes, and each link's way

Four steps: `_layer` gives every item a row (longest path, then pulled towards its readers); `_grid` cuts long links
into cells, one a row; `_sort` orders each row by barycenters so that few links cross; `_straighten` chooses x by
least squares under "no overlap", solved row by row by pooling adjacent violators. Each step is linear but for sorting.
`page/layout.js` is the same algorithm for the browser; change both.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

ITEM_GAP, CELL_GAP = 28.0, 14.0  # between neighbours in a row: two items; a passing link and anything
ROW_GAP, PORT_GAP = 58.0, 30.0  # between two rows; beside a row of ports
LEAD, TAIL = 18.0, 8.0  # a link runs straight down this far after leaving a row and before reaching one
SWEEPS = 6
CROSSING = 120.0


@dataclass(frozen=True)
class Item:
    """A box, a closed or opened scope, or a port: the point at which a link crosses the border of a scope."""

    width: float
    height: float
    port: str = ""  # 'top' or 'bottom': a port, kept at that border


@dataclass(frozen=True)
class Link:
    """From the lower side of item `upper` to the upper side of item `lower`; links of one bundle share their way."""

    upper: int
    lower: int
    bundle: Hashable
    upper_at: float = 0.0  # where it meets the item, from the item's middle
    lower_at: float | None = None  # None: anywhere, chosen so that links arrive side by side


@dataclass(frozen=True)
class Hop:
    """Part of a way: (x0, y0) straight to (x0, y1), in a curve to (x1, y2), straight to (x1, y3)."""

    x0: float
    y0: float
    y1: float
    x1: float
    y2: float
    y3: float

    def moved(self, x: float, y: float) -> Hop:
        """The same hop elsewhere."""
        return Hop(self.x0 + x, self.y0 + y, self.y1 + y, self.x1 + x, self.y2 + y, self.y3 + y)


@dataclass(frozen=True)
class Arranged:
    """Upper left corners of the items; the ways of the links as indices into `hops`; the size of it all."""

    corners: list[tuple[float, float]]
    hops: list[Hop]
    ways: list[list[int]]
    width: float
    height: float


@dataclass
class _Hop:
    upper: int
    lower: int
    upper_at: float
    lower_at: float | None
    weight: float
    routed: bool = True  # False: too long to be given a cell a row; it flies behind the boxes


@dataclass
class _Grid:
    """Cells (the items, then a cell for each row that a long link passes), their rows and the hops between them."""

    items: Sequence[Item]
    row_of: list[int]
    width: list[float]
    hops: list[_Hop] = field(default_factory=list)
    ways: list[list[int]] = field(default_factory=list)
    rows: list[list[int]] = field(default_factory=list)
    above: list[list[_Hop]] = field(default_factory=list)
    below: list[list[_Hop]] = field(default_factory=list)


def arrange(items: Sequence[Item], links: Sequence[Link]) -> Arranged:
    """Place items and links; items without links stand on a shelf to the right. `links` must not close a cycle."""
    linked = {end for link in links for end in (link.upper, link.lower)}
    loose = [k for k, item in enumerate(items) if k not in linked and not item.port]
    rows = _layer(items, links)
    grid = _grid(items, links, rows, linked)
    _sort(grid)
    middle = _straighten(grid)
    placed = [cell for row in grid.rows for cell in row]
    left = min((middle[cell] - grid.width[cell] / 2 for cell in placed), default=0.0)
    middle = [x - left for x in middle]
    width = max((middle[cell] + grid.width[cell] / 2 for cell in placed), default=0.0)
    top, hops, height = _heights(grid, middle)
    corners = [(middle[k] - item.width / 2, top[k]) for k, item in enumerate(items)]
    width, height = _shelve(items, loose, corners, width, height)
    return Arranged(corners, hops, grid.ways, width, height)


def _layer(items: Sequence[Item], links: Sequence[Link]) -> list[int]:
    """A row for each item: below all it reads, but not higher than its readers ask for if it has few inputs."""
    above: list[set[int]] = [set() for _ in items]
    below: list[set[int]] = [set() for _ in items]
    for link in links:
        above[link.lower].add(link.upper)
        below[link.upper].add(link.lower)
    waiting = [len(uppers) for uppers in above]
    first = int(any(item.port == "top" for item in items))
    row = [0 if item.port == "top" else first for item in items]
    order = [k for k, count in enumerate(waiting) if not count]
    for k in order:
        for lower in sorted(below[k]):
            row[lower] = max(row[lower], row[k] + 1)
            waiting[lower] -= 1
            if not waiting[lower]:
                order.append(lower)
    for k in reversed(order):
        readers = [row[lower] - 1 for lower in below[k] if items[lower].port != "bottom"]
        if readers and not items[k].port and len(above[k]) <= len(below[k]):
            row[k] = min(readers)
    last = max((row[k] for k, item in enumerate(items) if item.port != "bottom"), default=0) + 1
    return [last if item.port == "bottom" else row[k] for k, item in enumerate(items)]


def _grid(items: Sequence[Item], links: Sequence[Link], rows: list[int], linked: set[int]) -> _Grid:
    """Cut links into hops of one row. Links too long for a linear number of cells stay whole."""
    grid = _Grid(items, list(rows), [item.width for item in items])
    cells: dict[tuple[Hashable, int], int] = {}
    hops: dict[tuple[Hashable, int, int], int] = {}
    budget = 4 * len(items) + 400
    grid.ways = [[] for _ in links]
    for number in sorted(range(len(links)), key=lambda k: rows[links[k].lower] - rows[links[k].upper]):
        link = links[number]
        between = range(rows[link.upper] + 1, rows[link.lower])
        missing = [row for row in between if (link.bundle, row) not in cells]
        routed = len(missing) <= budget
        if routed:
            budget -= len(missing)
            for row in missing:
                cells[link.bundle, row] = len(grid.row_of)
                grid.row_of.append(row)
                grid.width.append(0.0)
        stops = [link.upper, *([cells[link.bundle, row] for row in between] if routed else []), link.lower]
        for upper, lower in pairwise(stops):
            key = (link.bundle, upper, lower)
            if key not in hops:
                hops[key] = len(grid.hops)
                inner = (upper >= len(items)) + (lower >= len(items))
                start, end = (
                    link.upper_at if upper == link.upper else 0.0,
                    link.lower_at if lower == link.lower else 0.0,
                )
                grid.hops.append(_Hop(upper, lower, start, end, (1.0, 2.0, 6.0)[inner], routed))
            grid.ways[number].append(hops[key])
    _index(grid, linked)
    return grid


def _index(grid: _Grid, linked: set[int]) -> None:
    grid.rows = [[] for _ in range(max(grid.row_of, default=0) + 1)]
    for cell, row in enumerate(grid.row_of):
        if cell in linked or cell >= len(grid.items):
            grid.rows[row].append(cell)
    grid.above = [[] for _ in grid.row_of]
    grid.below = [[] for _ in grid.row_of]
    for hop in grid.hops:
        if hop.routed:
            grid.above[hop.lower].append(hop)
            grid.below[hop.upper].append(hop)


def _sort(grid: _Grid) -> None:
    """Barycenter sweeps up and down; the ordering with the least tangle seen stays."""
    at = [0.0] * len(grid.row_of)
    for row in grid.rows:
        _pack(grid, row, at)
    best, least = [list(row) for row in grid.rows], _tangle(grid, at)
    for sweep in range(2 * SWEEPS):
        mean = _mean_above if sweep % 2 else _mean_below
        for row in grid.rows if sweep % 2 else reversed(grid.rows):
            row.sort(key=lambda cell: mean(grid, cell, at))
            _pack(grid, row, at)
        tangle = _tangle(grid, at)
        if tangle < least:
            best, least = [list(row) for row in grid.rows], tangle
    grid.rows = best


def _mean_above(grid: _Grid, cell: int, at: list[float]) -> float:
    hops = grid.above[cell]
    return sum(at[hop.upper] + hop.upper_at - (hop.lower_at or 0.0) for hop in hops) / len(hops) if hops else at[cell]


def _mean_below(grid: _Grid, cell: int, at: list[float]) -> float:
    hops = grid.below[cell]
    return sum(at[hop.lower] + (hop.lower_at or 0.0) - hop.upper_at for hop in hops) / len(hops) if hops else at[cell]


def _pack(grid: _Grid, row: list[int], at: list[float]) -> None:
    """Set `at` for a row pushed together around 0."""
    gaps = _gaps(grid, row)
    x = -sum(gaps) / 2
    for k, cell in enumerate(row):
        at[cell] = x
        x += gaps[k] if k < len(gaps) else 0.0


def _gaps(grid: _Grid, row: list[int]) -> list[float]:
    """The least distance between the middles of neighbours."""
    count = len(grid.items)
    return [
        (grid.width[a] + grid.width[b]) / 2 + (ITEM_GAP if a < count and b < count else CELL_GAP)
        for a, b in pairwise(row)
    ]


def _tangle(grid: _Grid, at: list[float]) -> float:
    """What to make small: crossings, each worth `CROSSING` pixels, and the way to the side that hops take."""
    total = 0.0
    for row in grid.rows:
        ends = [
            (at[hop.upper] + hop.upper_at, at[hop.lower] + (hop.lower_at or 0.0))
            for cell in row
            for hop in grid.below[cell]
        ]
        seen: list[float] = []
        for x0, x1 in sorted(ends):
            total += abs(x0 - x1) + CROSSING * (len(seen) - bisect_right(seen, x1))
            insort(seen, x1)
    return total


def _straighten(grid: _Grid) -> list[float]:
    """The middle of every cell: near the middles of its neighbours, links through many rows as straight as can be."""
    at = [0.0] * len(grid.row_of)
    for row in grid.rows:
        _pack(grid, row, at)
    for sweep in range(2 * SWEEPS):
        down = sweep % 2 == 0
        last = sweep >= 2 * SWEEPS - 2
        for row in grid.rows if down else reversed(grid.rows):
            wishes, weights = [], []
            for cell in row:
                hops = [(h, h.upper, 1) for h in grid.above[cell] if down or last]
                hops += [(h, h.lower, -1) for h in grid.below[cell] if last or not down]
                weight = sum(hop.weight for hop, _, _ in hops)
                wish = sum(h.weight * (at[end] + s * (h.upper_at - (h.lower_at or 0.0))) for h, end, s in hops)
                wishes.append(wish / weight if hops else at[cell])
                weights.append(weight or 0.1)
            for cell, x in zip(row, spread(wishes, weights, _gaps(grid, row)), strict=True):
                at[cell] = x
    return at


def spread(wishes: Sequence[float], weights: Sequence[float], gaps: Sequence[float]) -> list[float]:
    """The x nearest to `wishes` (weighted least squares) with x[k + 1] - x[k] >= gaps[k].

    Pool adjacent violators (Ayer et al. 1955): without the gaps it is isotonic regression, and linear.
    """
    offsets = [0.0]
    for gap in gaps:
        offsets.append(offsets[-1] + gap)
    pools: list[tuple[float, float, int]] = []  # (mean, weight, members)
    for wish, weight, offset in zip(wishes, weights, offsets, strict=False):
        mean, total, members = wish - offset, weight, 1
        while pools and pools[-1][0] > mean:
            other, mass, count = pools.pop()
            mean = (mean * total + other * mass) / (total + mass)
            total, members = total + mass, members + count
        pools.append((mean, total, members))
    means = [mean for mean, _, members in pools for _ in range(members)]
    return [mean + offset for mean, offset in zip(means, offsets, strict=False)]


def _heights(grid: _Grid, at: list[float]) -> tuple[list[float], list[Hop], float]:
    """The upper edge of every item, the hops in full, and the height of all rows."""
    count = len(grid.items)
    tall = [max((grid.items[c].height for c in row if c < count), default=0.0) for row in grid.rows]
    start = [0.0] * len(tall)
    for k in range(1, len(tall)):
        start[k] = start[k - 1] + tall[k - 1] + _row_gap(grid, k - 1, at)
    top = [0.0] * len(grid.row_of)
    bottom = [0.0] * len(grid.row_of)
    for cell, row in enumerate(grid.row_of):
        height = grid.items[cell].height if cell < count else tall[row]
        room = tall[row] - height
        share = 1.0 if not grid.above[cell] else 0.0 if not grid.below[cell] else 0.5
        top[cell] = start[row] + room * share
        bottom[cell] = top[cell] + height
    _arrive_side_by_side(grid, at)
    hops = []
    for hop in grid.hops:
        x0, x1 = at[hop.upper] + hop.upper_at, at[hop.lower] + (hop.lower_at or 0.0)
        leave, reach = grid.row_of[hop.upper], grid.row_of[hop.lower]
        y1, y2 = start[leave] + tall[leave], start[reach]
        lead, tail = (LEAD, TAIL) if y2 - y1 > LEAD + TAIL + 16 else (0.0, min(TAIL, (y2 - y1) / 4))
        y0 = bottom[hop.upper] if hop.upper < count else top[hop.upper]
        hops.append(Hop(x0, y0, y1 + lead, x1, y2 - tail, top[hop.lower]))
    return top, hops, start[-1] + tall[-1] if tall else 0.0


def _row_gap(grid: _Grid, row: int, at: list[float]) -> float:
    """Wider where links run far to the side."""
    below = [hop for cell in grid.rows[row] for hop in grid.below[cell]]
    ports = any(c < len(grid.items) and grid.items[c].port for r in grid.rows[row : row + 2] for c in r)
    far = max((abs(at[hop.upper] - at[hop.lower]) for hop in below), default=0.0)
    return (PORT_GAP if ports else ROW_GAP) + min(60.0, 0.06 * far)


def _arrive_side_by_side(grid: _Grid, at: list[float]) -> None:
    """Give each hop that may end anywhere on its item a place of its own, in the order in which they come."""
    arriving: dict[int, list[_Hop]] = {}
    for hop in grid.hops:
        if hop.lower_at is None:
            arriving.setdefault(hop.lower, []).append(hop)
    for cell, hops in arriving.items():
        hops.sort(key=lambda hop: at[hop.upper] + hop.upper_at)
        step = min(20.0, 0.8 * grid.width[cell] / len(hops))
        for k, hop in enumerate(hops):
            hop.lower_at = (k - (len(hops) - 1) / 2) * step


def _shelve(
    items: Sequence[Item], loose: list[int], corners: list[tuple[float, float]], width: float, height: float
) -> tuple[float, float]:
    """Stand the loose items in columns to the right, about as high as the rest; the new size."""
    area = sum((items[k].width + ITEM_GAP) * (items[k].height + ITEM_GAP) for k in loose)
    tallest = max([height, 0.7 * area**0.5, *(items[k].height for k in loose)])
    x, y, column = width + (ITEM_GAP if width else 0.0), 0.0, 0.0
    for k in loose:
        if y and y + items[k].height > tallest:
            x, y, column = x + column + ITEM_GAP, 0.0, 0.0
        corners[k] = (x, y)
        y += items[k].height + ITEM_GAP
        column = max(column, items[k].width)
        width, height = max(width, x + column), max(height, y - ITEM_GAP)
    return width, height
