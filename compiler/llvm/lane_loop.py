"""The loop along the lanes: blocks of vectors, and single ones under a mask for what is left over."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir

from graphflow.compiler.llvm.bounds import first_whole, whole_blocks
from graphflow.compiler.llvm.code import const, first_lanes
from graphflow.compiler.llvm.scope import Lanes, Scope, open_loop
from graphflow.compiler.loops.ir import Loop, Store

__all__ = ["emit_lanes", "emit_masked"]


def emit_lanes(
    scope: Scope,
    body: Callable[[Scope], None],
    lane: Loop,
    vectors: int,
    start: Any,
    stop: Any,
    stream: Store | None = None,
    jam: Loop | None = None,
) -> None:
    """The lanes' loop around a body: blocks of vectors, then single ones under a mask.

    With `jam`, vectors at once are turns of that loop.  Where a store goes past the caches, those lanes come first that
    stand before a whole vector of its memory.
    """
    width = scope.function.width
    stop = scope.size(lane.extent) if stop is None else stop
    if stream is not None:
        first = first_whole(scope, stream, lane, start, stop)
        emit_masked(scope, body, lane, start, first, jam, vectors)
        start = first
    block = width if jam is not None else width * vectors
    whole = whole_blocks(scope, start, stop, block)
    if not (isinstance(whole, ir.Constant) and whole.constant == 0):
        tile = None if jam is None else jam.symbol
        lanes = Lanes(lane.symbol, width, vectors, None, tile, None if stream is None else stream.buffer)
        with open_loop(scope, start, whole, block, lane.symbol, (), lanes) as main:
            body(main.scope)
    if isinstance(whole, ir.Constant) and isinstance(stop, ir.Constant) and whole.constant == stop.constant:
        return
    emit_masked(scope, body, lane, whole, stop, jam, vectors)


def emit_masked(
    scope: Scope,
    body: Callable[[Scope], None],
    lane: Loop,
    start: Any,
    stop: Any,
    jam: Loop | None = None,
    turns: int = 1,
) -> None:
    """Single vectors (one for each of the turns that are jammed), of whose lanes only those before `stop` count."""
    width = scope.function.width
    left = stop.constant - start.constant if isinstance(start, ir.Constant) and isinstance(stop, ir.Constant) else None
    if jam is None and left is not None and 0 < left < width:
        lanes = Lanes(lane.symbol, width, 1, [first_lanes(scope.builder, const(left), width)])
        body(scope.child(scope.builder, {lane.symbol: start}, lanes))
        return
    with open_loop(scope, start, stop, width, lane.symbol) as rest:
        mask = first_lanes(rest.scope.builder, rest.scope.builder.sub(stop, rest.index), width)
        masks, tile = ([mask], None) if jam is None else ([mask] * turns, jam.symbol)
        rest.scope.lanes = Lanes(lane.symbol, width, len(masks), masks, tile)
        body(rest.scope)
