"""Sums of products: matrix multiplication and convolution, with their gradients.

Each is its `index` rule, a sum over products of two elements.  Wherever the compiler meets such a sum with addresses
that are linear in the loop variables, it uses register-blocked kernels; the rule is the oracle for them.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from graphflow.core.dim import Size, ceildiv
from graphflow.core.node import OPERATORS, Node
from graphflow.core.op import Op, case, common_dtype, composite
from graphflow.core.samples import integers, normal
from graphflow.core.type import Shape, TensorType, require, same_shape, same_size, static
from graphflow.ops.view import pad, reverse, spread, transpose

Sizes = tuple[int, ...]


def swap_last(x: Node) -> Node:
    """x with its last two axes exchanged."""
    return transpose(x, perm=(*range(x.ndim - 2), x.ndim - 1, x.ndim - 2))  # type: ignore[no-any-return]


class MatMul(Op):
    """Matrix product over the last two axes: [..., m, k] times [..., k, n].

    attrs transpose_a, transpose_b: whether the last two axes of an input are exchanged first.
    """

    form = "contraction"
    cases = (
        case(normal(3, 4), normal(4, 5, seed=1), transpose_a=False, transpose_b=False),
        case(normal(4, 3), normal(5, 4, seed=1), transpose_a=True, transpose_b=True),
        case(normal(2, 3, 4), normal(2, 4, 5, seed=1), transpose_a=False, transpose_b=False),
        case(integers(-5, 5, 3, 4), integers(-5, 5, 4, 2, seed=1), transpose_a=False, transpose_b=False),
    )

    def infer(
        self, a: TensorType, b: TensorType, *, transpose_a: bool = False, transpose_b: bool = False
    ) -> TensorType:
        require(not common_dtype(a.dtype, b.dtype).is_bool, "bool has no product")
        require(
            a.ndim >= 2 and b.ndim == a.ndim,
            f"matrices need 2 axes or more, and as many in both; there are {a.ndim} and {b.ndim}",
        )
        m, ka = (a.dims[-1], a.dims[-2]) if transpose_a else (a.dims[-2], a.dims[-1])
        kb, n = (b.dims[-1], b.dims[-2]) if transpose_b else (b.dims[-2], b.dims[-1])
        require(same_size(ka, kb) is not None, f"inner dimensions differ: {ka} and {kb}")
        batch = same_shape(a.dims[:-2], b.dims[:-2])
        if batch is None:
            require(False, f"batch dimensions differ: {list(a.dims[:-2])} and {list(b.dims[:-2])}")
            raise AssertionError
        return a.with_shape((*batch, m, n))

    def eval(self, a: Any, b: Any, *, transpose_a: bool = False, transpose_b: bool = False) -> Any:
        return np.matmul(np.swapaxes(a, -1, -2) if transpose_a else a, np.swapaxes(b, -1, -2) if transpose_b else b)

    def grad(self, g: Node, y: Node, a: Node, b: Node, *, transpose_a: bool = False, transpose_b: bool = False) -> Any:
        ga = matmul(g, b, transpose_a=False, transpose_b=not transpose_b)
        gb = matmul(a, g, transpose_a=not transpose_a, transpose_b=False)
        return (swap_last(ga) if transpose_a else ga), (swap_last(gb) if transpose_b else gb)

    def index(
        self, k: Any, i: tuple[Size, ...], a: Any, b: Any, *, transpose_a: bool = False, transpose_b: bool = False
    ) -> Any:
        *batch, m, n = i

        def term(r: tuple[Size, ...]) -> Any:
            left = (*batch, r[0], m) if transpose_a else (*batch, m, r[0])
            right = (*batch, n, r[0]) if transpose_b else (*batch, r[0], n)
            return k.multiply(a[left], b[right])

        return k.reduce("sum", (a.shape[-2] if transpose_a else a.shape[-1],), term)


matmul = MatMul()
OPERATORS["matmul"] = lambda x, y: matmul(x, y, transpose_a=False, transpose_b=False)


class Conv(Op):
    """N-dimensional cross-correlation without padding, channels last.

    Inputs x: [batch, *space, c], w: [*window, c, o]; attrs strides, dilations: one int for each axis of space.
    Output [batch, *(s - (w - 1) * dilation - 1) // stride + 1, o].
    """

    form = "contraction"
    cases = (
        case(normal(2, 5, 6, 3), normal(3, 2, 3, 4, seed=1), strides=(1, 1), dilations=(1, 1)),
        case(normal(2, 7, 6, 2), normal(2, 3, 2, 3, seed=1), strides=(2, 1), dilations=(1, 2)),
        case(normal(2, 8, 2), normal(3, 2, 3, seed=1), strides=(3,), dilations=(2,)),
    )

    def infer(self, x: TensorType, w: TensorType, *, strides: Sizes, dilations: Sizes) -> TensorType:
        common_dtype(x.dtype, w.dtype)
        space = len(strides)
        require(x.ndim == space + 2 and w.ndim == space + 2, f"{x} and {w} do not fit a convolution of {space} axes")
        require(
            same_size(x.dims[-1], w.dims[-2]) is not None,
            f"the image has {x.dims[-1]} channels, the filter {w.dims[-2]}",
        )
        sizes = tuple(map(window_count, x.dims[1:-1], w.dims[:-2], strides, dilations))
        return x.with_shape((x.dims[0], *sizes, w.dims[-1]))

    def eval(self, x: Any, w: Any, *, strides: Sizes, dilations: Sizes) -> Any:
        patches = windows_of(x, w.shape[:-2], strides, dilations)
        return np.tensordot(patches, w, axes=len(strides) + 1).astype(x.dtype)

    def grad(self, g: Node, y: Node, x: Node, w: Node, *, strides: Sizes, dilations: Sizes) -> Any:
        gx = conv_input(g, w, x.shape[1:-1], strides, dilations)
        return gx, conv_filter(x, g, window=tuple(w.shape[:-2]), strides=strides, dilations=dilations)

    def index(self, k: Any, i: tuple[Size, ...], x: Any, w: Any, *, strides: Sizes, dilations: Sizes) -> Any:
        n, *space, o = i

        def term(r: tuple[Size, ...]) -> Any:
            *window, c = r
            at = [p * s + q * d for p, s, q, d in zip(space, strides, window, dilations, strict=True)]
            return k.multiply(x[(n, *at, c)], w[(*window, c, o)])

        return k.reduce("sum", (*w.shape[:-2], x.shape[-1]), term)


class ConvFilter(Op):
    """The gradient of Conv with respect to its filter: the correlation of the image x with the gradient g.

    Inputs x: [batch, *space, c], g: [batch, *out, o]; attrs window, strides, dilations.  Output [*window, c, o].
    """

    form = "contraction"
    cases = (
        case(normal(2, 5, 6, 3), normal(2, 3, 5, 4, seed=1), window=(3, 2), strides=(1, 1), dilations=(1, 1)),
        case(normal(2, 7, 6, 2), normal(2, 3, 2, 3, seed=1), window=(2, 3), strides=(2, 1), dilations=(1, 2)),
    )

    def infer(self, x: TensorType, g: TensorType, *, window: Sizes, strides: Sizes, dilations: Sizes) -> TensorType:
        common_dtype(x.dtype, g.dtype)
        return x.with_shape((*window, x.dims[-1], g.dims[-1]))

    def eval(self, x: Any, g: Any, *, window: Sizes, strides: Sizes, dilations: Sizes) -> Any:
        patches = windows_of(x, window, strides, dilations)
        space = tuple(range(len(window) + 1))
        return np.tensordot(patches, g, axes=(space, space)).astype(x.dtype)

    def grad(self, h: Node, y: Node, x: Node, g: Node, *, window: Sizes, strides: Sizes, dilations: Sizes) -> Any:
        return conv_input(g, h, x.shape[1:-1], strides, dilations), conv(x, h, strides=strides, dilations=dilations)

    def index(
        self, k: Any, i: tuple[Size, ...], x: Any, g: Any, *, window: Sizes, strides: Sizes, dilations: Sizes
    ) -> Any:
        *tap, c, o = i

        def term(r: tuple[Size, ...]) -> Any:
            n, *space = r
            at = [p * s + q * d for p, s, q, d in zip(space, strides, tap, dilations, strict=True)]
            return k.multiply(x[(n, *at, c)], g[(n, *space, o)])

        return k.reduce("sum", tuple(g.shape[:-1]), term)


conv, conv_filter = Conv(), ConvFilter()


def conv_input(g: Node, w: Node, space: Shape, strides: Sizes, dilations: Sizes) -> Node:
    """The gradient of Conv with respect to its image: g spread by the strides, correlated with the mirrored filter."""
    reach = tuple((static(s) - 1) * d for s, d in zip(w.shape[:-2], dilations, strict=True))
    interior = tuple(s - 1 for s in strides)
    high = tuple(s - spread(n, i) for s, n, i in zip(space, g.shape[1:-1], interior, strict=True))
    image = pad(g, low=(0, *reach, 0), high=(0, *high, 0), interior=(0, *interior, 0))
    mirrored = swap_last(reverse(w, axes=tuple(range(len(strides)))))
    return conv(image, mirrored, strides=(1,) * len(strides), dilations=dilations)  # type: ignore[no-any-return]


def window_count(size: Size, window: Size, stride: int, dilation: int = 1) -> Size:
    """How many windows fit along an axis; raises ShapeError when none does."""
    reach = (window - 1) * dilation + 1
    require(
        not (isinstance(size, int) and isinstance(reach, int) and size < reach),
        f"a window of {reach} does not fit an axis of {size}",
    )
    return (size - reach) // stride + 1


def windows_of(x: Any, window: Sizes, strides: Sizes, dilations: Sizes) -> Any:
    """Every window of a channels-last image: [batch, *out, *window, c] (NumPy)."""
    reach = tuple((w - 1) * d + 1 for w, d in zip(window, dilations, strict=True))
    axes = tuple(range(1, len(window) + 1))
    views = np.lib.stride_tricks.sliding_window_view(x, reach, axes)
    step = (
        slice(None),
        *(slice(None, None, s) for s in strides),
        slice(None),
        *(slice(None, None, d) for d in dilations),
    )
    return np.moveaxis(views[step], len(window) + 1, -1)


def paddings(padding: Any, size: Size, window: int, stride: int, dilation: int = 1) -> tuple[int, int]:
    """How much SAME, VALID or an explicit (low, high) pads an axis."""
    if isinstance(padding, tuple):
        return padding
    if padding == "VALID":
        return 0, 0
    reach = (window - 1) * dilation + 1
    if stride == 1:
        return (reach - 1) // 2, reach - 1 - (reach - 1) // 2
    total = max((static(ceildiv(size, stride)) - 1) * stride + reach - static(size), 0)
    return total // 2, total - total // 2


def pad_space(x: Node, padding: Any, window: Sizes, strides: Sizes, dilations: Sizes, value: float = 0) -> Node:
    """A channels-last image padded as TensorFlow's `padding` says."""
    each = padding if isinstance(padding, tuple) else (padding,) * len(window)
    pairs = list(map(paddings, each, x.shape[1:-1], window, strides, dilations))
    low, high = (0, *(p[0] for p in pairs), 0), (0, *(p[1] for p in pairs), 0)
    return pad(x, low=low, high=high, interior=(0,) * x.ndim, value=value)  # type: ignore[no-any-return]


def channels_last(x: Node, data_format: str) -> Node:
    """x with its channels moved from axis 1 to the end where data_format is NC..."""
    return transpose(x, perm=(0, *range(2, x.ndim), 1)) if data_format.startswith("NC") else x


def channels_as(x: Node, data_format: str) -> Node:
    """The inverse of `channels_last`."""
    return transpose(x, perm=(0, x.ndim - 1, *range(1, x.ndim - 1))) if data_format.startswith("NC") else x


def conv2d_node(
    x: Node, w: Node, *, strides: Sizes, padding: Any, dilations: Sizes = (1, 1), data_format: str = "NHWC"
) -> Node:
    """2-D convolution; strides, dilations of the axes of space; padding SAME, VALID or ((low, high), (low, high))."""
    require(x.ndim == 4 and w.ndim == 4, f"an image and a filter of 4 axes are needed, not {x.type} and {w.type}")
    image = channels_last(x, data_format)
    image = pad_space(image, padding, tuple(map(static, w.shape[:2])), strides, dilations)
    return channels_as(conv(image, w, strides=strides, dilations=dilations), data_format)


def _conv2d_eval(
    x: Any, w: Any, *, strides: Sizes, padding: Any, dilations: Sizes = (1, 1), data_format: str = "NHWC"
) -> Any:
    image = np.moveaxis(x, 1, -1) if data_format == "NCHW" else x
    each = padding if isinstance(padding, tuple) else (padding,) * 2
    pairs = [
        paddings(p, *rest) for p, *rest in zip(each, image.shape[1:3], w.shape[:2], strides, dilations, strict=True)
    ]
    image = np.pad(image, [(0, 0), *pairs, (0, 0)])
    y = np.tensordot(windows_of(image, w.shape[:2], strides, dilations), w, axes=3)
    return np.moveaxis(y, -1, 1) if data_format == "NCHW" else y


conv2d = composite(
    "Conv2D",
    doc=conv2d_node.__doc__ or "",
    expand=conv2d_node,
    eval=_conv2d_eval,
    cases=[
        case(normal(2, 5, 6, 3), normal(3, 3, 3, 4, seed=1), strides=(1, 1), padding="SAME"),
        case(normal(2, 5, 6, 3), normal(3, 2, 3, 4, seed=1), strides=(2, 2), padding="VALID"),
        case(normal(2, 3, 5, 6), normal(2, 3, 3, 4, seed=1), strides=(2, 1), padding="SAME", data_format="NCHW"),
        case(
            normal(1, 7, 6, 2), normal(2, 2, 2, 3, seed=1), strides=(1, 1), padding=((1, 2), (0, 1)), dilations=(2, 3)
        ),
    ],
)
