"""Reductions as code: several accumulators, SIMD across the lanes of the surrounding loop or along the reduced axis.

A reduction whose body changes with the lanes keeps one accumulator a lane and loops plainly.  Any other is vectorised
along one of its own loops and combined by a fixed tree at the end, so its bits depend on sizes only.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from itertools import product as cartesian
from typing import Any

from llvmlite import ir

from graphflow.compiler.llvm.code import I32, add, const, first_lanes, maximum, minimum, splat, undefined
from graphflow.compiler.llvm.emit import guarded, is_wide, spread, value, values_of
from graphflow.compiler.llvm.jam import written_out
from graphflow.compiler.llvm.lanes import TurnGuard, turn_conditions
from graphflow.compiler.llvm.memory import fetch_ahead
from graphflow.compiler.llvm.reduction_law import Law, State
from graphflow.compiler.llvm.scope import Lanes, Scope, loop_variables, open_loop
from graphflow.compiler.llvm.side_by_side import joined
from graphflow.compiler.llvm.values import Values, element_type
from graphflow.compiler.loops.ir import Condition, Expr, Loop, expr, walk
from graphflow.core.dim import Dim, Size, atoms_of, coefficient, estimate, product
from graphflow.core.dtype import DType, int32
from graphflow.core.type import static
from graphflow.ops.view import ravel

UNROLLED = 25
"""A reduction of at most this many elements is written out."""


def reduction(e: Expr, scope: Scope) -> Any:
    """The value of a reduce expression: a scalar, or a list of vectors where it is wide."""
    kind, loops = e.data
    total = product(tuple(loop.extent for loop in loops))
    law = Law(kind, e.args[0].dtype, _counted(e, total))
    position = expr(
        "position", (), ravel(tuple(loop.var for loop in loops), tuple(loop.extent for loop in loops)), law.result
    )
    body, stops = trimmed(e, law, scope)
    task = Task(law, body, position, tuple(loops), stops, scope.function.ahead.get(e, ()), scope.function.beside.get(e))
    k = values_of(scope, law.result)
    if is_wide(e, scope):
        results = task.side_by_side(scope) if scope.function.side_by_side else task.across_lanes(scope)
        return [k.cast(x, e.dtype) for x in results]
    written_out = isinstance(total, int) and total <= 4
    return k.cast(task.plainly(scope) if written_out else task.along_axis(scope), e.dtype)


def _counted(e: Expr, total: Size) -> DType:
    """The dtype of a reduction's results on the way: positions are counted in 32 bits where that is enough."""
    short = e.data[0].startswith("arg") and isinstance(total, int) and total <= int32.max
    return int32 if short else e.dtype


Stops = dict[Loop, Any]  # loops that end early, and where: i64


def trimmed(e: Expr, law: Law, scope: Scope) -> tuple[Expr, Stops]:
    """The body of a reduction, and which of its loops may stop early so that it needs no guard around all of it.

    sum(r0 < 64: (b0[64*i0 + r0] if 0 <= 64*i0 + r0 < 1000 else 0))    r0 < min(64, 1000 - 64*i0): b0[64*i0 + r0]
    """
    body, loops = e.args[0], e.data[1]
    conditions = law.conditions(body)
    if not conditions:
        return body, {}
    b, stops = scope.builder, Stops()
    for c in conditions:
        own = [loop for loop in loops if loop.symbol in atoms_of(c.at)]
        if len(own) != 1 or own[0] in stops or not _cuts(c, own[0], scope):
            return body, {}
        extent = scope.size(own[0].extent)
        stop = scope.size(c.high - (c.at - own[0].var))
        stop = maximum(b, stop, const(0))  # a part behind the end has no turns
        stops[own[0]] = minimum(b, stop, extent)
    return body.args[0], stops


def _cuts(c: Condition, loop: Loop, scope: Scope) -> bool:
    """Whether a condition holds for the first turns of a loop, in all lanes alike, and for none after them."""
    if c.low is None or coefficient(c.at, loop.symbol) != 1:
        return False
    first = c.at - loop.var - c.low
    never_before = all(n >= 0 for _, n in first.terms) if isinstance(first, Dim) else first >= 0
    alike = scope.lanes is None or not scope.lanes.varies(loop_variables(c.at))
    return never_before and alike


@dataclass(frozen=True)
class Task:
    """One reduction to write."""

    law: Law
    body: Expr
    position: Expr
    loops: tuple[Loop, ...]
    stops: Stops
    ahead: tuple[Expr, ...] = ()
    beside: Callable[[Scope], None] | None = None
    in_order: bool = True  # whether elements come in the order of their positions, in each lane

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
        """All loops around one element; few turns are written out, and what turns of a jammed loop share."""
        count = product(tuple(loop.extent for loop in loops))
        if isinstance(count, int) and count == 0:
            return states
        if isinstance(count, int) and count <= UNROLLED and not self.stops:
            return self._each(scope, loops, states, wide)
        if scope.lanes is not None and scope.lanes.tile is not None and not self.stops:
            around = len(loops) - written_out(loops)
            return self._nest(scope, loops[:around], states, lambda s, x: self._each(s, loops[around:], x, wide))
        return self._nest(scope, loops, states, lambda inner, s: self._turn(inner, s, wide))

    def _each(self, scope: Scope, loops: list[Loop], states: list[State], wide: bool) -> list[State]:
        """All elements of known loops, written out."""
        for turn in cartesian(*(range(static(loop.extent)) for loop in loops)):
            fixed = {loop.symbol: const(n) for loop, n in zip(loops, turn, strict=True)}
            states = self._take(scope.child(scope.builder, fixed, scope.lanes), states, wide)
        return states

    def _turn(self, scope: Scope, states: list[State], wide: bool) -> list[State]:
        if wide:
            fetch_ahead(scope, self.ahead)
        return self._take(scope, states, wide)

    def _take(self, scope: Scope, states: list[State], wide: bool) -> list[State]:
        conditions = self.law.conditions(self.body)
        turns = turn_conditions(conditions, scope) if wide and conditions else None
        if turns is not None:
            return self._take_turns(scope, states, turns)
        k = values_of(scope, self.law.dtype)
        factors = _factors(self.law, self.body)
        if factors and k.has_fma:
            rows = zip(*(spread(f, scope) if wide else [value(f, scope)] for f in factors), strict=True)
            return [[k.fma(x, y, s[0])] for s, (x, y) in zip(states, rows, strict=True)]
        elements = self.element(scope, wide)
        return [self._with(k, s, x) for s, x in zip(states, elements, strict=True)]

    def _take_turns(self, scope: Scope, states: list[State], turns: TurnGuard) -> list[State]:
        """The states with an element each, of those vectors of a tile for which a guard around it holds."""
        inner = guarded(scope, turns, self.law.conditions(self.body))
        taken = replace(self, body=self.body.args[0])._take(inner, states, wide=True)
        masks = [splat(scope.builder, hold, x[0].type.count) for hold, x in zip(turns.hold, states, strict=True)]
        return [
            [scope.builder.select(mask, new, old) for new, old in zip(*both, strict=True)]
            for mask, *both in zip(masks, taken, states, strict=True)
        ]

    def _with(self, k: Values, state: State, element: State) -> State:
        return (self.law.take if self.in_order else self.law.join)(k, state, element)

    def _nest(
        self, scope: Scope, loops: list[Loop], states: list[State], inside: Callable[[Scope, list[State]], list[State]]
    ) -> list[State]:
        """for ... for ...: states = inside(states)"""
        if not loops:
            return inside(scope, states)
        flat = [x for s in states for x in s]
        width = len(states[0])
        stop = self._stop(scope, loops[0])
        with open_loop(scope, const(0), stop, 1, loops[0].symbol, flat, scope.lanes) as loop:
            carried = _grouped(loop.carried, width)
            loop.carry([x for s in self._nest(loop.scope, loops[1:], carried, inside) for x in s])
        return _grouped(loop.results, width)

    def _stop(self, scope: Scope, loop: Loop) -> Any:
        return self.stops[loop] if loop in self.stops else scope.size(loop.extent)

    # a row for each lane, each along itself

    def side_by_side(self, scope: Scope) -> list[Any]:
        """Rows of few vectors: each in a vector of its own, which then become one lane each."""
        lanes, k = scope.lanes, values_of(scope, self.law.dtype)
        assert lanes is not None
        results = []
        for vector in range(lanes.vectors):
            rows = [self._written_out(row) for row in self._rows(scope, vector)]
            results.append(joined(scope.builder, rows, partial(self.law.join, k))[-1])
        return results

    def _rows(self, scope: Scope, vector: int) -> list[Scope]:
        """The scopes of the rows that a vector's lanes are; the first again for lanes that are not there."""
        b, lanes = scope.builder, scope.lanes
        assert lanes is not None
        first = scope.variable(lanes.symbol)
        numbers = [add(b, first, const(vector * lanes.width + lane)) for lane in range(lanes.width)]
        if lanes.mask is not None:
            there = [b.extract_element(lanes.mask[vector], ir.Constant(I32, lane)) for lane in range(lanes.width)]
            numbers = [b.select(one, number, first) for one, number in zip(there, numbers, strict=True)]
        return [scope.child(b, {lanes.symbol: number}, None) for number in numbers]

    def _written_out(self, row: Scope) -> State:
        """One vector of a row, into which all of them went."""
        (along,) = self.loops
        width, count, k = row.function.width, static(along.extent), values_of(row, self.law.dtype)
        like, at_like = (ir.VectorType(element_type(d), width) for d in (self.law.dtype, self.law.result))
        state, left = self.law.start(k, like, at_like), count % width
        for start in range(0, count, width):
            vector = row.child(row.builder, {along.symbol: const(start)}, Lanes(along.symbol, width, 1))
            fetch_ahead(vector, self.ahead)
            if start + width <= count:
                (state,) = self._take(vector, [state], wide=True)
        return self._rest(row, along, left, count - left, width, [state])[0]

    # vectors along a reduced axis

    def along_axis(self, scope: Scope) -> Any:
        """One of the reduction's own loops is vectorised."""
        inner = self.loops[self._best_axis()]
        return replace(self, in_order=inner is self.loops[-1])._along(scope, inner)

    def _along(self, scope: Scope, inner: Loop) -> Any:
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
        if len(walk([self.body])) > 24:
            return 1
        most = 8 if not self.law.is_arg and len(walk([self.body])) <= 4 else 4
        while most > 1 and estimate(extent) < most * width:
            most //= 2
        return most

    def _sweep(self, scope: Scope, loop: Loop, width: int, states: list[State]) -> list[State]:
        """Whole blocks of vectors, then single vectors under a mask."""
        extent = self._stop(scope, loop)
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
                fetch_ahead(main.scope, self.ahead)
                main.carry([x for s in self._take(main.scope, _grouped(main.carried, length), True) for x in s])
                if self.beside is not None:
                    self.beside(main.scope)
            states = _grouped(main.results, length)
        if count is not None:
            return self._rest(scope, loop, count % block, count - count % block, width, states)
        with open_loop(scope, whole, extent, width, loop.symbol, states[0], None) as tail:
            masks = [first_lanes(tail.scope.builder, tail.scope.builder.sub(extent, tail.index), width)]
            tail.scope.lanes = Lanes(loop.symbol, width, 1, masks)
            tail.carry(self._take_masked(tail.scope, tail.carried, masks[0]))
        return [tail.results, *states[1:]]

    def _rest(self, scope: Scope, loop: Loop, left: int, start: int, width: int, states: list[State]) -> list[State]:
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
        return self._with(k, state, element)

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


def _factors(law: Law, body: Expr) -> tuple[Expr, ...]:
    """The factors of products that are summed; none where that is not what a reduction does."""
    if law.kind != "sum" or not law.dtype.is_floating or body.kind != "apply":
        return ()
    return {"Mul": body.args, "Square": body.args * 2}.get(body.data[0].name, ())


def _grouped(flat: list[Any], width: int) -> list[State]:
    return [flat[n : n + width] for n in range(0, len(flat), width)]
