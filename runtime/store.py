"""Where a session keeps its variables: `VariableStore`, NumPy arrays by the name of the variable's operation."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import Any

import numpy as np

from graphflow.compiler.capture import RANDOM_DRAWS
from graphflow.core.type import TensorType, static
from graphflow.ops.random import UNSEEDED
from graphflow.runtime.call_record import STORE_VERSION
from graphflow.runtime.memory import aligned_empty
from graphflow.runtime.variable_lock import VariableLock

__all__ = ["VariableStore"]

Array = np.ndarray[Any, Any]


class VariableStore:
    """The values of a session's variables.  `version` changes whenever an array is replaced by another.

    `lock` is held by runs that touch variables: a step's updates are seen all or not at all.  `spares` is memory that
    variables had before a step which wrote their new values aside; the next such step takes it again.
    """

    def __init__(self) -> None:
        self.values: dict[str, Array] = {}
        self.spares: dict[str, Array] = {}
        self.lock = VariableLock(self.values)

    @property
    def version(self) -> int:
        return int(self.lock.words[STORE_VERSION])

    def is_initialized(self, name: str) -> bool:
        """Whether the variable has a value."""
        return name in self.values

    def begin(self, name: str, type_: TensorType) -> Array:
        """An array for a new value: the variable's own if it fits, else a fresh one, which `commit` makes it."""
        return _fitting(self.values.get(name), type_)

    def aside(self, name: str, type_: TensorType) -> Array:
        """An array for a new value that is not the variable's own."""
        spare = self.spares.get(name)
        found = _fitting(None if spare is self.values.get(name) else spare, type_)
        self.spares[name] = found
        return found

    def trim(self) -> int:
        """Give back spare memory; returns how many bytes."""
        freed = sum(array.nbytes for array in self.spares.values())
        self.spares.clear()
        return freed

    def commit(self, arrays: dict[str, Array]) -> None:
        """Make arrays the values of their variables.

        The version changes before, so that what is bound to the old arrays is not used again wherever Ctrl-C may
        strike, and after, so that neither is what was bound in between.
        """
        changed = {name: a for name, a in arrays.items() if self.values.get(name) is not a}
        if changed:
            self.lock.words[STORE_VERSION] += 1
            try:
                self.values.update(changed)
            finally:
                self.lock.words[STORE_VERSION] += 1

    def load(self, name: str, value: Any, type_: TensorType) -> None:
        """Set a variable from outside of a run."""
        self.lock.check()
        hold = self.lock.hold(updates=True)
        try:
            self.lock.wait(hold)
            array = self.begin(name, type_)
            array[...] = value
            self.commit({name: array})
        finally:
            self.lock.leave(hold)

    def put(self, values: Mapping[str, Array]) -> None:
        """Set variables, all or none; the caller holds the lock."""
        arrays = {name: aligned_empty(value.shape, value.dtype) for name, value in values.items()}
        for name, array in arrays.items():
            array[...] = values[name]
        self.commit(arrays)

    def start_stream(self, name: str) -> None:
        """Give the hidden counter of a random stream its start: 0, or any number where there is no seed."""
        if name.startswith(RANDOM_DRAWS) and name not in self.values:
            array = aligned_empty((), np.dtype(np.int64))
            array[...] = secrets.randbits(62) if name.startswith(f"{RANDOM_DRAWS}{UNSEEDED}/") else 0
            self.values.setdefault(name, array)  # another thread may have been quicker


def _fitting(found: Array | None, type_: TensorType) -> Array:
    """The array, if it is of that type, else a fresh one."""
    shape, dtype = tuple(static(d) for d in type_.dims), type_.dtype.numpy
    if found is not None and found.shape == shape and found.dtype == dtype:
        return found
    return aligned_empty(shape, dtype)
