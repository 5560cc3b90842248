"""exp and what is built of it and the logarithm: hyperbolic functions, their inverses, sigmoid and softplus.

Polynomials are near-minimax fits (see `coefficients`), reductions those of W. J. Cody and W. Waite, "Software Manual
for the Elementary Functions" (1980). Measured errors are in `mathlib.ULP`.
"""

from graphflow.compiler.llvm.mathlib.basis import INFINITY, NAN, Value, by_format
from graphflow.compiler.llvm.mathlib.logarithm import LOG2_E, LOG_2, LOG_2_HIGH, LOG_2_LOW, Logarithm

EXP_OVERFLOWS_ABOVE = by_format(88.72283172607421875, 709.782712893383973096)
EXP_NORMAL_FROM = by_format(-87.33654022216796875, -708.39641853226410622)
SURELY_OVERFLOWS = by_format(89.0, 710.0)  # exp is inf here, while 2**(n - 1) is still finite
SURELY_VANISHES = by_format(-104.0, -746.0)  # exp is less than half of the smallest denormal number
VANISHES = by_format(20.0, 40.0)  # exp(-x) is less than half an ulp of 1 from here on
TANH_IS_ONE = by_format(10.0, 20.0)
LARGE = by_format(2.0**30, 2.0**60)  # x + 1 == x and x * x + 1 == x * x beyond, yet x * x is finite here


class Exponential(Logarithm):
    """The exponential family; every method maps values of any float type to values of that type."""

    # exp

    def reduce_exp(self, x: Value) -> tuple[Value, Value]:
        """(t, r): x = n log(2) + r with |r| <= log(2) / 2, and n in the low bits of t (see `shifted`)."""
        f = self.format(x)
        t, n = self.shifted(x, LOG2_E)
        return t, self.fma(n, -LOG_2_LOW(f), self.fma(n, -LOG_2_HIGH(f), x))

    def reduce_exp_exactly(self, x: Value) -> tuple[Value, Value, Value]:
        """(t, r, l): as `reduce_exp`, and l is what the rounding of r lost."""
        f = self.format(x)
        t, n = self.shifted(x, LOG2_E)
        high = self.fma(n, -LOG_2_HIGH(f), x)
        r = self.fma(n, -LOG_2_LOW(f), high)
        return t, r, self.fma(n, -LOG_2_LOW(f), self.sub(high, r))

    def exp_near_zero(self, r: Value, scale: float = 1.0) -> Value:
        """scale * exp(r) for |r| <= log(2) / 2; scale is a power of two and costs nothing."""
        return self.fma(self.fma(self.exp_tail(r, scale), r, scale), r, scale)

    def exp_tail(self, r: Value, factor: float = 1.0, scale: float = 1.0) -> Value:
        """factor * (exp(r) - 1 - r) / r**2 at scale * r, for |scale * r| <= log(2) / 2; both are powers of two."""
        coefficients = [factor * scale**i * c for i, c in enumerate(self.table(r, "exp"))]
        few = self.format(r).name == "float"
        return self.polynomial(r, coefficients) if few else self.split_polynomial(r, coefficients)

    def expm1_near_zero(self, r: Value) -> Value:
        """exp(r) - 1 for |r| <= log(2) / 2."""
        return self.fma(self.mul(r, r), self.exp_tail(r), r)

    def exp(self, x: Value) -> Value:
        """e**x: 2**n times a polynomial of degree 6 (float) or 11 (double). Results that are denormal may become 0."""
        if self.fits_avx512(x):  # its scalef overflows and underflows by itself
            f = self.format(x)
            x = self.maximum(self.minimum(x, SURELY_OVERFLOWS(f)), SURELY_VANISHES(f))
            t, r = self.reduce_exp(x)
            return self.times_power(self.exp_near_zero(r), self.sub(t, f.round_shift))
        t, r = self.reduce_exp(x)
        return self.exp_limits(x, self.add_exponent(self.exp_near_zero(r), t))

    def exp_limits(self, x: Value, y: Value) -> Value:
        """y = exp(x), corrected where x is too large, too small or NaN."""
        f = self.format(x)
        too_large = self.builder.fcmp_unordered(">", x, self.splat(x, EXP_OVERFLOWS_ABOVE(f)))
        y = self.select(too_large, self.add(x, INFINITY), y)
        return self.select(self.compare(x, "<", EXP_NORMAL_FROM(f)), 0.0, y)

    def exp2(self, x: Value) -> Value:
        """2**x: as exp, but the reduction is exact. Results that are denormal become 0."""
        f = self.format(x)
        t, n = self.shifted(x)
        r = self.sub(x, n)
        y = self.add_exponent(self.fma(self.polynomial(r, self.table(x, "exp2")), r, 1.0), t)
        too_large = self.builder.fcmp_unordered(">=", x, self.splat(x, f.bias + 1.0))
        y = self.select(too_large, self.add(x, INFINITY), y)
        return self.select(self.compare(x, "<", 1.0 - f.bias), 0.0, y)

    def expm1(self, x: Value) -> Value:
        """e**x - 1 = 2**n (exp(r) - 1) + (2**n - 1), accurate near 0. -0 at -0."""
        f = self.format(x)
        half = self.half_expm1(self.maximum(self.minimum(x, SURELY_OVERFLOWS(f)), -VANISHES(f)))
        return self.copysign(self.add(half, half), x)

    def half_expm1(self, x: Value) -> Value:
        """(e**x - 1) / 2 for x from -VANISHES to a little beyond the overflow of exp; +0 at -0. Small terms last."""
        t, r, low = self.reduce_exp_exactly(x)
        scale = self.power_of_two(t, -1)
        large = self.fma(scale, r, self.sub(scale, 0.5))
        return self.fma(scale, self.fma(self.mul(r, r), self.exp_tail(r), low), large)

    # functions of exp

    def sigmoid(self, x: Value) -> Value:
        """1 / (1 + e**-x), where 1 + e**-x = 2**n + (2**n (exp(r) - 1) + 1): the large term rounds once."""
        f = self.format(x)
        t, r, low = self.reduce_exp_exactly(self.maximum(self.minimum(self.neg(x), SURELY_OVERFLOWS(f)), -VANISHES(f)))
        scale = self.power_of_two(t, -1)
        p = self.add(r, self.fma(self.mul(r, r), self.exp_tail(r), low))
        half = self.add(self.fma(scale, p, 0.5), scale)
        return self.div(1.0, self.add(half, half))  # doubled, it becomes inf where the result is to be 0

    def softplus(self, x: Value) -> Value:
        """log(1 + e**x) = max(x, 0) + log1p(e**-|x|)."""
        low = self.neg(self.abs(x))
        t, r = self.reduce_exp(low)
        e = self.add_exponent(self.exp_near_zero(r), t)
        e = self.select(self.compare(low, "<", EXP_NORMAL_FROM(self.format(x))), 0.0, e)
        halved = self.compare(self.add(e, 1.0), ">=", 1.5)  # as it rounds: the table ends before 3/2
        f = self.select(halved, self.fma(e, 0.5, -0.5), e)
        tail = self.log_of_split(f, self.add(f, 1.0), self.select(halved, self.splat(x, 1.0), 0.0))
        return self.add(tail, self.select(self.compare(x, "<", 0.0), 0.0, x))

    def tanh(self, x: Value) -> Value:
        """h / (h + 1) with h = (e**2a - 1) / 2 and a = |x|, or a = -|x| for small x, where h + 1 then rounds finer.

        h = 2**n (r + r**2 P(r)) + (2**n - 1) / 2 with 2 a = n log(2) + 2 r; its terms are added one by one, the small
        one last. An error in n log(2) fades as n grows, so one part of log(2) will do. Where n <= 1, the quotient is
        computed as l + (h - l - l h) / (h + 1), where l is the sum without r**2 P(r) and has the smaller error.
        """
        f = self.format(x)
        a = self.minimum(self.abs(x), TANH_IS_ONE(f))
        t, n = self.shifted(a, 2.0 * LOG2_E)
        r = self.select(self.compare(n, "==", 0.0), self.neg(a), self.fma(n, -0.5 * LOG_2, a))
        scale = self.power_of_two(t)
        large = self.fma(scale, r, self.fma(scale, 0.5, -0.5))
        square, tail = self.mul(self.mul(r, r), scale), self.exp_tail(r, 2.0, scale=2.0)
        if f.name == "float":  # below 2 ulp without more
            h = self.fma(square, tail, large)
            return self.copysign(self.builder.fdiv(h, self.add(h, 1.0)), x)
        small = self.mul(square, tail)
        h = self.add(large, small)
        near = self.compare(n, "<=", 1.0)
        top = self.select(near, self.fma(self.neg(large), h, small), h)
        rest = self.builder.fdiv(top, self.add(h, 1.0))
        return self.copysign(self.add(self.select(near, large, 0.0), rest), x)

    def sinh(self, x: Value) -> Value:
        """x + x**3 P(x**2) up to |x| = 1, beyond e / 2 - 1 / (2 e) with e = exp(|x|). Overflows as late as it may."""
        a = self.abs(x)
        h = self.half_exp(a)
        y = self.select(self.compare(a, "<", 1.0), self.odd_polynomial(a, "sinh"), self.sub(h, self.div(0.25, h)))
        return self.copysign(y, x)

    def cosh(self, x: Value) -> Value:
        """e / 2 + 1 / (2 e) with e = exp(|x|); finite as far as the result."""
        h = self.half_exp(self.abs(x))
        return self.add(h, self.div(0.25, h))

    def half_exp(self, x: Value) -> Value:
        """exp(x) / 2 for x >= 0, finite where exp(x) no longer is."""
        t, r = self.reduce_exp(self.minimum(x, SURELY_OVERFLOWS(self.format(x)) + 1.0))
        return self.mul(self.exp_near_zero(r, 2.0), self.power_of_two(t, -2))

    # inverse hyperbolic functions, by log1p as in W. Kahan, "Branch cuts for complex elementary functions" (1987)

    def asinh(self, x: Value) -> Value:
        """log1p(|x| + x**2 / (1 + sqrt(1 + x**2))), and log1p(|x|) + log(2) for large |x|."""
        a = self.abs(x)
        huge = self.compare(a, ">", LARGE(self.format(x)))
        s = self.mul(a, a)
        moderate = self.add(a, self.div(s, self.add(self.sqrt(self.add(s, 1.0)), 1.0)))
        y = self.log1p(self.select(huge, a, moderate))
        return self.copysign(self.add(y, self.select(huge, self.splat(x, LOG_2), 0.0)), x)

    def acosh(self, x: Value) -> Value:
        """log1p(t + sqrt(2 t + t**2)) with t = x - 1, and log1p(x) + log(2) for large x; NaN below 1."""
        huge = self.compare(x, ">", LARGE(self.format(x)))
        t = self.sub(x, 1.0)
        double = self.add(t, t)
        square = self.fma(t, t, double)
        root = self.sqrt(square)
        rest = self.add(self.fma(self.neg(root), root, square), self.fma(t, t, self.sub(double, square)))
        high, low = self.exact_sum(root, t)
        low = self.add(self.lost_in_root(root, rest), low)
        y = self.log1p_of_sum(self.select(huge, x, high), self.select(huge, 0.0, low))
        y = self.add(y, self.select(huge, self.splat(x, LOG_2), 0.0))
        return self.select(self.compare(x, ">=", 1.0), y, NAN)

    def atanh(self, x: Value) -> Value:
        """log1p(2 |x| / (1 - |x|)) / 2, the quotient as a sum of two numbers; inf at 1, NaN beyond."""
        a = self.abs(x)
        top = self.add(a, a)
        d, d_low = self.exact_sum(self.splat(x, 1.0), self.neg(a))
        q = self.builder.fdiv(top, d)
        rest = self.fma(self.neg(q), d_low, self.fma(self.neg(q), d, top))
        y = self.log1p_of_sum(q, self.mul(rest, self.rough_inverse(d)))
        y = self.select(self.compare(a, "==", 1.0), INFINITY, y)
        return self.copysign(self.mul(y, 0.5), x)
