"""Level 2: the value of one element as an expression, and kernels that store such values over an iteration space.

    kernel softmax(b0: float32[n0*10], b1: float32[n0*10])
      for i0 in n0:
        for i1 in 10:
          b1[10*i0 + i1] = RealDiv(Exp(Sub(b0[10*i0 + i1], max(r0 < 10: b0[10*i0 + r0]))), sum(...))

Expressions are immutable and interned, as level 1 is; an index is a polynomial of loop variables (`core/dim.py`).
There is no order of evaluation in an expression: each is computed in the outermost loop that its variables allow.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from graphflow.core.dim import Dim, Size, Symbol, atoms_of
from graphflow.core.dtype import DType

__all__ = [
    "EVERY_STEP",
    "Buffer",
    "Condition",
    "Contract",
    "Expr",
    "Kernel",
    "Loop",
    "Store",
    "expr",
    "rebuilt",
    "rewritten",
    "sizes_in",
    "variables_of",
    "walk",
]


@dataclass(frozen=True)
class Loop:
    """A loop variable and how often it runs: 0 <= var < extent."""

    var: Dim
    extent: Size

    @property
    def symbol(self) -> Symbol:
        """The variable as the atom that indices are made of."""
        atom = self.var.terms[0][0][0]
        assert isinstance(atom, Symbol)
        return atom


@dataclass(frozen=True)
class Condition:
    """low <= at < high, or (low None) whether `at` divides by `high`."""

    at: Size
    low: Size | None
    high: Size


_INTERNED: weakref.WeakValueDictionary[Any, Expr] = weakref.WeakValueDictionary()


class Expr:
    """kind(*args, data): dtype.  Made by `expr` only.

    kind        args            data
    load        -               (buffer number, index)
    apply       operands        (elementwise op, attrs as a sorted tuple)
    const       -               value
    position    -               size: an index or a size as a number
    guard       then, else      conditions: then where all hold
    reduce      body            (kind, loops)
    random      draw            (index, seed, stream)
    sum         -               its index: the sum of products that a contraction kernel hands to its stores
    keep        value           (buffer number, index) where the value is written as well
    kept        reduce          (buffer number, index) of what that reduction keeps
    """

    __slots__ = ("__weakref__", "args", "data", "dtype", "kind", "loads", "vars")

    def __init__(self, kind: str, args: tuple[Expr, ...], data: Any, dtype: DType, vars_: frozenset[Symbol]) -> None:
        self.kind, self.args, self.data, self.dtype, self.vars = kind, args, data, dtype, vars_
        self.loads: bool = kind in ("load", "kept") or any(a.loads for a in args)

    def __repr__(self) -> str:
        from graphflow.compiler.loops.print import print_expr

        return print_expr(self)


def expr(kind: str, args: tuple[Expr, ...], data: Any, dtype: DType) -> Expr:
    """The one expression for these."""
    key = (kind, args, data, dtype, type(data))
    found = _INTERNED.get(key)
    if found is not None:
        return found
    free = frozenset(_own_variables(kind, data)).union(*(a.vars for a in args))
    if kind == "reduce":
        free -= {loop.symbol for loop in data[1]}
    return _INTERNED.setdefault(key, Expr(kind, args, data, dtype, free))


def variables_of(c: Condition) -> frozenset[Symbol]:
    """The loop variables of a condition."""
    return frozenset(_own_variables("guard", (c,)))


def _own_variables(kind: str, data: Any) -> Iterator[Symbol]:
    for size in sizes_in(kind, data):
        yield from (a for a in atoms_of(size) if isinstance(a, Symbol) and a.bound is not None)


def sizes_in(kind: str, data: Any) -> Iterator[Size]:
    """The indices and sizes that an expression holds itself."""
    if kind in ("load", "keep", "kept"):
        yield data[1]
    elif kind == "position":
        yield data
    elif kind == "guard":
        for c in data:
            yield c.at
            yield c.high
            if c.low is not None:
                yield c.low
    elif kind == "reduce":
        for loop in data[1]:
            yield loop.extent
    elif kind == "random":
        yield data[0]
    elif kind == "sum":
        yield from data


@dataclass(frozen=True)
class Buffer:
    """An argument of a kernel: element type and number of elements."""

    dtype: DType
    size: Size


@dataclass(frozen=True)
class Store:
    """buffer[index] = value, for every point of the first `depth` loops of the kernel.

    `final`: the buffer is large and nothing in the step reads it, so that it need not stay in a cache.  `beside`: bytes
    that only those kernels touch which store the rest of it.
    """

    buffer: int
    index: Size
    value: Expr
    depth: int
    final: bool = False
    beside: int = 0


@dataclass(frozen=True)
class Contract:
    """sum over k of a[...] * b[...]: buffers, first elements, and the loops of k.

    The loops of the kernel's space are its batch, m and n axes; `terms` of the addresses say which is which.
    `readers`: how many contractions of a step read a, and how many b, in the same way; EVERY_STEP for a constant.
    """

    a: int
    b: int
    a_index: Size
    b_index: Size
    k: tuple[Loop, ...]
    dtype: DType
    readers: tuple[int, int] = (1, 1)


EVERY_STEP = 1 << 30
"""As the number of readers of an operand: its elements never change."""


@dataclass(frozen=True)
class Kernel:
    """Stores over an iteration space.  `contract` is what "sum" stands for, where there is one.

    `scratch` are buffers of the thread that computes a row, numbered after the others (`keep.py`).
    """

    name: str
    loops: tuple[Loop, ...]
    buffers: tuple[Buffer, ...]
    stores: tuple[Store, ...]
    contract: Contract | None = None
    scratch: tuple[Buffer, ...] = ()

    def __str__(self) -> str:
        from graphflow.compiler.loops.print import print_kernel

        return print_kernel(self)

    def read_buffers(self) -> set[int]:
        """The numbers of the buffers that it reads."""
        loaded = {e.data[0] for e in walk([s.value for s in self.stores]) if e.kind in ("load", "kept")}
        return loaded if self.contract is None else loaded | {self.contract.a, self.contract.b}


def walk(roots: list[Expr]) -> list[Expr]:
    """All expressions under the roots, operands first."""
    seen: dict[Expr, None] = {}
    stack: list[tuple[Expr, bool]] = [(r, False) for r in reversed(roots)]
    while stack:
        e, done = stack.pop()
        if done:
            seen[e] = None
        elif e not in seen:
            stack.append((e, True))
            stack.extend((a, False) for a in reversed(e.args) if a not in seen)
    return list(seen)


def rewritten(roots: list[Expr], move: Callable[[Size], Size]) -> dict[Expr, Expr]:
    """Every expression under the roots with its own indices and sizes replaced by `move`."""
    return with_data(roots, lambda e: _with_sizes(e.kind, e.data, move))


def with_loads(roots: list[Expr], move: Callable[[int, Size], Size]) -> dict[Expr, Expr]:
    """Every expression under the roots, loads from the index that `move` gives for (buffer, index)."""
    return with_data(roots, lambda e: (e.data[0], move(*e.data)) if e.kind == "load" else e.data)


def with_data(roots: list[Expr], data_of: Callable[[Expr], Any]) -> dict[Expr, Expr]:
    """Every expression under the roots with `data_of` it for its data."""

    def made(e: Expr, args: tuple[Expr, ...]) -> Expr:
        data = data_of(e)
        return e if args == e.args and data == e.data else expr(e.kind, args, data, e.dtype)

    return rebuilt(roots, made)


def rebuilt(roots: list[Expr], make: Callable[[Expr, tuple[Expr, ...]], Expr]) -> dict[Expr, Expr]:
    """What `make` makes of every expression under the roots and of what it made of its operands."""
    new: dict[Expr, Expr] = {}
    for e in walk(roots):
        new[e] = make(e, tuple(new[a] for a in e.args))
    return new


def _with_sizes(kind: str, data: Any, move: Callable[[Size], Size]) -> Any:
    match kind:
        case "load" | "keep" | "kept":
            return (data[0], move(data[1]))
        case "position":
            return move(data)
        case "guard":
            return tuple(Condition(move(c.at), None if c.low is None else move(c.low), move(c.high)) for c in data)
        case "random":
            return (move(data[0]), *data[1:])
        case _:
            return data
