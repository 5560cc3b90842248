"""Where a session keeps its variables: `VariableStore`, NumPy arrays by the name of the variable's operation."""

from __future__ import annotations

import secrets
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

    `lock` is held by runs that touch variables: a step's updates are seen all or not at all.
    """

    def __init__(self) -> None:
        self.values: dict[str, Array] = {}
        self.lock = VariableLock()

    @property
    def version(self) -> int:
        return int(self.lock.words[STORE_VERSION])

    def is_initialized(self, name: str) -> bool:
        """Whether the variable has a value."""
        return name in self.values

    def begin(self, name: str, type_: TensorType) -> Array:
        """An array for a new value: the variable's own if it fits, else a fresh one, which `commit` makes it."""
        shape = tuple(static(d) for d in type_.dims)
        found = self.values.get(name)
        if found is not None and found.shape == shape and found.dtype == type_.dtype.numpy:
            return found
        return aligned_empty(shape, type_.dtype.numpy)

    def commit(self, arrays: dict[str, Array]) -> None:
        """Make arrays the values of their variables."""
        changed = {name: a for name, a in arrays.items() if self.values.get(name) is not a}
        if changed:
            self.values.update(changed)
            self.lock.words[STORE_VERSION] += 1

    def load(self, name: str, value: Any, type_: TensorType) -> None:
        """Set a variable from outside of a run."""
        with self.lock.using(updates=True):
            self.put(name, value, type_)

    def put(self, name: str, value: Any, type_: TensorType) -> None:
        """Set a variable; the caller holds the lock."""
        array = self.begin(name, type_)
        array[...] = value
        self.commit({name: array})

    def start_stream(self, name: str) -> None:
        """Give the hidden counter of a random stream its start: 0, or any number where there is no seed."""
        if name.startswith(RANDOM_DRAWS) and name not in self.values:
            array = aligned_empty((), np.dtype(np.int64))
            array[...] = secrets.randbits(62) if name.startswith(f"{RANDOM_DRAWS}{UNSEEDED}/") else 0
            self.commit({name: array})
