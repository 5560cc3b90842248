"""Copies of B that a tile reads faster, by a launch of their own; what copies of A share with them.

Packed B is [batch][column panel][k][width]: what a tile reads lies in a row.  Lanes beyond n hold anything.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
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
    dot,
    first_lanes,
    load,
    loop,
    masked_load,
    minimum,
    mul,
    part_function,
    sub,
    unravel,
)
from graphflow.core.dim import Size, ceildiv, product

if TYPE_CHECKING:
    from graphflow.compiler.llvm.contract.contraction import Axis
    from graphflow.compiler.llvm.contract.plan import Plan


# Side of the square blocks that are transposed in registers; 16 was measured no faster and compiles slowly.
TRANSPOSE_MOST = 8

COLUMN_ARGUMENTS = (("source", PTR), ("target", PTR), ("lane", I64), ("begin", I64), ("end", I64), ("dims", PTR))


@contextmanager
def nest(code: Code, axes: Sequence[Axis], first: tuple[ir.Value, ir.Value] | None = None) -> Iterator[list[ir.Value]]:
    """Loops over all axes, the last one innermost; `first` limits the range of the outermost."""
    with ExitStack() as stack:
        indices = []
        for i, axis in enumerate(axes):
            start, stop = first if first and i == 0 else (const(0), code.size(axis.extent))
            indices.append(stack.enter_context(loop(code.b, start, stop)))
        yield indices


def flat_strides(axes: Sequence[Axis]) -> list[Size]:
    """Row-major strides of the axes' extents."""
    return [product(tuple(axis.extent for axis in axes[i + 1 :])) for i in range(len(axes))]


def sizes(code: Code, values: Sequence[Size]) -> list[ir.Value]:
    """The value of each size."""
    return [code.size(value) for value in values]


def chunk(code: Code, extent: Size, parts: int, part: ir.Value, step: int = 1) -> tuple[ir.Value, ir.Value]:
    """[begin, end) of one of `parts` equal parts of an extent, each but the last a multiple of `step` long.

    The last ones may be short or empty.
    """
    length, total = code.size(ceildiv(extent, parts * step) * step), code.size(extent)
    begin = minimum(code.b, mul(code.b, part, length), total)
    return begin, minimum(code.b, add(code.b, begin, length), total)


def emit_columns(module: ir.Module, name: str, plan: Plan, size: SizeEmitter) -> ir.Function:
    """The function `columns` that packs some columns of B one by one or by square blocks.

    void columns(ptr source, ptr target, i64 lane, i64 begin, i64 end, ptr dims)
    """
    with part_function(module, name, COLUMN_ARGUMENTS, size) as code:
        source, target, lane, begin, end, _ = code.function.args
        Packer(code, plan, source, target, lane, (begin, end), block_columns(plan)).emit()
    return code.function


def emit_panel(module: ir.Module, name: str, plan: Plan, size: SizeEmitter, wide_masks: bool) -> ir.Function:
    """The function `panel` that packs a whole column panel; its arguments are those of `columns`."""
    with part_function(module, name, COLUMN_ARGUMENTS, size) as code:
        source, target, lane, *span, _ = code.function.args
        ends = (span[0], span[1])
        if copies_panels(plan, wide_masks):
            Packer(code, plan, source, target, lane, ends, plan.lanes).copy_panel()
            return code.function
        width, element = block_columns(plan), ELEMENTS[plan.spec.dtype]
        with loop(code.b, const(0), const(plan.width), width) as start:
            place = at(code.b, target, start, element)
            Packer(code, plan, source, place, add(code.b, lane, start), ends, width).emit()
    return code.function


def block_columns(plan: Plan) -> int:
    """How many columns one call of `columns` packs."""
    return plan.lanes if plan.spec.n.b == 1 else min(plan.lanes, TRANSPOSE_MOST)


def copies_panels(plan: Plan, wide_masks: bool) -> bool:
    """Whether packing B is copying vectors, masked ones at most."""
    return plan.spec.n.b == 1 and (wide_masks or plan.whole_columns)


def emit_pack(
    code: Code, plan: Plan, unit: ir.Value, source: ir.Value, target: ir.Value, columns: ir.Function | None
) -> None:
    """One unit of packing: one column panel, for one batch index and a part of the outermost k axis."""
    b, element = code.b, ELEMENTS[plan.spec.dtype]
    moving = [axis for axis in plan.batch if axis.b != 0]
    extents = [code.size(plan.packed_batch), code.size(plan.column_panels), const(plan.pack_splits)]
    batch, panel, part = unravel(b, unit, extents)
    indices = unravel(b, batch, sizes(code, [axis.extent for axis in moving]))
    offset = add(b, dot(b, indices, sizes(code, [axis.b for axis in moving])), code.size(plan.spec.b_offset))
    source = at(b, source, offset, element)
    place = add(b, mul(b, batch, code.size(plan.column_panels)), panel)
    target = at(b, target, mul(b, place, code.size(plan.depth * plan.width)), element)
    span = chunk(code, plan.k[0].extent, plan.pack_splits, part)
    lane = mul(b, panel, const(plan.width))
    if columns is None:
        return Packer(code, plan, source, target, lane, span, plan.lanes).copy_panel()
    with loop(b, const(0), const(plan.width), block_columns(plan)) as start:
        b.call(columns, [source, at(b, target, start, element), add(b, lane, start), *span, code.dims])
    return None


class Packer:
    """Packs `lanes` columns, the first one `lane`, for all k of a span."""

    def __init__(
        self,
        code: Code,
        plan: Plan,
        source: ir.Value,
        target: ir.Value,
        lane: ir.Value,
        span: tuple[ir.Value, ir.Value],
        lanes: int,
    ):
        self.code, self.plan, self.source, self.target = code, plan, source, target
        self.lane, self.span, self.lanes = lane, span, lanes
        self.element = ELEMENTS[plan.spec.dtype]
        self.vector = ir.VectorType(self.element, lanes)

    def copy_panel(self) -> None:
        """Columns lie side by side: all vectors of the panel for each k, masked unless all lanes exist."""
        b, plan, whole = self.code.b, self.plan, self.plan.whole_columns
        left = sub(b, self.code.size(plan.spec.n.extent), self.lane)
        starts = [const(v * plan.lanes) for v in range(plan.vectors)]
        masks = [None if whole else first_lanes(b, sub(b, left, start), plan.lanes) for start in starts]
        source, target = at(b, self.source, self.lane, self.element), self.target
        with nest(self.code, plan.k, self.span) as indices:
            address = at(b, source, self.k_offset(indices), self.element)
            for start, mask in zip(starts, masks, strict=True):
                self.target = at(b, target, start, self.element)
                self.copy_one(at(b, address, start, self.element), mask, self.flat(indices))

    def copy_one(self, address: ir.Value, mask: ir.Value | None, flat: ir.Value) -> None:
        """One vector."""
        b, plan = self.code.b, self.plan
        if mask is None:
            value = load(b, address, self.vector, plan.bytes)
        else:
            value = masked_load(b, address, self.vector, mask, plan.bytes)
        self.put(value, flat)

    def emit(self) -> None:
        """All k, element by element unless all columns exist and lie well."""
        plan, b = self.plan, self.code.b
        n = plan.spec.n
        quick = self.copy if n.b == 1 else self.transpose if plan.k[-1].b == 1 else self.gather
        if quick == self.gather or plan.whole_columns:
            return quick()
        left = sub(b, self.code.size(n.extent), self.lane)
        with b.if_else(b.icmp_signed(">=", left, const(self.lanes))) as (whole, partial):
            with whole:
                quick()
            with partial:
                self.gather()
        return None

    def copy(self) -> None:
        """Columns lie side by side: a vector for each k."""
        b, plan = self.code.b, self.plan
        source = at(b, self.source, self.lane, self.element)
        with nest(self.code, plan.k, self.span) as indices:
            self.copy_one(at(b, source, self.k_offset(indices), self.element), None, self.flat(indices))

    def gather(self) -> None:
        """Any strides: element by element."""
        with nest(self.code, self.plan.k, self.span) as indices:
            self.gather_one(indices)

    def transpose(self) -> None:
        """k lies side by side: square blocks turned in registers, what is left element by element."""
        code, b, plan = self.code, self.code.b, self.plan
        stride = code.size(plan.spec.n.b)
        source = at(b, self.source, mul(b, self.lane, stride), self.element)
        *outer, inner = plan.k
        span = None if outer else self.span
        with nest(code, outer, self.span) as indices:
            begin, end = span or (const(0), code.size(inner.extent))
            blocks = b.sub(end, b.urem(sub(b, end, begin), const(self.lanes)))
            with loop(b, begin, blocks, self.lanes) as k:
                first = at(b, source, self.k_offset([*indices, k]), self.element)
                places = [at(b, first, mul(b, const(i), stride), self.element) for i in range(self.lanes)]
                rows = [load(b, place, self.vector, plan.bytes) for place in places]
                target = mul(b, self.flat([*indices, k]), const(plan.width))
                target = at(b, self.target, target, self.element)
                for i, column in enumerate(transposed(b, rows)):
                    b.store(column, at(b, target, const(i * plan.width), self.element), align=plan.bytes)
            with loop(b, blocks, end) as k:
                self.gather_one([*indices, k])

    def gather_one(self, indices: list[ir.Value]) -> None:
        """One k, lane by lane."""
        b, plan = self.code.b, self.plan
        source = at(b, self.source, self.k_offset(indices), self.element)
        target = at(b, self.target, mul(b, self.flat(indices), const(plan.width)), self.element)
        with loop(b, const(0), const(self.lanes)) as i:
            value = load(b, at(b, source, self.column_offset(i), self.element), self.element, plan.bytes)
            b.store(value, at(b, target, i, self.element), align=plan.bytes)

    def column_offset(self, i: ir.Value) -> ir.Value:
        """Where the column of lane i starts in B; a lane beyond n reads the last column again."""
        b, n = self.code.b, self.plan.spec.n
        column = minimum(b, add(b, self.lane, i), self.code.size(n.extent - 1))
        return mul(b, column, self.code.size(n.b))

    def k_offset(self, indices: list[ir.Value]) -> ir.Value:
        return dot(self.code.b, indices, sizes(self.code, [axis.b for axis in self.plan.k]))

    def flat(self, indices: list[ir.Value]) -> ir.Value:
        return dot(self.code.b, indices, sizes(self.code, flat_strides(self.plan.k)))

    def put(self, value: ir.Value, flat: ir.Value) -> None:
        b, plan = self.code.b, self.plan
        b.store(value, at(b, self.target, mul(b, flat, const(plan.width)), self.element), align=plan.bytes)


def transposed(b: ir.IRBuilder, rows: list[ir.Value]) -> list[ir.Value]:
    """The columns of a square of vectors: log2(n) rounds that swap ever smaller blocks across the diagonal."""
    n = len(rows)
    mask_type = ir.VectorType(ir.IntType(32), n)
    distance = n // 2
    while distance:
        low = [c if not c & distance else n + c - distance for c in range(n)]
        high = [c + distance if not c & distance else n + c for c in range(n)]
        rows = list(rows)
        for i in range(n):
            if not i & distance:
                x, y = rows[i], rows[i + distance]
                rows[i] = b.shuffle_vector(x, y, ir.Constant(mask_type, low))
                rows[i + distance] = b.shuffle_vector(x, y, ir.Constant(mask_type, high))
        distance //= 2
    return rows
