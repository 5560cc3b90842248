"""lgamma and digamma: piecewise polynomials (scripts/fit_pieces.py), asymptotic series beyond, reflection below 1/2.

float is computed in double. Series and reflection are jumped over by vectors that do not need them.
"""

import math

from graphflow.compiler.llvm.mathlib.basis import INFINITY, NAN, Value
from graphflow.compiler.llvm.mathlib.exponential import Exponential
from graphflow.compiler.llvm.mathlib.trigonometric import Trigonometric

OFFSET = 0.25  # see scripts/fit_pieces.py, as for where pieces begin and end
REFLECTED_BELOW, SERIES_FROM = 0.5, 11.75
DIGAMMA_ZERO, DIGAMMA_ZERO_LOW = 1.4616321449683622, 9.549995429965697e-17  # digamma's zero is their sum


# B(2k) / (2k (2k - 1)), k = 1, 2, …: the correction of Stirling's formula in 1 / w, powers of 1 / w**2.
STIRLING_SERIES = (1 / 12, -1 / 360, 1 / 1260, -1 / 1680, 1 / 1188, -691 / 360360)
# B(2k) / (2k), k = 1, 2, …: digamma(w) - log(w) + 1 / (2 w), negated, in powers of 1 / w**2.
DIGAMMA_SERIES = (1 / 12, -1 / 120, 1 / 252, -1 / 240, 1 / 132, -691 / 32760, 1 / 12)


class Gamma(Exponential, Trigonometric):
    """Functions around gamma; every method maps values of any float type to values of that type."""

    def lgamma(self, x: Value) -> Value:
        """log|gamma(x)|; inf at 0, -1, -2, … and at -inf.

        z = x, or 1 + |x| for x < 1/2. z < 11.75: (z - 1) (z - 2) by a polynomial; else Stirling's series. The error is
        relative, save at negative x, where there are zeros: there it is relative to the largest of 1, the result and
        lgamma(z).
        """
        if self.format(x).name == "float":
            return self.in_double(self.lgamma, x)
        below = self.compare(x, "<", REFLECTED_BELOW)
        w = self.select(below, self.abs(x), self.sub(x, 1.0))
        z = self.add(w, 1.0)
        # (z - 1) (z - 2) rounded once; without FMA, w * w would lose what is left near z = 2
        zeros = self.fma(w, w, self.neg(w)) if self.has_fma else self.mul(w, self.sub(w, 1.0))
        constant, rest = self.piecewise(z, "lgamma", OFFSET)
        y = self.fma(zeros, constant, self.mul(zeros, rest))
        y = self.add(y, 0.0)  # lgamma(1) is not -0
        y = self.where_rare(self.compare(z, ">=", SERIES_FROM), y, lambda: self.stirling(z))
        return self.where_rare(below, y, lambda: self.lgamma_below(x, y))

    def stirling(self, w: Value) -> Value:
        """lgamma(w) for w >= SERIES_FROM, by Stirling's series (Abramowitz and Stegun, 6.1.41), large terms last."""
        v = self.div(1.0, w)
        series = self.fma(v, self.polynomial(self.mul(v, v), STIRLING_SERIES), 0.5 * math.log(2.0 * math.pi) - 0.5)
        high, low = self.log_sum(w)
        factor = self.sub(w, 0.5)
        return self.fma(factor, self.sub(high, 1.0), self.fma(factor, low, series))

    def lgamma_below(self, x: Value, y: Value) -> Value:
        """lgamma(x) for x < 1/2, where y is lgamma(1 + |x|).

        For positive x by the recurrence, y - log(x); for others by reflection, log(pi / |sin(pi x)|) - y.
        """
        positive = self.compare(x, ">", 0.0)
        sine, _ = self.sin_cos_of_pi(self.abs(self.sub(x, self.rint(x))))
        argument = self.select(positive, x, self.mul(sine, 1.0 / math.pi))
        high, low = self.log_sum(argument)
        y = self.sub(self.sub(self.select(positive, y, self.neg(y)), low), high)
        pole = self.compare(argument, "==", 0.0)
        return self.select(self.builder.or_(pole, self.compare(self.abs(x), "==", INFINITY)), INFINITY, y)

    def digamma(self, x: Value) -> Value:
        """Derivative of lgamma; -inf at 0, inf at -0, NaN at -1, -2, … and at -inf.

        (z - z0) by a polynomial, z0 being the zero, for z < 11.75; else the asymptotic series (Abramowitz and Stegun,
        6.3.18); below 1/2 the error is relative to the larger of two terms.
        """
        if self.format(x).name == "float":
            return self.in_double(self.digamma, x)
        reflected = self.compare(x, "<", REFLECTED_BELOW)
        z = self.select(reflected, self.add(self.abs(x), 1.0), x)
        zero = self.sub(self.sub(z, DIGAMMA_ZERO), DIGAMMA_ZERO_LOW)
        y = self.mul(zero, self.add(*self.piecewise(z, "digamma", OFFSET)))
        y = self.where_rare(self.compare(z, ">=", SERIES_FROM), y, lambda: self.digamma_series(z))
        return self.where_rare(reflected, y, lambda: self.digamma_below(x, y))

    def digamma_series(self, w: Value) -> Value:
        """digamma(w) for w >= SERIES_FROM."""
        v = self.div(1.0, w)
        square = self.mul(v, v)
        tail = self.fma(square, self.polynomial(square, DIGAMMA_SERIES), self.mul(v, 0.5))
        return self.sub(self.log(w), tail)

    def digamma_below(self, x: Value, y: Value) -> Value:
        """digamma(x) for x < 1/2, where y is digamma(1 + |x|).

        For positive x by the recurrence, y - 1 / x; for others by reflection, y - pi cot(pi x).
        """
        positive = self.compare(x, ">", 0.0)
        r = self.sub(x, self.rint(x))
        sine, cosine = self.sin_cos_of_pi(self.abs(r))
        cotangent = self.copysign(self.div(cosine, sine), self.select(self.compare(x, "==", 0.0), x, r))
        y = self.add(y, self.select(positive, self.div(-1.0, x), self.mul(cotangent, -math.pi)))
        pole = self.builder.and_(self.compare(x, "<", 0.0), self.compare(r, "==", 0.0))
        return self.select(pole, NAN, y)

    def sin_cos_of_pi(self, x: Value) -> tuple[Value, Value]:
        """(sin(pi x), cos(pi x)) for 0 <= x <= 1/2."""
        swapped = self.compare(x, ">", 0.25)
        r = self.mul(self.select(swapped, self.rsub(0.5, x), x), math.pi)
        z = self.mul(r, r)
        s, c = self.sin_near_zero(r, z), self.cos_near_zero(z)
        return self.select(swapped, c, s), self.select(swapped, s, c)
