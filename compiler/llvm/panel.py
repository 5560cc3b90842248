"""Reductions across rows for a panel of lanes at once, whose totals stay in the thread's memory.

    for i1 in 1000: b1[i1] = sum(r0 < n0: b0[1000*r0 + i1])

    totals = 0                              for r0 in n0, ROWS at a time:
                                              for the panel's lanes: totals += b0[row r0] + b0[row r0 + 1] + ...

A panel's piece of a row is long enough for the processor to fetch ahead; the totals stay in L1 meanwhile.  With totals
in registers the code would take one or two cache lines of each row, and wait for every one of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from llvmlite import ir

from graphflow.compiler.llvm.contract_ir import const
from graphflow.compiler.llvm.emit import spread, values_of
from graphflow.compiler.llvm.memory import Totals, fetch_ahead
from graphflow.compiler.llvm.panel_choose import along
from graphflow.compiler.llvm.reduction import Stops, trimmed
from graphflow.compiler.llvm.reduction_law import Law
from graphflow.compiler.llvm.scope import Scope, open_loop
from graphflow.compiler.llvm.values import Values, element_type
from graphflow.compiler.loops.ir import Expr, Loop, expr
from graphflow.core.dim import Symbol

__all__ = ["ROWS", "add_totals"]

ROWS = 4
"""Rows at once: each total is loaded and stored once for all of them."""

AHEAD = 8
"""The processor fetches along rows; so many of them ahead, the code does, since every row begins anew."""

Body = Callable[[Scope], None]
Lanewise = Callable[[Scope, Body], None]  # a loop around a body, over the lanes of the panel


def add_totals(scope: Scope, stage: Mapping[Expr, Totals], lanewise: Lanewise) -> None:
    """Compute the reductions of a stage for the lanes of a panel; from now on their values there are loaded from their
    totals."""
    first = next(iter(stage))
    loops, sums, stops = first.data[1], [], Stops()
    for e, totals in stage.items():
        law = Law(e.data[0], e.args[0].dtype, e.dtype)
        same = expr("reduce", (along(e, loops),), (e.data[0], loops), e.dtype)
        body, stops = trimmed(same, law, scope)
        sums.append(_Sum(body, law, totals))
    _Panel(sums, stops, lanewise).run(scope, list(loops))
    scope.function.totals.update(stage)


@dataclass(frozen=True)
class _Sum:
    """A reduction, which may be no sum."""

    body: Expr
    law: Law
    totals: Totals

    def clear(self, scope: Scope) -> None:
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

    def _join(self, k: Values, xs: list[Any], ys: list[Any]) -> list[Any]:
        return [self.law.join(k, [x], [y])[0] for x, y in zip(xs, ys, strict=True)]


@dataclass(frozen=True)
class _Panel:
    sums: list[_Sum]
    stops: Stops
    lanewise: Lanewise

    def run(self, scope: Scope, loops: list[Loop]) -> None:
        self.lanewise(scope, self._clear)
        self._nest(scope, loops)

    def _clear(self, scope: Scope) -> None:
        for one in self.sums:
            one.clear(scope)

    def _nest(self, scope: Scope, loops: list[Loop]) -> None:
        """All loops of the reductions, of the last one ROWS turns at once."""
        symbol, extent = loops[0].symbol, self.stops.get(loops[0]) or scope.size(loops[0].extent)
        if len(loops) > 1:
            with open_loop(scope, const(0), extent, 1, symbol) as outer:
                self._nest(outer.scope, loops[1:])
            return
        whole = scope.builder.sub(extent, scope.builder.urem(extent, const(ROWS)))
        for first, stop, step in ((const(0), whole, ROWS), (whole, extent, 1)):
            with open_loop(scope, first, stop, step, None) as rows:
                turns = [{symbol: rows.scope.builder.add(rows.index, const(n))} for n in range(step)]
                self.lanewise(rows.scope, partial(self._take, turns))

    def _take(self, turns: list[dict[Symbol, Any]], scope: Scope) -> None:
        b = scope.builder
        if len(turns) == ROWS:
            for turn in turns:
                later = {symbol: b.add(row, const(AHEAD)) for symbol, row in turn.items()}
                fetch_ahead(scope.child(b, later, scope.lanes), [one.body for one in self.sums])
        scopes = [scope.child(b, turn, scope.lanes) for turn in turns]
        for one in self.sums:
            one.take(scopes, scope)
