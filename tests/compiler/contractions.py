"""Contractions as compiled kernels, and what to compare them with: for the tests of all kinds of plans."""

from __future__ import annotations

import ctypes
import mmap
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from llvmlite import ir

from graphflow.compiler.llvm.code import I64, PTR, first_lanes, intrinsic, short_name
from graphflow.compiler.llvm.contract.emit import Axis, Contraction, EpiloguePoint, emit_contraction
from graphflow.compiler.llvm.jit import compile_module
from graphflow.compiler.llvm.target import Target, host_target
from graphflow.core.dim import Size, evaluate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable


LAUNCH = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p)


HOST = host_target()


# Other machines' vector widths, compiled for this one.
TARGETS = {
    "host": HOST,
    "avx2": replace(HOST, vector_bits=256, vector_registers=16),
    "sse2": replace(HOST, vector_bits=128, vector_registers=16, has_fma=False),
    "neon": replace(HOST, vector_bits=128, vector_registers=32),
    "small caches": replace(HOST, l1_bytes=4096, l2_bytes=32768),
}


TRANSPOSES = [(False, False), (True, False), (False, True), (True, True)]


ORDERS = {
    "single": lambda units: [(i, i + 1) for i in range(units)],
    "backwards": lambda units: [(i, i + 1) for i in reversed(range(units))],
    "halves": lambda units: [(units // 2, units), (0, units // 2)],
}


class Kernel:
    """A compiled contraction whose epilogue stores C densely to `args[3]`."""

    def __init__(
        self, spec: Contraction, target: Target = HOST, symbols: dict[str, int] | None = None, weight: int = 0
    ):
        self.spec, self.symbols = spec, symbols or {}
        self.text = ir.Module("test")
        self.code = emit_contraction(self.text, "dot", spec, target, self.size, self.store, weight)
        self.module = compile_module(self.text, HOST)
        self.launches = [LAUNCH(self.module.address(launch.name)) for launch in self.code.launches]

    def size(self, b: ir.IRBuilder, size: Size, dims: ir.Value) -> ir.Value:
        """Sizes come from `dims`, in the order in which they are asked for: any polynomial will do for a test."""
        self.sizes = getattr(self, "sizes", [])
        if size not in self.sizes:
            self.sizes.append(size)
        address = b.gep(dims, [ir.Constant(I64, self.sizes.index(size))], source_etype=I64)
        return b.load(address, typ=I64)

    def store(self, b: ir.IRBuilder, point: EpiloguePoint) -> None:
        kind = point.value.type
        n = self.value(self.spec.n.extent)
        offset = b.add(b.mul(point.row, ir.Constant(I64, n)), point.lane)
        # The same place by the index of each axis, to show that both agree.
        extents = [self.value(axis.extent) for axis in self.spec.batch + self.spec.m]
        flat: ir.Value = ir.Constant(I64, 0)
        for index, extent in zip(point.index, extents, strict=True):
            flat = b.add(b.mul(flat, ir.Constant(I64, extent)), index)
        offset = b.add(offset, b.mul(b.sub(flat, point.row), ir.Constant(I64, 1 << 40)))
        base = point.entry.load(point.entry.gep(point.args, [ir.Constant(I64, 4)], source_etype=PTR), typ=PTR)
        address = b.gep(base, [offset], source_etype=kind.element)
        if point.count is None:
            b.store(point.value, address, align=1)
            return
        name = f"llvm.masked.store.v{kind.count}{short_name(kind.element)}.p0"
        mask = first_lanes(b, point.count, kind.count)
        function = intrinsic(b.module, name, ir.VoidType(), [kind, PTR, ir.IntType(32), mask.type])
        b.call(function, [point.value, address, ir.Constant(ir.IntType(32), 1), mask])

    def value(self, size: Size) -> int:
        return evaluate(size, self.symbols)

    def __call__(
        self, a: np.ndarray, b: np.ndarray, order: Callable[[int], Iterable[tuple[int, int]]] | None = None
    ) -> np.ndarray:
        spec = self.spec
        shape = [self.value(axis.extent) for axis in (*spec.batch, *spec.m, spec.n)]
        c = np.full(shape, 77, spec.dtype)
        workspace = aligned(self.value(self.code.workspace_bytes), 255)
        scratch = aligned(self.code.scratch_bytes, 255)
        packed = aligned(self.value(self.code.packed_bytes), 255)
        args = np.array([x.ctypes.data for x in (a, b, packed, workspace, c)], np.int64)
        dims = np.array([self.value(size) for size in getattr(self, "sizes", [])] or [0], np.int64)
        for function, launch in zip(self.launches, self.code.launches, strict=True):
            units = self.value(launch.units)
            for begin, end in order(units) if order else [(0, units)]:
                function(args.ctypes.data, dims.ctypes.data, begin, end, scratch.ctypes.data)
        return c


def aligned(size: int, fill: int) -> np.ndarray:
    """Bytes at an address that is a multiple of 64. 255 everywhere reads as NaN: nobody may use it unwritten."""
    raw = np.full(size + 128, fill, np.uint8)
    start = -raw.ctypes.data % 64
    return raw[start : start + max(size, 1)]


def random(shape: tuple[int, ...], dtype: str = "float32", seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (
        rng.integers(-9, 9, shape).astype(dtype)
        if dtype.startswith("int")
        else rng.standard_normal(shape).astype(dtype)
    )


def guarded(x: np.ndarray, at_end: bool) -> np.ndarray:
    """A copy of x that ends (or starts) at a page that may not be touched."""
    page = mmap.PAGESIZE
    pages = -(-x.nbytes // page)
    memory = mmap.mmap(-1, (pages + 2) * page)
    start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    mprotect = ctypes.CDLL(None, use_errno=True).mprotect
    for guard in (start, start + (pages + 1) * page):
        assert mprotect(ctypes.c_void_p(guard), ctypes.c_size_t(page), 0) == 0
    offset = page + (pages * page - x.nbytes if at_end else 0)
    copy = np.frombuffer(memory, x.dtype, x.size, offset).reshape(x.shape)
    copy[...] = x
    return copy


def matmul_spec(m: Size, n: Size, k: Size, ta: bool = False, tb: bool = False, dtype: str = "float32") -> Contraction:
    """C = A @ B, with A stored [k, m] if `ta` and B stored [n, k] if `tb`."""
    a_m, a_k = (1, m) if ta else (k, 1)
    b_n, b_k = (k, 1) if tb else (1, n)
    return Contraction(dtype, (), (Axis(m, a_m, 0),), Axis(n, 0, b_n), (Axis(k, a_k, b_k),))


def apart(a: np.ndarray, stride: int) -> np.ndarray:
    """The rows of a matrix in memory, each `stride` elements after the one before, and nothing behind the last."""
    rows, columns = a.shape
    return np.pad(a, ((0, 0), (0, stride - columns))).ravel()[: (rows - 1) * stride + columns]


def with_rows_apart(spec: Contraction, stride: int) -> Contraction:
    """A product whose A lies as `apart` has it."""
    return replace(spec, m=(replace(spec.m[0], a=stride),))


def batched_spec(batch: Size, m: int, n: int, k: int, tb: bool, dtype: str = "float32") -> Contraction:
    """C[i] = A[i] @ B[i], B stored [n, k] if `tb`."""
    b_n, b_k = (k, 1) if tb else (1, n)
    return Contraction(dtype, (Axis(batch, m * k, n * k),), (Axis(m, k, 0),), Axis(n, 0, b_n), (Axis(k, 1, b_k),))


def check(kernel: Kernel, a: np.ndarray, b: np.ndarray, expected: np.ndarray, depth: int) -> None:
    c = kernel(a, b)
    assert c.dtype == expected.dtype
    if c.dtype.kind == "i":
        np.testing.assert_array_equal(c.reshape(expected.shape), expected)
    else:
        scale = np.finfo(c.dtype).eps * 4 * max(depth, 1)
        np.testing.assert_allclose(c.reshape(expected.shape), expected, rtol=0, atol=scale * 4)


def check_matmul(m: int, n: int, k: int, ta: bool, tb: bool, dtype: str = "float32", target: Target = HOST) -> None:
    a, b = random((k, m) if ta else (m, k), dtype, 1), random((n, k) if tb else (k, n), dtype, 2)
    expected = (a.T if ta else a) @ (b.T if tb else b)
    check(Kernel(matmul_spec(m, n, k, ta, tb, dtype), target), a, b, expected, k)
