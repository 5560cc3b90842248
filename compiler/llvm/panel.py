"""Reductions across rows for a panel of lanes at once, whose totals stay in the thread's memory.

    for i1 in 1000: b1[i1] = sum(r0 < n0: b0[1000*r0 + i1])

    totals = 0                              for r0 in n0, some rows at a time:
                                              for the panel's lanes: totals += b0[row r0] + b0[row r0 + 1] + ...

A panel's piece of a row is long enough for the processor to fetch ahead; the totals stay in L1 meanwhile.  With totals
in registers the code would take one or two cache lines of each row, and wait for every one of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from graphflow.compiler.llvm.code import const, mul
from graphflow.compiler.llvm.memory import fetch_ahead
from graphflow.compiler.llvm.panel_choose import Turns
from graphflow.compiler.llvm.panel_totals import Exponentials, PanelTotals, Totals, totals_of
from graphflow.compiler.llvm.reduction import Stops
from graphflow.compiler.llvm.scope import Scope, open_loop
from graphflow.compiler.loops.ir import Expr, Loop
from graphflow.core.dim import Symbol

__all__ = ["add_totals"]

Body = Callable[[Scope], None]
Lanewise = Callable[[Scope, Body], None]  # a loop around a body, over the lanes of the panel


def add_totals(scope: Scope, stage: Mapping[Expr, Totals], lanewise: Lanewise, start: Any, turns: Turns) -> None:
    """Compute the reductions of a stage for the lanes of a panel from `start` on; from now on their values there are
    loaded from their totals."""
    sums, stops = totals_of(scope, stage, turns.rows)
    _Panel(sums, stops, lanewise, start, turns).run(scope, list(next(iter(stage)).data[1]))
    scope.function.totals.update(stage)


@dataclass(frozen=True)
class _Panel:
    sums: list[PanelTotals | Exponentials]
    stops: Stops
    lanewise: Lanewise
    start: Any
    turns: Turns

    def run(self, scope: Scope, loops: list[Loop]) -> None:
        self.lanewise(scope, self._clear)
        self._nest(scope, loops)
        self.lanewise(scope, self._finish)

    def _clear(self, scope: Scope) -> None:
        for one in self.sums:
            one.clear(scope)

    def _finish(self, scope: Scope) -> None:
        for one in self.sums:
            one.finish(scope)

    def _nest(self, scope: Scope, loops: list[Loop]) -> None:
        """All loops of the reductions, of the last one some turns at once."""
        symbol, extent = loops[0].symbol, self.stops.get(loops[0]) or scope.size(loops[0].extent)
        if len(loops) > 1:
            with open_loop(scope, const(0), extent, 1, symbol) as outer:
                self._nest(outer.scope, loops[1:])
            return
        rows_at_once = max(one.rows for one in self.sums)
        whole = scope.builder.sub(extent, scope.builder.urem(extent, const(rows_at_once)))
        for first, stop, step in ((const(0), whole, rows_at_once), (whole, extent, 1)):
            with open_loop(scope, first, stop, step, None) as rows:
                turns = [{symbol: rows.scope.builder.add(rows.index, const(n))} for n in range(step)]
                self.lanewise(rows.scope, partial(self._take, turns))

    def _take(self, turns: list[dict[Symbol, Any]], scope: Scope) -> None:
        if len(turns) > 1 and self.turns.ahead:
            for later in self._later(turns, scope):
                there = scope.child(scope.builder, later, scope.lanes)
                fetch_ahead(there, [body for one in self.sums for body in one.bodies])
        scopes = [scope.child(scope.builder, turn, scope.lanes) for turn in turns]
        for one in self.sums:
            one.take(scopes, scope)

    def _later(self, turns: list[dict[Symbol, Any]], scope: Scope) -> list[dict[Symbol, Any]]:
        """What to fetch while some rows are taken, as much as they are: places in rows further on."""
        b, lanes = scope.builder, scope.lanes
        assert lanes is not None
        ahead = const(max(self.turns.ahead, len(turns)))
        rows = [{symbol: b.add(row, ahead) for symbol, row in turn.items()} for turn in turns]
        if not self.turns.in_order:
            return rows
        done = mul(b, b.sub(scope.variable(lanes.symbol), self.start), const(len(turns)))
        first, block = b.add(self.start, done), lanes.vectors * lanes.width
        return [{**rows[0], lanes.symbol: b.add(first, const(n * block))} for n in range(len(turns))]
