"""Convolutions (`tf.nn`): TensorFlow 1's functions, made of the ops of ops/convolve.py.

    y = tf.nn.conv2d(images, filters, strides=[1, 2, 2, 1], padding="SAME")
    up = tf.nn.conv2d_transpose(y, filters, tf.shape(images), strides=[1, 2, 2, 1])

framework/windows.py says what their arguments may be.
"""

from __future__ import annotations

from typing import Any

from graphflow.core.op import OPS
from graphflow.framework.convert import as_tensor
from graphflow.framework.scopes import name_scope
from graphflow.framework.sizes import ints_of, sizes_of
from graphflow.framework.tensor import Tensor
from graphflow.framework.windows import axes_of, either, flat_attrs, space_attrs

__all__ = [
    "atrous_conv2d", "atrous_conv2d_transpose", "conv1d", "conv1d_transpose", "conv2d", "conv2d_backprop_filter",
    "conv2d_backprop_input", "conv2d_transpose", "conv3d", "conv3d_transpose", "convolution", "depthwise_conv2d",
    "depthwise_conv2d_native", "separable_conv2d",
]  # fmt: skip


def conv2d(
    input: Any,  # noqa: A002  (TensorFlow's name)
    filter: Any = None,  # noqa: A002  (TensorFlow's name)
    strides: Any = None,
    padding: Any = None,
    use_cudnn_on_gpu: bool = True,
    data_format: str | None = "NHWC",
    dilations: Any = (1, 1, 1, 1),
    name: str | None = None,
    filters: Any = None,
) -> Tensor:
    """2-D convolution: images [batch, height, width, in] with filters [height, width, in, out]."""
    attrs = space_attrs(2, strides, padding, data_format, dilations)
    return OPS["Conv2D"](input, either(filter, filters, "filter"), name=name or "Conv2D", **attrs)  # type: ignore[no-any-return]


def conv3d(
    input: Any,  # noqa: A002  (TensorFlow's name)
    filter: Any = None,  # noqa: A002  (TensorFlow's name)
    strides: Any = None,
    padding: Any = None,
    data_format: str | None = "NDHWC",
    dilations: Any = (1, 1, 1, 1, 1),
    name: str | None = None,
    filters: Any = None,
) -> Tensor:
    """3-D convolution: images [batch, depth, height, width, in] with filters [depth, height, width, in, out]."""
    attrs = space_attrs(3, strides, padding, data_format, dilations)
    return OPS["Conv3D"](input, either(filter, filters, "filter"), name=name or "Conv3D", **attrs)  # type: ignore[no-any-return]


def conv1d(
    value: Any = None,
    filters: Any = None,
    stride: Any = None,
    padding: Any = None,
    use_cudnn_on_gpu: bool | None = None,
    data_format: str | None = None,
    name: str | None = None,
    input: Any = None,  # noqa: A002  (TensorFlow's name)
    dilations: Any = None,
) -> Tensor:
    """1-D convolution: series [batch, width, in] with filters [width, in, out]; a 2-D one of height 1."""
    x = either(value, input, "value")
    attrs, at = flat_attrs(stride, padding, data_format, dilations)
    with name_scope(name, "conv1d", [x, filters]) as scope:
        wide, filters = OPS["ExpandDims"](x, axis=at), OPS["ExpandDims"](filters, axis=0)
        return OPS["Squeeze"](OPS["Conv2D"](wide, filters, name=scope, **attrs), axes=(at,))  # type: ignore[no-any-return]


def conv1d_transpose(
    input: Any,  # noqa: A002  (TensorFlow's name)
    filters: Any,
    output_shape: Any,
    strides: Any,
    padding: Any = "SAME",
    data_format: str | None = "NWC",
    dilations: Any = None,
    name: str | None = None,
) -> Tensor:
    """The transpose of `conv1d`: series [batch, width, in] with filters [width, out, in]."""
    attrs, at = flat_attrs(strides, padding, data_format, dilations)
    shape = sizes_of(output_shape, "output_shape")
    with name_scope(name, "conv1d_transpose", [input, filters]) as scope:
        wide, filters = OPS["ExpandDims"](input, axis=at), OPS["ExpandDims"](filters, axis=0)
        shape = (*shape[:at], 1, *shape[at:])
        y = OPS["Conv2DBackpropInput"](filters, wide, shape=shape, name=scope, **attrs)
        return OPS["Squeeze"](y, axes=(at,))  # type: ignore[no-any-return]


def convolution(
    input: Any,  # noqa: A002  (TensorFlow's name)
    filter: Any = None,  # noqa: A002  (TensorFlow's name)
    padding: Any = None,
    strides: Any = None,
    dilation_rate: Any = None,
    name: str | None = None,
    data_format: str | None = None,
    filters: Any = None,
    dilations: Any = None,
) -> Tensor:
    """Convolution in as many axes as the filter's window has: 1, 2 or 3."""
    filters = as_tensor(either(filter, filters, "filter"))
    axes = axes_of(filters.type_.shape, "the filter")
    rates = dilation_rate if dilation_rate is not None else dilations
    steps, rates = (1 if v is None else v for v in (strides, rates))
    if axes == 1:
        return conv1d(input, filters, steps, padding, None, data_format, name or "convolution", None, rates)
    attrs = space_attrs(axes, steps, padding, data_format, rates)
    op = "Conv2D" if axes == 2 else "Conv3D"
    return OPS[op](input, filters, name=name or "convolution", **attrs)  # type: ignore[no-any-return]


def atrous_conv2d(value: Any, filters: Any, rate: int, padding: Any, name: str | None = None) -> Tensor:
    """`conv2d` with rate - 1 pixels left out between those that a filter reads."""
    return conv2d(value, filters, 1, padding, dilations=rate, name=name or "convolution")


def conv2d_transpose(
    value: Any = None,
    filter: Any = None,  # noqa: A002  (TensorFlow's name)
    output_shape: Any = None,
    strides: Any = None,
    padding: Any = "SAME",
    data_format: str | None = "NHWC",
    name: str | None = None,
    input: Any = None,  # noqa: A002  (TensorFlow's name)
    filters: Any = None,
    dilations: Any = None,
) -> Tensor:
    """The transpose of `conv2d` ("deconvolution"): images [batch, height, width, in], filters [height, width, out, in].

    What `conv2d` with these arguments makes of images of `output_shape` must have the shape of `value`.
    """
    value, filters = either(value, input, "value"), either(filter, filters, "filter")
    attrs = space_attrs(2, strides, padding, data_format, dilations)
    shape = sizes_of(output_shape, "output_shape")
    return OPS["Conv2DBackpropInput"](filters, value, shape=shape, name=name or "conv2d_transpose", **attrs)  # type: ignore[no-any-return]


def conv3d_transpose(
    value: Any = None,
    filter: Any = None,  # noqa: A002  (TensorFlow's name)
    output_shape: Any = None,
    strides: Any = None,
    padding: Any = "SAME",
    data_format: str | None = "NDHWC",
    name: str | None = None,
    input: Any = None,  # noqa: A002  (TensorFlow's name)
    filters: Any = None,
    dilations: Any = None,
) -> Tensor:
    """The transpose of `conv3d`: images [batch, depth, height, width, in], filters [depth, height, width, out, in]."""
    value, filters = either(value, input, "value"), either(filter, filters, "filter")
    attrs = space_attrs(3, strides, padding, data_format, dilations)
    shape = sizes_of(output_shape, "output_shape")
    return OPS["Conv3DBackpropInputV2"](filters, value, shape=shape, name=name or "conv3d_transpose", **attrs)  # type: ignore[no-any-return]


def atrous_conv2d_transpose(
    value: Any, filters: Any, output_shape: Any, rate: int, padding: Any, name: str | None = None
) -> Tensor:
    """The transpose of `atrous_conv2d`."""
    name = name or "atrous_conv2d_transpose"
    return conv2d_transpose(value, filters, output_shape, 1, padding, name=name, dilations=rate)


def conv2d_backprop_input(
    input_sizes: Any,
    filter: Any = None,  # noqa: A002  (TensorFlow's name)
    out_backprop: Any = None,
    strides: Any = None,
    padding: Any = None,
    use_cudnn_on_gpu: bool = True,
    data_format: str | None = "NHWC",
    dilations: Any = (1, 1, 1, 1),
    name: str | None = None,
    filters: Any = None,
) -> Tensor:
    """The gradient of `conv2d` with respect to images of `input_sizes`, given that with respect to its result."""
    attrs = space_attrs(2, strides, padding, data_format, dilations)
    filters, shape = either(filter, filters, "filter"), sizes_of(input_sizes, "input_sizes")
    return OPS["Conv2DBackpropInput"](filters, out_backprop, shape=shape, name=name, **attrs)  # type: ignore[no-any-return]


def conv2d_backprop_filter(
    input: Any,  # noqa: A002  (TensorFlow's name)
    filter_sizes: Any,
    out_backprop: Any = None,
    strides: Any = None,
    padding: Any = None,
    use_cudnn_on_gpu: bool = True,
    data_format: str | None = "NHWC",
    dilations: Any = (1, 1, 1, 1),
    name: str | None = None,
) -> Tensor:
    """The gradient of `conv2d` with respect to filters of `filter_sizes`, given that with respect to its result."""
    attrs = space_attrs(2, strides, padding, data_format, dilations)
    shape = ints_of(filter_sizes, "filter_sizes")
    return OPS["Conv2DBackpropFilter"](input, out_backprop, shape=shape, name=name, **attrs)  # type: ignore[no-any-return]


# filters of single channels


def depthwise_conv2d_native(
    input: Any,  # noqa: A002  (TensorFlow's name)
    filter: Any,  # noqa: A002  (TensorFlow's name)
    strides: Any,
    padding: Any,
    data_format: str | None = "NHWC",
    dilations: Any = (1, 1, 1, 1),
    name: str | None = None,
) -> Tensor:
    """Convolution of each channel by itself with filters [height, width, channels, m] into m channels for each."""
    attrs = space_attrs(2, strides, padding, data_format, dilations)
    return OPS["DepthwiseConv2dNative"](input, filter, name=name, **attrs)  # type: ignore[no-any-return]


def depthwise_conv2d(
    input: Any,  # noqa: A002  (TensorFlow's name)
    filter: Any,  # noqa: A002  (TensorFlow's name)
    strides: Any,
    padding: Any,
    rate: Any = None,
    name: str | None = None,
    data_format: str | None = None,
    dilations: Any = None,
) -> Tensor:
    """`depthwise_conv2d_native` with `rate` for dilations: one int or two; strides must be 1 then."""
    rates = 1 if rate is None and dilations is None else either(rate, dilations, "rate")
    attrs = space_attrs(2, strides, padding, data_format, rates)
    if max(attrs["dilations"]) > 1 and max(attrs["strides"]) > 1:
        raise ValueError(f"strides {strides} must be 1 where the rate {rates} is more")
    return OPS["DepthwiseConv2dNative"](input, filter, name=name or "depthwise", **attrs)  # type: ignore[no-any-return]


def separable_conv2d(
    input: Any,  # noqa: A002  (TensorFlow's name)
    depthwise_filter: Any,
    pointwise_filter: Any,
    strides: Any,
    padding: Any,
    rate: Any = None,
    name: str | None = None,
    data_format: str | None = None,
    dilations: Any = None,
) -> Tensor:
    """`depthwise_conv2d`, and then `conv2d` with the 1 by 1 filters [1, 1, channels * m, out]."""
    with name_scope(name, "separable_conv2d", [input, depthwise_filter, pointwise_filter]) as scope:
        y = depthwise_conv2d(input, depthwise_filter, strides, padding, rate, "depthwise", data_format, dilations)
        return conv2d(y, pointwise_filter, 1, "VALID", data_format=data_format, name=scope)
