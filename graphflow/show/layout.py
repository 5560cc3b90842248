"""Where everything of a view goes: scopes are boxes around their ops, laid out from the inside out.

    picture = place(view)       # corners and sizes of ops and scopes, the ways of the wires, where labels stand

A wire between two scopes is cut at every border it crosses; it crosses at a *port*, and one tensor has one port in a
border, however many readers it has there. So every scope is a small layered drawing of its own (`layers.py`), and
its links are the pieces of wires in it.

Between scopes there can be cycles where there are none between ops (`a/x -> b/y -> a/z`). Then the wires against
the order of the scopes are laid out upside down, and drawn upwards.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field, replace

from graphflow.show.drawing import Box, Scope, View
from graphflow.show.layers import Arranged, Hop, Item, Link, arrange
from graphflow.show.measure import LABEL, box_size, width_of

PADDING, HEADER = 22.0, 30.0  # inside the border of a scope; its name
MARGIN = 28.0  # around the picture
MOST_EXITS = 4  # of a box, side by side


Exits = dict[int, dict[tuple[str, bool], float]]
"""By box: where a tensor with some label leaves it, and whether that is a control dependency."""


@dataclass(frozen=True)
class Rect:
    """A rectangle by its upper left corner."""

    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True)
class Trace:
    """A hop of some wires, in the coordinates of the picture; `up`: they go from its lower end to its upper."""

    hop: Hop
    wires: tuple[int, ...]  # indices into view.wires
    control: bool
    up: bool
    head: bool  # it reaches an op: draw an arrow


@dataclass(frozen=True)
class Picture:
    """A view with coordinates. `scopes` has outer scopes before inner ones."""

    boxes: dict[str, Rect]
    scopes: list[tuple[Scope, Rect]]
    traces: list[Trace]
    labels: list[tuple[float, float, str]]  # the middle of the base line
    width: float
    height: float


@dataclass(frozen=True)
class Bundle:
    """What wires share to share a way: they carry the same tensor in the same direction."""

    source: int
    label: str
    control: bool
    up: bool


@dataclass(eq=False)
class Frame:
    """A scope at work: its children are box numbers and frames; `links` are wires between two of its items."""

    scope: Scope
    depth: int
    items: list[Hashable] = field(default_factory=list)  # int (a box), Frame, or (Bundle, 'top' | 'bottom') (a port)
    number: dict[Hashable, int] = field(default_factory=dict)
    links: dict[tuple[int, int, Bundle], list[int]] = field(default_factory=dict)  # upper, lower, bundle: the wires
    arranged: Arranged | None = None
    ports: dict[Bundle, float] = field(default_factory=dict)  # from the middle
    width: float = 0.0
    height: float = 0.0

    def item(self, thing: Hashable) -> int:
        """The number of a thing in this scope; it is added when new."""
        if thing not in self.number:
            self.number[thing] = len(self.items)
            self.items.append(thing)
        return self.number[thing]


def place(view: View) -> Picture:
    """Coordinates for every box, scope and wire. Deterministic, and near linear in their number."""
    view = _gathered(view)
    frames = _frames(view)
    _connect(view, frames)
    exits = _exits(view)
    for frame in sorted(frames.values(), key=lambda frame: -frame.depth):
        _arrange(frame, view, exits)
    return _picture(view, frames, exits)


def _gathered(view: View) -> View:
    """Tensors of many kinds from one box leave it together, under one label."""
    leaving: dict[str, dict[str, None]] = {}
    for wire in view.wires:
        leaving.setdefault(wire.source, {})[wire.label] = None
    many = {box: f"{len(labels)} tensors" for box, labels in leaving.items() if len(labels) > MOST_EXITS}
    if not many:
        return view
    wires = (w if w.control or w.source not in many else replace(w, label=many[w.source]) for w in view.wires)
    return replace(view, wires=tuple(wires))


def _frames(view: View) -> dict[Scope, Frame]:
    """A frame for each scope, outer ones first, with its boxes and inner frames in the order of the view."""
    frames: dict[Scope, Frame] = {(): Frame((), 0)}
    for k in view.order:
        scope = view.boxes[k].scope
        for depth in range(1, len(scope) + 1):
            if scope[:depth] not in frames:
                frames[scope[:depth]] = Frame(scope[:depth], depth)
                frames[scope[: depth - 1]].item(frames[scope[:depth]])
        frames[scope].item(k)
    return frames


def _connect(view: View, frames: dict[Scope, Frame]) -> None:
    """Cut every wire into links of the scopes it runs through."""
    meetings = []
    between: dict[Scope, set[tuple[int, int]]] = {}
    for wire in view.wires:
        source, target = view.number[wire.source], view.number[wire.target]
        a, b = view.boxes[source].scope, view.boxes[target].scope
        depth = next((k for k, (s, t) in enumerate(zip(a, b, strict=False)) if s != t), min(len(a), len(b)))
        frame = frames[a[:depth]]
        ends = (frame.item(_child(frames, a, depth, source)), frame.item(_child(frames, b, depth, target)))
        between.setdefault(frame.scope, set()).add(ends)
        meetings.append((frame, ends, source, target))
    order = {scope: _downwards(len(frames[scope].items), pairs) for scope, pairs in between.items()}
    for number, (frame, (start, end), source, target) in enumerate(meetings):
        wire = view.wires[number]
        up = order[frame.scope][start] > order[frame.scope][end]
        bundle = Bundle(source, wire.label, wire.control, up)
        _link(frame, start, end, bundle, number)
        scope = view.boxes[source].scope
        for depth in range(frame.depth + 1, len(scope) + 1):
            inner = frames[scope[:depth]]
            inside = inner.item(_child(frames, scope, depth, source))
            _link(inner, inside, inner.item((bundle, "top" if up else "bottom")), bundle, number)
        scope = view.boxes[target].scope
        for depth in range(frame.depth + 1, len(scope) + 1):
            inner = frames[scope[:depth]]
            inside = inner.item(_child(frames, scope, depth, target))
            _link(inner, inner.item((bundle, "bottom" if up else "top")), inside, bundle, number)


def _child(frames: dict[Scope, Frame], scope: Scope, depth: int, box: int) -> Hashable:
    """What stands for `box` in the frame of `scope[:depth]`: itself, or the inner frame around it."""
    return box if len(scope) == depth else frames[scope[: depth + 1]]


def _link(frame: Frame, start: int, end: int, bundle: Bundle, wire: int) -> None:
    upper, lower = (end, start) if bundle.up else (start, end)
    wires = frame.links.setdefault((upper, lower, bundle), [])
    if not wires or wires[-1] != wire:
        wires.append(wire)


def _downwards(count: int, pairs: set[tuple[int, int]]) -> list[int]:
    """A rank for each item so that pairs point to higher ranks, save a few when they close a cycle.

    Items are numbered in topological order of their first box, so the lowest that waits has a box that is ready.
    """
    targets: list[list[int]] = [[] for _ in range(count)]
    waiting = [0] * count
    for source, target in sorted(pairs):
        targets[source].append(target)
        waiting[target] += 1
    rank = [-1] * count
    ready = [k for k in range(count - 1, -1, -1) if not waiting[k]]
    lowest = placed = 0
    while placed < count:
        while not ready:
            if rank[lowest] < 0:
                ready.append(lowest)
            lowest += 1
        k = ready.pop()
        if rank[k] >= 0:
            continue
        rank[k], placed = placed, placed + 1
        for target in targets[k]:
            waiting[target] -= 1
            if not waiting[target] and rank[target] < 0:
                ready.append(target)
    return rank


def _exits(view: View) -> Exits:
    """Where each kind of tensor leaves its box, from the middle; beside each other if their labels differ."""
    leaving: dict[int, dict[tuple[str, bool], float]] = {}
    for wire in view.wires:
        width = width_of(wire.label, LABEL) + 10.0
        leaving.setdefault(view.number[wire.source], {})[wire.label, wire.control] = width
    exits: Exits = {}
    for box, widths in leaving.items():
        x = -sum(widths.values()) / 2
        exits[box] = {}
        for kind, width in widths.items():
            exits[box][kind] = x + width / 2
            x += width
    return exits


def _arrange(frame: Frame, view: View, exits: Exits) -> None:
    """Lay out one frame whose inner frames have their sizes already."""
    items = [_item(thing, view, exits) for thing in frame.items]
    links = []
    for upper, lower, bundle in frame.links:
        start = _meeting(frame.items[upper], bundle, exits)
        links.append(Link(upper, lower, bundle, start or 0.0, _meeting(frame.items[lower], bundle, exits)))
    arranged = frame.arranged = arrange(items, links)
    heading = width_of(frame.scope[-1], LABEL) + 30.0 if frame.scope else 0.0
    frame.width = max(arranged.width, heading) + 2 * PADDING
    frame.height = arranged.height + HEADER + PADDING
    for thing, (x, _) in zip(frame.items, arranged.corners, strict=True):
        if isinstance(thing, tuple):
            frame.ports[thing[0]] = x + _indent(frame) - frame.width / 2


def _indent(frame: Frame) -> float:
    """From the left border of a frame to its contents, which stand in the middle."""
    return (frame.width - (frame.arranged.width if frame.arranged else 0.0)) / 2


def _item(thing: Hashable, view: View, exits: Exits) -> Item:
    if isinstance(thing, Frame):
        return Item(thing.width, thing.height)
    if isinstance(thing, tuple):
        return Item(0.0, 0.0, thing[1])
    assert isinstance(thing, int)
    width, height = _box_size(thing, view, exits)
    return Item(max(width, _labels_width(view.boxes[thing])), height)


def _box_size(k: int, view: View, exits: Exits) -> tuple[float, float]:
    """Width and height: for its lines, and so that everything that leaves the box touches it."""
    width, height = box_size(view.boxes[k])
    return max([width, *(2 * abs(x) + 24.0 for x in exits.get(k, {}).values())]), height


def _labels_width(box: Box) -> float:
    return width_of(box.type, LABEL) + 6.0 if box.type else 0.0


def _meeting(thing: Hashable, bundle: Bundle, exits: Exits) -> float | None:
    if isinstance(thing, Frame):
        return thing.ports[bundle]
    if isinstance(thing, tuple):
        return 0.0
    assert isinstance(thing, int)
    return exits[thing][bundle.label, bundle.control] if thing == bundle.source and not bundle.up else None


def _picture(view: View, frames: dict[Scope, Frame], exits: Exits) -> Picture:
    """From the coordinates of each frame to those of the picture, from the outside in."""
    origin: dict[Scope, tuple[float, float]] = {(): (MARGIN - PADDING, MARGIN - HEADER)}
    boxes: dict[str, Rect] = {}
    scopes: list[tuple[Scope, Rect]] = []
    traces: list[Trace] = []
    for scope, frame in sorted(frames.items(), key=lambda pair: pair[1].depth):
        arranged = frame.arranged
        assert arranged is not None
        x0, y0 = origin[scope][0] + _indent(frame), origin[scope][1] + HEADER
        if scope:
            scopes.append((scope, Rect(*origin[scope], frame.width, frame.height)))
        for thing, (x, y) in zip(frame.items, arranged.corners, strict=True):
            if isinstance(thing, Frame):
                origin[thing.scope] = (x0 + x, y0 + y)
            elif isinstance(thing, int):
                boxes[view.boxes[thing].id] = _centred(x0 + x, y0 + y, thing, view, exits)
        traces += _traces(frame, arranged, x0, y0)
    outer = frames[()]
    width, height = outer.width - 2 * PADDING + 2 * MARGIN, outer.height - HEADER - PADDING + 2 * MARGIN
    return Picture(boxes, scopes, traces, _labels(view, boxes, exits), width, height)


def _centred(x: float, y: float, k: int, view: View, exits: Exits) -> Rect:
    """The box in the middle of its place, which may be wider to make room for the label below."""
    width, height = _box_size(k, view, exits)
    return Rect(x + (_item(k, view, exits).width - width) / 2, y, width, height)


def _traces(frame: Frame, arranged: Arranged, x0: float, y0: float) -> list[Trace]:
    """The hops of a frame, each once with all wires that share it; those at a port are drawn on to the border."""
    wires: dict[int, list[int]] = {}
    about: dict[int, tuple[Bundle, bool]] = {}
    stretch: dict[int, tuple[bool, bool]] = {}
    for ((upper, lower, bundle), numbers), way in zip(frame.links.items(), arranged.ways, strict=True):
        end = upper if bundle.up else lower
        for hop in way:
            wires.setdefault(hop, []).extend(numbers)
            last = hop == (way[0] if bundle.up else way[-1])
            about[hop] = (bundle, last and isinstance(frame.items[end], int))
        if isinstance(frame.items[upper], tuple):
            stretch[way[0]] = (True, stretch.get(way[0], (False, False))[1])
        if isinstance(frame.items[lower], tuple):
            stretch[way[-1]] = (stretch.get(way[-1], (False, False))[0], True)
    traces = []
    for hop, numbers in wires.items():
        bundle, head = about[hop]
        moved = arranged.hops[hop].moved(x0, y0)
        above, below = stretch.get(hop, (False, False))
        if above:
            moved = Hop(moved.x0, moved.y0 - HEADER, moved.y1, moved.x1, moved.y2, moved.y3)
        if below:
            moved = Hop(moved.x0, moved.y0, moved.y1, moved.x1, moved.y2, moved.y3 + PADDING)
        traces.append(Trace(moved, tuple(dict.fromkeys(numbers)), bundle.control, bundle.up, head))
    return traces


def _labels(view: View, boxes: dict[str, Rect], exits: Exits) -> list[tuple[float, float, str]]:
    """One label a tensor, below the box that makes it."""
    labels = []
    for k, leaving in exits.items():
        rect = boxes[view.boxes[k].id]
        for (text, _), x in leaving.items():
            if text:
                labels.append((rect.x + rect.width / 2 + x, rect.y + rect.height + 13.0, text))
    return labels
