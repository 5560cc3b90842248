"""Small pieces of IR that kernels are written with: loops, index arithmetic, masked loads.

    with loop(code.b, zero, count) as i:     # for i in range(count)
        ...

Every function here continues in `builder.block`, which loops and branches change.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from llvmlite import ir

from graphflow.core.dim import Size

I1, I32, I64 = ir.IntType(1), ir.IntType(32), ir.IntType(64)
PTR = ir.PointerType()
VOID = ir.VoidType()

ELEMENTS: dict[str, ir.Type] = {
    "float32": ir.FloatType(),
    "float64": ir.DoubleType(),
    "int32": I32,
    "int64": I64,
    "uint32": I32,
    "uint64": I64,
}

SizeEmitter = Callable[[ir.IRBuilder, Size, ir.Value], ir.Value]


def const(value: int) -> ir.Constant:
    """An i64."""
    return ir.Constant(I64, value)


@dataclass
class Code:
    """A function being written. Sizes are computed once, in its entry block, whoever asks first."""

    function: ir.Function
    b: ir.IRBuilder
    entry: ir.IRBuilder
    dims: ir.Value
    emit_size: SizeEmitter
    known: dict[Size, ir.Value] = field(default_factory=dict)

    def size(self, size: Size) -> ir.Value:
        """The value of a size: a constant if it is a number."""
        if isinstance(size, int):
            return const(size)
        if size not in self.known:
            self.known[size] = self.emit_size(self.entry, size, self.dims)
        return self.known[size]


@contextmanager
def new_function(
    module: ir.Module, name: str, arguments: Sequence[tuple[str, ir.Type]], emit_size: SizeEmitter
) -> Iterator[Code]:
    """A void function with these arguments, one of them `dims`; returns at the end of the block."""
    function = ir.Function(module, ir.FunctionType(VOID, [kind for _, kind in arguments]), name)
    function.attributes.add("nounwind")
    for value, (label, _) in zip(function.args, arguments, strict=True):
        value.name = label
    entry, body = function.append_basic_block("entry"), function.append_basic_block("body")
    dims = next(value for value in function.args if value.name == "dims")
    code = Code(function, ir.IRBuilder(body), ir.IRBuilder(entry), dims, emit_size)
    yield code
    code.entry.branch(body)  # only now: what is computed there once may be a loop
    code.b.ret_void()


@contextmanager
def part_function(
    module: ir.Module, name: str, arguments: Sequence[tuple[str, ir.Type]], emit_size: SizeEmitter
) -> Iterator[Code]:
    """The same for a part of a launch, which stays a function: LLVM's time grows fast with the depth of loop nests."""
    with new_function(module, name, arguments, emit_size) as code:
        code.function.linkage = "internal"
        code.function.attributes.add("noinline")
        yield code


@contextmanager
def loop(b: ir.IRBuilder, start: ir.Value, stop: ir.Value, step: int = 1) -> Iterator[ir.Value]:
    """For i in range(start, stop, step)."""
    before = b.block
    head, body, after = (b.append_basic_block(name) for name in ("head", "loop", "after"))
    b.branch(head)
    b.position_at_end(head)
    i = b.phi(I64, "i")
    i.add_incoming(start, before)
    b.cbranch(b.icmp_signed("<", i, stop), body, after)
    b.position_at_end(body)
    yield i
    i.add_incoming(add(b, i, const(step)), b.block)
    b.branch(head)
    b.position_at_end(after)


def is_const(x: ir.Value, value: int) -> bool:
    """Whether x is this constant."""
    return isinstance(x, ir.Constant) and x.constant == value


def add(b: ir.IRBuilder, x: ir.Value, y: ir.Value) -> ir.Value:
    """x + y."""
    if is_const(x, 0) or is_const(y, 0):
        return y if is_const(x, 0) else x
    return b.add(x, y, flags=("nsw",))


def sub(b: ir.IRBuilder, x: ir.Value, y: ir.Value) -> ir.Value:
    """x - y."""
    return x if is_const(y, 0) else b.sub(x, y, flags=("nsw",))


def mul(b: ir.IRBuilder, x: ir.Value, y: ir.Value) -> ir.Value:
    """x * y."""
    if is_const(x, 1) or is_const(y, 1):
        return y if is_const(x, 1) else x
    if isinstance(x, ir.Constant) and isinstance(y, ir.Constant):
        return const(x.constant * y.constant)
    return const(0) if is_const(x, 0) or is_const(y, 0) else b.mul(x, y, flags=("nsw",))


def plus(b: ir.IRBuilder, x: ir.Value, y: ir.Value) -> ir.Value:
    """x + y, elements of A or C, or vectors of them."""
    kind = x.type.element if isinstance(x.type, ir.VectorType) else x.type
    return b.add(x, y) if isinstance(kind, ir.IntType) else b.fadd(x, y)


def minimum(b: ir.IRBuilder, x: ir.Value, y: ir.Value) -> ir.Value:
    """The smaller of two signed numbers."""
    return b.select(b.icmp_signed("<", x, y), x, y)


def maximum(b: ir.IRBuilder, x: ir.Value, y: ir.Value) -> ir.Value:
    """The larger of two signed numbers."""
    return b.select(b.icmp_signed(">", x, y), x, y)


def any_lane(b: ir.IRBuilder, masks: Sequence[ir.Value]) -> ir.Value:
    """Whether a lane of any of the masks is set."""
    total = functools.reduce(b.or_, masks)
    bits = b.bitcast(total, ir.IntType(total.type.count))
    return b.icmp_unsigned("!=", bits, ir.Constant(bits.type, 0))


def whole(b: ir.IRBuilder, count: ir.Value, step: int) -> ir.Value:
    """The largest multiple of `step` not above `count`, which is not negative."""
    if isinstance(count, ir.Constant):
        return const(count.constant // step * step)
    return count if step == 1 else sub(b, count, b.urem(count, const(step)))


def divmod_(b: ir.IRBuilder, x: ir.Value, y: ir.Value) -> tuple[ir.Value, ir.Value]:
    """Quotient and remainder of numbers that are not negative."""
    if is_const(y, 1):
        return x, const(0)
    quotient = b.udiv(x, y)
    return quotient, sub(b, x, mul(b, quotient, y))


def unravel(b: ir.IRBuilder, flat: ir.Value, extents: Sequence[ir.Value]) -> tuple[ir.Value, ...]:
    """The index of each axis of a row-major flat index."""
    result: list[ir.Value] = []
    for extent in reversed(extents[1:]):
        flat, index = divmod_(b, flat, extent)
        result.append(index)
    return (*([flat] if extents else []), *reversed(result))


def dot(b: ir.IRBuilder, indices: Sequence[ir.Value], strides: Sequence[ir.Value]) -> ir.Value:
    """The sum of index * stride."""
    total: ir.Value = const(0)
    for index, stride in zip(indices, strides, strict=True):
        total = add(b, total, mul(b, index, stride))
    return total


def at(b: ir.IRBuilder, base: ir.Value, offset: ir.Value, element: ir.Type) -> ir.Value:
    """The address `offset` elements after `base`."""
    return base if is_const(offset, 0) else b.gep(base, [offset], source_etype=element)


def load(b: ir.IRBuilder, address: ir.Value, kind: ir.Type, align: int) -> ir.Value:
    """Load with no more than element alignment."""
    return b.load(address, typ=kind, align=align)


def splat(b: ir.IRBuilder, x: ir.Value, lanes: int) -> ir.Value:
    """x in every lane; a constant stays one."""
    vector = ir.VectorType(x.type, lanes)
    if isinstance(x, ir.Constant):
        return splat_constant(vector, x)
    single = b.insert_element(undefined(vector), x, ir.Constant(I32, 0))
    return b.shuffle_vector(single, undefined(vector), first_lane(lanes))


@functools.cache
def first_lane(lanes: int) -> ir.Constant:
    """The mask that takes lane 0 for each; one object, since its text, which llvmlite keeps with it, is long."""
    return ir.Constant(ir.VectorType(I32, lanes), [0] * lanes)  # llvmlite reads the numbers of a mask


class Written(ir.Constant):  # type: ignore[misc]  # llvmlite has no types
    """A constant of a vector with its text.  llvmlite's own print every lane: that was half of a module's text."""

    def __init__(self, kind: ir.Type, text: str) -> None:
        self.type, self.constant = kind, text

    def _get_reference(self) -> str:
        return str(self.constant)


def splat_constant(vector: ir.VectorType, x: ir.Constant) -> ir.Constant:
    """x in every lane."""
    return Written(vector, f"splat ({x.type} {x.get_reference()})")


def undefined(kind: ir.Type) -> ir.Constant:
    """Any bits."""
    return Written(kind, "undef")


def zeros(kind: ir.Type) -> ir.Constant:
    """All zero bits."""
    return Written(kind, "zeroinitializer")


def first_lanes(b: ir.IRBuilder, count: ir.Value, lanes: int) -> ir.Value:
    """A mask of the first `count` lanes: none if it is not positive, all if it is large."""
    if isinstance(count, ir.Constant):
        return ir.Constant(ir.VectorType(I1, lanes), [int(i < count.constant) for i in range(lanes)])
    clipped = b.trunc(minimum(b, count, const(lanes)), I32)
    ramp = ir.Constant(ir.VectorType(I32, lanes), list(range(lanes)))
    return b.icmp_signed("<", ramp, splat(b, clipped, lanes))


def masked_load(b: ir.IRBuilder, address: ir.Value, kind: ir.VectorType, mask: ir.Value, align: int) -> ir.Value:
    """Load the lanes of the mask, zero elsewhere; memory of other lanes is not touched."""
    name = f"llvm.masked.load.v{kind.count}{short_name(kind.element)}.p0"
    function = intrinsic(b.module, name, kind, [PTR, I32, mask.type, kind])
    return b.call(function, [address, ir.Constant(I32, align), mask, zeros(kind)])


def prefetch(b: ir.IRBuilder, address: ir.Value, locality: int = 3) -> None:
    """Ask for the cache line at an address, which may lie anywhere, to come to L1 (3) or L2 (2)."""
    function = intrinsic(b.module, "llvm.prefetch.p0", VOID, [PTR, I32, I32, I32])
    b.call(function, [address, ir.Constant(I32, 0), ir.Constant(I32, locality), ir.Constant(I32, 1)])


def multiply_add(b: ir.IRBuilder, x: ir.Value, y: ir.Value, z: ir.Value, fused: bool) -> ir.Value:
    """x * y + z, in one rounding where the target has it."""
    if isinstance(x.type.element, ir.IntType):
        return b.add(b.mul(x, y), z)
    if not fused:
        return b.fadd(b.fmul(x, y), z)
    name = f"llvm.fma.v{x.type.count}{short_name(x.type.element)}"
    return b.call(intrinsic(b.module, name, x.type, [x.type] * 3), [x, y, z])


def short_name(element: ir.Type) -> str:
    """LLVM's suffix: f32, f64, i32, i64."""
    if isinstance(element, ir.IntType):
        return f"i{element.width}"
    return "f32" if isinstance(element, ir.FloatType) else "f64"


def intrinsic(module: ir.Module, name: str, result: ir.Type, arguments: Sequence[ir.Type]) -> ir.Function:
    """A declared function of the module, declared once."""
    known = module.globals.get(name)
    return known if known is not None else ir.Function(module, ir.FunctionType(result, arguments), name)
