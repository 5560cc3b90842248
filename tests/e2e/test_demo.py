"""`graphflow demo` on a few hundred digits: what it says, what it learns, and the pages that it draws."""

from __future__ import annotations

import io
import json
import re
from dataclasses import dataclass
from pathlib import Path

import pytest

from graphflow.data import mnist
from graphflow.demo import run
from graphflow.show import Drawing, View


@dataclass
class Demo:
    """A finished run: what it printed, the accuracies it returned, and where its pages are."""

    text: str
    accuracies: dict[str, float]
    pages: dict[str, Path]


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Demo:
    digits = mnist.load()
    few = mnist.Mnist(
        mnist.Digits(digits.train.images[:640], digits.train.labels[:640]),
        mnist.Digits(digits.test.images[:200], digits.test.labels[:200]),
    )
    html = tmp_path_factory.mktemp("demo") / "graph.html"
    out = io.StringIO()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mnist, "load", lambda directory=None: few)
        accuracies = run.run_demo(run.Options(epochs=1, html=html), out)
    return Demo(out.getvalue(), accuracies, {"mlp": html, "cnn": html.with_stem("graph-cnn")})


def views(page: Path) -> dict[str, View]:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page.read_text("utf-8"), re.DOTALL)
    assert found
    return {view.title: view for view in Drawing.from_json(json.loads(found[1])["drawing"]).views}


def test_it_learns(demo: Demo) -> None:
    assert all(accuracy > 0.4 for accuracy in demo.accuracies.values())


def test_it_says_how_it_goes(demo: Demo) -> None:
    lines = [line for line in demo.text.splitlines() if line]
    assert lines[0] == "640 images to learn from, 200 to be tested on"
    assert "LeCun" in lines[1]
    for (heading, epoch, end), name in zip((lines[2:5], lines[5:8]), demo.pages, strict=True):
        assert heading.startswith(f"{name}: ")
        assert re.fullmatch(
            r"epoch 1/1  100%  loss \d\.\d{4} +[\d,]+ images/s  \d+\.\d s  test accuracy [\d.]+%", epoch
        )
        assert re.fullmatch(rf"compiled in [\d.]+ s, ran for [\d.]+ s; drawn in {demo.pages[name]}: .*", end)
    assert len(lines) == 8


@pytest.mark.parametrize("name", ["mlp", "cnn"])
def test_the_page_has_the_users_graph_every_pass_and_the_kernels(name: str, demo: Demo) -> None:
    found = views(demo.pages[name])
    assert list(found)[:3] == ["user graph", "after capture", "after differentiate"]
    assert list(found)[-1] == "kernels"
    assert all(view.boxes and view.wires for view in found.values())
    assert all(box.where.startswith((name, "layers", "run")) for box in found["user graph"].boxes)
    assert re.match(r"\d+ kernels, \d+ launches, llvm \d+ ms, arena [\d.]+ [kM]?B$", found["kernels"].note)


@pytest.mark.parametrize("name, layers", [("mlp", 2), ("cnn", 4)])
def test_the_kernels_are_those_of_a_training_step(name: str, layers: int, demo: Demo) -> None:
    boxes = views(demo.pages[name])["kernels"].boxes
    contractions = [box for box in boxes if box.op == "contraction"]
    assert len(contractions) == 3 * layers - 1  # forward and two gradients a layer, none for the images
    assert all(box.members and box.where for box in boxes if box.kind == "kernel")
    updated = {box.label for box in boxes if box.kind == "state"}
    assert {"hidden/w", "hidden/b", "output/w", "output/b"} <= updated
    assert {box.label for box in boxes if box.kind == "input"} == {"images", "labels"}
    assert [box.label for box in boxes if box.kind == "output"] == ["loss"]


@pytest.mark.parametrize("place", ["nowhere/graph.html", "folder.html"])
def test_a_page_that_cannot_be_written_is_an_error_before_training(place: str, tmp_path: Path) -> None:
    (tmp_path / "folder.html").mkdir()
    out = io.StringIO()
    with pytest.raises(OSError, match=r"No such file or directory|Is a directory"):
        run.run_demo(run.Options(html=tmp_path / place), out)
    assert out.getvalue() == ""
