"""Which way the vectors of rows run: along a row, across rows that are columns of memory, or across tiny rows.

for i0 in n0:                      tiny: the rows are written out, a lane a row
  for i1 in 3:
    b1[3*i0 + i1] = Sub(b0[3*i0 + i1], max(r2 < 3: b0[3*i0 + r2]))

for i1 in 64:                      columns: neighbouring rows are neighbours in memory
  for i0 in n0:
    b1[64*i0 + i1] = Sub(b0[64*i0 + i1], max(r2 < n0: b0[i1 + 64*r2]))
"""

from __future__ import annotations

from graphflow.compiler.loops.ir import Kernel, Loop, walk
from graphflow.core.dim import Size, atoms_of, coefficient

__all__ = ["is_columns", "is_tiny", "reduces_rows"]

TINY = 16
"""Rows of at most this many elements are written out."""


def is_tiny(extent: Size) -> bool:
    """Whether a row is so short that it is written out."""
    return isinstance(extent, int) and extent <= TINY


def reduces_rows(kernel: Kernel) -> bool:
    """Whether rows of the kernel's last loop have reductions of their own."""
    if kernel.contract is not None or len(kernel.loops) < 2:
        return False
    last = kernel.loops[-1].symbol
    return any(e.kind == "reduce" and last not in e.vars for e in walk([s.value for s in kernel.stores]))


def is_columns(kernel: Kernel) -> bool:
    """Whether neighbouring rows, rather than the elements of one, are neighbours in memory."""
    if not reduces_rows(kernel) or kernel.scratch:  # rows that the thread keeps are of one row's elements
        return False
    across, along = (_contiguous(kernel, loop) for loop in kernel.loops[-2:])
    return across > along


def _contiguous(kernel: Kernel, loop: Loop) -> int:
    """How many of the indices that change with rows and with their elements move by one with a loop."""
    both = {x.symbol for x in kernel.loops[-2:]}
    indices = [s.index for s in kernel.stores]
    indices += [e.data[1] for e in walk([s.value for s in kernel.stores]) if e.kind == "load"]
    return sum(both <= set(atoms_of(i)) and coefficient(i, loop.symbol) == 1 for i in indices)
