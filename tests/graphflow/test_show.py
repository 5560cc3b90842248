"""Pictures of graphs: each form parses, holds every box, and comes out the same twice."""

from __future__ import annotations

import json
import math
import os
import re
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from graphflow.core.source import Source
from graphflow.show import Box, Drawing, View, Wire, show, view_of_program, view_of_user_graph
from graphflow.show.dot import to_dot
from graphflow.show.drawing import KINDS
from graphflow.show.html import json_in_html, to_html
from graphflow.show.layers import Item, Link, arrange, spread
from graphflow.show.layout import Picture, Rect, place
from graphflow.show.palette import TONES
from graphflow.show.svg import to_svg
from graphflow.show.text import columns, to_text
from graphflow.show.write import WRITERS

SVG = "{http://www.w3.org/2000/svg}"
EVIL = '</script><!-- <b>"&\\ é 日本語 \u2028 %s {{data}}'


class Sketch:
    """Collects boxes and wires; a name 'a/b/op' stands in the scopes a and b."""

    def __init__(self) -> None:
        self.boxes: dict[str, Box] = {}
        self.wires: list[Wire] = []

    def add(self, name: str, op: str, *inputs: str, control: tuple[str, ...] = (), **fields: Any) -> str:
        scope = tuple(name.split("/")[:-1])
        self.boxes[name] = Box(name, op, scope, **{"where": f"train.py:{len(self.boxes)}", **fields})
        self.wires += [Wire(source, name, self.boxes[source].type) for source in inputs]
        self.wires += [Wire(source, name, control=True) for source in control]
        return name

    def view(self, title: str = "user graph") -> View:
        return View(title, tuple(self.boxes.values()), tuple(self.wires))


def training() -> View:
    """Three dense layers with gradients and updates in scopes of their own."""
    s = Sketch()
    sizes = (784, 128, 64, 10)
    h = s.add("x", "Placeholder", kind="input", type="float32[batch, 784]")
    inputs, updates = [h], []
    for k in range(3):
        a, b = sizes[k], sizes[k + 1]
        w = s.add(f"layer{k}/w", "Variable", kind="variable", type=f"float32[{a}, {b}]")
        y = s.add(f"layer{k}/MatMul", "MatMul", h, w, type=f"float32[batch, {b}]")
        h = s.add(f"layer{k}/Relu", "Relu", y, type=f"float32[batch, {b}]")
        inputs.append(h)
    g = s.add("loss/Mean", "Mean", h, type="float32[]", kind="output")
    rate = s.add("train/rate", "Const", kind="constant", type="float32[]", detail="0.001")
    for k in (2, 1, 0):
        g = s.add(f"gradients/layer{k}/ReluGrad", "ReluGrad", g, inputs[k + 1], type=f"float32[batch, {sizes[k + 1]}]")
        dw = s.add(f"gradients/layer{k}/dw", "MatMul", inputs[k], g, type=f"float32[{sizes[k]}, {sizes[k + 1]}]")
        updates.append(s.add(f"train/layer{k}/Apply", "ApplyAdam", f"layer{k}/w", dw, rate, kind="state"))
    s.add("train/group", "NoOp", control=tuple(updates), kind="control")
    return s.view()


def grid(rows: int, cols: int) -> View:
    s = Sketch()
    name = lambda i, j: f"s{i // 10}/t{j // 10}/n{i}_{j}"  # noqa: E731
    for i in range(rows):
        for j in range(cols):
            before = [name(i - 1, j)] * (i > 0) + [name(i, j - 1)] * (j > 0)
            s.add(name(i, j), "Add", *before, type="float32[8]")
    return s.view()


def chain(count: int) -> View:
    """A long chain whose first half is read again by the second, as activations are by gradients."""
    s = Sketch()
    for k in range(count):
        inputs = [f"n{k - 1}"] * (k > 0) + [f"n{count - 1 - k}"] * (k > count // 2)
        s.add(f"n{k}", "Add", *inputs, type="float32[8]")
    return s.view()


def strange() -> View:
    first = Box(EVIL, EVIL, (EVIL, "日本"), EVIL, EVIL, EVIL, "no such kind", (EVIL,) * 12, EVIL)
    return View(EVIL, (first, Box("plain", "Op")), (Wire(EVIL, "plain", EVIL),), EVIL, EVIL)


def entangled() -> View:
    """Scopes with a cycle between them, an op called like a scope, scopes of one name, one wire twice, loose boxes."""
    s = Sketch()
    s.add("a/x", "X", type="t")
    s.add("b/y", "Y", "a/x", type="t")
    s.add("a/z", "Z", "b/y", "b/y", type="t")
    s.add("b/deep/a/q", "Q", "a/z", "a/x", type="u")
    s.add("a", "A", "b/deep/a/q")
    for k in range(7):
        s.add(f"loose{k}", "Const", kind="constant")
    return s.view()


VIEWS: dict[str, Callable[[], View]] = {
    "training": training,
    "grid": lambda: grid(12, 13),
    "chain": lambda: chain(60),
    "strange": strange,
    "entangled": entangled,
    "one": lambda: View("one", (Box("a", "A"),)),
    "empty": lambda: View("empty"),
}


@pytest.fixture(params=VIEWS)
def view(request: pytest.FixtureRequest) -> View:
    return VIEWS[request.param]()


def html_data(page: str) -> Any:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    assert found
    return json.loads(found[1])


def overlap(a: Rect, b: Rect) -> bool:
    return (
        a.x + a.width > b.x + 0.01
        and b.x + b.width > a.x + 0.01
        and a.y + a.height > b.y + 0.01
        and b.y + b.height > a.y + 0.01
    )


def inside(a: Rect, b: Rect) -> bool:
    return a.x >= b.x and a.y >= b.y and a.x + a.width <= b.x + b.width and a.y + a.height <= b.y + b.height


# the model


def test_views_check_themselves() -> None:
    a, b = Box("a", "A"), Box("b", "B")
    with pytest.raises(ValueError, match="two boxes with one id: 'a'"):
        View("v", (a, b, a))
    with pytest.raises(ValueError, match="'a' -> 'c': no box 'c'"):
        View("v", (a, b), (Wire("a", "c"),))
    with pytest.raises(ValueError, match="cycle"):
        View("v", (a, b), (Wire("a", "b"), Wire("b", "a")))


def test_order_follows_wires_and_stays_in_a_scope() -> None:
    boxes = (Box("b/2", "B", ("b",)), Box("a/1", "A", ("a",)), Box("b/1", "B", ("b",)), Box("a/2", "A", ("a",)))
    view = View("v", boxes, (Wire("a/1", "a/2"), Wire("b/1", "b/2")))
    assert [view.boxes[k].id for k in view.order] == ["a/1", "a/2", "b/1", "b/2"]


def test_order_of_every_view_is_topological(view: View) -> None:
    place_of = {view.boxes[k].id: n for n, k in enumerate(view.order)}
    assert len(place_of) == len(view.boxes)
    assert all(place_of[wire.source] < place_of[wire.target] for wire in view.wires)


def test_json_round_trip(view: View) -> None:
    drawing = Drawing("d", (view, replace(view, title="again", note="n")))
    assert Drawing.from_json(json.loads(json.dumps(drawing.to_json()))) == drawing


def test_every_kind_has_a_tone() -> None:
    assert set(KINDS) == set(TONES)


# text and dot


def test_text() -> None:
    s = Sketch()
    s.add("x", "Placeholder", type="float32[batch, 4]", where="t.py:1")
    s.add("fc/w", "Variable", type="float32[4, 2]", where="t.py:2")
    s.add("fc/y", "MatMul", "x", "fc/w", type="float32[batch, 2]", where="t.py:3", detail="transpose_b=True")
    s.add("end", "NoOp", control=("fc/y",), where="t.py:4")
    expected = """\
user graph (4 nodes)
x    Placeholder  float32[batch, 4]  t.py:1
fc/
  w  Variable     float32[4, 2]      t.py:2
  y  MatMul       float32[batch, 2]  t.py:3  x, fc/w  transpose_b=True
end  NoOp                            t.py:4  ^fc/y
"""
    assert to_text(s.view()) == expected


def test_text_names_every_box(view: View) -> None:
    text = to_text(view)
    assert all(box.id.rsplit("/", 1)[-1] in text for box in view.boxes)


def test_columns() -> None:
    assert [columns(text) for text in ("ab", "é", "e\u0301", "日本")] == [2, 1, 1, 4]


def test_dot_has_balanced_clusters_and_every_box(view: View) -> None:
    dot = re.sub(r'"(\\.|[^"\\])*"', lambda match: match[0].replace("{", "(").replace("}", ")"), to_dot(view))
    assert dot.count("{") == dot.count("}")
    assert len(re.findall(r"-> ", re.sub(r'"(\\.|[^"\\])*"', "q", dot))) == len(view.wires)
    assert dot.count("subgraph") == len({box.scope[:d] for box in view.boxes for d in range(1, len(box.scope) + 1)})
    assert len(re.findall(r"fillcolor", dot)) == len(view.boxes)


# layout


def test_spread_is_least_squares() -> None:
    assert spread([0, 0], [1, 1], [2]) == [-1, 1]
    assert spread([0, 0], [3, 1], [4]) == [-1, 3]
    assert spread([0, 10, 20], [1, 1, 1], [5, 5]) == [0, 10, 20]


def test_many_kinds_of_tensors_leave_a_box_together() -> None:
    targets = tuple(Box(f"t{k}", "T") for k in range(6))
    for count, labels in ((4, {"x0", "x1", "x2", "x3"}), (6, {"6 tensors"})):
        wires = tuple(Wire("s", f"t{k}", f"x{k}") for k in range(count))
        view = View("v", (Box("s", "S"), *targets), wires)
        picture = place(view)
        assert {text for _, _, text in picture.labels} == labels
        check_picture(view, picture)


def test_links_point_down_and_share_their_way() -> None:
    items = [Item(10, 10) for _ in range(4)]
    links = [Link(0, 1, "a"), Link(1, 2, "b"), Link(2, 3, "c"), Link(0, 3, "a"), Link(0, 2, "a")]
    done = arrange(items, links)
    for link, way in zip(links, done.ways, strict=True):
        assert done.corners[link.upper][1] + 10 < done.corners[link.lower][1]
        hops = [done.hops[k] for k in way]
        assert all(before.x1 == after.x0 and before.y3 == after.y0 for before, after in pairwise(hops))
    assert done.ways[3][0] == done.ways[4][0]


def check_picture(view: View, picture: Picture) -> None:
    assert set(picture.boxes) == {box.id for box in view.boxes}
    frame = Rect(0, 0, picture.width, picture.height)
    scopes = dict(picture.scopes)
    for box in view.boxes:
        rect = picture.boxes[box.id]
        assert all(inside(rect, scopes[box.scope[:depth]]) for depth in range(1, len(box.scope) + 1))
        assert inside(rect, frame)
    shapes = [(box.scope, picture.boxes[box.id]) for box in view.boxes] + [(s[:-1], r) for s, r in picture.scopes]
    siblings: dict[tuple[str, ...], list[Rect]] = {}
    for scope, rect in shapes:
        siblings.setdefault(scope, []).append(rect)
    for rects in siblings.values():
        rects.sort(key=lambda rect: rect.y)
        for k, a in enumerate(rects):
            for b in rects[k + 1 :]:
                if b.y > a.y + a.height:
                    break
                assert not overlap(a, b)


def test_boxes_stand_in_their_scopes_and_do_not_overlap(view: View) -> None:
    check_picture(view, place(view))


def test_wires_run_from_border_to_border(view: View) -> None:
    """The pieces of a wire, put together, lead from the box that makes the tensor to the box that reads it."""
    picture = place(view)
    pieces: dict[int, list[Any]] = {}
    for trace in picture.traces:
        for wire in trace.wires:
            pieces.setdefault(wire, []).append(trace)
    assert set(pieces) == set(range(len(view.wires)))
    for number, wire in enumerate(view.wires):
        traces = pieces[number]
        assert len({trace.up for trace in traces}) == 1
        traces.sort(key=lambda trace: trace.hop.y0)
        upper, lower = (wire.target, wire.source) if traces[0].up else (wire.source, wire.target)
        start, end = picture.boxes[upper], picture.boxes[lower]
        assert math.isclose(traces[0].hop.y0, start.y + start.height, abs_tol=0.01)
        assert math.isclose(traces[-1].hop.y3, end.y, abs_tol=0.01)
        for before, after in pairwise(traces):
            assert math.isclose(before.hop.y3, after.hop.y0, abs_tol=0.01)
            assert math.isclose(before.hop.x1, after.hop.x0, abs_tol=0.01)


@pytest.mark.parametrize("make", [lambda: grid(40, 50), lambda: chain(2000)], ids=["grid", "chain"])
def test_two_thousand_boxes_in_seconds(make: Callable[[], View]) -> None:
    view = make()
    start = time.process_time()
    picture = place(view)
    assert time.process_time() - start < 8
    check_picture(view, picture)


# svg


def test_svg_parses_and_holds_every_box(view: View) -> None:
    svg = to_svg(view)
    root = ET.fromstring(svg)
    assert root.tag == f"{SVG}svg"
    boxes = [g for g in root.iter(f"{SVG}g") if g.get("data-id") is not None]
    assert len(boxes) == len(view.boxes)
    assert len([r for r in root.iter(f"{SVG}rect") if r.get("class") == "scope"]) == len(dict(place(view).scopes))
    assert re.findall(r"https?://[^\"]*", svg) == ["http://www.w3.org/2000/svg"]


def test_svg_says_type_line_and_scope() -> None:
    text = "".join(ET.fromstring(to_svg(training())).itertext())
    for wanted in ("float32[batch, 128]", "train.py:3", "layer1", "gradients", "ReluGrad", "0.001"):
        assert wanted in text


def test_svg_survives_control_characters_and_lone_surrogates() -> None:
    ET.fromstring(to_svg(View("\x00", (Box("\x01\ud800", "\x1b[0m"),))))


# html


def test_html_round_trips_and_needs_no_network(view: View) -> None:
    drawing = Drawing(EVIL, (view, replace(view, title="after fold", note="unchanged")))
    page = to_html(drawing)
    data = html_data(page)
    assert Drawing.from_json(data["drawing"]) == drawing
    assert [sorted(order) for order in data["orders"]] == [list(range(len(view.boxes)))] * 2
    assert set(re.findall(r"https?://[^\"]*", page)) == {"http://www.w3.org/2000/svg"}
    assert "default-src 'none'" in page
    assert not re.search(r"<(link|img|iframe)\b|@import|\burl\(|\bfetch\(|XMLHttpRequest", page)


def test_html_data_cannot_end_its_element() -> None:
    assert not re.search("[<>&\u2028\u2029]", json_in_html({EVIL: ["</SCRIPT>", "]]>"]}))
    page = to_html(Drawing(EVIL, (strange(),)))
    assert page.count("<script") == page.count("</script>") == 2


def test_html_of_nothing_has_one_empty_view() -> None:
    assert html_data(to_html(Drawing("none")))["drawing"]["views"] == [{"title": "graph", "boxes": [], "wires": []}]


# files


@pytest.mark.parametrize("suffix", WRITERS)
def test_files_are_written_whole_and_the_same_in_every_process(suffix: str, tmp_path: Path) -> None:
    file = tmp_path / f"graph{suffix}"
    file.write_text("old")
    show(training(), file)
    code = (
        "import json, sys\nfrom graphflow.show import Drawing, show\n"
        "show(Drawing.from_json(json.load(sys.stdin)).views[0], sys.argv[1])"
    )
    again = tmp_path / "other" / f"graph{suffix}"
    again.parent.mkdir()
    env = {**os.environ, "PYTHONHASHSEED": "7", "PYTHONPATH": os.pathsep.join(sys.path)}
    data = json.dumps(Drawing("d", (training(),)).to_json())
    subprocess.run([sys.executable, "-c", code, str(again)], input=data, text=True, check=True, env=env)
    assert file.read_bytes() == again.read_bytes()
    assert sorted(p.name for p in tmp_path.iterdir()) == [file.name, "other"]


def test_an_error_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "graph.txt"
    file.write_text("old")

    def fail(*args: Any) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        show(training(), file)
    assert file.read_text() == "old"
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize("name", ["graph.png", "graph", ".svg"])
def test_unknown_suffix(name: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"\.txt, \.dot, \.svg, \.html"):
        show(training(), tmp_path / name)


def test_without_a_file_all_views_are_printed(capsys: pytest.CaptureFixture[str]) -> None:
    import graphflow.show

    kernels = View("kernels", note="1 kernel", text="k0 = matmul")
    graphflow.show(Drawing("d", (training(), kernels)))  # type: ignore[operator]
    printed = capsys.readouterr().out
    assert printed.startswith("user graph (22 nodes)\n")
    assert printed.endswith("kernels (1 kernel)\nk0 = matmul\n")


def test_one_view_by_its_title(capsys: pytest.CaptureFixture[str]) -> None:
    drawing = Drawing("d", (training(), View("kernels", text="k0 = matmul")))
    show(drawing, view="kernels")
    assert capsys.readouterr().out == "kernels\nk0 = matmul\n"
    with pytest.raises(ValueError, match="there is no view 'kernel'; there are 'user graph', 'kernels'"):
        show(drawing, view="kernel")


# the user's graph


class FakeGraph:
    """What the adapter needs of a graph: operations with name, type, inputs, control_inputs, source, outputs."""

    def __init__(self) -> None:
        self.operations: list[Any] = []

    def get_operations(self) -> list[Any]:
        return self.operations

    def add(self, name: str, type_: str, *inputs: Any, control: tuple[Any, ...] = (), **attrs: Any) -> Any:
        op = SimpleNamespace(name=name, type=type_, inputs=inputs, control_inputs=control, attrs=attrs)
        op.id, op.source = len(self.operations), Source("/home/me/train.py", len(self.operations) + 1, "main")
        op.outputs = [SimpleNamespace(op=op, name=f"{name}:0", dtype="float32", shape=(None, 3))]
        self.operations.append(op)
        return op.outputs[0]


def small_graph() -> tuple[FakeGraph, Any]:
    graph = FakeGraph()
    x = graph.add("x", "Placeholder")
    w = graph.add("fc/w", "VariableV2")
    graph.add("fc/w/Assign", "Assign", w)
    y = graph.add("fc/mul", "Mul", x, w, axis=(0, 1))
    two = graph.add("fc/add/y", "Const", value=2.0)
    z = graph.add("fc/add", "Add", y, two, control=(x.op,))
    return graph, z


def test_user_graph() -> None:
    graph, _ = small_graph()
    view = view_of_user_graph(graph)
    boxes = {box.id: box for box in view.boxes}
    assert boxes["fc/mul"] == Box(
        "fc/mul", "Mul", ("fc",), "mul", "axis=(0, 1)", "train.py:4", "op", (), "float32[?, 3]"
    )
    assert [boxes[name].kind for name in ("x", "fc/w", "fc/w/Assign", "fc/add/y")] == [
        "input",
        "variable",
        "state",
        "constant",
    ]
    assert Wire("x", "fc/mul", "float32[?, 3]") in view.wires
    assert Wire("x", "fc/add", "", True) in view.wires


def test_operations_that_are_scopes() -> None:
    """A variable stands in one scope with its initializer; the constant operand of an op makes no scope."""
    boxes = {box.id: box for box in view_of_user_graph(small_graph()[0]).boxes}
    assert boxes["fc/w"].scope == boxes["fc/w/Assign"].scope == ("fc", "w")
    assert boxes["fc/add"].scope == boxes["fc/add/y"].scope == ("fc",)
    assert boxes["fc/add/y"].title == "2.0"


def test_tensors_show_what_they_need() -> None:
    _, z = small_graph()
    view = view_of_user_graph({"fetch": [z, (z.op, None)]})
    assert [box.id for box in view.boxes] == ["x", "fc/w", "fc/mul", "fc/add/y", "fc/add"]
    assert view.boxes[-1].kind == "output"
    with pytest.raises(TypeError, match="not int"):
        view_of_user_graph([z, 3])


def test_deep_graphs_need_no_recursion(capsys: pytest.CaptureFixture[str]) -> None:
    graph = FakeGraph()
    x = graph.add("x0", "Placeholder")
    for k in range(3000):
        x = graph.add(f"x{k + 1}", "Tanh", x)
    show(x)
    assert "x3000" in capsys.readouterr().out


def test_program() -> None:
    """The compiler's nodes keep the numbers of the printed program and stand in the scopes of the user."""
    source = Source("/home/me/train.py", 7, "main")
    x, one = node("Feed", (), {"feed": 0, "type": "float32[batch]"}), node("Const", (), {"value": 1.0})
    w = node("Variable", (), {"variable": "fc/w", "type": "float32[batch]"})
    y = node("Add", (node("Mul", (x, w)), one))
    program = SimpleNamespace(
        nodes=lambda: [x, w, y.inputs[0], one, y],
        outputs=(y, y),
        updates=(("fc/w", y),),
        origins={y: (SimpleNamespace(name="fc/add", op="Add", source=source),)},
    )
    view = view_of_program("after fold", program, "5 nodes, 0.1 ms")
    boxes = {box.id: box for box in view.boxes}
    assert [box.title for box in view.boxes] == ["feed 0", "w", "Mul", "1.0", "Add", "fetch 0", "fetch 1", "fc/w :="]
    assert boxes["%1"].scope == ("fc",)
    assert boxes["%4"] == Box("%4", "Add", ("fc",), "Add", "", "train.py:7", "op", (), "float32[batch]")
    assert [boxes[name].kind for name in ("%0", "%1", "%3", "fetch 0", "fc/w :=")] == [
        "input",
        "variable",
        "constant",
        "output",
        "state",
    ]
    assert {(wire.source, wire.target) for wire in view.wires} == {
        ("%0", "%2"),
        ("%1", "%2"),
        ("%2", "%4"),
        ("%3", "%4"),
        ("%4", "fetch 0"),
        ("%4", "fetch 1"),
        ("%4", "fc/w :="),
    }


def node(op: str, inputs: tuple[Any, ...], attrs: dict[str, Any] | None = None) -> Any:
    class Node:
        pass

    made = Node()
    made.__dict__.update(op=SimpleNamespace(name=op), inputs=inputs, attrs=attrs or {}, type="float32[batch]")
    return made
