"""Pools (`tf.nn`): TensorFlow 1's functions, made of the ops of ops/pool.py.

    y = tf.nn.max_pool(images, ksize=[1, 2, 2, 1], strides=[1, 2, 2, 1], padding="SAME")

framework/windows.py says what their arguments may be.
"""

from __future__ import annotations

from typing import Any

from graphflow.core.op import OPS
from graphflow.framework.convert import as_tensor
from graphflow.framework.scopes import name_scope
from graphflow.framework.tensor import Tensor
from graphflow.framework.windows import axes_of, either, flat_attrs, space_attrs, spatial

__all__ = [
    "avg_pool", "avg_pool1d", "avg_pool2d", "avg_pool3d", "max_pool", "max_pool1d", "max_pool2d", "max_pool3d", "pool",
]  # fmt: skip


def max_pool(
    value: Any = None,
    ksize: Any = None,
    strides: Any = None,
    padding: Any = None,
    data_format: str | None = "NHWC",
    name: str | None = None,
    input: Any = None,  # noqa: A002  (TensorFlow's name)
) -> Tensor:
    """The largest of each window of `ksize`, windows being `strides` apart; what is padded never wins."""
    return _pool("MaxPool", 2, either(value, input, "value"), ksize, strides, padding, data_format, name)


def avg_pool(
    value: Any = None,
    ksize: Any = None,
    strides: Any = None,
    padding: Any = None,
    data_format: str | None = "NHWC",
    name: str | None = None,
    input: Any = None,  # noqa: A002  (TensorFlow's name)
) -> Tensor:
    """The mean of each window of `ksize`; what is padded does not count."""
    return _pool("AvgPool", 2, either(value, input, "value"), ksize, strides, padding, data_format, name)


def max_pool2d(
    input: Any,  # noqa: A002  (TensorFlow's name)
    ksize: Any,
    strides: Any,
    padding: Any,
    data_format: str | None = "NHWC",
    name: str | None = None,
) -> Tensor:
    """The same as `max_pool`."""
    return _pool("MaxPool", 2, input, ksize, strides, padding, data_format, name or "MaxPool2d")


avg_pool2d = avg_pool


def max_pool3d(
    input: Any,  # noqa: A002  (TensorFlow's name)
    ksize: Any,
    strides: Any,
    padding: Any,
    data_format: str | None = "NDHWC",
    name: str | None = None,
) -> Tensor:
    """`max_pool` of images [batch, depth, height, width, channels]."""
    return _pool("MaxPool3D", 3, input, ksize, strides, padding, data_format, name)


def avg_pool3d(
    input: Any,  # noqa: A002  (TensorFlow's name)
    ksize: Any,
    strides: Any,
    padding: Any,
    data_format: str | None = "NDHWC",
    name: str | None = None,
) -> Tensor:
    """`avg_pool` of images [batch, depth, height, width, channels]."""
    return _pool("AvgPool3D", 3, input, ksize, strides, padding, data_format, name)


def _pool(
    op: str,
    axes: int,
    value: Any,
    ksize: Any,
    strides: Any,
    padding: Any,
    data_format: str | None,
    name: Any,
    dilations: Any = None,
) -> Tensor:
    attrs = space_attrs(axes, strides, padding, data_format, dilations)
    window = spatial(ksize, attrs["data_format"], axes, "ksize")
    return OPS[op](value, name=name or op, window=window, **attrs)  # type: ignore[no-any-return]


def max_pool1d(
    input: Any,  # noqa: A002  (TensorFlow's name)
    ksize: Any,
    strides: Any,
    padding: Any,
    data_format: str | None = "NWC",
    name: str | None = None,
) -> Tensor:
    """`max_pool` of series [batch, width, channels]."""
    return _flat_pool("MaxPool", input, ksize, strides, padding, data_format, name or "MaxPool1d")


def avg_pool1d(
    input: Any,  # noqa: A002  (TensorFlow's name)
    ksize: Any,
    strides: Any,
    padding: Any,
    data_format: str | None = "NWC",
    name: str | None = None,
) -> Tensor:
    """`avg_pool` of series [batch, width, channels]."""
    return _flat_pool("AvgPool", input, ksize, strides, padding, data_format, name or "AvgPool1D")


def _flat_pool(
    op: str,
    value: Any,
    ksize: Any,
    strides: Any,
    padding: Any,
    data_format: str | None,
    name: str,
    dilations: Any = None,
) -> Tensor:
    """A 1-D pool as a 2-D one of height 1."""
    attrs, at = flat_attrs(strides, padding, data_format, dilations)
    window = (1, *spatial(ksize, attrs["data_format"], 1, "ksize"))
    with name_scope(name, op, [value]) as scope:
        y = OPS[op](OPS["ExpandDims"](value, axis=at), window=window, name=scope, **attrs)
        return OPS["Squeeze"](y, axes=(at,))  # type: ignore[no-any-return]


def pool(
    input: Any,  # noqa: A002  (TensorFlow's name)
    window_shape: Any,
    pooling_type: str,
    padding: Any,
    dilation_rate: Any = None,
    strides: Any = None,
    name: str | None = None,
    data_format: str | None = None,
    dilations: Any = None,
) -> Tensor:
    """`pooling_type` (MAX or AVG) of each window; as many axes of space as the image has besides batch and channels."""
    value = as_tensor(input)
    axes = axes_of(value.type_.shape, "the image")
    kind = {"MAX": "MaxPool", "AVG": "AvgPool"}.get(pooling_type)
    if kind is None:
        raise ValueError(f"pooling_type must be MAX or AVG, not {pooling_type!r}")
    rates = dilation_rate if dilation_rate is not None else dilations
    steps, rates = (1 if v is None else v for v in (strides, rates))
    if axes == 1:
        return _flat_pool(kind, value, window_shape, steps, padding, data_format, name or "pool", rates)
    op = kind if axes == 2 else f"{kind}3D"
    return _pool(op, axes, value, window_shape, steps, padding, data_format, name or "pool", rates)
