"""The loops that measure a machine: they compile for every target and do what their rates are counted for."""

import ctypes
import re

import numpy as np
import pytest

from graphflow.compiler.llvm.jit import assembly_for, compile_module
from graphflow.compiler.llvm.probe import PROBES, SLICES, fma_flops, granule, probe_module
from graphflow.compiler.llvm.target import AVX2, AVX512, NEON, SSE2, Target, host_target
from graphflow.runtime.memory import aligned_empty


@pytest.mark.parametrize(
    "target, fma",
    [(AVX512, "vfmadd.*zmm"), (AVX2, "vfmadd.*ymm"), (SSE2, "mulps"), (NEON, "fmla.*4s")],
    ids=["AVX512", "AVX2", "SSE2", "NEON"],
)
def test_probes_multiply_and_add_in_vectors_without_spilling(target: Target, fma: str) -> None:
    assembly = assembly_for(probe_module(target), target)
    body = assembly[assembly.index("\nfma_float32:") : assembly.index("\nfma_float64:")]
    products = re.findall(fma, body)
    assert fma_flops("float32", target) == 2 * len(products) * target.lanes("float32")


def run(probe: str, dim: int, units: int, scratch: np.ndarray) -> None:
    module = compile_module(probe_module(host_target()), host_target())
    pointer, number = ctypes.c_void_p, ctypes.c_int64
    function = ctypes.CFUNCTYPE(None, pointer, pointer, number, number, pointer)(module.address(probe))
    function(None, (number * 1)(dim), 0, units, scratch.ctypes.data)


@pytest.mark.parametrize("probe", PROBES[2:])
def test_probes_of_memory_touch_all_of_their_arrays_and_nothing_else(probe: str) -> None:
    slice_ = granule(host_target())
    size = SLICES * slice_
    memory = aligned_empty((3 * size + 1,), np.dtype(np.float32))
    memory[...] = np.arange(len(memory))
    before = memory.copy()
    run(probe, slice_, SLICES, memory)
    x, y, z = (before[n * size : (n + 1) * size] for n in range(3))
    triad = [x, y, x + np.float32(0.5) * y]
    wanted = {"read": [x, y, z], "copy": [x, x, z], "triad": triad, "stream": [x, x, z]}[probe]
    got = memory[:-1].reshape(3, size)
    if probe == "read":  # a slice's sums are put where it began, lest they be left out
        lanes = host_target().lanes("float32")
        sums = x.reshape(SLICES, -1, lanes).sum(1, dtype=np.float32)
        np.testing.assert_allclose(got[0].reshape(SLICES, -1)[:, :lanes], sums, rtol=1e-6)
        got[0].reshape(SLICES, -1)[:, :lanes] = x.reshape(SLICES, -1)[:, :lanes]
    np.testing.assert_array_equal(got, wanted)
    assert memory[-1] == before[-1]
