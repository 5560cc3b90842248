"""How a plain kernel is cut: which loop runs along the lanes of vectors, and what a unit of work is.

    rows            units are blocks of rows; the last loop is vectorised
    chunks          units are parts of one long row
    tile            as many rows at once as a vector has lanes, transposed in registers (tile.py)
    jam             some turns of a row loop at once, which share what they read (jam.py)
    panel           chunks, of which reductions across rows are computed first (panel.py)
    inner           the lanes run across rows: along the loop before the last, with the last one inside of them
    side by side    a lane a row: short ones, each of which is reduced in vectors of its own first (side_by_side.py)

All of it follows from sizes (their hints, where symbolic) and the target only.
"""

from __future__ import annotations

from dataclasses import replace

from graphflow.compiler.llvm.ahead import elements_ahead, fetched_ahead, stored_beside
from graphflow.compiler.llvm.cut import UNIT_WEIGHT, Schedule, chunked, in_runs, in_strips, panelled, tiled
from graphflow.compiler.llvm.jam import jammed
from graphflow.compiler.llvm.panel_choose import panel_reductions
from graphflow.compiler.llvm.past_caches import reads_rows, rows_past_caches, strips_past_caches, tiles_past_caches
from graphflow.compiler.llvm.side_by_side import lies_side_by_side
from graphflow.compiler.llvm.target import Target
from graphflow.compiler.llvm.weight import row_weight, weight_of
from graphflow.compiler.loops.ir import Expr, Kernel, Loop, sizes_in, walk
from graphflow.compiler.loops.rows import is_columns, is_tiny, reduces_rows
from graphflow.core.dim import ceildiv, coefficient, estimate, product

__all__ = ["make_schedule", "width_of"]

SHORT = 8
"""Reductions of at most this many neighbours leave most lanes of a vector empty: lanes run across them."""

COLUMNS = 4
"""Vectors at once of rows that are columns of memory: enough neighbours for the caches to fetch."""


def width_of(kernel: Kernel, target: Target) -> int:
    """Lanes: as many as the widest element type computed with has in a vector."""
    exprs = walk([s.value for s in kernel.stores])
    wide = any(e.dtype.size == 8 for e in exprs if not _is_index(e))
    return target.lanes("float64" if wide else "float32")


def _is_index(e: Expr) -> bool:
    """Whether an expression is a place or a size, not what is computed with."""
    return e.kind in ("position", "const") or (e.kind == "reduce" and e.data[0].startswith("arg"))


def make_schedule(kernel: Kernel, target: Target) -> Schedule:
    """Follows from sizes (their hints, where symbolic) only."""
    exprs = walk([s.value for s in kernel.stores])
    if _across(kernel, exprs, width_of(kernel, target)):
        return _across_rows(kernel, exprs, target)
    if lies_side_by_side(kernel, exprs, width_of(kernel, target), target):
        return _side_by_side(kernel, exprs, target)
    lane = _lane(kernel, exprs)
    rows = kernel.loops[:-1] if lane is not None else kernel.loops
    count = product(tuple(loop.extent for loop in rows))
    weight = max(row_weight(kernel, exprs, rows), 1)
    width = width_of(kernel, target)
    tile = _tile(kernel, exprs, lane, width)
    if tile is not None and lane is not None:
        stream = tiles_past_caches(kernel, lane, tile, width, target)
        anywhere = None if stream is not None else strips_past_caches(kernel, lane, tile, width, target)
        if anywhere is not None:
            return in_strips(rows, lane, tile, width, weight, anywhere, target)
        cut = tiled(rows, lane, tile, width, weight, stream)
        if stream is None:
            return cut
        return replace(cut, aligned=_aligned(exprs, tile, width), down=not reads_rows(kernel, lane, tile))
    jam = jammed(kernel, exprs, lane, target)
    if jam is not None and lane is not None:
        stream = tiles_past_caches(kernel, lane, jam.loop, width, target)
        return in_runs(rows[:-1], lane, jam, _vectors(exprs, lane, width), weight, stream)
    vectors = _vectors(exprs, lane, width)
    stream = rows_past_caches(kernel, lane, width * vectors, target)
    panel = panel_reductions(kernel, exprs, lane, target)
    if panel and lane is not None:
        return panelled(rows, lane, panel, width, vectors, weight, target)
    if lane is not None and weight > 2 * UNIT_WEIGHT and not _row_work(kernel, exprs, lane):
        most = _lanes_of_part(exprs, rows, lane, target)
        cut = chunked(rows, lane, vectors, width, max(weight // max(estimate(lane.extent), 1), 1), most=most)
        ahead = elements_ahead(kernel, exprs, rows[-1] if most else None, lane, stream, target)
        return replace(cut, stream=stream, by_parts=bool(most), ahead=ahead)
    per_unit = max(UNIT_WEIGHT // weight, 1)
    ahead = fetched_ahead(kernel, exprs, rows, lane, stream, target)
    beside = stored_beside(kernel, ahead, stream)
    units = ceildiv(count, per_unit)
    return Schedule(
        rows, lane, vectors, per_unit, 0, units, weight * per_unit, stream=stream, ahead=ahead, beside=beside
    )


def _across(kernel: Kernel, exprs: list[Expr], width: int) -> bool:
    """Whether lanes run across rows that have reductions of their own: tiny rows, and columns."""
    if not reduces_rows(kernel):
        return False
    lane, inner = kernel.loops[-2:]
    extents = [inner.extent, *(loop.extent for e in exprs if e.kind == "reduce" for loop in e.data[1])]
    tiny = all(map(is_tiny, extents)) and estimate(lane.extent) >= 2 * width
    sizes = [size for e in exprs for size in sizes_in(e.kind, e.data)] + [s.index for s in kernel.stores]
    return (tiny or is_columns(kernel)) and all(coefficient(size, lane.symbol) is not None for size in sizes)


def _across_rows(kernel: Kernel, exprs: list[Expr], target: Target) -> Schedule:
    *rows, lane, inner = kernel.loops
    width = width_of(kernel, target)
    vectors = 1 if is_tiny(inner.extent) else COLUMNS
    while vectors > 1 and estimate(lane.extent) < vectors * width:
        vectors //= 2
    return chunked(tuple(rows), lane, vectors, width, max(row_weight(kernel, exprs, (*rows, lane)), 1), inner)


def _side_by_side(kernel: Kernel, exprs: list[Expr], target: Target) -> Schedule:
    *rows, lane = kernel.loops
    cut = chunked(tuple(rows), lane, 1, width_of(kernel, target), max(row_weight(kernel, exprs, kernel.loops), 1))
    ahead = fetched_ahead(kernel, exprs, tuple(rows), lane, None, target)
    return replace(cut, ahead=ahead, side_by_side=True)


def _lane(kernel: Kernel, exprs: list[Expr]) -> Loop | None:
    """The loop to vectorise: the last one, unless long reductions over it are read along their own axis."""
    if not kernel.loops:
        return None
    last = kernel.loops[-1].symbol
    across = along = 0
    for e in exprs:
        if e.kind != "reduce" or last not in e.vars:
            continue
        indices = [x.data[1] for x in walk([e.args[0]]) if x.kind == "load"]
        across += sum(coefficient(i, last) == 1 for i in indices)
        if all(isinstance(loop.extent, int) and loop.extent <= SHORT for loop in e.data[1]):
            continue
        along += max(sum(coefficient(i, loop.symbol) == 1 for i in indices) for loop in e.data[1])
    return kernel.loops[-1] if across >= along else None


def _tile(kernel: Kernel, exprs: list[Expr], lane: Loop | None, width: int) -> Loop | None:
    """The row loop along which data that is strided along the lanes lies contiguous; None where tiles do not serve."""
    if (
        lane is None
        or any(e.kind == "reduce" for e in exprs)
        or any(s.depth < len(kernel.loops) or coefficient(s.index, lane.symbol) != 1 for s in kernel.stores)
    ):
        return None
    indices = [e.data[1] for e in exprs if e.kind == "load"]
    strided = [i for i in indices if coefficient(i, lane.symbol) not in (0, 1)]
    candidates = {loop: sum(coefficient(i, loop.symbol) == 1 for i in strided) for loop in kernel.loops[:-1]}
    best = max(candidates, key=lambda loop: candidates[loop], default=None)
    if best is None or not candidates[best] or 2 * min(estimate(best.extent), estimate(lane.extent)) < width:
        return None
    sizes = [size for e in exprs for size in sizes_in(e.kind, e.data)] + [s.index for s in kernel.stores]
    linear = all(coefficient(size, loop.symbol) is not None for size in sizes for loop in (best, lane))
    return best if linear else None


def _lanes_of_part(exprs: list[Expr], rows: tuple[Loop, ...], lane: Loop, target: Target) -> int:
    """Lanes of a part for which the first cache holds what every row reads again; 0 where it holds all of a row."""
    own = {loop.symbol for loop in rows}
    again = {e for e in exprs if e.kind == "load" and lane.symbol in e.vars and own and not own & e.vars}
    most = target.l1_bytes // 2 // max(sum(e.dtype.size for e in again), 1)
    return most if again and estimate(lane.extent) > most else 0


def _aligned(exprs: list[Expr], tile: Loop, width: int) -> Expr | None:
    """A load along a tile's loop whose rows all begin at the same place in a vector of memory."""
    for e in exprs:
        if e.kind == "load" and coefficient(e.data[1], tile.symbol) == 1:
            steps = [coefficient(e.data[1], v) for v in e.vars - {tile.symbol}]
            if steps and all(isinstance(step, int) and step % width == 0 for step in steps):
                return e
    return None


def _row_work(kernel: Kernel, exprs: list[Expr], lane: Loop) -> bool:
    """Whether a row computes something before its elements that chunks would repeat."""
    shallow = any(s.depth < len(kernel.loops) for s in kernel.stores)
    return shallow or any(e.kind == "reduce" and lane.symbol not in e.vars for e in exprs)


def _vectors(exprs: list[Expr], lane: Loop | None, width: int) -> int:
    """Vectors at once: several where the body is small, to hide latencies."""
    if lane is None:
        return 1
    heavy = sum(weight_of(e) for e in exprs if lane.symbol in e.vars)
    most = 4 if heavy <= 12 else 2 if heavy <= 40 else 1
    while most > 1 and estimate(lane.extent) < most * width:
        most //= 2
    return most
