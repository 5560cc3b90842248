"""Copies of A: a row panel in a worker's scratch, or all of A in the workspace, by a launch of its own.

A staged row panel is [rows][k] with padded rows, or [k][rows].
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from llvmlite import ir

from graphflow.compiler.llvm.code import ELEMENTS, Code, at, const, dot, load, loop, mul, sub, undefined
from graphflow.compiler.llvm.contract.pack import flat_strides, nest, sizes

if TYPE_CHECKING:
    from graphflow.compiler.llvm.contract.plan import Plan


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
    row_source: Callable[[ir.Value], ir.Value],
    whole: ir.Value,
    span: tuple[ir.Value, ir.Value],
) -> None:
    """The same where k is one axis and rows lie side by side: all rows of a step at once, if all exist (`whole`)."""
    b, element, axis = code.b, ELEMENTS[plan.spec.dtype], plan.k[0]
    vector = ir.VectorType(element, plan.rows)
    starts = [row_source(const(r)) for r in range(plan.rows)]
    with loop(b, *span) as k:
        offset, target = mul(b, k, code.size(axis.a)), at(b, stage, mul(b, k, const(plan.rows)), element)
        with b.if_else(whole, likely=True) as (then, otherwise):
            with then:
                value = load(b, at(b, starts[0], offset, element), vector, plan.bytes)
                b.store(value, target, align=plan.bytes)
            with otherwise:
                for i, start in enumerate(starts):
                    single = load(b, at(b, start, offset, element), element, plan.bytes)
                    b.store(single, at(b, target, const(i), element), align=plan.bytes)


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
