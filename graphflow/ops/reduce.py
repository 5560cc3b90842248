"""Reductions over axes: sum, product, max, min, any, all, mean, argmax, argmin, logsumexp.

The primitives drop the axes that they reduce (attr axes: increasing positions).  The user's operations (`Sum`, `Mean`,
...) take TensorFlow's `axis` (None: all axes) and `keepdims` and are made of them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from graphflow.core.dim import Size, product
from graphflow.core.dtype import DType, as_dtype, int64
from graphflow.core.node import Node, make_node
from graphflow.core.op import Composite, Op, broadcast_node, case, composite
from graphflow.core.samples import bits, integers, normal, positive, spaced
from graphflow.core.type import TensorType, require
from graphflow.ops.elementwise import (
    cast,
    equal,
    exp,
    floordiv,
    is_finite,
    log,
    select,
    stop_gradient,
    truediv,
    truncatemod,
)
from graphflow.ops.leaf import constant
from graphflow.ops.view import normalize_axis, reshape

Axes = tuple[int, ...]


class Reduce(Op):
    """A reduction with an associative function.  attr axes: increasing positions, dropped from the shape."""

    form = "reduction"
    kind = ""
    accepts: Callable[[DType], bool] = staticmethod(lambda d: not d.is_bool)
    reference: Callable[..., Any] = staticmethod(np.sum)

    def rereads(self, x: TensorType, y: TensorType, **attrs: Any) -> bool:
        return False

    def infer(self, x: TensorType, *, axes: Axes) -> TensorType:
        require(self.accepts(x.dtype), f"{x.dtype} can't be reduced by {self.kind}")
        require(list(axes) == sorted(set(axes)) and all(0 <= a < x.ndim for a in axes), f"axes {list(axes)} of {x}")
        return x.with_shape(tuple(s for a, s in enumerate(x.dims) if a not in axes))

    def eval(self, x: Any, *, axes: Axes) -> Any:
        return np.asarray(type(self).reference(x, axis=axes), dtype=x.dtype)

    def index(self, k: Any, i: tuple[Size, ...], x: Any, *, axes: Axes) -> Any:
        def body(r: tuple[Size, ...]) -> Any:
            kept, reduced = iter(i), iter(r)
            return x[tuple(next(reduced) if a in axes else next(kept) for a in range(len(x.shape)))]

        return k.reduce(self.kind, tuple(x.shape[a] for a in axes), body)

    def node(self, *args: Any, **attrs: Any) -> Node:
        """Nothing where no axis is reduced."""
        return args[0] if not attrs["axes"] else super().node(*args, **attrs)


def spread_back(x: Node, like: Node, axes: Axes) -> Node:
    """The reduced x again in the shape of `like`, by repeating it along the reduced axes."""
    kept = reshape(x, shape=tuple(1 if a in axes else s for a, s in enumerate(like.shape)))
    return broadcast_node(kept, like.shape)


class ReduceSum(Reduce):
    """Sum over axes."""

    kind = "sum"
    cases = (
        case(normal(2, 3, 4), axes=(1,)),
        case(normal(2, 3, 4), axes=(0, 2)),
        case(integers(-9, 9, 5, 3), axes=(0, 1)),
        case(normal(3, 0), axes=(1,)),
    )

    def grad(self, g: Node, y: Node, x: Node, *, axes: Axes) -> Any:
        return spread_back(g, x, axes)


class ReduceProd(Reduce):
    """Product over axes."""

    kind = "prod"
    reference = staticmethod(np.prod)
    cases = (case(positive(2, 3, 4), axes=(1,)), case(np.array([[0.0, 2, 3], [1, 2, 3], [0, 0, 2]]), axes=(1,)))

    def grad(self, g: Node, y: Node, x: Node, *, axes: Axes) -> Any:
        """The product of the others, without division by zero.

        Where x holds zeros, let p be the product of all else and z the sum of the zeros (0, but with a derivative):
        for one zero the others' product is p at it and z p / x elsewhere; for two it is (z - x) p at them; else 0.
        """
        zero = equal(x, 0)
        others = select(zero, 1, x)

        def along(v: Node) -> Node:
            return spread_back(v, x, axes)

        count = along(reduce_sum(cast(zero, dtype=x.dtype), axes=axes))
        p = along(reduce_prod(others, axes=axes))
        z = along(reduce_sum(select(zero, x, 0), axes=axes))
        one = select(zero, p, z * p / others)
        two = select(zero, (z - x) * p, 0)
        return along(g) * select(
            equal(count, 0), p / others, select(equal(count, 1), one, select(equal(count, 2), two, 0))
        )


def _extreme_grad(g: Node, y: Node, x: Node, axes: Axes) -> Node:
    """Shared equally among the elements that attain the extreme, as TensorFlow does."""
    attained = cast(equal(x, spread_back(y, x, axes)), dtype=x.dtype)
    return attained * spread_back(g / reduce_sum(attained, axes=axes), x, axes)  # type: ignore[no-any-return]


class ReduceMax(Reduce):
    """Largest over axes; NaN if there is one."""

    kind = "max"
    reference = staticmethod(lambda x, axis: np.max(x, axis=axis, initial=_lowest(x.dtype)))
    cases = (
        case(spaced(2, 3, 4), axes=(1,)),
        case(spaced(2, 3, 4), axes=(0, 1, 2)),
        case(integers(-9, 9, 5), axes=(0,)),
    )

    def grad(self, g: Node, y: Node, x: Node, *, axes: Axes) -> Any:
        return _extreme_grad(g, y, x, axes)


class ReduceMin(Reduce):
    """Smallest over axes; NaN if there is one."""

    kind = "min"
    reference = staticmethod(lambda x, axis: np.min(x, axis=axis, initial=_highest(x.dtype)))
    cases = (case(spaced(2, 3, 4), axes=(2,)), case(integers(-9, 9, 5), axes=(0,)))

    def grad(self, g: Node, y: Node, x: Node, *, axes: Axes) -> Any:
        return _extreme_grad(g, y, x, axes)


def _lowest(dtype: Any) -> Any:
    return -np.inf if dtype.kind == "f" else np.iinfo(dtype).min


def _highest(dtype: Any) -> Any:
    return np.inf if dtype.kind == "f" else np.iinfo(dtype).max


class ReduceAny(Reduce):
    """Whether one is true."""

    kind = "any"
    accepts = staticmethod(lambda d: d.is_bool)
    reference = staticmethod(np.any)
    differentiable = False
    cases = (case(bits(3, 4), axes=(1,)),)


class ReduceAll(Reduce):
    """Whether all are true."""

    kind = "all"
    accepts = staticmethod(lambda d: d.is_bool)
    reference = staticmethod(np.all)
    differentiable = False
    cases = (case(bits(3, 4), axes=(1,)),)


class ArgReduce(Op):
    """Where the extreme along the axes is: the first one's row-major position in them.  attrs axes, dtype."""

    form = "reduction"
    kind = ""
    differentiable = False

    def rereads(self, x: TensorType, y: TensorType, **attrs: Any) -> bool:
        return False

    def infer(self, x: TensorType, *, axes: Axes, dtype: DType) -> TensorType:
        require(not x.dtype.is_bool, "bool has no order")
        require(all(0 <= a < x.ndim for a in axes), f"axes {list(axes)} of {x}")
        require(all(x.dims[a] != 0 for a in axes), f"there is no {self.kind} of no elements ({x})")
        return TensorType(dtype, tuple(s for a, s in enumerate(x.dims) if a not in axes))

    def infer_unknown(self, x: TensorType, *, axes: Axes, dtype: DType) -> TensorType:
        return TensorType(dtype, None)

    def eval(self, x: Any, *, axes: Axes, dtype: DType) -> Any:
        kept = [a for a in range(x.ndim) if a not in axes]
        count = int(np.prod([x.shape[a] for a in axes]))
        rows = np.transpose(x, [*kept, *axes]).reshape([*(x.shape[a] for a in kept), count])
        return np.asarray((np.argmax if self.kind == "argmax" else np.argmin)(rows, axis=-1)).astype(dtype.numpy)

    def index(self, k: Any, i: tuple[Size, ...], x: Any, *, axes: Axes, dtype: DType) -> Any:
        def body(r: tuple[Size, ...]) -> Any:
            kept, reduced = iter(i), iter(r)
            return x[tuple(next(reduced) if a in axes else next(kept) for a in range(len(x.shape)))]

        return k.reduce(self.kind, tuple(x.shape[a] for a in axes), body, dtype)


class ReduceArgMax(ArgReduce):
    """Where the largest is; the first NaN counts as largest."""

    kind = "argmax"
    cases = (
        case(spaced(3, 5), axes=(1,), dtype=as_dtype("int64")),
        case(integers(0, 3, 4, 6), axes=(0,), dtype=as_dtype("int32")),
    )


class ReduceArgMin(ArgReduce):
    """Where the smallest is; the first NaN counts as smallest."""

    kind = "argmin"
    cases = (case(spaced(3, 5), axes=(0,), dtype=as_dtype("int64")),)


reduce_sum, reduce_prod, reduce_max, reduce_min = ReduceSum(), ReduceProd(), ReduceMax(), ReduceMin()
reduce_any, reduce_all, reduce_argmax, reduce_argmin = ReduceAny(), ReduceAll(), ReduceArgMax(), ReduceArgMin()


class SizeOf(Op):
    """A size as a number.  attrs size, dtype."""

    cases = (case(size=7, dtype=as_dtype("float32")),)

    def infer(self, *, size: Size, dtype: DType) -> TensorType:
        return TensorType(dtype, ())

    def eval(self, *, size: Size, dtype: DType) -> Any:
        return np.asarray(size, dtype.numpy)

    def index(self, k: Any, i: tuple[Size, ...], *, size: Size, dtype: DType) -> Any:
        return k.position(size, dtype)


size_of_op = SizeOf()


def size_of(size: Size, dtype: DType) -> Node:
    """A size as a scalar node; a constant where it is known."""
    return constant(size, dtype) if isinstance(size, int) else make_node(size_of_op, (), {"size": size, "dtype": dtype})


# the user's operations

Axis = "int | tuple[int, ...] | None"


def axes_of(axis: Any, rank: int) -> Axes:
    """TensorFlow's `axis` argument as increasing positions; None means all."""
    if axis is None:
        return tuple(range(rank))
    named = axis if isinstance(axis, tuple | list) else (axis,)
    return tuple(sorted({normalize_axis(int(a), rank) for a in named}))


def _keep(x: Node, result: Node, axes: Axes, keepdims: bool) -> Node:
    return reshape(result, shape=tuple(1 if a in axes else s for a, s in enumerate(x.shape))) if keepdims else result


def _user_reduce(name: str, primitive: Op, reference: Callable[..., Any], sample: Any) -> Composite:
    def expand(x: Node, *, axis: Any = None, keepdims: bool = False) -> Node:
        axes = axes_of(axis, x.ndim)
        return _keep(x, primitive(x, axes=axes), axes, keepdims)

    def eval_(x: Any, *, axis: Any = None, keepdims: bool = False) -> Any:
        return reference(x, axis=axis, keepdims=keepdims)

    cases = [case(sample), case(sample, axis=-1, keepdims=True), case(sample, axis=(0, 1))]
    return composite(name, doc=primitive.doc, expand=expand, eval=eval_, cases=cases)


sum_ = _user_reduce("Sum", reduce_sum, np.sum, normal(3, 4))
prod = _user_reduce("Prod", reduce_prod, np.prod, positive(3, 4))
max_ = _user_reduce("Max", reduce_max, np.max, spaced(3, 4))
min_ = _user_reduce("Min", reduce_min, np.min, spaced(3, 4))
any_ = _user_reduce("Any", reduce_any, np.any, bits(3, 4))
all_ = _user_reduce("All", reduce_all, np.all, bits(3, 4))


def mean_node(x: Node, *, axis: Any = None, keepdims: bool = False) -> Node:
    """Arithmetic mean over axes; integers are divided rounding toward zero, those of less than 32 bits as int64."""
    if x.dtype.is_integer and x.dtype.size < 4:
        return cast(mean_node(cast(x, dtype=int64), axis=axis, keepdims=keepdims), dtype=x.dtype)  # type: ignore[no-any-return]
    axes = axes_of(axis, x.ndim)
    total = _keep(x, reduce_sum(x, axes=axes), axes, keepdims)
    count = size_of(product(tuple(x.shape[a] for a in axes)), x.dtype)
    if x.dtype.is_floating:
        return truediv(total, count)  # type: ignore[no-any-return]
    return floordiv(total - truncatemod(total, count), count)  # type: ignore[no-any-return]


def _mean_eval(x: Any, *, axis: Any = None, keepdims: bool = False) -> Any:
    if x.dtype.kind == "f":
        return np.mean(x, axis=axis, keepdims=keepdims)
    total = np.sum(x, axis=axis, keepdims=keepdims, dtype=x.dtype if x.dtype.itemsize >= 4 else np.int64)
    count = np.asarray(x.size // max(total.size, 1)).astype(total.dtype)
    return ((total - np.fmod(total, count)) // count if count else np.zeros_like(total)).astype(x.dtype)


def logsumexp_node(x: Node, *, axis: Any = None, keepdims: bool = False) -> Node:
    """log(sum(exp(x))) over axes, shifted by the maximum so that nothing overflows; -inf of nothing but -inf."""
    axes = axes_of(axis, x.ndim)
    top = stop_gradient(reduce_max(x, axes=axes))
    shift = select(is_finite(top), top, 0)
    total = log(reduce_sum(exp(x - spread_back(shift, x, axes)), axes=axes)) + shift
    return _keep(x, total, axes, keepdims)


def _logsumexp_eval(x: Any, *, axis: Any = None, keepdims: bool = False) -> Any:
    axes = axes_of(axis, x.ndim)
    options: dict[str, Any] = {"axis": axes, "keepdims": keepdims}
    return np.logaddexp.reduce(x, **options) if axes else x


mean = composite(
    "Mean",
    doc=mean_node.__doc__ or "",
    expand=mean_node,
    eval=_mean_eval,
    cases=[
        case(normal(3, 4)),
        case(normal(3, 4), axis=-1, keepdims=True),
        case(integers(-9, 9, 5, 3), axis=1),
        case(np.arange(300).astype(np.int8), axis=0),
    ],
)
logsumexp = composite(
    "LogSumExp",
    doc=logsumexp_node.__doc__ or "",
    expand=logsumexp_node,
    eval=_logsumexp_eval,
    cases=[case(normal(3, 4)), case(normal(3, 4), axis=1, keepdims=True)],
)


def _arg(name: str, primitive: Op, reference: Callable[..., Any]) -> Composite:
    def expand(x: Node, *, axis: int = 0, dtype: DType = int64) -> Node:
        return primitive(x, axes=(normalize_axis(axis, x.ndim),), dtype=dtype)  # type: ignore[no-any-return]

    return composite(
        name,
        doc=primitive.doc,
        expand=expand,
        eval=lambda x, *, axis=0, dtype=int64: reference(x, axis).astype(dtype.numpy),
        cases=[case(spaced(3, 5), axis=1), case(spaced(3, 5))],
    )


argmax = _arg("ArgMax", reduce_argmax, np.argmax)
argmin = _arg("ArgMin", reduce_argmin, np.argmin)
l2_loss = composite(
    "L2Loss",
    doc="sum(x²) / 2.",
    expand=lambda x: reduce_sum(x * x, axes=tuple(range(x.ndim))) * 0.5,
    eval=lambda x: np.sum(x * x) / 2,
    cases=[case(normal(3, 4))],
)
