"""Compiling, loading, freeing and printing modules."""

import ctypes
import gc
import subprocess
import sys
from pathlib import Path

import pytest

from graphflow.compiler.llvm import load
from graphflow.compiler.llvm.jit import PIPELINES, assembly_for, compile_module, compile_object, optimized_ir
from graphflow.compiler.llvm.load import declare_symbol, load_objects
from graphflow.compiler.llvm.target import AVX2, NEON, SSE2, host_target

ADD = """
@five = constant i32 5

define internal i32 @hidden(i32 %a) alwaysinline {
  ret i32 %a
}

define i32 @add(i32 %a, i32 %b) {
  %place = alloca i32
  store i32 %a, ptr %place
  %again = load i32, ptr %place
  %kept = call i32 @hidden(i32 %again)
  %sum = add i32 %kept, %b
  ret i32 %sum
}
"""
BINARY = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int, ctypes.c_int)
UNARY = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int)


@pytest.mark.parametrize("optimize", PIPELINES)
def test_compiled_code_runs(optimize: str) -> None:
    module = compile_module(ADD, host_target(), optimize=optimize)
    assert BINARY(module.address("add"))(3, 4) == 7
    assert ctypes.c_int.from_address(module.address("five")).value == 5
    assert set(module.names) == {"add", "five"}


def test_unknown_names() -> None:
    module = compile_module(ADD, host_target())
    with pytest.raises(KeyError):
        module.address("hidden")
    with pytest.raises(KeyError):
        module.address("absent")


def test_what_was_generated_prints() -> None:
    module = compile_module(ADD, host_target())
    assert "alloca" not in module.ir()
    assert "call" not in module.ir()
    assert "alloca" in optimized_ir(ADD, host_target(), "none")
    assert "add:" in module.assembly()
    assert set(module.seconds) == {"parse", "verify", "optimize", "codegen", "link"}


def test_assembly_for_other_machines() -> None:
    fma = """
    declare <4 x float> @llvm.fma.v4f32(<4 x float>, <4 x float>, <4 x float>)
    define <4 x float> @f(<4 x float> %a, <4 x float> %b, <4 x float> %c) {
      %r = call <4 x float> @llvm.fma.v4f32(<4 x float> %a, <4 x float> %b, <4 x float> %c)
      ret <4 x float> %r
    }"""
    assert "fmla" in assembly_for(fma, NEON)
    assert "vfmadd" in assembly_for(fma, AVX2)
    assert "callq" in assembly_for(fma, SSE2)  # no FMA instruction: libm's


def test_malformed_ir() -> None:
    with pytest.raises(ValueError, match=r"malformed LLVM IR: .*\n.*value doesn't match function result type"):
        compile_module("define i32 @f() { ret i64 0 }", host_target())


def test_invalid_ir_is_shown() -> None:
    undominated = """define i32 @f(i1 %c) {
      br i1 %c, label %a, label %b
    a:
      %x = add i32 1, 2
      br label %b
    b:
      ret i32 %x
    }"""
    with pytest.raises(ValueError, match=r"(?s)invalid LLVM IR: Instruction does not dominate.*define i32 @f"):
        compile_module(undominated, host_target())


MISSING = "declare void @nobody()\ndefine void @f() {\n call void @nobody()\n ret void\n}"


def test_missing_symbol() -> None:
    with pytest.raises(RuntimeError, match=r"nobody|materialize"):  # ours, or LLVM's, which prints the name
        compile_module(MISSING, host_target())


CALLER = """
declare i32 @gf_test_seven_times(i32)
define i32 @f(i32 %x) {
  %y = call i32 @gf_test_seven_times(i32 %x)
  ret i32 %y
}"""
COSINE = """
declare double @cos(double)
define double @f(double %x) {
  %y = call double @cos(double %x)
  ret double %y
}"""


def test_declared_symbols() -> None:
    seven_times = UNARY(lambda x: 7 * x)
    address = ctypes.cast(seven_times, ctypes.c_void_p).value
    assert address is not None
    declare_symbol("gf_test_seven_times", address)
    try:
        assert UNARY(compile_module(CALLER, host_target()).address("f"))(6) == 42
        # A module that defines the name itself keeps its own.
        own = "define i32 @gf_test_seven_times(i32 %x) {\n ret i32 %x\n}"
        assert UNARY(compile_module(own, host_target()).address("gf_test_seven_times"))(6) == 6
    finally:
        del load._symbols["gf_test_seven_times"]


def test_libc_is_known() -> None:
    module = compile_module(COSINE, host_target())
    assert ctypes.CFUNCTYPE(ctypes.c_double, ctypes.c_double)(module.address("f"))(0.0) == 1.0


def test_modules_are_independent() -> None:
    """Many live at once under the same names, and freeing some leaves the others alone."""
    modules = [
        compile_module(f"define i32 @f(i32 %x) {{\n %y = add i32 %x, {k}\n ret i32 %y\n}}", host_target())
        for k in range(20)
    ]
    assert [UNARY(module.address("f"))(1) for module in modules] == list(range(1, 21))
    del modules[::2]
    gc.collect()
    assert [UNARY(module.address("f"))(1) for module in modules] == list(range(2, 21, 2))


def test_object_code_travels() -> None:
    object_code, names = compile_object(ADD, host_target())
    assert compile_object(ADD, host_target()) == (object_code, names), "the same code each time: caches rely on it"
    assert BINARY(load_objects((object_code,), names).address("add"))(20, 22) == 42


def test_interpreter_ends_cleanly_with_code_loaded() -> None:
    code = (
        "from graphflow.compiler.llvm.jit import compile_module\n"
        "from graphflow.compiler.llvm.target import host_target\n"
        "kept = [compile_module('define void @f() { ret void }', host_target()) for _ in range(3)]\n"
        "kept[0].keep_forever()\n"
    )
    path = str(Path(__file__).parents[2])
    done = subprocess.run([sys.executable, "-c", code], cwd=path, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


TWINS = """
define internal i32 @one(i32 %a) noinline {
  %b = mul i32 %a, 3
  ret i32 %b
}

define internal i32 @two(i32 %a) noinline {
  %b = mul i32 %a, 3
  ret i32 %b
}

define internal i32 @other(i32 %a) noinline {
  %b = mul i32 %a, 5
  ret i32 %b
}

define i32 @all(i32 %a) {
  %x = call i32 @one(i32 %a)
  %y = call i32 @two(i32 %x)
  %z = call i32 @other(i32 %y)
  ret i32 %z
}
"""


def test_equal_functions_become_one():
    text = optimized_ir(TWINS, host_target())
    assert sum(line.startswith("define") for line in text.splitlines()) == 3
    module = compile_module(TWINS, host_target())
    assert UNARY(module.address("all"))(7) == 7 * 3 * 3 * 5
