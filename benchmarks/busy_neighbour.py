"""How much longer a step takes while another process keeps one of the CPUs busy.

    python -m benchmarks.busy_neighbour                          # with the peers that this Python has
    python -m benchmarks.busy_neighbour --peers torch=~/torch/bin/python --only mlp_train 'bmm*' --rounds 5

A framework whose threads wait for each other at a barrier waits for the one that the neighbour keeps from running, a
time slice each time.  Each framework is timed in turn, quiet and beside the neighbour; the figures are medians over the
rounds of each round's median step.  What is asked of graphflow is `LIMIT`; the exit code is 1 if it takes longer.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager

from graphflow.bench.command import frameworks, start
from graphflow.bench.run import Client
from graphflow.bench.workloads import Workload, select

LIMIT = 2.5
SPIN = "import os, sys\nos.sched_setaffinity(0, {int(sys.argv[1])})\nwhile True: pass"
SETTLE_SECONDS = 0.3

Pair = tuple[float, float]  # seconds of a step, quiet and beside the neighbour


@contextmanager
def neighbour(cpu: int) -> Iterator[subprocess.Popen[bytes]]:
    """A process that keeps `cpu` busy."""
    process = subprocess.Popen([sys.executable, "-c", SPIN, str(cpu)])
    try:
        time.sleep(SETTLE_SECONDS)
        yield process
    finally:
        process.kill()
        process.wait()
        time.sleep(SETTLE_SECONDS)


def measure(
    clients: Mapping[str, Client], workload: Workload, rounds: int, seconds: float, cpu: int
) -> dict[str, Pair]:
    """What a step takes in each framework that has the workload."""
    request = {"do": "build", "name": workload.name, "kind": workload.kind, "size": list(workload.size)}
    live = {name: client for name, client in clients.items() if "check" in client.answer(request)}
    quiet: dict[str, list[float]] = {name: [] for name in live}
    busy: dict[str, list[float]] = {name: [] for name in live}
    for _ in range(rounds):
        for name, client in live.items():
            quiet[name].append(median_step(client, seconds))
        with neighbour(cpu):
            for name, client in live.items():
                busy[name].append(median_step(client, seconds))
    return {name: (statistics.median(quiet[name]), statistics.median(busy[name])) for name in live}


def median_step(client: Client, seconds: float) -> float:
    """Seconds of a step."""
    time.sleep(SETTLE_SECONDS)
    answer = client.answer({"do": "time", "seconds": seconds})
    if "failed" in answer:
        raise RuntimeError(answer["failed"])
    return float(answer["median"])


def table(workload: Workload, found: Mapping[str, Pair]) -> str:
    """A line for each framework."""
    lines = [f"{workload.name:18} {'quiet µs':>12} {'busy µs':>12} {'times':>7}"]
    for name, (quiet, busy) in found.items():
        lines.append(f"  {name:16} {quiet * 1e6:12,.1f} {busy * 1e6:12,.1f} {busy / quiet:7.2f}")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; 1 if graphflow takes more than `LIMIT` times its quiet time."""
    parser = argparse.ArgumentParser(description="How much longer a step takes beside a process that keeps a CPU busy.")
    parser.add_argument("--only", nargs="+", default=["mlp_train", "cnn_train"], metavar="NAME", help="workloads")
    parser.add_argument("--peers", nargs="*", metavar="NAME[=PYTHON]", help="as for `graphflow bench`")
    parser.add_argument("--rounds", type=int, default=5, metavar="N")
    parser.add_argument("--seconds", type=float, default=0.5, metavar="S", help="of a turn (default: 0.5)")
    options = parser.parse_args(arguments)
    cpus = sorted(os.sched_getaffinity(0))
    if len(cpus) < 2:
        parser.error("a neighbour on one of several CPUs needs at least two")
    slow = []
    with ExitStack() as stack:
        clients = start(frameworks(options.peers), ",".join(map(str, cpus)), stack)
        for workload in select(options.only):
            found = measure(clients, workload, options.rounds, options.seconds, cpus[-1])
            print(table(workload, found), flush=True)
            quiet, busy = found["graphflow"]
            slow += [workload.name] if busy > LIMIT * quiet else []
    print(f"graphflow takes more than {LIMIT} times as long: {', '.join(slow) or 'nowhere'}")
    return int(bool(slow))


if __name__ == "__main__":
    sys.exit(main())
