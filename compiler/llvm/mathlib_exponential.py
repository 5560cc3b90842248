"""exp, log and what is built of them: hyperbolic functions, their inverses, sigmoid, softplus and pow.

Polynomials are near-minimax fits (see `mathlib_tables`), reductions those of W. J. Cody and W. Waite, "Software Manual
for the Elementary Functions" (1980). Measured errors are in `mathlib.ULP`.
"""

from graphflow.compiler.llvm.mathlib_arithmetic import INFINITY, NAN, SMALLEST_NORMAL, Arithmetic, Value, by_format

LOG2_E = 1.4426950408889634
# log(2) in two parts; the first has so few digits that its product with an exponent is exact without FMA too.
LOG_2_HIGH = by_format(0.693359375, 6.93147180369123816490e-01)
LOG_2_LOW = by_format(-2.12194440054690583e-04, 1.90821492927058770002e-10)
LOG_2 = 0.6931471805599453
# log2(e) in two parts, each a number of the format.
LOG2_E_HIGH = by_format(1.44269502162933349609375, LOG2_E)
LOG2_E_LOW = by_format(1.9259629911266175e-08, 2.0355273740931033e-17)

EXP_OVERFLOWS_ABOVE = by_format(88.72283172607421875, 709.782712893383973096)
EXP_NORMAL_FROM = by_format(-87.33654022216796875, -708.39641853226410622)
SURELY_OVERFLOWS = by_format(89.0, 710.0)  # exp is inf here, while 2**(n - 1) is still finite
VANISHES = by_format(20.0, 40.0)  # exp(-x) is less than half an ulp of 1 from here on
TANH_IS_ONE = by_format(10.0, 20.0)
# The bits of the number next below sqrt(1/2): logarithms take the mantissa from [sqrt(1/2), sqrt(2)).
SQRT_HALF_BITS = {"float": 0x3F3504F3, "double": 0x3FE6A09E667F3BCD}
LARGE = by_format(2.0**30, 2.0**60)  # x + 1 == x and x * x + 1 == x * x beyond, yet x * x is finite here


class Exponential(Arithmetic):
    """The exponential family; every method maps values of any float type to values of that type."""

    # exp

    def reduce_exp(self, x: Value) -> tuple[Value, Value]:
        """(t, r): x = n log(2) + r with |r| <= log(2) / 2, and n in the low bits of t (see `shifted`)."""
        f = self.format(x)
        t, n = self.shifted(x, LOG2_E)
        return t, self.fma(n, -LOG_2_LOW(f), self.fma(n, -LOG_2_HIGH(f), x))

    def exp_near_zero(self, r: Value, scale: float = 1.0) -> Value:
        """scale * exp(r) for |r| <= log(2) / 2; scale is a power of two and costs nothing."""
        tail = self.polynomial(r, [c * scale for c in self.table(r, "exp")])
        return self.fma(self.fma(tail, r, scale), r, scale)

    def expm1_near_zero(self, r: Value) -> Value:
        """exp(r) - 1 for |r| <= log(2) / 2."""
        return self.fma(self.mul(r, r), self.polynomial(r, self.table(r, "exp")), r)

    def exp(self, x: Value) -> Value:
        """e**x: 2**n times a polynomial of degree 6 (float) or 11 (double). Results that are denormal become 0."""
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
        """(e**x - 1) / 2 for x from -VANISHES to a little beyond the overflow of exp; +0 at -0."""
        t, r = self.reduce_exp(x)
        scale = self.power_of_two(t, -1)
        return self.fma(scale, self.expm1_near_zero(r), self.sub(scale, 0.5))

    # functions of exp

    def sigmoid(self, x: Value) -> Value:
        """1 / (1 + e**-x), where 1 + e**-x = 2**n + (2**n (exp(r) - 1) + 1): the large term rounds once."""
        f = self.format(x)
        t, r = self.reduce_exp(self.maximum(self.minimum(self.neg(x), SURELY_OVERFLOWS(f)), -VANISHES(f)))
        scale = self.power_of_two(t, -1)
        half = self.add(self.fma(scale, self.expm1_near_zero(r), 0.5), scale)
        return self.div(1.0, self.add(half, half))  # doubled, it becomes inf where the result is to be 0

    def softplus(self, x: Value) -> Value:
        """log(1 + e**x) = max(x, 0) + log1p(e**-|x|)."""
        low = self.neg(self.abs(x))
        t, r = self.reduce_exp(low)
        e = self.add_exponent(self.exp_near_zero(r), t)
        e = self.select(self.compare(low, "<", EXP_NORMAL_FROM(self.format(x))), 0.0, e)
        halved = self.compare(e, ">", 0.41421356)
        f = self.select(halved, self.fma(e, 0.5, -0.5), e)
        tail = self.log_near_one(f, self.select(halved, self.splat(x, 1.0), 0.0))
        return self.add(tail, self.select(self.compare(x, "<", 0.0), 0.0, x))

    def tanh(self, x: Value) -> Value:
        """h / (h + 1) with h = (e**2a - 1) / 2 and a = |x|, or a = -|x| for small x, where h + 1 then rounds finer.

        One division. h = 2**n (r + r**2 P(r)) + (2**n - 1) / 2 with 2 a = n log(2) + 2 r; its terms are added one by
        one, the small one last. An error in n log(2) fades as n grows, so one part of log(2) will do.
        """
        f = self.format(x)
        a = self.minimum(self.abs(x), TANH_IS_ONE(f))
        t, n = self.shifted(a, 2.0 * LOG2_E)
        r = self.select(self.compare(n, "==", 0.0), self.neg(a), self.fma(n, -0.5 * LOG_2, a))
        tail = self.polynomial(r, [c * 2.0 ** (i + 1) for i, c in enumerate(self.table(r, "exp"))])
        scale = self.power_of_two(t)
        h = self.fma(scale, r, self.fma(scale, 0.5, -0.5))
        h = self.fma(self.mul(self.mul(r, r), scale), tail, h)
        return self.copysign(self.builder.fdiv(h, self.add(h, 1.0)), x)

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

    # log

    def split_log(self, x: Value) -> tuple[Value, Value]:
        """(e, m): x = 2**(e - bias) m with m in [sqrt(1/2), sqrt(2)), e as integer; x a positive normal number."""
        f = self.format(x)
        low = SQRT_HALF_BITS[f.name]
        i = self.integer("add", self.bits(x), f.one_bits - low)
        m = self.integer("add", self.integer("and_", i, (1 << f.mantissa) - 1), low)
        return self.integer("lshr", i, f.mantissa), self.from_bits(m, x)

    def exponent_value(self, e: Value, x: Value) -> Value:
        """e - bias as a number of x's type: e becomes the low bits of 2**mantissa. (AVX2 cannot convert i64.)"""
        f = self.format(x)
        as_bits = self.integer("or_", e, (f.bias + f.mantissa) << f.mantissa)
        return self.sub(self.from_bits(as_bits, x), 2.0**f.mantissa + f.bias)

    def split_any_log(self, x: Value) -> tuple[Value, Value]:
        """(k, m - 1): x = 2**k m with m in [sqrt(1/2), sqrt(2)), for positive x, denormal ones too."""
        f = self.format(x)
        tiny = self.compare(x, "<", SMALLEST_NORMAL(f))
        e, m = self.split_log(self.select(tiny, self.mul(x, 2.0 ** (f.mantissa + 1)), x))
        k = self.exponent_value(e, x)
        return self.select(tiny, self.sub(k, f.mantissa + 1.0), k), self.sub(m, 1.0)

    def log_near_one(self, f: Value, k: Value) -> Value:
        """k log(2) + log(1 + f) for sqrt(1/2) - 1 <= f <= sqrt(2) - 1 and whole k."""
        kind = self.format(f)
        q = self.fma(self.split_polynomial(f, self.table(f, "log")), f, -0.5)
        tail = self.fma(self.mul(f, f), q, self.mul(k, LOG_2_LOW(kind)))
        return self.fma(k, LOG_2_HIGH(kind), self.add(f, tail))

    def log_limits(self, x: Value, y: Value, zero: float = 0.0) -> Value:
        """y = log(x - zero), corrected where that is not finite: at x = zero, below it, at inf and NaN."""
        y = self.select(self.compare(x, "<", INFINITY), y, x)
        pole = self.select(self.compare(x, "==", zero), self.splat(x, -INFINITY), NAN)
        return self.select(self.compare(x, ">", zero), y, pole)

    def log(self, x: Value) -> Value:
        """Natural logarithm: k log(2) + f - f**2 / 2 + f**3 P(f), P of degree 7 (float) or 18 (double), no division."""
        k, f = self.split_any_log(x)
        return self.log_limits(x, self.log_near_one(f, k))

    def log2(self, x: Value) -> Value:
        """Logarithm to base 2; exact for powers of two. log2(e) f keeps its low part."""
        kind = self.format(x)
        k, f = self.split_any_log(x)
        tail = self.mul(f, LOG2_E_LOW(kind))
        tail = self.fma(self.mul(f, f), self.split_polynomial(f, self.table(x, "log2")), tail)
        return self.log_limits(x, self.add(k, self.fma(f, LOG2_E_HIGH(kind), tail)))

    def log1p(self, x: Value) -> Value:
        """log(1 + x): the exponent comes from the rounded 1 + x, the mantissa from x, so nothing is lost. -0 at -0."""
        kind = self.format(x)
        e, m = self.split_log(self.add(x, 1.0))
        scale = self.from_bits(self.integer("shl", self.builder.sub(self.splat(e, 2 * kind.bias), e), kind.mantissa), x)
        k = self.exponent_value(e, x)
        exact = self.add(self.mul(x, scale), self.sub(scale, 1.0))  # the product is exact: scale is a power of two
        f = self.select(self.compare(k, "<", kind.mantissa + 4.0), exact, self.sub(m, 1.0))
        return self.copysign(self.log_limits(x, self.log_near_one(f, k), zero=-1.0), x)

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
        moderate = self.add(t, self.sqrt(self.fma(t, t, self.add(t, t))))
        y = self.log1p(self.select(huge, x, moderate))
        y = self.add(y, self.select(huge, self.splat(x, LOG_2), 0.0))
        return self.select(self.compare(x, ">=", 1.0), y, NAN)

    def atanh(self, x: Value) -> Value:
        """log1p(2 |x| / (1 - |x|)) / 2; inf at 1, NaN beyond."""
        a = self.abs(x)
        y = self.log1p(self.div(self.add(a, a), self.rsub(1.0, a)))
        return self.copysign(self.mul(y, 0.5), x)


class Power(Exponential):
    """x**y, which needs log(x) to more digits than its own type has."""

    def pow(self, x: Value, y: Value) -> Value:
        """x**y with the special cases of C99 (annex F.9.4.4), as NumPy has them.

        float: exp2(y log2(x)) in double. double: log(x) as an unevaluated sum of two doubles, then exp of the product's
        two parts. Results that are denormal doubles become 0.
        """
        a = self.abs(x)
        power = self.pow_double if self.format(x).name == "double" else self.pow_float
        z = power(a, y)
        whole = self.compare(self.floor(y), "==", y)
        h = self.mul(y, 0.5)
        odd = self.builder.and_(whole, self.compare(self.floor(h), "!=", h))
        z = self.select(odd, self.copysign(z, x), z)
        inside = self.builder.and_(self.compare(x, "<", 0.0), self.compare(x, ">", -INFINITY))
        z = self.select(self.builder.and_(inside, self.builder.not_(whole)), NAN, z)
        endless = self.builder.and_(self.compare(a, "==", 1.0), self.compare(self.abs(y), "==", INFINITY))
        one = self.builder.or_(self.compare(x, "==", 1.0), self.compare(y, "==", 0.0))
        return self.select(self.builder.or_(one, endless), 1.0, z)

    def log_extremes(self, a: Value, log: Value) -> Value:
        """log(a) for a >= 0, where a may be 0, inf or NaN."""
        log = self.select(self.compare(a, "<", INFINITY), log, a)
        return self.select(self.compare(a, "==", 0.0), -INFINITY, log)

    def pow_float(self, a: Value, y: Value) -> Value:
        """a**y for floats a >= 0: relative errors of 2**-36 in log2 and 2**-29 in exp2 vanish in the rounding."""
        wide = self.widen(a)
        e, m = self.split_log(wide)
        f = self.sub(m, 1.0)
        log = self.fma(self.split_polynomial(f, self.table(wide, "log2_pow")), f, self.exponent_value(e, wide))
        z = self.mul(self.widen(y), self.log_extremes(wide, log))
        t, n = self.shifted(self.maximum(self.minimum(z, 200.0), -200.0))
        r = self.sub(self.maximum(self.minimum(z, 200.0), -200.0), n)
        p = self.fma(self.polynomial(r, self.table(r, "exp2_pow")), r, 1.0)
        return self.narrow(self.mul(p, self.power_of_two(t)))

    def pow_double(self, a: Value, y: Value) -> Value:
        """a**y for doubles a >= 0."""
        high, low = self.log_of_double(a)
        high = self.log_extremes(a, high)
        z, rest = self.exact_product(y, high)
        rest = self.fma(y, low, rest)
        t, r = self.reduce_exp(z)
        r = self.add(r, self.select(self.compare(self.abs(z), "<", 800.0), rest, 0.0))
        return self.exp_limits(z, self.add_exponent(self.exp_near_zero(r), t))

    def log_of_double(self, x: Value) -> tuple[Value, Value]:
        """log(x) as h + l to about 2**-65: k log(2) + 2 s + 2/3 s**3 + s**5 P(s**2) with s = f / (2 + f)."""
        k, f = self.split_any_log(x)
        s, s_low = self.log_argument(f)
        cube, cube_low = self.two_thirds_cubed(s, s_low)
        z = self.mul(s, s)
        tail = self.mul(self.mul(self.mul(z, z), s), self.polynomial(z, self.table(x, "log_pow")))
        h, l1 = self.exact_sum(self.mul(k, LOG_2_HIGH(self.format(x))), self.add(s, s))
        h, l2 = self.exact_sum(h, cube)
        low = self.fma(k, LOG_2_LOW(self.format(x)), self.add(self.add(tail, cube_low), self.add(s_low, s_low)))
        return self.exact_sum(h, self.add(self.add(l1, l2), low))

    def log_argument(self, f: Value) -> tuple[Value, Value]:
        """f / (2 + f) as h + l."""
        d = self.add(f, 2.0)
        d_low = self.sub(f, self.sub(d, 2.0))
        inverse = self.div(1.0, d)
        s = self.mul(f, inverse)
        product, product_low = self.exact_product(s, d)
        rest = self.sub(self.sub(f, product), product_low)
        return s, self.mul(self.sub(rest, self.mul(s, d_low)), inverse)

    def two_thirds_cubed(self, s: Value, s_low: Value) -> tuple[Value, Value]:
        """2/3 (s + s_low)**3 as h + l."""
        z, z_low = self.exact_product(s, s)
        z_low = self.fma(self.add(s, s), s_low, z_low)
        c, c_low = self.exact_product(z, s)
        c_low = self.add(c_low, self.fma(z, s_low, self.mul(z_low, s)))
        third = self.splat(s, 2.0 / 3.0)
        h, low = self.exact_product(c, third)
        # 2/3 = 2.0 / 3.0 + 2**-53 / 3
        return h, self.add(low, self.fma(c_low, third, self.mul(c, 2.0**-53 / 3.0)))
