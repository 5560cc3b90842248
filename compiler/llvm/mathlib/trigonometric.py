"""sin, cos, tan and the inverse functions.

Arguments are reduced to |r| <= pi / 4 by subtracting n pi / 2 in several parts (W. J. Cody and W. Waite, "Software
Manual for the Elementary Functions", 1980). Polynomials are near-minimax fits (see `coefficients`). Measured errors
are in `mathlib.ULP`.
"""

import math

from graphflow.compiler.llvm.mathlib.arithmetic import Arithmetic
from graphflow.compiler.llvm.mathlib.basis import Value, by_format

TWO_OVER_PI = 0.6366197723675814
# pi / 2 as the nearest number of the format, and what that lacks.
HALF_PI_HIGH = by_format(1.57079637050628662109375, 1.5707963267948966)
HALF_PI_LOW = by_format(-4.37113882867379e-08, 6.123233995736766e-17)

# pi / 2 in parts. With FMA: the nearest number of the format, the nearest to the rest, and again. Without: parts with
# so few digits (33 of double for float arguments, 23 for double ones) that their products with n are exact.
HALF_PI_PARTS: dict[str, tuple[float, ...]] = {
    "float fma": (1.5707963705062866, -4.371138828673793e-08, -1.7151245100058819e-15),
    "double fma": (1.5707963267948966, 6.123233995736766e-17, -1.4973849048591698e-33),
    "float": (1.5707963267341256, 6.077100506506192e-11),
    "double": (
        1.570796251296997,
        7.549789415861596e-08,
        5.390302529957765e-15,
        3.2820031633724233e-22,
        3.795010649787914e-29,
        1.2293331171481208e-36,
    ),
}


class Trigonometric(Arithmetic):
    """Trigonometric functions; every method maps values of any float type to values of that type.

    sin, cos and tan hold their error bounds for |x| up to 1e5 (float) and 1e9 (double). Beyond, the absolute error of n
    pi / 2 grows with |x|; from about 1e7 and 1e15 on, n is no longer exact and the result is some number of the right
    range (NaN for infinities, always).
    """

    def reduce_angle(self, x: Value) -> tuple[Value, Value]:
        """(t, r): x = n pi / 2 + r with |r| <= pi / 4, and n in the low bits of t (see `shifted`)."""
        f = self.format(x)
        t, n = self.shifted(x, TWO_OVER_PI)
        if self.has_fma or f.name == "double":
            r = self.subtract_half_pi(n, x, f"{f.name} fma" if self.has_fma else f.name)
        else:
            r = self.narrow(self.subtract_half_pi(self.widen(n), self.widen(x), "float"))
        return t, self.within_quadrant(r)

    def reduce_angle_exactly(self, x: Value) -> tuple[Value, Value, Value]:
        """(t, r, l): as `reduce_angle`, but it is r + l that x leaves; |l| is small beside |r|."""
        f = self.format(x)
        t, n = self.shifted(x, TWO_OVER_PI)
        if self.has_fma or f.name == "double":
            r, low = self.subtract_half_pi_exactly(n, x, f"{f.name} fma" if self.has_fma else f.name)
        else:
            wide = self.subtract_half_pi(self.widen(n), self.widen(x), "float")
            r = self.narrow(wide)
            low = self.narrow(self.sub(wide, self.widen(r)))
        return t, self.within_quadrant(r), low

    def within_quadrant(self, r: Value) -> Value:
        """r, which rounding may carry a little beyond pi / 4; where n is inexact, this keeps the results finite."""
        return self.maximum(self.minimum(r, 0.8), -0.8)

    def subtract_half_pi(self, n: Value, x: Value, parts: str) -> Value:
        """x - n pi / 2 by the parts of that name; all products but the last are exact, or the target has FMA."""
        for part in HALF_PI_PARTS[parts]:
            x = self.fma(n, -part, x)
        return x

    def subtract_half_pi_exactly(self, n: Value, x: Value, parts: str) -> tuple[Value, Value]:
        """The same as a sum of two numbers.

        Products are rounded before they are subtracted: so what a difference lacks is known where most of it cancels.
        """
        first, *middle, last = HALF_PI_PARTS[parts]
        r, low = self.fma(n, -first, x), self.splat(x, -0.0)  # the first part is subtracted exactly
        for part in middle:
            before, r = r, self.sub(r, self.mul(n, part))
            low = self.add(low, self.fma(n, -part, self.sub(before, r)))
        return r, self.fma(n, -last, low)

    def sin_near_zero(self, r: Value, z: Value) -> Value:
        """sin(r) for |r| <= pi / 4; z = r * r."""
        return self.fma(self.mul(r, z), self.polynomial(z, self.table(r, "sin")), r)

    def cos_near_zero(self, z: Value) -> Value:
        """cos(r) for |r| <= pi / 4; z = r * r."""
        q = self.polynomial(z, self.table(z, "cos"))
        return self.fma(z, self.fma(z, q, -0.5), 1.0)

    def sin(self, x: Value) -> Value:
        """Sine; see the class for the range. -0 at -0."""
        t, r = self.reduce_angle(x)
        y = self.in_quadrant(self.bits(t), r)
        return self.select(self.compare(x, "==", 0.0), x, y)

    def cos(self, x: Value) -> Value:
        """Cosine, as the sine one quadrant further; see the class for the range."""
        t, r = self.reduce_angle(x)
        return self.in_quadrant(self.integer("add", self.bits(t), 1), r)

    def in_quadrant(self, n: Value, r: Value) -> Value:
        """sin(n pi / 2 + r) for integers n and |r| <= pi / 4."""
        z = self.mul(r, r)
        y = self.select(self.is_odd(n), self.cos_near_zero(z), self.sin_near_zero(r, z))
        width = self.format(r).bits
        sign = self.integer("and_", self.integer("shl", n, width - 2), 1 << (width - 1))
        return self.from_bits(self.integer("xor", self.bits(y), sign), y)

    def is_odd(self, n: Value) -> Value:
        """i1 lanes: the integer is odd."""
        return self.builder.icmp_signed("!=", self.integer("and_", n, 1), self.splat(n, 0))

    def tan(self, x: Value) -> Value:
        """Tangent: tan(r) or -1 / tan(r), tan(r) being a sum of two numbers; see the class for the range. -0 at -0."""
        t, r, r_low = self.reduce_angle_exactly(x)
        z = self.mul(r, r)
        beyond = self.mul(self.mul(r, z), self.polynomial(z, self.table(r, "tan")))
        # r_low counts up to twice: 1 + tan(r)**2 times. Once is enough for the bounds, and one operation.
        y, low = self.exact_sum(r, self.add(beyond, r_low))
        q = self.div(-1.0, y)
        rest = self.fma(low, q, self.fma(y, q, 1.0))
        y = self.select(self.is_odd(self.bits(t)), self.fma(q, rest, q), y)
        return self.select(self.compare(x, "==", 0.0), x, y)

    # inverse functions

    def from_half_pi(self, x: Value, multiple: float = 1.0) -> Value:
        """multiple * pi / 2 - x, where pi / 2 is longer than the format; multiple is a power of two."""
        f = self.format(x)
        return self.add(self.rsub(multiple * HALF_PI_LOW(f), x), multiple * HALF_PI_HIGH(f))

    def atan(self, x: Value) -> Value:
        """Arc tangent: one polynomial on [0, 1], and pi / 2 - atan(1 / x) beyond. -0 at -0."""
        a = self.abs(x)
        beyond = self.compare(a, ">", 1.0)
        y = self.odd_polynomial(self.select(beyond, self.div(1.0, a), a), "atan")
        return self.copysign(self.select(beyond, self.from_half_pi(y), y), x)

    def atan2(self, y: Value, x: Value) -> Value:
        """The angle of the point (x, y), with C99's results for zeros and infinities."""
        a, b = self.abs(x), self.abs(y)
        steep = self.compare(b, ">", a)
        large, small = self.select(steep, b, a), self.select(steep, a, b)
        q = self.div(small, large)
        q = self.select(self.compare(small, "==", 0.0), 0.0, q)  # 0 / 0
        q = self.select(self.compare(small, "==", math.inf), 1.0, q)  # inf / inf
        z = self.odd_polynomial(q, "atan")
        z = self.select(steep, self.from_half_pi(z), z)
        negative = self.builder.icmp_signed("<", self.bits(x), self.splat(self.bits(x), 0))
        z = self.select(negative, self.from_half_pi(z, 2.0), z)
        unordered = self.builder.fcmp_unordered("uno", x, y)
        return self.select(unordered, self.add(x, y), self.copysign(z, y))

    def asin_parts(self, x: Value) -> tuple[Value, Value, Value, Value]:
        """(inner, s, q, l): asin(s) = s + q for s = |x| where inner, |x| <= 1/2, else s + l = sqrt((1 - |x|) / 2)."""
        a = self.abs(x)
        inner = self.compare(a, "<=", 0.5)
        outer_square = self.fma(a, -0.5, 0.5)
        root = self.sqrt(outer_square)
        low = self.lost_in_root(root, self.fma(self.neg(root), root, outer_square))
        z = self.select(inner, self.mul(a, a), outer_square)
        s = self.select(inner, a, root)
        return inner, s, self.mul(self.mul(s, z), self.polynomial(z, self.table(x, "asin"))), low

    def asin(self, x: Value) -> Value:
        """Arc sine: a polynomial for |x| <= 1/2, else pi / 2 - 2 asin(sqrt((1 - |x|) / 2)). -0 at -0, NaN beyond 1."""
        f = self.format(x)
        inner, s, q, low = self.asin_parts(x)
        # Subtracted one after the other: a rounded s + q would count twice.
        outer = self.sub(self.fma(s, -2.0, HALF_PI_HIGH(f)), self.fma(self.add(q, low), 2.0, -HALF_PI_LOW(f)))
        return self.copysign(self.select(inner, self.add(s, q), outer), x)

    def acos(self, x: Value) -> Value:
        """Arc cosine: pi / 2 - asin(x) inside, 2 asin(sqrt((1 - x) / 2)) and its mirror image outside. NaN beyond 1."""
        inner, s, q, _ = self.asin_parts(x)
        p = self.add(s, q)
        outer = self.add(p, p)
        outer = self.select(self.compare(x, "<", 0.0), self.from_half_pi(outer, 2.0), outer)
        return self.select(inner, self.from_half_pi(self.copysign(p, x)), outer)
