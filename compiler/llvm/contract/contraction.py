"""A contraction, C = sum over k of A * B, in which m and k may be several axes with strides of their own: values only.

Contraction("float32", (), m=(Axis(512, 512, 0),), n=Axis(512, 0, 1), k=(Axis(512, 1, 512),))     # a @ b
"""

from __future__ import annotations

from dataclasses import dataclass

from graphflow.compiler.loops.ir import EVERY_STEP
from graphflow.core.dim import Size

# Bytes of a store that goes past the caches.
PIECE = 16


@dataclass(frozen=True)
class Axis:
    """One index: how many values it takes and how far a step of it moves in A and in B, in elements."""

    extent: Size
    a: Size
    b: Size
    source: Size = 0  # in B before it was packed
    other: Size = 0  # in what a tile packs as it goes, or asks for


@dataclass(frozen=True)
class Contraction:
    """C[batch..., m..., n] = sum over k... of A[batch..., m..., k...] * B[batch..., k..., n].

    The element of A is at `a_offset` plus the sum of index * axis.a, that of B likewise; strides may be 0 or negative.
    `m` axes do not move in B (b = 0), `n` does not move in A (a = 0).  So many contractions of a step, `readers`, can
    share a packed copy of B; with EVERY_STEP those of all steps can.  The epilogue stores to argument `streams` of a
    launch past the caches, if that begins at a multiple of PIECE bytes; it reads `beside` bytes that lie like C.
    """

    dtype: str
    batch: tuple[Axis, ...]
    m: tuple[Axis, ...]
    n: Axis
    k: tuple[Axis, ...]
    a_offset: Size = 0
    b_offset: Size = 0
    readers: int = 1
    streams: int | None = None
    beside: int = 0

    @property
    def is_kept(self) -> bool:
        """Whether a packed copy of B serves all steps."""
        return self.readers == EVERY_STEP
