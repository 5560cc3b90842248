"""The kernels of a plan as functions to call one by one, so that each can be timed: `emit_launches`.

A step runs all its kernels in one native call, so nothing outside can see how long one of them takes.  Here every launch
is a function of its own, `run_<its name>`, with the signature of all launches and denormals flushed as in a step.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from llvmlite import ir

from graphflow.compiler.llvm.kernel import KernelCode, Launch, emit_kernel
from graphflow.compiler.llvm.target import emit_flush_denormals, emit_restore_denormals
from graphflow.compiler.loops.ir import Kernel

if TYPE_CHECKING:
    from graphflow.compiler.llvm.target import Target

__all__ = ["NOTHING", "emit_launches", "entry_of"]

NOTHING = "nothing"
"""A launch without work, to measure what a call costs."""


def entry_of(launch: Launch) -> str:
    """The name of the function to call for a launch."""
    return f"run_{launch.name}"


def emit_launches(kernels: Sequence[Kernel], symbols: Sequence[str], target: Target) -> tuple[ir.Module, list[KernelCode]]:  # fmt: skip
    """(module, the code of each kernel); kernels of equal structure share theirs. `symbols`: the entries of dims."""
    module = ir.Module("launches")
    slots = {key: n for n, key in enumerate(symbols)}
    known: dict[Any, KernelCode] = {}
    codes = []
    for kernel in kernels:
        key = (kernel.loops, kernel.buffers, kernel.stores, kernel.contract)
        if key not in known:
            known[key] = emit_kernel(module, f"kernel{len(known)}", kernel, target, slots)
            for launch in known[key].launches:
                _entry(module, entry_of(launch), module.globals[launch.name], target)
        codes.append(known[key])
    _entry(module, NOTHING, None, target)
    return module, codes


def _entry(module: ir.Module, name: str, launch: ir.Function | None, target: Target) -> None:
    pointer, number = ir.PointerType(), ir.IntType(64)
    kind = ir.FunctionType(ir.VoidType(), [pointer, pointer, number, number, pointer])
    function = ir.Function(module, kind, name)
    b = ir.IRBuilder(function.append_basic_block("entry"))
    saved = emit_flush_denormals(b, target)
    if launch is not None:
        b.call(launch, function.args)
    emit_restore_denormals(b, target, saved)
    b.ret_void()
