"""`graphflow bench`: the workloads' tables, a run from end to end, operations counted, pictures. No timings."""

import ast
import io
import json
import os
import re
import subprocess
import sys
import tomllib
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import graphflow as tf
from benchmarks import busy_neighbour
from graphflow import cli
from graphflow.bench import chart, command, kernels, numpy_peer, ocean, roofline, run, tf1, worker, workloads
from graphflow.bench.run import Row, Timing
from graphflow.bench.workloads import WORKLOADS, Workload, select
from graphflow.compiler.loops.work import Work
from graphflow.runtime.profile import time_kernels

FOLDER = Path(workloads.__file__).parent
QUICK = Timing(rounds=2, seconds=0.0, pause=0.0)
LIMITS = roofline.Limits(
    1,
    {"float32": 1e11, "float64": 5e10},
    {name: [(1 << 20, 4e10), (1 << 24, 2e10)] for name in ("read", "copy", "triad", "stream")},
)
SMALL = ["gemm:5x7x3", "softmax:3x4", "mlp_train:4x6x5x3", "loop:4"]


@pytest.fixture(scope="module")
def known_limits() -> Iterator[None]:
    """Nothing is measured of the machine."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kernels, "_measured", [LIMITS, LIMITS])
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the run of `results` writes."""
    return tmp_path_factory.mktemp("bench")


@pytest.fixture(scope="module")
def results(known_limits: None, folder: Path) -> dict[str, Any]:
    """A run of small workloads beside NumPy, all in this process."""
    clients = {name: worker.Bench(name) for name in ("graphflow", "numpy")}
    options = command.Options(timing=QUICK, out=folder)
    return command.compare_and_report(clients, select(SMALL), options, io.StringIO())


# workloads


def test_patterns_select_in_their_order() -> None:
    assert [w.name for w in select(["bmm_1*", "chain"])] == ["bmm_16", "chain"]
    assert [w.size for w in select(["gemm:3x4x5xfloat64", "call:"])] == [(3, 4, 5, "float64"), ()]


@pytest.mark.parametrize(
    "pattern, says",
    [
        ("gem", "no workload is called 'gem'"),
        ("nothing:3", "no workload is of the kind 'nothing'"),
        ("gemm:3x4", "gemm:3x4: a size of gemm is m x k x n x dtype='float32'"),
        ("gemm:3x4xfloat64", "a size of gemm is m x k x n x dtype='float32'"),
        ("softmax:3x4x5", "a size of softmax is m x n"),
        ("call:3", "a size of call is empty"),
        ("bmm:3x4xfloat16", "'float16' is neither a number nor float32 nor float64"),
    ],
)
def test_patterns_that_name_nothing_are_errors(pattern: str, says: str) -> None:
    with pytest.raises(ValueError, match=re.escape(says)):
        select([pattern])


def test_every_kind_has_a_size_a_graphflow_text_and_arrays_that_agree_each_time() -> None:
    assert {w.kind for w in WORKLOADS} == set(workloads.KINDS) == set(tf1.FORMULAS)
    for kind in ("mlp_train", "transformer_train", "density"):
        workload = next(w for w in WORKLOADS if w.kind == kind)
        first, second = ([*fed, *weights] for fed, weights in (workload.arrays(), workload.arrays()))
        assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize("module", set(worker.FRAMEWORKS.values()))
def test_no_peer_has_a_text_without_a_workload(module: str) -> None:
    tree = ast.parse((FOLDER / f"{module}.py").read_text("utf-8"))
    declared = [node for node in ast.walk(tree) if isinstance(node, ast.AnnAssign | ast.Assign)]
    tables = [node.value for node in declared if isinstance(node.value, ast.Dict) and "FORMULAS" in ast.dump(node)]
    names = {key.value for table in tables for key in table.keys if isinstance(key, ast.Constant)}
    assert names <= set(workloads.KINDS)


# The check values published with the formula: UNESCO technical papers in marine science 44, and 38 for 1000 bar.
@pytest.mark.parametrize(
    "salinity, temperature, pressure, density",
    [(0, 5, 0, 999.96675), (35, 5, 0, 1027.67547), (35, 25, 1000, 1062.53817), (0, 5, 1000, 1044.12802)],
)
def test_sea_water_has_its_published_density(
    salinity: float, temperature: float, pressure: float, density: float
) -> None:
    def at(bar: float) -> float:
        s, t, p = (np.float64(v) for v in (salinity, temperature, bar))
        return float(ocean.sea_water_density(s, t, p, np.sqrt))

    surface, _ = ocean.sea_water_surface(np.float64(salinity), np.float64(temperature), np.sqrt)
    assert surface + at(pressure) - at(0) == pytest.approx(density, abs=1e-5)


def test_isoneutral_mixing_is_full_along_level_surfaces_and_stops_where_they_are_steep() -> None:
    z = np.linspace(-1000.0, 0.0, 9)
    x = np.arange(5.0)[:, None, None]
    level = np.broadcast_to(10 + z / 100, (5, 6, 9)) + 0.0
    salt, sea = np.full((5, 6, 9), 35.0), np.ones((5, 6, 9))
    sea[1, 1] = 0
    flat = numpy_peer.isoneutral(level, salt, sea, z)
    full = ocean.STRENGTH * 0.5 * (1 + np.tanh(ocean.STEEPEST / ocean.FADING))
    np.testing.assert_allclose(flat[0, 2:, 2:], full)
    assert not flat[2].any()
    assert not flat[:, 0, 0].any()
    gentle = numpy_peer.isoneutral(level + 0.01 * x, salt, sea, z)
    slope = 0.01 / ocean.DX / (1 / 100)  # isotherms rise by so much a metre
    left = 0.5 * (1 + np.tanh((ocean.STEEPEST - slope) / ocean.FADING))
    np.testing.assert_allclose(gentle[0, 2:, 2:], ocean.STRENGTH * left, rtol=1e-6)
    np.testing.assert_allclose(gentle[2, 2:, 2:], ocean.STRENGTH * left * slope**2, rtol=1e-6)
    assert numpy_peer.isoneutral(level + 5000.0 * x, salt, sea, z)[0].max() < 1e-3 * full


# the run


def test_results_have_a_row_for_each_workload(results: dict[str, Any], folder: Path) -> None:
    assert json.loads((folder / "bench.json").read_text("utf-8")) == json.loads(json.dumps(results))
    assert {"format", "graphflow", "machine", "frameworks", "timing", "geometric_mean", "limits", "rows"} == set(
        results
    )
    assert [row["name"] for row in results["rows"]] == SMALL
    gemm, softmax, mlp, loop = results["rows"]
    for row in (gemm, softmax):
        assert set(row["seconds"]) == {"graphflow", "numpy"}
        assert all(seconds > 0 for seconds in row["seconds"].values())
        assert row["best_peer"] == "numpy"
        assert row["ratio"] == pytest.approx(row["seconds"]["numpy"] / row["seconds"]["graphflow"])
        assert row["disagree"] == []
    assert mlp["unavailable"] == {"numpy": "not written for numpy"}
    assert mlp["ratio"] is None
    assert not any(row["failed"] for row in results["rows"])
    assert "graphflow" in loop["seconds"] or "while_loop" in loop["unavailable"]["graphflow"]


def test_kernels_count_flops_bytes_and_name_their_lines(results: dict[str, Any]) -> None:
    (gemm,) = results["rows"][0]["kernels"]
    assert (gemm["flops"], gemm["operations"]) == (2 * 5 * 7 * 3, 0)
    assert (gemm["read"], gemm["written"]) == (4 * (5 * 7 + 7 * 3), 4 * 5 * 3)
    assert gemm["share"] == pytest.approx(gemm["limit_seconds"] / gemm["seconds"])
    assert all(source.startswith("tf1.py:") for source in gemm["sources"])
    products = [kernel["flops"] for kernel in results["rows"][2]["kernels"]]
    forward, gradients = 2 * 4 * (6 * 5 + 5 * 3), 2 * 4 * (6 * 5 + 2 * 5 * 3)
    assert sum(products) == forward + gradients


def test_elementwise_kernels_count_instructions_and_bytes() -> None:
    (kernel,) = kernels.profile(Workload("axpy", "axpy", (1000,)), seconds=0.0)
    assert kernel.work == Work(flops=0, operations=2 * 1000, read=2 * 4000, written=4000)


def test_timing_kernels_leaves_the_session_alone() -> None:
    program = tf1.Program(tf, Workload("mlp_train", "mlp_train", (4, 6, 5, 3)))
    program.session.run(program.fetches, dict(zip(program.feeds, program.values, strict=True)))
    variables = program.session._state.values
    before = {name: value.copy() for name, value in variables.items()}
    executable = next(one for fetches, one in program.session.compiled() if fetches == tuple(program.fetches))
    found = time_kernels(executable, program.values, variables, seconds=0.0)
    assert all(kernel.seconds > 0 and kernel.launches for kernel in found)
    assert len(found) == len(executable.plan.steps)
    for name, value in before.items():
        np.testing.assert_array_equal(variables[name], value)


def test_a_row_says_whose_result_differs() -> None:
    row = Row("x", "", [], check={"graphflow": [1.0, 2.0], "jax": [1.0, 2.0001], "torch": [float("nan"), 2.0]})
    assert row.disagree == ["torch"]
    row.dtype = dict.fromkeys(row.check, "float64")
    assert row.disagree == ["jax", "torch"]


def test_a_worker_is_a_process_that_answers_and_is_started_again() -> None:
    request = {"do": "build", "name": "call", "kind": "call", "size": []}
    with run.Worker("numpy") as client:
        assert client.hello()["version"] == np.__version__
        assert client.answer(request)["check"] == [2.0, 2.0]
        assert client.answer({**request, "kind": "conv3x3"}) == {"unavailable": "not written for numpy"}
        client.process.kill()
        client.process.wait()
        assert client.answer(request)["check"] == [2.0, 2.0]
    assert client.process.poll() is not None


def test_a_peer_that_is_not_there_is_said_and_the_others_go_on() -> None:
    with run.Worker("tf115") as client:
        if "version" in client.hello():
            pytest.skip("TensorFlow is here")
        clients = {"tf115": client, "numpy": worker.Bench("numpy")}
        row = run.measure_row(clients, select(["call"])[0], QUICK)
    assert "No module named 'tensorflow'" in row.failed["tf115"]
    assert set(row.seconds) == {"numpy"}


# who may import what


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        if isinstance(node, ast.ImportFrom):
            yield node.module or ""


PEERS = {"jax", "numba", "pytensor", "tensorflow", "torch"}


def test_only_their_own_files_import_peers_and_only_workers_import_those() -> None:
    for path in FOLDER.parent.rglob("*.py"):
        for module in imports(path):
            assert module.partition(".")[0] not in PEERS or path.stem.endswith("_peer"), path
            assert not module.startswith("graphflow.bench.") or not module.endswith("_peer"), path


@pytest.mark.parametrize("name", ["__init__", "worker", "workloads", "ocean", "tf1"])
def test_what_tensorflow_115_reads_is_python_37_and_no_more_of_graphflow(name: str) -> None:
    path = FOLDER / f"{name}.py"
    ast.parse(path.read_text("utf-8"), feature_version=(3, 7))
    ours = {module for module in imports(path) if module.startswith("graphflow")}
    assert ours <= {"graphflow.bench.ocean", "graphflow.bench.workloads"}


def test_a_peers_process_does_not_run_graphflow() -> None:
    program = "import sys; from graphflow.bench import worker as w; print(w.__name__)"
    empty = (
        f"import runpy, sys; w = runpy.run_path({str(FOLDER / 'worker.py')!r}); w['enter_package']('numpy'); {program};"
        "print([m for m in sys.modules if m.startswith(('graphflow', 'llvmlite'))])"
    )
    done = subprocess.run([sys.executable, "-c", empty], capture_output=True, text=True, check=False)
    assert done.stderr == ""
    assert done.stdout.splitlines()[1] == "['graphflow', 'graphflow.bench', 'graphflow.bench.worker']"


# the machine


def test_limits_are_measured() -> None:
    found = roofline.measure(1, seconds=0.0, most_bytes=1 << 20)
    assert found.flops["float32"] > found.flops["float64"] > 1e8
    for curve in found.curves.values():
        assert all(size <= 1 << 20 and rate > 1e7 for size, rate in curve)


def test_the_limit_is_the_slower_of_computing_and_moving() -> None:
    product = Work(flops=2 * 10**9, operations=0, read=4 * 10**6, written=10**6)
    assert LIMITS.seconds(product, "float32") == pytest.approx(0.02)
    assert LIMITS.seconds(product, "float64") == pytest.approx(0.04)
    addition = Work(flops=0, operations=10**7, read=8 * 10**7, written=4 * 10**7)
    assert LIMITS.seconds(addition, "float32") == pytest.approx(12e7 / 2e10)
    assert LIMITS.bandwidth(1 << 22, writes=False) == pytest.approx(3e10)


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="this system does not pin processes to CPUs")
def test_a_neighbour_is_busy_while_steps_are_timed_and_gone_afterwards() -> None:
    cpu = max(os.sched_getaffinity(0))
    with busy_neighbour.neighbour(cpu) as process:
        assert process.poll() is None
        assert os.sched_getaffinity(process.pid) == {cpu}
    assert process.poll() is not None
    (workload,) = select(["softmax:3x4"])
    clients = {name: worker.Bench(name) for name in ("graphflow", "numpy")}
    found = busy_neighbour.measure(clients, workload, 1, 0.0, cpu)
    assert set(found) == {"graphflow", "numpy"}
    assert all(quiet > 0 and busy > 0 for quiet, busy in found.values())
    assert len(busy_neighbour.table(workload, found).splitlines()) == 3


# pictures and the command


def test_pictures_are_well_formed(results: dict[str, Any], folder: Path) -> None:
    for name in ("ratios.svg", "roofline.svg"):
        assert ET.parse(folder / name).getroot().tag == "{http://www.w3.org/2000/svg}svg"
    dots = ET.parse(folder / "ratios.svg").findall(".//*[@class='dot']")
    assert len(dots) == sum(row["ratio"] is not None for row in results["rows"])


def test_pictures_of_nothing_are_well_formed() -> None:
    ET.fromstring(chart.ratios_svg({"rows": [], "frameworks": {}}))
    ET.fromstring(chart.roofline_svg([], [LIMITS.as_json()]))


def test_table_of_kernels_has_a_line_for_each(known_limits: None) -> None:
    answer = kernels.answer({"do": "kernels", "name": "softmax:3x4", "kind": "softmax", "size": [3, 4]})
    table = kernels.kernel_table(answer["kernels"])
    assert len(table.splitlines()) == len(answer["kernels"]) + 2
    assert "Exp" in table
    assert "1 core: float32 100 Gflop/s" in kernels.limits_table(LIMITS, LIMITS)


def test_the_command_lists_workloads(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["bench", "--list"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == len(WORKLOADS)


@pytest.mark.parametrize(
    "argv",
    [["--only", "nothing"], ["--peers", "mxnet"], ["--pin", "x"], ["--rounds", "0"], ["--kernels"]],
    ids=" ".join,
)
def test_wrong_usage_exits_with_2(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        cli.main(["bench", *argv])
    assert stop.value.code == 2


def test_the_extra_installs_every_peer_that_can_share_a_python() -> None:
    project = tomllib.loads((FOLDER.parents[1] / "pyproject.toml").read_text("utf-8"))["project"]
    named = {re.split(r"[>=; ]", text)[0] for text in project["optional-dependencies"]["bench"]}
    modules = {command.MODULES.get(name, name) for name in worker.FRAMEWORKS if name not in command.ELSEWHERE}
    assert named == {"tensorflow-cpu" if m == "tensorflow" else m for m in modules - {"numpy"}}


def test_peers_are_named_with_or_without_an_interpreter() -> None:
    assert command.frameworks(["numpy", "jax=/opt/python"]) == {
        "graphflow": sys.executable,
        "numpy": sys.executable,
        "jax": "/opt/python",
    }
    assert "numpy" in command.frameworks(None)


def test_numpy_texts_compute_what_graphflows_do() -> None:
    for name in ("chain:9", "layernorm:3x8", "attention:1x2x3x4", "density:5", "isoneutral:5x4", "dense:2x3x4"):
        (workload,) = select([name])
        ours = worker.Bench("graphflow").make_step(workload)()
        np.testing.assert_allclose(ours, numpy_peer.make_step(workload)(), rtol=2e-4, atol=1e-5)
