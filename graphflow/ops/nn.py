"""What neural networks are made of: softmax, cross-entropies, bias, activations, dropout's scaling.

All of them are functions of other ops; their gradients follow.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from graphflow.core.dtype import int64
from graphflow.core.node import Node
from graphflow.core.op import case, composite
from graphflow.core.samples import integers, normal, spaced
from graphflow.core.type import require, same_size
from graphflow.ops.elementwise import (
    cast,
    equal,
    exp,
    expm1,
    floor,
    greater,
    identity,
    less,
    log,
    log1p,
    maximum,
    minimum,
    select,
    stop_gradient,
)
from graphflow.ops.reduce import reduce_max, reduce_sum, size_of, spread_back
from graphflow.ops.view import broadcast_to, iota, normalize_axis, reshape


def _shifted(x: Node, axis: int) -> Node:
    """x minus its maximum along an axis, so that exp does not overflow; the shift cancels in the derivative."""
    return x - stop_gradient(spread_back(reduce_max(x, axes=(axis,)), x, (axis,)))  # type: ignore[no-any-return]


def softmax_node(x: Node, *, axis: int = -1) -> Node:
    """exp(x) / sum(exp(x)) along an axis; one division for each sum, which is at least 1."""
    at = normalize_axis(axis, x.ndim)
    e = exp(_shifted(x, at))
    return e * spread_back(1 / reduce_sum(e, axes=(at,)), x, (at,))  # type: ignore[no-any-return]


def log_softmax_node(x: Node, *, axis: int = -1) -> Node:
    """log(softmax(x)) along an axis."""
    at = normalize_axis(axis, x.ndim)
    z = _shifted(x, at)
    return z - spread_back(log(reduce_sum(exp(z), axes=(at,))), x, (at,))  # type: ignore[no-any-return]


def softmax_xent_node(logits: Node, labels: Node, *, axis: int = -1) -> Node:
    """-sum(labels * log_softmax(logits)) along an axis; labels are probabilities of the same shape."""
    at = normalize_axis(axis, logits.ndim)
    return -reduce_sum(labels * log_softmax_node(logits, axis=at), axes=(at,))  # type: ignore[no-any-return]


def sparse_softmax_xent_node(logits: Node, labels: Node) -> Node:
    """-log_softmax(logits)[label] along the last axis: logits [..., classes], labels [...] integers.

    A label outside of 0 .. classes-1 makes the loss NaN, as TensorFlow's does on accelerators.
    """
    require(labels.dtype.is_integer, f"labels are integers, not {labels.dtype}")
    require(logits.ndim == labels.ndim + 1, f"labels {labels.type} need one axis less than logits {logits.type}")
    for a, b in zip(labels.shape, logits.shape, strict=False):
        require(same_size(a, b) is not None, f"labels {labels.type} do not fit logits {logits.type}")
    at = logits.ndim - 1
    z = _shifted(logits, at)
    here = equal(iota.node(shape=logits.shape, axis=at, dtype=labels.dtype), reshape(labels, shape=(*labels.shape, 1)))
    chosen = reduce_sum(select(here, z, 0), axes=(at,))
    loss = log(reduce_sum(exp(z), axes=(at,))) - chosen
    valid = (labels >= 0) & less(cast(labels, dtype=int64), size_of(logits.shape[-1], int64))
    return select(valid, loss, float("nan"))  # type: ignore[no-any-return]


def sigmoid_xent_node(logits: Node, labels: Node) -> Node:
    """-labels log(sigmoid(x)) - (1 - labels) log(1 - sigmoid(x)), as max(x, 0) - x z + log(1 + exp(-|x|))."""
    positive = greater(logits, 0)
    magnitude = select(positive, -logits, logits)
    return select(positive, logits, 0) - logits * labels + log1p(exp(magnitude))  # type: ignore[no-any-return]


def bias_add_node(x: Node, bias: Node, *, data_format: str = "NHWC") -> Node:
    """x + bias along the channels: the last axis, or axis 1 for NCHW."""
    require(bias.ndim == 1, f"the bias is a vector, not {bias.type}")
    require(x.ndim >= 2, f"{x.type} has no channels")
    at = 1 if data_format.startswith("NC") else x.ndim - 1
    same = same_size(bias.shape[0], x.shape[at])
    require(same is not None, f"the bias has {bias.shape[0]} elements, the input {x.shape[at]} channels")
    wide = broadcast_to(
        reshape(bias, shape=tuple(bias.shape[0] if a == at else 1 for a in range(x.ndim))), shape=x.shape
    )
    return x + wide  # type: ignore[no-any-return]


def _softmax_eval(x: Any, *, axis: int = -1) -> Any:
    e = np.exp(x - x.max(axis, keepdims=True))
    return e / e.sum(axis, keepdims=True)


def _log_softmax_eval(x: Any, *, axis: int = -1) -> Any:
    return x - np.logaddexp.reduce(x, axis=axis, keepdims=True)


def _sparse_xent_eval(logits: Any, labels: Any) -> Any:
    classes = np.arange(logits.shape[-1])
    chosen = np.where(labels[..., None] == classes, _log_softmax_eval(logits), 0).sum(-1)
    return np.where((labels >= 0) & (labels < classes.size), -chosen, np.nan)


softmax = composite(
    "Softmax",
    doc=softmax_node.__doc__ or "",
    expand=softmax_node,
    eval=_softmax_eval,
    cases=[case(normal(3, 5)), case(normal(3, 5, 2), axis=1)],
)
log_softmax = composite(
    "LogSoftmax",
    doc=log_softmax_node.__doc__ or "",
    expand=log_softmax_node,
    eval=_log_softmax_eval,
    cases=[case(normal(3, 5))],
)
softmax_xent = composite(
    "SoftmaxCrossEntropyWithLogits",
    doc=softmax_xent_node.__doc__ or "",
    expand=softmax_xent_node,
    eval=lambda x, p, *, axis=-1: -(p * _log_softmax_eval(x, axis=axis)).sum(axis),
    cases=[case(normal(4, 3), _softmax_eval(normal(4, 3, seed=1)))],
)
sparse_softmax_xent = composite(
    "SparseSoftmaxCrossEntropyWithLogits",
    doc=sparse_softmax_xent_node.__doc__ or "",
    expand=sparse_softmax_xent_node,
    eval=_sparse_xent_eval,
    cases=[case(normal(4, 3), integers(0, 3, 4)), case(normal(2, 4, 3), integers(0, 3, 2, 4))],
)
sigmoid_xent = composite(
    "SigmoidCrossEntropyWithLogits",
    doc=sigmoid_xent_node.__doc__ or "",
    expand=sigmoid_xent_node,
    eval=lambda x, z: np.logaddexp(0, x) - x * z,
    cases=[case(spaced(3, 4), np.abs(normal(3, 4)))],
)
bias_add = composite(
    "BiasAdd",
    doc=bias_add_node.__doc__ or "",
    expand=bias_add_node,
    eval=lambda x, b, *, data_format="NHWC": x + (b.reshape([-1] + [1] * (x.ndim - 2)) if data_format == "NCHW" else b),
    cases=[case(normal(2, 3), normal(3)), case(normal(2, 3, 4, 4), normal(3), data_format="NCHW")],
)

relu6 = composite(
    "Relu6",
    doc="min(max(x, 0), 6).",
    expand=lambda x: minimum(maximum(x, 0), 6),
    eval=lambda x: np.clip(x, 0, 6),
    cases=[case(spaced(3, 4) * 20 + 0.3)],
)
elu = composite(
    "Elu",
    doc="x where x > 0, else exp(x) - 1.",
    expand=lambda x: select(greater(x, 0), x, expm1(minimum(x, 0))),
    eval=lambda x: np.where(x > 0, x, np.expm1(np.minimum(x, 0))),
    cases=[case(spaced(3, 4))],
)
leaky_relu = composite(
    "LeakyRelu",
    doc="x where x > 0, else alpha * x.",
    expand=lambda x, *, alpha=0.2: select(greater(x, 0), x, x * alpha),
    eval=lambda x, *, alpha=0.2: np.where(x > 0, x, alpha * x),
    cases=[case(spaced(3, 4)), case(spaced(3, 4), alpha=0.01)],
)
SELU_SCALE, SELU_ALPHA = 1.0507009873554805, 1.6732632423543772  # Klambauer et al. 2017, eq. 14
selu = composite(
    "Selu",
    doc="Scaled exponential linear unit (Klambauer et al. 2017, eq. 2).",
    expand=lambda x: select(greater(x, 0), x, expm1(minimum(x, 0)) * SELU_ALPHA) * SELU_SCALE,
    eval=lambda x: SELU_SCALE * np.where(x > 0, x, SELU_ALPHA * np.expm1(np.minimum(x, 0))),
    cases=[case(spaced(3, 4))],
)


def dropout_node(x: Node, random: Node, keep: Node) -> Node:
    """x / keep where floor(keep + random) is 1, else 0: random is uniform in [0, 1) of x's shape, keep a scalar."""
    mask = floor(random + keep)
    return x / broadcast_to(keep, shape=x.shape) * mask  # type: ignore[no-any-return]


dropout = composite(
    "DropoutMask",
    doc=dropout_node.__doc__ or "",
    expand=dropout_node,
    eval=lambda x, r, keep: x / keep * np.floor(r + keep),
    cases=[case(normal(3, 4), np.random.default_rng(3).random((3, 4)), np.float64(0.6))],
)
softsign = composite(
    "Softsign",
    doc="x / (1 + |x|).",
    expand=lambda x: x / (abs(x) + 1),
    eval=lambda x: x / (1 + np.abs(x)),
    cases=[case(spaced(3, 4))],
)
add_n = composite(
    "AddN",
    doc="The sum of the inputs.",
    expand=lambda *xs: sum(xs[1:], xs[0]) if len(xs) > 1 else identity(xs[0]),
    eval=lambda *xs: sum(xs),
    cases=[case(normal(3), normal(3, seed=1), normal(3, seed=2))],
)
