"""The tile of few rows: B is read row after row as it lies in memory, once, and the sums wait in L1.

Arguments and results are those of tile.py.  A register tile walks down a narrow panel of B, a few lines of each
row, and memory is slow at that.  Here a turn takes `plan.sweep` rows of B over all columns of a wide tile: each vector
of sums is loaded, gets that many products and is stored.  So few rows are read at once that a processor's prefetchers
follow all of them.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace

from llvmlite import ir

from graphflow.compiler.llvm.code import (
    ELEMENTS,
    Code,
    SizeEmitter,
    add,
    at,
    const,
    first_lanes,
    load,
    loop,
    mul,
    part_function,
    sub,
    whole,
    zeros,
)
from graphflow.compiler.llvm.contract.plan import Plan
from graphflow.compiler.llvm.contract.tile import ARGUMENTS, Tile, row_offsets, step
from graphflow.compiler.llvm.target import Target

# The most vectors of sums of a row that registers hold at once.
VECTORS = 4


@dataclass
class Sweep:
    """A tile function being written: where the sums are, how many columns it has, where each row of A starts."""

    plan: Plan
    target: Target
    code: Code
    out: ir.Value
    columns: ir.Value
    offsets: list[ir.Value]

    @property
    def element(self) -> ir.Type:
        return ELEMENTS[self.plan.spec.dtype]

    @property
    def groups(self) -> list[range]:
        """The rows in groups of equal length, for each of which registers hold sums."""
        rows = len(self.offsets)
        number = -(-rows // (self.target.vector_registers // 4))
        bounds = [rows * i // number for i in range(number + 1)]
        return [range(first, last) for first, last in itertools.pairwise(bounds)]

    @property
    def vectors(self) -> int:
        """Vectors of sums of a row that registers hold beside a row of B."""
        rows = max(len(group) for group in self.groups)
        return max(1, min(VECTORS, (self.target.vector_registers - 2) // (rows + 1)))


@dataclass(frozen=True)
class Part:
    """What a turn of a loop over columns takes: so many vectors of so many lanes, from `lane` on."""

    lane: ir.Value
    vectors: int
    lanes: int
    mask: ir.Value | None = None


def emit_sweep_tile(
    module: ir.Module, name: str, plan: Plan, rows: int, size: SizeEmitter, target: Target
) -> ir.Function:
    """The tile function for `rows` rows, as tile.emit_tile."""
    with part_function(module, name, ARGUMENTS, size) as code:
        a, b, _, out, columns, count, begin, end, _ = code.function.args
        n = plan.spec.n.extent
        if isinstance(n, int) and n % plan.width == 0:
            columns = const(plan.width)
        sweep = Sweep(plan, target, code, out, columns, row_offsets(plan, code, rows, False, count))
        clear(sweep)
        done = begin
        for steps in (plan.sweep, 1):
            stop = add(code.b, begin, whole(code.b, sub(code.b, end, begin), steps))
            with loop(code.b, done, stop, steps) as k:
                places = moved(sweep, a, b, k)
                for part in column_parts(sweep):
                    for rows_ in sweep.groups:
                        turn(sweep, part, rows_, steps, places)
            done = stop
    return code.function


def moved(sweep: Sweep, a: ir.Value, b: ir.Value, steps: ir.Value) -> tuple[ir.Value, ir.Value]:
    """The addresses in A and B some steps of k further on."""
    code, axis = sweep.code, sweep.plan.tile_k[0]
    strides = code.size(axis.a), code.size(axis.b)
    first, second = (
        at(code.b, place, mul(code.b, steps, stride), sweep.element)
        for place, stride in zip((a, b), strides, strict=True)
    )
    return first, second


def clear(sweep: Sweep) -> None:
    """Zero sums."""
    plan, b = sweep.plan, sweep.code.b
    with loop(b, const(0), sweep.columns, plan.lanes) as lane:
        for r in range(len(sweep.offsets)):
            place = at(b, sweep.out, add(b, lane, const(r * plan.width)), sweep.element)
            b.store(zeros(ir.VectorType(sweep.element, plan.lanes)), place, align=plan.lanes * plan.bytes)


def column_parts(sweep: Sweep) -> Iterator[Part]:
    """Loops over the columns: several vectors at once, then one, then what is no whole vector."""
    plan, b = sweep.plan, sweep.code.b
    done: ir.Value = const(0)
    for vectors in sorted({sweep.vectors, 1}, reverse=True):
        stop = whole(b, sweep.columns, vectors * plan.lanes)
        with loop(b, done, stop, vectors * plan.lanes) as lane:
            yield Part(lane, vectors, plan.lanes)
        done = stop
    n = plan.spec.n.extent
    if isinstance(n, int) and n % plan.lanes == 0:
        return
    if sweep.target.vector_bits < 256:  # without masked loads
        with loop(b, done, sweep.columns) as lane:
            yield Part(lane, 1, 1)
        return
    left = sub(b, sweep.columns, done)
    with b.if_then(b.icmp_signed(">", left, const(0))):
        yield Part(done, 1, plan.lanes, first_lanes(b, left, plan.lanes))


def turn(sweep: Sweep, part: Part, rows: range, steps: int, places: tuple[ir.Value, ir.Value]) -> None:
    """Add `steps` steps of k to the sums of some columns of some rows."""
    plan, code, b = sweep.plan, sweep.code, sweep.code.b
    prefetches = [replace(x, width=part.vectors * part.lanes) for x in plan.prefetches if steps > 1 and 0 in rows]
    inner = replace(plan, vectors=part.vectors, lanes=part.lanes, prefetches=tuple(prefetches))
    vector = ir.VectorType(sweep.element, part.lanes)
    offsets = sweep.offsets[rows.start : rows.stop]
    tile = Tile(inner, code, sweep.element, vector, offsets, [part.mask] * part.vectors)
    sources = [
        at(b, sweep.out, add(b, part.lane, const(r * plan.width + v * part.lanes)), sweep.element)
        for r in rows
        for v in range(part.vectors)
    ]
    sums = [load(b, source, vector, part.lanes * plan.bytes) for source in sources]
    a, first = places[0], at(b, places[1], part.lane, sweep.element)
    for i in range(steps):
        sums = step(tile, *moved(sweep, a, first, const(i)), sums)
    for source, value in zip(sources, sums, strict=True):
        b.store(value, source, align=part.lanes * plan.bytes)
