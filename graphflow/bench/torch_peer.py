"""The workloads in PyTorch, eager or through torch.compile; images are NCHW in channels-last memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812  (its name everywhere)

from graphflow.bench.ocean import isoneutral_mixing, sea_water_density
from graphflow.bench.workloads import HEADS, LEARNING_RATE, STEPS, Workload

Step = Callable[[], Any]

torch.set_flush_denormal(True)


def load(framework: str) -> tuple[Callable[[Workload], Step], str]:
    """(workload -> step, version)."""
    return lambda workload: make_step(workload, framework == "torch-compile"), str(torch.__version__)


def make_step(workload: Workload, compiled: bool) -> Step:
    """A function that runs the workload once and returns its value. KeyError if there is no text for it."""
    formula = FORMULAS[workload.kind]
    feeds, constants = tensors(workload)
    if workload.optimizer:
        return training(workload, formula, feeds, constants, compiled)
    function = torch.compile(formula, dynamic=False) if compiled else formula

    def step() -> Any:
        with torch.no_grad():
            return function(*feeds, *constants)

    return step


def training(workload: Workload, formula: Any, feeds: list[Any], weights: list[Any], compiled: bool) -> Step:
    """Steps that change the weights and return the loss."""
    if workload.kind == "lstm_train":
        formula, weights = lstm(feeds[0].shape[-1], *weights)
    leaves = [w.detach().clone(memory_format=torch.preserve_format).requires_grad_() for w in weights]
    optimizer = OPTIMIZERS[workload.optimizer](leaves)
    function = torch.compile(formula, dynamic=False) if compiled else formula

    def step() -> Any:
        optimizer.zero_grad()
        loss = function(*feeds, *leaves)
        loss.backward()
        optimizer.step()
        return loss.detach()

    return step


OPTIMIZERS: dict[str, Callable[[list[Any]], Any]] = {
    "adam": lambda weights: torch.optim.Adam(weights, LEARNING_RATE),
    "momentum": lambda weights: torch.optim.SGD(weights, LEARNING_RATE, momentum=0.9),
    "sgd": lambda weights: torch.optim.SGD(weights, LEARNING_RATE),
}

IMAGES = ("conv3x3", "conv1x1", "depthwise", "bottleneck", "cnn_train")


def tensors(workload: Workload) -> tuple[list[Any], list[Any]]:
    """The workload's arrays in PyTorch's layouts: images are NHWC in memory still, called NCHW."""
    fed, weights = ([torch.from_numpy(a) for a in arrays] for arrays in workload.arrays())
    fed = [f.long() if f.dtype == torch.int32 else f for f in fed]
    if workload.kind in IMAGES:
        image, *rest = fed
        fed = [image.permute(0, 3, 1, 2), *(kernel(w) for w in rest if w.ndim == 4), *(x for x in rest if x.ndim < 4)]
        weights = [kernel(w) if w.ndim == 4 else w for w in weights]
    return fed, weights


def kernel(w: Any) -> Any:
    """A filter [height, width, in, out], or [height, width, channels, 1], as PyTorch has it."""
    order = (2, 3, 0, 1) if w.shape[3] == 1 else (3, 2, 0, 1)
    return w.permute(*order).contiguous(memory_format=torch.channels_last)


def chain(x: Any, w: Any) -> Any:
    return torch.tanh(x * w + 0.5) * torch.sigmoid(x) + torch.exp(-w * w)


def gelu(x: Any) -> Any:
    return F.gelu(x, approximate="tanh")


def bottleneck(x: Any, w1: Any, b1: Any, w2: Any, b2: Any, w3: Any, b3: Any) -> Any:
    y = torch.relu(F.conv2d(x, w1, b1))
    y = torch.relu(F.conv2d(y, w2, b2, padding=1))
    return torch.relu(F.conv2d(y, w3, b3) + x)


def mlp(x: Any, y: Any, w1: Any, b1: Any, w2: Any, b2: Any) -> Any:
    return F.cross_entropy(torch.relu(x @ w1 + b1) @ w2 + b2, y)


def cnn(x: Any, y: Any, k1: Any, c1: Any, k2: Any, c2: Any, w1: Any, b1: Any, w2: Any, b2: Any) -> Any:
    for k, c in ((k1, c1), (k2, c2)):
        x = F.max_pool2d(torch.relu(F.conv2d(x, k, c)), 2)
    return mlp(x.permute(0, 2, 3, 1).reshape(-1, 320), y, w1, b1, w2, b2)


def lstm(inputs: int, w: Any, b: Any, w_out: Any, b_out: Any) -> tuple[Any, list[Any]]:
    """PyTorch's own LSTM with our weights: its gates are (input, forget, cell, output), its forget bias is not 1."""
    hidden = w_out.shape[0]
    new, candidate, forget, out = w.t().split(hidden)
    packed = torch.cat([new, forget, candidate, out])
    bias = torch.cat([torch.zeros(hidden), torch.ones(hidden), torch.zeros(2 * hidden)])
    layer = torch.nn.LSTM(inputs, hidden, batch_first=True)
    names = [name for name, _ in layer.named_parameters()]

    def loss(x: Any, y: Any, first: Any, second: Any, bias_1: Any, bias_2: Any, w_out: Any, b_out: Any) -> Any:
        values = dict(zip(names, (first, second, bias_1, bias_2), strict=True))
        states, _ = torch.func.functional_call(layer, values, (x,))
        return F.cross_entropy(states[:, -1] @ w_out + b_out, y)

    split = [packed[:, :inputs].contiguous(), packed[:, inputs:].contiguous()]
    return loss, [*split, bias, torch.zeros_like(b), w_out, b_out]


def transformer(x: Any, y: Any, *weights: Any) -> Any:
    batch, times, width = x.shape
    norms, dense = weights[:4], list(zip(weights[4::2], weights[5::2], strict=True))

    def layer(v: Any, number: int) -> Any:
        w, b = dense[number]
        return v @ w + b

    def heads(v: Any) -> Any:
        return v.view(batch, times, HEADS, width // HEADS).transpose(1, 2)

    before = F.layer_norm(x, (width,), *norms[:2])
    mixed = F.scaled_dot_product_attention(*(heads(layer(before, n)) for n in range(3)))
    x = x + layer(mixed.transpose(1, 2).reshape(batch, times, width), 3)
    x = x + layer(gelu(layer(F.layer_norm(x, (width,), *norms[2:]), 4)), 5)
    return F.cross_entropy(layer(x.mean(1), 6), y)


def loop(x: Any) -> Any:
    for _ in range(STEPS):
        x = torch.tanh(x * 1.01 + 0.1)
    return x


def half_squares(*weights: Any) -> Any:
    return sum(0.5 * (w * w).sum() for w in weights)


def isoneutral(t: Any, s: Any, sea: Any, z: Any) -> Any:
    return torch.stack(isoneutral_mixing(t, s, sea, z, torch.tanh, torch.abs, lambda v: v.clamp(max=0.0)))


FORMULAS: dict[str, Callable[..., Any]] = {
    "call_run": lambda x: x + 1.0,
    "call": lambda x: x + 1.0,
    "chain": chain,
    "axpy": lambda x, w: 2.0 * x + w,
    "gelu_sum": lambda x: gelu(x).sum(),
    "density": lambda s, t, p: sea_water_density(s, t, p, torch.sqrt),
    "isoneutral": isoneutral,
    "softmax": lambda x: torch.softmax(x, -1),
    "layernorm": lambda x, scale, shift: F.layer_norm(x, x.shape[-1:], scale, shift),
    "transpose": lambda x: (x.t() * 2.0).contiguous(),
    "colsum": lambda x: x.sum(0),
    "rowsum": lambda x: x.sum(1),
    "gemm": lambda a, b: a @ b,
    "bmm": torch.bmm,
    "gemv": lambda a, b: a @ b,
    "dense": lambda a, b, c: torch.relu(torch.addmm(c, a, b)),
    "conv3x3": lambda x, w: torch.relu(F.conv2d(x, w, padding=1)),
    "conv1x1": lambda x, w: torch.relu(F.conv2d(x, w)),
    "depthwise": lambda x, w: F.conv2d(x, w, padding=1, groups=x.shape[1]),
    "bottleneck": bottleneck,
    "attention": F.scaled_dot_product_attention,
    "mlp_train": mlp,
    "cnn_train": cnn,
    "lstm_train": lstm,
    "transformer_train": transformer,
    "adam_small": half_squares,
    "embedding_train": lambda rows, wanted, table: ((F.embedding(rows, table) - wanted) ** 2).sum(),
    "loop": loop,
}
