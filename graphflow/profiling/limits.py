"""`limit_seconds`: the least time that a kernel could take on this machine."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from graphflow.bench.roofline import Limits
    from graphflow.runtime.kernel_facts import KernelFacts

__all__ = ["limit_seconds"]


def limit_seconds(kernel: KernelFacts, threads: int, limits: Sequence[Limits]) -> float:
    """Of computing or of moving bytes, whichever takes longer, on one core or on all; `limits` are (one core, all)."""
    one, all_ = limits
    return (one if threads == 1 else all_).seconds(kernel.work, kernel.dtype)
