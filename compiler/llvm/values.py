"""The builder `k` that `emit` rules of ops write code with: `k.add(x, y)`, `k.tanh(x)`, `k.cast(x, dtype)`, ...

Operands are LLVM values, scalar or vector alike; `k.dtype` is the element type of the operands, which tells signed
from unsigned.  bool is i1 here; only memory holds bytes.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir

from graphflow.compiler.llvm.mathlib import Math
from graphflow.core.dtype import DType, bool_, float32

__all__ = ["Values", "element_type", "memory_type", "vector_of"]


def element_type(dtype: DType) -> Any:
    """The LLVM type of one value."""
    if dtype.is_floating:
        return ir.FloatType() if dtype.size == 4 else ir.DoubleType()
    return ir.IntType(1) if dtype.is_bool else ir.IntType(8 * dtype.size)


def memory_type(dtype: DType) -> Any:
    """The LLVM type of one value in memory."""
    return ir.IntType(8) if dtype.is_bool else element_type(dtype)


def vector_of(element: Any, lanes: int) -> Any:
    """A vector type, or the element's own for no lanes."""
    return ir.VectorType(element, lanes) if lanes else element


class Values:
    """Arithmetic of every dtype at the position of `builder`; what is not here is a function of `Math` (floats)."""

    def __init__(self, builder: Any, *, fma: bool = True, avx512: bool = False) -> None:
        self.builder = builder
        self.math = Math(builder, fma=fma, avx512=avx512)
        self.dtype: DType = float32

    def __getattr__(self, name: str) -> Any:
        return getattr(self.math, name)

    def splat(self, number: Any, like: Any) -> Any:
        """`number` in every lane of `like`."""
        return self.math.constant(like.type, number)

    @property
    def signed(self) -> bool:
        return self.dtype.kind == "int"

    def is_float_value(self, x: Any) -> bool:
        """Whether an LLVM value holds floats."""
        return isinstance(getattr(x.type, "element", x.type), ir.FloatType | ir.DoubleType)

    # arithmetic; Math's own versions are for floats and take numbers as operands

    def add(self, x: Any, y: Any) -> Any:
        return self.math.add(x, y) if self.is_float_value(x) else self.builder.add(x, y)

    def sub(self, x: Any, y: Any) -> Any:
        return self.math.sub(x, y) if self.is_float_value(x) else self.builder.sub(x, y)

    def mul(self, x: Any, y: Any) -> Any:
        return self.math.mul(x, y) if self.is_float_value(x) else self.builder.mul(x, y)

    def neg(self, x: Any) -> Any:
        return self.math.neg(x) if self.is_float_value(x) else self.builder.sub(self.constant(x.type, 0), x)

    def square(self, x: Any) -> Any:
        return self.mul(x, x)

    def abs(self, x: Any) -> Any:
        if self.is_float_value(x):
            return self.math.abs(x)
        if not self.signed:
            return x
        return self.builder.select(self.builder.icmp_signed("<", x, self.constant(x.type, 0)), self.neg(x), x)

    def sign(self, x: Any) -> Any:
        """-1, 0, 1; NaN stays."""
        zero = self.constant(x.type, 0)
        above, below = self.compare(">", x, zero), self.compare("<", x, zero)
        rest = x if self.is_float_value(x) else zero
        lower = self.builder.select(below, self.constant(x.type, -1), rest) if self.dtype.kind != "uint" else rest
        return self.builder.select(above, self.constant(x.type, 1), lower)

    def maximum(self, x: Any, y: Any) -> Any:
        return self._extreme(x, y, ">")

    def minimum(self, x: Any, y: Any) -> Any:
        return self._extreme(x, y, "<")

    def _extreme(self, x: Any, y: Any, order: str) -> Any:
        """NaN wins; a constant y can't be one, which saves a comparison."""
        if not hasattr(y, "type"):
            y = self.constant(x.type, y)
        if not self.is_float_value(x):
            return self.builder.select(self.compare(order, x, y), x, y)
        if isinstance(y, ir.Constant):
            return self.builder.select(self.builder.fcmp_unordered(order, x, y), x, y)
        return self.intrinsic("maximum" if order == ">" else "minimum", x, y, flags=("nsz",))

    def floordiv(self, x: Any, y: Any) -> Any:
        """Toward minus infinity; an integer by zero gives 0 (and the smallest by -1 itself)."""
        if self.is_float_value(x):
            return self.floor(self.div(x, y))
        quotient, rest, divisor, bad = self._divide(x, y)
        if self.signed:
            zero = self.constant(x.type, 0)
            b = self.builder
            opposite = b.icmp_signed("<", b.xor(rest, divisor), zero)
            inexact = b.icmp_signed("!=", rest, zero)
            quotient = b.select(b.and_(opposite, inexact), b.sub(quotient, self.constant(x.type, 1)), quotient)
        return self.builder.select(bad, self.constant(x.type, 0), quotient)

    def floormod(self, x: Any, y: Any) -> Any:
        """The rest with the divisor's sign; by the integer zero 0."""
        b = self.builder
        if self.is_float_value(x):
            return self.math.floormod(x, y)
        _, rest, divisor, bad = self._divide(x, y)
        zero = self.constant(x.type, 0)
        if self.signed:
            opposite = b.icmp_signed("<", b.xor(rest, divisor), zero)
            moved = b.and_(opposite, b.icmp_signed("!=", rest, zero))
            rest = b.select(moved, b.add(rest, divisor), rest)
        return b.select(bad, zero, rest)

    def truncatemod(self, x: Any, y: Any) -> Any:
        """The rest with the sign of x; by the integer zero 0."""
        if self.is_float_value(x):
            return self.math.truncatemod(x, y)
        _, rest, _, bad = self._divide(x, y)
        return self.builder.select(bad, self.constant(x.type, 0), rest)

    def _divide(self, x: Any, y: Any) -> tuple[Any, Any, Any, Any]:
        """(quotient, rest, a divisor that is safe, whether y is zero): integer division never traps."""
        b = self.builder
        one = self.constant(x.type, 1)
        bad = b.icmp_signed("==", y, self.constant(x.type, 0))
        divisor = b.select(bad, one, y)
        if not self.signed:
            return b.udiv(x, divisor), b.urem(x, divisor), divisor, bad
        width = getattr(x.type, "element", x.type).width
        smallest = self.constant(x.type, -(1 << (width - 1)))
        minus = self.constant(x.type, -1)
        overflow = b.and_(b.icmp_signed("==", x, smallest), b.icmp_signed("==", y, minus))
        divisor = b.select(overflow, one, divisor)
        return b.sdiv(x, divisor), b.srem(x, divisor), divisor, bad

    def pow(self, x: Any, y: Any) -> Any:
        """x to the power of y; integers through float64, exact up to 2^53."""
        if self.is_float_value(x):
            return self.math.pow(x, y)
        wide = self.like(x, ir.DoubleType())
        convert = self.builder.sitofp if self.signed else self.builder.uitofp
        result = self.rint(self.math.pow(convert(x, wide), convert(y, wide)))
        return self._float_to_int(result, x.type, self.dtype)

    def pow_of(self, x: Any, exponent: float) -> Any:
        """x to the power of one number; integers wrap around as products do."""
        if self.is_float_value(x):
            return self.math.pow_of(x, exponent)
        power = x
        for bit in f"{exponent:b}"[1:]:
            power = self.mul(self.square(power), x) if bit == "1" else self.square(power)
        return power

    # comparison, logic, choice

    def select(self, condition: Any, x: Any, y: Any) -> Any:
        return self.builder.select(condition, x, y)

    def compare(self, relation: str, x: Any, y: Any) -> Any:
        """x relation y, false where one is NaN, but for "!=" true."""
        if self.is_float_value(x):
            unordered = relation == "!="
            compare = self.builder.fcmp_unordered if unordered else self.builder.fcmp_ordered
            return compare(relation, x, y)
        signed = self.signed or relation in ("==", "!=")
        return (self.builder.icmp_signed if signed else self.builder.icmp_unsigned)(relation, x, y)

    def bit_and(self, x: Any, y: Any) -> Any:
        return self.builder.and_(x, y)

    def bit_or(self, x: Any, y: Any) -> Any:
        return self.builder.or_(x, y)

    def bit_xor(self, x: Any, y: Any) -> Any:
        return self.builder.xor(x, y)

    def bit_not(self, x: Any) -> Any:
        return self.builder.xor(x, self.constant(x.type, 1) if x.type != ir.IntType(1) else ir.Constant(x.type, 1))

    def is_nan(self, x: Any) -> Any:
        return self.builder.fcmp_unordered("uno", x, x)

    def is_inf(self, x: Any) -> Any:
        return self.builder.fcmp_ordered("==", self.math.abs(x), self.constant(x.type, float("inf")))

    def is_finite(self, x: Any) -> Any:
        return self.builder.fcmp_ordered("<", self.math.abs(x), self.constant(x.type, float("inf")))

    # conversion

    def cast(self, x: Any, dtype: DType) -> Any:
        """x (of `self.dtype`) as another dtype."""
        if dtype is self.dtype:
            return x
        target = self.like(x, element_type(dtype))
        if dtype is bool_:
            return self.compare("!=", x, self.constant(x.type, 0))
        if self.dtype.is_floating:
            if dtype.is_floating:
                return (self.builder.fpext if dtype.size > self.dtype.size else self.builder.fptrunc)(x, target)
            return self._float_to_int(x, target, dtype)
        if dtype.is_floating:
            return (self.builder.sitofp if self.signed else self.builder.uitofp)(x, target)
        if self.dtype.size > dtype.size:
            return self.builder.trunc(x, target)
        if self.dtype.is_bool or self.dtype.size < dtype.size:
            return (self.builder.sext if self.signed else self.builder.zext)(x, target)
        return x

    def _float_to_int(self, x: Any, target: Any, dtype: DType) -> Any:
        """Truncated toward zero, saturated, NaN as 0. (LLVM's own saturating conversion goes lane by lane.)"""
        b, signed = self.builder, dtype.kind == "int"
        width = 8 * dtype.size
        lowest = -(1 << (width - 1)) if signed else 0
        highest = (1 << (width - 1)) - 1 if signed else (1 << width) - 1
        low, beyond = self.constant(x.type, float(lowest)), self.constant(x.type, float(highest + 1))
        below, above = b.fcmp_ordered("<", x, low), b.fcmp_ordered(">=", x, beyond)
        inside = b.fcmp_ordered("<", b.select(below, beyond, x), beyond)
        number = b.select(inside, x, self.constant(x.type, 0.0))
        y = (b.fptosi if signed else b.fptoui)(number, target)
        y = b.select(above, self.constant(target, highest), y)
        return b.select(below, self.constant(target, lowest), y)
