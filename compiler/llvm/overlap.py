"""Rows that are stored while the next one is computed (software pipelining; M. Lam, PLDI 1988): `emit_overlapped`.

    for i0 in n0:                                        for i0 in n0:
      sum = sum(r3 < 4096: b2[r3] := Exp(...))             sum = sum(r3 < 4096: b2[turn, r3] := Exp(...)), and beside it
      for i1 in 4096:                                        for i1 in 4096:
        b1[4096*i0 + i1] = b2[i1] / sum                        b1[4096*(i0 - 1) + i1] = b2[1 - turn, i1] / sum before
                                                         for i1 in 4096: ... of the last row

The stage that computes the most touches little memory, and stores that go past the caches compute little: one after the
other, each waits for what the other leaves idle.  What a row keeps alternates between two rows of the thread's memory.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir

from graphflow.compiler.llvm.bounds import decoded, first_whole
from graphflow.compiler.llvm.code import const
from graphflow.compiler.llvm.cut import Schedule
from graphflow.compiler.llvm.emit import store_all, value
from graphflow.compiler.llvm.lane_loop import emit_lanes, emit_masked
from graphflow.compiler.llvm.scope import TURN, Lanes, Scope, open_loop
from graphflow.compiler.llvm.values import element_type
from graphflow.compiler.loops.ir import Buffer, Expr, Kernel, Loop, Store
from graphflow.core.dim import Symbol

__all__ = ["emit_overlapped", "two_rows"]


def two_rows(scratch: tuple[Buffer, ...]) -> tuple[Buffer, ...]:
    """Scratch with room for what two rows keep."""
    return tuple(Buffer(one.dtype, 2 * one.size) for one in scratch)


def emit_overlapped(root: Scope, kernel: Kernel, schedule: Schedule, first: Any, stop: Any) -> None:
    """The rows from `first` to `stop`."""
    lane, stream, b = schedule.lane, schedule.stream, root.builder
    assert lane is not None
    assert stream is not None
    reductions = _read_by_stores(kernel, {loop.symbol for loop in schedule.rows})
    root.function.turns = {len(kernel.buffers) + n: one.size for n, one in enumerate(kernel.scratch)}
    nothing = [ir.Constant(element_type(e.dtype), None) for e in reductions]
    with open_loop(root, first, stop, 1, None, nothing) as loop:
        inner = loop.scope.builder
        earlier = inner.icmp_signed(">", loop.index, first)
        # Where there is none before, what a row's stores share is read all the same: that of a row that exists.
        before = inner.select(earlier, inner.sub(loop.index, const(1)), loop.index)
        row, previous = (_row(loop.scope, schedule, number) for number in (loop.index, before))
        previous.values.update(zip(reductions, loop.carried, strict=True))
        beside = _Stores(previous, list(kernel.stores), lane, stream, earlier)
        root.function.beside[schedule.beside] = beside.block
        loop.carry([value(e, row) for e in reductions])
        beside.rest()
    final = b.sub(stop, const(1))
    final = b.select(b.icmp_signed(">", final, first), final, first)
    with open_loop(root, final, stop, 1, None) as last:
        row = _row(last.scope, schedule, last.index)
        row.values.update(zip(reductions, loop.results, strict=True))
        emit_lanes(
            row, lambda s: store_all(s, list(kernel.stores)), lane, schedule.vectors, const(0), None, schedule.stream
        )


def _row(scope: Scope, schedule: Schedule, number: Any) -> Scope:
    """The scope of a row by its number; every other one keeps its values in the second half of scratch."""
    row = decoded(scope, schedule.rows, number)
    row.variables[TURN] = scope.builder.and_(number, const(1))
    return row


def _read_by_stores(kernel: Kernel, rows: set[Symbol]) -> list[Expr]:
    """The reductions of a row that its stores read themselves."""
    found: dict[Expr, None] = {}
    seen, stack = set(), [s.value for s in kernel.stores]
    while stack:
        e = stack.pop()
        if e in seen:
            continue
        seen.add(e)
        if e.kind != "reduce":
            stack.extend(e.args)
        elif rows & e.vars:
            found[e] = None
    return list(found)


class _Stores:
    """The stores of a row, block by block in the loop of the next row's stage, if there is an `earlier` row at all."""

    def __init__(self, row: Scope, stores: list[Store], lane: Loop, stream: Store, earlier: Any) -> None:
        self.row, self.lane, self.stream, self.earlier = row, lane, stream, earlier
        self.body: Callable[[Scope], None] = lambda scope: store_all(scope, stores)
        b, self.extent = row.builder, row.size(lane.extent)
        first = first_whole(row, stream, lane, const(0), self.extent)
        self.first = b.select(earlier, first, const(0))
        self.after = b.select(earlier, first, self.extent)  # where the blocks in the stage's loop end

    def block(self, stage: Scope) -> None:
        """As many vectors as the stage computes at once, from the first that is whole in memory."""
        lanes, b, before = stage.lanes, stage.builder, self.row.builder
        assert lanes is not None
        length = before.sub(self.extent, self.first)
        whole = before.sub(length, before.urem(length, const(lanes.width * lanes.vectors)))
        whole = before.select(self.earlier, whole, const(0))
        self.after = before.select(self.earlier, before.add(self.first, whole), self.extent)
        index = stage.variable(lanes.symbol)
        with b.if_then(b.icmp_signed("<", index, whole), likely=True):
            own = Lanes(self.lane.symbol, lanes.width, lanes.vectors, stream=self.stream.buffer)
            self.body(self.row.child(b, {self.lane.symbol: b.add(index, self.first)}, own))

    def rest(self) -> None:
        """What stands before and behind the blocks."""
        emit_masked(self.row, self.body, self.lane, const(0), self.first)
        emit_masked(self.row, self.body, self.lane, self.after, self.extent)
