"""Random programs as texts: `Program` is placeholders, a step a line, and what is fetched; `declare` runs the lines.

x0 = tf.placeholder(tf.float32, [None, 3])
t0 = tf.pad(x0, [[0, 2], [1, 0]])
t1 = tf.reduce_sum(t0, 0)
fetches = [t1]
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import ceil, log2
from typing import Any

import numpy as np

import graphflow as tf

__all__ = [
    "MACHINES", "MEMORY", "Fed", "Program", "Span", "added", "multiplied", "needed", "united", "whole_span",
]  # fmt: skip

Array = np.ndarray[Any, Any]

SPECIAL = (np.nan, np.inf, -np.inf, 0.0, -0.0, 1.0)
MACHINES = ("host", "host", "host avx2", "host sse2", "tight", "tight", "tight avx2", "tight sse2", *["some"] * 5)
"""What programs are compiled for (machines.py); as often as they stand here.  A number follows on "some"."""
MEMORY = ("end", "end", "end", "begin", "read-only", "unaligned", "every other", "Fortran", "reversed", "swapped")
"""Where feeds lie (memory.py)."""


@dataclass(frozen=True)
class Span:
    """Numbers of at most 2**high that are multiples of 2**low."""

    high: int
    low: int

    def fits(self, dtype: str) -> bool:
        """Whether sums and products that stay in this span are exact."""
        return self.high - self.low <= {"float32": 23, "float64": 52}.get(dtype, 1000)


def whole_span(dtype: str) -> Span:
    """What integers of a dtype are within."""
    return Span(np.iinfo(dtype).bits, 0)


def united(*spans: Span | None) -> Span | None:
    """The span of numbers each of which is in one of these."""
    known = [s for s in spans if s is not None]
    if len(known) < len(spans):
        return None
    return Span(max(s.high for s in known), min(s.low for s in known))


def added(span: Span | None, terms: int) -> Span | None:
    """The span of sums of so many."""
    return None if span is None else Span(span.high + ceil(log2(max(terms, 1))), span.low)


def multiplied(a: Span | None, b: Span | None) -> Span | None:
    return None if a is None or b is None else Span(a.high + b.high, a.low + b.low)


@dataclass(frozen=True)
class Fed:
    """A placeholder, a variable and its initial value, or a constant: what it holds is a function of this."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    open: tuple[bool, ...]
    special: bool = False
    memory: str = "end"
    role: str = "placeholder"  # or "Variable", "constant"

    def __str__(self) -> str:
        if self.role != "placeholder":
            return f'{self.name} = tf.{self.role}(values("{self.name}"))'
        sizes = [None if o else n for n, o in zip(self.shape, self.open, strict=True)]
        return f"{self.name} = tf.placeholder(tf.{self.dtype}, {sizes})"

    def values(self, shape: Sequence[int] | None = None) -> Array:
        """Small multiples of 1/4 (small integers, truth values), with NaN and infinities (the least and the largest)
        among them where `special`."""
        shape = self.shape if shape is None else shape
        rng = np.random.default_rng([ord(c) for c in self.name])
        if self.dtype == "bool":
            return np.asarray(rng.random(shape) < 0.5)
        if "int" in self.dtype:
            x = np.asarray(rng.integers(0 if self.dtype.startswith("u") else -9, 10, shape)).astype(self.dtype)
            ends = np.array([np.iinfo(self.dtype).min, np.iinfo(self.dtype).max], self.dtype)
            return np.where(rng.random(shape) < 0.1, rng.choice(ends, shape), x) if self.special else x
        x = np.asarray(rng.integers(-8, 9, shape) / 4)
        if self.special:
            x = np.where(rng.random(shape) < 0.1, rng.choice(SPECIAL, shape), x)
        return np.asarray(x, self.dtype)

    @property
    def span(self) -> Span:
        """What its values are within."""
        if "int" in self.dtype:
            return whole_span(self.dtype) if self.special else Span(4, 0)
        return Span(0, 0) if self.dtype == "bool" else Span(1, -2)


@dataclass(frozen=True)
class Program:
    """Placeholders and variables, lines of Python over them, the names that are fetched and those that are exact."""

    feeds: tuple[Fed, ...]
    lines: tuple[str, ...]
    fetches: tuple[str, ...]
    exact: frozenset[str]
    machine: str = "host"  # one of MACHINES
    between: tuple[str, ...] = ()  # what is fed too, in another run

    def __str__(self) -> str:
        memory = "".join(f"# {f.name}: {f.dtype}{list(f.shape)}, {f.memory}\n" for f in self.feeds)
        cut = f", with {', '.join(self.between)} fed" if self.between else ""
        return memory + "\n".join(self.text()) + f"\nfetches = [{', '.join(self.fetches)}]  # on {self.machine}{cut}\n"

    def text(self) -> list[str]:
        """The lines that declare it."""
        return [*map(str, self.feeds), *self.lines]

    @property
    def placeholders(self) -> list[Fed]:
        return [f for f in self.feeds if f.role == "placeholder"]

    @property
    def updates(self) -> bool:
        """Whether it changes variables."""
        return any(f.startswith("u") for f in self.fetches)

    @property
    def differentiates(self) -> bool:
        """Whether there are derivatives in it."""
        return any("tf.gradients" in line or "tf.train" in line for line in self.lines)

    def declare(self) -> tuple[list[Any], list[Any], list[Any]]:
        """Declare all of it in the default graph; returns the placeholders, what is fetched, and what is between."""
        given = {f.name: f for f in self.feeds}
        names: dict[str, Any] = {"tf": tf, "np": np, "values": lambda name: given[name].values()}
        for line in self.text():
            exec(compile(line, "random program", "exec"), names)
        return (
            [names[f.name] for f in self.placeholders],
            [names[f] for f in self.fetches],
            [names[n] for n in self.between],
        )


def needed(program: Program) -> Program:
    """Without lines and placeholders that no fetch needs."""
    wanted = set(program.fetches)
    lines: list[str] = []
    for line in reversed(program.lines):
        left, right = line.split(" = ", 1)
        if wanted & set(left.split(", ")):
            wanted |= names_in(right)
            lines.append(line)
    feeds = tuple(f for f in program.feeds if f.name in wanted)
    kept = {line.split(" = ", 1)[0] for line in lines}
    between = tuple(n for n in program.between if n in kept)
    return replace(program, feeds=feeds, lines=tuple(reversed(lines)), between=between)


def names_in(text: str) -> set[str]:
    """The names of values in an expression."""
    return set(re.findall(r"\b[a-z]\d+\b", text))
