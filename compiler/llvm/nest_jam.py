"""The loops of a kernel one of whose row loops is jammed (`jam.py`): `emit_jammed`.

    for run in the units' runs:             some turns of the jammed loop
      for block in the run:                 so many of them as are computed at once
        for lanes: ...                      away from the padding of an image without guards, elsewhere with them
      those turns that are left over, at once if it is known how many they are

A turn whose guard does not hold reads a vector of zeros instead, so that turns near the padding share what they read
too.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial, reduce
from typing import Any

from graphflow.compiler.llvm.bounds import decoded, side_of, whole_blocks
from graphflow.compiler.llvm.code import const, divmod_, maximum, minimum
from graphflow.compiler.llvm.cut import Schedule
from graphflow.compiler.llvm.emit import store_all
from graphflow.compiler.llvm.jam import Jam
from graphflow.compiler.llvm.lane_loop import emit_lanes
from graphflow.compiler.llvm.lanes import condition
from graphflow.compiler.llvm.nest_points import emit_points
from graphflow.compiler.llvm.scope import Scope, open_loop
from graphflow.compiler.loops.guards import Clear, clear_of_guards, without_guards
from graphflow.compiler.loops.ir import Kernel, Store
from graphflow.core.dim import ceildiv, product

__all__ = ["emit_jammed"]


def emit_jammed(root: Scope, kernel: Kernel, schedule: Schedule, jam: Jam, begin: Any, end: Any) -> None:
    """The units from begin to end."""
    b, length = root.builder, schedule.square[0]
    runs = root.size(ceildiv(jam.loop.extent, length))
    total = b.mul(root.size(product(tuple(loop.extent for loop in schedule.rows))), runs)
    first, last = (b.mul(x, root.size(schedule.rows_per_unit)) for x in (begin, end))
    stop = minimum(b, last, total)
    with open_loop(root, first, stop, 1, None) as loop:
        row, run = divmod_(loop.scope.builder, loop.index, runs)
        scope = decoded(loop.scope, schedule.rows, row)
        _emit_run(scope, kernel, schedule, jam, *side_of(scope, run, jam.loop, length, const(0)))


def _emit_run(scope: Scope, kernel: Kernel, schedule: Schedule, jam: Jam, start: Any, stop: Any) -> None:
    """Whole blocks of turns, those that need no guards first; then what is left over."""
    b, lane = scope.builder, schedule.lane
    assert lane is not None
    clear = clear_of_guards(kernel, lane, jam.loop, jam.turns)
    assert clear is not None, "a loop is jammed where it is known what its guards need"
    whole = whole_blocks(scope, start, stop, jam.turns)
    first, after = _clear_blocks(scope, clear, jam, start, whole)
    with open_loop(scope, first, after, jam.turns, jam.loop.symbol) as block:
        _emit_turns(block.scope, without_guards(kernel.stores), schedule, jam, jam.turns)
    before = b.sub(first, start)
    if clear.guards:
        with open_loop(scope, const(0), b.add(before, b.sub(whole, after)), jam.turns, None) as block:
            n, inner = block.index, block.scope.builder
            is_before = inner.icmp_signed("<", n, before)
            turn = inner.select(is_before, inner.add(start, n), inner.add(after, inner.sub(n, before)))
            block.scope.variables[jam.loop.symbol] = turn
            _emit_turns(block.scope, kernel.stores, schedule, jam, jam.turns)
    if jam.rest is None:
        with open_loop(scope, whole, stop, 1, jam.loop.symbol) as single:
            emit_points(single.scope, kernel, schedule, const(0), None)
    elif jam.rest:
        with open_loop(scope, whole, stop, jam.rest, jam.loop.symbol) as rest:
            _emit_turns(rest.scope, kernel.stores, schedule, jam, jam.rest)


def _emit_turns(scope: Scope, stores: Sequence[Store], schedule: Schedule, jam: Jam, turns: int) -> None:
    """So many turns at once."""
    assert schedule.lane is not None
    body = partial(store_all, stores=list(stores))
    emit_lanes(scope, body, schedule.lane, turns, const(0), None, schedule.stream, jam.loop)


def _clear_blocks(scope: Scope, clear: Clear, jam: Jam, start: Any, whole: Any) -> tuple[Any, Any]:
    """The blocks of turns from `start` to `whole` that need no guards: where they begin and end."""
    b = scope.builder
    if not clear.guards:
        return start, whole

    def blocks(turns: Any) -> Any:
        """As many turns or a few more, whole blocks of them."""
        return b.mul(b.sdiv(b.add(turns, const(jam.turns - 1)), const(jam.turns)), const(jam.turns))

    first = reduce(partial(maximum, b), map(scope.size, clear.first), start)
    first = minimum(b, b.add(start, blocks(b.sub(first, start))), whole)
    last = reduce(partial(minimum, b), map(scope.size, clear.stop), whole)
    holds = reduce(b.and_, [condition(c, scope) for c in clear.conditions], b.icmp_signed("<", first, last))
    return first, b.select(holds, b.add(first, blocks(b.sub(last, first))), first)
