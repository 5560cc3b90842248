"""What recording costs: steps within `tf.profile` beside the same steps outside of it, in one process.

    python -m benchmarks.profiler
    python -m benchmarks.profiler lstm_train reductions:1000 --rounds 40

Turns of about SECONDS each alternate between the two, so that a change of the machine's speed meets both.  A turn's
figure is its time over its steps, which holds what taking rows from a full log costs; the overhead is the median over
the rounds of the ratio of neighbours.  The first steps of a turn, in which programs are compiled to be timed or get
their memory, are not in it.  The exit code is 1 if a step takes more than `LIMIT` longer.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import graphflow as tf
from benchmarks.compile_time import chain, network

LIMIT = 0.02
SECONDS, WARM_SECONDS = 0.15, 0.03
WORKLOADS = ("mlp_train", "lstm_train", "cnn_train", "transformer_train", "reductions:1000")


class Found(NamedTuple):
    """Seconds of a step outside and within, how much longer it takes, and how many launches it has."""

    plain: float
    recorded: float
    overhead: float
    launches: int


def measure(name: str, rounds: int) -> Found:
    """Of a workload of `graphflow bench`, or a chain of benchmarks/compile_time.py."""
    tf.reset_default_graph()
    prepare, run = chain(*name.split(":")) if ":" in name else network(name)
    prepare()
    turn(run)
    with tf.profile() as p:
        run()
    launches = sum(len(program.launched) for program in p.recorder.totals)
    plain, recorded = [], []
    for n in range(rounds):
        for record in (False, True) if n % 2 else (True, False):
            if record:
                with tf.profile():
                    recorded.append(turn(run))
            else:
                plain.append(turn(run))
    ratios = [r / p for p, r in zip(plain, recorded, strict=True)]
    return Found(statistics.median(plain), statistics.median(recorded), statistics.median(ratios) - 1, launches)


def turn(run: Callable[[], object]) -> float:
    """Seconds of a step."""
    steps(run, WARM_SECONDS)
    return steps(run, SECONDS)


def steps(run: Callable[[], object], seconds: float) -> float:
    """Seconds of a step, over about so many seconds."""
    start, count = time.perf_counter(), 0
    while (now := time.perf_counter()) < start + seconds:
        run()
        count += 1
    return (now - start) / count


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; 1 if recording costs more than `LIMIT`."""
    parser = argparse.ArgumentParser(description="What recording with tf.profile costs.")
    parser.add_argument("names", nargs="*", default=WORKLOADS, metavar="NAME")
    parser.add_argument("--rounds", type=int, default=30, metavar="N")
    options = parser.parse_args(arguments)
    print(f"{'':20}{'launches':>9}{'plain µs':>11}{'recorded µs':>13}{'overhead':>10}")
    slow = []
    for name in options.names:
        found = measure(name, options.rounds)
        print(
            f"{name:20}{found.launches:9}{found.plain * 1e6:11,.1f}{found.recorded * 1e6:13,.1f}{found.overhead:10.2%}",
            flush=True,
        )
        slow += [name] if found.overhead > LIMIT else []
    print(f"more than {LIMIT:.0%}: {', '.join(slow) or 'nowhere'}")
    return int(bool(slow))


if __name__ == "__main__":
    sys.exit(main())
