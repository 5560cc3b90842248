"""What happens to finished tiles: their vectors go to the epilogue, or to the workspace if k is split.

    void finish(ptr args, ptr dims, ptr values, i64 batch, outer, start, first, last, lane, columns, split)

handles rows [first, last) of the tile at `values`, whose row r is row `start + r` of run `outer` and whose first column
is `lane`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from llvmlite import ir

from graphflow.compiler.llvm.code import (
    ELEMENTS,
    I64,
    PTR,
    Code,
    SizeEmitter,
    add,
    at,
    const,
    divmod_,
    loop,
    mul,
    part_function,
    plus,
    unravel,
    zeros,
)
from graphflow.compiler.llvm.contract.contraction import PIECE
from graphflow.compiler.llvm.contract.pack import sizes
from graphflow.core.dim import Size

if TYPE_CHECKING:
    from graphflow.compiler.llvm.contract.plan import Plan

PACKED, WORKSPACE, FREE_ARGUMENTS = 2, 3, 4
"""Which arguments of a launch are packed B and the workspace, and where the epilogue's own start."""

NUMBERS = ("batch", "outer", "start", "first", "last", "lane", "columns", "split")
ARGUMENTS = (("args", PTR), ("dims", PTR), ("values", PTR), *((name, I64) for name in NUMBERS))


@dataclass(frozen=True)
class EpiloguePoint:
    """One vector of finished sums: elements `lane` ... of row `index` of C.

    `row` is `index` as one row-major number over all batch and m axes: where C is dense, `value` belongs at element
    `row * n + lane`.  `count` is the number of valid lanes, None for all of them.  `entry` writes to the function's
    entry block: load pointers and sizes there, once, since LLVM may not move loads across the stores of the loop.
    `streams`: whether it goes past the caches.  `asks`: there are no sums yet; memory is asked for what will be read.
    """

    entry: ir.IRBuilder
    args: ir.Value
    dims: ir.Value
    index: tuple[ir.Value, ...]
    row: ir.Value
    lane: ir.Value
    value: ir.Value
    count: ir.Value | None
    streams: bool = False
    asks: bool = False


Epilogue = Callable[[ir.IRBuilder, EpiloguePoint], None]


def emit_finish(
    module: ir.Module,
    name: str,
    plan: Plan,
    size: SizeEmitter,
    epilogue: Epilogue,
    partial_start: Size,
    *,
    asks: bool = False,
) -> ir.Function:
    """The function `finish`; partial results lie `partial_start` bytes into the workspace.

    With `asks` the one to call some time before, which asks memory for what `finish` will read.
    """
    with part_function(module, name, ARGUMENTS, size) as code:
        args, _, values, batch, outer, start, first, last, lane, columns, split = code.function.args
        b, finisher = code.b, Finisher(code, plan, args, epilogue, partial_start)
        batch_index = unravel(b, batch, sizes(code, [axis.extent for axis in plan.batch]))
        extents = [sizes(code, group.parts) for group in plan.groups]
        flat_extents = [x for group in extents for x in group]
        outer_index = unravel(b, outer, flat_extents[: len(flat_extents) - len(extents[-1])])
        first_flat = mul(b, batch, code.size(plan.row_count))
        if not plan.gathered:
            first_flat = add(b, first_flat, mul(b, outer, code.size(plan.run.extent)))

        def finish_row(row: ir.Value, streams: bool) -> None:
            source = at(b, values, mul(b, row, const(plan.width)), finisher.element)
            number = add(b, start, row)
            flat = add(b, first_flat, number)
            if plan.splits > 1:
                return finisher.store_partial(split, flat, lane, columns, source)
            index = unravel(b, number, flat_extents if plan.gathered else extents[-1])
            index = index if plan.gathered else (*outer_index, *index)
            index = (*batch_index, *index)
            if asks:
                return finisher.finish(index, flat, lane, columns, lambda v: zeros(finisher.vector), asks=True)
            return finisher.finish(index, flat, lane, columns, finisher.reader(source), streams)

        for streams in [False] if asks else ways_to_store(code, plan, args):
            with loop(b, first, last) as row:
                finish_row(row, streams)
    return code.function


def ways_to_store(code: Code, plan: Plan, args: ir.Value) -> Iterator[bool]:
    """Whether to store past the caches: for each answer that is possible write the code; one of them runs."""
    number = plan.spec.streams
    if number is None or plan.splits > 1:
        yield False
        return
    place = code.entry.ptrtoint(argument(code, args, number), I64)
    whole = code.entry.icmp_unsigned("==", code.entry.and_(place, const(PIECE - 1)), const(0))
    with code.b.if_else(whole, likely=True) as (then, otherwise):
        with then:
            yield True
        with otherwise:
            yield False


class Finisher:
    """Writes the code that takes rows of results further."""

    def __init__(self, code: Code, plan: Plan, args: ir.Value, epilogue: Epilogue, partial_start: Size):
        self.code, self.plan, self.args, self.epilogue = code, plan, args, epilogue
        self.partial_start = partial_start
        self.element = ELEMENTS[plan.spec.dtype]
        self.vector = ir.VectorType(self.element, plan.lanes)

    def reader(self, values: ir.Value) -> Callable[[ir.Value], ir.Value]:
        """What gives vector v of a row of a tile."""
        b, plan = self.code.b, self.plan

        def read(v: ir.Value) -> ir.Value:
            address = at(b, values, mul(b, v, const(plan.lanes)), self.element)
            return b.load(address, typ=self.vector, align=plan.lanes * plan.bytes)

        return read

    def finish(
        self,
        index: tuple[ir.Value, ...],
        row: ir.Value,
        lane: ir.Value,
        columns: ir.Value,
        value: Callable[[ir.Value], ir.Value],
        streams: bool = False,
        asks: bool = False,
    ) -> None:
        """Call the epilogue for the vectors of a row: once in the code for whole ones, once for a partial one."""
        code, plan, b, n = self.code, self.plan, self.code.b, self.plan.spec.n.extent
        whole, left = divmod_(b, columns, const(plan.lanes))

        def hand_on(v: ir.Value, count: ir.Value | None) -> None:
            place = add(b, lane, mul(b, v, const(plan.lanes)))
            point = EpiloguePoint(code.entry, self.args, code.dims, index, row, place, value(v), count, streams, asks)
            self.epilogue(b, point)

        if not isinstance(n, int) or n >= plan.lanes:
            with loop(b, const(0), whole) as v:
                hand_on(v, None)
        if not isinstance(n, int) or n % plan.lanes:
            with b.if_then(b.icmp_signed(">", left, const(0))):
                hand_on(whole, left)

    def partial(self, split: ir.Value, row: ir.Value, lane: ir.Value) -> ir.Value:
        """Where a partial result is in the workspace."""
        code, plan, b = self.code, self.plan, self.code.b
        rows = code.size(plan.batch_count * plan.row_count)
        offset = add(b, mul(b, split, rows), row)
        offset = add(b, mul(b, offset, code.size(plan.partial_columns)), lane)
        workspace = at(b, argument(code, self.args, WORKSPACE), code.size(self.partial_start), ir.IntType(8))
        return at(b, workspace, offset, self.element)

    def store_partial(
        self, split: ir.Value, row: ir.Value, lane: ir.Value, columns: ir.Value, values: ir.Value
    ) -> None:
        """Copy a row of a tile to the workspace, where rows have room for whole vectors."""
        b, plan = self.code.b, self.plan
        target = self.partial(split, row, lane)
        with loop(b, const(0), columns, plan.lanes) as i:
            value = b.load(at(b, values, i, self.element), typ=self.vector, align=plan.lanes * plan.bytes)
            b.store(value, at(b, target, i, self.element), align=plan.bytes)

    def finish_sums(self, row: ir.Value) -> None:
        """Add a row's partial results and give them to the epilogue."""
        code, plan, b = self.code, self.plan, self.code.b
        parts = [*(axis.extent for axis in plan.batch), *(part for group in plan.groups for part in group.parts)]
        index = unravel(b, row, sizes(code, parts))

        def value(v: ir.Value) -> ir.Value:
            return self.sum_partials(row, mul(b, v, const(plan.lanes)))

        self.finish(index, row, const(0), code.size(plan.spec.n.extent), value)

    def sum_partials(self, row: ir.Value, lane: ir.Value) -> ir.Value:
        """The sum of one vector over all splits, in their order."""
        plan, b = self.plan, self.code.b
        before, body, after = b.block, b.append_basic_block("sum"), b.append_basic_block("sum.end")
        b.branch(body)
        b.position_at_end(body)
        split, total = b.phi(I64), b.phi(self.vector)
        split.add_incoming(const(0), before)
        total.add_incoming(zeros(self.vector), before)
        value = b.load(self.partial(split, row, lane), typ=self.vector, align=plan.bytes)
        summed = plus(b, total, value)
        following = add(b, split, const(1))
        split.add_incoming(following, body)
        total.add_incoming(summed, body)
        b.cbranch(b.icmp_signed("<", following, const(plan.splits)), body, after)
        b.position_at_end(after)
        return summed


def argument(code: Code, args: ir.Value, number: int) -> ir.Value:
    """A pointer of `args`, loaded in the entry block."""
    return code.entry.load(code.entry.gep(args, [const(number)], source_etype=PTR), typ=PTR)
