"""Results of a contraction that go past the caches: which do, and the stores.

The same results as in plain kernels (`past_caches.py`), but no row is brought to whole vectors of memory: lanes
are columns of tiles, and start where rows do.  So they go in pieces of 16 bytes, to which NumPy's arrays are aligned
too, and a processor makes lines of them again: as fast as whole lines, wherever these start.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from llvmlite import ir

from graphflow.compiler.llvm.code import I32, at, const, undefined
from graphflow.compiler.llvm.contract.contraction import PIECE
from graphflow.compiler.llvm.emit import spread
from graphflow.compiler.llvm.memory import address, store_past_caches, to_memory
from graphflow.compiler.llvm.past_caches import past_caches
from graphflow.compiler.llvm.values import memory_type
from graphflow.core.dim import coefficient, substitute

if TYPE_CHECKING:
    from graphflow.compiler.llvm.scope import Scope
    from graphflow.compiler.llvm.target import Target
    from graphflow.compiler.loops.ir import Kernel, Loop, Store

__all__ = ["store_streamed", "streamed"]


def streamed(kernel: Kernel, lane: Loop, target: Target) -> Store | None:
    """The store of a contraction that goes past the caches: all its rows begin at a piece and are whole pieces long."""
    found = past_caches(kernel, lane, target)
    if found is None or found.value.dtype.size * 4 < PIECE or not isinstance(lane.extent, int):
        return None
    symbols = {loop.symbol for loop in kernel.loops}
    start = substitute(found.index, lambda atom: 0 if atom in symbols else None)
    steps = [coefficient(found.index, loop.symbol) for loop in kernel.loops if loop is not lane]
    piece = PIECE // found.value.dtype.size
    whole = all(isinstance(step, int) and step % piece == 0 for step in (start, lane.extent, *steps))
    return found if whole else None


def store_streamed(scope: Scope, s: Store, lane: Loop) -> None:
    """Store the only vector of a scope past the caches, to memory that begins at a piece."""
    b, lanes, size = scope.builder, scope.lanes, s.value.dtype.size
    assert lanes is not None
    element = memory_type(s.value.dtype)
    (x,) = (to_memory(b, x, s.value.dtype) for x in spread(s.value, scope))
    start = at(b, address(scope, s.buffer, s.index - lane.var, s.value.dtype), scope.variable(lane.symbol), element)
    count = x.type.count
    if lanes.mask is not None:
        assert isinstance(lane.extent, int)
        count = lane.extent % x.type.count
    piece = PIECE // size
    for first in range(0, count, piece):
        numbers = ir.Constant(ir.VectorType(I32, piece), list(range(first, first + piece)))
        part = b.shuffle_vector(x, undefined(x.type), numbers)
        store_past_caches(b, part, at(b, start, const(first), element), PIECE)
