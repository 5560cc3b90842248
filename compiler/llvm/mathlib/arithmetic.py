"""Arithmetic on LLVM values that may be scalars or vectors: what the mathematical functions are written in.

Everything takes and returns `ir.Value`s of one floating type, `float`, `double` or `<N x …>` of them; no branches.

    k = Arithmetic(builder)
    y = k.fma(x, 2.0, k.polynomial(x, (1.0, 0.5)))       # a Python number stands for itself in every lane
"""

from collections.abc import Callable, Sequence

from llvmlite import ir

from graphflow.compiler.llvm.mathlib.basis import SMALLEST_NORMAL, Basis, Operand, Value
from graphflow.compiler.llvm.mathlib.coefficients import COEFFICIENTS


class Arithmetic(Basis):
    """Elementwise arithmetic, polynomials, error-free sums and products, selections, rounding."""

    # arithmetic: of two operands the first must be a value

    def add(self, x: Value, y: Operand) -> Value:
        return self.builder.fadd(x, self.lift(x, y))

    def sub(self, x: Value, y: Operand) -> Value:
        return self.builder.fsub(x, self.lift(x, y))

    def rsub(self, x: Operand, y: Value) -> Value:
        """x - y, where y is the value."""
        return self.builder.fsub(self.lift(y, x), y)

    def mul(self, x: Value, y: Operand) -> Value:
        return self.builder.fmul(x, self.lift(x, y))

    def div(self, x: Operand, y: Value) -> Value:
        """x / y, where y is the value."""
        return self.builder.fdiv(self.lift(y, x), y)

    def neg(self, x: Value) -> Value:
        return self.builder.fneg(x)

    def fma(self, x: Value, y: Operand, z: Operand) -> Value:
        """x * y + z, rounded once if the target can."""
        y, z = self.lift(x, y), self.lift(x, z)
        if not self.has_fma:
            return self.builder.fadd(self.builder.fmul(x, y), z)
        return self.intrinsic("fma", x, y, z)

    def polynomial(self, x: Value, coefficients: Sequence[Operand]) -> Value:
        """c[0] + c[1] x + c[2] x**2 + …, by Horner's rule: fewest operations and least error."""
        y = self.lift(x, coefficients[-1])
        for c in reversed(coefficients[:-1]):
            y = self.fma(y, x, c)
        return y

    def split_polynomial(self, x: Value, coefficients: Sequence[Operand]) -> Value:
        """The same as even part plus x times odd part: half the latency, for a little more error.

        Measured to pay in long polynomials of hot functions (exp and pow of double: 5 to 10 % of their time): a core
        cannot bridge that many dependent operations with work on the elements that follow.
        """
        z = self.mul(x, x)
        return self.fma(self.polynomial(z, coefficients[1::2]), x, self.polynomial(z, coefficients[::2]))

    def odd_polynomial(self, x: Value, name: str) -> Value:
        """x + x**3 P(x**2), P being the table `name`: what most odd functions are near 0."""
        z = self.mul(x, x)
        return self.fma(self.mul(x, z), self.polynomial(z, self.table(x, name)), x)

    # error-free transformations
    # (T. J. Dekker, "A floating-point technique for extending the available precision", 1971)

    def exact_product(self, x: Value, y: Value) -> tuple[Value, Value]:
        """(h, l) with h = x * y rounded and h + l = x * y exactly, while nothing overflows."""
        h = self.mul(x, y)
        if self.has_fma:
            return h, self.fma(x, y, self.neg(h))
        (xh, xl), (yh, yl) = self.halves(x), self.halves(y)
        low = self.add(self.sub(self.mul(xh, yh), h), self.mul(xh, yl))
        return h, self.add(self.add(low, self.mul(xl, yh)), self.mul(xl, yl))

    def exact_rest(self, z: Operand, x: Value, y: Value) -> Value:
        """z - x * y, exact where x * y is z but for its last digits."""
        if self.has_fma:
            return self.fma(self.neg(x), y, z)
        high, low = self.exact_product(x, y)
        return self.sub(self.rsub(z, high), low)

    def halves(self, x: Value) -> tuple[Value, Value]:
        """(h, l) with x = h + l, each with half the digits."""
        c = self.mul(x, self.format(x).split)
        h = self.sub(c, self.sub(c, x))
        return h, self.sub(x, h)

    def exact_sum(self, x: Value, y: Value) -> tuple[Value, Value]:
        """(h, l) with h = x + y rounded and h + l = x + y exactly, for |x| >= |y| or x = 0."""
        h = self.add(x, y)
        return h, self.sub(y, self.sub(h, x))

    def exact_sum_any(self, x: Value, y: Value) -> tuple[Value, Value]:
        """The same for any x and y (D. E. Knuth, "The Art of Computer Programming", volume 2, 4.2.2)."""
        h = self.add(x, y)
        z = self.sub(h, x)
        return h, self.add(self.sub(x, self.sub(h, z)), self.sub(y, z))

    def table(self, x: Value, name: str) -> tuple[float, ...]:
        """The coefficients called `name` for x's format."""
        return COEFFICIENTS[name][self.format(x).name]

    # halves of long vectors

    def halved(self, x: Value) -> tuple[Value, Value]:
        """The first and the second half of a vector."""
        count = self.lanes(x)
        lower, upper = range(count // 2), range(count // 2, count)
        low, high = (self.shuffle(x, x, part) for part in (lower, upper))
        return low, high

    def joined(self, low: Value, high: Value) -> Value:
        """The vector of which these are the halves."""
        return self.shuffle(low, high, range(2 * self.lanes(low)))

    def in_double(self, function: Callable[..., Value], *xs: Value) -> Value:
        """`function` of floats, computed in double; of a long vector half by half, as doubles fill registers."""
        if self.lanes(xs[0]) > self.double_lanes:
            halves = zip(*(self.halved(x) for x in xs), strict=True)
            return self.joined(*(self.in_double(function, *half) for half in halves))
        return self.narrow(function(*(self.widen(x) for x in xs)))

    @property
    def double_lanes(self) -> int:
        """How many doubles are best computed on at once."""
        return 8 if self.has_avx512 else 4

    # selections

    def compare(self, x: Value, relation: str, y: Operand) -> Value:
        """i1 lanes: x `relation` y, false where an operand is NaN (also for "!=")."""
        return self.builder.fcmp_ordered(relation, x, self.lift(x, y))

    def select(self, condition: Value, x: Operand, y: Operand) -> Value:
        """x where `condition` holds, else y; one of x and y must be a value."""
        anchor = y if isinstance(x, int | float) else x
        return self.builder.select(condition, self.lift(anchor, x), self.lift(anchor, y))

    def minimum(self, x: Value, bound: Operand) -> Value:
        """min(x, bound), and x where x is NaN: one `minps`."""
        bound = self.lift(x, bound)
        return self.select(self.compare(bound, "<", x), bound, x)

    def maximum(self, x: Value, bound: Operand) -> Value:
        """max(x, bound), and x where x is NaN: one `maxps`."""
        bound = self.lift(x, bound)
        return self.select(self.compare(bound, ">", x), bound, x)

    # powers of two

    def shifted(self, x: Value, factor: float = 1.0) -> tuple[Value, Value]:
        """(t, n): n = x * factor rounded to an integer, and t, whose lowest bits hold n in two's complement.

        For |x * factor| < 2**(mantissa - 2). The addition of 1.5 * 2**mantissa leaves no room for a fraction, so the
        hardware rounds; unlike `llvm.rint` it is one instruction everywhere and yields the integer too.
        """
        shift = self.format(x).round_shift
        t = self.add(x, shift) if factor == 1.0 else self.fma(x, factor, shift)
        return t, self.sub(t, shift)

    def power_of_two(self, t: Value, offset: int = 0) -> Value:
        """2**(n + offset) for the n in the low bits of t, as `shifted` made it; n + offset in [1 - bias, bias]."""
        f = self.format(t)
        return self.from_bits(self.integer("shl", self.integer("add", self.bits(t), f.bias + offset), f.mantissa), t)

    def times_power(self, y: Value, n: Value) -> Value:
        """y * 2**n for whole n; some small number where n < 2 - bias, and NaN where n is not finite."""
        if self.fits_avx512(y):
            return self.masked_avx512("scalef", y, [y, n, ir.Constant(y.type, None)])
        f = self.format(y)
        t, _ = self.shifted(self.maximum(n, 2.0 - f.bias))
        return self.mul(y, self.power_of_two(t))

    def add_exponent(self, y: Value, t: Value) -> Value:
        """y * 2**n for the n in the low bits of t; y and the result must be normal numbers."""
        n = self.integer("shl", self.bits(t), self.format(y).mantissa)
        return self.from_bits(self.integer("add", self.bits(y), n), y)

    # roots and rounding

    def rough_inverse(self, x: Value) -> Value:
        """1 / x to 14 bits or more: enough for a correction."""
        if not self.fits_avx512(x):
            return self.div(1.0, x)
        f, count = self.format(x), self.lanes(x)
        name = f"llvm.x86.avx512.rcp14.{'ps' if f.name == 'float' else 'pd'}.{count * f.bits}"
        every = ir.Constant(ir.IntType(max(count, 8)), -1)
        operands = [x, ir.Constant(x.type, None), every]
        return self.builder.call(self.declared(name, x.type, [one.type for one in operands]), operands)

    def lost_in_root(self, root: Value, rest: Value) -> Value:
        """What a square root lacks whose square lacks `rest`: rest / (2 root), and 0 at 0."""
        return self.mul(
            rest, self.rough_inverse(self.maximum(self.add(root, root), SMALLEST_NORMAL(self.format(root))))
        )

    def abs(self, x: Value) -> Value:
        """|x|, exactly; clears the sign of NaN and -0 too."""
        return self.intrinsic("fabs", x)

    def copysign(self, x: Value, sign: Value) -> Value:
        """|x| with the sign bit of `sign`."""
        return self.intrinsic("copysign", x, sign)

    def floor(self, x: Value) -> Value:
        """The largest integer <= x, exactly."""
        return self.intrinsic("floor", x)

    def ceil(self, x: Value) -> Value:
        """The smallest integer >= x, exactly."""
        return self.intrinsic("ceil", x)

    def rint(self, x: Value) -> Value:
        """The nearest integer, halves to even, exactly."""
        return self.intrinsic("rint", x)

    def sqrt(self, x: Value) -> Value:
        """Correctly rounded square root; NaN below zero, -0 of -0."""
        return self.intrinsic("sqrt", x)

    def rsqrt(self, x: Value) -> Value:
        """1 / sqrt(x) by a square root and a division, not the hardware's estimate. inf at 0, -inf at -0."""
        return self.div(1.0, self.sqrt(x))
