"""erf, erfc and erfinv: piecewise polynomials (scripts/fit_pieces.py), the same in both formats."""

from graphflow.compiler.llvm.mathlib.basis import INFINITY, Value, by_format
from graphflow.compiler.llvm.mathlib.exponential import Exponential

ERF_OFFSET, ERFCX_OFFSET, ERFINV_OFFSET = 0.4375, 2.0, 2.5  # see scripts/fit_pieces.py
ERF_SECOND_PIECE = 0.5  # from there on of x + ERF_OFFSET; the first piece has erf(x) - x
ERF_IS_ONE = 6.5  # erf is 1 in both formats, and the pieces have not ended
ERFC_VANISHES = by_format(9.3, 26.6)  # the result is denormal before, the exponential normal still


class ErrorFunction(Exponential):
    """The error functions; every method maps values of any float type to values of that type."""

    def erf(self, x: Value) -> Value:
        """Error function; -0 at -0."""
        a = self.minimum(self.abs(x), ERF_IS_ONE)
        constant, rest = self.piecewise(a, "erf", ERF_OFFSET)
        first = self.compare(self.add(a, ERF_OFFSET), "<", ERF_SECOND_PIECE)  # the rounded sum, as `piecewise` has it
        y = self.add(self.select(first, a, constant), rest)
        return self.copysign(y, x)

    def erfc(self, x: Value) -> Value:
        """1 - erf(x), with a small relative error in the tail too. Results that are denormal may become 0.

        exp(-x**2) times the smooth rest. x**2 is a sum of two numbers, for its rounding error would be one of the
        exponent; with exp = 2**n (1 + p) the product is 2**n (c + (r + (c + r) p)), which rounds the large term once.
        """
        a = self.abs(x)
        constant, rest = self.piecewise(a, "erfcx", ERFCX_OFFSET)
        square, square_low = self.exact_product(a, a)
        t, r = self.reduce_exp(self.neg(square))
        p = self.expm1_near_zero(self.sub(r, square_low))
        high, low = self.exact_sum(constant, rest)
        y = self.mul(self.add(high, self.fma(high, p, low)), self.power_of_two(t))
        y = self.select(self.compare(a, ">=", ERFC_VANISHES(self.format(x))), 0.0, y)
        return self.select(self.compare(x, "<", 0.0), self.rsub(2.0, y), y)

    def erfinv(self, x: Value) -> Value:
        """Inverse of erf: x times a function of w = -log(1 - x**2); inf at 1, NaN beyond. -0 at -0.

        The variable is that of M. Giles, "Approximating the erfinv function" (2010).
        """
        a = self.abs(x)
        w = self.neg(self.log(self.mul(self.rsub(1.0, a), self.add(a, 1.0))))
        high, low = self.exact_sum(*self.piecewise(w, "erfinv", ERFINV_OFFSET))
        y = self.fma(high, a, self.mul(low, a))
        return self.copysign(self.select(self.compare(a, "==", 1.0), INFINITY, y), x)
