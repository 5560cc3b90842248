"""Small programs that between them take every path of code generation, in public names only.

    for name, run in PROGRAMS.items():
        results = run()                  # arrays, the same each time

`BENCHED` are the benchmark's workloads at sizes that no vector width divides; the rest are written here.  A target, a
number of threads or the interpreter is chosen outside, by the environment that `run` finds.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import graphflow as tf
from graphflow.bench.tf1 import Program
from graphflow.bench.workloads import select

Array = np.ndarray[Any, Any]

BENCHED = (
    "chain:1003", "gelu_sum:5003", "density:517", "isoneutral:7x6", "softmax:7x33", "layernorm:9x37", "transpose:37x70",
    "colsum:67x41", "rowsum:41x67", "gemm:37x70x33", "gemm:130x97x75", "gemm:33x29x31xfloat64", "gemm:1x300x17",
    "bmm:19x3", "bmm:9x16", "gemv:33x65", "dense:17x40x23", "conv3x3:2x9x5x17", "conv3x3:2x19x32x44",
    "conv1x1:2x7x9x13", "depthwise:2x9x13", "bottleneck:1x7x20", "attention:2x3x9x8", "cnn_train:3",
    "mlp_train:13x29x19x7", "lstm_train:3x4x5x6x3", "transformer_train:2x5x12x3", "adam_small:9",
)  # fmt: skip


def numbers(*shape: int, seed: int = 0, dtype: str = "float32") -> Array:
    """Normally distributed numbers."""
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def computed(build: Callable[..., Any], *values: Array) -> list[Array]:
    """What a session answers for a function of placeholders with these values."""
    with tf.Graph().as_default(), tf.Session() as sess:
        fed = [tf.placeholder(v.dtype, v.shape) for v in values]
        fetched = build(*fed)
        return [np.asarray(v) for v in sess.run(fetched, dict(zip(fed, values, strict=True)))]


def benched(name: str) -> Callable[[], list[Array]]:
    """Two steps of a workload: what it answers and, where it trains, its variables."""

    def run() -> list[Array]:
        (workload,) = select([name])
        program = Program(tf, workload)
        step = program.step(plain_run=False)
        results = [np.asarray(step()) for _ in range(2)]
        with program.session as sess:
            return results + [np.asarray(sess.run(v)) for v in tf.trainable_variables()]

    return run


FUNCTIONS = (
    "exp", "expm1", "tanh", "sigmoid", "log_sigmoid", "erf", "erfc", "sin", "cos", "atan", "sinh", "cosh", "square",
    "floor", "ceil", "round", "rint", "sign", "abs", "is_finite",
)  # fmt: skip
OF_POSITIVE = ("log", "log1p", "sqrt", "rsqrt", "reciprocal")
ACTIVATIONS = ("relu", "relu6", "elu", "selu", "softplus", "softsign", "leaky_relu")


def functions(dtype: str) -> list[Array]:
    """Elementwise functions over a range that holds their kinks and most of their branches."""
    x = np.linspace(-30, 30, 1003).astype(dtype)

    def build(v: Any) -> list[Any]:
        positive = tf.abs(v) + 0.01
        return [
            *(getattr(tf, name)(v) for name in FUNCTIONS),
            *(getattr(tf, name)(positive) for name in OF_POSITIVE),
            *(getattr(tf.nn, name)(v) for name in ACTIVATIONS),
            *(tf.tan(v / 20), tf.asin(v / 31), tf.acos(v / 31), tf.pow(positive, v / 10), v % 3),
        ]

    return computed(build, x)


def whole_numbers() -> list[Array]:
    """Integers of several widths, divided, shifted into other dtypes and compared."""

    def build(*values: Any) -> list[Any]:
        found = []
        for v in values:
            found += [v + v, v * v, v // 3, v % 7, tf.reduce_sum(v, 0), tf.reduce_max(v, 1), tf.argmin(v, 1)]
            found += [tf.cast(v, tf.float32) / 3, tf.cast(v > 4, tf.int64), tf.cast(tf.cast(v, tf.float64), tf.int32)]
        return found

    plain = np.random.default_rng(0).integers(0, 100, (19, 21))
    return computed(build, *(plain.astype(t) for t in ("int8", "uint8", "int16", "int32", "int64")))


def reductions(dtype: str) -> list[Array]:
    """Sums, products and extremes over every set of axes."""
    axes = [(0,), (1,), (2,), (0, 1), (0, 2), (1, 2), (0, 1, 2)]

    def build(v: Any) -> list[Any]:
        found = [f(v, a) for f in (tf.reduce_sum, tf.reduce_mean, tf.reduce_max, tf.reduce_min) for a in axes]
        found += [tf.argmax(v, a) for a in range(3)] + [tf.reduce_prod(v, 1), tf.reduce_logsumexp(v, 2)]
        return [*found, tf.nn.softmax(v, 1), tf.nn.log_softmax(v, 0), tf.nn.l2_loss(v)]

    return computed(build, numbers(5, 18, 35, dtype=dtype))


def views() -> list[Array]:
    """Transposes by every permutation, and slices, pads, joins of what was moved."""

    def build(v: Any) -> list[Any]:
        found = [tf.transpose(v, p) * 2 for p in ((0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0))]
        found += [v[:, ::-1, 1::3], v[1, 2:-3], tf.reverse(v, [1, 2]), tf.pad(v, [[1, 2], [0, 3], [4, 0]])]
        found += [tf.concat([v, v * 2, v[:, :1]], 1), tf.stack([v[0], v[1]], 2), tf.tile(v, [1, 2, 3])]
        return [*found, *tf.split(v, 3, 1), tf.reshape(tf.transpose(v), [-1, 3]), tf.reshape(v + 1, [6, -1])]

    return computed(build, numbers(3, 18, 35))


def convolutions(axes: int) -> list[Array]:
    """Convolutions with both gradients, transposed, strided, dilated and grouped; pools with their gradients."""
    conv = (tf.nn.conv1d, tf.nn.conv2d, tf.nn.conv3d)[axes - 1]
    space, window = (11, 10, 7)[:axes], (3, 2, 3)[:axes]

    def build(x: Any, w: Any, few: Any) -> list[Any]:
        found = []
        for filters, stride, padding, rate in (
            (w, 1, "SAME", 1),
            (w, 2, "SAME", 1),
            (w, 1, "VALID", 2),
            (few, 1, "SAME", 1),
        ):
            y = conv(x, filters, stride, padding, dilations=rate)
            found += [y, *tf.gradients(tf.reduce_sum(tf.square(y)), [x, filters])]
        pools = (
            (tf.nn.max_pool1d, tf.nn.max_pool, tf.nn.max_pool3d),
            (tf.nn.avg_pool1d, tf.nn.avg_pool, tf.nn.avg_pool3d),
        )
        for kinds in pools:
            for size, stride, padding in ((2, 2, "VALID"), (3, 2, "SAME"), (3, 1, "SAME")):
                y = kinds[axes - 1](x, size, stride, padding)
                found += [y, *tf.gradients(tf.reduce_sum(y * y), x)]
        return found

    return computed(build, numbers(2, *space, 6), numbers(*window, 6, 10, seed=1), numbers(*window, 2, 9, seed=2))


def depthwise() -> list[Array]:
    """Depthwise and separable convolutions with their gradients."""

    def build(x: Any, w: Any, p: Any) -> list[Any]:
        found = []
        for stride in (1, 2):
            y = tf.nn.separable_conv2d(x, w, p, [1, stride, stride, 1], "SAME")
            found += [y, *tf.gradients(tf.reduce_sum(tf.square(y)), [x, w, p])]
        return found

    return computed(build, numbers(2, 9, 8, 5), numbers(3, 3, 5, 2, seed=1), numbers(1, 1, 10, 4, seed=2))


def draws() -> list[Array]:
    """Random numbers, twice."""
    with tf.Graph().as_default(), tf.Session() as sess:
        tf.set_random_seed(4)
        fetched = [
            tf.random_uniform([7, 41]), tf.random_normal([301], dtype=tf.float64), tf.truncated_normal([5, 67]),
            tf.random_uniform([33], -5, 99, tf.int32),
        ]  # fmt: skip
        return [np.asarray(v) for _ in range(2) for v in sess.run(fetched)]


PROGRAMS: dict[str, Callable[[], list[Array]]] = {
    **{name: benched(name) for name in BENCHED},
    "functions, float32": lambda: functions("float32"),
    "functions, float64": lambda: functions("float64"),
    "reductions, float32": lambda: reductions("float32"),
    "reductions, float64": lambda: reductions("float64"),
    **{f"convolutions, {n} axes": lambda n=n: convolutions(n) for n in (1, 2, 3)},
    "depthwise": depthwise,
    "whole numbers": whole_numbers,
    "views": views,
    "draws": draws,
}
