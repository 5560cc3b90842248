"""The workloads in JAX: jitted, which is XLA's CPU compiler; parameters are donated, so that updates are in place."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from graphflow.bench.ocean import isoneutral_mixing, sea_water_density
from graphflow.bench.workloads import HEADS, LEARNING_RATE, STEPS, Workload

Step = Callable[[], Any]


def load(framework: str) -> tuple[Callable[[Workload], Step], str]:
    """(workload -> step, version)."""
    return make_step, jax.__version__


def make_step(workload: Workload) -> Step:
    """A function that runs the workload once and waits for its value. KeyError if there is no text for it."""
    formula = FORMULAS[workload.kind]
    fed, weights = workload.arrays()
    jax.config.update("jax_enable_x64", any(a.dtype == "float64" for a in fed))
    feeds, parameters = [jnp.asarray(a) for a in fed], [jnp.asarray(w) for w in weights]
    if workload.optimizer:
        return training(formula, feeds, parameters, workload.optimizer)
    compiled = jax.jit(lambda *values: formula(*values, *parameters))
    return lambda: compiled(*feeds).block_until_ready()


def training(formula: Callable[..., Any], feeds: list[Any], parameters: list[Any], optimizer: str) -> Step:
    """Steps that change the parameters and return the loss."""
    update, slots = OPTIMIZERS[optimizer]
    state = [parameters, *([jnp.zeros_like(p) for p in parameters] for _ in range(slots)), jnp.float32(0)]

    def run(state: list[Any]) -> tuple[list[Any], Any]:
        loss, gradients = jax.value_and_grad(lambda p: formula(*feeds, *p))(state[0])
        return update(gradients, *state), loss

    compiled = jax.jit(run, donate_argnums=0)

    def step() -> Any:
        state[:], loss = compiled(state)
        return loss.block_until_ready()

    return step


def adam(gradients: list[Any], parameters: list[Any], m: list[Any], v: list[Any], time: Any) -> list[Any]:
    time = time + 1
    rate = LEARNING_RATE * jnp.sqrt(1 - 0.999**time) / (1 - 0.9**time)
    m = [0.9 * a + 0.1 * g for a, g in zip(m, gradients, strict=True)]
    v = [0.999 * a + 0.001 * g * g for a, g in zip(v, gradients, strict=True)]
    new = [p - rate * a / (jnp.sqrt(b) + 1e-8) for p, a, b in zip(parameters, m, v, strict=True)]
    return [new, m, v, time]


def momentum(gradients: list[Any], parameters: list[Any], m: list[Any], time: Any) -> list[Any]:
    m = [0.9 * a + g for a, g in zip(m, gradients, strict=True)]
    return [[p - LEARNING_RATE * a for p, a in zip(parameters, m, strict=True)], m, time]


def sgd(gradients: list[Any], parameters: list[Any], time: Any) -> list[Any]:
    return [[p - LEARNING_RATE * g for p, g in zip(parameters, gradients, strict=True)], time]


# Each with the number of its slots.
OPTIMIZERS: dict[str, tuple[Callable[..., list[Any]], int]] = {
    "adam": (adam, 2),
    "momentum": (momentum, 1),
    "sgd": (sgd, 0),
}


def gelu(x: Any) -> Any:
    return 0.5 * x * (1 + jnp.tanh(0.7978845608 * (x + 0.044715 * x * x * x)))


def normalized(x: Any, scale: Any, shift: Any) -> Any:
    mean = x.mean(-1, keepdims=True)
    variance = ((x - mean) ** 2).mean(-1, keepdims=True)
    return (x - mean) * jax.lax.rsqrt(variance + 1e-5) * scale + shift


def cross_entropy(labels: Any, logits: Any) -> Any:
    return -jnp.take_along_axis(jax.nn.log_softmax(logits), labels[:, None], 1).mean()


def conv(x: Any, w: Any, padding: str = "SAME", groups: int = 1) -> Any:
    layout = ("NHWC", "HWIO", "NHWC")
    return jax.lax.conv_general_dilated(x, w, (1, 1), padding, dimension_numbers=layout, feature_group_count=groups)


def depthwise(x: Any, w: Any) -> Any:
    channels = x.shape[-1]
    return conv(x, w.reshape(3, 3, 1, channels), groups=channels)


def bottleneck(x: Any, w1: Any, b1: Any, w2: Any, b2: Any, w3: Any, b3: Any) -> Any:
    y = jax.nn.relu(conv(x, w1) + b1)
    y = jax.nn.relu(conv(y, w2) + b2)
    return jax.nn.relu(conv(y, w3) + b3 + x)


def attention(q: Any, k: Any, v: Any) -> Any:
    return jax.nn.softmax(q @ k.swapaxes(-1, -2) * q.shape[-1] ** -0.5) @ v


def mlp(x: Any, y: Any, w1: Any, b1: Any, w2: Any, b2: Any) -> Any:
    return cross_entropy(y, jax.nn.relu(x @ w1 + b1) @ w2 + b2)


def cnn(x: Any, y: Any, k1: Any, c1: Any, k2: Any, c2: Any, w1: Any, b1: Any, w2: Any, b2: Any) -> Any:
    for k, c in ((k1, c1), (k2, c2)):
        x = jax.nn.relu(conv(x, k, "VALID") + c)
        x = jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")
    return mlp(x.reshape(-1, 320), y, w1, b1, w2, b2)


def lstm(x: Any, y: Any, w: Any, b: Any, w_out: Any, b_out: Any) -> Any:
    def cell(carry: Any, now: Any) -> Any:
        memory, state = carry
        new, candidate, forget, out = jnp.split(jnp.concatenate([now, state], 1) @ w + b, 4, 1)
        memory = memory * jax.nn.sigmoid(forget + 1) + jax.nn.sigmoid(new) * jnp.tanh(candidate)
        return (memory, jnp.tanh(memory) * jax.nn.sigmoid(out)), None

    start = jnp.zeros((x.shape[0], w_out.shape[0]), x.dtype)
    (_, state), _ = jax.lax.scan(cell, (start, start), x.swapaxes(0, 1))
    return cross_entropy(y, state @ w_out + b_out)


def transformer(x: Any, y: Any, *weights: Any) -> Any:
    batch, times, width = x.shape
    norms, dense = weights[:4], list(zip(weights[4::2], weights[5::2], strict=True))

    def layer(v: Any, number: int) -> Any:
        w, b = dense[number]
        return v @ w + b

    def heads(v: Any) -> Any:
        return v.reshape(batch, times, HEADS, width // HEADS).transpose(0, 2, 1, 3)

    before = normalized(x, *norms[:2])
    mixed = attention(*(heads(layer(before, n)) for n in range(3)))
    x = x + layer(mixed.transpose(0, 2, 1, 3).reshape(batch, times, width), 3)
    x = x + layer(gelu(layer(normalized(x, *norms[2:]), 4)), 5)
    return cross_entropy(y, layer(x.mean(1), 6))


def loop(x: Any) -> Any:
    return jax.lax.fori_loop(0, STEPS, lambda _, v: jnp.tanh(v * 1.01 + 0.1), x)


def isoneutral(t: Any, s: Any, sea: Any, z: Any) -> Any:
    return jnp.stack(isoneutral_mixing(t, s, sea, z, jnp.tanh, jnp.abs, lambda v: jnp.minimum(v, 0.0)))


FORMULAS: dict[str, Callable[..., Any]] = {
    "call_run": lambda x: x + 1.0,
    "call": lambda x: x + 1.0,
    "chain": lambda x, w: jnp.tanh(x * w + 0.5) * jax.nn.sigmoid(x) + jnp.exp(-w * w),
    "axpy": lambda x, w: 2.0 * x + w,
    "gelu_sum": lambda x: gelu(x).sum(),
    "density": lambda s, t, p: sea_water_density(s, t, p, jnp.sqrt),
    "isoneutral": isoneutral,
    "softmax": lambda x: jax.nn.softmax(x),
    "layernorm": normalized,
    "transpose": lambda x: x.T * 2.0,
    "colsum": lambda x: x.sum(0),
    "rowsum": lambda x: x.sum(1),
    "gemm": lambda a, b: a @ b,
    "bmm": lambda a, b: a @ b,
    "gemv": lambda a, b: a @ b,
    "dense": lambda a, b, c: jax.nn.relu(a @ b + c),
    "conv3x3": lambda x, w: jax.nn.relu(conv(x, w)),
    "conv1x1": lambda x, w: jax.nn.relu(conv(x, w)),
    "depthwise": depthwise,
    "bottleneck": bottleneck,
    "attention": attention,
    "mlp_train": mlp,
    "cnn_train": cnn,
    "lstm_train": lstm,
    "transformer_train": transformer,
    "adam_small": lambda *weights: sum(0.5 * (w * w).sum() for w in weights),
    "embedding_train": lambda rows, wanted, table: ((table[rows] - wanted) ** 2).sum(),
    "loop": loop,
}
