"""Bounds checks in generated code, as a sanitizer makes them: `GRAPHFLOW_CHECK=2`.

    GRAPHFLOW_CHECK=1   what is always done: every pass's result and all LLVM IR is verified
    GRAPHFLOW_CHECK=2   and every access to memory of every kernel is checked while it runs

A checked step knows, wave by wave, the buffers that its kernels may read and write, each with its exact size
(check_ranges.py); before each load and store stands a call that looks the address up (check_accesses.py).  The first
access that is out of place is remembered and goes to spare memory instead; the step finishes and returns a status, and
`Checked.error` says which kernel it was, on whose behalf, and what it touched (check_report.py).

What a step has not written yet is NaN, or -1 in integers: outputs and new values of variables when it starts,
intermediates when their life begins.  Buffers lie `RED_ZONE` bytes apart, so that one's end is not another's start.

The method is that of K. Serebryany et al., "AddressSanitizer: a fast address sanity checker", 2012, with the ranges
themselves for its shadow memory: a step has few.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from llvmlite import ir

from graphflow.compiler.llvm.check_accesses import Site, check_accesses
from graphflow.compiler.llvm.check_ranges import Range, Ranges
from graphflow.compiler.llvm.check_report import Checked, kernel_of
from graphflow.compiler.llvm.code import I64, PTR, const
from graphflow.compiler.llvm.limits import THREADS
from graphflow.compiler.llvm.scope import Function, Scope

if TYPE_CHECKING:
    from graphflow.compiler.buffers import BufferSpec
    from graphflow.compiler.llvm.spaces import Space
    from graphflow.compiler.llvm.waves import Prepared
    from graphflow.compiler.plan import Plan, Step

__all__ = ["RED_ZONE", "StepCheck"]

RED_ZONE = 256
"""Bytes between buffers that belong to none: as many as four of the widest vectors."""


class StepCheck:
    """Turns a step into a checked one while it is written.

    Made when the kernels are there; `frame` and `wave` are called as the step's body, the function `body`, is written,
    `finish` at the end: it makes the function `name`, which callers see.
    """

    body = "unchecked"

    def __init__(
        self, module: ir.Module, plan: Plan, workspaces: Sequence[Space], scratch_stride: int, slots: dict[str, int]
    ) -> None:
        self.module, self.plan, self.slots, self.stride = module, plan, slots, scratch_stride + RED_ZONE
        self.workspaces = workspaces
        constants = [g for g in module.global_values if isinstance(g, ir.GlobalVariable)]
        count = len(plan.buffers) + len(self.workspaces)
        self.ranges = Ranges(module, count, constants, self.stride, RED_ZONE)
        self.waves: list[tuple[tuple[str, Step], ...]] = []
        self.kernels = [f for f in module.functions if f.blocks and f not in self.ranges.functions]

    def frame(self, b: ir.IRBuilder, frame: ir.Value, pointers: int) -> None:
        """The body passes arguments to kernels in `frame`."""
        self.ranges.set_frame(b, frame, 8 * pointers)

    def wave(self, b: ir.IRBuilder, wave: Sequence[Prepared]) -> None:
        """From here on the steps of a wave run."""
        allowed = {space.slot: True for one in wave for space in one.spaces.values()}
        for step in (one.step for one in wave):
            stored = {step.arguments[s.buffer] for s in step.kernel.stores}
            for slot in step.arguments:
                allowed[slot] = allowed.get(slot, False) or (slot in stored and self._may_change(slot))
        number = wave[0].step.wave
        self.ranges.enter_wave(b, [Range(slot, w, self._is_born(slot, number)) for slot, w in allowed.items()])
        self.waves.append(tuple((kernel_of(one.code.launches[0].name), one.step) for one in wave))

    def _may_change(self, slot: int) -> bool:
        spec = self.plan.buffers[slot]
        return spec.kind in ("arena", "output") or (spec.kind == "variable" and spec.key in self.plan.writes)

    def _is_new(self, spec: BufferSpec) -> bool:
        """Whether a step gives it a value without looking at the one before."""
        if spec.kind == "variable":
            return spec.key in self.plan.writes and spec.key not in self.plan.reads
        return spec.kind == "output"

    def _is_born(self, slot: int, wave: int) -> bool:
        """Whether what a buffer holds before this wave is nobody's."""
        if slot >= len(self.plan.buffers):
            return self.workspaces[slot - len(self.plan.buffers)].first == wave
        spec = self.plan.buffers[slot]
        return spec.kind == "arena" and spec.first == wave

    def finish(self, name: str) -> Checked:
        """Check the kernels, and write the function that callers see."""
        sites: list[Site] = []
        for function in self.kernels:
            sites += check_accesses(function, self.ranges.check, self.ranges.spare, len(sites))
        self.ranges.finish([s.bytes for s in sites], len(sites))
        self._entry(name)
        return Checked(self.plan, tuple(sites), tuple(self.waves), len(self.workspaces), RED_ZONE)

    def _entry(self, name: str) -> None:
        """The step that callers see: one thread at a time, for the tables are the module's."""
        body = self.module.globals[self.body]
        body.linkage = "internal"
        function = ir.Function(self.module, body.function_type, name)
        b = ir.IRBuilder(function.append_basic_block("entry"))
        buffers, dims, scratch, limits = function.args
        sizes = Scope(None, b, {}, None, Function(function, dims, [], self.slots))
        self.ranges.lock(b)
        wanted = [s.type.size * s.dtype.size for s in self.plan.buffers] + [w.bytes for w in self.workspaces]
        for slot, size in enumerate(wanted):
            pointer = b.load(b.gep(buffers, [const(slot)], source_etype=PTR), typ=PTR)
            self.ranges.set(b, slot, pointer, sizes.size(size))
        count = b.load(b.gep(limits, [const(THREADS)], source_etype=I64), typ=I64)
        self.ranges.set_scratch(b, scratch, b.mul(count, const(self.stride)))
        self.ranges.set_dims(b, dims, const(8 * len(self.slots)))
        for slot, spec in enumerate(self.plan.buffers):
            if self._is_new(spec):
                self.ranges.spoil(b, const(slot))
        status = b.call(body, function.args)
        b.ret(self.ranges.unlock(b, status))
