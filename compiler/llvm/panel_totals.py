"""The totals of a panel, and what they take in: some rows of a reduction, or of a maximum and the sum of exponentials
beside it.

    m = max(r0 < n0: b0[1000*r0 + i1]);  s = sum(r0 < n0: Exp(Sub(b0[1000*r0 + i1], f(m))))

need no second pass over the rows: the sum is shifted by the maximum so far instead of f(m), and whenever that grows by
some rows, it is multiplied by exp(old - new) (M. Milakov, N. Gimelshein: Online normalizer calculation for softmax,
2018), which is jumped over while no lane's maximum does; by exp(m - f(m)) after all rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from llvmlite import ir

from graphflow.compiler.llvm.code import at, const
from graphflow.compiler.llvm.emit import spread, values_of
from graphflow.compiler.llvm.memory import from_memory, to_memory
from graphflow.compiler.llvm.panel_choose import along, maximum_beside, shift_of, shifted_by
from graphflow.compiler.llvm.reduction import Stops, trimmed
from graphflow.compiler.llvm.reduction_law import Law
from graphflow.compiler.llvm.scope import Scope
from graphflow.compiler.llvm.values import Values, element_type, memory_type
from graphflow.compiler.loops.ir import Expr, expr
from graphflow.core.dtype import DType

__all__ = ["Exponentials", "PanelTotals", "Totals", "totals_of"]

EXPONENTIALS_ROWS = 8
"""Rows at once: each time that the maximum grows costs an exponential."""


@dataclass(frozen=True)
class Totals:
    """An element for each lane of a panel, in the thread's memory; `start` is the panel's first lane.

    There is room for one block of vectors more: elements of lanes that are not there may be touched.
    """

    pointer: Any
    start: Any
    dtype: DType

    def load(self, scope: Scope) -> list[Any]:
        """The elements of a vectorised scope's lanes."""
        return [
            from_memory(scope.builder, scope.builder.load(p, typ=kind, align=self.dtype.size), self.dtype)
            for p, kind in self._vectors(scope)
        ]

    def store(self, scope: Scope, xs: list[Any]) -> None:
        """Set them."""
        for (p, _), x in zip(self._vectors(scope), xs, strict=True):
            scope.builder.store(to_memory(scope.builder, x, self.dtype), p, align=self.dtype.size)

    def _vectors(self, scope: Scope) -> list[tuple[Any, Any]]:
        assert scope.lanes is not None
        b, lanes, element = scope.builder, scope.lanes, memory_type(self.dtype)
        first = at(b, self.pointer, b.sub(scope.variable(lanes.symbol), self.start), element)
        kind = ir.VectorType(element, lanes.width)
        return [(at(b, first, const(n * lanes.width), element), kind) for n in range(lanes.vectors)]


def totals_of(scope: Scope, stage: Mapping[Expr, Totals], rows: int) -> tuple[list[PanelTotals | Exponentials], Stops]:
    """The reductions of a stage over the loops of its first one, so many rows at once, and which of these may stop
    early."""
    loops, found, stops = next(iter(stage)).data[1], dict[Expr, PanelTotals | Exponentials](), Stops()
    for e, totals in stage.items():
        law = Law(e.data[0], e.args[0].dtype, e.dtype)
        same = expr("reduce", (along(e, loops),), (e.data[0], loops), e.dtype)
        body, stops = trimmed(same, law, scope)
        top = maximum_beside(e, list(stage))
        if top is None:
            found[e] = PanelTotals(body, law, totals, rows)
        else:
            found[top] = beside(found[top], top, PanelTotals(body, law, totals, rows))
    return list(found.values()), stops


def beside(maximum: PanelTotals | Exponentials, e: Expr, total: PanelTotals) -> Exponentials:
    """A maximum, which is e, with one more sum of exponentials beside it."""
    shifted = shift_of(total.body)
    assert shifted is not None
    one = replace(total, body=shifted_by(total.body, e)), shifted[1]
    if isinstance(maximum, Exponentials):
        return replace(maximum, sums=(*maximum.sums, one))
    return Exponentials(e, maximum, (one,))


@dataclass(frozen=True)
class PanelTotals:
    """Those of one reduction, which takes in so many rows at once."""

    body: Expr
    law: Law
    totals: Totals
    rows: int

    @property
    def bodies(self) -> tuple[Expr, ...]:
        """What is computed of each row."""
        return (self.body,)

    def clear(self, scope: Scope) -> None:
        """Before any row."""
        assert scope.lanes is not None
        like = ir.VectorType(element_type(self.law.dtype), scope.lanes.width)
        neutral = self.law.neutral(values_of(scope, self.law.dtype), like)
        self.totals.store(scope, [neutral] * scope.lanes.vectors)

    def take(self, turns: list[Scope], scope: Scope) -> None:
        """Join the elements of some rows, and then the totals with them."""
        k = values_of(scope, self.law.dtype)
        rows = [spread(self.body, turn) for turn in turns]
        while len(rows) > 1:
            half = len(rows) // 2
            rows = [self._join(k, rows[n], rows[n + half]) for n in range(half)]
        self.totals.store(scope, self._join(k, self.totals.load(scope), rows[0]))

    def finish(self, scope: Scope) -> None:
        """After all rows."""

    def _join(self, k: Values, xs: list[Any], ys: list[Any]) -> list[Any]:
        return [self.law.join(k, [x], [y])[0] for x, y in zip(xs, ys, strict=True)]


@dataclass(frozen=True)
class Exponentials:
    """Those of a maximum and of sums of exponentials, which are shifted by the maximum so far, each with its own shift.

    While the maximum is infinite, the shift is the smallest or largest number instead, so that no sum gets lost.
    """

    maximum: Expr
    top: PanelTotals
    sums: tuple[tuple[PanelTotals, Expr], ...]

    @property
    def rows(self) -> int:
        return EXPONENTIALS_ROWS

    @property
    def bodies(self) -> tuple[Expr, ...]:
        return (self.top.body, *(one.body for one, _ in self.sums))

    def clear(self, scope: Scope) -> None:
        for one in (self.top, *(one for one, _ in self.sums)):
            one.clear(scope)

    def take(self, turns: list[Scope], scope: Scope) -> None:
        before = self._shifts(scope)
        self.top.take(turns, scope)
        after = self._shifts(scope)
        self._let_maximum_be(after, scope)
        for one, _ in self.sums:
            self._shift(scope, one, before, after)
            one.take(turns, scope)

    def finish(self, scope: Scope) -> None:
        """From the maximum, as far as it is finite, to each sum's own shift."""
        before = self._shifts(scope)
        self._let_maximum_be(self.top.totals.load(scope), scope)
        for one, shift in self.sums:
            self._shift(scope, one, before, spread(shift, scope))

    def _let_maximum_be(self, values: list[Any], scope: Scope) -> None:
        """What is computed of the maximum in this scope is computed of these values."""
        scope.home(self.maximum.vars, self.maximum.loads, wide=True).values[self.maximum] = values

    def _shifts(self, scope: Scope) -> list[Any]:
        dtype = self.top.law.dtype
        k, lowest, highest = values_of(scope, dtype), dtype.min.item(), dtype.max.item()
        return [k.minimum(k.maximum(x, lowest), highest) for x in self.top.totals.load(scope)]

    def _shift(self, scope: Scope, one: PanelTotals, before: list[Any], after: list[Any]) -> None:
        """A sum that was shifted by `before` as one that is shifted by `after`, jumped over where all are the same."""
        k = values_of(scope, one.law.dtype)
        sums = [
            k.where_rare(k.compare("!=", x, y), s, lambda s=s, x=x, y=y: k.mul(s, k.exp(k.sub(x, y))))
            for s, x, y in zip(one.totals.load(scope), before, after, strict=True)
        ]
        one.totals.store(scope, sums)
