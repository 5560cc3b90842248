"""erf, erfc, erfinv, lgamma and digamma.

Polynomials are near-minimax fits (see `mathlib_tables`). Measured errors: `mathlib.ULP`.
"""

import math

from graphflow.compiler.llvm.mathlib_arithmetic import INFINITY, NAN, Value, by_format
from graphflow.compiler.llvm.mathlib_exponential import Exponential
from graphflow.compiler.llvm.mathlib_tables import DIGAMMA_SERIES, STIRLING_SERIES
from graphflow.compiler.llvm.mathlib_trigonometric import Trigonometric

ERF_IS_ONE = 3.92  # from here on 1 is the float next to erf(x)
ERFC_ADDS_NOTHING = 6.0  # 1 - erfc(6) is 1 in double
ERF_TAIL_CENTRE = 2.5
ERFC_VANISHES = by_format(10.0625, 27.0)  # the result is denormal well before
ERFC_CENTRE = by_format(2.0, 3.0)
STIRLING_FROM = 8.0
DIGAMMA_FROM = 10.0


class Special(Exponential, Trigonometric):
    """Special functions; every method maps values of any float type to values of that type."""

    # error function

    def erf_near_zero(self, x: Value) -> Value:
        """erf(x) for |x| <= 1: x + x P(x**2)."""
        return self.fma(x, self.polynomial(self.mul(x, x), self.table(x, "erf")), x)

    def erf(self, x: Value) -> Value:
        """Error function. Beyond |x| = 1: a polynomial about 2.5 (float, no exp, no division) or 1 - erfc (double)."""
        a = self.abs(x)
        if self.format(x).name == "float":
            tail = self.split_polynomial(self.sub(a, ERF_TAIL_CENTRE), self.table(x, "erf_tail"))
            tail = self.select(self.compare(a, ">", ERF_IS_ONE), 1.0, tail)
        else:
            tail = self.rsub(1.0, self.erfc_positive(self.minimum(a, ERFC_ADDS_NOTHING)))
        y = self.select(self.compare(a, "<", 1.0), self.erf_near_zero(a), tail)
        return self.copysign(y, x)

    def erfc(self, x: Value) -> Value:
        """1 - erf(x), with a small relative error in the tail too. Results that are denormal may become 0."""
        a = self.abs(x)
        y = self.erfc_positive(self.minimum(a, ERFC_VANISHES(self.format(x))))
        y = self.select(self.compare(a, "<", 0.75), self.rsub(1.0, self.erf_near_zero(a)), y)
        return self.select(self.compare(x, "<", 0.0), self.rsub(2.0, y), y)

    def erfc_positive(self, x: Value) -> Value:
        """erfc(x) = exp(-x**2) F(t) / (x + K) with t = (x - K) / (x + K), for 0 <= x <= ERFC_VANISHES.

        The variable is that of M. M. Shepherd and J. G. Laframboise, "Chebyshev approximation of (1 + 2x) exp(x²)
        erfc x in 0 <= x < ∞" (1981). x**2 is a sum of two numbers, for its rounding error would be one of the exponent.
        """
        centre = ERFC_CENTRE(self.format(x))
        u = self.div(1.0, self.add(x, centre))
        t = self.mul(self.sub(x, centre), u)
        square, rest = self.exact_product(x, x)
        y = self.mul(u, self.polynomial(t, self.table(x, "erfc")))
        n, r = self.reduce_exp(self.neg(square))
        e = self.add_exponent(self.exp_near_zero(self.sub(r, rest)), n)
        return self.mul(self.exp_limits(self.neg(square), e), y)

    def erfinv(self, x: Value) -> Value:
        """Inverse of erf: x times a polynomial in w = -log(1 - x**2), or in sqrt(w) for w >= 5; inf at 1, NaN beyond.

        The variables are those of M. Giles, "Approximating the erfinv function" (2010).
        """
        a = self.abs(x)
        w = self.neg(self.log(self.mul(self.rsub(1.0, a), self.add(a, 1.0))))
        s = self.sqrt(w)
        p = self.polynomial(self.sub(s, 3.0), self.table(x, "erfinv_tail"))
        if self.format(x).name == "double":
            far = self.polynomial(self.sub(s, 5.0), self.table(x, "erfinv_far"))
            p = self.select(self.compare(s, "<", 4.0), p, far)
        near = self.polynomial(self.sub(w, 2.5), self.table(x, "erfinv"))
        p = self.select(self.compare(w, "<", 5.0), near, p)
        return self.mul(self.select(self.compare(a, "==", 1.0), INFINITY, p), x)

    # gamma function

    def lgamma(self, x: Value) -> Value:
        """log|gamma(x)|; inf at 0, -1, -2, … and at -inf. float is computed in double.

        z = x, or 1 - x for x < 1/2 (reflection). z < 2.5: (z - 1) (z - 2) P / Q; else Stirling's series at z + n >= 8.
        The error is relative, save near the zeros at negative x, where it is absolute.
        """
        if self.format(x).name == "float":
            return self.in_double(self.lgamma, x)
        reflected = self.compare(x, "<", 0.5)
        z = self.select(reflected, self.rsub(1.0, x), x)
        small = self.compare(z, "<", 2.5)
        w, product = self.rise(z, STIRLING_FROM, steps=6)
        y = self.select(small, self.lgamma_near_zeros(z), self.stirling(w))
        product = self.select(small, 1.0, product)
        sine, _ = self.sin_cos_of_pi(self.abs(self.sub(x, self.rint(x))))
        argument = self.select(reflected, self.div(sine, self.mul(product, math.pi)), product)
        y = self.sub(self.select(reflected, self.neg(y), y), self.log(argument))
        return self.select(self.compare(self.abs(x), "==", INFINITY), INFINITY, y)

    def rise(self, z: Value, start: float, steps: int) -> tuple[Value, Value]:
        """(z + n, z (z + 1) … (z + n - 1)) for the smallest n with z + n >= start; n <= steps."""
        product = self.splat(z, 1.0)
        for _ in range(steps):
            below = self.compare(z, "<", start)
            product = self.select(below, self.mul(product, z), product)
            z = self.select(below, self.add(z, 1.0), z)
        return z, product

    def stirling(self, w: Value) -> Value:
        """lgamma(w) for w >= STIRLING_FROM, by Stirling's series (Abramowitz and Stegun, 6.1.41)."""
        v = self.div(1.0, w)
        series = self.fma(v, self.polynomial(self.mul(v, v), STIRLING_SERIES), 0.5 * math.log(2.0 * math.pi) - 0.5)
        return self.fma(self.sub(w, 0.5), self.sub(self.log(w), 1.0), series)

    def lgamma_near_zeros(self, z: Value) -> Value:
        """lgamma(z) for 1/2 <= z <= 5/2: a rational function times its zeros at 1 and 2."""
        t = self.sub(z, 1.5)
        p = self.polynomial(t, self.table(z, "lgamma_p"))
        q = self.polynomial(t, self.table(z, "lgamma_q"))
        y = self.mul(self.mul(self.sub(z, 1.0), self.sub(z, 2.0)), self.div(p, q))
        return self.add(y, 0.0)  # lgamma(1) is not -0

    def sin_cos_of_pi(self, x: Value) -> tuple[Value, Value]:
        """(sin(pi x), cos(pi x)) for 0 <= x <= 1/2."""
        swapped = self.compare(x, ">", 0.25)
        r = self.mul(self.select(swapped, self.rsub(0.5, x), x), math.pi)
        z = self.mul(r, r)
        s, c = self.sin_near_zero(r, z), self.cos_near_zero(z)
        return self.select(swapped, c, s), self.select(swapped, s, c)

    def digamma(self, x: Value) -> Value:
        """Derivative of lgamma; -inf at 0, inf at -0, NaN at -1, -2, … and at -inf. float is computed in double.

        Recurrence to z + n >= 10, then the asymptotic series (Abramowitz and Stegun, 6.3.18); reflection for x < 1/2.
        The error is relative to the largest term, so it is absolute near the zeros.
        """
        if self.format(x).name == "float":
            return self.in_double(self.digamma, x)
        reflected = self.compare(x, "<", 0.5)
        w, steps_back = self.rise_digamma(self.select(reflected, self.rsub(1.0, x), x))
        v = self.div(1.0, w)
        square = self.mul(v, v)
        tail = self.fma(square, self.polynomial(square, DIGAMMA_SERIES), self.mul(v, 0.5))
        y = self.sub(self.sub(self.log(w), tail), steps_back)
        r = self.sub(x, self.rint(x))
        sine, cosine = self.sin_cos_of_pi(self.abs(r))
        cotangent = self.copysign(self.div(cosine, sine), self.select(self.compare(x, "==", 0.0), x, r))
        y = self.select(reflected, self.fma(cotangent, -math.pi, y), y)
        pole = self.builder.and_(self.compare(x, "<", 0.0), self.compare(r, "==", 0.0))
        return self.select(pole, NAN, y)

    def rise_digamma(self, z: Value) -> tuple[Value, Value]:
        """(z + n, 1 / z + 1 / (z + 1) + … ), n terms, for the smallest n with z + n >= DIGAMMA_FROM; one division."""
        top, bottom = self.splat(z, 0.0), self.splat(z, 1.0)
        for _ in range(10):
            below = self.compare(z, "<", DIGAMMA_FROM)
            top = self.select(below, self.fma(top, z, bottom), top)
            bottom = self.select(below, self.mul(bottom, z), bottom)
            z = self.select(below, self.add(z, 1.0), z)
        return z, self.div(top, bottom)
