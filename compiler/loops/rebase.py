"""Constant offsets leave the kernels: `rebase` moves them to the pointers that a launch passes.

A slice of time step 7 and one of time step 8 then are the same kernel, compiled once.
"""

from __future__ import annotations

from dataclasses import replace

from graphflow.compiler.loops.ir import Kernel, Store, walk, with_loads
from graphflow.core.dim import Dim, Size

__all__ = ["rebase"]


def rebase(kernel: Kernel) -> tuple[Kernel, tuple[int, ...]]:
    """The kernel without constant offsets, and how many elements each of its buffers starts later for it."""
    offsets = [_least(indices) for indices in _indices(kernel)]
    if not any(offsets):
        return kernel, tuple(offsets)
    moved = with_loads([s.value for s in kernel.stores], lambda buffer, index: index - offsets[buffer])
    stores = tuple(Store(s.buffer, s.index - offsets[s.buffer], moved[s.value], s.depth) for s in kernel.stores)
    contract = kernel.contract
    if contract is not None:
        contract = replace(
            contract, a_index=contract.a_index - offsets[contract.a], b_index=contract.b_index - offsets[contract.b]
        )
    return replace(kernel, stores=stores, contract=contract), tuple(offsets)


def _indices(kernel: Kernel) -> list[list[Size]]:
    """Every index into each buffer."""
    found: list[list[Size]] = [[] for _ in kernel.buffers]
    for e in walk([s.value for s in kernel.stores]):
        if e.kind == "load":
            found[e.data[0]].append(e.data[1])
    for s in kernel.stores:
        found[s.buffer].append(s.index)
    if kernel.contract is not None:
        found[kernel.contract.a].append(kernel.contract.a_index)
        found[kernel.contract.b].append(kernel.contract.b_index)
    return found


def _least(indices: list[Size]) -> int:
    """The smallest constant part; what is subtracted under a condition may be negative and stays."""
    constants = [_constant(index) for index in indices]
    return max(min(constants, default=0), 0)


def _constant(index: Size) -> int:
    if not isinstance(index, Dim):
        return index
    return next((c for monomial, c in index.terms if not monomial), 0)
