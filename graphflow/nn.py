"""Functions for neural networks (`tf.nn`): activations, dropout, losses; convolution_ops.py, pool_ops.py."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from graphflow import convolution_ops, pool_ops
from graphflow.array_ops import stop_gradient
from graphflow.convolution_ops import *  # noqa: F403
from graphflow.core.errors import GraphError
from graphflow.core.op import OPS
from graphflow.framework.convert import as_tensor, is_tensor
from graphflow.framework.scopes import name_scope
from graphflow.framework.sizes import int_of, ints_of, sizes_of
from graphflow.framework.tensor import Tensor
from graphflow.framework.windows import layout_of
from graphflow.math_ops import (
    cast,
    log_sigmoid,
    maximum,
    not_equal,
    reduce_mean,
    reduce_sum,
    rsqrt,
    sigmoid,
    square,
    squared_difference,
    tanh,
)
from graphflow.pool_ops import *  # noqa: F403
from graphflow.random_ops import random_uniform

__all__ = [
    "batch_normalization", "bias_add", "dropout", "elu", "l2_loss", "l2_normalize", "leaky_relu", "log_sigmoid",
    "log_softmax", "moments", "relu", "relu6", "relu_layer", "selu", "sigmoid", "sigmoid_cross_entropy_with_logits",
    "softmax", "softmax_cross_entropy_with_logits", "softmax_cross_entropy_with_logits_v2", "softplus", "softsign",
    "sparse_softmax_cross_entropy_with_logits", "tanh", "xw_plus_b", "zero_fraction",
]  # fmt: skip
__all__ += convolution_ops.__all__
__all__ += pool_ops.__all__


# activations


def _activation(op: str) -> Callable[..., Tensor]:
    """The function f(features, name=None) of an op."""
    declared = OPS[op]

    def function(features: Any, name: str | None = None) -> Tensor:
        return declared(features, name=name or op)  # type: ignore[no-any-return]

    function.__doc__ = declared.doc
    function.__name__ = function.__qualname__ = op.lower()
    return function


relu, relu6, elu, selu = _activation("Relu"), _activation("Relu6"), _activation("Elu"), _activation("Selu")
softplus, softsign = _activation("Softplus"), _activation("Softsign")


def leaky_relu(features: Any, alpha: float = 0.2, name: str | None = None) -> Tensor:
    """features where positive, else alpha * features."""
    if is_tensor(alpha):
        with name_scope(name, "LeakyRelu", [features]) as scope:
            return OPS["Maximum"](OPS["Mul"](alpha, features), features, name=scope)  # type: ignore[no-any-return]
    return OPS["LeakyRelu"](features, alpha=float(alpha), name=name or "LeakyRelu")  # type: ignore[no-any-return]


def softmax(logits: Any, axis: int | None = None, name: str | None = None, dim: int | None = None) -> Tensor:
    """exp(logits) / sum(exp(logits)) along an axis, the last where not given."""
    return OPS["Softmax"](logits, axis=_axis(axis, dim), name=name or "Softmax")  # type: ignore[no-any-return]


def log_softmax(logits: Any, axis: int | None = None, name: str | None = None, dim: int | None = None) -> Tensor:
    """log(softmax(logits)) along an axis, the last where not given."""
    return OPS["LogSoftmax"](logits, axis=_axis(axis, dim), name=name or "LogSoftmax")  # type: ignore[no-any-return]


def _axis(axis: int | None, dim: int | None, default: int = -1) -> int:
    return int_of(axis if axis is not None else dim if dim is not None else default, "the axis")


# layers


def bias_add(value: Any, bias: Any, data_format: str | None = None, name: str | None = None) -> Tensor:
    """value + bias along the channels: the last axis (NHWC), or axis 1 (NCHW)."""
    return OPS["BiasAdd"](value, bias, data_format=layout_of(data_format), name=name or "BiasAdd")  # type: ignore[no-any-return]


def xw_plus_b(x: Any, weights: Any, biases: Any, name: str | None = None) -> Tensor:
    """x @ weights + biases."""
    with name_scope(name, "xw_plus_b", [x, weights, biases]) as scope:
        product = OPS["MatMul"](x, weights, transpose_a=False, transpose_b=False)
        return bias_add(product, biases, name=scope)


def relu_layer(x: Any, weights: Any, biases: Any, name: str | None = None) -> Tensor:
    """relu(x @ weights + biases)."""
    with name_scope(name, "relu_layer", [x, weights, biases]) as scope:
        return relu(xw_plus_b(x, weights, biases), name=scope)


def dropout(
    x: Any,
    keep_prob: Any = None,
    noise_shape: Any = None,
    seed: int | None = None,
    name: str | None = None,
    rate: Any = None,
) -> Tensor:
    """x with a random share of its elements set to 0 and the others scaled so that the expected value stays.

    keep_prob: the share that stays (a number in (0, 1] or a scalar tensor), or rate: the share that goes.
    noise_shape: a shape that broadcasts to x's; what is 1 in it is kept or dropped together.
    """
    keep = _keep_share(keep_prob, rate)
    tensor = as_tensor(x)
    if not tensor.dtype.is_floating:
        raise GraphError(
            f"dropout: x has to be a floating point tensor since it will be scaled; '{tensor.name}' is {tensor.dtype}"
        )
    if not is_tensor(keep) and keep == 1:
        return tensor
    with name_scope(name, "dropout", [tensor]) as scope:
        share = as_tensor(keep, tensor.dtype, name="keep_prob")
        sizes = tensor.type_.dims if noise_shape is None else sizes_of(noise_shape)
        noise = random_uniform(sizes, seed=seed, dtype=tensor.dtype)
        if noise_shape is None:
            return OPS["DropoutMask"](tensor, noise, share, name=f"{scope}mul/")  # type: ignore[no-any-return]
        mask = OPS["Floor"](OPS["Add"](noise, share))
        return OPS["Mul"](OPS["RealDiv"](tensor, share), mask, name=f"{scope}mul/")  # type: ignore[no-any-return]


def _keep_share(keep_prob: Any, rate: Any) -> Any:
    if (keep_prob is None) == (rate is None):
        raise ValueError("dropout: give keep_prob or rate, one of them")
    if rate is not None:
        keep_prob = OPS["Sub"](1, rate) if is_tensor(rate) else 1 - float(rate)
    if not is_tensor(keep_prob) and not 0 < keep_prob <= 1:
        raise ValueError(f"keep_prob must be a scalar tensor or a float in the range (0, 1], got {keep_prob}")
    return keep_prob


def moments(
    x: Any,
    axes: Any,
    shift: Any = None,
    name: str | None = None,
    keep_dims: bool | None = None,
    keepdims: bool | None = None,
) -> tuple[Tensor, Tensor]:
    """Mean and variance over axes."""
    keep = bool(keepdims if keepdims is not None else keep_dims)
    with name_scope(name, "moments", [x]):
        x, over = as_tensor(x), list(ints_of(axes, "axes"))
        wide = reduce_mean(x, over, keepdims=True, name="mean")
        variance = reduce_mean(squared_difference(x, stop_gradient(wide)), over, keepdims=keep, name="variance")
        return (wide if keep else OPS["Squeeze"](wide, axes=tuple(over))), variance


def batch_normalization(
    x: Any, mean: Any, variance: Any, offset: Any, scale: Any, variance_epsilon: float, name: str | None = None
) -> Tensor:
    """(x - mean) * scale / sqrt(variance + variance_epsilon) + offset; scale and offset may be None."""
    with name_scope(name, "batchnorm", [x, mean, variance, scale, offset]):
        inverse = rsqrt(as_tensor(variance) + variance_epsilon)
        inverse = inverse if scale is None else inverse * scale
        shifted = as_tensor(x) * inverse - as_tensor(mean) * inverse
        return shifted if offset is None else shifted + offset  # type: ignore[no-any-return]


def l2_loss(t: Any, name: str | None = None) -> Tensor:
    """sum(t ** 2) / 2."""
    return OPS["L2Loss"](t, name=name or "L2Loss")  # type: ignore[no-any-return]


def l2_normalize(x: Any, axis: Any = None, epsilon: float = 1e-12, name: str | None = None, dim: Any = None) -> Tensor:
    """x / sqrt(max(sum(x ** 2), epsilon)) over axes."""
    with name_scope(name, "l2_normalize", [x]) as scope:
        x = as_tensor(x)
        squares = reduce_sum(square(x), axis if axis is not None else dim, keepdims=True)
        return OPS["Mul"](x, rsqrt(maximum(squares, epsilon)), name=scope)  # type: ignore[no-any-return]


def zero_fraction(value: Any, name: str | None = None) -> Tensor:
    """The share of zeros."""
    with name_scope(name, "zero_fraction", [value]):
        return 1.0 - reduce_mean(cast(not_equal(value, 0), "float32"))  # type: ignore[no-any-return]


# losses


def _named_only(sentinel: Any, function: str, labels: Any, logits: Any) -> None:
    if sentinel is not None:
        raise ValueError(f"Only call `{function}` with named arguments (labels=..., logits=..., ...)")
    if labels is None or logits is None:
        raise ValueError("Both labels and logits must be provided.")


def softmax_cross_entropy_with_logits(
    _sentinel: Any = None,
    labels: Any = None,
    logits: Any = None,
    dim: int = -1,
    name: str | None = None,
    axis: int | None = None,
) -> Tensor:
    """-sum(labels * log_softmax(logits)) along an axis; no gradient goes to the labels."""
    _named_only(_sentinel, "softmax_cross_entropy_with_logits", labels, logits)
    with name_scope(name, "softmax_cross_entropy_with_logits_sg", [logits, labels]) as scope:
        logits = as_tensor(logits)
        fixed = stop_gradient(
            as_tensor(labels, None if is_tensor(labels) else logits.dtype), name="labels_stop_gradient"
        )
        return OPS["SoftmaxCrossEntropyWithLogits"](logits, fixed, axis=_axis(axis, dim), name=scope)  # type: ignore[no-any-return]


def softmax_cross_entropy_with_logits_v2(
    labels: Any, logits: Any, axis: int | None = None, name: str | None = None, dim: int | None = None
) -> Tensor:
    """-sum(labels * log_softmax(logits)) along an axis; gradients go to logits and labels."""
    with name_scope(name, "softmax_cross_entropy_with_logits", [logits, labels]) as scope:
        return OPS["SoftmaxCrossEntropyWithLogits"](logits, labels, axis=_axis(axis, dim), name=scope)  # type: ignore[no-any-return]


def sparse_softmax_cross_entropy_with_logits(
    _sentinel: Any = None, labels: Any = None, logits: Any = None, name: str | None = None
) -> Tensor:
    """-log_softmax(logits)[label]: logits [..., classes], labels [...] of int32 or int64."""
    function = "sparse_softmax_cross_entropy_with_logits"
    _named_only(_sentinel, function, labels, logits)
    default = "SparseSoftmaxCrossEntropyWithLogits"
    with name_scope(name, default, [labels, logits]):
        return OPS[default](as_tensor(logits), as_tensor(labels), name=default)  # type: ignore[no-any-return]


def sigmoid_cross_entropy_with_logits(
    _sentinel: Any = None, labels: Any = None, logits: Any = None, name: str | None = None
) -> Tensor:
    """-labels log(sigmoid(x)) - (1 - labels) log(1 - sigmoid(x)) of logits x, elementwise and without overflow."""
    _named_only(_sentinel, "sigmoid_cross_entropy_with_logits", labels, logits)
    with name_scope(name, "logistic_loss", [logits, labels]) as scope:
        return OPS["SigmoidCrossEntropyWithLogits"](logits, labels, name=scope)  # type: ignore[no-any-return]
