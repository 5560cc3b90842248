"""`compiled_for(machine)`: small programs are compiled as large ones, or for a machine of narrower vectors.

    host        as this machine is
    tight       caches are tiny, and all pays from small sizes on
    some 17     some of that, which the number says: what is tight may stand in the way of other plans

and behind each of them the name of a target: "tight avx2".

with compiled_for("tight avx2"):
    sess.run(...)
"""

from __future__ import annotations

import random
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
    "graphflow.compiler.final.LARGE": 0,
    "graphflow.compiler.schedule.SMALL": 256,
    "graphflow.compiler.trim.LEAST_SAVED": 0,
    "graphflow.compiler.trim.LEAST_GAIN": 0,
    "graphflow.compiler.split.LONG": 64,
    "graphflow.compiler.split.TALL": 256,
    "graphflow.compiler.split.BLOCK": 64,
    "graphflow.compiler.split.LEAST": 7,
    "graphflow.compiler.llvm.schedule.UNIT_WEIGHT": 64,
    "graphflow.compiler.llvm.cut.UNIT_WEIGHT": 64,
    "graphflow.compiler.llvm.cut.SQUARE": 16,
    "graphflow.compiler.llvm.panel_choose.PANEL_BYTES": 512,
    "graphflow.compiler.llvm.panel_choose.PANEL_LEAST": 16,
    "graphflow.compiler.llvm.contract.choose_split.UNIT_FLOPS": 500,
    "graphflow.compiler.llvm.contract.choose_local.ENOUGH_TILES": 2,
    "graphflow.compiler.llvm.contract.choose_local.PANEL_READERS": 1,
    "graphflow.compiler.llvm.contract.choose.PANEL_READERS": 1,
    "graphflow.compiler.llvm.contract.choose.STAGE_READERS": 1,
    "graphflow.compiler.llvm.contract.choose.STAGE_ALIAS": 64,
    "graphflow.compiler.llvm.contract.choose_split.SPLIT_LEAST": 8,
    "graphflow.compiler.llvm.contract.choose_sweep.SWEEP_RUN": 64,
    "graphflow.compiler.llvm.contract.choose_sweep.SWEEP_UNIT": 256,
    "graphflow.compiler.llvm.contract.choose_inline.INLINE_MOST": 64,
    "graphflow.compiler.llvm.contract.shape.PACK_ROWS": 8,
    "graphflow.compiler.llvm.contract.shape.PACK_STRIDE": 16,
    "graphflow.compiler.llvm.contract.shape.PASSING_L2": 0,
    "graphflow.compiler.llvm.contract.units.REDUCE_ELEMENTS": 64,
    "graphflow.compiler.llvm.winograd.choose.LEAST_GAIN": 0,
    "graphflow.compiler.llvm.winograd.choose.LEAST_UNITS": 0,
    "graphflow.compiler.llvm.winograd.choose.UNIT_FLOPS": 500,
    "graphflow.compiler.llvm.winograd.gradient_choose.LEAST_GAIN": 0,
    "graphflow.compiler.llvm.winograd.gradient_choose.LEAST_UNITS": 0,
    "graphflow.compiler.llvm.winograd.gradient_choose.UNIT_FLOPS": 500,
    "graphflow.compiler.llvm.past_caches.STREAMED_BLOCKS": 2,
    "graphflow.compiler.llvm.past_caches.STRIP_BLOCKS": 2,
}
"""Sizes from which something pays, as machines that are tight have them."""

CACHES = ((512, 1024, 16384), (1024, 8192, 16384), (2048, 8192, 65536), (8192, 65536, 1 << 20), None)
"""Bytes of the three levels, of some machines."""


def traits(words: list[str]) -> tuple[dict[str, int], tuple[int, int, int] | None]:
    """(sizes from which something pays, bytes of caches) of a machine; None: as this machine has them."""
    if words[0] == "host":
        return {}, None
    if words[0] == "tight":
        return THRESHOLDS, CACHES[0]
    rng = random.Random(int(words[1]))
    files = sorted({name.rpartition(".")[0] for name in THRESHOLDS})  # what a file decides goes together
    chosen = {file for file in files if rng.random() < 0.5}
    return {name: n for name, n in THRESHOLDS.items() if name.rpartition(".")[0] in chosen}, rng.choice(CACHES)


@contextmanager
def compiled_for(machine: str) -> Iterator[None]:
    """Code for a machine."""
    words = machine.split()
    thresholds, caches = traits(words)
    target = host_target()
    if words[-1] in NAMED and can_run(target, NAMED[words[-1]]):
        target = narrowed(target, words[-1])
    if caches is not None:
        target = replace(target, l1_bytes=caches[0], l2_bytes=caches[1], l3_bytes=caches[2])
    with ExitStack() as stack:
        for name, value in thresholds.items():
            stack.enter_context(patch(name, value))
        stack.enter_context(patch("graphflow.runtime.executable.host_target", lambda: target))
        yield
