"""`compiled_for(machine)`: small programs are compiled as large ones, or for a machine of narrower vectors.

with compiled_for("tight avx2"):
    sess.run(...)
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from unittest.mock import patch

from graphflow.compiler.llvm.target import NAMED, can_run, host_target, narrowed

__all__ = ["compiled_for"]

THRESHOLDS = {
    "graphflow.compiler.llvm.waves.PARALLEL_NS": 0,
    "graphflow.compiler.buffers.LARGE": 64,
    "graphflow.compiler.groups.LEAST_COLUMNS": 16,
    "graphflow.compiler.plan.LARGE": 0,
    "graphflow.compiler.schedule.SMALL": 256,
    "graphflow.compiler.split.LONG": 64,
    "graphflow.compiler.split.TALL": 256,
    "graphflow.compiler.split.BLOCK": 64,
    "graphflow.compiler.split.LEAST": 7,
    "graphflow.compiler.llvm.schedule.UNIT_WEIGHT": 64,
    "graphflow.compiler.llvm.schedule.SQUARE": 16,
    "graphflow.compiler.llvm.panel_choose.PANEL_BYTES": 512,
    "graphflow.compiler.llvm.panel_choose.PANEL_LEAST": 16,
    "graphflow.compiler.llvm.contract.choose.UNIT_FLOPS": 500,
    "graphflow.compiler.llvm.contract.choose.ENOUGH_TILES": 2,
    "graphflow.compiler.llvm.contract.choose_split.SPLIT_LEAST": 8,
    "graphflow.compiler.llvm.contract.choose_sweep.SWEEP_RUN": 64,
    "graphflow.compiler.llvm.contract.choose_sweep.SWEEP_UNIT": 256,
    "graphflow.compiler.llvm.contract.choose_inline.INLINE_MOST": 64,
    "graphflow.compiler.llvm.contract.shape.PACK_ROWS": 8,
    "graphflow.compiler.llvm.contract.shape.PACK_STRIDE": 16,
    "graphflow.compiler.llvm.contract.units.REDUCE_ELEMENTS": 64,
}
"""Sizes from which something pays, as machines that are tight have them."""


@contextmanager
def compiled_for(machine: str) -> Iterator[None]:
    """Code for one of MACHINES: where it is tight, small sizes are compiled as large ones, for tiny caches."""
    tight, _, name = machine.partition(" ")
    if tight != "tight":
        yield
        return
    target = host_target()
    if name and can_run(target, NAMED[name]):
        target = narrowed(target, name)
    small = replace(target, l1_bytes=512, l2_bytes=1024, l3_bytes=16384)
    with ExitStack() as stack:
        for name, value in THRESHOLDS.items():
            stack.enter_context(patch(name, value))
        stack.enter_context(patch("graphflow.runtime.executable.host_target", lambda: small))
        yield
