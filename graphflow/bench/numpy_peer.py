"""The workloads in NumPy, where one is a few of its calls: what a user would write without any framework."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from graphflow.bench.ocean import isoneutral_mixing, sea_water_density
from graphflow.bench.workloads import STEPS, Workload


def load(framework: str) -> tuple[Callable[[Workload], Callable[[], Any]], str]:
    """(workload -> step, version)."""
    return make_step, np.__version__


def make_step(workload: Workload) -> Callable[[], Any]:
    """A function that runs the workload once and returns its value. KeyError if there is no text for it."""
    formula = FORMULAS[workload.kind]
    feeds, _ = workload.arrays()
    if workload.kind in ("gemm", "bmm", "gemv"):
        a, b = feeds
        out = np.matmul(a, b)
        return lambda: np.matmul(a, b, out=out)
    return lambda: formula(*feeds)


def softmax(x: Any) -> Any:
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def layernorm(x: Any, scale: Any, shift: Any) -> Any:
    centred = x - x.mean(-1, keepdims=True)
    return centred / np.sqrt((centred * centred).mean(-1, keepdims=True) + np.float32(1e-5)) * scale + shift


def gelu_sum(x: Any) -> Any:
    return (0.5 * x * (1 + np.tanh(0.7978845608 * (x + 0.044715 * x * x * x)))).sum()


def attention(q: Any, k: Any, v: Any) -> Any:
    return softmax(q @ k.swapaxes(-1, -2) * np.float32(q.shape[-1] ** -0.5)) @ v


def loop(x: Any) -> Any:
    for _ in range(STEPS):
        x = np.tanh(x * np.float32(1.01) + np.float32(0.1))
    return x


def isoneutral(t: Any, s: Any, sea: Any, z: Any) -> Any:
    return np.stack(isoneutral_mixing(t, s, sea, z, np.tanh, np.abs, lambda v: np.minimum(v, 0.0)))


FORMULAS: dict[str, Callable[..., Any]] = {
    "call_run": lambda x: x + np.float32(1),
    "call": lambda x: x + np.float32(1),
    "chain": lambda x, w: np.tanh(x * w + 0.5) / (1 + np.exp(-x)) + np.exp(-w * w),
    "axpy": lambda x, w: 2 * x + w,
    "gelu_sum": gelu_sum,
    "density": lambda s, t, p: sea_water_density(s, t, p, np.sqrt),
    "isoneutral": isoneutral,
    "softmax": softmax,
    "layernorm": layernorm,
    "transpose": lambda x: np.ascontiguousarray(x.T * np.float32(2)),
    "colsum": lambda x: x.sum(0),
    "rowsum": lambda x: x.sum(1),
    "gemm": np.matmul,
    "bmm": np.matmul,
    "gemv": np.matmul,
    "dense": lambda a, b, c: np.maximum(a @ b + c, 0),
    "attention": attention,
    "loop": loop,
}
