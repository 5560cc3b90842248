"""`Drawing` is a random program in the making: what steps draw from, take and make.

Floats are small multiples of 1/4: as long as nobody rounds, sums and products of them are exact in any order, and
what jumps (comparisons, argmax, kinks) is applied to such values only.  All other functions are smooth and keep
numbers small, so that two ways to compute them differ by rounding.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

import graphflow as tf
from tests.e2e.random.programs import MEMORY, Fed, Span, united, whole_span

__all__ = ["KINDS", "Drawing", "Kind", "Refused", "Value", "product", "require", "shrunk"]

SIZES = (0, 1, 1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 24, 31, 32, 33, 47, 48, 49, 63, 64, 65, 96, 127, 128, 130, 257, 1000)
LARGE_SIZES = (1, 2, 3, 5, 15, 16, 17, 33, 48, 64, 127, 128, 130, 256, 257, 512, 520, 1024, 1030, 4096, 4100, 33_000)
RANKS = (0, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 4)
NARROW = ("int8", "int16", "uint8", "uint32", "uint64")
DTYPES = (*["float32"] * 9, *["float64"] * 4, "int32", "int32", "int32", "int64", "int64", "bool", "bool", *NARROW)


@dataclass(frozen=True)
class Kind:
    """What programs are drawn from; `elements` is the most that a value has."""

    steps: int = 22
    sizes: tuple[int, ...] = SIZES
    elements: int = 20_000
    open: bool = False
    special: bool = False
    gradients: bool = False
    training: bool = False


KINDS = {
    "plain": Kind(),
    "special": Kind(special=True),
    "open": Kind(open=True),
    "gradient": Kind(gradients=True),
    "open gradient": Kind(open=True, gradients=True),
    "training": Kind(training=True, gradients=True),
    "large": Kind(sizes=LARGE_SIZES, elements=3_000_000, steps=8),
    "large gradient": Kind(sizes=LARGE_SIZES, elements=1_000_000, steps=7, gradients=True),
}


@dataclass(frozen=True)
class Value:
    """What a step has made: its name, its tensor in a graph of known sizes, its span if nobody rounded."""

    name: str
    tensor: Any
    span: Span | None

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.tensor.shape.as_list())

    @property
    def dtype(self) -> str:
        return str(self.tensor.dtype.name)

    @property
    def kind(self) -> str:
        """f, i or b: floats, integers with or without a sign, truth values."""
        return "i" if "int" in self.dtype else self.dtype[0]

    @property
    def ndim(self) -> int:
        return len(self.shape)


class Refused(Exception):  # noqa: N818  (a step that does not fit is no failure)
    """A step that the framework refuses to declare."""


@dataclass
class Drawing:
    """A program in the making."""

    rng: random.Random
    kind: Kind
    feeds: list[Fed] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    values: list[Value] = field(default_factory=list)
    operations: list[str] = field(default_factory=list)
    open_sizes: frozenset[int] = frozenset()

    def __post_init__(self) -> None:
        given = {"tf": tf, "np": np, "values": lambda name: self.feed_of(name).values()}
        self.names: dict[str, Any] = dict(given)
        self.open_names: dict[str, Any] = dict(given)
        self.graphs = (tf.Graph(), tf.Graph())
        self.sizes = self.some(self.kind.sizes, 5, 2)  # few, so that shapes agree
        if self.kind.open:
            self.open_sizes = frozenset(self.some(self.sizes))

    def feed_of(self, name: str) -> Fed:
        return next(f for f in self.feeds if f.name == name)

    # what is drawn

    def number(self, low: int, high: int) -> int:
        return self.rng.randint(low, high)

    def choice(self, of: Sequence[Any]) -> Any:
        return self.rng.choice(of)

    def some(self, of: Sequence[Any], most: int | None = None, least: int = 1) -> list[Any]:
        """Some of them, in their order."""
        count = self.number(least, max(least, min(len(of), most or len(of))))
        return [of[n] for n in sorted(self.rng.sample(range(len(of)), count))]

    def chance(self, of: float) -> bool:
        return self.rng.random() < of

    def size(self) -> int:
        return int(self.choice(self.sizes))

    def shape(self, rank: int | None = None) -> tuple[int, ...]:
        """A shape of not too many elements."""
        sizes = [self.size() for _ in range(self.choice(RANKS) if rank is None else rank)]
        while np.prod(sizes, dtype=int) > self.kind.elements:
            sizes[sizes.index(max(sizes))] = self.choice((1, 2, 3, 17))
        return tuple(sizes)

    # what is made

    def feed(self, shape: Sequence[int], dtype: str) -> Value:
        """A new placeholder, a variable now and then where there is training, a constant where its sizes are known."""
        role = "placeholder"
        if self.kind.training and self.chance(0.5):
            role = "Variable"
        elif self.chance(0.1) and not self.open_sizes & set(shape):
            role = "constant"
        open_ = tuple(role == "placeholder" and n in self.open_sizes for n in shape)
        special = self.kind.special and self.chance(0.7)
        name = f"x{len(self.feeds)}"
        fed = Fed(name, dtype, tuple(shape), open_, special, self.choice(MEMORY), role)
        self.feeds.append(fed)
        closed = Fed(name, dtype, fed.shape, (False,) * len(fed.shape), special, role=role)
        self.declare(str(closed), str(fed))
        return self.keep(Value(name, self.names[name], fed.span))

    def keep(self, value: Value) -> Value:
        self.values.append(value)
        return value

    def make(self, text: str, span: Span | None = None) -> Value:
        """The value of an expression, under a new name.  `Refused` if it may not be declared or is too large."""
        name = f"t{len(self.lines)}"
        line = f"{name} = {text}"
        self.declare(line, line)
        tensor = self.names[name]
        if np.prod(tensor.shape.as_list(), dtype=int) > self.kind.elements:
            raise Refused(f"{line}: too large")
        self.lines.append(line)
        if span is not None and tensor.dtype.kind == "uint":
            span = united(span, whole_span(tensor.dtype.name))  # what would be negative is large
        fits = span is not None and span.fits(tensor.dtype.name)
        return self.keep(Value(name, tensor, span if fits else None))

    def run(self, line: str) -> None:
        """A line that makes an operation."""
        self.declare(line, line)
        self.lines.append(line)

    def declare(self, closed: str, as_fed: str) -> None:
        """Run a line in the graph of known sizes and in that of the user's sizes.  `Refused` if either refuses."""
        for graph, names, line in zip(self.graphs, (self.names, self.open_names), (closed, as_fed), strict=True):
            with graph.as_default():
                try:
                    exec(compile(line, "random program", "exec"), names)
                except tf.errors.InternalError:
                    raise
                except ValueError as refusal:
                    raise Refused(f"{line}: {refusal}") from refusal

    # what is taken

    def pick(self, kinds: str = "fib", exact: bool = False, rank: Sequence[int] = (0, 1, 2, 3, 4, 5, 6)) -> Value:
        """A value whose dtype is of a kind, the later the likelier; a new one where there is none."""
        found = [v for v in self.values if v.kind in kinds and (v.span or not exact) and v.ndim in rank]
        if not found or self.chance(0.08):
            return self.feed(
                self.shape(self.choice([r for r in RANKS if r in rank] or [rank[0]])),
                self.choice([d for d in DTYPES if ("i" if "int" in d else d[0]) in kinds]),
            )
        return self.choice(found[-3:] if self.chance(0.6) else found)

    def partner(self, x: Value) -> Value:
        """A value of x's dtype that broadcasts with it."""
        fits = [v for v in self.values if v.dtype == x.dtype and v.shape == x.shape and v is not x]
        if fits and self.chance(0.6):
            return self.choice(fits[-4:])
        if self.chance(0.2):
            return x
        shape = x.shape[self.number(0, x.ndim) :]
        return self.feed([1 if self.chance(0.25) else n for n in shape], x.dtype)


def require(holds: bool) -> None:
    """`Refused` where a step does not fit."""
    if not holds:
        raise Refused


def product(sizes: Sequence[int]) -> int:
    result = 1
    for n in sizes:
        result *= n
    return result


def shrunk(d: Drawing, x: Value) -> Value:
    """x, halved if it was rounded: a chain of sums and products stays small."""
    return d.make(f"{x.name} * 0.5", None) if x.kind == "f" and not x.span else x
