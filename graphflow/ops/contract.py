"""Sums of products: matrix multiplication and convolution, with their gradients.

Each is its `index` rule, a sum over products of two elements.  Wherever the compiler meets such a sum with addresses
that are linear in the loop variables, it uses register-blocked kernels; the rule is the oracle for them.
"""

from __future__ import annotations

from itertools import product as cartesian
from math import prod
from typing import Any

import numpy as np

from graphflow.core.dim import Size, ceildiv, product
from graphflow.core.dtype import int32
from graphflow.core.node import OPERATORS, Node
from graphflow.core.op import Op, broadcast_node, case, common_dtype
from graphflow.core.samples import integers, normal
from graphflow.core.type import Shape, TensorType, is_static, require, same_shape, same_size, static
from graphflow.ops.elementwise import equal, select
from graphflow.ops.leaf import constant
from graphflow.ops.reduce import reduce_sum
from graphflow.ops.view import iota, pad, reshape, reverse, spread, strided_slice, transpose
from graphflow.ops.window import Sizes, interleave, phase_sizes, reach_of, unwindow, window_count, windows_of


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

    Inputs x: [batch, *space, *groups, c], w: [*window, *groups, c, o]; attrs strides, dilations: one int for each axis
    of space.  Output [batch, *(s - (w - 1) * dilation - 1) // stride + 1, *groups, o].  Usually there is no axis of
    groups; with one, each group of channels has filters of its own.
    """

    form = "contraction"
    cases = (
        case(normal(2, 5, 6, 3), normal(3, 2, 3, 4, seed=1), strides=(1, 1), dilations=(1, 1)),
        case(normal(2, 7, 6, 2), normal(2, 3, 2, 3, seed=1), strides=(2, 1), dilations=(1, 2)),
        case(normal(2, 8, 2), normal(3, 2, 3, seed=1), strides=(3,), dilations=(2,)),
        case(normal(2, 5, 4, 2, 3), normal(2, 3, 2, 3, 4, seed=1), strides=(2, 1), dilations=(1, 1)),
        case(normal(1, 4, 3, 4, 2), normal(2, 2, 2, 2, 3, seed=1), strides=(1, 1, 2), dilations=(2, 1, 1)),
        case(normal(1, 5, 4, 2), normal(1, 2, 2, 3, seed=1), strides=(3, 3), dilations=(1, 1)),
    )

    def infer(self, x: TensorType, w: TensorType, *, strides: Sizes, dilations: Sizes) -> TensorType:
        common_dtype(x.dtype, w.dtype)
        axes = len(strides)
        require(x.ndim == w.ndim >= axes + 2, f"{x} and {w} do not fit a convolution of {axes} axes")
        channels = same_shape(x.dims[axes + 1 :], w.dims[axes:-1])
        require(channels is not None, f"the image has {x.dims[-1]} channels, the filter {w.dims[-2]}")
        sizes = tuple(map(window_count, x.dims[1 : axes + 1], w.dims[:axes], strides, dilations))
        return x.with_shape((x.dims[0], *sizes, *x.dims[axes + 1 : -1], w.dims[-1]))

    def eval(self, x: Any, w: Any, *, strides: Sizes, dilations: Sizes) -> Any:
        axes = len(strides)
        patches = windows_of(x, w.shape[:axes], strides, dilations)
        (n, *_), space, window, groups, (c, o) = _letters(axes, w.ndim - axes - 2)
        return np.einsum(
            patches, [n, *space, *window, *groups, c], w, [*window, *groups, c, o], [n, *space, *groups, o],
            optimize=True,
        ).astype(x.dtype)  # fmt: skip

    def grad(self, g: Node, y: Node, x: Node, w: Node, *, strides: Sizes, dilations: Sizes) -> Any:
        axes = len(strides)
        # Of a padded image only the pixels inside are asked for, whatever is written down here.
        inside = x.inputs[0] if x.op.name == "Pad" else x
        gx = conv_input(g, w, x.shape[1 : axes + 1], strides, dilations, inside.shape[1 : axes + 1])
        return gx, filter_gradient(x, g, tuple(map(static, w.shape[:axes])), strides, dilations)

    def index(self, k: Any, i: tuple[Size, ...], x: Any, w: Any, *, strides: Sizes, dilations: Sizes) -> Any:
        axes = len(strides)
        n, space, groups, o = i[0], i[1 : axes + 1], i[axes + 1 : -1], i[-1]

        def term(r: tuple[Size, ...]) -> Any:
            *window, c = r
            at = [p * s + q * d for p, s, q, d in zip(space, strides, window, dilations, strict=True)]
            return k.multiply(x[(n, *at, *groups, c)], w[(*window, *groups, c, o)])

        return k.reduce("sum", (*w.shape[:axes], x.shape[-1]), term)


class ConvFilter(Op):
    """The gradient of Conv with respect to its filter: the correlation of the image x with the gradient g.

    Inputs x: [batch, *space, *groups, c], g: [batch, *out, *groups, o]; attrs window, strides, dilations.
    Output [*window, *groups, c, o].
    """

    form = "contraction"
    cases = (
        case(normal(2, 5, 6, 3), normal(2, 3, 5, 4, seed=1), window=(3, 2), strides=(1, 1), dilations=(1, 1)),
        case(normal(2, 7, 6, 2), normal(2, 3, 2, 3, seed=1), window=(2, 3), strides=(2, 1), dilations=(1, 2)),
        case(normal(2, 5, 4, 2, 3), normal(2, 2, 3, 2, 2, seed=1), window=(2, 2), strides=(2, 1), dilations=(1, 1)),
    )

    def infer(self, x: TensorType, g: TensorType, *, window: Sizes, strides: Sizes, dilations: Sizes) -> TensorType:
        common_dtype(x.dtype, g.dtype)
        return x.with_shape((*window, *x.dims[len(window) + 1 :], g.dims[-1]))

    def eval(self, x: Any, g: Any, *, window: Sizes, strides: Sizes, dilations: Sizes) -> Any:
        axes = len(window)
        patches = windows_of(x, window, strides, dilations)
        (n, *_), space, taps, groups, (c, o) = _letters(axes, g.ndim - axes - 2)
        return np.einsum(
            patches, [n, *space, *taps, *groups, c], g, [n, *space, *groups, o], [*taps, *groups, c, o], optimize=True
        ).astype(x.dtype)

    def grad(self, h: Node, y: Node, x: Node, g: Node, *, window: Sizes, strides: Sizes, dilations: Sizes) -> Any:
        space = x.shape[1 : len(window) + 1]
        return conv_input(g, h, space, strides, dilations), conv(x, h, strides=strides, dilations=dilations)

    def index(
        self, k: Any, i: tuple[Size, ...], x: Any, g: Any, *, window: Sizes, strides: Sizes, dilations: Sizes
    ) -> Any:
        axes = len(window)
        tap, groups, (c, o) = i[:axes], i[axes:-2], i[-2:]

        def term(r: tuple[Size, ...]) -> Any:
            n, *space = r
            at = [p * s + q * d for p, s, q, d in zip(space, strides, tap, dilations, strict=True)]
            return k.multiply(x[(n, *at, *groups, c)], g[(n, *space, *groups, o)])

        return k.reduce("sum", tuple(g.shape[: axes + 1]), term)


conv, conv_filter = Conv(), ConvFilter()


FEW_CHANNELS = 16
"""Groups of fewer channels out do not fill a vector."""

PRODUCT_BYTES, PRODUCT_COST = 1 << 23, 16
"""Products of pixels with taps of so many bytes are still in a cache when they are added up; storing one and adding it
up takes as long as so many multiply-adds."""

LEAST_BYTES = 4
"""What is narrower would be rounded between the product and the sum."""

WINOGRAD = 9 / 4
"""How many times fewer multiply-adds windows of 3 x 3 take than are written down."""


def grouped_conv(x: Node, w: Node, strides: Sizes, dilations: Sizes) -> Node:
    """`Conv`; of small groups, several are convolved as one, with zeros in the filter between those that do not meet.

    The products with zeros run in lanes that would be idle.
    """
    few, axes = _groups_a_vector(x, w, len(strides)), len(strides)
    if few == 1:
        return conv(x, w, strides=strides, dilations=dilations)  # type: ignore[no-any-return]
    groups, c, o = map(static, w.shape[-3:])
    apart = (*w.shape[:axes], groups // few, few, c, few, o)
    beside = broadcast_node(reshape(w, shape=(*apart[:-2], 1, o)), apart)
    both = reshape(_own_groups(beside), shape=(*apart[:-4], few * c, few * o))
    y = conv(_beside(x, few), both, strides=strides, dilations=dilations)
    return reshape(y, shape=(*y.shape[:-2], groups, o))  # type: ignore[no-any-return]


def filter_gradient(x: Node, g: Node, window: Sizes, strides: Sizes, dilations: Sizes) -> Node:
    """`ConvFilter`; of small groups, several are correlated as one and what they have in common is dropped."""
    attrs: dict[str, Any] = {"window": window, "strides": strides, "dilations": dilations}
    few = _groups_a_vector(x, g, len(window))
    if few == 1:
        return conv_filter(x, g, **attrs)  # type: ignore[no-any-return]
    groups, c, o = map(static, (*x.shape[-2:], g.shape[-1]))
    both = conv_filter(_beside(x, few), _beside(g, few), **attrs)
    own = _own_groups(reshape(both, shape=(*window, groups // few, few, c, few, o)))
    own = reduce_sum(own, axes=(own.ndim - 2,))
    return reshape(own, shape=(*window, groups, c, o))  # type: ignore[no-any-return]


def _groups_a_vector(x: Node, other: Node, axes: int) -> int:
    """How many groups of the image x, and of a filter or gradient with the channels out, act as one."""
    if x.ndim != axes + 3 or not is_static((*x.shape[-2:], other.shape[-1])):
        return 1
    groups, o = static(x.shape[-2]), static(other.shape[-1])
    return max(n for n in range(1, groups + 1) if groups % n == 0 and (n == 1 or n * o <= FEW_CHANNELS))


def _beside(x: Node, few: int) -> Node:
    """[..., groups, c] -> [..., groups / few, few * c]."""
    return reshape(x, shape=(*x.shape[:-2], static(x.shape[-2]) // few, few * static(x.shape[-1])))  # type: ignore[no-any-return]


def _own_groups(both: Node) -> Node:
    """[..., few, c, few, o] with zeros where the groups are not the same."""
    shape = both.shape[-4:]
    row, column = (iota.node(shape=shape, axis=axis, dtype=int32) for axis in (0, 2))
    return select(equal(row, column), both, 0)  # type: ignore[no-any-return]


def _letters(axes: int, groups: int) -> tuple[list[int], ...]:
    """Names for `einsum`: of the batch, of space, of the window, of groups, of the channels in and out."""
    names = iter(range(2 * axes + groups + 3))
    return tuple([next(names) for _ in range(count)] for count in (1, axes, axes, groups, 2))


def conv_input(g: Node, w: Node, space: Shape, strides: Sizes, dilations: Sizes, inside: Shape | None = None) -> Node:
    """The gradient of Conv with respect to its image of size `space`: g spread, correlated with the mirrored filter.

    Of `inside` pixels the gradients are used; of all, if that is not known.
    """
    axes = len(strides)
    if strides == dilations == (1,) * axes and _products_pay(g, w, space if inside is None else inside):
        return _conv_input_by_products(g, w, space)
    if any(s > 1 for s in strides) and all(d == 1 for d in dilations):
        return _conv_input_by_phases(g, w, space, strides)
    rest = (0,) * (g.ndim - axes - 1)
    reach = tuple(r - 1 for r in map(reach_of, w.shape[:axes], dilations))
    interior = tuple(s - 1 for s in strides)
    high = tuple(s - spread(n, i) for s, n, i in zip(space, g.shape[1 : axes + 1], interior, strict=True))
    image = pad(g, low=(0, *reach, *rest), high=(0, *high, *rest), interior=(0, *interior, *rest))
    mirrored = swap_last(reverse(w, axes=tuple(range(axes))))
    return grouped_conv(image, mirrored, (1,) * axes, dilations)


def _products_pay(g: Node, w: Node, space: Shape) -> bool:
    """Whether `_conv_input_by_products` is estimated to be faster, in multiply-adds for each tap."""
    axes = len(space)
    if g.ndim > axes + 2 or not is_static((*g.shape, *w.shape, *space)) or g.dtype.size < LEAST_BYTES:
        return False
    *window, c, o = map(static, w.shape)
    made, wanted = prod(map(static, g.shape[:-1])), static(g.shape[0]) * prod(map(static, space))
    # Lanes run along k where there is one channel.
    if prod(window) == 1 or c == 1 or made * prod(window) * c * g.dtype.size > PRODUCT_BYTES:
        return False
    vectors = -(-c // FEW_CHANNELS)
    directly = wanted * vectors * FEW_CHANNELS * o / (WINOGRAD if window == [3, 3] else 1)
    # A vector's worth of fewer channels is added up no faster.
    return made * (c * o + PRODUCT_COST * max(c, FEW_CHANNELS // 2)) < directly


def _conv_input_by_products(g: Node, w: Node, space: Shape) -> Node:
    """`conv_input` as the products of each pixel of g with each tap, added up where they belong.

    Nothing is multiplied by the zeros around g, of which there may be more than pixels, and no lanes are idle.
    """
    axes, o = len(space), w.shape[-1]
    rows, taps = (reshape(x, shape=(product(x.shape[:-1]), o)) for x in (g, w))
    products = reshape(matmul(rows, taps, transpose_b=True), shape=(*g.shape[:-1], *w.shape[:-1]))
    window, ones = tuple(map(static, w.shape[:axes])), (1,) * axes
    return unwindow(products, first=1, space=space, window=window, strides=ones, dilations=ones)  # type: ignore[no-any-return]


def _conv_input_by_phases(g: Node, w: Node, space: Shape, strides: Sizes) -> Node:
    """`conv_input` without the products with zeros that spreading g by strides s would put in.

    The pixel a * s + r is the sum over t of g[a - t] w[t * s + r]: a convolution for each phase r < s of the pixels.
    """
    axes, groups = len(strides), w.shape[len(strides) : -2]
    few = is_static(w.shape[-2:-1]) and static(w.shape[-2]) < FEW_CHANNELS
    if all(n == 1 for n in w.shape[:axes]):
        return _conv_input_by_points(g, w, space, strides)
    made = _phases_together(g, w, space, strides) if few else _phases_apart(g, w, space, strides)
    phases = []
    for phase in cartesian(*map(range, strides)):
        sizes = phase_sizes(space, strides, phase)
        blank = broadcast_node(constant(0, g.dtype), (g.shape[0], *sizes, *groups, w.shape[-2]))
        phases.append(made.get(phase, blank))
    return interleave(*phases, first=1, space=space, strides=strides)  # type: ignore[no-any-return]


def _conv_input_by_points(g: Node, w: Node, space: Shape, strides: Sizes) -> Node:
    """The same for windows of one pixel: there is one phase, and zeros between its pixels."""
    axes = len(strides)
    y = grouped_conv(g, swap_last(w), (1,) * axes, (1,) * axes)
    rest, interior = (0,) * (g.ndim - axes - 1), tuple(s - 1 for s in strides)
    high = tuple(n - spread(p, i) for n, p, i in zip(space, g.shape[1 : axes + 1], interior, strict=True))
    return pad(y, low=(0,) * g.ndim, high=(0, *high, *rest), interior=(0, *interior, *rest))  # type: ignore[no-any-return]


def _phases_apart(g: Node, w: Node, space: Shape, strides: Sizes) -> dict[Sizes, Node]:
    """Each phase by a convolution of its own."""
    axes, made = len(strides), {}
    window, ones = tuple(map(static, w.shape[:axes])), (1,) * axes
    nothing, rest = (0,) * (w.ndim - axes), (0,) * (g.ndim - axes - 1)
    for phase in cartesian(*map(range, map(min, window, strides))):
        sizes, taps = phase_sizes(space, strides, phase), phase_sizes(window, strides, phase)
        if 0 in sizes:
            continue
        steps, shape = (*strides, *(1 for _ in nothing)), (*taps, *w.shape[axes:])
        own = strided_slice(w, begin=(*phase, *nothing), stride=steps, shape=shape)
        mirrored = swap_last(reverse(own, axes=tuple(range(axes))))
        high = tuple(a - p for a, p in zip(sizes, g.shape[1 : axes + 1], strict=True))
        low = tuple(static(t) - 1 for t in taps)
        image = pad(g, low=(0, *low, *rest), high=(0, *high, *rest), interior=(0,) * g.ndim)
        made[phase] = grouped_conv(image, mirrored, ones, ones)
    return made


def _phases_together(g: Node, w: Node, space: Shape, strides: Sizes) -> dict[Sizes, Node]:
    """All phases as channels beside each other, of one convolution by ceil(window / s) taps: these are few channels."""
    axes, ones = len(strides), (1,) * len(strides)
    window, groups, c = tuple(map(static, w.shape[:axes])), w.shape[axes:-2], w.shape[-2]
    phases = tuple(map(min, window, strides))  # the others get nothing
    taps = tuple(-(-n // r) for n, r in zip(window, phases, strict=True))
    filters = _phase_filters(w, taps, phases)
    counts = tuple(map(ceildiv, space, strides))
    high = tuple(a - p for a, p in zip(counts, g.shape[1 : axes + 1], strict=True))
    rest = (0,) * (g.ndim - axes - 1)
    image = pad(g, low=(0, *(t - 1 for t in taps), *rest), high=(0, *high, *rest), interior=(0,) * g.ndim)
    y, made = grouped_conv(image, filters, ones, ones), {}
    for number, phase in enumerate(cartesian(*map(range, phases))):
        shape = (g.shape[0], *phase_sizes(space, strides, phase), *groups, c)
        made[phase] = strided_slice(y, begin=(*(0,) * (y.ndim - 1), number * c), stride=(1,) * y.ndim, shape=shape)
    return made


def _phase_filters(w: Node, taps: Sizes, phases: Sizes) -> Node:
    """[*window, *groups, c, o] -> [*taps, *groups, o, *phases * c], the taps mirrored."""
    axes = len(taps)
    rest, (c, o) = w.shape[axes:], w.shape[-2:]
    lacking = tuple(t * r - static(n) for t, r, n in zip(taps, phases, w.shape[:axes], strict=True))
    w = pad(w, low=(0,) * w.ndim, high=(*lacking, *(0,) * len(rest)), interior=(0,) * w.ndim)
    w = reshape(w, shape=(*(n for pair in zip(taps, phases, strict=True) for n in pair), *rest))
    w = reverse(w, axes=tuple(range(0, 2 * axes, 2)))
    groups = range(2 * axes, w.ndim - 2)
    perm = (*range(0, 2 * axes, 2), *groups, w.ndim - 1, *range(1, 2 * axes, 2), w.ndim - 2)
    return reshape(transpose(w, perm=perm), shape=(*taps, *rest[:-2], o, int(np.prod(phases)) * c))  # type: ignore[no-any-return]
