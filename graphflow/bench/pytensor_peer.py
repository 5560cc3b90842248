"""The workloads in PyTensor (its linker is Numba, so LLVM): the nearest relative, define-then-run with rewrites."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytensor
import pytensor.tensor as pt

from graphflow.bench.ocean import isoneutral_mixing, sea_water_density
from graphflow.bench.workloads import LEARNING_RATE, Workload


def load(framework: str) -> tuple[Callable[[Workload], Callable[[], Any]], str]:
    """(workload -> step, version)."""
    return make_step, pytensor.__version__


def make_step(workload: Workload) -> Callable[[], Any]:
    """A function that runs the workload once and returns its value. KeyError if there is no text for it."""
    formula = FORMULAS[workload.kind]
    fed, weights = workload.arrays()
    pytensor.config.floatX = "float64" if any(a.dtype == "float64" for a in fed) else "float32"  # of Python's numbers
    inputs = [pt.tensor(dtype=a.dtype.name, shape=a.shape) for a in fed]
    shared = [pytensor.shared(w) for w in weights]
    result = formula(*inputs, *shared)
    updates = list(adam(pt.grad(result, shared), shared)) if workload.optimizer else []
    function = pytensor.function(inputs, result, updates=updates)
    return lambda: function(*fed)


def adam(gradients: list[Any], shared: list[Any]) -> Iterator[tuple[Any, Any]]:
    """(shared variable, new value) of all the state. Every trained text here uses Adam."""
    one, first, second = np.float32(1), np.float32(0.9), np.float32(0.999)
    time = pytensor.shared(np.float32(0))
    rate = np.float32(LEARNING_RATE) * pt.sqrt(one - second ** (time + one)) / (one - first ** (time + one))
    yield time, time + one
    for w, g in zip(shared, gradients, strict=True):
        m, v = (pytensor.shared(np.zeros_like(w.get_value())) for _ in range(2))
        new_m, new_v = first * m + (one - first) * g, second * v + (one - second) * g * g
        yield m, new_m
        yield v, new_v
        yield w, (w - rate * new_m / (pt.sqrt(new_v) + np.float32(1e-8))).astype("float32")


def normalized(x: Any, scale: Any, shift: Any) -> Any:
    mean = x.mean(-1, keepdims=True)
    variance = ((x - mean) ** 2).mean(-1, keepdims=True)
    return (x - mean) / pt.sqrt(variance + 1e-5) * scale + shift


def gelu(x: Any) -> Any:
    return 0.5 * x * (1 + pt.tanh(0.7978845608 * (x + 0.044715 * x * x * x)))


def attention(q: Any, k: Any, v: Any) -> Any:
    scores = pt.matmul(q, k.transpose(0, 1, 3, 2)) * np.float32(q.type.shape[-1] ** -0.5)
    return pt.matmul(pt.special.softmax(scores, axis=-1), v)


def mlp(x: Any, y: Any, w1: Any, b1: Any, w2: Any, b2: Any) -> Any:
    logits = pt.maximum(x @ w1 + b1, 0) @ w2 + b2
    return -pt.special.log_softmax(logits, axis=-1)[pt.arange(x.type.shape[0]), y].mean()


def isoneutral(t: Any, s: Any, sea: Any, z: Any) -> Any:
    return pt.stack(isoneutral_mixing(t, s, sea, z, pt.tanh, pt.abs, lambda v: pt.minimum(v, 0.0)))


FORMULAS: dict[str, Callable[..., Any]] = {
    "call_run": lambda x: x + np.float32(1),
    "call": lambda x: x + np.float32(1),
    "chain": lambda x, w: pt.tanh(x * w + 0.5) * pt.sigmoid(x) + pt.exp(-w * w),
    "axpy": lambda x, w: 2 * x + w,
    "gelu_sum": lambda x: gelu(x).sum(),
    "density": lambda s, t, p: sea_water_density(s, t, p, pt.sqrt),
    "isoneutral": isoneutral,
    "softmax": lambda x: pt.special.softmax(x, axis=-1),
    "layernorm": normalized,
    "transpose": lambda x: x.T * 2.0,
    "colsum": lambda x: x.sum(0),
    "rowsum": lambda x: x.sum(1),
    "gemm": lambda a, b: a @ b,
    "bmm": pt.matmul,
    "gemv": lambda a, b: a @ b,
    "dense": lambda a, b, c: pt.maximum(a @ b + c, 0),
    "attention": attention,
    "mlp_train": mlp,
    "adam_small": lambda *weights: sum((0.5 * (w * w).sum() for w in weights), np.float32(0)),
}
