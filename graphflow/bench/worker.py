"""One framework in one process: started by `run`, told what to do by lines of JSON on stdin, answers a line to each.

    python worker.py jax        {"do": "build", "name": "chain", "kind": "chain", "size": [1000000]}
                                {"do": "time", "seconds": 0.3}

`Bench` does the same in this process.  The interpreter may be one in which graphflow itself can't be imported (another
Python, no LLVM): there the package `graphflow` is entered as an empty one, in which only its `bench` is looked up.
"""

from __future__ import annotations

import json
import os
import platform
import sys
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

PACKAGE = Path(__file__).resolve().parent.parent
SAMPLE_SECONDS = 0.003  # calls are timed in batches of about this length

# framework: the module in graphflow.bench with its text. Its `load(framework)` imports the framework, in the process
# that asked for it, and returns (workload -> step, version).
FRAMEWORKS = {
    "graphflow": "tf1",
    "tf115": "tf1",
    "tf": "tf1",
    "tf-xla": "tf1",
    "jax": "jax_peer",
    "torch": "torch_peer",
    "torch-compile": "torch_peer",
    "pytensor": "pytensor_peer",
    "numba": "numba_peer",
    "numpy": "numpy_peer",
}


class Bench:
    """A framework at work: builds workloads and times them."""

    def __init__(self, framework: str) -> None:
        self.framework = framework
        start = time.perf_counter()
        self.make_step, self.version = import_module("graphflow.bench." + FRAMEWORKS[framework]).load(framework)
        self.import_seconds = time.perf_counter() - start
        self.step: Callable[[], Any] | None = None

    def hello(self) -> dict[str, Any]:
        """Who answers."""
        return {"version": self.version, "python": platform.python_version(), "import_seconds": self.import_seconds}

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """Do what a request says. Failures are answers: {"unavailable": why} or {"failed": why}."""
        try:
            return self.do(request)
        except Exception as e:  # noqa: BLE001  (a peer may raise anything; the others go on)
            return refusal(e, request, self.framework)

    def do(self, request: dict[str, Any]) -> dict[str, Any]:
        """`answer`, raising what is raised."""
        if request["do"] == "build":
            return self.build(request)
        if request["do"] == "time":
            return self.time(request["seconds"])
        return import_module("graphflow.bench.kernels").answer(request)  # type: ignore[no-any-return]

    def build(self, request: dict[str, Any]) -> dict[str, Any]:
        """Declare, compile, run once and warm up. The check numbers are those of the first run."""
        self.step = None
        workload = import_module("graphflow.bench.workloads").Workload
        start = time.perf_counter()
        step = self.make_step(workload(request["name"], request["kind"], tuple(request["size"])))
        first = step()
        seconds = time.perf_counter() - start
        result = np.asarray(first)
        value = result.astype(np.float64)
        for _ in range(3):
            step()
        self.step = step
        check = [float(value.mean()), float(np.sqrt(np.square(value).mean()))]
        return {"first_seconds": seconds, "check": check, "dtype": result.dtype.name}

    def time(self, seconds: float) -> dict[str, Any]:
        """Median and tenth percentile of a step's time, over about `seconds`."""
        assert self.step is not None
        step, clock = self.step, time.perf_counter
        start = clock()
        step()
        batch = max(1, int(SAMPLE_SECONDS / max(clock() - start, 1e-7)))
        samples: list[float] = []
        end = clock() + seconds
        while clock() < end or len(samples) < 3:
            start = clock()
            for _ in range(batch):
                step()
            samples.append((clock() - start) / batch)
        samples.sort()
        return {"median": samples[len(samples) // 2], "low": samples[len(samples) // 10], "rss_mb": rss_mb()}


def refusal(error: Exception, request: dict[str, Any], framework: str) -> dict[str, Any]:
    """What needs something that is not there is unavailable; everything else has failed."""
    if isinstance(error, KeyError) and error.args == (request.get("kind"),):
        return {"unavailable": "not written for " + framework}
    text = " ".join(str(error).split())[:300]
    if isinstance(error, NotImplementedError) or (isinstance(error, AttributeError) and text.startswith("module ")):
        return {"unavailable": text}
    return {"failed": type(error).__name__ + ": " + text}


def rss_mb() -> float:
    """The largest resident size so far; 0 where the system does not say."""
    try:
        import resource
    except ImportError:
        return 0.0
    unit = 1 << 20 if sys.platform == "darwin" else 1 << 10
    return float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss) / unit


def enter_package(framework: str) -> None:
    """Make `graphflow.bench` importable: in graphflow's own worker for good, in a peer's without running graphflow."""
    sys.path[:] = [p for p in sys.path if Path(p or ".").resolve() != PACKAGE / "bench"]
    if framework == "graphflow":
        sys.path.insert(0, str(PACKAGE.parent))
        return
    empty = ModuleType("graphflow")
    empty.__path__ = [str(PACKAGE)]
    sys.modules["graphflow"] = empty


def main(framework: str, cpus: str) -> None:
    """Serve requests until stdin ends. `cpus`: those to stay on, "0" or "0,1"; "" for all."""
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # libraries that print must not break the protocol
    if cpus:
        os.sched_setaffinity(0, {int(cpu) for cpu in cpus.split(",")})
    enter_package(framework)

    def say(answer: dict[str, Any]) -> None:
        out.write(json.dumps(answer) + "\n")
        out.flush()

    try:
        bench = Bench(framework)
    except ImportError as e:
        return say({"failed": type(e).__name__ + ": " + str(e)})
    say(bench.hello())
    for line in sys.stdin:
        say(bench.answer(json.loads(line)))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else "")
