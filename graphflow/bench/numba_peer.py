"""The workloads in Numba, as a person would write the loops by hand: parallel, fastmath, results into given memory."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numba
import numpy as np

from graphflow.bench import ocean
from graphflow.bench.workloads import Workload

parallel = numba.njit(parallel=True, fastmath=True)
prange = numba.prange
ONE, HALF = np.float32(1), np.float32(0.5)

# The formula of ocean.py, compiled as it stands; the first of the two calls the second.
surface = numba.njit(fastmath=True)(ocean.sea_water_surface)
ocean.sea_water_surface = surface
sea_water = numba.njit(fastmath=True)(ocean.sea_water_density)
root = numba.njit(fastmath=True)(lambda x: math.sqrt(x))


def load(framework: str) -> tuple[Callable[[Workload], Callable[[], Any]], str]:
    """(workload -> step, version)."""
    return make_step, numba.__version__


def make_step(workload: Workload) -> Callable[[], Any]:
    """A function that runs the workload once and returns its value. KeyError if there is no text for it."""
    formula = COMPILED[workload.kind]
    feeds, _ = workload.arrays()
    if workload.kind not in OUTPUTS:
        return lambda: formula(*feeds)
    out = np.empty(OUTPUTS[workload.kind](*feeds), feeds[0].dtype)

    def step() -> Any:
        formula(*feeds, out)
        return out

    return step


def call(x: Any, out: Any) -> None:
    for i in range(x.size):
        out[i] = x[i] + ONE


def chain(x: Any, w: Any, out: Any) -> None:
    for i in prange(x.size):
        out[i] = math.tanh(x[i] * w[i] + HALF) / (ONE + math.exp(-x[i])) + math.exp(-w[i] * w[i])


def axpy(x: Any, w: Any, out: Any) -> None:
    for i in prange(x.size):
        out[i] = np.float32(2) * x[i] + w[i]


def gelu_sum(x: Any) -> Any:
    total = np.float32(0)
    for i in prange(x.size):
        v = x[i]
        total += HALF * v * (ONE + math.tanh(np.float32(0.7978845608) * (v + np.float32(0.044715) * v * v * v)))
    return total


def density(s: Any, t: Any, p: Any, out: Any) -> None:
    for i in prange(s.size):
        out[i] = sea_water(s[i], t[i], p[i], root)


def softmax(x: Any, out: Any) -> None:
    for i in prange(x.shape[0]):
        top, total = x[i].max(), np.float32(0)
        for j in range(x.shape[1]):
            out[i, j] = math.exp(x[i, j] - top)
            total += out[i, j]
        for j in range(x.shape[1]):
            out[i, j] /= total


def layernorm(x: Any, scale: Any, shift: Any, out: Any) -> None:
    for i in prange(x.shape[0]):
        mean = x[i].sum() / np.float32(x.shape[1])
        variance = np.float32(0)
        for j in range(x.shape[1]):
            variance += (x[i, j] - mean) * (x[i, j] - mean)
        factor = ONE / math.sqrt(variance / np.float32(x.shape[1]) + np.float32(1e-5))
        for j in range(x.shape[1]):
            out[i, j] = (x[i, j] - mean) * factor * scale[j] + shift[j]


def transpose(x: Any, out: Any) -> None:
    for j in prange(out.shape[0]):
        for i in range(out.shape[1]):
            out[j, i] = np.float32(2) * x[i, j]


def colsum(x: Any, out: Any) -> None:
    for block in prange((x.shape[1] + 255) // 256):
        begin, end = block * 256, min(block * 256 + 256, x.shape[1])
        out[begin:end] = 0
        for i in range(x.shape[0]):
            for j in range(begin, end):
                out[j] += x[i, j]


def rowsum(x: Any, out: Any) -> None:
    for i in prange(x.shape[0]):
        out[i] = x[i].sum()


FORMULAS = (call, chain, axpy, gelu_sum, density, softmax, layernorm, transpose, colsum, rowsum)
COMPILED = {f.__name__: parallel(f) for f in FORMULAS}
COMPILED["call"] = COMPILED["call_run"] = numba.njit(call)

OUTPUTS: dict[str, Callable[..., Any]] = {
    **dict.fromkeys(("call", "call_run", "chain", "axpy", "density", "softmax", "layernorm"), lambda x, *_: x.shape),
    "transpose": lambda x: x.shape[::-1],
    "colsum": lambda x: x.shape[1:],
    "rowsum": lambda x: x.shape[:1],
}
