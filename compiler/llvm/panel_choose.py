"""Which reductions across rows are computed by panels (`panel.py`), how wide a panel is, and how it takes its rows."""

from __future__ import annotations

from dataclasses import dataclass

from graphflow.compiler.llvm.reduction_law import Law
from graphflow.compiler.llvm.sets import share_sets
from graphflow.compiler.llvm.target import Target
from graphflow.compiler.loops.ir import Expr, Kernel, Loop, expr, rewritten, walk
from graphflow.compiler.loops.keep import COSTLY, walk_unguarded
from graphflow.core.dim import Atom, Size, coefficient, estimate, product, substitute

__all__ = [
    "PANEL_REGISTERS",
    "PANEL_SLACK",
    "ROWS",
    "Turns",
    "along",
    "maximum_beside",
    "panel_lanes",
    "panel_reductions",
    "panel_stages",
    "panel_turns",
    "panel_vectors",
    "shift_of",
    "shifted_by",
]

PANEL_BYTES = 8192
"""Totals of a panel: they and the pieces of rows that are added to them are in L1."""

WIDE_L2 = 16
"""Totals of a panel that computes next to nothing are up to one part in so many of a second cache: the longer a piece
of a row, the further the processor runs ahead along it."""

PANELS = 16
"""Panels to share among threads, at the least, before one grows."""

ROWS = 4
"""Rows at once: each total is loaded and stored once for all of them.  Short pieces of more, a page apart, share too
few sets of a cache."""

MANY_ROWS, MANY_TURNS = 8, 32
"""Rows at once where a panel computes next to nothing and fetches nothing ahead, if it has so many: a store for every
four lines that come from beyond the second cache lets fewer of them be under way."""

AHEAD = 8
"""So many rows further the code fetches pieces of up to PANEL_BYTES, since every row begins anew.  Of longer ones the
processor fetches more by itself, and the first cache would lose the totals to what comes."""

DISTANCE = 8192
"""Bytes further that it does so along rows which follow each other in memory."""

PANEL_LEAST = 256
"""Rows of up to so many bytes follow each other closely enough, and their totals fit into registers."""

PANEL_ROWS = 8
"""Up to so many rows are read side by side."""

PANEL_L2 = 4
"""What is less than so many second caches is near in any order."""

PANEL_REGISTERS = 8
"""Registers of the target for each vector at once: four rows, the totals, and room for what is computed."""

PANEL_SLACK = 256
"""Elements of a block of vectors at the most."""


@dataclass(frozen=True)
class Turns:
    """How many rows a panel takes at once, and how many rows further it fetches what it reads (0: nothing): `in_order`
    of memory, where whole rows follow each other, or the same lanes of each."""

    rows: int
    ahead: int
    in_order: bool = False


def panel_lanes(panel: tuple[Expr, ...], extent: int, rows: int, block: int, target: Target) -> int:
    """Lanes of a panel, whole blocks of vectors: all panels of a row are about as wide.  There are so many `rows` of
    results.

    What several stages read stays in the second cache from one to the next.
    """
    size, most = sum(e.dtype.size for e in panel), PANEL_BYTES
    if _is_light(panel):
        most = max(most, min(target.l2_bytes // WIDE_L2, rows * extent * size // PANELS))
    most //= size
    if len(panel_stages(panel)) > 1:
        reads = {(x.data[0], x.dtype.size) for x in walk(list(panel)) if x.kind == "load"}
        turns = max(map(_turns, panel))
        most = min(most, max(target.l2_bytes // 2 // (turns * sum(size for _, size in reads)), block))
    panels = -(-extent // most)
    return -(-extent // (panels * block)) * block


def panel_turns(panel: tuple[Expr, ...], lane: Loop, lanes: int) -> Turns:
    """How a panel of so many lanes takes its rows."""
    extent, size = max(estimate(lane.extent), 1), sum(e.dtype.size for e in panel)
    short = lanes * size <= PANEL_BYTES
    if short and lanes >= extent and all(_follow(e, lane) for e in panel):
        return Turns(ROWS, max(-(-DISTANCE // (extent * size)), ROWS), in_order=True)
    if _is_light(panel):
        return Turns(MANY_ROWS if _turns(panel[0]) >= MANY_TURNS else ROWS, 0)
    return Turns(ROWS, AHEAD if short else 0)


def panel_vectors(panel: tuple[Expr, ...], turns: Turns, most: int) -> int:
    """Vectors at once, `most` of ROWS rows: fewer of more rows, unless these share the sets of a cache.

    Such rows put each other's lines out, so that the next vectors have to fetch again what these read half of.
    """
    return most if any(map(_crowd, panel)) else max(most * ROWS // turns.rows, 1)


def _crowd(e: Expr) -> bool:
    """Whether rows that a reduction reads share their sets of the caches."""
    row = e.data[1][-1].symbol
    loads = [x for x in walk([e.args[0]]) if x.kind == "load" and row in x.vars]
    return any(share_sets(coefficient(x.data[1], row), x.dtype.size) for x in loads)


def _follow(e: Expr, lane: Loop) -> bool:
    """Whether the rows that a reduction reads lie one after the other."""
    row = e.data[1][-1].symbol
    loads = [x.data[1] for x in walk([e.args[0]]) if x.kind == "load" and {lane.symbol, row} <= x.vars]
    return all(coefficient(i, row) == lane.extent for i in loads)


def _turns(e: Expr) -> int:
    """How many rows a reduction adds up."""
    return estimate(product(tuple(loop.extent for loop in e.data[1])))


def _is_light(panel: tuple[Expr, ...]) -> bool:
    """Whether a panel is one pass over the rows, which computes so little that it waits for memory only."""
    cost = sum(int(e.data[0].cost) for e in walk([e.args[0] for e in panel]) if e.kind == "apply")
    return len(panel_stages(panel)) == 1 and cost < COSTLY


def panel_reductions(kernel: Kernel, exprs: list[Expr], lane: Loop | None, target: Target) -> tuple[Expr, ...]:
    """The reductions across rows, if they read more than caches hold for a core, and all of the kernel can be one."""
    if lane is None or any(s.depth < len(kernel.loops) for s in kernel.stores):
        return ()
    always = walk_unguarded([s.value for s in kernel.stores])
    wide = tuple(e for e in exprs if e.kind == "reduce" and lane.symbol in e.vars)
    own = {loop.symbol for loop in kernel.loops}
    results = estimate(product(tuple(loop.extent for loop in kernel.loops)))
    least = PANEL_L2 * target.l2_bytes // max(results, 1)
    serve = [e in always and e.vars <= own and _adds_rows(e, lane, least) for e in wide]
    return wide if serve and all(serve) else ()


def panel_stages(panel: tuple[Expr, ...]) -> tuple[tuple[Expr, ...], ...]:
    """Reductions that one pass over the rows computes, pass after pass: none needs another one of its pass."""
    stages: list[list[Expr]] = []
    for e in panel:
        if stages and _is_beside(e, stages[-1]):
            stages[-1].append(e)
        else:
            stages.append([e])
    return tuple(map(tuple, stages))


def along(e: Expr, loops: tuple[Loop, ...]) -> Expr:
    """The body of a reduction in the variables of other loops of the same extents."""
    to: dict[Atom, Size] = {own.symbol: loop.var for own, loop in zip(e.data[1], loops, strict=True)}
    return rewritten([e.args[0]], lambda size: substitute(size, to.get))[e.args[0]]


def _is_beside(e: Expr, stage: list[Expr]) -> bool:
    """Whether a reduction runs over the same rows as those of a stage, and needs none of them but its shift."""
    first = stage[0]
    if [loop.extent for loop in e.data[1]] != [loop.extent for loop in first.data[1]]:
        return False
    ends_alike = _law(e).conditions(along(e, first.data[1])) == _law(first).conditions(first.args[0])
    return ends_alike and set(walk([e])) & set(stage) <= {maximum_beside(e, stage)}


def maximum_beside(e: Expr, stage: list[Expr]) -> Expr | None:
    """The m = max(y) of a stage, for e = sum(exp(y - f(m)))."""
    loops = stage[0].data[1]
    shifted = shift_of(_element(e, loops)) if e.data[0] == "sum" else None
    if shifted is None:
        return None
    y, shift = shifted
    if shift.vars & {loop.symbol for loop in loops}:
        return None
    under = set(walk([shift]))
    return next((m for m in stage if m in under and m.data[0] == "max" and _element(m, loops) is y), None)


def shift_of(e: Expr) -> tuple[Expr, Expr] | None:
    """(y, s) of exp(y - s)."""
    if not _is_apply(e, "Exp") or not _is_apply(e.args[0], "Sub"):
        return None
    y, shift = e.args[0].args
    return y, shift


def shifted_by(e: Expr, shift: Expr) -> Expr:
    """exp(y - shift) for exp(y - s)."""
    (difference,) = e.args
    return expr(
        e.kind, (expr(difference.kind, (difference.args[0], shift), difference.data, e.dtype),), e.data, e.dtype
    )


def _is_apply(e: Expr, name: str) -> bool:
    """Whether an expression is an op of this name."""
    return e.kind == "apply" and e.data[0].name == name


def _element(e: Expr, loops: tuple[Loop, ...]) -> Expr:
    """What a reduction reduces, in the variables of other loops, without a guard that its loops see to."""
    body = along(e, loops)
    return body.args[0] if _law(e).conditions(body) else body


def _law(e: Expr) -> Law:
    return Law(e.data[0], e.args[0].dtype, e.dtype)


def _adds_rows(e: Expr, lane: Loop, least: int) -> bool:
    """Whether a reduction adds rows of contiguous lanes, long ones, and at least so many bytes a lane."""
    indices = [x.data[1] for x in walk([e.args[0]]) if x.kind == "load" and lane.symbol in x.vars]
    turns = _turns(e)
    return (
        not e.data[0].startswith("arg")
        and bool(indices)
        and all(coefficient(i, lane.symbol) == 1 for i in indices)
        and turns > PANEL_ROWS
        and turns * e.dtype.size >= least
        and estimate(lane.extent) * e.dtype.size > PANEL_LEAST
    )
