"""Frameworks side by side, in turn, in one run.

    results = compare(clients, select(["gemm*"]), Timing(rounds=3), print)

Each framework lives in a process of its own (`Worker`).  A workload is built in all of them, then timed in turn, A B C
A B C …, with a pause before each, so that one's spinning threads do not slow the next and a slow minute of the machine
hits all alike.  The figure is the median over the rounds of each round's median.
"""

from __future__ import annotations

import json
import os
import queue
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, Self

from graphflow.bench import worker
from graphflow.bench.workloads import Workload

Answer = dict[str, Any]

# They choose OpenBLAS' kernels: whoever set them did so for something else.
UNWANTED = ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")
# Of the results' root mean square; sums of millions in float32 were seen to differ by 2e-6.
TOLERANCE, DOUBLE_TOLERANCE = 1e-4, 1e-9


class Client(Protocol):
    """Whoever answers requests: a `Worker`, or `worker.Bench` in this process."""

    def hello(self) -> Answer: ...

    def answer(self, request: Answer) -> Answer: ...


@dataclass(frozen=True)
class Timing:
    """Rounds, seconds a framework in each, seconds of pause before."""

    rounds: int = 5
    seconds: float = 0.3
    pause: float = 0.25


class Worker:
    """A framework in a process of its own, started again after it died. Close it, or use it in a `with` block."""

    def __init__(self, framework: str, python: str = sys.executable, cpus: str = "", patience: float = 600) -> None:
        self.framework, self.python, self.cpus, self.patience = framework, python, cpus, patience
        self._start()

    def _start(self) -> None:
        environment = {key: value for key, value in os.environ.items() if key not in UNWANTED}
        if self.python != sys.executable:
            environment.pop("PYTHONPATH", None)  # this interpreter's packages are none for another
        self.process = subprocess.Popen(
            [self.python, str(Path(worker.__file__).resolve()), self.framework, self.cpus],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment,
        )  # fmt: skip
        self.lines: queue.Queue[str] = queue.Queue()
        threading.Thread(target=self._read, args=(self.process, self.lines), daemon=True).start()
        self.greeting = self._receive()

    @staticmethod
    def _read(process: subprocess.Popen[str], lines: queue.Queue[str]) -> None:
        assert process.stdout is not None
        with process.stdout as stream:
            for line in stream:
                lines.put(line)
        lines.put("")

    def hello(self) -> Answer:
        """What the worker said of itself when it started."""
        return self.greeting

    def answer(self, request: Answer) -> Answer:
        """The worker's answer. One that died or did not answer in time has failed; the next request starts it anew."""
        if self.process.poll() is not None:
            self.close()
            self._start()
        if "failed" in self.greeting:
            return self.greeting
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(json.dumps(request) + "\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            return self._dead()
        return self._receive()

    def _receive(self) -> Answer:
        try:
            line = self.lines.get(timeout=self.patience)
        except queue.Empty:
            self.close()
            return {"failed": f"no answer within {self.patience:g} s"}
        return json.loads(line) if line else self._dead()

    def _dead(self) -> Answer:
        self.close()
        return {"failed": f"the process ended with code {self.process.returncode}"}

    def close(self) -> None:
        """End the process."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        if self.process.stdin is not None and not self.process.stdin.closed:
            with suppress(BrokenPipeError):
                self.process.stdin.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@dataclass
class Row:
    """One workload. Everything is by framework: seconds of a step, of the first one; why there is no figure."""

    name: str
    what: str
    size: list[Any]
    seconds: dict[str, float] = field(default_factory=dict)
    low: dict[str, float] = field(default_factory=dict)
    first_seconds: dict[str, float] = field(default_factory=dict)
    rss_mb: dict[str, float] = field(default_factory=dict)
    check: dict[str, list[float]] = field(default_factory=dict)
    dtype: dict[str, str] = field(default_factory=dict)
    unavailable: dict[str, str] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    kernels: list[Answer] = field(default_factory=list)

    @property
    def best_peer(self) -> str | None:
        """Which of the others is fastest; None if there is no other."""
        peers = {name: seconds for name, seconds in self.seconds.items() if name != "graphflow"}
        return min(peers, key=peers.__getitem__) if peers else None

    @property
    def ratio(self) -> float | None:
        """The best peer's time over graphflow's: above 1, graphflow is faster. None if one of them has no figure."""
        peer = self.best_peer
        return (
            None if peer is None or "graphflow" not in self.seconds else self.seconds[peer] / self.seconds["graphflow"]
        )

    @property
    def disagree(self) -> list[str]:
        """Frameworks whose result is not that of most: mean or root mean square of its first run."""
        if len(self.check) < 2:
            return []
        mean, rms = (statistics.median(values[n] for values in self.check.values()) for n in range(2))
        double = "float64" in self.dtype.values()
        allowed = (DOUBLE_TOLERANCE if double else TOLERANCE) * abs(rms) + 1e-12
        # `not <=`, so that NaN disagrees
        return [f for f, (m, r) in self.check.items() if not (abs(m - mean) <= allowed and abs(r - rms) <= allowed)]

    def as_json(self) -> Answer:
        """For a file."""
        return {**vars(self), "best_peer": self.best_peer, "ratio": self.ratio, "disagree": self.disagree}


def compare(
    clients: Mapping[str, Client], workloads: Sequence[Workload], timing: Timing, say: Callable[[Row], object]
) -> list[Row]:
    """Measure each workload in all frameworks; `say` gets each row when it is done."""
    rows = []
    for workload in workloads:
        rows.append(measure_row(clients, workload, timing))
        say(rows[-1])
    return rows


def measure_row(clients: Mapping[str, Client], workload: Workload, timing: Timing) -> Row:
    """Build in all, then time in turn, then look at graphflow's kernels."""
    row = Row(workload.name, workload.what, list(workload.size))
    request = {"name": workload.name, "kind": workload.kind, "size": list(workload.size)}
    live = [name for name, client in clients.items() if built(client.answer({"do": "build", **request}), name, row)]
    samples: dict[str, list[Answer]] = {name: [] for name in live}
    for _ in range(timing.rounds):
        for name in list(live):
            time.sleep(timing.pause)
            found = clients[name].answer({"do": "time", "seconds": timing.seconds})
            if "failed" in found:
                row.failed[name] = found["failed"]
                live.remove(name)
                continue
            samples[name].append(found)
    for name in live:
        row.seconds[name] = statistics.median(sample["median"] for sample in samples[name])
        row.low[name] = min(sample["low"] for sample in samples[name])
        row.rss_mb[name] = samples[name][-1]["rss_mb"]
    if "graphflow" in live:
        row.kernels = clients["graphflow"].answer({"do": "kernels", **request}).get("kernels", [])
    return row


def built(answer: Answer, name: str, row: Row) -> bool:
    """Whether a framework has the workload ready; what it said goes into the row."""
    for refusal in ("unavailable", "failed"):
        if refusal in answer:
            getattr(row, refusal)[name] = answer[refusal]
            return False
    row.first_seconds[name] = answer["first_seconds"]
    row.check[name], row.dtype[name] = answer["check"], answer["dtype"]
    return True
