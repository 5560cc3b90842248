"""What a checked step found, for the user: `Checked.error`.

internal error: kernel0 (Add Tanh) writes 4 bytes at byte 400 of output 0, float32[10, 10] (400 bytes)
  Add 'add' at train.py:8
  store float %".9", ptr %".12", align 4  in kernel0
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from graphflow.compiler.llvm.check_accesses import Site
from graphflow.compiler.llvm.check_ranges import LOCAL, VIOLATION, VIOLATION_WORDS
from graphflow.core.errors import InternalError

if TYPE_CHECKING:
    from graphflow.compiler.plan import Plan, Step

__all__ = ["Checked", "kernel_of"]

FAR = 1 << 20
ARRAYS = ("scratch", "sizes", "pointers to arguments")


def kernel_of(function: str) -> str:
    """The kernel that a function belongs to: `kernel3` for `kernel3.tile`."""
    return function.partition(".")[0]


@dataclass(frozen=True)
class Checked:
    """The sites and waves of a checked step, as its code numbers them; a wave's steps have their kernels' names."""

    plan: Plan
    sites: tuple[Site, ...]
    waves: tuple[tuple[tuple[str, Step], ...], ...]
    workspaces: int
    red_zone: int

    def error(self, address: Callable[[str], int]) -> InternalError:
        """The error for the first violation; `address` finds globals of the loaded module."""
        words = (ctypes.c_int64 * VIOLATION_WORDS).from_address(address(VIOLATION))
        _, number, wave, slot, place, size, whole = words
        site = self.sites[number]
        kernel = kernel_of(site.function)
        steps = [step for name, step in self.waves[wave] if name == kernel]
        ops = dict.fromkeys(op for step in steps for op in step.ops)
        does = "writes" if site.writes else "reads"
        where = self._where(slot, place, size, whole)
        lines = [f"internal error: {kernel} ({' '.join(ops)}) {does} {size} bytes {where}"]
        origins = dict.fromkeys(o for step in steps for o in step.origins)
        lines += [f"  {o.op} '{o.name}' at {o.source}" for o in origins]
        lines.append(f"  {site.text}  in {site.function}")
        return InternalError("\n".join(lines))

    def _where(self, slot: int, place: int, size: int, whole: int) -> str:
        """The place of an access, told from the slot that is nearest to it."""
        if not -FAR <= place <= whole + FAR:
            return "far from everything that it may touch"
        read_only = ", read only" if 0 <= place <= whole - size else ""
        return f"at byte {place} of {self._slot(slot)} ({whole} bytes{read_only})"

    def _slot(self, slot: int) -> str:
        if slot == LOCAL:
            return "a local variable"
        buffers = self.plan.buffers
        if slot < len(buffers):
            spec = buffers[slot]
            key = "" if spec.kind in ("arena", "constant") else f" {spec.key}"
            return f"buffer {slot}, {spec.kind}{key} {spec.type}"
        slot -= len(buffers)
        if slot < self.workspaces:
            return f"workspace {slot}"
        slot -= self.workspaces
        return ARRAYS[slot] if slot < len(ARRAYS) else "a constant of the module"
