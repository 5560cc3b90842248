"""The 16 products of a unit, one for each place, by the tiles of all contractions.

tiles = emit_tiles(module, "conv", plan, size)
multiply(code, plan, tiles, Places(16, a, b, out), rows, span, last)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from llvmlite import ir

from graphflow.compiler.llvm.code import ELEMENTS, Code, SizeEmitter, at, const, loop, mul
from graphflow.compiler.llvm.contract.tile import emit_tile
from graphflow.compiler.llvm.contract.units import has_edge

if TYPE_CHECKING:
    from graphflow.compiler.llvm.contract.plan import Plan

# Where the first place of an operand is, and how many elements further the next one.
Operand = tuple[ir.Value, int]


@dataclass(frozen=True)
class Tiles:
    """A tile, and the one for a last column panel of fewer vectors."""

    whole: ir.Function
    edge: ir.Function | None


@dataclass(frozen=True)
class Places:
    """So many places and what is multiplied at each of them: rows of A by a column panel of B; where the sums go."""

    count: int
    a: Operand
    b: Operand
    sums: Operand


def emit_tiles(module: ir.Module, name: str, plan: Plan, size: SizeEmitter) -> Tiles:
    """The tiles of a plan."""
    whole = emit_tile(module, name + ".tile", plan, plan.rows, size, vectors=plan.vectors)
    if not has_edge(plan):
        return Tiles(whole, None)
    return Tiles(whole, emit_tile(module, name + ".edge", plan, plan.rows, size, vectors=plan.edge_vectors))


def multiply(
    code: Code,
    plan: Plan,
    tiles: Tiles,
    places: Places,
    rows: ir.Value,
    span: tuple[ir.Value, ir.Value],
    last: ir.Value,
) -> None:
    """The products of so many rows, over a span of the depth; `last`: whether the column panel is the last of all.

    A tile's last rows may be beyond those.
    """
    b, element = code.b, ELEMENTS[plan.spec.dtype]
    numbers = (const(plan.width), const(plan.rows), *span, code.dims)
    with loop(b, const(0), const(places.count)) as place:
        image, filters, sums = (
            at(b, start, mul(b, place, const(distance)), element)
            for start, distance in (places.a, places.b, places.sums)
        )
        with loop(b, const(0), rows, plan.rows) as row:
            a = at(b, image, mul(b, row, code.size(plan.run.a)), element)
            out = at(b, sums, mul(b, row, const(plan.width)), element)
            call_tile(b, tiles, last, [a, filters, filters, out, *numbers])


def call_tile(b: ir.IRBuilder, tiles: Tiles, last: ir.Value, arguments: list[ir.Value]) -> None:
    """Call the tile, or for the last column panel the one that is there for it."""
    if tiles.edge is None:
        b.call(tiles.whole, arguments)
        return
    with b.if_else(last) as (then, otherwise):
        with then:
            b.call(tiles.edge, arguments)
        with otherwise:
            b.call(tiles.whole, arguments)
