"""`Kept`: what a program makes of its constants once, before its first step: packed weights."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np

from graphflow.compiler.layout import Layout
from graphflow.core.errors import ResourceExhaustedError
from graphflow.runtime.memory import aligned_empty

__all__ = ["Kept"]


class Kept:
    """Memory of a compiled program that its `setup` has filled and its steps only read; all of its calls share it.

    module: the program's machine code; None where it is interpreted.  ResourceExhaustedError if there is no room.
    """

    def __init__(self, layout: Layout, module: Any) -> None:
        try:
            self.arrays = [aligned_empty((size,), np.dtype(np.uint8)) for size in layout.kept]
        except MemoryError as e:
            raise ResourceExhaustedError(f"packed constants need {sum(layout.kept):,} bytes") from e
        self.addresses = [array.ctypes.data for array in self.arrays]
        if self.arrays:
            self._fill(layout, module)

    def _fill(self, layout: Layout, module: Any) -> None:
        constants = [s.key.value.ctypes.data if s.kind == "constant" else 0 for s in layout.buffers]
        slots = [*constants, *[0] * len(layout.workspaces), *self.addresses]
        table = (ctypes.c_int64 * len(slots))(*slots)
        pointer = ctypes.c_void_p
        setup = ctypes.CFUNCTYPE(ctypes.c_int, pointer, pointer, pointer, pointer)(module.address("setup"))
        scratch = aligned_empty((layout.scratch_bytes,), np.dtype(np.uint8))
        setup(ctypes.addressof(table), None, scratch.ctypes.data, None)
