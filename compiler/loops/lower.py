"""Level 1 to level 2: a group of nodes becomes one kernel, by asking each node's op for "element i".

Assumes: a group as `fuse` makes it.  Guarantees: a kernel whose stores are the group's outputs; a node of the group
without a buffer is inlined, one from elsewhere is loaded.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from graphflow.compiler.loops.ir import Buffer, Condition, Contract, Expr, Kernel, Loop, Store, expr
from graphflow.compiler.loops.place import Place
from graphflow.core.dim import Dim, Size, Symbol, coefficient, symbol, upper_bound
from graphflow.core.dtype import DType, as_dtype
from graphflow.core.node import Node
from graphflow.core.op import OPS
from graphflow.core.type import Shape
from graphflow.ops.view import ravel

__all__ = ["SOMEWHERE", "Group", "Lowered", "lower"]

SOMEWHERE = (symbol("?"),)
"""The index of a load that is not one of the loaded node's own."""


@dataclass(frozen=True)
class Group:
    """What one kernel computes: `outputs` get buffers; `stored` are all nodes with buffers, those of others included.

    `space` is the iteration space; an output has its shape, or its shape without the axis `row`, which runs innermost
    (None: the last one).
    """

    outputs: tuple[Node, ...]
    space: Shape
    inside: frozenset[Node]
    contraction: Node | None = None
    row: int | None = None

    def index(self, node: Node, at: tuple[Dim, ...]) -> tuple[Dim, ...]:
        """The index of a node's element at a point of the space."""
        row = len(at) - 1 if self.row is None else self.row
        return at if len(node.shape) == len(at) else (*at[:row], *at[row + 1 :])


@dataclass(frozen=True)
class Lowered:
    """A kernel, the nodes whose buffers are its arguments, and at which indices it loads which nodes.

    A part of a whole lies in the buffer of the whole, but it is the part that is loaded.
    """

    kernel: Kernel
    buffers: tuple[Node, ...]
    reads: Mapping[Node, frozenset[tuple[Size, ...]]]


def lower(group: Group, base: Callable[[Node], Node | None], name: str, places: Mapping[Node, Place]) -> Lowered:
    """The kernel of a group.  `base(node)` is the node whose buffer holds `node`'s elements, None for no buffer;
    `places` are the places of nodes that lie in the buffers of others."""
    builder = Builder(group, base, places)
    loops = tuple(builder.loop("i", extent) for extent in group.space)
    at = tuple(loop.var for loop in loops)
    contract = None
    if group.contraction is not None:
        contract = builder.contract(group.contraction, loops)
    stores = []
    for node in group.outputs:
        index = group.index(node, at)
        value = builder.compute(node, index)
        stores.append(Store(builder.slot(node), builder.where(node, node, index), value, len(index)))
    if group.row is not None and group.row < len(loops):
        loops = (*loops[: group.row], *loops[group.row + 1 :], loops[group.row])
    kernel = Kernel(name, loops, tuple(builder.buffers()), tuple(stores), contract)
    return Lowered(kernel, tuple(builder.slots), {n: frozenset(r) for n, r in builder.reads.items()})


class View:
    """A node as index rules see it: shape, dtype, and elements by index."""

    __slots__ = ("builder", "node")

    def __init__(self, builder: Builder, node: Node) -> None:
        self.builder, self.node = builder, node

    @property
    def shape(self) -> Shape:
        return self.node.shape

    @property
    def dtype(self) -> DType:
        return self.node.dtype

    def __getitem__(self, index: tuple[Size, ...]) -> Expr:
        return self.builder.element(self.node, tuple(index))


@dataclass
class Builder:
    """What index rules may say (`k`); see the ops for its use."""

    group: Group
    base: Callable[[Node], Node | None]
    places: Mapping[Node, Place] = field(default_factory=dict)
    slots: list[Node] = field(default_factory=list)
    memo: dict[tuple[Node, tuple[Size, ...]], Expr] = field(default_factory=dict)
    reads: dict[Node, set[tuple[Size, ...]]] = field(default_factory=dict)
    variables: int = 0
    shape: Shape = ()
    sum: tuple[Node, tuple[Size, ...]] | None = None

    # elements

    def element(self, node: Node, index: tuple[Size, ...]) -> Expr:
        """Element `index` of a node: loaded if it has a buffer that another kernel fills, else computed here."""
        buffer = None if node in self.group.inside else self.base(node)
        if buffer is None:
            return self.compute(node, index)
        at = index if node is buffer else SOMEWHERE
        self.reads.setdefault(buffer, set()).add(at)
        return expr("load", (), (self.slot(buffer), self.where(buffer, node, index)), node.dtype)

    def compute(self, node: Node, index: tuple[Size, ...]) -> Expr:
        """Element `index` by the op's rule."""
        if self.sum == (node, index):
            return expr("sum", (), index, node.dtype)
        key = (node, index)
        if key not in self.memo:
            outer, self.shape = self.shape, node.shape
            self.memo[key] = node.op.index(self, index, *(View(self, x) for x in node.inputs), **node.attrs)
            self.shape = outer
        return self.memo[key]

    def where(self, buffer: Node, node: Node, index: tuple[Size, ...]) -> Size:
        """Where element `index` of a node lies, whose elements are those of `buffer` in the same order."""
        place = self.places.get(buffer)
        if place is None:
            return ravel(index, node.shape)
        return place.at(index) if node is buffer else place.offset + ravel(index, node.shape)

    def slot(self, node: Node) -> int:
        """The kernel's argument number for the buffer that a node lies in."""
        node = self.places[node].whole if node in self.places else node
        if node not in self.slots:
            self.slots.append(node)
        return self.slots.index(node)

    def buffers(self) -> list[Buffer]:
        """The kernel's arguments."""
        return [Buffer(node.dtype, node.type.size) for node in self.slots]

    def loop(self, prefix: str, extent: Size) -> Loop:
        """A new loop variable."""
        name = f"{prefix}{self.variables}"
        self.variables += 1
        return Loop(symbol(name, bound=extent), extent)

    def contract(self, node: Node, loops: tuple[Loop, ...]) -> Contract | None:
        """The group's sum of products, if both addresses are linear in the loop variables; its stores then use it."""
        index = tuple(loop.var for loop in loops)
        value = self.compute(node, index)
        found = match_contraction(value, loops)
        if found is not None:
            self.sum = (node, index)
            self.memo.clear()
        return found

    # what index rules say

    def constant(self, value: Any, dtype: DType) -> Expr:
        """A number."""
        return expr("const", (), dtype.numpy.type(value).item(), dtype)

    def apply(self, op: Any, *args: Expr, **attrs: Any) -> Expr:
        """An elementwise op on values."""
        dtype = op.result(*(_Scalar(a.dtype) for a in args), **attrs)
        return expr("apply", args, (op, tuple(sorted(attrs.items()))), dtype)

    def multiply(self, x: Expr, y: Expr) -> Expr:
        """x * y."""
        return self.apply(OPS["Mul"], x, y)

    def reduce(
        self, kind: str, sizes: Shape, body: Callable[[tuple[Size, ...]], Expr], dtype: DType | None = None
    ) -> Expr:
        """kind ("sum", "max", "argmax" ...) of body over new loops of the given sizes."""
        loops = tuple(self.loop("r", size) for size in sizes)
        value = body(tuple(loop.var if loop.extent != 1 else 0 for loop in loops))
        return expr("reduce", (value,), (kind, loops), dtype or value.dtype)

    def between(self, at: Size, low: Size, high: Size) -> Condition:
        """low <= at < high."""
        return Condition(at, low, high)

    def divisible(self, at: Size, by: Size) -> Condition:
        """Whether `at` is a multiple of `by`."""
        return Condition(at, None, by)

    def guard(self, conditions: list[Condition], value: Callable[[], Expr], otherwise: Expr) -> Expr:
        """The value where all conditions hold, else `otherwise`; nothing is loaded where they do not."""
        needed = tuple(c for c in conditions if not _always(c))
        return expr("guard", (value(), otherwise), needed, otherwise.dtype) if needed else value()

    def position(self, at: Size, dtype: Any) -> Expr:
        """An index as a number."""
        return expr("position", (), at, as_dtype(dtype))

    def random(self, at: Size, draw: Expr, *, seed: tuple[int, int], stream: int, dtype: DType) -> Expr:
        """The random number at an index (ops/random.py)."""
        return expr("random", (draw,), (at, seed, stream), dtype)


@dataclass(frozen=True)
class _Scalar:
    """A type without a shape, for dtype rules."""

    dtype: DType


def _always(c: Condition) -> bool:
    if c.low is None:
        return False
    low = c.at - c.low
    if isinstance(low, int) and low < 0:
        return False
    top = upper_bound(low)
    if top is None:
        return False
    gap = (c.high - c.low) - top
    return isinstance(gap, int) and gap > 0


def match_contraction(value: Expr, loops: tuple[Loop, ...]) -> Contract | None:
    """sum over loops of load * load with linear addresses, the last loop of the space only in the second.

    Integers of less than 32 bits stay in plain loops: register-blocked code has the lanes of wider ones.
    """
    if value.kind != "reduce" or value.data[0] != "sum" or value.dtype.size < 4:
        return None
    body = value.args[0]
    if body.kind != "apply" or body.data[0].name != "Mul" or any(a.kind != "load" for a in body.args):
        return None
    (a, a_index), (b, b_index) = (x.data for x in body.args)
    variables = [loop.symbol for loop in (*loops, *value.data[1])]
    if any(not _linear(index, variables) for index in (a_index, b_index)):
        return None
    if not loops or coefficient(a_index, loops[-1].symbol) != 0:
        return None
    return Contract(a, b, a_index, b_index, tuple(value.data[1]), value.dtype)


def _linear(index: Size, variables: list[Symbol]) -> bool:
    for v in variables:
        c = coefficient(index, v)
        if c is None or any(coefficient(c, w) != 0 for w in variables):
            return False
    return True
