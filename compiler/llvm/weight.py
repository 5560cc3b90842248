"""About how much work a kernel is, in scalar operations, which units are cut by, and how much memory it touches."""

from __future__ import annotations

from graphflow.compiler.llvm.target import Target
from graphflow.compiler.loops.ir import Expr, Kernel, Loop
from graphflow.core.dim import Size, Symbol, atoms_of, estimate

__all__ = ["is_in_memory", "row_weight", "touched_bytes", "weight_of"]

FAR_L3 = 2
"""Of what is so many last caches or more hardly anything is in one."""

WEIGHTS = {"load": 2, "keep": 2, "kept": 2, "const": 0, "position": 1, "guard": 3, "random": 60, "reduce": 1, "sum": 0}


def weight_of(e: Expr) -> int:
    """About how many vector instructions an expression takes itself."""
    return int(e.data[0].cost) if e.kind == "apply" else WEIGHTS[e.kind]


def touched_bytes(kernel: Kernel) -> int:
    """Bytes of all that a kernel reads and writes, as if each element were touched once, and of what kernels touch that
    store the rest of its results."""
    own = sum(estimate(buffer.size) * buffer.dtype.size for buffer in kernel.buffers)
    return own + max((s.beside for s in kernel.stores), default=0)


def is_in_memory(kernel: Kernel, target: Target) -> bool:
    """Whether what a kernel touches comes from memory, rather than from a cache."""
    return touched_bytes(kernel) >= FAR_L3 * target.l3_bytes


def row_weight(kernel: Kernel, exprs: list[Expr], rows: tuple[Loop, ...]) -> int:
    """Scalar operations of one row."""
    row_symbols = {loop.symbol for loop in rows}
    extents: dict[Symbol, int] = {loop.symbol: estimate(loop.extent) for loop in kernel.loops}
    for e in exprs:
        if e.kind == "reduce":
            extents.update({loop.symbol: estimate(loop.extent) for loop in e.data[1]})
    total = sum(2 * _times(s.index, extents, row_symbols) for s in kernel.stores)
    for e in exprs:
        turns = weight_of(e)
        for v in e.vars:
            turns *= 1 if v in row_symbols else extents.get(v, 1)
        total += turns
    return total


def _times(index: Size, extents: dict[Symbol, int], row_symbols: set[Symbol]) -> int:
    turns = 1
    for atom in set(atoms_of(index)):
        if isinstance(atom, Symbol) and atom in extents and atom not in row_symbols:
            turns *= extents[atom]
    return turns
