"""Guards, and where none is needed: the inside of an image, away from what pads it.

clear = clear_of_guards(kernel, lane, loop, 4)          # from which turns of a loop on all guards hold for four
bare = without_guards(kernel.stores)                    # the same stores, right there
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from graphflow.compiler.loops.ir import Condition, Expr, Kernel, Loop, Store, expr, rebuilt, walk
from graphflow.core.dim import Size, ceildiv, coefficient

__all__ = ["Clear", "clear_of_guards", "without_guards"]


@dataclass(frozen=True)
class Clear:
    """Turns of a loop, from each of which on some turns need no guards: those that are at least each of `first` and
    less than each of `stop`, where all `conditions` hold."""

    conditions: tuple[Condition, ...]
    first: tuple[Size, ...]
    stop: tuple[Size, ...]

    @property
    def guards(self) -> bool:
        """Whether there are any guards."""
        return bool(self.conditions or self.first or self.stop)


def clear_of_guards(kernel: Kernel, lane: Loop, loop: Loop, turns: int) -> Clear | None:
    """From which turns of a row loop on every guard holds, in all lanes, for so many turns; None if there is no
    telling."""
    exprs = walk([s.value for s in kernel.stores])
    loops = [(loop, turns - 1)]
    for e in exprs:
        if e.kind == "reduce":
            if not all(isinstance(one.extent, int) for one in e.data[1]):
                return None
            loops += [(one, one.extent - 1) for one in e.data[1]]
    conditions, first, stop = (dict[Condition, None](), dict[Size, None](), dict[Size, None]())
    for c in (c for e in exprs if e.kind == "guard" for c in e.data):
        ends = _ends(c.at, loops)
        step = coefficient(c.at, loop.symbol)
        if (
            c.low is None
            or coefficient(c.at, lane.symbol) != 0
            or ends is None
            or not isinstance(step, int)
            or step < 0
        ):
            return None
        if step == 0:
            conditions.update(dict.fromkeys(Condition(at, c.low, c.high) for at in ends))
            continue
        least, largest = (at - step * loop.var for at in ends)
        first[ceildiv(c.low - least, step)] = None
        stop[ceildiv(c.high - largest, step)] = None
    return Clear(tuple(conditions), tuple(first), tuple(stop))


def _ends(at: Size, loops: Sequence[tuple[Loop, int]]) -> tuple[Size, Size] | None:
    """The least and the largest value of an index: the first loop goes on from where it is, others start at 0."""
    least = largest = at
    for place, (loop, last) in enumerate(loops):
        step = coefficient(at, loop.symbol)
        if not isinstance(step, int):
            return None
        base = step * loop.var if place else 0
        least = least - base + min(0, step * last)
        largest = largest - base + max(0, step * last)
    return least, largest


def without_guards(stores: Iterable[Store]) -> list[Store]:
    """The stores with what each guard gives where its conditions hold."""
    stores = list(stores)

    def made(e: Expr, args: tuple[Expr, ...]) -> Expr:
        return args[0] if e.kind == "guard" else e if args == e.args else expr(e.kind, args, e.data, e.dtype)

    bare = rebuilt([s.value for s in stores], made)
    return [replace(s, value=bare[s.value]) for s in stores]
