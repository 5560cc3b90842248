"""How a thread computes with denormals: code that sets the mode of the floating-point unit, and brings it back.

    saved = emit_flush_denormals(builder, target)
    …                                                # denormals count as zero here
    emit_restore_denormals(builder, target, saved)

`builder` is an llvmlite `IRBuilder`.
"""

from typing import Any

from graphflow.compiler.llvm.code import I32, I64, PTR, VOID, intrinsic
from graphflow.compiler.llvm.target import Target

__all__ = ["emit_flush_denormals", "emit_restore_denormals"]

FLUSH_MXCSR = 1 << 15 | 1 << 6  # flush results to zero, denormals (as operands) are zero
FLUSH_FPCR = 1 << 24


def emit_flush_denormals(builder: Any, target: Target) -> Any:
    """Emit code that makes this thread treat denormals as zero; returns the mode before, for `emit_restore_denormals`.

    On x86 results and operands are flushed (MXCSR bits FTZ and DAZ), on 64-bit ARM too (FPCR bit FZ); elsewhere nothing
    is emitted and the result is None. `builder` is an llvmlite `IRBuilder`.
    """
    saved = emit_read_float_mode(builder, target)
    if saved is not None:
        flush = FLUSH_MXCSR if target.is_x86 else FLUSH_FPCR
        emit_restore_denormals(builder, target, builder.or_(saved, saved.type(flush)))
    return saved


def emit_read_float_mode(builder: Any, target: Target) -> Any:
    """Emit code that reads MXCSR (an i32) or FPCR (an i64); None on other architectures."""
    if target.is_aarch64:
        return builder.call(intrinsic(builder.module, "llvm.aarch64.get.fpcr", I64, []), ())
    if not target.is_x86:
        return None
    # In the entry block, so that a call inside a loop does not grow the stack.
    with builder.goto_entry_block():
        slot = builder.alloca(I32, name="mxcsr")
    builder.call(intrinsic(builder.module, "llvm.x86.sse.stmxcsr", VOID, [PTR]), (slot,))
    return builder.load(slot, typ=I32)


def emit_restore_denormals(builder: Any, target: Target, saved: Any) -> None:
    """Emit code that brings back the mode that `emit_flush_denormals` returned."""
    if saved is None:
        return
    if target.is_aarch64:
        builder.call(intrinsic(builder.module, "llvm.aarch64.set.fpcr", VOID, [I64]), (saved,))
        return
    with builder.goto_entry_block():
        slot = builder.alloca(I32, name="mxcsr")
    builder.store(saved, slot)
    builder.call(intrinsic(builder.module, "llvm.x86.sse.ldmxcsr", VOID, [PTR]), (slot,))
