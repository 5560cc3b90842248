"""Assigning to variables: `tf.assign`, `tf.assign_add`, `tf.assign_sub`."""

from __future__ import annotations

from typing import Any

from graphflow.core.op import OPS
from graphflow.framework.tensor import Tensor
from graphflow.framework.variables import ref_of

__all__ = ["assign", "assign_add", "assign_sub"]


def assign(
    ref: Any, value: Any, validate_shape: bool | None = None, use_locking: bool | None = None, name: str | None = None
) -> Tensor:
    """Set a variable; the result is its new value."""
    return OPS["Assign"](ref_of(ref), value, name=name or "Assign")  # type: ignore[no-any-return]


def assign_add(ref: Any, value: Any, use_locking: bool | None = None, name: str | None = None) -> Tensor:
    """Add to a variable; the result is its new value."""
    return OPS["AssignAdd"](ref_of(ref), value, name=name or "AssignAdd")  # type: ignore[no-any-return]


def assign_sub(ref: Any, value: Any, use_locking: bool | None = None, name: str | None = None) -> Tensor:
    """Subtract from a variable; the result is its new value."""
    return OPS["AssignSub"](ref_of(ref), value, name=name or "AssignSub")  # type: ignore[no-any-return]
