"""Code that flushes denormals."""

import ctypes

import pytest
from llvmlite import ir

from graphflow.compiler.llvm.float_mode import emit_flush_denormals, emit_restore_denormals
from graphflow.compiler.llvm.jit import assembly_for, compile_module
from graphflow.compiler.llvm.target import NEON, SSE2, Target, host_target


def denormal_module(target: Target) -> ir.Module:
    """`float f(float x)`: x / 2 with denormals flushed, if the target can."""
    made = ir.Module("denormal")
    function = ir.Function(made, ir.FunctionType(ir.FloatType(), (ir.FloatType(),)), "f")
    builder = ir.IRBuilder(function.append_basic_block("entry"))
    slot = builder.alloca(ir.FloatType())
    builder.store(function.args[0], slot)
    saved = emit_flush_denormals(builder, target)
    half = builder.fmul(builder.load(slot), ir.FloatType()(0.5))
    builder.store(half, slot)
    emit_restore_denormals(builder, target, saved)
    builder.ret(builder.load(slot))
    return made


def test_denormals_are_flushed_and_the_mode_restored() -> None:
    target = host_target()
    if not target.is_x86 and not target.is_aarch64:
        pytest.skip("no flush mode is known for this CPU")
    # Unoptimized: the optimizer does not know that arithmetic depends on the mode.
    code = compile_module(denormal_module(target), target, optimize="none")
    halve = ctypes.CFUNCTYPE(ctypes.c_float, ctypes.c_float)(code.address("f"))
    assert halve(4.0) == 2.0
    assert halve(1e-40) == 0.0
    assert ctypes.c_float(1e-40).value * 0.5 > 0.0


def test_flushing_on_other_machines() -> None:
    assert "ldmxcsr" in assembly_for(denormal_module(SSE2), SSE2)
    assert "FPCR" in assembly_for(denormal_module(NEON), NEON)
    plain = Target("riscv64-unknown-linux-gnu", "generic-rv64", (), 128, 32, True)
    assert "call" not in str(denormal_module(plain))
