"""The programs that a newcomer starts: the command `graphflow`, and the examples."""

import io
import os
import re
import runpy
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import graphflow
from graphflow import cli
from graphflow.compiler.cache import Cache
from graphflow.core.errors import FailedPreconditionError
from graphflow.data import mnist
from graphflow.demo import run
from graphflow.runtime import threads

ROOT = Path(__file__).resolve().parent.parent.parent
COMMAND = [sys.executable, "-m", "graphflow"]


def small_digits() -> mnist.Mnist:
    """Digits enough to see a full demo in a moment; 150 is no multiple of the batch sizes."""
    digits = mnist.load()
    train, test = (
        mnist.Digits(part.images[:n], part.labels[:n]) for part, n in ((digits.train, 150), (digits.test, 70))
    )
    return mnist.Mnist(train, test)


@pytest.fixture
def few_digits(monkeypatch: pytest.MonkeyPatch) -> None:
    digits = small_digits()
    monkeypatch.setattr(mnist, "load", lambda directory=None: digits)


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        cli.main(["--version"])
    assert stop.value.code == 0
    assert capsys.readouterr().out == f"graphflow {graphflow.__version__}\n"


def test_info_names_versions_cpu_and_threads(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["info"]) == 0
    rows = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert rows["numpy"] == np.__version__
    assert int(rows["threads"]) >= 1
    assert {"graphflow", "python", "networkx", "llvmlite", "cpu", "vectors", "caches"} <= rows.keys()


def test_cache_says_where_and_how_much_and_clears(cache_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Cache(cache_folder, 10**6).write("0" * 64, bytes(1000))
    assert cli.main(["cache", "info"]) == 0
    rows = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert rows == {"folder": str(cache_folder), "entries": "1", "size": "0.0 MB of at most 512 MB"}
    assert cli.main(["cache", "clear"]) == 0
    assert capsys.readouterr().out == f"1 entries removed from {cache_folder}\n"
    assert list(cache_folder.iterdir()) == []


@pytest.mark.parametrize("action", ["info", "clear"])
def test_cache_turned_off(action: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["cache", action]) == 0
    assert "turned off" in capsys.readouterr().out


WRONG_USAGE = {
    "no command": [],
    "unknown command": ["train"],
    "unknown network": ["demo", "--net", "rnn"],
    "no epochs": ["demo", "--epochs", "0"],
    "a word for a number": ["demo", "--threads", "many"],
    "a picture that is no page": ["demo", "--html", "graph.png"],
    "negative seed": ["demo", "--seed", "-1"],
}


@pytest.mark.parametrize("argv", WRONG_USAGE.values(), ids=WRONG_USAGE.keys())
def test_wrong_usage_exits_with_2(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        cli.main(argv)
    assert stop.value.code == 2
    assert "usage: graphflow" in capsys.readouterr().err


def test_missing_data_is_one_line_and_exit_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["demo", "--data", str(tmp_path)]) == cli.FAILED
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"graphflow: {tmp_path} lacks train-images-idx3-ubyte")


@pytest.mark.usefixtures("few_digits")
def test_place_that_cannot_be_drawn_to_fails_before_training(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["demo", "--html", str(tmp_path / "nowhere" / "graph.html")]) == cli.FAILED
    captured = capsys.readouterr()
    assert "No such file or directory" in captured.err
    assert "epoch" not in captured.out


@pytest.mark.parametrize(
    "error, code, message",
    [
        (KeyboardInterrupt(), cli.INTERRUPTED, "graphflow: interrupted\n"),
        (mnist.DataError("x: truncated"), cli.FAILED, "graphflow: x: truncated\n"),
        (FailedPreconditionError("w was not initialized"), cli.FAILED, "graphflow: w was not initialized\n"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_failures_are_one_line_and_an_exit_code(
    error: BaseException,
    code: int,
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail(*arguments: object) -> None:
        raise error

    monkeypatch.setattr(run, "run_demo", fail)
    assert cli.main(["demo"]) == code
    assert capsys.readouterr().err == message


@pytest.mark.skipif(os.name != "posix", reason="pipes elsewhere end in other ways")
def test_nobody_reading_is_no_error_message() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [*COMMAND, "info"], cwd=ROOT, stdout=writer, stderr=subprocess.PIPE, text=True, check=False, timeout=60
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (cli.NOBODY_READS, "")


def test_networks_on_offer_are_those_of_the_demo() -> None:
    assert cli.NETWORKS["both"] == tuple(run.RECIPES)


@pytest.mark.usefixtures("few_digits")
def test_demo_reports_each_epoch_and_draws_each_graph(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    html = tmp_path / "graph.html"
    assert cli.main(["demo", "--epochs", "2", "--html", str(html)]) == 0
    out = capsys.readouterr().out
    assert "LeCun" in out
    epochs = re.findall(r"epoch (\d)/2 +100% +loss (\S+) +\S+ images/s .* test accuracy (\S+)%", out)
    assert [epoch for epoch, _, _ in epochs] == ["1", "2", "1", "2"]
    assert float(epochs[1][1]) < float(epochs[0][1])
    assert len(re.findall(r"^compiled in \S+ s, ran for \S+ s", out, re.MULTILINE)) == 2
    assert "<html" in html.read_text("utf-8")
    assert (tmp_path / "graph-cnn.html").is_file()


def test_options_reach_the_demo_and_the_runtime(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[object] = []
    monkeypatch.setattr(threads, "set_thread_count", seen.append)
    monkeypatch.setattr(run, "run_demo", lambda options, out: seen.append(options))
    argv = ["demo", "--net", "cnn", "--data", "d", "--epochs", "3", "--html", "g.html", "--threads", "2", "--seed", "7"]
    assert cli.main(argv) == 0
    assert seen == [2, run.Options(("cnn",), Path("d"), epochs=3, html=Path("g.html"), seed=7)]


@pytest.mark.usefixtures("few_digits")
def test_the_seed_decides_the_result(tmp_path: Path) -> None:
    def losses(seed: int) -> list[str]:
        out = io.StringIO()
        run.run_demo(run.Options(("mlp",), epochs=1, html=tmp_path / "graph.html", seed=seed), out)
        return re.findall(r"loss (\S+)", out.getvalue())

    assert losses(3) == losses(3)
    assert losses(3) != losses(4)


@pytest.mark.parametrize("name", ["linear_regression", "gradients", "mnist_mlp"])
def test_examples_run(name: str) -> None:
    with graphflow.Graph().as_default():
        runpy.run_path(str(ROOT / "examples" / f"{name}.py"))


@pytest.mark.soak
def test_the_whole_demo_learns_within_a_minute(tmp_path: Path) -> None:
    start = time.perf_counter()
    accuracies = run.run_demo(run.Options(html=tmp_path / "graph.html"), sys.stdout)
    assert time.perf_counter() - start < 60
    assert accuracies["mlp"] > 0.92
    assert accuracies["cnn"] > 0.94
