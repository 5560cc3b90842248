"""What is measured: the table `WORKLOADS`, and the arrays that each workload is given, the same ones everywhere.

    >>> [w.name for w in select(["gemm_5*", "softmax:33x100"])]
    ['gemm_512', 'softmax:33x100']

Read by interpreters as old as Python 3.7, in which TensorFlow 1.15 lives.
"""

from __future__ import annotations

import fnmatch
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

HEADS = 4  # of the transformer
STEPS = 1000  # of the loop
LEARNING_RATE = 1e-6  # so small that thousands of steps change nothing that a check would see


@dataclass(frozen=True)
class Workload:
    """A formula (`kind`, a key of `KINDS`) at a size, a tuple of ints, then words such as "float64"."""

    name: str
    kind: str
    size: tuple[Any, ...]

    @property
    def what(self) -> str:
        """One line for people."""
        return KINDS[self.kind].what

    @property
    def optimizer(self) -> str:
        """ "adam", "momentum" or "sgd" if the formula is a loss to train on, else ""."""
        return KINDS[self.kind].optimizer

    def arrays(self) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        """(what is fed each time, the weights).  ValueError if the size does not fit the kind."""
        arrays = KINDS[self.kind].arrays
        if not fits(inspect.signature(arrays), self.size):
            form = " x ".join(map(str, inspect.signature(arrays).parameters.values()))
            raise ValueError(f"{self.name}: a size of {self.kind} is {form or 'empty'}")
        return arrays(*self.size)


@dataclass(frozen=True)
class Kind:
    """What a formula computes, for people; its arrays from its size; the optimizer that trains its weights, if any."""

    what: str
    arrays: Callable[..., tuple[tuple[Any, ...], tuple[Any, ...]]]
    optimizer: str = ""


def fits(signature: inspect.Signature, size: tuple[Any, ...]) -> bool:
    """Whether a function can be called with a size: numbers, and a word only where it takes a dtype."""
    try:
        bound = signature.bind(*size).arguments
    except TypeError:
        return False
    return all(isinstance(value, str) == (name == "dtype") for name, value in bound.items())


def normal(shape: Sequence[int], seed: int = 0, scale: float = 1.0, dtype: str = "float32") -> Any:
    """Normally distributed numbers; the same everywhere."""
    return (np.random.RandomState(seed).standard_normal(tuple(shape)) * scale).astype(dtype)


def uniform(shape: Sequence[int], low: float, high: float, seed: int = 0, dtype: str = "float64") -> Any:
    """Numbers in [low, high); the same everywhere."""
    return np.random.RandomState(seed).uniform(low, high, tuple(shape)).astype(dtype)


def integers(count: int, below: int, seed: int = 9) -> Any:
    """Labels or row numbers, int32."""
    return np.random.RandomState(seed).randint(0, below, count).astype(np.int32)


def fed(*shapes: Sequence[int], scales: Sequence[float] = (), dtype: str = "float32") -> tuple[Any, ...]:
    """Arrays of these shapes to be fed, seeds counting from 0."""
    scale = [*scales, *[1.0] * (len(shapes) - len(scales))]
    return tuple(normal(shape, seed, scale[seed], dtype) for seed, shape in enumerate(shapes))


def weights(*shapes: Sequence[int], scale: float = 0.05) -> tuple[Any, ...]:
    """Float32 weights; vectors start at 0, as biases do."""
    return tuple(
        normal(shape, 100 + seed, scale) if len(shape) > 1 else np.zeros(shape, np.float32)
        for seed, shape in enumerate(shapes)
    )


def density_arrays(count: int) -> Any:
    """Salinity (PSS-78), temperature (°C) and pressure (bar) of sea water."""
    return (uniform((count,), 30, 40), uniform((count,), -2, 30, 1), uniform((count,), 0, 600, 2)), ()


def isoneutral_arrays(side: int, levels: int) -> Any:
    """Temperature, salinity and what is sea (1) of a stratified basin; heights of the levels (m), rising; float64."""
    depth = np.linspace(-4000.0, -5.0, levels)
    shape = (side, side, levels)
    temperature = 20 * np.exp(depth / 800) + uniform(shape, -0.5, 0.5)
    salinity = 35 + np.exp(depth / 500) + uniform(shape, -0.05, 0.05, 1)
    sea = (uniform(shape, 0, 1, 2) < 0.9).astype("float64")
    return (temperature, salinity, sea, depth), ()


def bottleneck_arrays(batch: int, side: int, channels: int) -> Any:
    """A residual block of ResNet-50: 1x1 down to a quarter, 3x3, 1x1 up, batch norm folded into the weights."""
    quarter = channels // 4
    filters = (1, 1, channels, quarter), (3, 3, quarter, quarter), (1, 1, quarter, channels)
    shapes = [shape for both in filters for shape in (both, both[3:])]
    return fed((batch, side, side, channels)), weights(*shapes)


def mlp_arrays(batch: int, inputs: int, hidden: int, classes: int) -> Any:
    """A perceptron with one hidden layer."""
    shapes = (inputs, hidden), (hidden,), (hidden, classes), (classes,)
    return (normal((batch, inputs), 3), integers(batch, classes)), weights(*shapes)


def cnn_arrays(batch: int) -> Any:
    """Two convolutions with pools, two dense layers, for 28 x 28 pixels."""
    shapes = (5, 5, 1, 10), (10,), (5, 5, 10, 20), (20,), (320, 50), (50,), (50, 10), (10,)
    return (normal((batch, 28, 28, 1), 5), integers(batch, 10)), weights(*shapes, scale=0.1)


def lstm_arrays(batch: int, times: int, inputs: int, hidden: int, classes: int) -> Any:
    """One LSTM layer, and a dense one on its last state."""
    shapes = (inputs + hidden, 4 * hidden), (4 * hidden,), (hidden, classes), (classes,)
    return (normal((batch, times, inputs), 3), integers(batch, classes)), weights(*shapes)


def transformer_arrays(batch: int, times: int, width: int, classes: int) -> Any:
    """One block, normalized before attention and before the dense layers: 8 weights, each with its bias."""
    dense = [(width, width)] * 4 + [(width, 4 * width), (4 * width, width), (width, classes)]
    matrices = [shape for pair in dense for shape in (pair, pair[1:])]
    norms = tuple(np.ones(width, np.float32) if n % 2 == 0 else np.zeros(width, np.float32) for n in range(4))
    return (normal((batch, times, width), 3), integers(batch, classes)), norms + weights(*matrices)


def small_arrays(count: int) -> Any:
    """Many small tensors, as the layers of a deep narrow network have them."""
    shapes = [((16 + n % 17, 8 + n % 13) if n % 2 else (32 + n % 29,)) for n in range(count)]
    return (), tuple(normal(shape, n) for n, shape in enumerate(shapes))


def embedding_arrays(rows: int, width: int, batch: int) -> Any:
    """A table of `rows` rows, of which `batch` are looked up and moved toward given ones."""
    return (integers(batch, rows), normal((batch, width), 1)), (normal((rows, width), 2),)


KINDS = {
    "call_run": Kind("x + 1 of four numbers: what a Session.run costs", lambda: ((np.ones(4, np.float32),), ())),
    "call": Kind("x + 1 of four numbers: what a call costs", lambda: ((np.ones(4, np.float32),), ())),
    "chain": Kind("tanh(x w + 1/2) sigmoid(x) + exp(-w w)", lambda n: (fed((n,), (n,)), ())),
    "axpy": Kind("2 x + w: memory bound", lambda n: (fed((n,), (n,)), ())),
    "gelu_sum": Kind("sum of GELU(x), by tanh", lambda n: (fed((n,)), ())),
    "density": Kind("sea water's equation of state, 41 coefficients, float64", density_arrays),
    "isoneutral": Kind("mixing along surfaces of equal density, 16 triads, float64", isoneutral_arrays),
    "softmax": Kind("softmax of rows", lambda m, n: (fed((m, n)), ())),
    "layernorm": Kind("layer norm of rows", lambda m, n: (fed((m, n), (n,), (n,)), ())),
    "transpose": Kind("2 x transposed", lambda m, n: (fed((m, n)), ())),
    "colsum": Kind("sums of columns", lambda m, n: (fed((m, n)), ())),
    "rowsum": Kind("sums of rows", lambda m, n: (fed((m, n)), ())),
    "gemm": Kind("matrix product", lambda m, k, n, dtype="float32": (fed((m, k), (k, n), dtype=dtype), ())),
    "bmm": Kind(
        "products of many small matrices", lambda b, n, dtype="float32": (fed((b, n, n), (b, n, n), dtype=dtype), ())
    ),
    "gemv": Kind("matrix times vector", lambda m, n: (fed((m, n), (n, 1)), ())),
    "dense": Kind("relu(a b + c)", lambda m, k, n: (fed((m, k), (k, n), (n,)), ())),
    "conv3x3": Kind(
        "relu of a 3x3 convolution", lambda b, s, c, o: (fed((b, s, s, c), (3, 3, c, o), scales=(1, 0.1)), ())
    ),
    "conv1x1": Kind(
        "relu of a 1x1 convolution", lambda b, s, c, o: (fed((b, s, s, c), (1, 1, c, o), scales=(1, 0.1)), ())
    ),
    "depthwise": Kind(
        "3x3 depthwise convolution", lambda b, s, c: (fed((b, s, s, c), (3, 3, c, 1), scales=(1, 0.1)), ())
    ),
    "bottleneck": Kind("a ResNet block: 1x1, 3x3, 1x1 with a shortcut, weights constant", bottleneck_arrays),
    "attention": Kind("softmax(q k' / sqrt d) v", lambda b, h, t, d: (fed(*[(b, h, t, d)] * 3), ())),
    "mlp_train": Kind("a step of a perceptron, Adam", mlp_arrays, "adam"),
    "cnn_train": Kind("a step of a small convolutional network, momentum", cnn_arrays, "momentum"),
    "lstm_train": Kind("a step of an LSTM, unrolled, Adam", lstm_arrays, "adam"),
    "transformer_train": Kind("a step of a transformer block, Adam", transformer_arrays, "adam"),
    "adam_small": Kind("Adam over many small tensors", small_arrays, "adam"),
    "embedding_train": Kind("gradient descent on some rows of a table", embedding_arrays, "sgd"),
    "loop": Kind("1,000 times tanh(1.01 x + 0.1), in a while loop", lambda n: (fed((n,)), ())),
}

SIZES = {
    "call_run": (), "call": (),
    "chain": (1_000_000,), "axpy": (4_194_304,), "gelu_sum": (4_000_000,), "density": (262_144,),
    "isoneutral": (96, 26),
    "softmax": (1024, 1024), "layernorm": (2048, 768), "transpose": (2048, 2048), "colsum": (4096, 1024),
    "rowsum": (4096, 1024),
    "gemm_small": (32, 784, 128), "gemm_512": (512, 512, 512), "gemm_1024": (1024, 1024, 1024),
    "gemm_2048": (2048, 2048, 2048), "gemm_512_f64": (512, 512, 512, "float64"),
    "bmm_2": (65536, 2), "bmm_4": (16384, 4), "bmm_8": (4096, 8), "bmm_16": (1024, 16), "bmm_32": (256, 32),
    "gemv": (4096, 4096), "dense": (128, 784, 512),
    "conv3x3": (8, 32, 64, 64), "conv1x1": (8, 32, 256, 64), "depthwise": (8, 56, 128), "bottleneck": (1, 56, 256),
    "attention": (4, 8, 256, 64),
    "mlp_train": (128, 784, 128, 10), "cnn_train": (64,), "lstm_train": (32, 50, 32, 128, 10),
    "transformer_train": (8, 128, 256, 10), "adam_small": (200,), "embedding_train": (50_000, 64, 512),
    "loop": (1024,),
}  # fmt: skip


def kind_of(name: str) -> str:
    """The kind of a workload's name: `gemm` of `gemm_512_f64`."""
    return name if name in KINDS else name.partition("_")[0]


WORKLOADS = tuple(Workload(name, kind_of(name), size) for name, size in SIZES.items())


def select(patterns: Sequence[str]) -> list[Workload]:
    """The workloads that patterns name, in their order: `gemm*` of the table, `softmax:33x100` of any size.

    ValueError for a pattern that names none.
    """
    chosen: dict[Workload, None] = {}
    for pattern in patterns:
        found = [sized(pattern)] if ":" in pattern else [w for w in WORKLOADS if fnmatch.fnmatch(w.name, pattern)]
        if not found:
            raise ValueError(f"no workload is called {pattern!r}; there are {', '.join(SIZES)}")
        chosen.update(dict.fromkeys(found))
    return list(chosen)


def sized(text: str) -> Workload:
    """`gemm:300x200x100xfloat64` as a workload. ValueError if there is no such kind or the size does not fit it."""
    kind, _, sizes = text.partition(":")
    if kind not in KINDS:
        raise ValueError(f"no workload is of the kind {kind!r}; there are {', '.join(KINDS)}")
    words = [word for word in sizes.split("x") if word]
    wrong = [word for word in words if not word.isdecimal() and word not in ("float32", "float64")]
    if wrong:
        raise ValueError(f"{text}: {wrong[0]!r} is neither a number nor float32 nor float64")
    workload = Workload(text, kind, tuple(int(word) if word.isdecimal() else word for word in words))
    workload.arrays()
    return workload
