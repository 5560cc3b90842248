"""Functions that rearrange tensors, cut and join them, under TensorFlow 1's names and parameter names.

Shapes may hold what is known while declaring: ints, `x.shape[0]`, and anything computed from `tf.shape`.
"""

from __future__ import annotations

from typing import Any, NoReturn

import numpy as np

from graphflow.core.dim import Size
from graphflow.core.dtype import as_dtype, bool_, float32, int32
from graphflow.core.errors import GraphError
from graphflow.core.op import OPS
from graphflow.core.type import broadcast_shapes
from graphflow.framework.convert import as_array, as_tensor, is_tensor
from graphflow.framework.default import get_default_graph
from graphflow.framework.scopes import name_scope
from graphflow.framework.shape import TensorShape, as_shape
from graphflow.framework.shaped import shaped
from graphflow.framework.sizes import int_of, ints_of, position_of, sizes_of, symbolic_value
from graphflow.framework.tensor import Tensor

__all__ = [
    "broadcast_dynamic_shape", "broadcast_static_shape", "broadcast_to", "concat", "expand_dims", "identity", "newaxis",
    "one_hot", "pad", "rank", "reshape", "reverse", "reverse_v2", "shape", "size", "slice", "split", "squeeze", "stack",
    "stop_gradient", "strided_slice", "tile", "transpose", "unstack", "where",
]  # fmt: skip
newaxis = None
_slice = slice

# about shapes


def shape(input: Any, name: str | None = None, out_type: Any = int32) -> Tensor:  # noqa: A002  (TensorFlow's name)
    """The sizes of a tensor in a run: [rank]."""
    return OPS["Shape"](as_tensor(input), dtype=as_dtype(out_type), name=name or "Shape")  # type: ignore[no-any-return]


def size(input: Any, name: str | None = None, out_type: Any = int32) -> Tensor:  # noqa: A002  (TensorFlow's name)
    """The number of elements in a run."""
    return OPS["Size"](as_tensor(input), dtype=as_dtype(out_type), name=name or "Size")  # type: ignore[no-any-return]


def rank(input: Any, name: str | None = None) -> Tensor:  # noqa: A002  (TensorFlow's name)
    """The number of axes."""
    return OPS["Rank"](as_tensor(input), name=name or "Rank")  # type: ignore[no-any-return]


def broadcast_static_shape(shape_x: TensorShape, shape_y: TensorShape) -> TensorShape:
    """The shape to which both broadcast."""
    graph = get_default_graph()
    x, y = (graph.fresh_sizes("?", as_shape(s).sizes or ()) for s in (shape_x, shape_y))
    return TensorShape(broadcast_shapes(x, y))


def broadcast_dynamic_shape(shape_x: Any, shape_y: Any) -> Tensor:
    """The shape to which tensors of two shapes broadcast."""
    known = (TensorShape(sizes_of(s)) for s in (shape_x, shape_y))
    return as_tensor(broadcast_static_shape(*known))


def reshape(tensor: Any, shape: Any, name: str | None = None) -> Tensor:
    """The same elements in row-major order under another shape; one size may be -1: what is left."""
    return shaped("Reshape", as_tensor(tensor), shape, name or "Reshape")


def broadcast_to(input: Any, shape: Any, name: str | None = None) -> Tensor:  # noqa: A002  (TensorFlow's name)
    """A tensor repeated along new leading axes and along axes of size 1."""
    return shaped("BroadcastTo", as_tensor(input), shape, name or "BroadcastTo")


def expand_dims(input: Any, axis: Any = None, name: str | None = None, dim: Any = None) -> Tensor:  # noqa: A002
    """A tensor with a new axis of size 1 at `axis`."""
    at = int_of(axis if axis is not None else dim, "the axis")
    return OPS["ExpandDims"](as_tensor(input), axis=at, name=name or "ExpandDims")  # type: ignore[no-any-return]


def squeeze(input: Any, axis: Any = None, name: str | None = None, squeeze_dims: Any = None) -> Tensor:  # noqa: A002
    """A tensor without the given axes of size 1, or without all of them."""
    axis = axis if axis is not None else squeeze_dims
    axes = () if axis is None else ints_of(axis, "the axis")
    return OPS["Squeeze"](as_tensor(input), axes=axes, name=name or "Squeeze")  # type: ignore[no-any-return]


def transpose(a: Any, perm: Any = None, name: str = "transpose", conjugate: bool = False) -> Tensor:
    """Axis k of the result is axis perm[k] of a; the axes in reverse without perm."""
    a = as_tensor(a)
    if perm is None:
        perm = range(a.shape.ndims)[::-1] if a.shape.ndims is not None else _rank_needed(a, "transpose")
    return OPS["Transpose"](a, perm=tuple(ints_of(list(perm) if not is_tensor(perm) else perm, "perm")), name=name)  # type: ignore[no-any-return]


def _rank_needed(x: Tensor, what: str) -> NoReturn:
    raise GraphError(f"{what}: the rank of '{x.name}' (declared at {x.op.source}) must be known; x.set_shape says it")


# parts and joins


def concat(values: Any, axis: Any = None, name: str = "concat", concat_dim: Any = None) -> Tensor:
    """Tensors one after another along an axis."""
    axis = axis if axis is not None else concat_dim
    if isinstance(values, int | np.integer) and isinstance(axis, list | tuple):
        raise TypeError("tf.concat(values, axis): the list of tensors comes first, then the axis")
    tensors = _alike(values if isinstance(values, list | tuple) else [values])
    at = int_of(axis, "the axis of concat")
    return identity(tensors[0], name) if len(tensors) == 1 else OPS["Concat"](*tensors, axis=at, name=name)


def _alike(values: Any) -> list[Tensor]:
    """All as tensors; numbers take the dtype of the first tensor."""
    if not len(values):
        raise ValueError("at least one tensor is needed")
    dtype = next((v.dtype for v in values if is_tensor(v)), None)
    return [as_tensor(v) if is_tensor(v) else as_tensor(v, dtype) for v in values]


def stack(values: Any, axis: int = 0, name: str = "stack") -> Tensor:
    """Tensors of one shape side by side along a new axis."""
    values = list(values) if not is_tensor(values) else unstack(values)
    return OPS["Pack"](*_alike(values), axis=int_of(axis, "the axis"), name=name)  # type: ignore[no-any-return]


def unstack(value: Any, num: int | None = None, axis: int = 0, name: str = "unstack") -> list[Tensor]:
    """The slices of a tensor along an axis of known size, without that axis."""
    value = as_tensor(value)
    if not value.shape:
        _rank_needed(value, "unstack")
    at = position_of(axis, value)
    found = value.shape[at].value
    if found is None and num is not None:
        value = identity(value)
        value.set_shape([num if k == at else None for k in range(len(value.shape))])
    elif found is None or (num is not None and num != found):
        reason = "give num" if found is None else f"num is {num}, the axis has size {found}"
        raise GraphError(f"Cannot infer num from shape {value.shape} of '{value.name}': {reason}")
    return OPS["Unpack"](value, axis=at, name=name)  # type: ignore[no-any-return]


def split(
    value: Any = None,
    num_or_size_splits: Any = None,
    axis: Any = 0,
    num: int | None = None,
    name: str = "split",
) -> list[Tensor]:
    """A tensor cut along an axis of known size, into so many equal pieces or into the given sizes (-1: the rest)."""
    value = as_tensor(value)
    if not value.shape:
        _rank_needed(value, "split")
    at = position_of(axis, value)
    total = value.shape[at].value
    if isinstance(num_or_size_splits, int | np.integer):
        sizes = _equal_pieces(value, total, int(num_or_size_splits), at)
    else:
        sizes = list(ints_of(num_or_size_splits, "the sizes of split"))
        if -1 in sizes and total is not None:
            sizes[sizes.index(-1)] = total - sum(sizes) - 1
    return OPS["Split"](value, axis=at, sizes=tuple(sizes), name=name)  # type: ignore[no-any-return]


def _equal_pieces(value: Tensor, total: int | None, count: int, axis: int) -> list[int]:
    if total is None:
        raise GraphError(f"split: the size of axis {axis} of '{value.name}' {value.shape} must be known")
    if count < 1 or total % count:
        raise GraphError(
            f"split: axis {axis} of '{value.name}' has size {total}, which does not split into {count} equal pieces"
        )
    return [total // count] * count


def slice(input_: Any, begin: Any, size: Any, name: str = "Slice") -> Tensor:  # noqa: A001  (TensorFlow's name)
    """`size` elements from `begin` on along each axis; the size -1 means all that are left."""
    x = as_tensor(input_)
    begins, sizes = sizes_of(begin, "begin"), sizes_of(size, "size")
    dims = x.type_.dims
    if not len(begins) == len(sizes) == len(dims):
        raise GraphError(f"slice: begin has {len(begins)} entries, size {len(sizes)}, and '{x.name}' is {x.type_}")
    wanted = tuple(d - b if s == -1 else s for b, s, d in zip(begins, sizes, dims, strict=True))
    return OPS["StridedSlice"](x, begin=begins, stride=(1,) * len(dims), shape=wanted, name=name)  # type: ignore[no-any-return]


def strided_slice(
    input_: Any,
    begin: Any,
    end: Any,
    strides: Any = None,
    begin_mask: int = 0,
    end_mask: int = 0,
    ellipsis_mask: int = 0,
    new_axis_mask: int = 0,
    shrink_axis_mask: int = 0,
    var: Any = None,
    name: str | None = None,
) -> Tensor:
    """input_[begin:end:strides]; bit k of a mask says: bound k is open, or part k is `...`, a new axis, an index."""
    begins, ends = ints_of(begin, "begin"), ints_of(end, "end")
    steps = (1,) * len(begins) if strides is None else ints_of(strides, "strides")
    key: list[Any] = []
    for k, (first, last, step) in enumerate(zip(begins, ends, steps, strict=True)):
        bit = 1 << k
        if ellipsis_mask & bit or new_axis_mask & bit:
            key.append(Ellipsis if ellipsis_mask & bit else None)
        elif shrink_axis_mask & bit:
            key.append(first)
        else:
            key.append(_slice(None if begin_mask & bit else first, None if end_mask & bit else last, step))
    with name_scope(name, "strided_slice"):
        return as_tensor(input_)[tuple(key)]  # type: ignore[no-any-return]


def tile(input: Any, multiples: Any, name: str | None = None) -> Tensor:  # noqa: A002  (TensorFlow's name)
    """A tensor repeated multiples[k] times along each axis k."""
    return OPS["Tile"](as_tensor(input), multiples=sizes_of(multiples, "multiples"), name=name or "Tile")  # type: ignore[no-any-return]


def pad(
    tensor: Any, paddings: Any, mode: str = "CONSTANT", name: str | None = None, constant_values: Any = 0
) -> Tensor:
    """A tensor with `constant_values` around it: paddings[k] is (before, after) for axis k."""
    if str(mode).upper() != "CONSTANT":
        raise NotImplementedError(f"pad: the mode {mode!r} is not there yet; there is 'CONSTANT'")
    x = as_tensor(tensor)
    pairs = _pairs(paddings)
    low, high = tuple(p[0] for p in pairs), tuple(p[1] for p in pairs)
    value = as_array(constant_values, x.dtype).item()
    return OPS["Pad"](x, low=low, high=high, interior=(0,) * len(low), value=value, name=name or "Pad")  # type: ignore[no-any-return]


def _pairs(paddings: Any) -> list[tuple[Size, ...]]:
    if is_tensor(paddings):
        known = symbolic_value(as_tensor(paddings))
        paddings = known if known is not None else sizes_of(paddings, "paddings")
    pairs = [sizes_of(list(p), "paddings") for p in paddings]
    if any(len(p) != 2 for p in pairs):
        raise GraphError(f"pad: paddings must be pairs (before, after), not {paddings!r}")
    return pairs


def reverse(tensor: Any, axis: Any, name: str | None = None) -> Tensor:
    """A tensor backwards along axes."""
    x = as_tensor(tensor)
    axes = tuple(sorted(position_of(a, x) for a in ints_of(axis, "the axis")))
    return OPS["Reverse"](x, axes=axes, name=name or "ReverseV2")  # type: ignore[no-any-return]


reverse_v2 = reverse


def one_hot(
    indices: Any,
    depth: Any,
    on_value: Any = None,
    off_value: Any = None,
    axis: int | None = None,
    dtype: Any = None,
    name: str | None = None,
) -> Tensor:
    """`on_value` (1) at the position that each index names along a new axis of size `depth`, else `off_value` (0)."""
    values = [v for v in (on_value, off_value) if v is not None]
    found = next((v.dtype for v in values if is_tensor(v)), None)
    plain = as_dtype(as_array(values[0]).dtype) if values and found is None else float32
    wanted = as_dtype(dtype) if dtype is not None else found or plain
    with name_scope(name, "one_hot", [indices]) as scope:
        on = as_tensor(wanted.numpy.type(1) if on_value is None else on_value, wanted)
        off = as_tensor(wanted.numpy.type(0) if off_value is None else off_value, wanted)
        at = -1 if axis is None else int_of(axis, "the axis")
        return OPS["OneHot"](as_tensor(indices), on, off, depth=int_of(depth, "the depth"), axis=at, name=scope)  # type: ignore[no-any-return]


def where(condition: Any, x: Any = None, y: Any = None, name: str | None = None) -> Tensor:
    """x where the condition holds, else y.  A vector as condition chooses among the rows of x and y."""
    if x is None or y is None:
        raise NotImplementedError(
            "tf.where(condition) without x and y (the coordinates of what is true) is not there yet"
        )
    chosen = as_tensor(condition, None if is_tensor(condition) else bool_)
    ranks = [as_array(v).ndim if not is_tensor(v) else v.shape.ndims for v in (x, y)]
    rank_ = max((r for r in ranks if r is not None), default=0)
    if chosen.shape.ndims == 1 and rank_ > 1:
        chosen = reshape(chosen, [-1] + [1] * (rank_ - 1))
    return OPS["Select"](chosen, x, y, name=name or "Select")  # type: ignore[no-any-return]


def identity(input: Any, name: str | None = None) -> Tensor:  # noqa: A002  (TensorFlow's name)
    """The same value under another name; within `control_dependencies`, after what the block waits for."""
    return OPS["Identity"](as_tensor(input), name=name or "Identity")  # type: ignore[no-any-return]


def stop_gradient(input: Any, name: str | None = None) -> Tensor:  # noqa: A002  (TensorFlow's name)
    """The same value, through which no gradient goes."""
    return OPS["StopGradient"](as_tensor(input), name=name or "StopGradient")  # type: ignore[no-any-return]
