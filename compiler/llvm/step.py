"""All kernels of a plan and the function that runs them, as one LLVM module.

    i32 step(ptr buffers, ptr dims, ptr scratch)

`buffers` are the plan's buffers, then one workspace for each kernel that needs one.  Kernels of equal structure are
written once.  A launch worth it goes to the thread pool (`gf_parallel_for`), any other runs where it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from llvmlite import ir

from graphflow.compiler.llvm.contract_ir import I32, I64, PTR, at, const
from graphflow.compiler.llvm.kernel import KernelCode, Launch, emit_kernel
from graphflow.compiler.llvm.scope import Function, Scope
from graphflow.compiler.llvm.target import emit_flush_denormals, emit_restore_denormals
from graphflow.compiler.loops.ir import Kernel
from graphflow.core.dim import Size

if TYPE_CHECKING:
    from graphflow.compiler.llvm.target import Target
    from graphflow.compiler.plan import Step

__all__ = ["StepCode", "emit_step"]

PARALLEL_NS = 12_000
"""Work of fewer nanoseconds stays on the caller's thread."""


@dataclass(frozen=True)
class StepCode:
    """A module with the function `step`; workspaces as (bytes, step that uses it); bytes of scratch a worker."""

    module: ir.Module
    workspaces: tuple[tuple[Size, int], ...]
    scratch_bytes: int
    kernels: int
    launches: int


def emit_step(
    steps: Sequence[Step], buffers: int, symbols: Sequence[str], target: Target, name: str = "step"
) -> StepCode:
    """The module of a plan's steps; `symbols` are the entries of dims in order."""
    module = ir.Module(name)
    slots = {key: n for n, key in enumerate(symbols)}
    codes = _kernels(module, steps, target, slots)
    workspaces: list[tuple[Size, int]] = []
    function = ir.Function(module, ir.FunctionType(I32, [PTR, PTR, PTR]), name)
    b = ir.IRBuilder(function.append_basic_block("entry"))
    table, dims, scratch = function.args
    saved = emit_flush_denormals(b, target)
    arguments = b.alloca(PTR, max((len(c.arguments) for c in codes), default=1))
    stride = -(-max((c.scratch_bytes for c in codes), default=0) // 64) * 64
    root = Scope(None, b, {}, None, Function(function, dims, [], slots))
    launches = 0
    for number, (step, code) in enumerate(zip(steps, codes, strict=True)):
        slot = buffers + len(workspaces)
        if code.workspace_bytes != 0:
            workspaces.append((code.workspace_bytes, number))
        for n, argument in enumerate(code.arguments):
            source = slot if argument is None else step.arguments[argument]
            if argument is None and code.workspace_bytes == 0:
                continue
            pointer = b.load(at(b, table, const(source), PTR), typ=PTR)
            if argument is not None:
                pointer = at(b, pointer, const(step.offsets[argument]), ir.IntType(8))
            b.store(pointer, at(b, arguments, const(n), PTR))
        for launch in code.launches:
            launches += 1
            _launch(root, module, launch, arguments, dims, scratch, stride)
    emit_restore_denormals(b, target, saved)
    b.ret(ir.Constant(I32, 0))
    return StepCode(module, tuple(workspaces), stride, len({id(c) for c in codes}), launches)


def _kernels(module: ir.Module, steps: Sequence[Step], target: Target, slots: dict[str, int]) -> list[KernelCode]:
    """The code of each step; equal kernels share theirs."""
    known: dict[Any, KernelCode] = {}
    codes = []
    for step in steps:
        key = _structure(step.kernel)
        if key not in known:
            known[key] = emit_kernel(module, f"kernel{len(known)}", step.kernel, target, slots)
        codes.append(known[key])
    return codes


def _structure(kernel: Kernel) -> Any:
    return (kernel.loops, kernel.buffers, kernel.stores, kernel.contract)


def _launch(
    root: Scope, module: ir.Module, launch: Launch, arguments: Any, dims: Any, scratch: Any, stride: int
) -> None:
    """Run a launch here or in the pool, as its work demands."""
    b = root.builder
    function = module.globals[launch.name]
    units = root.size(launch.units)

    def here() -> None:
        b.call(function, [arguments, dims, const(0), units, scratch])

    def pool() -> None:
        b.call(_parallel_for(module), [function, arguments, dims, units, scratch, const(stride)])

    if isinstance(units, ir.Constant):
        many = units.constant > 1 and units.constant * launch.unit_ns >= PARALLEL_NS
        (pool if many else here)()
        return
    enough = const(max(-(-PARALLEL_NS // launch.unit_ns), 2))
    with b.if_else(b.icmp_signed(">=", units, enough)) as (then, otherwise):
        with then:
            pool()
        with otherwise:
            here()


def _parallel_for(module: ir.Module) -> Any:
    found = module.globals.get("gf_parallel_for")
    kind = ir.FunctionType(ir.VoidType(), [PTR, PTR, PTR, I64, PTR, I64])
    return found if found is not None else ir.Function(module, kind, "gf_parallel_for")
