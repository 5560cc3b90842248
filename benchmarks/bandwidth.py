"""Kernels that only move memory, each as a share of what the machine's loops reach on as many bytes.

    python -m benchmarks.bandwidth                       # all cases, arrays of 16, 64, 256 MiB, on one core and on all
    python -m benchmarks.bandwidth --mib 64 --only sum transpose

Times swing with other guests of the machine, so a case and the probes that limit it (`compiler/llvm/probe.py`) run in
turn, ROUNDS times; the fastest of each are compared.  Bytes are those of `compiler/loops/work.py`: each once, without
the cache lines that are fetched only to be overwritten.  The limit of a case that writes less than an eighth of them is
the probe `read`, that of any other the fastest of `copy`, `triad` and `stream`: as in `graphflow bench --kernels`.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial

import numpy as np

import graphflow as tf
from graphflow.bench.roofline import READS_ONLY, WRITING, Probes
from graphflow.compiler.loops.work import Work, work_of
from graphflow.runtime.profile import shortest
from graphflow.runtime.threads import set_thread_count, thread_count

ROUNDS, SECONDS = 5, 0.05
GOAL = 0.85
Shape = tuple[int, ...]
Formula = Callable[..., tf.Tensor]
MIB = 1 << 20


def layer_norm(x: tf.Tensor) -> tf.Tensor:
    mean = tf.reduce_mean(x, 1, keepdims=True)
    variance = tf.reduce_mean(tf.square(x - mean), 1, keepdims=True)
    return (x - mean) * tf.rsqrt(variance + 1e-5)


CASES: dict[str, tuple[Formula, Callable[[int], list[Shape]]]] = {
    "x + 1": (lambda x: x + 1.0, lambda n: [(n,)]),
    "a * b + c": (lambda a, b, c: a * b + c, lambda n: [(n,)] * 3),
    "cast to float64": (lambda x: tf.cast(x, tf.float64), lambda n: [(n,)]),
    "bias": (lambda x, b: x + b, lambda n: [(n // 1000, 1000), (1000,)]),
    "concat": (lambda x, y: tf.concat([x, y], 1), lambda n: [(n // 1024, 512)] * 2),
    "slice": (lambda x: x[:, 24:1000], lambda n: [(n // 1024, 1024)]),
    "sum": (tf.reduce_sum, lambda n: [(n,)]),
    "max": (tf.reduce_max, lambda n: [(n,)]),
    "sum axis 0": (lambda x: tf.reduce_sum(x, 0), lambda n: [(n // 1000, 1000)]),
    "sum axis 0, few columns": (lambda x: tf.reduce_sum(x, 0), lambda n: [(n // 64, 64)]),
    "sum axis 0, wide": (lambda x: tf.reduce_sum(x, 0), lambda n: [(64, n // 64)]),
    "sum axis 1": (lambda x: tf.reduce_sum(x, 1), lambda n: [(n // 1000, 1000)]),
    "sum axis 1, short": (lambda x: tf.reduce_sum(x, 1), lambda n: [(n // 20, 20)]),
    "sum axis 1 of 3": (lambda x: tf.reduce_sum(x, 1), lambda n: [(n // 64000, 64, 1000)]),
    "transpose": (lambda x: tf.transpose(x), lambda n: [(n // 2048, 2048)]),
    "transpose, odd": (lambda x: tf.transpose(x), lambda n: [(n // 1999, 1999)]),
    "softmax": (tf.nn.softmax, lambda n: [(n // 4096, 4096)]),
    "softmax axis 0": (lambda x: tf.nn.softmax(x, 0), lambda n: [(1024, n // 1024)]),
    "layer norm": (layer_norm, lambda n: [(n // 1024, 1024)]),
}


class Case:
    """A formula of float32 arrays, compiled, its feeds, and the bytes that its kernels move."""

    def __init__(self, formula: Formula, shapes: list[Shape]) -> None:
        with tf.Graph().as_default():
            xs = [tf.placeholder(tf.float32, shape) for shape in shapes]
            session = tf.Session()
            feeds = [np.full(shape, 0.5, np.float32) for shape in shapes]
            self.run = partial(session.make_callable(formula(*xs), xs), *feeds)
            self.run()
            ((_, executable),) = session.compiled()
            self.works: list[Work] = [work_of(step.kernel, {}) for step in executable.plan.steps]

    @property
    def bytes(self) -> int:
        return sum(work.bytes for work in self.works)

    @property
    def probes(self) -> tuple[str, ...]:
        """Those whose fastest is the limit."""
        return WRITING if sum(work.written for work in self.works) * READS_ONLY >= self.bytes else ("read",)


def measure(case: Case, probes: Probes) -> tuple[float, float]:
    """(bytes a second of the case, of its probes), the best of ROUNDS in turn."""
    rate = limit = 0.0
    for _ in range(ROUNDS):
        limit = max(limit, *(probes.bandwidth(probe, case.bytes) for probe in case.probes))
        rate = max(rate, case.bytes / shortest(case.run, SECONDS))
    return rate, limit


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bandwidth", description="kernels that move memory")
    parser.add_argument("--mib", type=int, nargs="+", default=[16, 64, 256], help="sizes of the arrays")
    parser.add_argument("--cores", type=int, nargs="+", default=sorted({1, thread_count()}))
    parser.add_argument(
        "--only", nargs="+", default=list(CASES), choices=list(CASES), metavar="CASE", help="some cases"
    )
    arguments = parser.parse_args()
    print(f"{'case':24} {'MiB':>4} {'cores':>5} {'GB/s':>6} {'limit':>6} {'share':>6}")
    for cores in arguments.cores:
        set_thread_count(cores)
        probes = Probes(cores, SECONDS, 2 * max(arguments.mib) * MIB)
        for mib in arguments.mib:
            for name in arguments.only:
                formula, shapes = CASES[name]
                case = Case(formula, shapes(mib * MIB // 4))
                rate, limit = measure(case, probes)
                share = f"{rate / limit:6.0%}{'' if rate >= GOAL * limit else '  <'}"
                print(f"{name:24} {mib:4} {cores:5} {rate / 1e9:6.1f} {limit / 1e9:6.1f} {share}", flush=True)


if __name__ == "__main__":
    main()
