"""`tf.profile`, `RunMetadata` and perf maps: what they say is whole, nested, and adds up."""

import ctypes
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import graphflow as tf
from graphflow.compiler.llvm import halves, stamps
from graphflow.python.client import timeline
from graphflow.runtime import (
    bound,
    native_call,
    perf_map,
    recorded_threads,
    recording,
    run_log,
    run_log_code,
    run_plan,
    timed,
)
from graphflow.runtime.events import kernel_events
from graphflow.runtime.threads import set_thread_count, thread_count
from graphflow.runtime.totals import launch_seconds

FULL_TRACE = tf.RunOptions(trace_level=tf.RunOptions.FULL_TRACE)
ROUNDING = 1.0  # microseconds: stamps and runs are of one clock, but a float holds them in microseconds
Event = dict[str, Any]


class Model:
    """A perceptron and its training step, in a session of its own."""

    def __init__(self) -> None:
        with tf.Graph().as_default() as graph:
            self.x = tf.placeholder(tf.float32, [None, 256], name="x")
            with tf.name_scope("layer"):
                self.w = tf.Variable(tf.fill([256, 256], 0.01), name="w")
                self.y = tf.tanh(tf.matmul(self.x, self.w), name="y")
            self.loss = tf.reduce_mean(tf.square(self.y), name="loss")
            self.step = tf.train.GradientDescentOptimizer(0.1).minimize(self.loss, name="step")
            self.initialize = tf.global_variables_initializer()
        self.session = tf.Session(graph=graph)
        self.session.run(self.initialize)
        self.feed = {self.x: np.random.default_rng(0).random((128, 256), np.float32)}

    def run(self) -> Any:
        return self.session.run([self.step, self.loss], self.feed)[1]


@pytest.fixture
def model() -> Iterator[Model]:
    made = Model()
    yield made
    made.session.close()


@pytest.fixture(params=[1, 2])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    before = thread_count()
    set_thread_count(request.param)
    yield request.param
    set_thread_count(before)


def complete(trace: Any, category: str) -> list[Event]:
    return [event for event in trace["traceEvents"] if event["ph"] == "X" and event["cat"] == category]


def inside(event: Event, outer: Event) -> bool:
    ends = [one["ts"] + one["dur"] for one in (event, outer)]
    return bool(outer["ts"] - ROUNDING <= event["ts"] and ends[0] <= ends[1] + ROUNDING)


def test_a_trace_has_every_run_with_its_kernels_inside(model: Model, tmp_path: Path, threads: int) -> None:
    with tf.profile(tmp_path / "trace.json") as p:
        for _ in range(5):
            model.run()
    trace = json.loads((tmp_path / "trace.json").read_text())
    assert trace == json.loads(json.dumps(p.trace()))
    runs, kernels = complete(trace, "run"), complete(trace, "kernel")
    assert (p.runs, p.dropped, len(runs)) == (5, 0, 5)
    plan = model.session.compiled()[-1][1].plan
    for run in runs:
        mine = [k for k in kernels if inside(k, run)]
        assert {k["name"].split()[0] for k in mine} == {step.kernel.name for step in plan.steps}
        assert {k["pid"] for k in mine} == {run["pid"]}
    assert len({k["tid"] for k in kernels}) <= threads
    assert all(any(inside(k, run) for run in runs) for k in kernels)
    names = {e["tid"]: e["args"]["name"] for e in trace["traceEvents"] if e["name"] == "thread_name"}
    assert names[runs[0]["tid"]] == "MainThread"
    assert set(names) >= {k["tid"] for k in kernels}


def test_events_of_a_thread_do_not_overlap(model: Model, threads: int) -> None:
    with tf.profile() as p:
        for _ in range(5):
            model.run()
    kernels = complete(p.trace(), "kernel")
    for tid in {k["tid"] for k in kernels}:
        mine = sorted((k for k in kernels if k["tid"] == tid), key=lambda k: k["ts"])
        assert all(a["ts"] + a["dur"] <= b["ts"] + ROUNDING for a, b in pairwise(mine))


def test_kernels_say_what_they_are(model: Model) -> None:
    with tf.profile(roofline=True) as p:
        model.run()
    args = next(k["args"] for k in complete(p.trace(), "kernel") if "Tanh" in k["args"]["ops"])
    assert "MatMul" in args["ops"]
    assert "layer/y" in args["operations"]
    assert any(line.startswith("test_profiling.py:") for line in args["lines"])
    assert args["flop"] >= 2 * 128 * 256 * 256
    assert args["bytes"] >= 4 * (2 * 128 * 256 + 256 * 256)
    assert args["GFLOP/s"] == pytest.approx(args["flop"] / args["kernel_us"] * 1e-3)
    assert args["GB/s"] == pytest.approx(args["bytes"] / args["kernel_us"] * 1e-3)
    assert args["share_of_limit"] > 0


def test_recording_changes_no_value(threads: int) -> None:
    plain, recorded = Model(), Model()
    expected = [plain.run() for _ in range(4)]
    values = [recorded.run()]
    with tf.profile():
        values += [recorded.run() for _ in range(2)]
    values.append(recorded.run())
    assert values == expected
    plain.session.close()
    recorded.session.close()


@pytest.mark.parametrize("by", ["op", "scope", "line", "kernel"])
def test_tables_add_up(model: Model, by: str, threads: int) -> None:
    with tf.profile() as p:
        for _ in range(300):  # more than are added up at once
            model.run()
    rows, kernels = p.rows(by), p.rows("kernel")
    for amount in ("seconds", "bytes"):
        assert sum(row[amount] for row in rows) == pytest.approx(sum(row[amount] for row in kernels))
    assert sum(row["share"] for row in rows) == pytest.approx(1)
    assert 0 < sum(row["seconds"] for row in rows) <= p.seconds
    assert [row["seconds"] for row in rows] == sorted((row["seconds"] for row in rows), reverse=True)
    assert all(row["calls"] % 300 == 0 for row in rows)
    expected = {"op": "MatMul", "scope": "layer", "line": "test_profiling.py:", "kernel": "MatMul Tanh"}[by]
    assert any(expected in row["name"] for row in rows)
    printed = p.table(by).splitlines()
    assert len(printed) == len(rows) + 2
    assert printed[-1].startswith("300 runs")
    assert (str(p) == p.table(by)) == (by == "op")


def test_totals_agree_with_the_trace(model: Model, threads: int) -> None:
    with tf.profile() as p:
        for _ in range(3):
            model.run()
    spent: dict[tuple[int, str], float] = {}
    for n, run in enumerate(p.recorder.runs):
        for event in kernel_events(run):
            spent[n, event.kernel.name] = event.seconds
        assert sum(v for (m, _), v in spent.items() if m == n) <= (run.end - run.begin) * 1e-9
    # How long a tick is comes from each run here, and from all of them there.
    assert sum(spent.values()) == pytest.approx(sum(row["seconds"] for row in p.rows("kernel")), rel=0.01)


def test_time_of_launches_side_by_side_is_divided() -> None:
    class Program:
        launched = (recording_launch(0, 0), recording_launch(1, 0), recording_launch(2, 1), recording_launch(3, 2))
        shared, jobs = (0, 2), 3

        @staticmethod
        def array(row: Any) -> Any:
            return row[5:].reshape(2, 6, 2)

    caller = [[100, 220], [220, 250], [300, 310], [310, 330], [90, 240], [0, 0]]  # the third job was not handed out
    worker = [[110, 130], [0, 0], [0, 0], [0, 0], [0, 0], [0, 0]]
    head = [1, 4000, 4600, 50, 350]  # a tick is two nanoseconds
    row = np.concatenate((head, np.ravel([caller, worker])))
    expected = [140 * 150 / 170 * 2, 30 * 150 / 170 * 2, 20, 40]
    for runs in (1, 5):
        found = launch_seconds(Program, runs * row) * 1e9  # type: ignore[arg-type]  # what it reads of a program
        assert found.tolist() == pytest.approx([runs * time for time in expected])


def recording_launch(step: int, job: int) -> Any:
    from graphflow.compiler.llvm.waves import Launched

    return Launched(step, f"kernel{step}", job)


def test_memory_is_bounded_and_tables_count_all(model: Model) -> None:
    with tf.profile(events=50) as p:
        for _ in range(100):
            model.run()
    assert (p.runs, p.dropped) == (100, 100 - len(p.recorder.runs))
    trace = p.trace()
    assert 0 < len(complete(trace, "run")) < 100
    assert len(complete(trace, "run") + complete(trace, "kernel")) <= 50
    assert trace["otherData"] == {"runs": 100, "runs_left_out": p.dropped}
    assert p.rows("kernel")[0]["calls"] == 100
    with pytest.raises(ValueError, match="at least one event"):
        tf.profile(events=0)


def test_compilations_are_events(tmp_path: Path) -> None:
    with tf.profile(tmp_path / "trace.json") as p:
        model = Model()
        model.run()
    trace = json.loads((tmp_path / "trace.json").read_text())
    whole, passes = complete(trace, "compilation"), complete(trace, "pass")
    assert {event["name"] for event in whole} == {"compile", "compile to be timed"}
    assert {"capture", "fuse", "plan", "emit", "llvm"} <= {event["name"] for event in passes}
    assert all(any(inside(one, event) for event in whole) for one in passes)
    rows = p.rows("pass")
    assert sum(row["share"] for row in rows) == pytest.approx(1)
    assert p.table("pass").splitlines()[0].startswith("pass")
    model.session.close()


def test_an_exception_leaves_a_whole_file_and_no_other(model: Model, tmp_path: Path) -> None:
    def fail() -> None:
        with tf.profile(tmp_path / "trace.json"):
            model.run()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert len(complete(json.loads((tmp_path / "trace.json").read_text()), "run")) == 1
    assert [file.name for file in tmp_path.iterdir()] == ["trace.json"]
    assert recording.ACTIVE == ()


def test_a_folder_that_is_not_there_is_an_error_at_once(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no such folder"), tf.profile(tmp_path / "no" / "trace.json"):
        raise AssertionError("the block must not be entered")
    assert recording.ACTIVE == ()
    with tf.profile() as p:
        pass
    with pytest.raises(ValueError, match="by one of op, scope, line, kernel, pass"):
        p.table("colour")


def test_threads_and_sessions_are_told_apart() -> None:
    models = [Model(), Model()]
    every = threading.Barrier(4)

    def work(n: int) -> None:
        every.wait()
        for _ in range(20):
            models[n % 2].run()

    with tf.profile() as p, ThreadPoolExecutor(4) as threads:
        list(threads.map(work, range(4)))
    runs = complete(p.trace(), "run")
    assert len(runs) == 80
    assert len({run["pid"] for run in runs}) == 2
    assert len({run["tid"] for run in runs}) == 4
    for model in models:
        model.session.close()


@pytest.mark.usefixtures("unchecked")
def test_native_calls_are_recorded_and_native_again_after(model: Model) -> None:
    call = model.session.make_callable(model.y, [model.x])
    value = model.feed[model.x]
    expected = call(value)
    bound = model.session.compiled()[-1][1].last
    assert bound is not None
    with tf.profile() as outer:
        with tf.profile() as p:
            assert (call(value) == expected).all()
        assert (call(value) == expected).all()
    assert (outer.runs, p.runs) == (2, 1)
    call(value)  # the way through Python, which native calls are served from
    before = bound.record.runs
    call(value)
    assert (bound.record.runs, outer.runs) == (before + 1, 2)


def test_recorded_runs_are_native_but_for_the_first(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    by_python = count_runs_by_python(monkeypatch)
    with tf.profile() as p:
        values = [model.run() for _ in range(20)]
        assert (p.runs, len(by_python)) == (20, 1)
    assert len(set(values)) == 20  # each updates the weights
    assert p.runs == 20
    assert p.rows("kernel")[0]["calls"] == 20


def count_runs_by_python(monkeypatch: pytest.MonkeyPatch) -> list[None]:
    """An entry for each run that `recording.run` gets from now on."""
    found: list[None] = []
    run = recording.run

    def counted(*arguments: Any) -> Any:
        found.append(None)
        return run(*arguments)

    monkeypatch.setattr(recording, "run", counted)
    return found


def test_a_full_log_loses_nothing(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_log, "LOG_BYTES", 0)
    by_python = count_runs_by_python(monkeypatch)
    runs = 5 * run_log.FEWEST_ROWS
    with tf.profile() as outer:
        for _ in range(runs):
            model.run()
        with tf.profile() as inner:
            for _ in range(runs):
                model.run()
    assert (outer.runs, inner.runs) == (2 * runs, runs)
    assert (outer.rows("kernel")[0]["calls"], inner.rows("kernel")[0]["calls"]) == (2 * runs, runs)
    begins = [run.begin for run in outer.recorder.runs]
    assert begins == sorted(begins)
    assert len(begins) == 2 * runs
    assert len(by_python) == 10


def test_many_threads_lose_nothing(model: Model, monkeypatch: pytest.MonkeyPatch, threads: int) -> None:
    monkeypatch.setattr(run_log, "LOG_BYTES", 0)
    call, value = model.session.make_callable(model.y, [model.x]), model.feed[model.x]
    names = [f"caller {n}" for n in range(4)]

    def work() -> None:
        for _ in range(100):
            call(value)

    with tf.profile() as p:
        callers = [threading.Thread(target=work, name=name) for name in names]
        for caller in callers:
            caller.start()
        seen = [p.runs for _ in range(50)]
        for caller in callers:
            caller.join()
    assert seen == sorted(seen)
    assert p.runs == 400
    assert p.rows("kernel")[0]["calls"] == 400
    found = [run.thread.name for run in p.recorder.runs]
    assert {name: found.count(name) for name in names} == dict.fromkeys(names, 100)
    for run in p.recorder.runs:
        assert all(run.begin <= event.begin <= event.end <= run.end for event in kernel_events(run))


def test_threads_that_find_no_room_are_recorded(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorded_threads, "ROOM", 0)
    by_python = count_runs_by_python(monkeypatch)

    def work() -> None:
        for _ in range(3):
            model.run()

    with tf.profile() as p:
        stranger = threading.Thread(target=work, name="stranger")
        stranger.start()
        stranger.join()
    assert [run.thread.name for run in p.recorder.runs] == ["stranger"] * 3
    assert len(by_python) == 3


def test_a_thread_that_has_ended_leaves_its_place() -> None:
    def listed() -> int:
        return int(np.count_nonzero(recorded_threads.known_threads()[1:].reshape(-1, 2)[:, recorded_threads.IDENT]))

    recorded_threads.number_of_thread()
    before, within = listed(), []

    def work() -> None:
        recorded_threads.number_of_thread()
        within.append(listed())

    stranger = threading.Thread(target=work)
    stranger.start()
    stranger.join()
    assert (within, listed()) == ([before + 1], before)


@pytest.mark.parametrize("without", ["native calls", "cycles"])
def test_systems_that_lack_something_record_too(without: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if without == "cycles":
        for module in (stamps, run_log_code):
            monkeypatch.setattr(module, "counts_cycles", lambda: False)
        monkeypatch.setattr(timed, "log_code", run_log_code.log_code.__wrapped__)
    else:
        for module in (bound, native_call, run_plan, timed):
            monkeypatch.setattr(module, "is_native", lambda: False)
    model = Model()
    with tf.profile() as p:
        for _ in range(5):
            model.run()
    assert p.runs == 5
    assert 0 < sum(row["seconds"] for row in p.rows("kernel")) <= p.seconds
    for run in p.recorder.runs:
        assert all(run.begin <= event.begin <= event.end <= run.end for event in kernel_events(run))
    model.session.close()


def test_what_nobody_records_is_compiled_without_stamps(model: Model) -> None:
    model.run()
    executable = model.session.compiled()[-1][1]
    assert executable.twin is None
    assert "gf_ticks" not in str(executable.code.module)
    with tf.profile():
        model.run()
    assert executable.twin is not None
    assert "gf_ticks" in str(executable.twin.code.module)
    assert not list(executable.twin.bounds)  # its memory is given up


@pytest.mark.usefixtures("unchecked")
def test_programs_from_the_cache_are_recorded(cache_folder: Path) -> None:
    Model().run()
    model = Model()
    model.run()
    assert model.session.compiled()[-1][1].is_stored
    with tf.profile() as p:
        model.run()
    assert {"MatMul", "Tanh"} <= {row["name"] for row in p.rows("op")}


def test_interpreted_runs_have_no_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRAPHFLOW_INTERPRET", "1")
    model = Model()
    with tf.profile() as p:
        model.run()
    assert (p.runs, p.rows("op")) == (1, [])
    assert len(complete(p.trace(), "run")) == 1


def test_symbolic_sizes_are_counted_as_they_run(model: Model) -> None:
    with tf.profile() as p:
        for rows in (32, 64):
            model.session.run(model.y, {model.x: np.ones((rows, 256), np.float32)})
    flop = {k["args"]["flop"] for k in complete(p.trace(), "kernel") if "MatMul" in k["args"]["ops"]}
    assert len(flop) == 2
    assert max(flop) == 2 * min(flop)


def test_step_stats(model: Model) -> None:
    metadata = tf.RunMetadata()
    model.session.run(model.y, model.feed, options=FULL_TRACE, run_metadata=metadata)
    (device,) = metadata.step_stats.dev_stats
    assert device.device.endswith("device:CPU:0")
    assert {"layer/MatMul = MatMul+Tanh()"} == {node.timeline_label for node in device.node_stats}
    for node in device.node_stats:
        assert node.all_start_micros >= node.scheduled_micros > 1_500_000_000_000_000
        assert 0 <= node.op_start_rel_micros < node.op_end_rel_micros <= node.all_end_rel_micros
    trace = json.loads(timeline.Timeline(metadata.step_stats).generate_chrome_trace_format(show_memory=True))
    assert [e["args"]["op"] for e in trace["traceEvents"] if e["ph"] == "X"] == ["MatMul+Tanh"] * len(device.node_stats)


@pytest.mark.parametrize("options", [None, tf.RunOptions(), tf.RunOptions(trace_level=tf.RunOptions.NO_TRACE)])
def test_no_step_stats_unless_asked_for(model: Model, options: Any) -> None:
    metadata = tf.RunMetadata()
    model.session.run(model.y, model.feed, options=options, run_metadata=metadata)
    assert metadata.step_stats.dev_stats == []


@pytest.mark.skipif(sys.platform != "linux", reason="perf is Linux'")
@pytest.mark.parametrize("stored", [False, True])
@pytest.mark.usefixtures("unchecked")
def test_perf_map_names_the_functions_where_they_are(
    stored: bool, cache_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(halves, "SMALL", 0)
    if stored:
        Model().run()
    monkeypatch.setattr(perf_map, "FOLDER", str(tmp_path))
    monkeypatch.setenv("GRAPHFLOW_PERF", "1")
    model = Model()
    model.run()
    executable = model.session.compiled()[-1][1]
    assert executable.is_stored == stored
    rows = [line.split(" ", 2) for line in Path(perf_map.map_file()).read_text().splitlines()]
    found = {name: (int(address, 16), int(size, 16)) for address, size, name in rows}
    assert all(size > 0 for _, size in found.values())
    parts = [name for name in found if " MatMul Tanh" in name]
    assert all(name.startswith("graphflow kernel") and "test_profiling.py:" in name for name in parts)
    assert {name.split()[1].partition(".")[2] for name in parts} >= {"", "tile", "finish"}
    assert executable.module.address("step") in {address for address, _ in found.values()}
    made = (executable._made if stored else executable.module).objects  # type: ignore[union-attr]
    assert len(made) == 2
    for code in made:
        for f in perf_map.functions_in(code):
            here = [found[n] for n in found if n.split()[1] == f.name]
            assert any(f.size == s and ctypes.string_at(a, 4) in code for a, s in here) or len(here) != 1, f


def test_perf_maps_are_of_elf() -> None:
    with pytest.raises(ValueError, match="ELF"):
        list(perf_map.functions_in(b"MZ" + bytes(100)))


def test_declaring_loads_no_profiler() -> None:
    program = "import sys, graphflow; graphflow.RunMetadata().step_stats; print('llvmlite' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, env={**os.environ}
    )
    assert done.stdout == "False\n"
