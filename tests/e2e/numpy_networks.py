"""The demo's two networks and their optimizers in plain NumPy, forward and backward by hand.

loss, gradients = mlp(values, images, labels)         # values and gradients: arrays by the variable's name
Adam().step(values, gradients)                        # in place
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

Array = np.ndarray[Any, Any]
Values = dict[str, Array]


def cross_entropy(logits: Array, labels: Array) -> tuple[float, Array]:
    """Mean of -log softmax(logits)[label], and its derivative by the logits."""
    shifted = logits - logits.max(axis=1, keepdims=True)
    e = np.exp(shifted)
    total = e.sum(axis=1, keepdims=True)
    rows = np.arange(len(labels))
    loss = (np.log(total[:, 0]) - shifted[rows, labels]).mean()
    gradient = e / total
    gradient[rows, labels] -= 1
    return float(loss), gradient / len(labels)


def dense(values: Values, name: str, x: Array) -> Array:
    return x @ values[f"{name}/w"] + values[f"{name}/b"]


def dense_back(values: Values, gradients: Values, name: str, x: Array, g: Array) -> Array:
    """The derivative by x; those by w and b go to `gradients`."""
    gradients[f"{name}/w"] = x.T @ g
    gradients[f"{name}/b"] = g.sum(axis=0)
    return g @ values[f"{name}/w"].T


def mlp(values: Values, images: Array, labels: Array) -> tuple[float, Values]:
    x = images.reshape(len(images), -1)
    hidden = np.maximum(dense(values, "hidden", x), 0)
    loss, g = cross_entropy(dense(values, "output", hidden), labels)
    gradients: Values = {}
    g = dense_back(values, gradients, "output", hidden, g)
    dense_back(values, gradients, "hidden", x, g * (hidden > 0))
    return loss, gradients


def windows(x: Array, h: int, w: int) -> Array:
    """[batch, rows, columns, h, w, channels]"""
    return np.moveaxis(sliding_window_view(x, (h, w), (1, 2)), 3, -1)


def conv(values: Values, name: str, x: Array) -> Array:
    w = values[f"{name}/w"]
    return np.tensordot(windows(x, *w.shape[:2]), w, axes=3) + values[f"{name}/b"]


def conv_back(values: Values, gradients: Values, name: str, x: Array, g: Array) -> Array:
    """The derivative by x: the full correlation of g with the mirrored filter."""
    w = values[f"{name}/w"]
    h, v = w.shape[:2]
    gradients[f"{name}/w"] = np.tensordot(windows(x, h, v), g, axes=((0, 1, 2), (0, 1, 2)))
    gradients[f"{name}/b"] = g.sum(axis=(0, 1, 2))
    wide = np.pad(g, ((0, 0), (h - 1, h - 1), (v - 1, v - 1), (0, 0)))
    return np.tensordot(windows(wide, h, v), w[::-1, ::-1].swapaxes(2, 3), axes=3)


def squares(x: Array) -> Array:
    """The 2 by 2 squares side by side: [batch, rows / 2, columns / 2, channels, 4]"""
    n, h, w, c = x.shape
    return x.reshape(n, h // 2, 2, w // 2, 2, c).transpose(0, 1, 3, 5, 2, 4).reshape(n, h // 2, w // 2, c, 4)


def pool(x: Array) -> Array:
    return squares(x).max(axis=-1)


def pool_back(x: Array, g: Array) -> Array:
    """The derivative goes to the first largest of each square."""
    n, h, w, c = x.shape
    spread = np.zeros((n, h // 2, w // 2, c, 4), x.dtype)
    np.put_along_axis(spread, squares(x).argmax(axis=-1)[..., None], g[..., None], axis=-1)
    return spread.reshape(n, h // 2, w // 2, c, 2, 2).transpose(0, 1, 4, 2, 5, 3).reshape(x.shape)


PIXEL_MEAN, PIXEL_DEVIATION = 0.1307, 0.3081


def cnn(values: Values, images: Array, labels: Array) -> tuple[float, Values]:
    x = (images - images.dtype.type(PIXEL_MEAN)) / images.dtype.type(PIXEL_DEVIATION)
    first = np.maximum(conv(values, "conv1", x), 0)
    strokes = pool(first)
    second = np.maximum(conv(values, "conv2", strokes), 0)
    flat = pool(second).reshape(len(x), -1)
    hidden = np.maximum(dense(values, "hidden", flat), 0)
    loss, g = cross_entropy(dense(values, "output", hidden), labels)
    gradients: Values = {}
    g = dense_back(values, gradients, "output", hidden, g)
    g = dense_back(values, gradients, "hidden", flat, g * (hidden > 0))
    g = pool_back(second, g.reshape(pool(second).shape)) * (second > 0)
    g = pool_back(first, conv_back(values, gradients, "conv2", strokes, g)) * (first > 0)
    conv_back(values, gradients, "conv1", x, g)
    return loss, gradients


class Adam:
    """Kingma & Ba 2014 with epsilon hat."""

    def __init__(self, rate: float = 1e-3, beta1: float = 0.9, beta2: float = 0.999, epsilon: float = 1e-8) -> None:
        self.rate, self.beta1, self.beta2, self.epsilon = rate, beta1, beta2, epsilon
        self.steps = 0
        self.m: Values = {}
        self.v: Values = {}

    def step(self, values: Values, gradients: Values) -> None:
        self.steps += 1
        rate = self.rate * np.sqrt(1 - self.beta2**self.steps) / (1 - self.beta1**self.steps)
        for name, g in gradients.items():
            m, v = self.m.get(name, 0 * g), self.v.get(name, 0 * g)
            self.m[name] = m = (self.beta1 * m + (1 - self.beta1) * g).astype(g.dtype)
            self.v[name] = v = (self.beta2 * v + (1 - self.beta2) * g * g).astype(g.dtype)
            values[name] -= (rate * m / (np.sqrt(v) + self.epsilon)).astype(g.dtype)


class Momentum:
    """accumulator = momentum * accumulator + gradient."""

    def __init__(self, rate: float = 0.01, momentum: float = 0.9) -> None:
        self.rate, self.momentum = rate, momentum
        self.accumulators: Values = {}

    def step(self, values: Values, gradients: Values) -> None:
        for name, g in gradients.items():
            self.accumulators[name] = (self.momentum * self.accumulators.get(name, 0 * g) + g).astype(g.dtype)
            values[name] -= (self.rate * self.accumulators[name]).astype(g.dtype)
