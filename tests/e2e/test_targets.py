"""Code for every kind of machine: what this one can run is run and compared, and all of it is looked at."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest

import graphflow as tf
from graphflow.compiler.llvm.jit import assembly_for
from graphflow.compiler.llvm.step import emit_step
from graphflow.compiler.llvm.target import (
    AVX2,
    AVX512,
    NAMED,
    NEON,
    SSE2,
    Target,
    can_run,
    host_target,
    narrowed,
    this_machine,
)
from graphflow.compiler.plan import Plan
from tests.e2e.programs import PROGRAMS
from tests.harness import assert_same

RUNNABLE = [name for name, target in NAMED.items() if can_run(this_machine(), target)]
ROUNDING = 20.0  # times the tolerance of one op: a program is some dozens of them


@pytest.fixture
def chosen(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Target]:
    """The target of the test's parameter, for everything that is compiled meanwhile."""
    monkeypatch.setenv("GRAPHFLOW_TARGET", request.param)
    host_target.cache_clear()
    yield host_target()
    host_target.cache_clear()


@cache
def interpreted(name: str) -> list[Any]:
    """What NumPy answers."""
    with pytest.MonkeyPatch.context() as patch, np.errstate(all="ignore"):
        patch.setenv("GRAPHFLOW_INTERPRET", "1")
        return PROGRAMS[name]()


@pytest.mark.parametrize("chosen", RUNNABLE, indirect=True)
@pytest.mark.parametrize("name", PROGRAMS)
def test_programs_agree_with_numpy_on_every_target(name: str, chosen: Target) -> None:
    assert chosen.vector_bits == NAMED[os.environ["GRAPHFLOW_TARGET"]].vector_bits
    for number, (got, wanted) in enumerate(zip(PROGRAMS[name](), interpreted(name), strict=True)):
        if wanted.dtype.kind == "f" and wanted.size:
            # Sums whose terms cancel are as far off as the terms are large.
            unit = max(1.0, float(np.std(wanted)))
            got, wanted = got / unit, wanted / unit
        assert_same(got, wanted, f"result {number}", ROUNDING)


# what is generated


CALLS = {
    "x86_64": re.compile(r"^\s+callq?\s+(\S+)", re.MULTILINE),
    "aarch64": re.compile(r"^\s+blr?\s+(\S+)", re.MULTILINE),
}
OURS = re.compile(r"(kernel\d+(\.\w+)?|gf_parallel_for|gf_poll)(@PLT)?$")
LIBM = re.compile(r"(fmod|floor|ceil|rint)f?(@PLT)?$")
"""What the C library computes, a number at a time: remainders of floats; SSE2 has no instruction that rounds."""
VECTORS = {"avx512": r"%zmm\d", "avx2": r"%ymm\d", "sse2": r"\b\w+p[sd]\b.*%xmm\d", "neon": r"\bv\d+\.(4s|2d)"}
WIDER = {"avx512": None, "avx2": r"%zmm\d", "sse2": r"%[yz]mm\d", "neon": None}
MULTIPLY_ADD = {
    "avx512": r"vfn?m(add|sub)\d+ps.*%zmm", "avx2": r"vfn?m(add|sub)\d+ps.*%ymm", "sse2": r"\bmulps\b",
    "neon": r"\bfmla\s+v\d+\.4s",
}  # fmt: skip
PRODUCTS = (
    "gemm:37x70x33", "gemm:130x97x75", "conv3x3:2x9x5x17", "conv3x3:2x19x32x44", "mlp_train:13x29x19x7",
    "convolutions, 2 axes",
)  # fmt: skip


@cache
def plans(name: str) -> list[Plan]:
    """The plans of all that a program compiles."""
    found: list[Plan] = []
    close = tf.Session.close

    def close_and_keep(session: tf.Session) -> None:
        found.extend(executable.plan for _, executable in session.compiled())
        close(session)

    with pytest.MonkeyPatch.context() as patch, np.errstate(all="ignore"):
        patch.setenv("GRAPHFLOW_INTERPRET", "1")  # nothing needs to be compiled for this machine
        patch.setattr(tf.Session, "close", close_and_keep)
        PROGRAMS[name]()
    return found


@cache
def assembly(name: str, target: str) -> str:
    """The assembly of a program on a target."""
    codes = (emit_step(p.steps, len(p.buffers), p.symbols, NAMED[target]) for p in plans(name))
    return "\n".join(assembly_for(code.module, NAMED[target]) for code in codes)


@pytest.mark.parametrize("target", NAMED)
@pytest.mark.parametrize("name", PROGRAMS)
def test_code_fits_its_target_and_calls_no_library(name: str, target: str) -> None:
    text = assembly(name, target)
    foreign = {call for call in CALLS[NAMED[target].arch].findall(text) if not OURS.match(call)}
    assert all(name.startswith("functions") and LIBM.match(call) for call in foreign), foreign
    assert target == "sse2" or all("fmod" in call for call in foreign), foreign
    assert name == "bmm:19x3" or re.search(VECTORS[target], text)  # rows of 3 fill no vector
    assert WIDER[target] is None or not re.search(WIDER[target], text)
    assert name not in PRODUCTS or re.search(MULTIPLY_ADD[target], text)


# the choice


def test_the_target_of_the_environment() -> None:
    assert narrowed(AVX512, "sse2").vector_bits == 128
    assert narrowed(AVX512, "avx2") == replace(
        AVX2, l1_bytes=AVX512.l1_bytes, l2_bytes=AVX512.l2_bytes, l3_bytes=AVX512.l3_bytes
    )
    for machine, name in ((AVX2, "avx512"), (SSE2, "avx2"), (AVX512, "neon"), (NEON, "sse2")):
        with pytest.raises(ValueError, match=f"GRAPHFLOW_TARGET={name}: this machine .* can't run such code"):
            narrowed(machine, name)
    with pytest.raises(ValueError, match="GRAPHFLOW_TARGET must be one of avx512, avx2, sse2, neon, got 'mmx'"):
        narrowed(AVX512, "mmx")
