"""What elementwise ops of floats become: vector instructions, no call of the C library, no lane on its own."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from llvmlite import ir

from graphflow.compiler.llvm.code import PTR, VOID
from graphflow.compiler.llvm.jit import assembly_for
from graphflow.compiler.llvm.target import AVX2, AVX512, Target
from graphflow.compiler.llvm.values import Values, memory_type, vector_of
from graphflow.core.dtype import DType, as_dtype
from graphflow.core.op import OPS, Case, Elementwise

# Conversions that AVX2 has no instruction for. Nothing else computes a lane on its own, and nothing calls.
LANE_BY_LANE = {("Cast", "AVX2", "int64"), ("Cast", "AVX2", "uint64")}

FLOAT_CASES = [
    (name, case)
    for name, op in OPS.items()
    if isinstance(op, Elementwise)
    for case in op.cases
    if any(np.asarray(x).dtype.kind == "f" for x in case.inputs)
]
INTEGERS = ("int8", "int16", "int32", "int64", "uint8", "uint32", "uint64")
FLOAT_CASES += [("Cast", Case((np.zeros(3),), {"dtype": as_dtype(name)})) for name in INTEGERS]

SCALAR_ARITHMETIC = re.compile(r"v?(add|sub|mul|div|sqrt|min|max|round|rndscale|fn?m(add|sub)\d*|cvt\w+2?)s[sd]2?\w*")


def emitted(op: Elementwise, case: Case, dtype: DType, target: Target) -> ir.Module:
    """`void f(out, x, y, …)` for one vector: the op's code, memory as kernels have it."""
    module, lanes = ir.Module(), target.lanes(dtype.name)
    function = ir.Function(module, ir.FunctionType(VOID, [PTR] * (len(case.inputs) + 1)), "f")
    b = ir.IRBuilder(function.append_basic_block())
    k = Values(b, fma=target.has_fma, avx512=target.has_avx512)
    operands = [
        operand(k, place, given, dtype, lanes) for place, given in zip(function.args[1:], case.inputs, strict=True)
    ]
    k.dtype = dtype
    result = op.emit(k, *operands, **case.attrs)
    b.store(result, function.args[0], align=1)
    b.ret_void()
    return module


def operand(k: Values, place: Any, given: Any, dtype: DType, lanes: int) -> Any:
    """A vector of the given array's kind: floats of `dtype`, or conditions."""
    own = as_dtype(np.asarray(given).dtype)
    own = dtype if own.is_floating else own
    x = k.builder.load(place, typ=vector_of(memory_type(own), lanes), align=1)
    return k.builder.trunc(x, vector_of(ir.IntType(1), lanes)) if own.is_bool else x


def instructions(op: Elementwise, case: Case, dtype: str, target: Target) -> list[str]:
    assembly = assembly_for(emitted(op, case, as_dtype(dtype), target), target)
    return [line.split()[0] for line in assembly.splitlines() if line.startswith("\t") and line[1] != "."]


@pytest.mark.parametrize("target", [AVX512, AVX2], ids=["AVX512", "AVX2"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_no_call_and_no_lane_on_its_own(dtype: str, target: Target) -> None:
    assert len(FLOAT_CASES) > 50
    kind = "AVX512" if target is AVX512 else "AVX2"
    for name, case in FLOAT_CASES:
        op = OPS[name]
        assert isinstance(op, Elementwise)
        used = instructions(op, case, dtype, target)
        assert [one for one in used if one.startswith("call")] == [], name
        if (name, kind, str(case.attrs.get("dtype"))) not in LANE_BY_LANE:
            assert [one for one in used if SCALAR_ARITHMETIC.fullmatch(one)] == [], name


def test_the_search_finds_scalar_code() -> None:
    """On the other side: a remainder by LLVM's own instruction calls, and scalar code is noticed."""
    for one in ("vaddss", "vdivsd", "vfmadd213ss", "vcvttss2si", "vcvtsi2sd", "vsqrtsd"):
        assert SCALAR_ARITHMETIC.fullmatch(one), one
    for one in ("vaddps", "vmovss", "vmovsd", "vbroadcastss", "vcvtps2pd", "vinsertps"):
        assert not SCALAR_ARITHMETIC.fullmatch(one), one
