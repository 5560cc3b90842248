"""Loops that find out what a machine can do: `probe_module` has one function for each `PROBES`.

    fma_float32   as many multiply-adds as the core can issue, in registers
    fma_float64
    read          sums an array
    copy          b = a
    triad         c = a + s * b (as in McCalpin's STREAM)
    stream        b = a, past the caches: the lines of b are not fetched before they are overwritten

Each is a launch, `void f(ptr args, ptr dims, i64 begin, i64 end, ptr scratch)`, so that the thread pool can run it.
What it works on is the worker's own scratch, at a multiple of 64 bytes: threads share nothing but the memory bus.  An
fma unit is dims[0] rounds of `fma_flops`.  A unit of the others is one slice of the arrays: `SLICES` slices of dims[0]
float32 elements make an array, and the arrays follow each other in scratch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from llvmlite import ir

from graphflow.compiler.llvm.code import ELEMENTS, I64, PTR, VOID, at, const, loop, multiply_add, splat
from graphflow.compiler.llvm.float_mode import emit_flush_denormals, emit_restore_denormals
from graphflow.compiler.llvm.memory import emit_stream_fence, store_past_caches

if TYPE_CHECKING:
    from graphflow.compiler.llvm.target import Target

__all__ = ["PROBES", "SLICES", "arrays_of", "fma_flops", "granule", "probe_module"]

PROBES = ("fma_float32", "fma_float64", "read", "copy", "triad", "stream")

SLICES = 17
"""A prime: whichever units a worker gets, it goes through all its slices."""

VECTORS = 8
"""Vectors at once in the loops over memory: enough to hide the latency of an addition."""


def arrays_of(probe: str) -> int:
    """How many arrays a probe of memory touches, and so how many bytes it moves for each byte of one."""
    return {"read": 1, "copy": 2, "triad": 3, "stream": 2}[probe]


def granule(target: Target) -> int:
    """A slice must be a multiple of this many elements."""
    return VECTORS * target.lanes("float32")


def accumulators(target: Target) -> int:
    """Independent sums: two a cycle with a latency of four or five would do; two factors stay in registers too."""
    return min(target.vector_registers - 4, 24)


def fma_flops(dtype: str, target: Target) -> int:
    """Floating point operations of a round."""
    return 2 * accumulators(target) * target.lanes(dtype)


def probe_module(target: Target) -> ir.Module:
    """The module of all `PROBES`."""
    module = ir.Module("probes")
    for dtype in ("float32", "float64"):
        _launch(module, f"fma_{dtype}", target, _fma(dtype, target))
    for name, body in (("read", _read), ("copy", _copy), ("triad", _triad), ("stream", _stream)):
        _launch(module, name, target, _sliced(body, target))
    return module


Body = Callable[[Any, Any, Any, Any], None]  # (builder, unit, dims[0], scratch)


def _launch(module: ir.Module, name: str, target: Target, body: Body) -> None:
    function = ir.Function(module, ir.FunctionType(VOID, [PTR, PTR, I64, I64, PTR]), name)
    b = ir.IRBuilder(function.append_basic_block("entry"))
    _, dims, begin, end, scratch = function.args
    saved = emit_flush_denormals(b, target)
    size = b.load(dims, typ=I64)
    with loop(b, begin, end) as unit:
        body(b, unit, size, scratch)
    if name == "stream":
        emit_stream_fence(b, target)
    emit_restore_denormals(b, target, saved)
    b.ret_void()


def _carried(
    b: Any, stop: Any, step: int, start: Sequence[Any], body: Callable[[Any, list[Any]], list[Any]]
) -> list[Any]:
    """For i in range(0, stop, step), with values carried from round to round; at least one round."""
    before = b.block
    head, after = b.append_basic_block("carry"), b.append_basic_block("carried")
    b.branch(head)
    b.position_at_end(head)
    i = b.phi(I64)
    carried = [b.phi(value.type) for value in start]
    new = body(i, list(carried))
    following = b.add(i, const(step))
    for phi, first, later in zip((i, *carried), (const(0), *start), (following, *new), strict=True):
        phi.add_incoming(first, before)
        phi.add_incoming(later, b.block)
    b.cbranch(b.icmp_signed("<", following, stop), head, after)
    b.position_at_end(after)
    return new


def _fma(dtype: str, target: Target) -> Body:
    """Each sum becomes sum * x + y: finite for x < 1. The factors come from memory: nothing is known of them."""
    element, lanes = ELEMENTS[dtype], target.lanes(dtype)
    vector = ir.VectorType(element, lanes)

    def body(b: Any, unit: Any, rounds: Any, scratch: Any) -> None:
        x, y = (splat(b, b.load(at(b, scratch, const(n), element), typ=element), lanes) for n in range(2))
        start = [ir.Constant(vector, [float(n)] * lanes) for n in range(accumulators(target))]
        sums = _carried(b, rounds, 1, start, lambda _, now: [multiply_add(b, s, x, y, target.has_fma) for s in now])
        total = sums[0]
        for value in sums[1:]:
            total = b.fadd(total, value)
        b.store(total, at(b, scratch, const(1), vector), align=4)

    return body


def _sliced(body: Callable[..., None], target: Target) -> Body:
    """A body for (builder, elements, pointers to the slices of the arrays, vector type)."""
    vector = ir.VectorType(ELEMENTS["float32"], target.lanes("float32"))

    def sliced(b: Any, unit: Any, elements: Any, scratch: Any) -> None:
        first = b.mul(b.srem(unit, const(SLICES)), elements)
        array = b.mul(elements, const(SLICES))
        starts = [at(b, scratch, b.add(first, b.mul(array, const(n))), ELEMENTS["float32"]) for n in range(3)]
        body(b, elements, starts, vector)

    return sliced


def _vectors(b: Any, start: Any, i: Any, vector: Any) -> list[Any]:
    """The addresses of the vectors of one round."""
    return [at(b, start, b.add(i, const(n * vector.count)), vector.element) for n in range(VECTORS)]


def _read(b: Any, elements: Any, starts: list[Any], vector: Any) -> None:
    def add(i: Any, sums: list[Any]) -> list[Any]:
        addresses = _vectors(b, starts[0], i, vector)
        return [b.fadd(s, b.load(a, typ=vector, align=4)) for s, a in zip(sums, addresses, strict=True)]

    zero = ir.Constant(vector, None)
    sums = _carried(b, elements, VECTORS * vector.count, [zero] * VECTORS, add)
    total = sums[0]
    for value in sums[1:]:
        total = b.fadd(total, value)
    b.store(total, starts[0], align=4)


def _copy(b: Any, elements: Any, starts: list[Any], vector: Any) -> None:
    def move(i: Any, _: list[Any]) -> list[Any]:
        for source, target in zip(_vectors(b, starts[0], i, vector), _vectors(b, starts[1], i, vector), strict=True):
            b.store(b.load(source, typ=vector, align=4), target, align=4)
        return []

    _carried(b, elements, VECTORS * vector.count, [], move)


def _stream(b: Any, elements: Any, starts: list[Any], vector: Any) -> None:
    def move(i: Any, _: list[Any]) -> list[Any]:
        for source, target in zip(_vectors(b, starts[0], i, vector), _vectors(b, starts[1], i, vector), strict=True):
            store_past_caches(b, b.load(source, typ=vector, align=4), target, 4 * vector.count)
        return []

    _carried(b, elements, VECTORS * vector.count, [], move)


def _triad(b: Any, elements: Any, starts: list[Any], vector: Any) -> None:
    scale = ir.Constant(vector, [0.5] * vector.count)

    def move(i: Any, _: list[Any]) -> list[Any]:
        x, y, z = (_vectors(b, start, i, vector) for start in starts)
        for left, right, target in zip(x, y, z, strict=True):
            product = b.fmul(b.load(right, typ=vector, align=4), scale)
            b.store(b.fadd(b.load(left, typ=vector, align=4), product), target, align=4)
        return []

    _carried(b, elements, VECTORS * vector.count, [], move)
