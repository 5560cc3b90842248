"""The kernels of a plan as functions to call one by one, so that each can be timed: `emit_launches`.

A step runs all its kernels in one native call, so nothing outside can see how long one of them takes.  Here every
launch has two functions of its own, which run it `count` times with denormals flushed, as in a step: `alone_<its name>`
on the caller's thread, `shared_<its name>` by the thread pool.

    void f(ptr args, ptr dims, i64 units, ptr scratch, i64 scratch_stride, i64 count)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from llvmlite import ir

from graphflow.compiler.llvm.code import I64, PTR, VOID, const, loop
from graphflow.compiler.llvm.float_mode import emit_flush_denormals, emit_restore_denormals
from graphflow.compiler.llvm.kernel import KernelCode, Launch
from graphflow.compiler.llvm.share import emit_kernels
from graphflow.compiler.llvm.waves import parallel_for
from graphflow.compiler.loops.ir import Kernel

if TYPE_CHECKING:
    from graphflow.compiler.llvm.target import Target

__all__ = ["emit_launches", "entry_of"]


def entry_of(launch: Launch, shared: bool) -> str:
    """The name of the function that runs a launch."""
    return f"{'shared' if shared else 'alone'}_{launch.name}"


def emit_launches(
    kernels: Sequence[Kernel], symbols: Sequence[str], target: Target
) -> tuple[ir.Module, list[KernelCode]]:
    """(module, the code of each kernel); kernels of equal structure share theirs. `symbols`: the entries of dims."""
    module = ir.Module("launches")
    slots = {key: n for n, key in enumerate(symbols)}
    codes = emit_kernels(module, kernels, target, slots)
    for launch in {launch.name: launch for code in codes for launch in code.launches}.values():
        _entry(module, launch, False, target)
        _entry(module, launch, True, target)
    return module, codes


def _entry(module: ir.Module, launch: Launch, shared: bool, target: Target) -> None:
    kind = ir.FunctionType(VOID, [PTR, PTR, I64, PTR, I64, I64])
    function = ir.Function(module, kind, entry_of(launch, shared))
    b = ir.IRBuilder(function.append_basic_block("entry"))
    args, dims, units, scratch, stride, count = function.args
    saved = emit_flush_denormals(b, target)
    order = const(int(launch.order))
    with loop(b, const(0), count):
        if shared:
            b.call(
                parallel_for(module),
                [
                    module.globals[launch.name],
                    args,
                    dims,
                    units,
                    scratch,
                    stride,
                    const(0),
                    order,
                    ir.Constant(PTR, None),
                ],
            )
        else:
            b.call(module.globals[launch.name], [args, dims, const(0), units, scratch])
    emit_restore_denormals(b, target, saved)
    b.ret_void()
