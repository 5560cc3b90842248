"""Convolutions as users know them: padding, layouts, groups, per-channel filters, and the gradients by themselves.

All are made of `Conv` and `ConvFilter` (contract.py), but for filters of one channel each: those are sums over windows.
`data_format` is NHWC or NCHW for any number of axes of space: whether channels come last, or at axis 1.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from graphflow.core.node import Node
from graphflow.core.op import Case, Composite, broadcast_node, case, common_dtype, composite
from graphflow.core.samples import normal
from graphflow.core.type import Shape, broadcast_shapes, require, same_shape, same_size, static
from graphflow.ops.contract import conv_input, filter_gradient, grouped_conv
from graphflow.ops.reduce import reduce_sum
from graphflow.ops.view import reshape, strided_slice, transpose
from graphflow.ops.window import (
    Sizes,
    channels_as,
    channels_last,
    pad_space,
    pad_space_of,
    space_of,
    space_paddings,
    window_count,
    windows,
    windows_of,
)

# groups


def group_count(channels: Any, w: Node) -> int:
    """How many groups the channels of an image are for a filter [*window, c, o]; raises ShapeError."""
    if same_size(channels, w.shape[-2]) is not None:
        return 1
    total, own, out = static(channels), static(w.shape[-2]), static(w.shape[-1])
    require(
        own > 0 and total > 0 and total % own == 0,
        f"the image has {total} channels, the filter {own}: neither the same nor a divisor (for groups of channels)",
    )
    groups = total // own
    require(out % groups == 0, f"{out} channels out do not divide among {groups} groups of {own} channels")
    return groups


def split_channels(x: Node, groups: int) -> Node:
    """[..., groups * c] -> [..., groups, c]; nothing for a single group."""
    return x if groups == 1 else reshape(x, shape=(*x.shape[:-1], groups, static(x.shape[-1]) // groups))


def join_channels(x: Node, groups: int) -> Node:
    """The inverse of `split_channels`."""
    return x if groups == 1 else reshape(x, shape=(*x.shape[:-2], groups * static(x.shape[-1])))


def split_filter(w: Node, groups: int) -> Node:
    """[*window, c, groups * o] -> [*window, groups, c, o]; nothing for a single group."""
    return w if groups == 1 else _swap_groups(split_channels(w, groups))


def join_filter(w: Node, groups: int) -> Node:
    """The inverse of `split_filter`."""
    return w if groups == 1 else join_channels(_swap_groups(w), groups)


def _swap_groups(w: Node) -> Node:
    return transpose(w, perm=(*range(w.ndim - 3), w.ndim - 2, w.ndim - 3, w.ndim - 1))  # type: ignore[no-any-return]


def check_ranks(x: Node, w: Node, axes: int) -> None:
    """Raise ShapeError unless both have two axes besides those of space, and one dtype of floats."""
    require(
        x.ndim == w.ndim == axes + 2,
        f"an image and a filter of {axes + 2} axes are needed, not {x.type} and {w.type}",
    )
    require(common_dtype(x.dtype, w.dtype).is_floating, f"{x.type} is not of floats")


def window_of(w: Node, axes: int) -> Sizes:
    """The sizes of a filter's window, which must be known, and of which none may be 0."""
    window = tuple(map(static, w.shape[:axes]))
    require(0 not in window, f"a window of {_text(window)} has no pixels")
    return window


# the convolution and its two gradients


def convolution_node(
    x: Node, w: Node, *, strides: Sizes, padding: Any, dilations: Sizes = (), data_format: str = "NHWC"
) -> Node:
    """Convolution of images with filters [*window, c, out].

    strides, dilations of the axes of space; padding SAME, VALID or a pair (low, high) for each.  Where c is not the
    number of the image's channels but divides it, channels are taken in groups of c, each with its share of filters.
    """
    axes = len(strides)
    check_ranks(x, w, axes)
    dilations = dilations or (1,) * axes
    groups = group_count(x.shape[1 if data_format == "NCHW" else -1], w)
    if groups > 1 and w.shape[-2] == 1:
        own = reshape(w, shape=(*w.shape[:-2], groups, static(w.shape[-1]) // groups))
        return depthwise_node(x, own, strides=strides, padding=padding, dilations=dilations, data_format=data_format)
    image = split_channels(channels_last(x, data_format), groups)
    image = pad_space(image, padding, window_of(w, axes), strides, dilations)
    y = grouped_conv(image, split_filter(w, groups), strides, dilations)
    return channels_as(join_channels(y, groups), data_format)


def convolution_input_node(
    w: Node,
    g: Node,
    *,
    shape: Shape,
    strides: Sizes,
    padding: Any,
    dilations: Sizes = (),
    data_format: str = "NHWC",
) -> Node:
    """The gradient of a convolution with respect to its image: g for a filter w and an image of `shape`.

    By itself it is the transposed convolution ("deconvolution") of g.
    """
    axes = len(strides)
    check_ranks(g, w, axes)
    require(len(shape) == axes + 2, f"output_shape must have {axes + 2} sizes, not {_text(shape)}")
    dilations = dilations or (1,) * axes
    channels, first = shape[1 if data_format == "NCHW" else -1], space_of(data_format)
    space, groups = shape[first : first + axes], group_count(channels, w)
    image = channels_last(g, data_format)
    pairs = space_paddings(padding, space, window_of(w, axes), strides, dilations)
    padded = tuple(low + size + high for size, (low, high) in zip(space, pairs, strict=True))
    require(same_size(shape[0], g.shape[0]) is not None, f"a batch of {shape[0]} and one of {g.shape[0]} do not fit")
    _check_fit(image, padded, w.shape, strides, dilations)
    y = conv_input(split_channels(image, groups), split_filter(w, groups), padded, strides, dilations, space)
    begin, rest = (0, *(low for low, _ in pairs), *(0,) * (y.ndim - axes - 1)), y.shape[axes + 1 :]
    y = join_channels(strided_slice(y, begin=begin, stride=(1,) * y.ndim, shape=(g.shape[0], *space, *rest)), groups)
    return channels_as(y, data_format)


def _check_fit(g: Node, space: Shape, filter_shape: Shape, strides: Sizes, dilations: Sizes) -> None:
    """Raise ShapeError unless a convolution of a padded image of size `space` has the pixels and channels of g."""
    window, out = filter_shape[: len(strides)], filter_shape[-1]
    made = tuple(map(window_count, space, window, strides, dilations))
    require(
        same_shape(made, g.shape[1:-1]) is not None,
        f"windows of {_text(window)} at steps of {_text(strides)} make {_text(made)} pixels of an image of "
        f"{_text(space)} (padding included), but there are {_text(g.shape[1:-1])}",
    )
    require(same_size(out, g.shape[-1]) is not None, f"the filter makes {out} channels, but there are {g.shape[-1]}")


def _text(shape: Shape) -> str:
    return f"[{', '.join(map(str, shape))}]"


def convolution_filter_node(
    x: Node,
    g: Node,
    *,
    shape: Shape,
    strides: Sizes,
    padding: Any,
    dilations: Sizes = (),
    data_format: str = "NHWC",
) -> Node:
    """The gradient of a convolution with respect to its filter: g for an image x and a filter of `shape`."""
    axes = len(strides)
    check_ranks(x, g, axes)
    require(len(shape) == axes + 2, f"filter_sizes must have {axes + 2} sizes, not {_text(shape)}")
    dilations = dilations or (1,) * axes
    window, own = tuple(map(static, shape[:axes])), static(shape[-2])
    channels = static(x.shape[1 if data_format == "NCHW" else -1])
    fits = own > 0 and channels > 0 and channels % own == 0
    require(fits, f"the image has {channels} channels, the filter {own}")
    batches = same_size(x.shape[0], g.shape[0])
    require(batches is not None, f"a batch of {x.shape[0]} and one of {g.shape[0]} do not fit")
    image = pad_space(channels_last(x, data_format), padding, window, strides, dilations)
    last = channels_last(g, data_format)
    _check_fit(last, image.shape[1:-1], shape, strides, dilations)
    groups = channels // own
    image, last = split_channels(image, groups), split_channels(last, groups)
    return join_filter(filter_gradient(image, last, window, strides, dilations), groups)


# a filter for each channel


def depthwise_node(
    x: Node, w: Node, *, strides: Sizes, padding: Any, dilations: Sizes = (), data_format: str = "NHWC"
) -> Node:
    """Convolution of each channel by itself with filters [*window, channels, m], which makes m channels of each one.

    Channel c of the image gives the channels c * m to c * m + m - 1.
    """
    axes = len(strides)
    check_ranks(x, w, axes)
    dilations, first = dilations or (1,) * axes, space_of(data_format)
    window, m = window_of(w, axes), static(w.shape[-1])
    channels = x.shape[1 if first == 2 else -1]
    require(
        same_size(channels, w.shape[-2]) is not None,
        f"the image has {channels} channels, and there are filters for {w.shape[-2]}",
    )
    if first == 1 and m > 1:
        # Each channel m times side by side: then pixels are vectors of all channels out, read and written in a row.
        x = reshape(x, shape=(*x.shape, 1))
        x = reshape(broadcast_node(x, (*x.shape[:-1], m)), shape=(*x.shape[:-2], channels * m))
    image = pad_space(x, padding, window, strides, dilations, first=first)
    patches = windows(image, first=first, window=window, strides=strides, dilations=dilations)
    if first == 2:
        return _depthwise_planes(patches, w, axes)
    w = reshape(w, shape=(*window, channels * m))
    return _weighted(patches, w, min(axes, 2), range(1 + axes, 1 + 2 * axes))


def _depthwise_planes(patches: Node, w: Node, axes: int) -> Node:
    """Windows [batch, channels, *out, *window] weighted by filters [*window, channels, m]."""
    batch, channels, *rest = patches.shape
    w = transpose(w, perm=(axes, axes + 1, *range(axes)))
    w = reshape(w, shape=(*w.shape[:2], *(1,) * axes, *w.shape[2:]))
    patches = reshape(patches, shape=(batch, channels, 1, *rest))
    y = _weighted(patches, w, 1, range(3 + axes, 3 + 2 * axes))
    return reshape(y, shape=(batch, channels * y.shape[2], *y.shape[3:]))  # type: ignore[no-any-return]


def _weighted(patches: Node, w: Node, first: int, taps: range) -> Node:
    """The sum over the axes `taps` of patches * w.

    w is broadcast in two steps, over the first `first` axes and then over the others.  So its gradient is summed in
    two: first over pixels near each other, whose data the cache has, to sums enough to keep all threads busy.
    """
    shape = broadcast_shapes(patches.shape, w.shape)
    apart = (*shape[:first], *(1,) * (len(shape) - w.ndim - first), *w.shape)
    return reduce_sum(patches * broadcast_node(broadcast_node(w, apart), shape), axes=tuple(taps))  # type: ignore[no-any-return]


def _transposed(x: Any, data_format: str, inverse: bool = False) -> Any:
    """An array with its channels last (or, inverse, from there)."""
    ends = (-1, 1) if inverse else (1, -1)
    return np.moveaxis(x, *ends) if data_format == "NCHW" else x


def _convolution_eval(
    x: Any, w: Any, *, strides: Sizes, padding: Any, dilations: Sizes = (), data_format: str = "NHWC"
) -> Any:
    """Group by group, as a product of all windows with all filters."""
    axes = len(strides)
    dilations = dilations or (1,) * axes
    image = pad_space_of(_transposed(x, data_format), padding, w.shape[:axes], strides, dilations)
    patches = windows_of(image, w.shape[:axes], strides, dilations)
    groups = image.shape[-1] // w.shape[-2]
    parts = zip(np.split(patches, groups, -1), np.split(w, groups, -1), strict=True)
    y = np.concatenate([np.tensordot(p, v, axes=axes + 1) for p, v in parts], -1)
    return _transposed(y, data_format, inverse=True)


def _depthwise_eval(x: Any, w: Any, **attrs: Any) -> Any:
    """As a convolution of all channels, with zeros in the filter between channels that do not meet."""
    *_, c, m = w.shape
    full = np.zeros((*w.shape[:-2], c, c, m), w.dtype)
    full[..., np.arange(c), np.arange(c), :] = w
    return _convolution_eval(x, full.reshape(*w.shape[:-2], c, c * m), **attrs)


def _slopes(function: Any, shape: Shape, g: Any) -> Any:
    """The gradient of sum(g * function(x)), which must be linear in an array x of `shape`, one element at a time."""
    sizes = tuple(map(static, shape))
    units = np.eye(int(np.prod(sizes)), dtype=g.dtype).reshape(-1, *sizes)
    return np.array([np.sum(g * function(unit)) for unit in units], g.dtype).reshape(sizes)


def _input_eval(w: Any, g: Any, *, shape: Shape, **attrs: Any) -> Any:
    return _slopes(lambda x: _convolution_eval(x, w, **attrs), shape, g)


def _filter_eval(x: Any, g: Any, *, shape: Shape, **attrs: Any) -> Any:
    return _slopes(lambda w: _convolution_eval(x, w, **attrs), shape, g)


def _declared(name: str, expand: Any, reference: Any, *cases: Case) -> Composite:
    return composite(name, doc=expand.__doc__ or "", expand=expand, eval=reference, cases=cases)


conv2d = _declared(
    "Conv2D",
    convolution_node,
    _convolution_eval,
    case(normal(2, 5, 6, 3), normal(3, 3, 3, 4, seed=1), strides=(1, 1), padding="SAME"),
    case(normal(2, 5, 6, 3), normal(3, 2, 3, 4, seed=1), strides=(2, 2), padding="VALID"),
    case(normal(2, 3, 5, 6), normal(2, 3, 3, 4, seed=1), strides=(2, 1), padding="SAME", data_format="NCHW"),
    case(normal(1, 7, 6, 2), normal(2, 2, 2, 3, seed=1), strides=(1, 1), padding=((1, 2), (0, 1)), dilations=(2, 3)),
    case(normal(2, 4, 5, 6), normal(3, 2, 3, 4, seed=1), strides=(1, 2), padding="SAME"),
    case(normal(2, 4, 3, 5), normal(2, 2, 2, 6, seed=1), strides=(1, 1), padding="VALID", data_format="NCHW"),
    case(normal(2, 4, 3, 4), normal(2, 2, 1, 8, seed=1), strides=(1, 1), padding="SAME"),
)
conv3d = _declared(
    "Conv3D",
    convolution_node,
    _convolution_eval,
    case(normal(1, 4, 3, 5, 2), normal(2, 3, 2, 2, 3, seed=1), strides=(1, 1, 1), padding="SAME"),
    case(normal(1, 2, 4, 3, 5), normal(2, 1, 3, 2, 3, seed=1), strides=(2, 1, 2), padding="SAME", data_format="NCHW"),
    case(normal(1, 5, 2, 4, 2), normal(2, 1, 2, 2, 2, seed=1), strides=(1,) * 3, padding="VALID", dilations=(3, 1, 2)),
)
conv2d_input = _declared(
    "Conv2DBackpropInput",
    convolution_input_node,
    _input_eval,
    case(normal(3, 2, 2, 4, seed=1), normal(1, 3, 2, 4), shape=(1, 5, 4, 2), strides=(2, 2), padding="SAME"),
    case(normal(2, 3, 2, 3, seed=1), normal(1, 2, 2, 3), shape=(1, 6, 6, 2), strides=(3, 2), padding="VALID"),
    case(
        normal(2, 2, 2, 2, seed=1),
        normal(1, 2, 4, 3),
        shape=(1, 2, 4, 3),
        strides=(1, 1),
        padding="SAME",
        dilations=(2, 1),
        data_format="NCHW",
    ),
    case(normal(1, 2, 2, 4, seed=1), normal(1, 2, 2, 4), shape=(1, 5, 4, 4), strides=(4, 2), padding="VALID"),
)
conv3d_input = _declared(
    "Conv3DBackpropInputV2",
    convolution_input_node,
    _input_eval,
    case(
        normal(2, 2, 3, 2, 2, seed=1), normal(1, 2, 2, 3, 2), shape=(1, 3, 2, 5, 2), strides=(2, 1, 2), padding="SAME"
    ),
)
conv2d_filter = _declared(
    "Conv2DBackpropFilter",
    convolution_filter_node,
    _filter_eval,
    case(normal(1, 5, 4, 2), normal(1, 3, 2, 3, seed=1), shape=(3, 2, 2, 3), strides=(2, 2), padding="SAME"),
    case(normal(1, 3, 4, 6), normal(1, 3, 3, 4, seed=1), shape=(1, 2, 3, 4), strides=(1, 1), padding="VALID"),
    case(
        normal(1, 4, 4, 3),
        normal(1, 4, 4, 2, seed=1),
        shape=(1, 2, 2, 4),
        strides=(1, 1),
        padding="VALID",
        data_format="NCHW",
    ),
)
depthwise_conv2d = _declared(
    "DepthwiseConv2dNative",
    depthwise_node,
    _depthwise_eval,
    case(normal(2, 5, 4, 3), normal(3, 3, 3, 1, seed=1), strides=(1, 1), padding="SAME"),
    case(normal(2, 5, 6, 3), normal(3, 2, 3, 2, seed=1), strides=(2, 1), padding="SAME"),
    case(
        normal(1, 3, 5, 6),
        normal(2, 2, 3, 2, seed=1),
        strides=(1, 1),
        padding="VALID",
        dilations=(3, 2),
        data_format="NCHW",
    ),
    case(normal(2, 2, 5, 5), normal(3, 3, 2, 1, seed=1), strides=(2, 2), padding="SAME", data_format="NCHW"),
)
