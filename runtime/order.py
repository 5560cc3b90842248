"""A program to be compiled, or to be had from the cache: `Order`.

    order = Order(fetches, feeds, types, is_initialized)
    made = order.stored() or order.compile()

What is stored is what a run needs (`compiler/layout.py`) and machine code, under a key that is known before anything is
compiled (`compiler/signature.py`); also that a program needs numbers for some sizes, which a compilation found out.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from graphflow.compiler.cache import Cache, of_environment
from graphflow.compiler.conditions import broken_at
from graphflow.compiler.debug import Report, is_checked
from graphflow.compiler.layout import Layout, Packed, pack, unpack
from graphflow.compiler.llvm.load import surroundings
from graphflow.compiler.llvm.target import host_target
from graphflow.compiler.program import TensorProgram
from graphflow.compiler.signature import arrays_of, signature
from graphflow.core.dim import Dim, fed, symbol
from graphflow.core.node import Array
from graphflow.core.type import NeedsStatic, TensorType
from graphflow.framework.tensor import Operation, Tensor

if TYPE_CHECKING:
    from graphflow.compiler.pipeline import Compiled
    from graphflow.runtime.executable import Executable

__all__ = ["Order", "Stored", "is_interpreted"]


@dataclass(frozen=True)
class Order:
    """What is to be compiled: fetches for feeds of the given types, where some variables have values."""

    fetches: Sequence[Tensor | Operation]
    feeds: Sequence[Tensor]
    types: Sequence[TensorType]
    is_initialized: Callable[[str], bool]

    def compile(self) -> Compiled:
        """The plan.  Raises NeedsStatic where a size must be known."""
        from graphflow.compiler.pipeline import compile_graph

        try:
            return compile_graph(self.fetches, self.feeds, self.types, self.is_initialized)
        except NeedsStatic as e:
            self._keep(Packed(e.symbols))
            raise

    def stored(self) -> Stored | None:
        """What was compiled for the same before, if it was kept.  Raises NeedsStatic as that compilation did."""
        if self.cache is None or self.key is None:
            return None
        content = self.cache.read(self.key)
        if content is None:
            return None
        try:
            packed = unpack(content, self.types, self.arrays)
        except ValueError:
            self.cache.reject(self.key)
            return None
        if packed.static or packed.layout is None:
            raise NeedsStatic(sum((symbol(name) for name in packed.static), start=0))
        return Stored(self, packed.layout, packed.objects, dict(packed.assumed_initialized or {}))

    def store(self, executable: Executable) -> None:
        """Keep what was made."""
        module: Any = executable.module
        self._keep(Packed((), executable.layout, executable.assumed_initialized, module.objects))

    def _keep(self, packed: Packed) -> None:
        if self.cache is not None and self.key is not None:
            self.cache.write(self.key, pack(packed, self.arrays))

    @functools.cached_property
    def cache(self) -> Cache | None:
        """Where to look and keep; None where the passes are to be seen at work, code is
        checked (its sites are not stored), or nothing is to be cached."""
        return None if is_interpreted() or is_checked() or Report().level else of_environment()

    @functools.cached_property
    def arrays(self) -> tuple[Array, ...]:
        """The constants that the graph has, which need not be kept."""
        return arrays_of(self.fetches, self.feeds)

    @functools.cached_property
    def key(self) -> str | None:
        """Of the cache; None for what has none."""
        around = (np.__version__, *surroundings(host_target()))  # NumPy computes what is constant
        return signature(self.fetches, self.feeds, self.types, self.is_initialized, around)


@dataclass(frozen=True)
class Stored:
    """A program from the cache."""

    order: Order
    layout: Layout
    objects: tuple[bytes, ...]
    assumed_initialized: dict[str, bool]

    def compile(self) -> Compiled:
        """The plan that was not stored, made again."""
        from graphflow.compiler.pipeline import compile_graph

        order = self.order
        return compile_graph(order.fetches, order.feeds, order.types, self._assumed)

    def is_right_for(self, sizes: Mapping[str, int]) -> bool:
        """Whether sizes other than those of its first feeds make it no other program."""
        hints = {str(d): fed(d) for t in self.order.types for d in t.dims if isinstance(d, Dim)}
        return dict(sizes) == hints or broken_at(self._program, sizes) is None

    @functools.cached_property
    def _program(self) -> TensorProgram:
        from graphflow.compiler.pipeline import program_for_sizes

        order = self.order
        return program_for_sizes(order.fetches, order.feeds, order.types, self._assumed)

    def _assumed(self, variable: str) -> bool:
        return self.assumed_initialized.get(variable, True)


def is_interpreted() -> bool:
    """Whether programs are to be computed by NumPy (GRAPHFLOW_INTERPRET)."""
    return os.environ.get("GRAPHFLOW_INTERPRET", "") not in ("", "0")
