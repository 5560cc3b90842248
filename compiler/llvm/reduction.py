"""Reductions as code: several accumulators, SIMD across the lanes of the surrounding loop or along the reduced axis.

A reduction whose body changes with the lanes keeps one accumulator a lane and loops plainly.  Any other is vectorised
along one of its own loops and combined by a fixed tree at the end, so its bits depend on sizes only.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product as cartesian
from typing import Any

from llvmlite import ir

from graphflow.compiler.llvm.contract_ir import I32, const, first_lanes, undefined
from graphflow.compiler.llvm.emit import is_wide, spread, value, values_of
from graphflow.compiler.llvm.scope import Lanes, Scope, open_loop
from graphflow.compiler.llvm.values import Values, element_type
from graphflow.compiler.loops.ir import Expr, Loop, expr, walk
from graphflow.core.dim import Size, coefficient, estimate, product
from graphflow.core.dtype import DType, bool_
from graphflow.core.type import static
from graphflow.ops.view import ravel

UNROLLED = 16
"""A reduction of at most this many elements is written out."""

State = list[Any]
"""Running values: one for a plain reduction, (value, position) for argmax and argmin; each scalar or vector."""


@dataclass(frozen=True)
class Law:
    """How a kind of reduction starts, takes in an element at a position, and joins two partial results."""

    kind: str
    dtype: DType
    result: DType

    @property
    def is_arg(self) -> bool:
        return self.kind.startswith("arg")

    def neutral(self, k: Values, like: Any) -> Any:
        """The element that changes nothing."""
        infinite = self.dtype.is_floating
        lowest = float("-inf") if infinite else 0 if self.dtype is bool_ else int(self.dtype.min)
        highest = float("inf") if infinite else 1 if self.dtype is bool_ else int(self.dtype.max)
        numbers = {
            "sum": 0,
            "any": 0,
            "prod": 1,
            "all": 1,
            "max": lowest,
            "argmax": lowest,
            "min": highest,
            "argmin": highest,
        }
        return k.constant(like, numbers[self.kind])

    def start(self, k: Values, like: Any, at_like: Any) -> State:
        """The state before any element."""
        first = self.neutral(k, like)
        return [first, k.constant(at_like, 0)] if self.is_arg else [first]

    def join(self, k: Values, x: State, y: State) -> State:
        """Two partial results as one; of equal extremes the earlier position wins."""
        if self.is_arg:
            return self._join_arg(k, x, y)
        combine: dict[str, Callable[[Any, Any], Any]] = {
            "sum": k.add,
            "prod": k.mul,
            "max": k.maximum,
            "min": k.minimum,
            "any": k.bit_or,
            "all": k.bit_and,
        }
        return [combine[self.kind](x[0], y[0])]

    def _join_arg(self, k: Values, x: State, y: State) -> State:
        """NaN beats everything, the first NaN all later ones."""
        b = k.builder
        better = k.compare(">" if self.kind == "argmax" else "<", y[0], x[0])
        same = k.compare("==", y[0], x[0])
        if self.dtype.is_floating:
            x_nan, y_nan = k.is_nan(x[0]), k.is_nan(y[0])
            better = b.or_(better, b.and_(y_nan, b.not_(x_nan)))
            same = b.or_(same, b.and_(y_nan, x_nan))
        earlier = b.icmp_signed("<", y[1], x[1])
        takes = b.or_(better, b.and_(same, earlier))
        return [b.select(takes, y[0], x[0]), b.select(takes, y[1], x[1])]


def reduction(e: Expr, scope: Scope) -> Any:
    """The value of a reduce expression: a scalar, or a list of vectors where it is wide."""
    kind, loops = e.data
    law = Law(kind, e.args[0].dtype, e.dtype)
    position = expr(
        "position", (), ravel(tuple(loop.var for loop in loops), tuple(loop.extent for loop in loops)), e.dtype
    )
    task = Task(law, e.args[0], position, tuple(loops))
    if is_wide(e, scope):
        return task.across_lanes(scope)
    total = product(tuple(loop.extent for loop in loops))
    if isinstance(total, int) and total <= 4:
        return task.plainly(scope)
    return task.along_axis(scope)


@dataclass(frozen=True)
class Task:
    """One reduction to write."""

    law: Law
    body: Expr
    position: Expr
    loops: tuple[Loop, ...]

    def element(self, scope: Scope, wide: bool) -> list[State]:
        """The state that one element (or one vector of them, for each of the vectors) is."""
        both = (self.body, self.position) if self.law.is_arg else (self.body,)
        if not wide:
            return [[value(e, scope) for e in both]]
        return [list(s) for s in zip(*(spread(e, scope) for e in both), strict=True)]

    # accumulators that the surrounding lanes own

    def across_lanes(self, scope: Scope) -> list[Any]:
        """One accumulator a lane."""
        assert scope.lanes is not None
        k = values_of(scope, self.law.dtype)
        like = ir.VectorType(element_type(self.law.dtype), scope.lanes.width)
        at_like = ir.VectorType(element_type(self.law.result), scope.lanes.width)
        start = [self.law.start(k, like, at_like) for _ in range(scope.lanes.vectors)]
        states = self._run(scope, list(self.loops), start, wide=True)
        return [s[-1] for s in states]

    def plainly(self, scope: Scope) -> Any:
        """Scalars, one after the other."""
        bare = scope.child(scope.builder, {}, None)
        k = values_of(scope, self.law.dtype)
        start = [self.law.start(k, element_type(self.law.dtype), element_type(self.law.result))]
        return self._run(bare, list(self.loops), start, wide=False)[0][-1]

    def _run(self, scope: Scope, loops: list[Loop], states: list[State], wide: bool) -> list[State]:
        """All loops around one element; few turns are written out."""
        count = product(tuple(loop.extent for loop in loops))
        if isinstance(count, int) and count == 0:
            return states
        if isinstance(count, int) and count <= UNROLLED:
            for turn in cartesian(*(range(static(loop.extent)) for loop in loops)):
                fixed = {loop.symbol: const(n) for loop, n in zip(loops, turn, strict=True)}
                states = self._take(scope.child(scope.builder, fixed, scope.lanes), states, wide)
            return states
        return self._nest(scope, loops, states, lambda inner, s: self._take(inner, s, wide))

    def _take(self, scope: Scope, states: list[State], wide: bool) -> list[State]:
        elements = self.element(scope, wide)
        k = values_of(scope, self.law.dtype)
        return [self.law.join(k, s, x) for s, x in zip(states, elements, strict=True)]

    def _nest(
        self, scope: Scope, loops: list[Loop], states: list[State], inside: Callable[[Scope, list[State]], list[State]]
    ) -> list[State]:
        """for ... for ...: states = inside(states)"""
        if not loops:
            return inside(scope, states)
        flat = [x for s in states for x in s]
        width = len(states[0])
        with open_loop(scope, const(0), scope.size(loops[0].extent), 1, loops[0].symbol, flat, scope.lanes) as loop:
            carried = _grouped(loop.carried, width)
            loop.carry([x for s in self._nest(loop.scope, loops[1:], carried, inside) for x in s])
        return _grouped(loop.results, width)

    # vectors along a reduced axis

    def along_axis(self, scope: Scope) -> Any:
        """One of the reduction's own loops is vectorised."""
        inner = self.loops[self._best_axis()]
        outer = [loop for loop in self.loops if loop is not inner]
        width = scope.function.width
        vectors = self._vectors(inner.extent, width)
        k = values_of(scope, self.law.dtype)
        like = ir.VectorType(element_type(self.law.dtype), width)
        at_like = ir.VectorType(element_type(self.law.result), width)
        start = [self.law.start(k, like, at_like) for _ in range(vectors)]
        states = self._nest(scope, outer, start, lambda s, states: self._sweep(s, inner, width, states))
        k = values_of(scope, self.law.dtype)
        while len(states) > 1:
            half = len(states) // 2
            states = [self.law.join(k, states[n], states[n + half]) for n in range(half)]
        return self._horizontal(k, states[0], width)[-1]

    def _best_axis(self) -> int:
        """The loop along which most loads are contiguous; the last of equals."""
        indices = [e.data[1] for e in walk([self.body]) if e.kind == "load"]
        scores = [sum(coefficient(i, loop.symbol) == 1 for i in indices) for loop in self.loops]
        long = [estimate(loop.extent) > 1 for loop in self.loops]
        return max(range(len(self.loops)), key=lambda n: (long[n], scores[n], n))

    def _vectors(self, extent: Size, width: int) -> int:
        """Vectors at once: twice as many as hide an addition's latency, so that loads run ahead of the sums."""
        if self.law.is_arg or len(walk([self.body])) > 24:
            return 1
        most = 8 if len(walk([self.body])) <= 4 else 4
        while most > 1 and estimate(extent) < most * width:
            most //= 2
        return most

    def _sweep(self, scope: Scope, loop: Loop, width: int, states: list[State]) -> list[State]:
        """Whole blocks of vectors, then single vectors under a mask."""
        extent = scope.size(loop.extent)
        block = width * len(states)
        count = extent.constant if isinstance(extent, ir.Constant) else None
        whole = (
            const(count - count % block)
            if count is not None
            else scope.builder.sub(extent, scope.builder.urem(extent, const(block)))
        )
        length = len(states[0])
        if count is None or count >= block:
            lanes = Lanes(loop.symbol, width, len(states))
            with open_loop(scope, const(0), whole, block, loop.symbol, [x for s in states for x in s], lanes) as main:
                main.carry([x for s in self._take(main.scope, _grouped(main.carried, length), True) for x in s])
            states = _grouped(main.results, length)
        if count is not None:
            return self._rest(scope, loop, count % block, count - count % block, width, states)
        with open_loop(scope, whole, extent, width, loop.symbol, states[0], None) as tail:
            masks = [first_lanes(tail.scope.builder, tail.scope.builder.sub(extent, tail.index), width)]
            tail.scope.lanes = Lanes(loop.symbol, width, 1, masks)
            tail.carry(self._take_masked(tail.scope, tail.carried, masks[0]))
        return [tail.results, *states[1:]]

    def _rest(
        self, scope: Scope, loop: Loop, left: int, start: int, width: int, states: list[State]
    ) -> list[State]:
        """What is left over of a known extent, a vector for each accumulator: whole ones, and the last under a mask."""
        b, full = scope.builder, left // width
        before, after = states[:full], states[full:]
        if before:
            whole = scope.child(b, {loop.symbol: const(start)}, Lanes(loop.symbol, width, full))
            before = self._take(whole, before, True)
        if left % width:
            mask = first_lanes(b, const(left % width), width)
            last = {loop.symbol: const(start + full * width)}
            after[0] = self._take_masked(scope.child(b, last, Lanes(loop.symbol, width, 1, [mask])), after[0], mask)
        return [*before, *after]

    def _take_masked(self, scope: Scope, state: State, mask: Any) -> State:
        element = self.element(scope, True)[0]
        k = values_of(scope, self.law.dtype)
        element[0] = scope.builder.select(mask, element[0], self.law.neutral(k, element[0].type))
        if self.law.is_arg:
            far = k.constant(element[1].type, (1 << (element[1].type.element.width - 1)) - 1)
            element[1] = scope.builder.select(mask, element[1], far)
        return self.law.join(k, state, element)

    def _horizontal(self, k: Values, state: State, width: int) -> State:
        """All lanes of a vector as one, halving it."""
        b = k.builder
        while width > 1:
            width //= 2
            low = ir.Constant(ir.VectorType(I32, width), list(range(width)))
            high = ir.Constant(ir.VectorType(I32, width), list(range(width, 2 * width)))
            halves = [[b.shuffle_vector(x, undefined(x.type), m) for x in state] for m in (low, high)]
            state = self.law.join(k, halves[0], halves[1])
        return [b.extract_element(x, ir.Constant(I32, 0)) for x in state]


def _grouped(flat: list[Any], width: int) -> list[State]:
    return [flat[n : n + width] for n in range(0, len(flat), width)]
