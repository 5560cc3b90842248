"""Contraction kernels against NumPy: sizes, strides, dtypes, targets, bounds and the order of units."""

from __future__ import annotations

import ctypes
import mmap
import re
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from llvmlite import ir

from graphflow.compiler.llvm.contract import Axis, Contraction, EpiloguePoint, emit_contraction
from graphflow.compiler.llvm.contract_choose import make_plan
from graphflow.compiler.llvm.contract_ir import I64, PTR, first_lanes, intrinsic, short_name
from graphflow.compiler.llvm.contract_tile import UNROLL
from graphflow.compiler.llvm.jit import assembly_for, compile_module
from graphflow.compiler.llvm.target import AVX2, AVX512, NEON, SSE2, Target, host_target
from graphflow.compiler.loops.ir import EVERY_STEP
from graphflow.core.dim import Dim, Size, evaluate, symbol

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


def matmul_spec(m: Size, n: Size, k: Size, ta: bool = False, tb: bool = False, dtype: str = "float32") -> Contraction:
    """C = A @ B, with A stored [k, m] if `ta` and B stored [n, k] if `tb`."""
    a_m, a_k = (1, m) if ta else (k, 1)
    b_n, b_k = (k, 1) if tb else (1, n)
    return Contraction(dtype, (), (Axis(m, a_m, 0),), Axis(n, 0, b_n), (Axis(k, a_k, b_k),))


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


TRANSPOSES = [(False, False), (True, False), (False, True), (True, True)]
SIZES = [(1, 1, 1), (3, 5, 7), (13, 10, 300), (33, 49, 65), (100, 130, 20), (257, 300, 64)]


@pytest.mark.parametrize("ta, tb", TRANSPOSES)
@pytest.mark.parametrize("m, n, k", SIZES)
def test_matmul(m: int, n: int, k: int, ta: bool, tb: bool) -> None:
    check_matmul(m, n, k, ta, tb)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("m, n, k", [(5, 3, 4), (37, 70, 33), (64, 48, 700), (130, 513, 33)])
def test_matmul_targets(m: int, n: int, k: int, target: str) -> None:
    for ta, tb in TRANSPOSES[:: 3 if m > 100 else 1]:
        check_matmul(m, n, k, ta, tb, target=TARGETS[target])


@pytest.mark.parametrize("dtype", ["float64", "int32", "int64"])
def test_dtypes(dtype: str) -> None:
    for ta, tb in TRANSPOSES[:2]:
        check_matmul(29, 41, 37, ta, tb, dtype)


@pytest.mark.parametrize("m, n, k", [(0, 5, 3), (4, 0, 3), (4, 5, 0), (0, 0, 0)])
def test_empty(m: int, n: int, k: int) -> None:
    for tb in (False, True):
        check_matmul(m, n, k, False, tb)


def test_random_sizes() -> None:
    rng = np.random.default_rng(5)
    for _ in range(12):
        m, n, k = (int(x) for x in rng.integers(1, 90, 3))
        check_matmul(m, n, k, bool(rng.integers(2)), bool(rng.integers(2)))


def test_staged_and_packed() -> None:
    """Sizes that make the plan copy A, in each way it knows, and pack B beforehand."""
    wide = replace(HOST, vector_bits=512, vector_registers=32, l1_bytes=AVX512.l1_bytes, l2_bytes=AVX512.l2_bytes)
    for ta, m, n, k, staged in ((False, 6000, 520, 512, "rows"), (True, 6000, 520, 100, "columns")):
        spec = replace(matmul_spec(m, n, k, ta), readers=EVERY_STEP)
        plan = make_plan(spec, wide)
        assert (plan.staged, plan.packed, plan.local) == (staged, True, False)
        a, b = random((k, m) if ta else (m, k), seed=1), random((k, n), seed=2)
        check(Kernel(spec, wide), a, b, (a.T if ta else a) @ b, k)


def test_rows_staged_for_parts_of_k() -> None:
    """A k that is split, or cut into blocks, has all row panels of a part side by side."""
    small = replace(HOST, l1_bytes=4096, l2_bytes=1 << 14)
    for m, n, k, ta in ((90, 1610, 3001, False), (640, 1610, 700, False), (641, 1610, 203, True)):
        plan = make_plan(matmul_spec(m, n, k, ta=ta, tb=True), small)
        assert plan.staged == "panels"
        assert plan.stage_parts > 1
        check_matmul(m, n, k, ta, True, target=small)
        a, b = random((k, m) if ta else (m, k), seed=1), random((k, n), seed=2)
        check(Kernel(matmul_spec(m, n, k, ta=ta), small), guarded(a, True), guarded(b, True), (a.T if ta else a) @ b, k)


def test_staged_windows_of_one_channel() -> None:
    """Rows and steps of k both lie side by side there, but rows of a panel may be of several runs."""
    small = replace(HOST, l1_bytes=4096, l2_bytes=1 << 14)
    m = (Axis(60, 50, 0), Axis(45, 1, 0))
    k = (Axis(3, 50, 3 * 1600), Axis(3, 1, 1600))
    spec = Contraction("float32", (), m, Axis(1600, 0, 1), k)
    assert make_plan(spec, small).staged == "panels"
    image, b = random((62, 50)), random((3, 3, 1600), seed=1)
    windows_of = np.lib.stride_tricks.sliding_window_view(image, (3, 3))[:60, :45]
    check(Kernel(spec, small), guarded(image, True), guarded(b, True), np.einsum("ywij,ijn->ywn", windows_of, b), 9)


@pytest.mark.parametrize("target", TARGETS)
def test_the_first_tile_packs(target: str) -> None:
    """Columns side by side are packed beside products, not by a loop of their own unless rows may be too few."""
    small = replace(TARGETS[target], l1_bytes=4096, l2_bytes=1 << 14)
    for rows, alone in ((100, False), (symbol("rows", hint=100), True)):
        spec = matmul_spec(rows, 150, 300)
        plan = make_plan(spec, small)
        assert plan.local
        kernel = Kernel(spec, small, {"rows": 100})
        masked = small.vector_bits >= 256
        assert ("dot.packing" in str(kernel.text)) == masked
        assert ("dot.panel" in str(kernel.text)) == (alone or not masked)
        for count in (100, 3, 101) if alone else (100,):
            kernel.symbols["rows"] = count
            a, b = random((count, 300)), random((300, 150), seed=3)
            check(kernel, guarded(a, True), guarded(b, True), a @ b, 300)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("tb", [False, True])
def test_a_tile_of_few_columns(target: str, tb: bool) -> None:
    """The last column panel has a tile of its own where most of its vectors would be idle; also packed, also masked."""
    chosen = TARGETS[target]
    found = 0
    for n in (25, 33, 41, 98, 201):
        for m, k in ((70, 40), (150, 700)):
            kernel = Kernel(matmul_spec(m, n, k, tb=tb), chosen)
            found += "dot.edge" in str(kernel.text)
            a, b = random((m, k)), random((n, k) if tb else (k, n), seed=3)
            check(kernel, guarded(a, True), guarded(b, True), a @ (b.T if tb else b), k)
    assert found


def test_long_k_is_split() -> None:
    spec = matmul_spec(20, 12, 5000, ta=True)
    assert make_plan(spec, HOST).splits > 1
    check_matmul(20, 12, 5000, True, False)
    check_matmul(20, 12, 5000, True, True)
    assert make_plan(matmul_spec(60, 300, 8192), AVX512).splits > 1
    check_matmul(60, 300, 8192, False, False)
    check_matmul(20, 40, 5000, False, False, target=TARGETS["sse2"])


@pytest.mark.parametrize("batch", [0, 1, 2, 4, 13, 30, 64])
def test_symbolic_rows(batch: int) -> None:
    """One compilation, any number of rows."""
    rows = symbol("batch", hint=32)
    for n, k, tb in ((10, 20, False), (70, 33, True)):
        kernel = Kernel(matmul_spec(rows, n, k, tb=tb), symbols={"batch": batch})
        a, b = random((batch, k)), random((n, k) if tb else (k, n))
        check(kernel, a, b, a @ (b.T if tb else b), k)


@pytest.mark.parametrize("batch", [0, 1, 7, 700])
def test_symbolic_depth(batch: int) -> None:
    """The gradient of a dense layer's weights: k is the batch."""
    for hint in (32, 4000):
        k = symbol("batch", hint=hint)
        a, b = random((batch, 19)), random((batch, 12))
        check(Kernel(matmul_spec(19, 12, k, ta=True), symbols={"batch": batch}), a, b, a.T @ b, batch)


@pytest.mark.parametrize("n", [1, 10, 32, 100])
@pytest.mark.parametrize("target", ["host", "avx2", "sse2"])
def test_symbolic_columns(n: int, target: str) -> None:
    columns = symbol("n", hint=50)
    a, b = random((9, 15)), random((15, n))
    kernel = Kernel(matmul_spec(9, columns, 15), TARGETS[target], symbols={"n": n})
    check(kernel, a, b, a @ b, 15)


@pytest.mark.parametrize("heads", [0, 1, 5])
def test_symbolic_batch(heads: int) -> None:
    """A symbolic number of independent products with both operands moving, B packed."""
    m, n, k = 9, 20, 11
    a, b = random((heads, m, k)), random((heads, n, k), seed=3)
    batch = (Axis(symbol("heads"), m * k, n * k),)
    spec = Contraction("float32", batch, (Axis(m, k, 0),), Axis(n, 0, k), (Axis(k, 1, 1),))
    check(Kernel(spec, symbols={"heads": heads}), a, b, a @ b.swapaxes(-1, -2), k)


@pytest.mark.parametrize("shared", [False, True])
def test_batched(shared: bool) -> None:
    """Attention's shape: [2, 3] products; B the same for all heads if `shared`."""
    m, n, k = 17, 21, 9
    a, b = random((2, 3, m, k)), random((2, 1 if shared else 3, n, k), seed=3)
    batch = (Axis(2, 3 * m * k, b[0].size), Axis(3, m * k, 0 if shared else n * k))
    spec = Contraction("float32", batch, (Axis(m, k, 0),), Axis(n, 0, k), (Axis(k, 1, 1),))
    check(Kernel(spec), a, b, a @ b.swapaxes(-1, -2), k)
    spec = replace(spec, batch=(Axis(2, 3 * m * k, 0), Axis(3, m * k, 0)))
    check(Kernel(spec), a, b[0, 0], a @ b[0, 0].T, k)


def conv_spec(
    x: tuple[int, ...], w: tuple[int, ...], stride: int, dilation: int, batch: Size | None = None
) -> Contraction:
    """VALID convolution of x[b, h, w, c] with w[kh, kw, c, o]."""
    b, height, width, c = x
    kh, kw, _, o = w
    oh, ow = ((size - dilation * (k - 1) - 1) // stride + 1 for size, k in ((height, kh), (width, kw)))
    m = (
        Axis(b if batch is None else batch, height * width * c, 0),
        Axis(oh, stride * width * c, 0),
        Axis(ow, stride * c, 0),
    )
    k = (Axis(kh, dilation * width * c, kw * c * o), Axis(kw, dilation * c, c * o), Axis(c, 1, o))
    return Contraction("float32", (), m, Axis(o, 0, 1), k)


def windows(x: np.ndarray, kh: int, kw: int, stride: int, dilation: int) -> np.ndarray:
    """[b, oh, ow, c, kh, kw]."""
    reach = ((kh - 1) * dilation + 1, (kw - 1) * dilation + 1)
    view = np.lib.stride_tricks.sliding_window_view(x, reach, (1, 2))
    return view[:, ::stride, ::stride, :, ::dilation, ::dilation]


CONVS = [
    ((2, 12, 14, 5), (3, 3, 5, 7), 1, 1),
    ((3, 9, 11, 1), (5, 5, 1, 32), 1, 1),
    ((2, 13, 15, 6), (3, 2, 6, 40), 2, 1),
    ((1, 16, 16, 3), (3, 3, 3, 10), 1, 2),
    ((2, 4, 4, 16), (3, 3, 16, 33), 1, 1),
    ((2, 7, 7, 8), (1, 1, 8, 16), 1, 1),
]


@pytest.mark.parametrize("x, w, stride, dilation", CONVS)
def test_convolution(x: tuple[int, ...], w: tuple[int, ...], stride: int, dilation: int) -> None:
    image, filters = random(x), random(w, seed=1)
    expected = np.einsum("bhwcij,ijco->bhwo", windows(image, w[0], w[1], stride, dilation), filters, optimize=True)
    for target in ("host", "sse2"):
        check(Kernel(conv_spec(x, w, stride, dilation), TARGETS[target]), image, filters, expected, w[0] * w[1] * w[2])
    spec = conv_spec(x, w, stride, dilation, symbol("batch"))
    check(Kernel(spec, symbols={"batch": x[0]}), image, filters, expected, w[0] * w[1] * w[2])


@pytest.mark.parametrize("x, w, stride, dilation", CONVS)
def test_filter_gradient(x: tuple[int, ...], w: tuple[int, ...], stride: int, dilation: int) -> None:
    forward = conv_spec(x, w, stride, dilation)
    oh, ow, o = forward.m[1].extent, forward.m[2].extent, w[3]
    assert isinstance(oh, int)
    assert isinstance(ow, int)
    image, g = random(x), random((x[0], oh, ow, o), seed=1)
    strides = (oh * ow * o, ow * o, o)
    m = tuple(Axis(axis.extent, axis.a, 0) for axis in forward.k)
    k = tuple(Axis(axis.extent, axis.a, b) for axis, b in zip(forward.m, strides, strict=True))
    spec = Contraction("float32", (), m, Axis(o, 0, 1), k)
    expected = np.einsum("bhwcij,bhwo->ijco", windows(image, w[0], w[1], stride, dilation), g, optimize=True)
    check(Kernel(spec), image, g, expected, x[0] * oh * ow)
    k = (Axis(symbol("batch", hint=500), k[0].a, k[0].b), *k[1:])
    check(Kernel(replace(spec, k=k), symbols={"batch": x[0]}), image, g, expected, x[0] * oh * ow)


def test_negative_strides() -> None:
    """A flipped filter is read backwards from an offset."""
    a, b = random((6, 11)), random((11, 20))
    spec = Contraction("float32", (), (Axis(6, 11, 0),), Axis(20, 0, 1), (Axis(11, 1, -20),), b_offset=200)
    check(Kernel(spec), a, b, a @ b[::-1], 11)


@pytest.mark.parametrize("target", TARGETS)
def test_input_gradient(target: str) -> None:
    """The filter [kh, kw, c, o] is read flipped and with c as columns, from its last kh and kw."""
    b, height, width, o, kh, kw, c = 2, 9, 8, 6, 3, 2, 21
    g, filters = random((b, height, width, o)), random((kh, kw, c, o), seed=1)
    m = conv_spec(g.shape, (kh, kw, o, c), 1, 1).m
    k = (Axis(kh, width * o, -kw * c * o), Axis(kw, o, -c * o), Axis(o, 1, 1))
    spec = Contraction("float32", (), m, Axis(c, 0, o), k, b_offset=(kh * kw - 1) * c * o)
    expected = np.einsum("bhwoij,ijco->bhwc", windows(g, kh, kw, 1, 1), filters[::-1, ::-1], optimize=True)
    check(Kernel(spec, TARGETS[target]), g, filters, expected, kh * kw * o)


def test_volume_convolution() -> None:
    """Three spatial axes: nothing knows how many there are."""
    x, w = random((2, 5, 6, 7, 3)), random((2, 3, 2, 3, 4), seed=1)
    steps, out = (6 * 7 * 3, 7 * 3, 3), (4, 4, 6)
    m = (Axis(2, x[0].size, 0), *(Axis(n, a, 0) for n, a in zip(out, steps, strict=True)))
    k = (*(Axis(n, a, b) for n, a, b in zip(w.shape[:3], steps, (72, 24, 12), strict=True)), Axis(3, 1, 4))
    expected = np.einsum("bxyzcijk,ijkco->bxyzo", np.lib.stride_tricks.sliding_window_view(x, (2, 3, 2), (1, 2, 3)), w)
    check(Kernel(Contraction("float32", (), m, Axis(4, 0, 1), k)), x, w, expected, 36)


ORDERS = {
    "single": lambda units: [(i, i + 1) for i in range(units)],
    "backwards": lambda units: [(i, i + 1) for i in reversed(range(units))],
    "halves": lambda units: [(units // 2, units), (0, units // 2)],
}


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("m, n, k, ta", [(150, 140, 90, False), (20, 12, 5000, True), (45, 300, 280, False)])
def test_units_in_any_order(m: int, n: int, k: int, ta: bool, order: str) -> None:
    kernel = Kernel(matmul_spec(m, n, k, ta))
    a, b = random((k, m) if ta else (m, k)), random((k, n))
    assert kernel(a, b).tobytes() == kernel(a, b, ORDERS[order]).tobytes()


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


@pytest.mark.parametrize("at_end", [True, False])
@pytest.mark.parametrize("target", ["host", "avx2", "sse2"])
def test_bounds(target: str, at_end: bool) -> None:
    """Nothing outside A and B is read: it would end the process."""
    for m, n, k, ta, tb in [
        (13, 10, 20, 0, 0),
        (3, 37, 5, 1, 1),
        (50, 33, 9, 0, 1),
        (15, 300, 280, 0, 0),
        (20, 12, 5000, 1, 0),
    ]:
        a, b = random((k, m) if ta else (m, k)), random((n, k) if tb else (k, n))
        expected = (a.T if ta else a) @ (b.T if tb else b)
        kernel = Kernel(matmul_spec(m, n, k, bool(ta), bool(tb)), TARGETS[target])
        check(kernel, guarded(a, at_end), guarded(b, at_end), expected, k)
    x, w, stride, dilation = CONVS[2]
    image, filters = random(x), random(w)
    expected = np.einsum("bhwcij,ijco->bhwo", windows(image, w[0], w[1], stride, dilation), filters, optimize=True)
    kernel = Kernel(conv_spec(x, w, stride, dilation), TARGETS[target])
    check(kernel, guarded(image, at_end), guarded(filters, at_end), expected, w[0] * w[1] * w[2])


@pytest.mark.parametrize("target", [AVX512, AVX2, SSE2, NEON])
def test_tiles_fit_the_registers(target: Target) -> None:
    for m, n in ((1000, 1000), (32, 10), (1, 500), (64, 20)):
        plan = make_plan(matmul_spec(m, n, 100), target)
        assert plan.rows * plan.vectors + plan.vectors < target.vector_registers


@pytest.mark.parametrize("target, product", [(AVX512, "vfmadd"), (AVX2, "vfmadd"), (SSE2, "mulps"), (NEON, "fmla")])
def test_inner_loop_keeps_sums_in_registers(target: Target, product: str) -> None:
    """The loops over k, by several steps and by one, hold all products of a tile and touch no stack."""
    assembly = assembly_for(Kernel(matmul_spec(500, 512, 64), target).text, target)
    tile = assembly.split("dot.tile:")[1].split(".Lfunc_end")[0]
    blocks = [block for block in re.split(r"\n\.LBB\S+:", tile) if product in block]
    plan = make_plan(matmul_spec(500, 512, 64), target)
    sums = plan.rows * plan.vectors
    assert sorted(block.count(product) for block in blocks) == ([sums, UNROLL * sums] if target.has_fma else [sums])
    assert not any(re.search(r"\(%[re]sp\)|\[sp", block) for block in blocks)


def test_plan_ignores_nothing_symbolic() -> None:
    """Sizes of launches and workspace stay expressions of the symbols."""
    batch = symbol("batch")
    kernel = Kernel(matmul_spec(batch, 64, 32, tb=True), symbols={"batch": 1})
    assert isinstance(kernel.code.launches[-1].units, Dim)


def batched_spec(batch: Size, m: int, n: int, k: int, tb: bool, dtype: str = "float32") -> Contraction:
    """C[i] = A[i] @ B[i], B stored [n, k] if `tb`."""
    b_n, b_k = (k, 1) if tb else (1, n)
    return Contraction(dtype, (Axis(batch, m * k, n * k),), (Axis(m, k, 0),), Axis(n, 0, b_n), (Axis(k, 1, b_k),))


SMALL = [(2, 2, 2), (3, 5, 7), (8, 8, 8), (5, 17, 3), (16, 16, 16), (13, 33, 31), (32, 32, 32), (1, 9, 4), (4, 1, 6)]


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("tb", [False, True])
def test_many_small_products(tb: bool, target: str) -> None:
    """Written out in one function without calls, for every remainder of rows and columns."""
    for m, n, k in SMALL:
        kernel = Kernel(batched_spec(7, m, n, k, tb), TARGETS[target])
        a, b = random((7, m, k)), random((7, n, k) if tb else (7, k, n), seed=3)
        assert len(kernel.code.launches) == 1
        check(kernel, guarded(a, True), guarded(b, True), a @ (b.swapaxes(-1, -2) if tb else b), k)


@pytest.mark.parametrize("dtype", ["float64", "int32", "int64"])
def test_many_small_products_dtypes(dtype: str) -> None:
    for m, n, k in SMALL[:6]:
        a, b = random((6, m, k), dtype), random((6, k, n), dtype, 3)
        check(Kernel(batched_spec(6, m, n, k, False, dtype)), a, b, a @ b, k)


@pytest.mark.parametrize("weight", [0, 1000])
@pytest.mark.parametrize("batch", [0, 1, 3000])
def test_many_small_products_in_units(batch: int, weight: int) -> None:
    """A symbolic number of them, some to a unit, with an epilogue written many times or once."""
    spec = batched_spec(symbol("batch"), 6, 10, 5, False)
    assert make_plan(spec, HOST).inline
    kernel = Kernel(spec, symbols={"batch": batch}, weight=weight)
    a, b = random((batch, 6, 5)), random((batch, 5, 10), seed=3)
    check(kernel, a, b, a @ b, 5)
    assert kernel(a, b).tobytes() == kernel(a, b, ORDERS["backwards"]).tobytes()


DOTS = [(1, 1000, 100), (1, 1, 5000), (1, 1, 3), (4, 301, 95), (2, 7, 33), (32, 128, 784), (9, 70, 999)]


@pytest.mark.parametrize("target", TARGETS)
def test_dot_products(target: str) -> None:
    """Vectors along k, where k lies side by side in both operands: odd sizes, nothing read outside."""
    for m, n, k in DOTS:
        a, b = random((m, k)), random((n, k), seed=3)
        kernel = Kernel(matmul_spec(m, n, k, tb=True), TARGETS[target])
        for at_end in (True, False):
            check(kernel, guarded(a, at_end), guarded(b, at_end), a @ b.T, k)


@pytest.mark.parametrize("dtype", ["float64", "int32", "int64"])
def test_dot_products_dtypes(dtype: str) -> None:
    for m, n, k in DOTS[:5]:
        check_matmul(m, n, k, False, True, dtype)


def test_matrix_times_vector_is_not_packed() -> None:
    for target in (AVX512, AVX2, SSE2, NEON):
        plan = make_plan(matmul_spec(1, 1000, 1000, tb=True), target)
        assert plan.dots
        assert not plan.packed
        assert_in_registers(matmul_spec(1, 1000, 1000, tb=True), target)


def assert_in_registers(spec: Contraction, target: Target) -> None:
    """The tile compiles for the target and calls nothing."""
    tile = assembly_for(Kernel(spec, target).text, target).split("dot.tile:")[1].split(".Lfunc_end")[0]
    assert not re.search(r"\bcall|\bbl\b", tile)


@pytest.mark.parametrize("sizes", [{"m": 1, "n": 70, "k": 40}, {"m": 3, "n": 5, "k": 7}, {"m": 0, "n": 4, "k": 4}])
def test_dot_products_of_symbolic_sizes(sizes: dict[str, int]) -> None:
    m, n, k = symbol("m", hint=2), symbol("n", hint=300), symbol("k", hint=300)
    spec = Contraction("float32", (), (Axis(m, k, 0),), Axis(n, 0, k), (Axis(k, 1, 1),))
    assert make_plan(spec, HOST).dots
    a, b = random((sizes["m"], sizes["k"])), random((sizes["n"], sizes["k"]), seed=3)
    check(Kernel(spec, symbols=sizes), a, b, a @ b.T, sizes["k"])


@pytest.mark.parametrize("target", ["host", "small caches", "avx2"])
def test_blocks_of_k(target: str) -> None:
    """Rows copied beforehand, columns by the unit; sums stay in scratch from block to block."""
    limited = replace(TARGETS[target], l1_bytes=8192, l2_bytes=1 << 15)
    for m, n, k in ((300, 1606, 600), (280, 1600, 450)):
        plan = make_plan(matmul_spec(m, n, k), limited)
        assert plan.staged == "panels"
        assert plan.k_blocks > 1
        a, b = random((m, k)), random((k, n), seed=3)
        kernel = Kernel(matmul_spec(m, n, k), limited)
        check(kernel, guarded(a, True), guarded(b, False), a @ b, k)
        assert kernel(a, b).tobytes() == kernel(a, b, ORDERS["backwards"]).tobytes()


@pytest.mark.parametrize("count", [0, 1, 5, 300])
def test_blocks_of_k_of_symbolic_rows(count: int) -> None:
    limited = replace(HOST, l1_bytes=8192, l2_bytes=1 << 15)
    spec = matmul_spec(symbol("rows", hint=300), 1600, 250)
    assert make_plan(spec, limited).k_blocks > 1
    a, b = random((count, 250)), random((250, 1600), seed=3)
    check(Kernel(spec, limited, {"rows": count}), guarded(a, True) if count else a, b, a @ b, 250)


def test_rows_without_a_common_stride() -> None:
    """All rows of a small filter's gradient in one tile, their places from a table."""
    forward = conv_spec((4, 20, 20, 1), (5, 5, 1, 10), 1, 1)
    m = tuple(Axis(axis.extent, axis.a, 0) for axis in forward.k)
    k = tuple(Axis(axis.extent, axis.a, b) for axis, b in zip(forward.m, (2560, 160, 10), strict=True))
    spec = Contraction("float32", (), m, Axis(10, 0, 1), k)
    assert make_plan(spec, AVX512).row_table[:7] == (0, 1, 2, 3, 4, 20, 21)
    image, g = random((4, 20, 20, 1)), random((4, 16, 16, 10), seed=1)
    expected = np.einsum("bhwcij,bhwo->ijco", windows(image, 5, 5, 1, 1), g, optimize=True)
    for target in (HOST, replace(HOST, vector_bits=512, vector_registers=32)):
        check(Kernel(spec, target), guarded(image, True), guarded(g, True), expected, 1024)


LOCAL = replace(HOST, l1_bytes=4096, l2_bytes=1 << 14)


@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 70),
    st.integers(1, 150),
    st.integers(1, 300),
    st.booleans(),
    st.booleans(),
    st.sampled_from(["float32", "float64", "int32", "int64"]),
)
def test_packed_where_it_is_read(m: int, n: int, k: int, ta: bool, tb: bool, dtype: str) -> None:
    """Small caches: each unit packs B itself, by blocks of k, and reads nothing outside A and B."""
    a, b = random((k, m) if ta else (m, k), dtype, 1), random((n, k) if tb else (k, n), dtype, 2)
    kernel = Kernel(matmul_spec(m, n, k, ta, tb, dtype), LOCAL)
    check(kernel, guarded(a, True), guarded(b, True), (a.T if ta else a) @ (b.T if tb else b), k)


@pytest.mark.parametrize("tb", [False, True])
@pytest.mark.parametrize("m, n, k", [(50, 130, 90), (50, 200, 300), (16, 400, 40), (60, 400, 64)])
def test_packing_needs_no_launch(m: int, n: int, k: int, tb: bool) -> None:
    """One launch, no workspace, and the same bits in any order of its units."""
    spec = matmul_spec(m, n, k, tb=tb)
    plan = make_plan(spec, LOCAL)
    assert plan.local
    kernel = Kernel(spec, LOCAL)
    a, b = random((m, k)), random((n, k) if tb else (k, n), seed=3)
    copies = plan.staged == "panels"
    assert len(kernel.code.launches) == 1 + copies
    assert copies or kernel.code.workspace_bytes == 0
    assert kernel.code.packed_bytes == 0
    check(kernel, guarded(a, True), guarded(b, True), a @ (b.T if tb else b), k)
    assert kernel(a, b).tobytes() == kernel(a, b, ORDERS["backwards"]).tobytes()


@pytest.mark.parametrize("rows", [0, 1, 3, 4, 11, 64, 90])
def test_packing_for_a_symbolic_number_of_rows(rows: int) -> None:
    """Small tiles finish the rows, and their sums stay apart from those of other tiles between blocks of k."""
    spec = matmul_spec(symbol("rows", hint=64), 130, 300)
    plan = make_plan(spec, LOCAL)
    assert plan.local
    assert plan.k_blocks > 1
    a, b = random((rows, 300)), random((300, 130), seed=3)
    check(Kernel(spec, LOCAL, {"rows": rows}), guarded(a, True) if rows else a, guarded(b, True), a @ b, 300)


def test_packing_batched_products() -> None:
    """A batch whose B move too, and one whose B do not."""
    a, b = random((3, 40, 90)), random((3, 90, 130), seed=3)
    spec = Contraction("float32", (Axis(3, 3600, 11700),), (Axis(40, 90, 0),), Axis(130, 0, 1), (Axis(90, 1, 130),))
    assert make_plan(spec, LOCAL).local
    check(Kernel(spec, LOCAL), guarded(a, True), guarded(b, True), a @ b, 90)
    shared = replace(spec, batch=(Axis(3, 3600, 0),))
    check(Kernel(shared, LOCAL), guarded(a, True), guarded(b[0], True), a @ b[0], 90)


def filter_spec(images: Size, size: int, window: int, stride: int, groups: int, c: int, o: int) -> Contraction:
    """The gradient of filters [groups, window, window, c, o]; x[images, size, size, groups * c]."""
    made, pixel, across = (size - window) // stride + 1, groups * c, groups * o
    batch = (Axis(groups, c, o),) if groups > 1 else ()
    m = (Axis(window, size * pixel, 0), Axis(window, pixel, 0), Axis(c, 1, 0))
    k = (
        Axis(images, size * size * pixel, made * made * across),
        Axis(made, stride * size * pixel, made * across),
        Axis(made, stride * pixel, across),
    )
    return Contraction("float32", batch, m, Axis(o, 0, 1), k)


@settings(max_examples=30, deadline=None)
@given(
    st.integers(1, 9),
    st.integers(5, 16),
    st.integers(1, 4),
    st.integers(1, 2),
    st.integers(1, 3),
    st.sampled_from([1, 3, 16]),
    st.sampled_from([1, 5, 16, 20]),
    st.sampled_from([0, 1, 500]),
)
def test_filter_gradient_in_parts(
    images: int, size: int, window: int, stride: int, groups: int, c: int, o: int, hint: int
) -> None:
    """Small caches: k is cut along its images or its rows; with a hint, the number of images is symbolic."""
    count = symbol("images", hint=hint) if hint else images
    spec = filter_spec(count, size, window, stride, groups, c, o)
    made = (size - window) // stride + 1
    x, g = random((images, size, size, groups * c)), random((images, made, made, groups * o), seed=1)
    patches = windows(x, window, window, stride, 1).reshape(images, made, made, groups, c, window, window)
    expected = np.einsum("bhwgcij,bhwgo->gijco", patches, g.reshape(images, made, made, groups, o), optimize=True)
    kernel = Kernel(spec, replace(HOST, l1_bytes=4096, l2_bytes=1 << 15), {"images": images})
    check(kernel, guarded(x, True), guarded(g, True), expected, images * made * made)
    assert kernel(x, g).tobytes() == kernel(x, g, ORDERS["backwards"]).tobytes()


@pytest.mark.parametrize("images, size, channels", [(8, 34, 64), (2, 114, 64), (16, 16, 256)])
def test_parts_of_a_filter_gradient_stay_cached(images: int, size: int, channels: int) -> None:
    """All taps of a group of 16 channels go over a part of the pixels that L2 holds, lines of other groups included."""
    spec = filter_spec(images, size, 3, 1, channels // 16, 16, 16)
    plan = make_plan(spec, AVX512)
    steps = images * (size - 2) ** 2 / plan.splits
    assert plan.splits > 1
    assert plan.row_block == plan.row_panels
    assert steps * 2 * channels * 4 <= AVX512.l2_bytes
    assert make_plan(filter_spec(8, 34, 3, 1, 1, 256, 256), AVX512).splits <= 8  # results too large to have many of
