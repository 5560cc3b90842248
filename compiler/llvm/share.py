"""The code of a plan's kernels, written once for those that are alike: `emit_kernels`.

Kernels of equal structure are one function.  Elementwise kernels that differ only in how often their loops turn and in
how far apart their rows lie are one function too; it finds those numbers behind its pointers.

    for i0 in 40:  b1[i0] = Exp(b0[i0])
                                               for i0 in number0:  b1[i0] = Exp(b0[i0])
    for i0 in 77:  b1[i0] = Exp(b0[i0])

So an optimizer's updates of two hundred small variables compile like one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from llvmlite import ir

from graphflow.compiler.llvm.cut import Schedule
from graphflow.compiler.llvm.kernel import KernelCode, Launch, Number, emit_kernel, emit_plain, order_of, unit_ns
from graphflow.compiler.llvm.launch_order import Order
from graphflow.compiler.llvm.schedule import make_schedule
from graphflow.compiler.llvm.target import Target
from graphflow.compiler.loops.ir import Buffer, Expr, Kernel, Loop, Store, rewritten, walk, with_loads
from graphflow.core.dim import Atom, Dim, Monomial, Size, Symbol, substitute, symbol

__all__ = ["emit_kernels"]


def emit_kernels(
    module: ir.Module, kernels: Iterable[Kernel], target: Target, symbols: dict[str, int]
) -> list[KernelCode]:
    """The code of each kernel; those that are alike share a function."""
    kernels = list(kernels)
    distinct = {_structure(kernel): kernel for kernel in kernels}
    likenesses = {key: _likeness(kernel, target) for key, kernel in distinct.items()}
    alike = Counter(x.key for x in likenesses.values() if x is not None)
    names: dict[Any, str] = {}
    codes: dict[Any, KernelCode] = {}
    for key, kernel in distinct.items():
        likeness = likenesses[key]
        if likeness is None or alike[likeness.key] == 1:
            names[key] = f"kernel{len(names)}"
            codes[key] = emit_kernel(module, names[key], kernel, target, symbols)
            continue
        if likeness.key not in names:
            names[likeness.key] = f"kernel{len(names)}"
            emit_plain(module, names[likeness.key], likeness.kernel, likeness.cut, target, symbols, likeness.symbols)
        codes[key] = likeness.code(names[likeness.key])
    return [codes[_structure(kernel)] for kernel in kernels]


def _structure(kernel: Kernel) -> Any:
    return kernel.loops, kernel.buffers, kernel.stores, kernel.contract, kernel.scratch


@dataclass(frozen=True)
class _Likeness:
    """A kernel with symbols for its extents and row strides, their values, and how it is cut into units."""

    kernel: Kernel
    values: dict[str, int]
    schedule: Schedule
    cut: Schedule  # in terms of the symbols
    order: Order

    @property
    def symbols(self) -> tuple[str, ...]:
        return tuple(self.values)

    @property
    def key(self) -> Any:
        return _structure(self.kernel), self.cut

    def code(self, name: str) -> KernelCode:
        """The kernel as a call of the shared function."""
        launch = Launch(name, self.schedule.units, unit_ns(self.schedule), self.order)
        numbers = tuple(Number(value) for value in self.values.values())
        return KernelCode((launch,), (*range(len(self.kernel.buffers)), *numbers))


def _likeness(kernel: Kernel, target: Target) -> _Likeness | None:
    """What others may share with a kernel; None for reductions, tiles, and extents that are symbols already."""
    exprs = walk([s.value for s in kernel.stores])
    plain = kernel.contract is None and all(e.kind not in ("reduce", "sum") for e in exprs)
    if not plain or not kernel.loops or any(isinstance(loop.extent, Dim) for loop in kernel.loops):
        return None
    schedule = make_schedule(kernel, target)
    if schedule.tile is not None:  # a tile needs its row stride as a number
        return None
    numbers = _Numbers()
    loops = {loop: numbers.loop(loop) for loop in kernel.loops}
    rows = {loop.symbol for loop in loops.values() if loop is not loops[kernel.loops[-1]]}
    new: dict[Atom, Size] = {old.symbol: loop.var for old, loop in loops.items()}

    def renamed(size: Size) -> Size:
        return substitute(size, new.get)

    values = rewritten([s.value for s in kernel.stores], renamed)
    values = numbers.with_strides(values, rows)
    stores = tuple(
        Store(s.buffer, numbers.strided(renamed(s.index), rows), values[s.value], s.depth) for s in kernel.stores
    )
    buffers = tuple(Buffer(b.dtype, 0) for b in kernel.buffers)
    alike = replace(kernel, name="", loops=tuple(loops.values()), buffers=buffers, stores=stores)
    cut = replace(
        schedule,
        rows=tuple(loops[loop] for loop in schedule.rows),
        stream=None if schedule.stream is None else stores[kernel.stores.index(schedule.stream)],
        lane=None if schedule.lane is None else loops[schedule.lane],
        rows_per_unit=numbers.new(schedule.rows_per_unit) if schedule.rows else 1,
        chunk=numbers.new(schedule.chunk) if schedule.chunk != 0 else 0,
        units=0,
        unit_weight=0,
    )
    return _Likeness(alike, numbers.values, schedule, cut, order_of(kernel, target))


class _Numbers:
    """Symbols for the numbers of a kernel, in the order in which they are met."""

    def __init__(self) -> None:
        self.values: dict[str, int] = {}
        self.strides: dict[int, Dim] = {}

    def new(self, value: Size) -> Dim:
        """A symbol for a number."""
        assert isinstance(value, int)
        name = f"number{len(self.values)}"
        self.values[name] = value
        return symbol(name)

    def loop(self, loop: Loop) -> Loop:
        """A loop of so many turns."""
        extent = self.new(loop.extent)
        return Loop(symbol(loop.symbol.key, bound=extent), extent)

    def strided(self, index: Size, rows: set[Symbol]) -> Size:
        """An index whose steps from row to row are symbols."""
        if not isinstance(index, Dim):
            return index
        total: Size = 0
        for monomial, c in index.terms:
            part: Size = Dim(((monomial, 1),)) if monomial else 1
            total = part * self._stride(monomial, c, rows) + total
        return total

    def _stride(self, monomial: Monomial, c: int, rows: set[Symbol]) -> Size:
        if len(monomial) != 1 or monomial[0] not in rows or c <= 1:
            return c
        if c not in self.strides:
            self.strides[c] = self.new(c)
        return self.strides[c]

    def with_strides(self, values: dict[Expr, Expr], rows: set[Symbol]) -> dict[Expr, Expr]:
        """The values with `strided` loads."""
        new = with_loads(list(values.values()), lambda _, index: self.strided(index, rows))
        return {old: new[e] for old, e in values.items()}
