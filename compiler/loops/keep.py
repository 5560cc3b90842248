"""Costly values of a row that a later stage of the same row needs again are kept in memory: `keep`.

    for i0 in n0:
      for i1 in 99:
        b1[99*i0 + i1] = RealDiv(Exp(b0[99*i0 + i1]), sum(r2 < 99: Exp(b0[99*i0 + r2])))

becomes, with the row of the result as the memory,

    for i0 in n0:
      for i1 in 99:
        b1[99*i0 + i1] = RealDiv(b1[99*i0 + i1], sum(r2 < 99: b1[99*i0 + r2] := Exp(b0[99*i0 + r2])))

The stages of a row are its reductions, operands first, and then the stores of its elements.  The first stage that needs
a value keeps it; what reads it back has that stage as its operand, so it can't run earlier.  Tiny rows are written out
by the code, and stay in registers.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace

from graphflow.compiler.loops.ir import Buffer, Expr, Kernel, Loop, expr, rewritten, walk
from graphflow.compiler.loops.rows import is_columns, is_tiny
from graphflow.core.dim import Atom, Dim, Size, Symbol, coefficient, estimate, substitute

__all__ = ["COSTLY", "keep"]

COSTLY = 8
"""From this cost on a value is kept: writing it and reading it back costs about half as much."""

SCRATCH = 1 << 17
"""Bytes of a thread's memory for rows, at most: they and what the row reads stay in a core's second cache."""


def keep(kernel: Kernel, own: Collection[int]) -> Kernel:
    """The kernel with costly values kept.  `own`: buffers that nothing else in the kernel shares memory with."""
    if kernel.contract is not None or not kernel.loops or is_tiny(kernel.loops[-1].extent):
        return kernel
    return _Keeper(kernel, own).run()


@dataclass(frozen=True)
class _Stage:
    """A reduction along the row (None: the stores), and its expressions as they would read in the row's own loop."""

    reduce: Expr | None
    variable: Symbol
    canonical: dict[Expr, Expr]
    roots: tuple[Expr, ...]


@dataclass(frozen=True)
class _Kept:
    """A value (in the row's own variable), where it is kept, and the stage that does it."""

    keeper: _Stage
    buffer: int
    index: Size


class _Keeper:
    def __init__(self, kernel: Kernel, own: Collection[int]) -> None:
        self.kernel, self.row = kernel, kernel.loops[-1]
        self.lane = kernel.loops[-2] if is_columns(kernel) else self.row
        loaded = {e.data[0] for e in walk([s.value for s in kernel.stores]) if e.kind == "load"}
        once = [s for s in kernel.stores if [t.buffer for t in kernel.stores].count(s.buffer) == 1]
        self.free = [s for s in once if s.depth == len(kernel.loops) and s.buffer in own and s.buffer not in loaded]
        self.scratch: list[Buffer] = []
        self.kept: dict[Expr, _Kept] = {}
        self.new: dict[Expr, Expr] = {}

    def run(self) -> Kernel:
        stages = self._stages()
        if len(stages) == 1:
            return self.kernel
        for n, stage in enumerate(stages):
            self._choose(stage, stages[n + 1 :])
        if not self.kept:
            return self.kernel
        for stage in stages:
            self._rebuild([stage.reduce] if stage.reduce is not None else [], stage)
        self._rebuild([s.value for s in self.kernel.stores], stages[-1])
        stores = tuple(replace(s, value=self.new[s.value]) for s in self.kernel.stores)
        return replace(self.kernel, stores=stores, scratch=tuple(self.scratch))

    def _choose(self, stage: _Stage, later: list[_Stage]) -> None:
        """Keep the costly values of a stage that later ones need, users before their operands."""
        variable = self.row.symbol
        inside = list(_inside(stage.roots, variable))
        reached = set(stage.roots)
        for e in inside:
            if e not in reached or e in self.kept:
                continue
            if e.kind != "guard" and _cost(e, variable, self.kept) >= COSTLY and self._needed(e, later):
                self._place(e, stage)
            reached.update(e.args)

    def _needed(self, e: Expr, later: list[_Stage]) -> bool:
        """Whether one of these stages would compute a value, given what is kept already."""
        return any(e in _reached(stage.roots, self.row.symbol, self.kept) for stage in later)

    def _stages(self) -> list[_Stage]:
        """The reductions of whole rows that always run, then the stores of elements."""
        values = [s.value for s in self.kernel.stores]
        stages = [self._stage(e) for e in walk_unguarded(values) if _is_stage(e, self.row)]
        inner = [s.value for s in self.kernel.stores if s.depth == len(self.kernel.loops)]
        own = {e: e for e in walk(inner)}
        return [*stages, _Stage(None, self.row.symbol, own, tuple(inner))]

    def _stage(self, e: Expr) -> _Stage:
        (loop,) = e.data[1]
        to = {loop.symbol: self.row.var}
        canonical = rewritten([e.args[0]], lambda size: substitute(size, to.get))
        return _Stage(e, loop.symbol, canonical, (canonical[e.args[0]],))

    def _place(self, e: Expr, keeper: _Stage) -> None:
        """Find memory for a value: a row of scratch, else the row of a result of its own type; else it stays.

        Scratch stays in a cache, and the result is then written once: past the caches if it is large.
        """
        extent = self.row.extent
        used = sum(estimate(b.size) * b.dtype.size for b in self.scratch)
        if self.lane is self.row and isinstance(extent, int) and used + extent * e.dtype.size <= SCRATCH:
            self.kept[e] = _Kept(keeper, len(self.kernel.buffers) + len(self.scratch), self.row.var)
            self.scratch.append(Buffer(e.dtype, extent))
            return
        for s in self.free:
            if self.kernel.buffers[s.buffer].dtype is e.dtype and coefficient(s.index, self.lane.symbol) == 1:
                self.free.remove(s)
                self.kept[e] = _Kept(keeper, s.buffer, s.index)
                return

    def _rebuild(self, roots: list[Expr], stage: _Stage) -> None:
        """Everything under the roots with the values of a stage kept or read back."""
        for e in walk(roots):
            if e not in self.new:
                self.new[e] = self._rebuilt(e, stage)

    def _rebuilt(self, e: Expr, stage: _Stage) -> Expr:
        args = tuple(self.new[a] for a in e.args)
        same = e if args == e.args else expr(e.kind, args, e.data, e.dtype)
        kept = self.kept.get(stage.canonical.get(e, e)) if stage.variable in e.vars else None
        if kept is None:
            return same
        to: dict[Atom, Size] = {self.row.symbol: Dim((((stage.variable,), 1),))}
        place = (kept.buffer, substitute(kept.index, to.get))
        if kept.keeper is stage:
            return expr("keep", (same,), place, e.dtype)
        assert kept.keeper.reduce is not None
        if kept.keeper.reduce not in self.new:  # this stage needs it under a condition, a later one always
            return same
        return expr("kept", (self.new[kept.keeper.reduce],), place, e.dtype)


def _is_stage(e: Expr, row: Loop) -> bool:
    """Whether e reduces along the whole row, and along nothing else."""
    if e.kind != "reduce" or row.symbol in e.vars or len(e.data[1]) != 1:
        return False
    (loop,) = e.data[1]
    return bool(loop.extent == row.extent)


def walk_unguarded(roots: list[Expr]) -> list[Expr]:
    """All expressions under the roots that are computed whatever conditions hold, operands first."""
    everything = walk(roots)
    reached = set(roots)
    for e in reversed(everything):
        if e in reached and e.kind != "guard":
            reached.update(e.args)
    return [e for e in everything if e in reached]


def _inside(roots: Collection[Expr], variable: Symbol) -> Iterator[Expr]:
    """The expressions of a stage that change along the row and are always computed, users first."""
    reached = set(roots)
    for e in reversed(walk_unguarded(list(roots))):
        if e in reached and variable in e.vars:
            yield e
            reached.update(e.args)


def _reached(roots: Collection[Expr], variable: Symbol, until: Collection[Expr]) -> Iterator[Expr]:
    """The expressions of a stage down to those of `until`, these included."""
    reached = set(roots)
    for e in _inside(roots, variable):
        if e in reached:
            yield e
            if e not in until:
                reached.update(e.args)


def _cost(e: Expr, variable: Symbol, kept: Collection[Expr]) -> int:
    """What an element costs to compute, down to loads, to what is kept, and to what does not change along the row."""
    total = 0
    for x in _reached([e], variable, kept):
        if x not in kept and x.kind in ("apply", "random", "reduce"):
            total += int(x.data[0].cost) if x.kind == "apply" else COSTLY
    return total
