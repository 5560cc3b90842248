"""Which stores write large results that no kernel of the step reads, and so need no cache: `with_final`.

    kernel k0(b0: float32[2097152], b1: float32[4194304])
      for i0 in 4096:
        for i1 in 512:
          b1[1024*i0 + i1] = b0[512*i0 + i1]

The left half of a concatenation that is fetched: this store is final, and beside it are the bytes of the other feed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from graphflow.compiler.loops.ir import Store
from graphflow.core.dim import estimate, product

if TYPE_CHECKING:
    from graphflow.compiler.buffers import BufferSpec
    from graphflow.compiler.plan import Step

__all__ = ["with_final"]

LARGE = 1 << 20
"""Bytes of a result from which it may matter whether the step reads it again."""


def with_final(steps: Sequence[Step], buffers: Sequence[BufferSpec]) -> tuple[Step, ...]:
    """The steps with `Store.final` and `Store.beside` as they are."""
    read = {step.arguments[n] for step in steps for n in step.kernel.read_buffers() if n < len(step.arguments)}
    sizes = [estimate(product(buffer.shape)) * buffer.dtype.size for buffer in buffers]
    kept = {n for n, b in enumerate(buffers) if sizes[n] >= LARGE and b.kind in ("output", "variable")} - read
    filling: dict[int, set[int]] = {n: set() for n in kept}  # what the kernels touch that store a part of each
    for step in steps:
        for n in kept & {step.arguments[s.buffer] for s in step.kernel.stores}:
            filling[n].update(step.arguments)

    def marked(s: Store, step: Step) -> Store:
        whole = step.arguments[s.buffer]
        others = filling.get(whole, set()).difference(step.arguments)
        return replace(s, final=whole in kept, beside=sum(sizes[n] for n in others))

    def with_marks(step: Step) -> Step:
        stores = tuple(marked(s, step) for s in step.kernel.stores)
        return replace(step, kernel=replace(step.kernel, stores=stores))

    return tuple(map(with_marks, steps))
