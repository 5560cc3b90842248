"""How long the first run takes, a table of medians of processes.

    python -m benchmarks.compile_time                     # everything, three rounds
    python -m benchmarks.compile_time --rounds 1 --only mlp_train lstm_train

cold: a new process, an empty cache.  warm: another process, the cache that the first one filled.  Each number is the
time of the initializer's and of the step's first `Session.run`, from call to end: the modules that they import, the
step itself (`run`: how long its second run takes) and memory that is touched for the first time are in it; importing
graphflow, building the graph and opening the session are not.
Python's own bytecode is there, as where graphflow is installed, whatever PYTHONDONTWRITEBYTECODE says here.
`optimized` counts the modules that LLVM was given in a warm process: 0 means that it was never entered.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

NETWORKS = ("mlp_train", "transformer_train", "lstm_train", "cnn_train")
CHAINS = ("elementwise:1000", "elementwise:10000", "reductions:1000", "reductions:10000")
GOALS = {"mlp_train": 0.5, "transformer_train": 1.0, "lstm_train": 1.5, "elementwise:1000": 1, "reductions:1000": 1,
         "elementwise:10000": 10, "reductions:10000": 10}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.compile_time", description="how long first runs take")
    parser.add_argument("--rounds", type=int, default=3, help="processes for each number")
    parser.add_argument("--only", nargs="+", default=NETWORKS + CHAINS, choices=NETWORKS + CHAINS, metavar="NAME")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as bytecode:
        os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
        os.environ["PYTHONPYCACHEPREFIX"] = bytecode
        with tempfile.TemporaryDirectory() as folder:
            in_new_process("mlp_train", folder)  # leaves the bytecode
        print_table(arguments.only, arguments.rounds)


def print_table(names: Sequence[str], rounds: int) -> None:
    print(f"{'':20}{'cold s':>8}{'goal':>6}{'warm ms':>9}{'run ms':>8}{'optimized':>11}")
    for name in names:
        cold, warm = [], []
        for _ in range(rounds):
            with tempfile.TemporaryDirectory() as folder:
                cold.append(in_new_process(name, folder))
                warm.append(in_new_process(name, folder))
        goal = GOALS.get(name, "")
        print(
            f"{name:20}{median(cold, 'first'):8.2f}{goal:>6}{median(warm, 'first') * 1e3:9.1f}"
            f"{median(warm, 'second') * 1e3:8.1f}{max(w['optimized'] for w in warm):>11}"
        )
    with tempfile.TemporaryDirectory() as folder:
        print(f"8 processes at once on an empty cache: {eight_at_once(folder)}")


def median(results: list[dict[str, Any]], key: str) -> float:
    return statistics.median(r[key] for r in results)


def command(name: str) -> list[str]:
    return [sys.executable, "-m", "benchmarks.compile_time", "--one", name]


def environment(folder: str) -> dict[str, str]:
    return {**os.environ, "GRAPHFLOW_CACHE": folder, "PYTHONPATH": str(Path(__file__).resolve().parent.parent)}


def in_new_process(name: str, folder: str) -> dict[str, Any]:
    """What `measure` finds in a process of its own."""
    done = subprocess.run(command(name), env=environment(folder), stdout=subprocess.PIPE, check=True)
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def eight_at_once(folder: str) -> str:
    """Counts of all eight together, and the longest that any of them was busy with the cache's files."""
    processes = [subprocess.Popen(command("mlp_train"), env=environment(folder), stdout=-1) for _ in range(8)]
    found = [json.loads(p.communicate()[0]) for p in processes]
    counts = {key: sum(f[key] for f in found) for key in ("hits", "misses", "writes", "rejected")}
    longest = max(f["longest"] for f in found) * 1e3
    return f"{counts}, longest read or write {longest:.1f} ms"


def measure(name: str) -> dict[str, Any]:
    """Seconds of the first and the second run of a workload, and what the cache counted."""
    from graphflow.compiler.cache import STATISTICS, Cache

    longest = [0.0]
    for method in ("read", "write"):
        setattr(Cache, method, timed(getattr(Cache, method), longest))
    prepare, run = chain(*name.split(":")) if ":" in name else network(name)
    times = []
    for call in (prepare, run, run):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return {"first": times[0] + times[1], "second": times[2], "longest": longest[0], **vars(STATISTICS)}


def timed(method: Any, longest: list[float]) -> Any:
    def call(*arguments: Any) -> Any:
        start = time.perf_counter()
        try:
            return method(*arguments)
        finally:
            longest[0] = max(longest[0], time.perf_counter() - start)

    return call


def network(name: str) -> tuple[Any, Any]:
    """(the initializer's run, the step's) of a workload of `graphflow bench`."""
    import graphflow as tf
    from graphflow.bench.tf1 import FORMULAS, optimizer
    from graphflow.bench.workloads import select

    workload = select([name])[0]
    fed, weights = workload.arrays()
    feeds = [tf.placeholder(tf.as_dtype(a.dtype.name), a.shape) for a in fed]
    loss = FORMULAS[workload.kind](tf, *feeds, *[tf.Variable(w) for w in weights])
    fetches = [optimizer(tf, workload.optimizer).minimize(loss), loss]
    initializer, session = tf.global_variables_initializer(), tf.Session()
    feed = dict(zip(feeds, fed, strict=True))
    return lambda: session.run(initializer), lambda: session.run(fetches, feed)


def chain(kind: str, length: str) -> tuple[Any, Any]:
    """A chain of so many elementwise ops; with reductions, every third subtracts a mean, which nothing can fuse."""
    import numpy as np

    import graphflow as tf

    x = y = tf.placeholder(tf.float32, [64, 64])
    for n in range(int(length)):
        if kind == "reductions" and n % 3 == 2:
            y = y - tf.reduce_mean(y, axis=n // 3 % 2, keepdims=True)
        else:
            y = tf.tanh(y) if n % 2 else y * 1.01
    session, feed = tf.Session(), {x: np.ones((64, 64), np.float32)}
    return lambda: None, lambda: session.run(y, feed)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--one"]:
        print(json.dumps(measure(sys.argv[2])))
    else:
        main()
