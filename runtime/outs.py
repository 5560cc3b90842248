"""Arrays that a caller gives for results: what they must be, with an error that says what they are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from graphflow.core.errors import InvalidArgumentError
from graphflow.framework.graph import Operation, Tensor

__all__ = ["check_outs"]

Array = np.ndarray[Any, Any]
Type = tuple[np.dtype[Any], tuple[int, ...]]


def check_outs(
    outs: Sequence[Any], fetches: Sequence[Tensor | Operation], types: Sequence[Type | None], values: Sequence[Array]
) -> None:
    """InvalidArgumentError unless each is None or an array that a step may write its fetch to.

    That is: of the very dtype and shape, C-contiguous, aligned, writeable, and apart from all feeds and other outs.
    """
    for n, (out, fetch, type_) in enumerate(zip(outs, fetches, types, strict=True)):
        if out is None:
            continue
        if type_ is None:
            raise _unfit(fetch, "an operation has no value; give None")
        if not isinstance(out, np.ndarray):
            raise _unfit(fetch, f"must be a numpy.ndarray, but got {type(out)}")
        _check_one(out, fetch, *type_)
        if any(_meet(out, value) for value in values):
            raise _unfit(fetch, "shares memory with a feed: a step may read it again after it has written")
        if any(_meet(out, other) for other in outs[:n] if other is not None):
            raise _unfit(fetch, "shares memory with the array of another fetch")


def _check_one(out: Array, fetch: Tensor | Operation, dtype: np.dtype[Any], shape: tuple[int, ...]) -> None:
    if out.dtype != dtype or out.shape != shape:
        wanted, got = f"{dtype.name}{list(shape)}", f"{out.dtype.name}{list(out.shape)}"
        raise _unfit(fetch, f"must be {wanted}, but got {got}")
    if not out.flags.c_contiguous or not out.flags.aligned:
        raise _unfit(fetch, "must be C-contiguous and aligned")
    if not out.flags.writeable:
        raise _unfit(fetch, "is read-only")


def _meet(one: Array, other: Array) -> bool:
    """Whether two C-contiguous arrays have a byte in common."""
    start, begin = one.ctypes.data, other.ctypes.data
    both = one.nbytes > 0 and other.nbytes > 0
    return both and start < begin + other.nbytes and begin < start + one.nbytes


def _unfit(fetch: Tensor | Operation, reason: str) -> InvalidArgumentError:
    op = fetch.op if isinstance(fetch, Tensor) else fetch
    return InvalidArgumentError(f"out= for '{fetch.name}' {reason} (declared at {op.source})", op=op)
