"""Ops that rearrange elements: broadcast, reshape, transpose, slice, pad, concat and what is made of them.

Each is its `index` rule: where element i comes from.  None of them computes, so the compiler inlines them where it can.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from graphflow.core.dim import Dim, Size, ceildiv, estimate, fed, product
from graphflow.core.dtype import as_dtype, int32
from graphflow.core.node import OPERATORS, Node
from graphflow.core.op import Op, case, composite
from graphflow.core.samples import integers, normal
from graphflow.core.type import (
    NeedsStatic,
    Shape,
    ShapeError,
    TensorType,
    broadcast_shapes,
    has_hint,
    is_static,
    require,
    same_shape,
    same_size,
    static,
)
from graphflow.ops.elementwise import cast, equal, select
from graphflow.ops.leaf import constant


def normalize_axis(axis: int, rank: int) -> int:
    """A possibly negative axis as a position; raises ShapeError."""
    require(-rank <= axis < rank, f"axis {axis} is out of range for {rank} axes")
    return axis % rank


class BroadcastTo(Op):
    """x repeated along new leading axes and along axes of size 1.  attr shape: the shape of the result."""

    form = "view"
    linear = True
    cases = (case(normal(3, 1), shape=(2, 3, 4)), case(normal(), shape=(3,)))

    def rereads(self, x: TensorType, y: TensorType, **attrs: Any) -> bool:
        return estimate(y.size) > estimate(x.size)

    def infer(self, x: TensorType, *, shape: Shape) -> TensorType:
        broadcast = broadcast_shapes(x.dims, shape)
        require(same_shape(broadcast, shape) is not None, f"[{_text(x.dims)}] does not broadcast to [{_text(shape)}]")
        return x.with_shape(shape)

    def infer_unknown(self, x: TensorType, *, shape: Shape) -> TensorType:
        return x.with_shape(shape)

    def eval(self, x: Any, *, shape: Shape) -> Any:
        return np.broadcast_to(x, tuple(map(static, shape)))

    def grad(self, g: Node, y: Node, x: Node, *, shape: Shape) -> Any:
        from graphflow.ops.reduce import reduce_sum

        lead = len(shape) - x.ndim
        axes = tuple(range(lead)) + tuple(lead + a for a in range(x.ndim) if x.shape[a] != shape[lead + a])
        return reshape(reduce_sum(g, axes=axes), shape=x.shape)

    def index(self, k: Any, i: tuple[Size, ...], x: Any, *, shape: Shape) -> Any:
        lead = len(shape) - len(x.shape)
        return x[tuple(0 if x.shape[a] == 1 and shape[lead + a] != 1 else i[lead + a] for a in range(len(x.shape)))]


class Reshape(Op):
    """The same elements in row-major order under another shape.  attr shape: sizes, one of them may be -1."""

    form = "view"
    cases = (case(normal(2, 6), shape=(3, 4)), case(normal(2, 3, 4), shape=(6, -1)), case(normal(1), shape=()))

    def rereads(self, x: TensorType, y: TensorType, **attrs: Any) -> bool:
        return False

    def infer(self, x: TensorType, *, shape: Shape) -> TensorType:
        known = product(tuple(s for s in shape if s != -1))
        if -1 not in shape:
            if same_size(x.size, known) is None:
                raise ShapeError(f"{x} has {x.size} elements, [{_text(shape)}] has {known}")
            return x.with_shape(shape)
        require(shape.count(-1) == 1, f"shape [{_text(shape)}] has more than one -1")
        require(known != 0, f"-1 in [{_text(shape)}] can't be told beside a size of 0")
        rest = x.size // known
        require(same_size(rest * known, x.size) is not None, f"{x.size} elements do not divide by {known}")
        return x.with_shape(tuple(rest if s == -1 else s for s in shape))

    def infer_unknown(self, x: TensorType, *, shape: Shape) -> TensorType:
        return TensorType(x.dtype, None if -1 in shape else shape)

    def eval(self, x: Any, *, shape: Shape) -> Any:
        return np.reshape(x, tuple(map(static, shape)))

    def grad(self, g: Node, y: Node, x: Node, *, shape: Shape) -> Any:
        return reshape(g, shape=x.shape)

    def index(self, k: Any, i: tuple[Size, ...], x: Any, *, shape: Shape) -> Any:
        if [s for s in x.shape if s != 1] == [s for s in k.shape if s != 1]:
            kept = iter([j for j, s in zip(i, k.shape, strict=True) if s != 1])
            return x[tuple(0 if s == 1 else next(kept) for s in x.shape)]
        flat = ravel(i, k.shape)
        return x[unravel(flat, x.shape)]

    def node(self, *args: Any, **attrs: Any) -> Node:
        """Never -1 below the user's graph, and nothing where nothing changes."""
        shape = self.infer(args[0].type, **attrs).dims
        return args[0] if args[0].shape == shape else super().node(*args, shape=shape)


def ravel(i: tuple[Size, ...], shape: Shape) -> Size:
    """The row-major position of index i."""
    flat: Size = 0
    for position, size in zip(i, shape, strict=True):
        flat = flat * size + position
    return flat


def unravel(flat: Size, shape: Shape) -> tuple[Size, ...]:
    """The index at a row-major position."""
    result: list[Size] = []
    for axis in range(len(shape) - 1, -1, -1):
        outer = flat // shape[axis] if axis else 0
        result.append(flat - outer * shape[axis])
        flat = outer
    return tuple(reversed(result))


class Transpose(Op):
    """Permute axes: output axis `k` is input axis `perm[k]`.  attr perm: a permutation of the axes."""

    form = "view"
    linear = True
    cases = (case(normal(2, 3, 4), perm=(2, 0, 1)), case(normal(5, 3), perm=(1, 0)))

    def rereads(self, x: TensorType, y: TensorType, **attrs: Any) -> bool:
        return False

    def infer(self, x: TensorType, *, perm: tuple[int, ...]) -> TensorType:
        require(sorted(perm) == list(range(x.ndim)), f"perm {list(perm)} is not a permutation of {x.ndim} axes")
        return x.with_shape(tuple(x.dims[p] for p in perm))

    def eval(self, x: Any, *, perm: tuple[int, ...]) -> Any:
        return np.transpose(x, perm)

    def grad(self, g: Node, y: Node, x: Node, *, perm: tuple[int, ...]) -> Any:
        return transpose(g, perm=inverse(perm))

    def index(self, k: Any, i: tuple[Size, ...], x: Any, *, perm: tuple[int, ...]) -> Any:
        return x[tuple(i[perm.index(axis)] for axis in range(len(perm)))]


def inverse(perm: Sequence[int]) -> tuple[int, ...]:
    """The permutation that undoes perm."""
    return tuple(sorted(range(len(perm)), key=lambda axis: perm[axis]))


class StridedSlice(Op):
    """Elements begin + stride * i of each axis.  attrs begin, stride (may be negative), shape: one entry an axis."""

    form = "view"
    linear = True
    cases = (
        case(normal(5, 6), begin=(1, 5), stride=(1, -2), shape=(3, 3)),
        case(normal(7), begin=(0,), stride=(3,), shape=(3,)),
    )

    def rereads(self, x: TensorType, y: TensorType, **attrs: Any) -> bool:
        return False

    def infer(self, x: TensorType, *, begin: Shape, stride: tuple[int, ...], shape: Shape) -> TensorType:
        for axis, (b, s, n) in enumerate(zip(begin, stride, shape, strict=True)):
            if is_static((b, n, x.dims[axis])) and n:
                last = static(b) + s * (static(n) - 1)
                inside = 0 <= static(b) < static(x.dims[axis]) and 0 <= last < static(x.dims[axis])
                require(inside, f"the slice {b}..{last} leaves axis {axis} of size {x.dims[axis]}")
        return x.with_shape(shape)

    def eval(self, x: Any, *, begin: Shape, stride: tuple[int, ...], shape: Shape) -> Any:
        grid = [static(b) + s * np.arange(static(n)) for b, s, n in zip(begin, stride, shape, strict=True)]
        return x[np.ix_(*grid)] if grid else x

    def grad(self, g: Node, y: Node, x: Node, *, begin: Shape, stride: tuple[int, ...], shape: Shape) -> Any:
        backward = tuple(a for a, s in enumerate(stride) if s < 0)
        if backward:
            g = reverse(g, axes=backward)
        low = tuple(b + s * (n - 1) if s < 0 else b for b, s, n in zip(begin, stride, shape, strict=True))
        span = tuple((n - 1) * abs(s) + 1 for s, n in zip(stride, shape, strict=True))
        high = tuple(d - b - n for d, b, n in zip(x.shape, low, span, strict=True))
        if any(n == 0 for n in shape):
            return None
        return pad(g, low=low, high=high, interior=tuple(abs(s) - 1 for s in stride))

    def index(self, k: Any, i: tuple[Size, ...], x: Any, *, begin: Shape, stride: tuple[int, ...], shape: Shape) -> Any:
        return x[tuple(b + j * s for b, s, j in zip(begin, stride, i, strict=True))]


class Reverse(Op):
    """x backwards along axes.  attr axes: positions."""

    form = "view"
    linear = True
    cases = (case(normal(3, 4), axes=(1,)),)

    def rereads(self, x: TensorType, y: TensorType, **attrs: Any) -> bool:
        return False

    def infer(self, x: TensorType, *, axes: tuple[int, ...]) -> TensorType:
        require(all(0 <= a < x.ndim for a in axes), f"axes {list(axes)} of {x.ndim}")
        require(len(set(axes)) == len(axes), f"axes {list(axes)} name one of them twice")
        return x

    def eval(self, x: Any, *, axes: tuple[int, ...]) -> Any:
        return np.flip(x, axes)

    def grad(self, g: Node, y: Node, x: Node, *, axes: tuple[int, ...]) -> Any:
        return reverse(g, axes=axes)

    def index(self, k: Any, i: tuple[Size, ...], x: Any, *, axes: tuple[int, ...]) -> Any:
        return x[tuple(x.shape[a] - 1 - j if a in axes else j for a, j in enumerate(i))]


class Pad(Op):
    """x with `value` around it and between its elements.

    attrs low, high: how much before and after each axis; interior: how much between neighbours; value: a number.
    """

    form = "view"
    cases = (
        case(normal(2, 3), low=(1, 0), high=(0, 2), interior=(0, 0), value=0.0),
        case(normal(2, 3), low=(1, 1), high=(0, 2), interior=(1, 2), value=0.0),
    )

    def rereads(self, x: TensorType, y: TensorType, **attrs: Any) -> bool:
        return False

    def infer(
        self, x: TensorType, *, low: Shape, high: Shape, interior: tuple[int, ...], value: float = 0
    ) -> TensorType:
        require(len(low) == len(high) == x.ndim, f"paddings for {len(low)} axes, the input has {x.ndim}")
        require(all(p >= 0 for p in (*low, *high) if isinstance(p, int)), "a padding is negative")
        return x.with_shape(
            tuple(lo + spread(d, n) + hi for lo, d, n, hi in zip(low, x.dims, interior, high, strict=True))
        )

    def eval(self, x: Any, *, low: Shape, high: Shape, interior: tuple[int, ...], value: float = 0) -> Any:
        lows, highs = tuple(map(static, low)), tuple(map(static, high))
        sizes = tuple(
            lo + static(spread(d, n)) + hi for lo, d, n, hi in zip(lows, x.shape, interior, highs, strict=True)
        )
        result = np.full(sizes, value, x.dtype)
        result[
            tuple(slice(lo, lo + static(spread(d, n)), n + 1) for lo, d, n in zip(lows, x.shape, interior, strict=True))
        ] = x
        return result

    def grad(
        self, g: Node, y: Node, x: Node, *, low: Shape, high: Shape, interior: tuple[int, ...], value: float = 0
    ) -> Any:
        return strided_slice(g, begin=low, stride=tuple(n + 1 for n in interior), shape=x.shape)

    def index(
        self,
        k: Any,
        i: tuple[Size, ...],
        x: Any,
        *,
        low: Shape,
        high: Shape,
        interior: tuple[int, ...],
        value: float = 0,
    ) -> Any:
        conditions, source = [], []
        for axis, (j, lo, hi, n) in enumerate(zip(i, low, high, interior, strict=True)):
            if lo == 0 and hi == 0 and n == 0:
                source.append(j)
                continue
            at = (j - lo) // (n + 1)
            conditions.append(k.between(j - lo, 0, spread(x.shape[axis], n)))
            if n:
                conditions.append(k.divisible(j - lo, n + 1))
            source.append(at)
        return k.guard(conditions, lambda: x[tuple(source)], k.constant(value, x.dtype))

    def node(self, *args: Any, **attrs: Any) -> Node:
        """Nothing where nothing is added."""
        if all(p == 0 for key in ("low", "high", "interior") for p in attrs[key]):
            return args[0]  # type: ignore[no-any-return]
        attrs.setdefault("value", 0)
        return super().node(*args, **attrs)


def spread(size: Size, interior: int) -> Size:
    """The size of an axis with `interior` elements put between neighbours; an empty axis stays empty."""
    return size + (size - 1) * interior if interior and size != 0 else size


class Concat(Op):
    """The inputs one after another along an axis.  attr axis."""

    form = "view"
    cases = (
        case(normal(2, 3), normal(2, 1, seed=1), normal(2, 4, seed=2), axis=1),
        case(normal(2, 3), normal(1, 3), axis=0),
    )

    def rereads(self, x: TensorType, y: TensorType, **attrs: Any) -> bool:
        return False

    def infer(self, *xs: TensorType, axis: int) -> TensorType:
        axis = normalize_axis(axis, xs[0].ndim)
        total: Size = 0
        sizes = list(xs[0].dims)
        for x in xs:
            require(x.dtype is xs[0].dtype, f"dtypes differ: {xs[0].dtype} and {x.dtype} (tf.cast converts)")
            require(x.ndim == xs[0].ndim, f"ranks differ: {xs[0]} and {x}")
            for a, size in enumerate(x.dims):
                same = size if a == axis else same_size(sizes[a], size)
                require(same is not None, f"{xs[0]} and {x} differ on axis {a}, which is not the axis {axis} of concat")
                if a != axis and same is not None:
                    sizes[a] = same
            total = x.dims[axis] + total
        sizes[axis] = total
        return xs[0].with_shape(tuple(sizes))

    def eval(self, *xs: Any, axis: int) -> Any:
        return np.concatenate(xs, axis)

    def grad(self, g: Node, y: Node, *xs: Node, axis: int) -> Any:
        axis %= y.ndim
        offset: Size = 0
        gradients = []
        for x in xs:
            begin = tuple(offset if a == axis else 0 for a in range(x.ndim))
            gradients.append(strided_slice(g, begin=begin, stride=(1,) * x.ndim, shape=x.shape))
            offset = x.shape[axis] + offset
        return tuple(gradients)

    def index(self, k: Any, i: tuple[Size, ...], *xs: Any, axis: int) -> Any:
        axis %= len(i)
        offset: Size = 0
        starts = []
        for x in xs:
            starts.append(offset)
            offset = x.shape[axis] + offset

        def piece(number: int) -> Any:
            x, start = xs[number], starts[number]
            return x[(*i[:axis], i[axis] - start, *i[axis + 1 :])]

        result = k.constant(0, xs[0].dtype)
        for number in range(len(xs)):
            inside = k.between(i[axis], starts[number], starts[number] + xs[number].shape[axis])
            result = k.guard([inside], lambda number=number: piece(number), result)
        return result


class Blocks(Op):
    """An axis cut into blocks: size n becomes [ceil(n / size), size], the last block filled up with `value`.

    attrs axis, size, value.
    """

    form = "view"
    cases = (
        case(normal(2, 7, 3), axis=1, size=3, value=0.0),
        case(normal(8), axis=0, size=4, value=float("-inf")),
    )

    def rereads(self, x: TensorType, y: TensorType, **attrs: Any) -> bool:
        return False

    def infer(self, x: TensorType, *, axis: int, size: int, value: float) -> TensorType:
        return x.with_shape((*x.dims[:axis], ceildiv(x.dims[axis], size), size, *x.dims[axis + 1 :]))

    def eval(self, x: Any, *, axis: int, size: int, value: float) -> Any:
        count = -(-x.shape[axis] // size)
        widths = [(0, count * size - x.shape[axis]) if a == axis else (0, 0) for a in range(x.ndim)]
        filled = np.pad(x, widths, constant_values=value)
        return filled.reshape(*x.shape[:axis], count, size, *x.shape[axis + 1 :])

    def grad(self, g: Node, y: Node, x: Node, *, axis: int, size: int, value: float) -> Any:
        whole = reshape(g, shape=(*x.shape[:axis], y.shape[axis] * size, *x.shape[axis + 1 :]))
        return strided_slice(whole, begin=(0,) * x.ndim, stride=(1,) * x.ndim, shape=x.shape)

    def index(self, k: Any, i: tuple[Size, ...], x: Any, *, axis: int, size: int, value: float) -> Any:
        at = i[axis] * size + i[axis + 1]
        source = (*i[:axis], at, *i[axis + 2 :])
        if isinstance(x.shape[axis], int) and x.shape[axis] % size == 0:
            return x[source]
        return k.guard([k.between(at, 0, x.shape[axis])], lambda: x[source], k.constant(value, x.dtype))


class Repeat(Op):
    """Each element `size` times along an axis, the last one as often as fits into `length`: a value for each block.

    attrs axis, size, length.
    """

    form = "view"
    cases = (
        case(normal(2, 3, 3), axis=1, size=3, length=7),
        case(normal(2), axis=0, size=4, length=8),
    )

    def infer(self, x: TensorType, *, axis: int, size: int, length: Size) -> TensorType:
        blocks_of = ceildiv(length, size)
        require(x.dims[axis] == blocks_of, f"axis {axis} of {x} has not the {blocks_of} blocks that make {length}")
        return x.with_shape((*x.dims[:axis], length, *x.dims[axis + 1 :]))

    def eval(self, x: Any, *, axis: int, size: int, length: Size) -> Any:
        return np.take(np.repeat(x, size, axis), np.arange(static(length)), axis)

    def grad(self, g: Node, y: Node, x: Node, *, axis: int, size: int, length: Size) -> Any:
        from graphflow.ops.reduce import reduce_sum

        return reduce_sum(blocks(g, axis=axis, size=size, value=0), axes=(axis + 1,))

    def index(self, k: Any, i: tuple[Size, ...], x: Any, *, axis: int, size: int, length: Size) -> Any:
        return x[(*i[:axis], i[axis] // size, *i[axis + 1 :])]


class Iota(Op):
    """0, 1, 2 ... along one axis.  attrs shape, axis, dtype."""

    cases = (case(shape=(3, 4), axis=1, dtype="int32"), case(shape=(5,), axis=0, dtype="float64"))

    def infer(self, *, shape: Shape, axis: int, dtype: Any) -> TensorType:
        return TensorType(as_dtype(dtype), shape)

    def eval(self, *, shape: Shape, axis: int, dtype: Any) -> Any:
        sizes = tuple(map(static, shape))
        column = np.arange(sizes[axis]).reshape([-1 if a == axis else 1 for a in range(len(sizes))])
        return np.broadcast_to(column, sizes).astype(str(dtype))

    def index(self, k: Any, i: tuple[Size, ...], *, shape: Shape, axis: int, dtype: Any) -> Any:
        return k.position(i[axis], dtype)


class Range(Op):
    """start, start + delta, ... while below limit (above it, where delta is negative).

    attrs start, limit, delta: integers; dtype.
    """

    differentiable = False
    cases = (
        case(start=0, limit=7, delta=2, dtype="int32"),
        case(start=5, limit=-1, delta=-3, dtype="float32"),
        case(start=3, limit=3, delta=1, dtype="int64"),
        case(start=4, limit=3, delta=1, dtype="int64"),
    )

    def infer(self, *, start: Size, limit: Size, delta: Size, dtype: Any) -> TensorType:
        require(delta != 0, "a range goes on by 0")
        return TensorType(as_dtype(dtype), (range_length(start, limit, delta),))

    def eval(self, *, start: Size, limit: Size, delta: Size, dtype: Any) -> Any:
        return np.arange(static(start), static(limit), static(delta)).astype(str(dtype))

    def index(self, k: Any, i: tuple[Size, ...], *, start: Size, limit: Size, delta: Size, dtype: Any) -> Any:
        return k.position(start + i[0] * delta, dtype)


def range_length(start: Size, limit: Size, delta: Size) -> Size:
    """How many numbers a range has; NeedsStatic where there are none, for sizes as they were fed."""
    forward = isinstance(delta, Dim) or delta > 0
    count = ceildiv(limit - start, delta) if forward else ceildiv(start - limit, -delta)
    if isinstance(count, int):
        return max(count, 0)
    if has_hint(count) and fed(count) < 0:
        raise NeedsStatic(count)
    return count


def _text(shape: Shape) -> str:
    return ", ".join(map(str, shape))


broadcast_to, reshape, transpose, strided_slice = BroadcastTo(), Reshape(), Transpose(), StridedSlice()
reverse, pad, concat, iota, blocks, repeat = Reverse(), Pad(), Concat(), Iota(), Blocks(), Repeat()
range_op = Range()


# what is made of them


def expand_dims_node(x: Node, *, axis: int) -> Node:
    """x with a new axis of size 1 at `axis`."""
    at = normalize_axis(axis, x.ndim + 1)
    return reshape(x, shape=(*x.shape[:at], 1, *x.shape[at:]))  # type: ignore[no-any-return]


def squeeze_node(x: Node, *, axes: tuple[int, ...] = ()) -> Node:
    """x without the given axes of size 1, or without all of them (so that every size must be known)."""
    drop = {normalize_axis(a, x.ndim) for a in axes} or {a for a, s in enumerate(x.shape) if static(s) == 1}
    for a in drop:
        require(same_size(x.shape[a], 1) is not None, f"axis {a} of {x.type} has size {x.shape[a]}, not 1")
    return reshape(x, shape=tuple(s for a, s in enumerate(x.shape) if a not in drop))  # type: ignore[no-any-return]


def stack_node(*xs: Node, axis: int = 0) -> Node:
    """The inputs side by side along a new axis."""
    return concat(*(expand_dims_node(x, axis=axis) for x in xs), axis=normalize_axis(axis, xs[0].ndim + 1))  # type: ignore[no-any-return]


def slice_axis(x: Node, axis: int, begin: Size, size: Size) -> Node:
    """`size` elements from `begin` on along one axis."""
    begins = tuple(begin if a == axis else 0 for a in range(x.ndim))
    shape = tuple(size if a == axis else s for a, s in enumerate(x.shape))
    return strided_slice(x, begin=begins, stride=(1,) * x.ndim, shape=shape)  # type: ignore[no-any-return]


def split_node(x: Node, *, axis: int, sizes: tuple[int, ...]) -> tuple[Node, ...]:
    """Pieces of the given sizes along an axis."""
    at = normalize_axis(axis, x.ndim)
    require(
        same_size(x.shape[at], sum(sizes)) is not None, f"axis {axis} of {x.type} does not split into {list(sizes)}"
    )
    starts = np.cumsum([0, *sizes])
    return tuple(slice_axis(x, at, int(b), s) for b, s in zip(starts, sizes, strict=False))


def unstack_node(x: Node, *, axis: int = 0) -> tuple[Node, ...]:
    """The slices of x along an axis, without it."""
    at = normalize_axis(axis, x.ndim)
    return tuple(squeeze_node(slice_axis(x, at, n, 1), axes=(at,)) for n in range(static(x.shape[at])))


def tile_node(x: Node, *, multiples: Shape) -> Node:
    """x repeated `multiples[a]` times along each axis a."""
    require(len(multiples) == x.ndim, f"{len(multiples)} multiples for {x.ndim} axes")
    require(all(not isinstance(m, int) or m >= 0 for m in multiples), f"multiples {list(multiples)} are negative")
    apart = reshape(x, shape=tuple(n for s in x.shape for n in (1, s)))
    wide = broadcast_to(apart, shape=tuple(n for m, s in zip(multiples, x.shape, strict=True) for n in (m, s)))
    return reshape(wide, shape=tuple(m * s for m, s in zip(multiples, x.shape, strict=True)))  # type: ignore[no-any-return]


def one_hot_node(x: Node, on: Node, off: Node, *, depth: int, axis: int = -1) -> Node:
    """`on` where the position along the new axis is x, else `off`."""
    x = cast(x, dtype=int32) if x.dtype.size < int32.size else x  # in which positions may not fit
    at = normalize_axis(axis, x.ndim + 1)
    shape = (*x.shape[:at], depth, *x.shape[at:])
    return select(equal(iota.node(shape=shape, axis=at, dtype=x.dtype), expand_dims_node(x, axis=at)), on, off)  # type: ignore[no-any-return]


expand_dims = composite(
    "ExpandDims",
    doc=expand_dims_node.__doc__ or "",
    expand=expand_dims_node,
    eval=lambda x, *, axis: np.expand_dims(x, axis),
    cases=[case(normal(2, 3), axis=1), case(normal(2, 3), axis=-1)],
)
squeeze = composite(
    "Squeeze",
    doc=squeeze_node.__doc__ or "",
    expand=squeeze_node,
    eval=lambda x, *, axes=(): np.squeeze(x, axes or None),
    cases=[case(normal(1, 3, 1), axes=(0,)), case(normal(1, 3, 1))],
)
stack = composite(
    "Pack",
    doc=stack_node.__doc__ or "",
    expand=stack_node,
    eval=lambda *xs, axis=0: np.stack(xs, axis),
    cases=[case(normal(2, 3), normal(2, 3, seed=1), axis=1), case(normal(3), normal(3, seed=1))],
)
split = composite(
    "Split",
    doc=split_node.__doc__ or "",
    expand=split_node,
    eval=lambda x, *, axis, sizes: tuple(np.split(x, np.cumsum(sizes)[:-1], axis)),
    cases=[case(normal(2, 6), axis=1, sizes=(1, 3, 2))],
)
unstack = composite(
    "Unpack",
    doc=unstack_node.__doc__ or "",
    expand=unstack_node,
    eval=lambda x, *, axis=0: tuple(np.moveaxis(x, axis, 0)),
    cases=[case(normal(3, 2), axis=1)],
)
tile = composite(
    "Tile",
    doc=tile_node.__doc__ or "",
    expand=tile_node,
    eval=lambda x, *, multiples: np.tile(x, multiples),
    cases=[case(normal(2, 3), multiples=(2, 3))],
)
one_hot = composite(
    "OneHot",
    doc=one_hot_node.__doc__ or "",
    expand=one_hot_node,
    eval=lambda x, on, off, *, depth, axis=-1: _one_hot_eval(x, on, off, depth, axis),
    cases=[
        case(integers(0, 4, 5), np.float64(1), np.float64(0), depth=4),
        case(np.array([0, 44, 255], np.uint8), np.float64(1), np.float64(0), depth=300, axis=0),
    ],
)


def _one_hot_eval(x: Any, on: Any, off: Any, depth: int, axis: int) -> Any:
    at = axis % (x.ndim + 1)
    column = np.arange(depth).reshape([-1 if a == at else 1 for a in range(x.ndim + 1)])
    return np.where(np.expand_dims(x, at) == column, on, off)


def slice_bounds(size: Size, start: int | None, stop: int | None, step: int) -> tuple[Size, Size]:
    """begin and count of Python's slice over an axis.

    A size that a run left open is granted to hold as many elements as the bounds ask for, unless it was fed as one that
    does not; NeedsStatic where nothing was fed yet, and a small size would hold fewer.
    """
    if isinstance(size, int):
        positions = range(*slice(start, stop, step).indices(size))
        return (positions.start if len(positions) else 0), len(positions)
    begin: Size = 0 if start is None else start if start >= 0 else size + start
    end: Size = size if stop is None else stop if stop >= 0 else size + stop
    if step < 0 or (isinstance(end, int) and end > 0):
        return slice_bounds(static(size), start, stop, step)
    count = ceildiv(end - begin, step)
    if isinstance(count, int) and count <= 0:
        return 0, 0
    if not has_hint(size):
        return (begin, count) if begin == 0 and end == size else slice_bounds(static(size), start, stop, step)
    if fed(count) != slice_bounds(fed(size), start, stop, step)[1]:
        raise NeedsStatic(size)
    return begin, count


def getitem_node(x: Node, *, key: tuple[Any, ...]) -> Node:
    """x[key] with integers, (start, stop, step) triples, None for a new axis and ... for all that is not named."""
    named = sum(1 for part in key if part is not None and part is not Ellipsis)
    require(named <= x.ndim, f"{named} indices for {x.ndim} axes")
    if Ellipsis not in key:
        key = (*key, Ellipsis)
    at = key.index(Ellipsis)
    key = (*key[:at], *((None, None, None) for _ in range(x.ndim - named)), *key[at + 1 :])
    begin: list[Size] = []
    stride: list[int] = []
    sizes: list[Size] = []
    shape: list[Size] = []
    first: Size
    count: Size
    axes = iter(x.shape)
    for part in key:
        if part is None:
            shape.append(1)
            continue
        size = next(axes)
        if isinstance(part, int):
            require(
                not isinstance(size, int) or -size <= part < size,
                f"index {part} is out of range for an axis of size {size}",
            )
            first, count, step = (part if part >= 0 else size + part), 1, 1
        else:
            step = part[2] or 1
            first, count = slice_bounds(size, part[0], part[1], step)
            shape.append(count)
        begin.append(first)
        stride.append(step)
        sizes.append(count)
    piece = strided_slice(x, begin=tuple(begin), stride=tuple(stride), shape=tuple(sizes))
    return reshape(piece, shape=tuple(shape))  # type: ignore[no-any-return]


def _getitem_eval(x: Any, *, key: tuple[Any, ...]) -> Any:
    return x[tuple(slice(*part) if isinstance(part, tuple) else part for part in key)]


getitem = composite(
    "GetItem",
    doc=getitem_node.__doc__ or "",
    expand=getitem_node,
    eval=_getitem_eval,
    cases=[
        case(normal(4, 5, 6), key=(1, (None, None, 2), (4, 0, -1))),
        case(normal(4, 5), key=(Ellipsis, None, -2)),
        case(normal(4, 5), key=((1, -1, None),)),
    ],
)


def _getitem_operator(x: Any, key: Any) -> Any:
    parts = key if isinstance(key, tuple) else (key,)
    return getitem(x, key=tuple((p.start, p.stop, p.step) if isinstance(p, slice) else p for p in parts))


OPERATORS["getitem"] = _getitem_operator


def zeros_node(type_: TensorType) -> Node:
    """Zeros of a type."""
    return broadcast_to(constant(0, type_.dtype), shape=type_.dims) if type_.dims else constant(0, type_.dtype)
