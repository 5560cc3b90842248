"""Copies of A: a row panel in a worker's scratch, or all of A in the workspace, by a launch of its own.

A staged row panel is [rows][k] with padded rows, or [k][rows].
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from llvmlite import ir

from graphflow.compiler.llvm.code import (
    ELEMENTS,
    Code,
    add,
    at,
    const,
    dot,
    load,
    loop,
    maximum,
    minimum,
    mul,
    prefetch,
    sub,
    undefined,
)
from graphflow.compiler.llvm.contract.pack import flat_strides, nest, sizes

if TYPE_CHECKING:
    from graphflow.compiler.llvm.contract.plan import Plan

# Row panels whose rows lie side by side that are copied together, and how many steps of k before its use what they
# read is asked for: each step may be in a page of its own, where prefetchers that stay within pages are of no use.
STAGE_GROUP = 16
STAGE_AHEAD = 8


def emit_stage_rows(
    code: Code,
    plan: Plan,
    stage: ir.Value,
    row_source: Callable[[ir.Value], ir.Value],
    span: tuple[ir.Value, ir.Value],
) -> None:
    """Copy `plan.rows` rows, which start where `row_source` says, to the stage; of a single k axis only `span`."""
    b, element = code.b, ELEMENTS[plan.spec.dtype]
    *outer, inner = plan.k
    begin, end = (const(0), code.size(inner.extent)) if outer else span
    with loop(b, const(0), const(plan.rows)) as row:
        source = row_source(row)
        target = at(b, stage, mul(b, row, const(plan.stage_stride)), element)
        with nest(code, outer) as indices:
            offset = dot(b, indices, sizes(code, [axis.a for axis in outer]))
            place = dot(b, indices, sizes(code, flat_strides(plan.k)[:-1]))
            copy_run(code, plan, at(b, source, offset, element), at(b, target, place, element), (begin, end))


def copy_run(code: Code, plan: Plan, source: ir.Value, target: ir.Value, span: tuple[ir.Value, ir.Value]) -> None:
    """Copy a part of the innermost k axis of A to consecutive elements, by vectors where it is contiguous."""
    b, element, stride = code.b, ELEMENTS[plan.spec.dtype], plan.k[-1].a
    begin, end = span
    done = begin
    if stride == 1:
        done = sub(b, end, b.urem(sub(b, end, begin), const(plan.lanes)))
        with loop(b, begin, done, plan.lanes) as i:
            value = load(b, at(b, source, i, element), ir.VectorType(element, plan.lanes), plan.bytes)
            b.store(value, at(b, target, i, element), align=plan.bytes)
    with loop(b, done, end) as i:
        value = load(b, at(b, source, mul(b, i, code.size(stride)), element), element, plan.bytes)
        b.store(value, at(b, target, i, element), align=plan.bytes)


def emit_stage_columns(code: Code, plan: Plan, stage: ir.Value, source: ir.Value) -> None:
    """Copy `plan.rows` rows that lie side by side, k by k."""
    b, element = code.b, ELEMENTS[plan.spec.dtype]
    vector = ir.VectorType(element, plan.rows)
    with nest(code, plan.k) as indices:
        offset = dot(b, indices, sizes(code, [axis.a for axis in plan.k]))
        place = mul(b, dot(b, indices, sizes(code, flat_strides(plan.k))), const(plan.rows))
        value = load(b, at(b, source, offset, element), vector, plan.bytes)
        b.store(value, at(b, stage, place, element), align=plan.bytes)


def emit_stage_panel(
    code: Code,
    plan: Plan,
    stage: ir.Value,
    row_source: Callable[[ir.Value], ir.Value],
    span: tuple[ir.Value, ir.Value],
) -> None:
    """Copy `plan.rows` rows to [k][rows]: a vector of k at once, interleaved, and what is left element by element.

    Of a single k axis only `span`; the stage is where k = 0 is or would be.
    """
    b, element = code.b, ELEMENTS[plan.spec.dtype]
    vector = ir.VectorType(element, plan.lanes)
    *outer, inner = plan.k
    begin, end = (const(0), code.size(inner.extent)) if outer else span
    blocks = sub(b, end, b.urem(sub(b, end, begin), const(plan.lanes)))
    starts = [row_source(const(r)) for r in range(plan.rows)]
    with nest(code, outer) as indices:
        offset = dot(b, indices, sizes(code, [axis.a for axis in outer]))
        flat = dot(b, indices, sizes(code, flat_strides(plan.k)[:-1]))
        sources = [at(b, start, offset, element) for start in starts]
        target = at(b, stage, mul(b, flat, const(plan.rows)), element)
        with loop(b, begin, blocks, plan.lanes) as k:
            rows = [load(b, at(b, source, k, element), vector, plan.bytes) for source in sources]
            first = at(b, target, mul(b, k, const(plan.rows)), element)
            for i, mixed in enumerate(interleaved(b, rows)):
                b.store(mixed, at(b, first, const(i * plan.lanes), element), align=plan.bytes)
        with loop(b, blocks, end) as k:
            first = at(b, target, mul(b, k, const(plan.rows)), element)
            for i, source in enumerate(sources):
                value = load(b, at(b, source, k, element), element, plan.bytes)
                b.store(value, at(b, first, const(i), element), align=plan.bytes)


def emit_stage_beside(
    code: Code,
    plan: Plan,
    stage: ir.Value,
    source: ir.Value,
    panels: tuple[ir.Value, ir.Value],
    span: tuple[ir.Value, ir.Value],
) -> None:
    """Copy the row `panels` of a group (`STAGE_GROUP`) where k is one axis and rows lie side by side; of k only `span`.

    `source` is row 0 at k = 0, the stage that of the first panel; those of the others follow.  A whole group takes a
    step of k together: what its panels read of a page follows each other, and a line that two share is read once.
    """
    b, element, (first, end) = code.b, ELEMENTS[plan.spec.dtype], panels
    apart = mul(b, sub(b, span[1], span[0]), const(plan.rows))
    row = mul(b, first, const(plan.rows))
    group = Beside(code, plan, at(b, source, row, element), stage, sub(b, code.size(plan.row_count), row), apart)
    with b.if_else(group.has(STAGE_GROUP), likely=True) as (then, otherwise):
        with then:
            group.copy(STAGE_GROUP, span)
        with otherwise, loop(b, const(0), sub(b, end, first)) as number:
            panel = group.moved(number)
            with b.if_else(panel.has(1), likely=True) as (inside, last):
                with inside:
                    panel.copy(1, span)
                with last:
                    panel.copy_elements(span)


@dataclass(frozen=True)
class Beside:
    """Row panels of A whose rows lie side by side: where the first is, where its copy goes, how many rows are `left`.

    Copies of panels are `apart` elements apart.
    """

    code: Code
    plan: Plan
    source: ir.Value
    stage: ir.Value
    left: ir.Value
    apart: ir.Value

    @property
    def lanes(self) -> int:
        """What is copied of each panel at once: all rows, and on to a number of lanes that is one load and store."""
        return 1 << (self.plan.rows - 1).bit_length()

    def moved(self, number: ir.Value) -> Beside:
        """The panels from a later one on."""
        b, element = self.code.b, ELEMENTS[self.plan.spec.dtype]
        rows = mul(b, number, const(self.plan.rows))
        source, stage = at(b, self.source, rows, element), at(b, self.stage, mul(b, number, self.apart), element)
        return replace(self, source=source, stage=stage, left=sub(b, self.left, rows))

    def has(self, panels: int) -> ir.Value:
        """Whether so many panels can be copied: all that is read with their rows are rows too."""
        return self.code.b.icmp_signed(">=", self.left, const((panels - 1) * self.plan.rows + self.lanes))

    def copy(self, panels: int, span: tuple[ir.Value, ir.Value]) -> None:
        """So many panels; lanes beyond the rows of a step are where the next one goes, so that the last has none."""
        b, (begin, end) = self.code.b, span
        last = maximum(b, begin, sub(b, end, const(1)))
        self.copy_steps(panels, (begin, last), self.lanes)
        self.copy_steps(panels, (last, end), self.plan.rows)

    def copy_steps(self, panels: int, span: tuple[ir.Value, ir.Value], lanes: int) -> None:
        """Some steps of k of so many panels, so many lanes of each."""
        b, plan, element = self.code.b, self.plan, ELEMENTS[self.plan.spec.dtype]
        vector, stride = ir.VectorType(element, lanes), self.code.size(plan.k[0].a)
        lines = -(-panels * plan.rows * plan.bytes // 64) + 1  # wherever they begin
        with loop(b, *span) as k:
            source = at(b, self.source, mul(b, k, stride), element)
            stage = at(b, self.stage, mul(b, k, const(plan.rows)), element)
            for line in range(lines):
                ahead = add(b, mul(b, const(STAGE_AHEAD), stride), const(line * 64 // plan.bytes))
                prefetch(b, at(b, source, ahead, element))
            for panel in range(panels):
                value = load(b, at(b, source, const(panel * plan.rows), element), vector, plan.bytes)
                b.store(value, at(b, stage, mul(b, const(panel), self.apart), element), align=plan.bytes)

    def copy_elements(self, span: tuple[ir.Value, ir.Value]) -> None:
        """One panel element by element; rows that do not exist are those of the last one."""
        b, plan, element = self.code.b, self.plan, ELEMENTS[self.plan.spec.dtype]
        with loop(b, *span) as k:
            source = at(b, self.source, mul(b, k, self.code.size(plan.k[0].a)), element)
            stage = at(b, self.stage, mul(b, k, const(plan.rows)), element)
            for row in range(plan.rows):
                existing = minimum(b, const(row), sub(b, self.left, const(1)))
                value = load(b, at(b, source, existing, element), element, plan.bytes)
                b.store(value, at(b, stage, const(row), element), align=plan.bytes)


def interleaved(b: ir.IRBuilder, rows: list[ir.Value]) -> list[ir.Value]:
    """As many vectors as there are rows: the first lanes of all rows, then the second ones, and so on."""
    count, lanes = len(rows), rows[0].type.count
    mask_type = ir.VectorType(ir.IntType(32), lanes)
    results = []
    for vector in range(count):
        places = [divmod(vector * lanes + lane, count) for lane in range(lanes)]
        mixed = undefined(rows[0].type)
        for r in sorted({row for _, row in places}):
            mask = [lanes + k if row == r else lane for lane, (k, row) in enumerate(places)]
            mixed = b.shuffle_vector(mixed, rows[r], ir.Constant(mask_type, mask))
        results.append(mixed)
    return results
