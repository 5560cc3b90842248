"""The tile of dot products: where k lies side by side in A and in B, lanes run along k and nothing needs packing.

Arguments and results are those of tile.py.  Rows of A and columns of B meet in blocks; each pair of a block has a
vector of partial sums (several, where a block is small: additions take four cycles), whose lanes are added at the end.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from llvmlite import ir

from graphflow.compiler.llvm.code import (
    ELEMENTS,
    I32,
    Code,
    SizeEmitter,
    add,
    at,
    const,
    first_lanes,
    load,
    loop,
    masked_load,
    minimum,
    mul,
    multiply_add,
    part_function,
    plus,
    prefetch,
    sub,
    whole,
    zeros,
)
from graphflow.compiler.llvm.contract.k_loops import Sums, sum_over
from graphflow.compiler.llvm.contract.plan import Plan
from graphflow.compiler.llvm.contract.tile import ARGUMENTS, row_offsets


@dataclass
class Block:
    """Rows times columns: offsets of each in elements, and how many vectors of k are in flight."""

    plan: Plan
    code: Code
    rows: list[ir.Value]
    columns: list[ir.Value]
    unroll: int
    masks: bool

    @property
    def vector(self) -> ir.VectorType:
        return ir.VectorType(ELEMENTS[self.plan.spec.dtype], self.plan.lanes)


def emit_dot_tile(
    module: ir.Module, name: str, plan: Plan, rows: int, clamped: bool, size: SizeEmitter, masks: bool
) -> ir.Function:
    """The tile function for `rows` rows, as tile.emit_tile; `masks`: whether the target has masked loads."""
    with part_function(module, name, ARGUMENTS, size) as code:
        a, b, _, out, columns, count, begin, end, _ = code.function.args
        element, build = ELEMENTS[plan.spec.dtype], code.b
        offsets = row_offsets(plan, code, rows, clamped, count)
        a = at(build, a, mul(build, begin, code.size(plan.tile_k[0].a)), element)
        b = at(build, b, mul(build, begin, code.size(plan.tile_k[0].b)), element)
        last, stride = sub(build, columns, const(1)), code.size(plan.spec.n.b)
        with loop(build, const(0), columns, plan.dots) as first:
            # Columns beyond the last are the last one again.
            numbers = [minimum(build, add(build, first, const(c)), last) for c in range(plan.dots)]
            places = [mul(build, number, stride) for number in numbers]
            unroll = max(1, min(8, 8 // (rows * plan.dots)))
            block = Block(plan, code, offsets, places, unroll, masks)
            for r, value in enumerate(block_sums(block, a, b, sub(build, end, begin))):
                place = at(build, out, add(build, first, const(r * plan.width)), element)
                build.store(after_earlier(plan, code, place, begin, value), place, align=plan.bytes)
    return code.function


def after_earlier(plan: Plan, code: Code, place: ir.Value, begin: ir.Value, value: ir.Value) -> ir.Value:
    """The sums of a block of k, with those that earlier blocks left at `place`."""
    if plan.k_blocks == 1:
        return value
    build = code.b
    earlier = load(build, place, value.type, plan.bytes)
    first = build.icmp_signed("==", begin, const(0))
    return plus(build, value, build.select(first, zeros(value.type), earlier))


def block_sums(block: Block, a: ir.Value, b: ir.Value, count: ir.Value) -> list[ir.Value]:
    """For each row a vector of its sums with each column."""
    plan, code = block.plan, block.code
    pairs = len(block.rows) * len(block.columns)
    start = [zeros(block.vector)] * (pairs * block.unroll)
    *outer, inner = plan.tile_k

    def along(a: ir.Value, b: ir.Value, sums: Sums) -> Sums:
        return along_k(block, code.size(inner.extent) if outer else count, a, b, sums)

    sums = sum_over(code, block.vector.element, tuple(outer), count, (a, b), start, along)
    while len(sums) > pairs:
        half = len(sums) // 2
        sums = [plus(code.b, x, y) for x, y in zip(sums[:half], sums[half:], strict=True)]
    n = len(block.columns)
    return [across(code.b, sums[r * n : (r + 1) * n]) for r in range(len(block.rows))]


def along_k(block: Block, count: ir.Value, a: ir.Value, b: ir.Value, sums: Sums) -> Sums:
    """`sums` plus `count` products of each pair: whole vectors, `unroll` at once and then one by one, and the rest."""
    build, lanes = block.code.b, block.plan.lanes
    done: ir.Value = const(0)
    for unroll in sorted({block.unroll, 1}, reverse=True):
        stop = whole(build, count, lanes * unroll)

        def body(i: ir.Value, sums: Sums, unroll: int = unroll) -> Sums:
            for u in range(unroll):
                sums = products(block, add(build, i, const(u * lanes)), a, b, sums, u, None)
            return sums

        sums, done = folded(build, done, stop, lanes * unroll, sums, body), stop
    if isinstance(count, ir.Constant) and count.constant % lanes == 0:
        return sums
    if block.masks:
        mask = first_lanes(build, sub(build, count, done), lanes)
        return products(block, done, a, b, sums, 0, mask)
    return folded(build, done, count, 1, sums, lambda i, sums: products(block, i, a, b, sums, 0, "first"))


def products(
    block: Block, i: ir.Value, a: ir.Value, b: ir.Value, sums: Sums, part: int, mask: ir.Value | str | None
) -> Sums:
    """`sums` with the products at i ... added to part `part`; with "first" only that at i."""
    build, element = block.code.b, block.vector.element

    def read(base: ir.Value, offset: ir.Value) -> ir.Value:
        address = at(build, at(build, base, offset, element), i, element)
        if mask is None:
            return load(build, address, block.vector, block.plan.bytes)
        if isinstance(mask, str):
            single = load(build, address, element, block.plan.bytes)
            return build.insert_element(zeros(block.vector), single, ir.Constant(I32, 0))
        return masked_load(build, address, block.vector, mask, block.plan.bytes)

    xs = [read(a, offset) for offset in block.rows]
    for wanted in block.plan.prefetches if mask is None else ():
        ahead = add(build, i, const(wanted.steps * wanted.width))
        for offset in block.columns:
            place = at(build, at(build, b, offset, element), ahead, element)
            prefetch(build, place, wanted.locality)
    ys = [read(b, offset) for offset in block.columns]
    result, first = list(sums), part * len(xs) * len(ys)
    for r, x in enumerate(xs):
        for c, y in enumerate(ys):
            n = first + r * len(ys) + c
            result[n] = multiply_add(build, x, y, sums[n], block.plan.has_fma)
    return result


def folded(
    b: ir.IRBuilder, start: ir.Value, stop: ir.Value, step: int, sums: Sums, body: Callable[[ir.Value, Sums], Sums]
) -> Sums:
    """`sums` after body(i, sums) for i in range(start, stop, step)."""
    if isinstance(start, ir.Constant) and isinstance(stop, ir.Constant) and start.constant >= stop.constant:
        return sums
    before = b.block
    head, inside, after = (b.append_basic_block(name) for name in ("fold", "fold.body", "fold.end"))
    b.branch(head)
    b.position_at_end(head)
    phis = [b.phi(x.type) for x in (start, *sums)]
    for phi, value in zip(phis, (start, *sums), strict=True):
        phi.add_incoming(value, before)
    b.cbranch(b.icmp_signed("<", phis[0], stop), inside, after)
    b.position_at_end(inside)
    results = body(phis[0], list(phis[1:]))
    for phi, value in zip(phis, (add(b, phis[0], const(step)), *results), strict=True):
        phi.add_incoming(value, b.block)
    b.branch(head)
    b.position_at_end(after)
    return list(phis[1:])


def across(b: ir.IRBuilder, vectors: Sums) -> ir.Value:
    """A vector of the sums of all lanes of each of `vectors`, of which there are no more than lanes.

    Each round adds halves (quarters ...) of lanes, of two vectors at once while there are two.
    """
    kind, wanted = vectors[0].type, len(vectors)
    lanes = kind.count
    number = 1 << (wanted - 1).bit_length()
    values = [*vectors, *[zeros(kind)] * (number - wanted)]
    distance = lanes // 2
    while distance:
        half = len(values) // 2
        if half:
            pairs = zip(values[:half], values[half:], strict=True)
            values = [plus(b, shuffled(b, x, y, distance, 0), shuffled(b, x, y, distance, distance)) for x, y in pairs]
        else:
            turned = [c ^ distance for c in range(lanes)]
            values = [plus(b, values[0], b.shuffle_vector(values[0], values[0], indices(turned)))]
        distance //= 2
    return b.shuffle_vector(values[0], values[0], indices([i * (lanes // number) for i in range(wanted)]))


def shuffled(b: ir.IRBuilder, x: ir.Value, y: ir.Value, distance: int, turn: int) -> ir.Value:
    """Lanes of x where the bit `distance` of the lane's number is clear, else of y; lane c ^ turn of it at c."""
    lanes = x.type.count
    return b.shuffle_vector(x, y, indices([(c ^ turn) + (lanes if c & distance else 0) for c in range(lanes)]))


def indices(values: list[int]) -> ir.Constant:
    """A shuffle's mask."""
    return ir.Constant(ir.VectorType(I32, len(values)), values)
