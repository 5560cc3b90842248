"""What a kernel has to do, whoever does it: operations and bytes, counted from its loops.

    work = work_of(kernel, {"n0": 128})
    work.flops          # of products: a multiplication and an addition count as two
    work.operations     # of everything else, in vector instructions' worth (`cost` of the op's declaration)
    work.read           # bytes: every element that is needed, once
    work.written

An expression counts once for each value of the variables that it depends on, as the code computes it.  Bytes are the
least that must be moved: what a cache has to bring again is not in them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from graphflow.compiler.loops.ir import Expr, Kernel, walk
from graphflow.core.dim import Size, Symbol, atoms_of, estimate, evaluate, product

__all__ = ["Work", "operations", "work_of"]


@dataclass(frozen=True)
class Work:
    """Floating point operations of products, other operations, bytes read and written."""

    flops: int
    operations: int
    read: int
    written: int

    @property
    def bytes(self) -> int:
        """All bytes moved."""
        return self.read + self.written


def work_of(kernel: Kernel, sizes: Mapping[str, int]) -> Work:
    """Count; `sizes` are the values of symbols, those left out are what was seen when the kernel was compiled."""
    return _Counter(kernel, sizes).count()


def operations(kernel: Kernel) -> int:
    """About how many vector instructions a kernel takes, by the sizes that were seen when it was compiled."""
    points = estimate(product(tuple(loop.extent for loop in kernel.loops)))
    if kernel.contract is not None:
        return points * estimate(product(tuple(loop.extent for loop in kernel.contract.k))) // 8
    extents = {loop.symbol: estimate(loop.extent) for loop in kernel.loops}
    most = points
    for e in walk([store.value for store in kernel.stores]):
        if e.kind == "reduce":
            outside = math.prod(extents.get(v, 1) for v in e.vars)
            most = max(most, outside * estimate(product(tuple(loop.extent for loop in e.data[1]))))
    return most


class _Counter:
    def __init__(self, kernel: Kernel, sizes: Mapping[str, int]) -> None:
        self.kernel, self.sizes = kernel, sizes
        self.exprs = walk([store.value for store in kernel.stores])
        loops = [*kernel.loops, *(kernel.contract.k if kernel.contract else ())]
        for e in self.exprs:
            loops += e.data[1] if e.kind == "reduce" else ()
        self.extents = {loop.symbol: self.size(loop.extent) for loop in loops}

    def count(self) -> Work:
        return Work(self.flops(), sum(map(self.operations, self.exprs)), self.read(), self.written())

    def size(self, size: Size) -> int:
        return evaluate(size, self.sizes, default=True)

    def turns(self, variables: Iterable[Symbol]) -> int:
        """How many values these loop variables take together."""
        return math.prod(self.extents[v] for v in variables)

    def flops(self) -> int:
        contract = self.kernel.contract
        if contract is None:
            return 0
        return 2 * self.turns(loop.symbol for loop in (*self.kernel.loops, *contract.k))

    def operations(self, e: Expr) -> int:
        if e.kind == "apply":
            return int(e.data[0].cost) * self.turns(e.vars)
        if e.kind == "reduce":
            return self.turns(e.vars | {loop.symbol for loop in e.data[1]})
        return 0

    def read(self) -> int:
        touched: dict[int, int] = {}
        for e in self.exprs:
            if e.kind == "load":
                buffer, index = e.data
                touched[buffer] = touched.get(buffer, 0) + self.elements(index)
        contract = self.kernel.contract
        if contract is not None:
            for buffer, index in ((contract.a, contract.a_index), (contract.b, contract.b_index)):
                touched[buffer] = touched.get(buffer, 0) + self.elements(index)
        return self.bytes(touched)

    def written(self) -> int:
        touched: dict[int, int] = {}
        for store in self.kernel.stores:
            touched[store.buffer] = touched.get(store.buffer, 0) + self.elements(store.index)
        return self.bytes(touched)

    def elements(self, index: Size) -> int:
        """How many elements an index may name: the values of its variables, though some may coincide."""
        return self.turns({a for a in atoms_of(index) if isinstance(a, Symbol) and a in self.extents})

    def bytes(self, touched: Mapping[int, int]) -> int:
        """Bytes of so many elements of each buffer, a buffer's own size at most."""
        buffers = self.kernel.buffers
        return sum(min(n, self.size(buffers[b].size)) * buffers[b].dtype.size for b, n in touched.items())
