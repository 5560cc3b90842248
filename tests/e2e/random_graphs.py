"""Random small graphs for property tests: `RandomGraph(draw)` draws feeds and a pool of nodes over them.

Numbers stay small and functions smooth, so that compiled and interpreted differ by rounding only.  What jumps
(comparisons, argmax, kinks) is applied to exact nodes only: those that both compute without rounding.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from hypothesis import strategies as st

from graphflow.core.dim import Dim, fed, product
from graphflow.core.dtype import as_dtype
from graphflow.core.node import Node
from graphflow.core.op import OPS
from graphflow.core.type import NeedsStatic, ShapeError, TensorType
from graphflow.ops.state import feed_node
from tests.harness import feed_types

Draw = Callable[[Any], Any]

SIZES = (0, 1, 2, 3, 15, 16, 17, 33, 64)
MOST_ELEMENTS = 9000
SPECIAL = (np.nan, np.inf, -np.inf, 0.0, -0.0, 1.0)


class RandomGraph:
    """`nodes` over `feeds`; `exact` are those that need no rounding; a step that does not fit adds nothing."""

    def __init__(self, draw: Draw, *, symbolic: bool = False, special: bool = False) -> None:
        self.draw, self.symbolic, self.special = draw, symbolic, special
        self.feeds: list[np.ndarray[Any, Any]] = []
        self.types: list[TensorType] = []
        self.nodes: list[Node] = []
        self.exact: set[Node] = set()
        for _ in range(draw(st.integers(1, 3))):
            self.add_feed(self.shape(), draw(st.sampled_from(("float32", "float32", "float64", "int32", "bool"))))

    # what graphs are drawn from

    def shape(self, rank: int | None = None) -> tuple[int, ...]:
        """A shape of few elements."""
        rank = self.draw(st.integers(0, 4)) if rank is None else rank
        sizes = [self.draw(st.sampled_from(SIZES)) for _ in range(rank)]
        while np.prod(sizes, dtype=int) > MOST_ELEMENTS:
            sizes[sizes.index(max(sizes))] = 2
        return tuple(sizes)

    def add_feed(self, shape: tuple[int, ...], dtype: str) -> Node:
        """A new feed with random values."""
        array = self.values(shape, dtype)
        (type_,) = feed_types([array], self.symbolic)
        node = feed_node(len(self.feeds), type_)
        self.feeds.append(array)
        self.types.append(type_)
        return self.keep(node, exact=True)

    def values(self, shape: tuple[int, ...], dtype: str) -> np.ndarray[Any, Any]:
        """Small random numbers, with NaN and infinities among them where `special`."""
        rng = np.random.default_rng(len(self.feeds))
        if dtype == "bool":
            return np.asarray(rng.random(shape) < 0.5)
        if dtype == "int32":
            return np.asarray(rng.integers(-9, 10, shape), np.int32)
        x = np.asarray(rng.uniform(-2, 2, shape))
        if self.special:
            x = np.where(rng.random(shape) < 0.1, rng.choice(SPECIAL, shape), x)
        with np.errstate(all="ignore"):  # what is no float32 becomes an infinity or zero
            return x.astype(dtype)

    def keep(self, node: Node, exact: bool) -> Node:
        """Add a node to the pool."""
        if node not in self.nodes:
            self.nodes.append(node)
        if exact:
            self.exact.add(node)
        return node

    def pick(self, kinds: str, exact: bool = False) -> Node | None:
        """A node whose dtype is of a kind: f, i or b."""
        found = [n for n in self.nodes if n.dtype.kind[0] in kinds and (n in self.exact or not exact)]
        return self.draw(st.sampled_from(found)) if found else None

    def partner(self, x: Node) -> Node:
        """A node of x's dtype that broadcasts with it, a new feed where there is none."""
        shape = tuple(map(fed, x.shape))
        fits = [n for n in self.nodes if n.dtype is x.dtype and n.shape == x.shape]
        if len(fits) > 1 and self.draw(st.booleans()):
            return self.draw(st.sampled_from(fits))
        dropped = self.draw(st.integers(0, len(shape)))
        ones = tuple(1 if self.draw(st.integers(0, 3)) == 0 else s for s in shape[dropped:])
        return self.add_feed(ones, x.dtype.name)

    # growth

    def grow(self, steps: int) -> None:
        """Apply random ops; one that does not fit (or needs a number for an unknown size) is left out."""
        for _ in range(steps):
            step = self.draw(st.sampled_from(STEPS))
            try:
                self.accept(step(self))
            except (NeedsStatic, ShapeError):
                continue

    def accept(self, made: tuple[Node, bool] | None) -> None:
        """Keep a node that is not too large."""
        if made is not None and fed(made[0].type.size) <= MOST_ELEMENTS:
            self.keep(*made)

    def outputs(self) -> list[Node]:
        """Some of the nodes: the last one always."""
        others = [n for n in self.nodes[:-1] if self.draw(st.integers(0, 3)) == 0]
        return [*others, self.nodes[-1]]


def unary(g: RandomGraph) -> Any:
    x = g.pick("f")
    if x is None:
        return None
    functions: tuple[Callable[[Any], Any], ...] = (
        OPS["Tanh"],
        OPS["Sigmoid"],
        lambda v: OPS["Exp"](OPS["Tanh"](v)),
        lambda v: OPS["Log"](OPS["Square"](v) + 0.5),
        lambda v: OPS["Sqrt"](v * v + 0.1),
        lambda v: OPS["Sin"](v) * 0.5,
        lambda v: 1.5 / (v * v + 1),
    )
    return g.draw(st.sampled_from(functions))(x), False


def kinked(g: RandomGraph) -> Any:
    x = g.pick("fi", exact=True)
    if x is None:
        return None
    op = g.draw(st.sampled_from(("Relu", "Abs", "Neg", "Sign", "Maximum", "Minimum")))
    return OPS[op](x, g.partner(x)) if op.startswith("M") else OPS[op](x), True


def binary(g: RandomGraph) -> Any:
    x = g.pick("fi")
    if x is None:
        return None
    op = g.draw(st.sampled_from(("Add", "Sub", "Mul", "SquaredDifference")))
    y = OPS[op](x, g.partner(x))
    return bounded(y), y.dtype.is_integer


def bounded(x: Node) -> Node:
    """x in a range that further arithmetic does not leave."""
    return OPS["FloorMod"](x, 1000) if x.dtype.is_integer else x * 0.5


def compared(g: RandomGraph) -> Any:
    x = g.pick("fi", exact=True)
    if x is None:
        return None
    op = g.draw(st.sampled_from(("Less", "LessEqual", "Greater", "GreaterEqual", "Equal", "NotEqual")))
    y = g.partner(x)
    return OPS[op](x, y if y in g.exact else x), True


def logical(g: RandomGraph) -> Any:
    x = g.pick("b")
    if x is None:
        return None
    op = g.draw(st.sampled_from(("LogicalNot", "LogicalAnd", "LogicalOr", "LogicalXor")))
    return OPS[op](x) if op == "LogicalNot" else OPS[op](x, g.partner(x)), True


def chosen(g: RandomGraph) -> Any:
    c, x = g.pick("b"), g.pick("fi")
    if c is None or x is None:
        return None
    y = g.partner(x)
    return OPS["Select"](c, x, y), x in g.exact and y in g.exact


def converted(g: RandomGraph) -> Any:
    x = g.pick("fib", exact=True)
    if x is None:
        return None
    dtype = g.draw(st.sampled_from(("float32", "float64", "int32", "bool")))
    return OPS["Cast"](x, dtype=as_dtype(dtype)), True


def reduced(g: RandomGraph) -> Any:
    x = g.pick("fib")
    if x is None or x.ndim == 0:
        return None
    axes = tuple(sorted(g.draw(st.sets(st.integers(0, x.ndim - 1), min_size=1))))
    if x.dtype.is_bool:
        return OPS[g.draw(st.sampled_from(("ReduceAny", "ReduceAll")))](x, axes=axes), True
    kind = g.draw(st.sampled_from(("Sum", "Mean", "Max", "Min", "Prod", "ArgMax", "ArgMin")))
    if kind.startswith("Arg"):
        if x not in g.exact or any(isinstance(x.shape[a], Dim) or x.shape[a] == 0 for a in axes):
            return None
        return OPS[f"Reduce{kind}"](x, axes=axes, dtype=as_dtype("int64")), True
    if kind == "Mean":
        if any(fed(x.shape[a]) == 0 for a in axes):
            return None
        return OPS["Mean"](x, axis=axes, keepdims=g.draw(st.booleans())), x.dtype.is_integer
    if kind == "Prod":
        x = OPS["Sign"](x) if x in g.exact else OPS["Tanh"](x) if x.dtype.is_floating else x
    if kind in ("Max", "Min") and x.dtype.is_floating and x not in g.exact:
        return OPS["StopGradient"](OPS[f"Reduce{kind}"](x, axes=axes)), False
    y = OPS[f"Reduce{kind}"](x, axes=axes)
    return bounded(y) if kind == "Sum" else y, x in g.exact and (kind in ("Max", "Min") or x.dtype.is_integer)


def normalized(g: RandomGraph) -> Any:
    x = g.pick("f")
    if x is None or x.ndim == 0:
        return None
    axis = g.draw(st.integers(0, x.ndim - 1))
    if fed(x.shape[axis]) == 0:
        return None
    return OPS[g.draw(st.sampled_from(("Softmax", "LogSoftmax")))](x, axis=axis), False


def multiplied(g: RandomGraph) -> Any:
    a = g.pick("fi")
    if a is None or a.ndim < 2:
        return None
    shape = tuple(map(fed, a.shape))
    ta, tb = g.draw(st.booleans()), g.draw(st.booleans())
    inner, n = (shape[-2] if ta else shape[-1]), g.draw(st.sampled_from(SIZES))
    fits = [b for b in g.nodes if b.dtype is a.dtype and b.ndim == a.ndim and b.shape[:-2] == a.shape[:-2]]
    fits = [b for b in fits if b.shape[-1 if tb else -2] == a.shape[-2 if ta else -1]]
    b = g.draw(st.sampled_from(fits)) if fits and g.draw(st.booleans()) else None
    if b is None:
        b = g.add_feed((*shape[:-2], *((n, inner) if tb else (inner, n))), a.dtype.name)
    return bounded(OPS["MatMul"](a, b, transpose_a=ta, transpose_b=tb)), a.dtype.is_integer


def sliced(g: RandomGraph) -> Any:
    x = g.pick("fib")
    if x is None or x.ndim == 0:
        return None
    ends = st.none() | st.integers(-20, 20)
    steps = st.sampled_from((1, 1, 2, 3, -1, -2))
    key = tuple(
        (None, None, None) if isinstance(s, Dim) else (g.draw(ends), g.draw(ends), g.draw(steps)) for s in x.shape
    )
    return OPS["GetItem"](x, key=key), x in g.exact


def rearranged(g: RandomGraph) -> Any:
    x = g.pick("fib")
    if x is None or x.ndim == 0:
        return None
    kind = g.draw(st.sampled_from(("Transpose", "Reverse", "Merge", "Split", "Insert", "Flatten")))
    axis = g.draw(st.integers(0, x.ndim - 1))
    sizes = x.shape
    if kind == "Transpose":
        return OPS["Transpose"](x, perm=tuple(g.draw(st.permutations(range(x.ndim))))), x in g.exact
    if kind == "Reverse":
        return OPS["Reverse"](x, axes=tuple(sorted(g.draw(st.sets(st.integers(0, x.ndim - 1)))))), x in g.exact
    if kind == "Merge" and axis + 1 < x.ndim:
        shape = (*sizes[:axis], sizes[axis] * sizes[axis + 1], *sizes[axis + 2 :])
    elif kind == "Split" and isinstance(sizes[axis], int) and sizes[axis] % 2 == 0:
        shape = (*sizes[:axis], sizes[axis] // 2, 2, *sizes[axis + 1 :])
    elif kind == "Insert":
        shape = (*sizes[:axis], 1, *sizes[axis:])
    else:
        shape = (product(sizes),)
    return OPS["Reshape"](x, shape=shape), x in g.exact


def padded(g: RandomGraph) -> Any:
    x = g.pick("fi")
    if x is None or x.ndim == 0:
        return None
    some = st.sampled_from((0, 0, 1, 2, 5))
    low, high, interior = (tuple(g.draw(some) for _ in x.shape) for _ in range(3))
    interior = tuple(0 if isinstance(s, Dim) else n for s, n in zip(x.shape, interior, strict=True))
    return OPS["Pad"](x, low=low, high=high, interior=interior, value=g.draw(st.sampled_from((0, 1)))), x in g.exact


def joined(g: RandomGraph) -> Any:
    x = g.pick("fib")
    if x is None or x.ndim == 0:
        return None
    axis = g.draw(st.integers(0, x.ndim - 1))
    same = [n for n in g.nodes if n.dtype is x.dtype and n.ndim == x.ndim]
    same = [n for n in same if all(a == axis or s == t for a, (s, t) in enumerate(zip(n.shape, x.shape, strict=True)))]
    parts = [x, *(g.draw(st.sampled_from(same)) for _ in range(g.draw(st.integers(1, 2))))]
    return OPS["Concat"](*parts, axis=axis), all(p in g.exact for p in parts)


def repeated(g: RandomGraph) -> Any:
    x = g.pick("fib")
    if x is None or x.ndim > 3:
        return None
    shape = tuple(g.draw(st.sampled_from(SIZES)) if s == 1 else s for s in x.shape)
    lead = tuple(g.draw(st.sampled_from(SIZES)) for _ in range(g.draw(st.integers(0, 1))))
    return OPS["BroadcastTo"](x, shape=(*lead, *shape)), x in g.exact


def windowed(g: RandomGraph) -> Any:
    """A convolution or pooling of a new image, or of the image that a function makes of it."""
    few = st.sampled_from((1, 2, 3, 5, 9))
    image = g.add_feed((g.draw(st.sampled_from((0, 1, 3))), g.draw(few), g.draw(few), g.draw(few)), "float32")
    window, strides = (g.draw(st.integers(1, 3)), g.draw(st.integers(1, 3))), (g.draw(st.integers(1, 3)),) * 2
    padding = g.draw(st.sampled_from(("SAME", "VALID")))
    kind = g.draw(st.sampled_from(("MaxPool", "AvgPool", "Conv2D")))
    if kind == "MaxPool":
        return OPS[kind](image, window=window, strides=strides, padding=padding), not g.special
    if g.draw(st.booleans()):
        image = OPS["Tanh"](image)
    if kind == "AvgPool":
        return OPS[kind](image, window=window, strides=strides, padding=padding), False
    w = g.add_feed((*window, fed(image.shape[-1]), g.draw(st.sampled_from((1, 2, 16, 17)))), "float32")
    return OPS[kind](image, w, strides=strides, padding=padding) * 0.1, False


STEPS = (
    unary,
    unary,
    kinked,
    binary,
    binary,
    compared,
    logical,
    chosen,
    converted,
    reduced,
    reduced,
    normalized,
    multiplied,
    multiplied,
    windowed,
    sliced,
    rearranged,
    rearranged,
    padded,
    joined,
    repeated,
)
