"""Rules for ops that rearrange or reduce: views of views become one, views of splats are splats.

The table at the end has a row for each.

A function here takes a node and returns what it is equal to, bit for bit as in rules.py, or None.  Sizes are compared
as they are written, so a rule never decides something about a symbol.  Of a positive and a negative zero, either is
the larger: no rule promises which of them a maximum is.
"""

from __future__ import annotations

import math
from itertools import product as cartesian

from graphflow.compiler.fold import constant_splat, number, splat, splat_scalar
from graphflow.compiler.rewrite import Rule
from graphflow.core.dim import Size, product
from graphflow.core.node import Node
from graphflow.core.op import broadcast_node
from graphflow.core.type import is_static
from graphflow.ops.reduce import size_of
from graphflow.ops.view import concat, pad, reshape, reverse, strided_slice, transpose
from graphflow.ops.window import phase_sizes

__all__ = ["VIEW"]


def view_of_splat(node: Node) -> Node | None:
    """A rearranged splat is a splat."""
    scalar = splat_scalar(node.inputs[0])
    if scalar is None or (node.op.name == "BroadcastTo" and scalar is node.inputs[0]):
        return None
    return splat(scalar, node.shape)


# broadcast


def broadcast_to_own_shape(node: Node) -> Node | None:
    """A broadcast to the shape that x has."""
    x = node.inputs[0]
    return x if x.shape == node.shape else None


def broadcast_of_broadcast(node: Node) -> Node | None:
    """Two broadcasts are one."""
    x = node.inputs[0]
    return broadcast_node(x.inputs[0], node.shape) if x.op.name == "BroadcastTo" else None


def broadcast_without_leading_ones(node: Node) -> Node | None:
    """A broadcast adds leading axes by itself: x need not have them as axes of size 1."""
    x = node.inputs[0]
    ones = _count_ones(x.shape)
    if not ones:
        return None
    return broadcast_node(reshape.node(x, shape=x.shape[ones:]), node.shape)


def _count_ones(shape: tuple[Size, ...]) -> int:
    """How many axes of size 1 come first."""
    return next((n for n, size in enumerate(shape) if size != 1), len(shape))


# reshape, transpose, reverse


def reshape_to_own_shape(node: Node) -> Node | None:
    """A reshape to the shape that x has."""
    x = node.inputs[0]
    return x if x.shape == node.shape else None


def reshape_of_reshape(node: Node) -> Node | None:
    """The last of two reshapes decides."""
    x = node.inputs[0]
    return reshape.node(x.inputs[0], shape=node.shape) if x.op.name == "Reshape" else None


def reshape_with_known_sizes(node: Node) -> Node | None:
    """A size of -1 is replaced by what it stands for."""
    return None if node.attrs["shape"] == node.shape else reshape.node(node.inputs[0], shape=node.shape)


def transpose_of_transpose(node: Node) -> Node | None:
    """Two permutations are one."""
    x, perm = node.inputs[0], node.attrs["perm"]
    if x.op.name != "Transpose":
        return None
    return transpose.node(x.inputs[0], perm=tuple(x.attrs["perm"][p] for p in perm))


def transpose_that_moves_nothing(node: Node) -> Node | None:
    """A permutation that only moves axes of size 1 is a reshape; one that moves none is nothing."""
    x = node.inputs[0]
    moved = [p for p in node.attrs["perm"] if x.shape[p] != 1]
    return reshape.node(x, shape=node.shape) if moved == sorted(moved) else None


def reverse_of_reverse(node: Node) -> Node | None:
    """An axis that is reversed twice is not."""
    x, axes = node.inputs[0], node.attrs["axes"]
    if x.op.name != "Reverse":
        return None
    return reverse.node(x.inputs[0], axes=tuple(sorted(set(axes) ^ set(x.attrs["axes"]))))


def reverse_of_one(node: Node) -> Node | None:
    """Axes of size 1 are the same backwards."""
    x, axes = node.inputs[0], node.attrs["axes"]
    left = tuple(a for a in axes if x.shape[a] != 1)
    if not left:
        return x
    return reverse.node(x, axes=left) if left != axes else None


# slice, pad, concat


def slice_of_all(node: Node) -> Node | None:
    """A slice that takes every element in order."""
    x = node.inputs[0]
    if x.shape != node.shape or any(b != 0 for b in node.attrs["begin"]):
        return None
    steps = zip(node.attrs["stride"], node.shape, strict=True)
    return x if all(stride == 1 or size == 1 for stride, size in steps) else None


def slice_of_slice(node: Node) -> Node | None:
    """Two slices are one."""
    x = node.inputs[0]
    if x.op.name != "StridedSlice":
        return None
    outer = zip(node.attrs["begin"], node.attrs["stride"], x.attrs["begin"], x.attrs["stride"], strict=True)
    pairs = [(inner + step * begin, step * stride) for begin, stride, inner, step in outer]
    return strided_slice.node(
        x.inputs[0], begin=tuple(b for b, _ in pairs), stride=tuple(s for _, s in pairs), shape=node.shape
    )


def slice_of_reshape(node: Node) -> Node | None:
    """A slice that takes all of the axes that a reshape changes is a reshape of a slice."""
    y = node.inputs[0]
    if y.op.name != "Reshape":
        return None
    x = y.inputs[0]
    same = next((n for n, (a, b) in enumerate(zip(x.shape, y.shape, strict=False)) if a != b), min(x.ndim, y.ndim))
    whole = zip(node.attrs["begin"][same:], node.attrs["stride"][same:], strict=True)
    if node.shape[same:] != y.shape[same:] or any(pair != (0, 1) for pair in whole):
        return None
    begin, stride = (*node.attrs["begin"][:same], *(0,) * (x.ndim - same)), node.attrs["stride"][:same]
    shape = (*node.shape[:same], *x.shape[same:])
    return reshape.node(
        strided_slice.node(x, begin=begin, stride=(*stride, *(1,) * (x.ndim - same)), shape=shape), shape=node.shape
    )


def slice_of_concat(node: Node) -> Node | None:
    """A slice that lies within one piece of a concatenation is a slice of that piece."""
    x = node.inputs[0]
    if x.op.name != "Concat":
        return None
    axis = x.attrs["axis"] % x.ndim
    begin, stride, count = (node.attrs[key][axis] for key in ("begin", "stride", "shape"))
    if not is_static((begin, count, *(p.shape[axis] for p in x.inputs))) or count == 0:
        return None
    first, last = sorted((begin, begin + stride * (count - 1)))
    start = 0
    for piece in x.inputs:
        stop = start + piece.shape[axis]
        if start <= first and last < stop:
            begins = tuple(b - start if a == axis else b for a, b in enumerate(node.attrs["begin"]))
            return strided_slice.node(piece, begin=begins, stride=node.attrs["stride"], shape=node.shape)
        start = stop
    return None


def slice_of_convolved_padding(node: Node) -> Node | None:
    """What a convolution makes of padding only to be cut off; a gradient through SAME asks for it (turned filters)."""
    y = node.inputs[0]
    if y.op.name != "Conv" or y.inputs[0].op.name != "Pad" or y.inputs[1].op.name != "Transpose" or 0 in node.shape:
        return None  # of nothing at all, no window would be left
    padded, filters = y.inputs
    axes = range(1, 1 + len(y.attrs["strides"]))
    begin, count = node.attrs["begin"], node.shape
    cut = [(begin[a], y.shape[a] - begin[a] - count[a]) if a in axes else (0, 0) for a in range(node.ndim)]
    kept = [(lo - b, hi - e) for (b, e), lo, hi in zip(cut, padded.attrs["low"], padded.attrs["high"], strict=True)]
    if any(b == e == 0 and y.shape[a] != count[a] for a, (b, e) in enumerate(cut)) or all(c == (0, 0) for c in cut):
        return None
    if {*node.attrs["stride"], *y.attrs["strides"]} != {1} or not _are_sizes(cut) or not _are_sizes(kept):
        return None
    image = pad.node(padded.inputs[0], **{**padded.attrs, "low": _column(kept, 0), "high": _column(kept, 1)})
    return y.op.node(image, filters, **y.attrs)


def slice_of_interleave(node: Node) -> Node | None:
    """A slice of adjacent pixels of an image made of phases is made of slices of the phases."""
    x = node.inputs[0]
    if x.op.name != "Interleave" or set(node.attrs["stride"]) != {1}:
        return None
    first, strides = x.attrs["first"], x.attrs["strides"]
    inside = slice(first, first + len(strides))
    space, begin = node.shape[inside], node.attrs["begin"]
    if not is_static(begin[inside]):
        return None
    phases = list(cartesian(*map(range, strides)))
    cut = []
    for phase in phases:
        moved = [divmod(r + b, s) for r, b, s in zip(phase, begin[inside], strides, strict=True)]
        source = x.inputs[phases.index(tuple(r for _, r in moved))]
        starts = (*begin[:first], *(a for a, _ in moved), *begin[inside.stop :])
        shape = (*node.shape[:first], *phase_sizes(space, strides, phase), *node.shape[inside.stop :])
        cut.append(strided_slice.node(source, begin=starts, stride=(1,) * x.ndim, shape=shape))
    return x.op.node(*cut, **{**x.attrs, "space": space})


def _are_sizes(pairs: list[tuple[Size, Size]]) -> bool:
    """Whether all are known and none is negative."""
    return all(isinstance(n, int) and n >= 0 for pair in pairs for n in pair)


def _column(pairs: list[tuple[Size, Size]], which: int) -> tuple[Size, ...]:
    return tuple(pair[which] for pair in pairs)


def pad_with_nothing(node: Node) -> Node | None:
    """Padding that adds no element."""
    sizes = (p for key in ("low", "high", "interior") for p in node.attrs[key])
    return node.inputs[0] if all(p == 0 for p in sizes) else None


def pad_of_same(node: Node) -> Node | None:
    """A constant splat padded with its own value."""
    value = constant_splat(node.inputs[0])
    if value is None:
        return None
    item, around = value.item(), node.attrs.get("value", 0)
    same = item == around and math.copysign(1, item) == math.copysign(1, around)
    return splat(number(item, node.type.with_shape(())), node.shape) if same else None


def concat_of_nonempty(node: Node) -> Node | None:
    """A concatenation needs no empty pieces, and is its only piece."""
    axis = node.attrs["axis"] % node.ndim
    pieces = [x for x in node.inputs if x.shape[axis] != 0]
    if len(pieces) <= 1 or len(node.inputs) == 1:
        return (pieces or list(node.inputs))[0]
    return concat.node(*pieces, axis=axis) if len(pieces) < len(node.inputs) else None


def concat_of_concat(node: Node) -> Node | None:
    """Concatenations along one axis are one."""
    axis = node.attrs["axis"] % node.ndim
    nested = [x.op.name == "Concat" and x.attrs["axis"] % node.ndim == axis for x in node.inputs]
    if not any(nested):
        return None
    pieces = [p for x, inside in zip(node.inputs, nested, strict=True) for p in (x.inputs if inside else (x,))]
    return concat.node(*pieces, axis=axis)


def concat_of_splats(node: Node) -> Node | None:
    """Copies of one splat side by side are a larger one."""
    scalars = {splat_scalar(x) for x in node.inputs}
    scalar = scalars.pop()
    return None if scalars or scalar is None else splat(scalar, node.shape)


# reductions


def reduce_over_nothing(node: Node) -> Node | None:
    """A reduction over no axes; but the float sum of -0.0 is 0.0."""
    return _one_element(node, node.inputs[0]) if not node.attrs["axes"] else None


def reduce_one_element(node: Node) -> Node | None:
    """Over an axis of size 1 there is nothing to reduce; but the float sum of -0.0 is 0.0."""
    x, axes = node.inputs[0], node.attrs["axes"]
    ones = {a for a in axes if x.shape[a] == 1}
    if not ones:
        return None
    flat = reshape.node(x, shape=tuple(s for a, s in enumerate(x.shape) if a not in ones))
    if len(ones) < len(axes):
        return node.op.node(flat, axes=_without(axes, ones))
    return _one_element(node, flat)


def _one_element(node: Node, x: Node) -> Node:
    """What the reduction `node` makes of single elements; x + 0.0 is x but for -0.0."""
    return x + 0.0 if node.op.name == "ReduceSum" and x.dtype.is_floating else x


def reduce_of_reduce(node: Node) -> Node | None:
    """Two reductions are one where the order of operations does not matter: never for sums of floats."""
    inner = node.inputs[0]
    if inner.op is not node.op or not _any_order(node):
        return None
    x, done = inner.inputs[0], inner.attrs["axes"]
    kept = [a for a in range(x.ndim) if a not in done]
    return node.op.node(x, axes=tuple(sorted((*done, *(kept[a] for a in node.attrs["axes"])))))


def reduce_of_broadcast(node: Node) -> Node | None:
    """The extreme of copies is any of them; the integer sum of n copies is n times one."""
    wide, axes = node.inputs[0], node.attrs["axes"]
    if wide.op.name != "BroadcastTo" or not _any_order(node) or node.op.name == "ReduceProd":
        return None
    x = wide.inputs[0]
    lead = wide.ndim - x.ndim
    copied = {a for a in axes if a < lead or (x.shape[a - lead] == 1 and wide.shape[a] != 1)}
    count = product(tuple(wide.shape[a] for a in copied))
    if not copied or not _countable(node, count):
        return None
    once = reshape.node(x, shape=tuple(s for a, s in enumerate(x.shape, lead) if a not in copied))
    narrow = broadcast_node(once, tuple(s for a, s in enumerate(wide.shape) if a not in copied))
    reduced = node.op.node(narrow, axes=_without(axes, copied))
    return reduced * size_of(count, node.dtype) if node.op.name == "ReduceSum" else reduced


def _countable(node: Node, count: Size) -> bool:
    """Whether copies may be counted: an extreme of none is no copy, and the number of a sum's must fit its dtype."""
    if node.op.name == "ReduceSum":
        return count <= int(node.dtype.max) if isinstance(count, int) else node.dtype.size >= 4
    return isinstance(count, int) and count > 0


def _any_order(node: Node) -> bool:
    """Whether a reduction gives the same bits in any order."""
    return node.op.name in ("ReduceMax", "ReduceMin", "ReduceAny", "ReduceAll") or node.dtype.is_integer


def _without(axes: tuple[int, ...], dropped: set[int]) -> tuple[int, ...]:
    """The axes that are left, counted in the shape without the dropped ones."""
    return tuple(a - sum(d < a for d in dropped) for a in axes if a not in dropped)


REDUCTIONS = "ReduceSum ReduceProd ReduceMax ReduceMin ReduceAny ReduceAll"

VIEW = (
    Rule.of("BroadcastTo", broadcast_to_own_shape),
    Rule.of("Reshape", reshape_to_own_shape),
    Rule.of("BroadcastTo Reshape Transpose StridedSlice Reverse Windows", view_of_splat),
    Rule.of("BroadcastTo", broadcast_of_broadcast),
    Rule.of("BroadcastTo", broadcast_without_leading_ones),
    Rule.of("Reshape", reshape_of_reshape),
    Rule.of("Reshape", reshape_with_known_sizes),
    Rule.of("Transpose", transpose_of_transpose),
    Rule.of("Transpose", transpose_that_moves_nothing),
    Rule.of("Reverse", reverse_of_reverse),
    Rule.of("Reverse", reverse_of_one),
    Rule.of("StridedSlice", slice_of_all),
    Rule.of("StridedSlice", slice_of_slice),
    Rule.of("StridedSlice", slice_of_reshape),
    Rule.of("StridedSlice", slice_of_concat),
    Rule.of("StridedSlice", slice_of_convolved_padding),
    Rule.of("StridedSlice", slice_of_interleave),
    Rule.of("Pad", pad_with_nothing),
    Rule.of("Pad", pad_of_same),
    Rule.of("Concat", concat_of_nonempty),
    Rule.of("Concat", concat_of_splats),
    Rule.of("Concat", concat_of_concat),
    Rule.of(REDUCTIONS, reduce_over_nothing),
    Rule.of(REDUCTIONS, reduce_one_element),
    Rule.of(REDUCTIONS, reduce_of_reduce),
    Rule.of(REDUCTIONS, reduce_of_broadcast),
)
