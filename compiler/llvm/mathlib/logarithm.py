"""log, log2 and log1p.

x = 2**k m with m in [3/4, 3/2): so k and log(m) never cancel. float takes a polynomial in m - 1. double looks up the
sixteenth of an octave that m is in, which leaves a small r: m = (1 + r) / c, with c and log(c) from tables (P. T. P.
Tang, "Table-driven implementation of the logarithm function in IEEE floating-point arithmetic", 1990).
"""

from graphflow.compiler.llvm.mathlib.basis import INFINITY, NAN, SMALLEST_NORMAL, Value, by_format
from graphflow.compiler.llvm.mathlib.log_table import LOG_TABLE
from graphflow.compiler.llvm.mathlib.lookup import Lookup

LOG2_E = 1.4426950408889634
# log(2) in two positive parts; the first has so few digits that its product with an exponent is exact without FMA too.
LOG_2_HIGH = by_format(0.693145751953125, 6.93147180369123816490e-01)
LOG_2_LOW = by_format(1.42860682030941723212e-06, 1.90821492927058770002e-10)
LOG_2 = 0.6931471805599453
# log2(e) in two parts, each a number of the format.
LOG2_E_HIGH = by_format(1.44269502162933349609375, LOG2_E)
LOG2_E_LOW = by_format(1.9259629911266175e-08, 2.0355273740931033e-17)
THREE_QUARTERS_BITS = {"float": 0x3F400000, "double": 0x3FE8000000000000}
MANTISSA_FROM_THREE_QUARTERS = 0b1011  # operand of AVX-512's getmant: m in [3/4, 3/2), NaN for negative numbers

# Operand of AVX-512's fixupimm, a digit for each kind of argument: positive, negative, inf, -inf, 1, 0, NaNs; 0 leaves
# the result alone, 2 is the NaN itself, 3 a NaN, 4 -inf and 5 inf.
LOG_FIXUP = 0x03530422


class Logarithm(Lookup):
    """Logarithms; every method maps values of any float type to values of that type."""

    def split_log(self, x: Value) -> tuple[Value, Value]:
        """(e, m): x = 2**(e - bias) m with m in [3/4, 3/2), e as integer; x a positive normal number."""
        f = self.format(x)
        low = THREE_QUARTERS_BITS[f.name]
        i = self.integer("add", self.bits(x), f.one_bits - low)
        m = self.integer("add", self.integer("and_", i, (1 << f.mantissa) - 1), low)
        return self.integer("lshr", i, f.mantissa), self.from_bits(m, x)

    def exponent_value(self, e: Value, x: Value) -> Value:
        """e - bias as a number of x's type: e becomes the low bits of 2**mantissa. (AVX2 cannot convert i64.)"""
        f = self.format(x)
        as_bits = self.integer("or_", e, (f.bias + f.mantissa) << f.mantissa)
        return self.sub(self.from_bits(as_bits, x), 2.0**f.mantissa + f.bias)

    def split_any_log(self, x: Value) -> tuple[Value, Value]:
        """(k, m): x = 2**k m with m in [3/4, 3/2), for positive x, denormal ones too.

        With AVX-512 for all x: k is infinite at 0 (-inf) and inf, m NaN for x < 0 and NaN.
        """
        if self.fits_avx512(x):
            m = self.avx512("getmant", x, MANTISSA_FROM_THREE_QUARTERS)
            return self.sub(self.avx512("getexp", x), self.avx512("getexp", m)), m
        f = self.format(x)
        tiny = self.compare(x, "<", SMALLEST_NORMAL(f))
        e, m = self.split_log(self.select(tiny, self.mul(x, 2.0 ** (f.mantissa + 1)), x))
        k = self.exponent_value(e, x)
        return self.select(tiny, self.sub(k, f.mantissa + 1.0), k), m

    def log_limits(self, x: Value, y: Value) -> Value:
        """y = log(x), corrected where that is not finite: at 0, below it, at inf and NaN."""
        if self.fits_avx512(x):
            return self.fixup(y, x, LOG_FIXUP)
        y = self.select(self.compare(x, "<", INFINITY), y, x)
        pole = self.select(self.compare(x, "==", 0.0), self.splat(x, -INFINITY), NAN)
        return self.select(self.compare(x, ">", 0.0), y, pole)

    def log_of_split(self, f: Value, m: Value, k: Value) -> Value:
        """k log(2) + log(1 + f) for -1/4 <= f <= 1/2 and whole k; m is 1 + f rounded. Infinite where k is."""
        kind = self.format(f)
        if kind.name == "float":
            q = self.fma(self.split_polynomial(f, self.table(f, "log")), f, -0.5)
            tail = self.fma(self.mul(f, f), q, self.mul(k, LOG_2_LOW(kind)))
            return self.fma(k, LOG_2_HIGH(kind), self.add(f, tail))
        return self.add(*self.log_parts(f, m, k))

    def log_parts(self, f: Value, m: Value, k: Value) -> tuple[Value, Value]:
        """The same of doubles as h + l: h has no error and is a multiple of 2**-42, |l| is hardly more than 1/16."""
        kind = self.format(f)
        index, r, _ = self.reduce_log(f, m)
        high = self.fma(k, LOG_2_HIGH(kind), self.log_entry(m, "high", index))
        q = self.fma(self.split_polynomial(r, self.table(f, "log")), r, -0.5)
        tail = self.fma(self.mul(r, r), q, self.mul(k, LOG_2_LOW(kind)))
        return high, self.add(r, tail)

    def log_sum(self, x: Value) -> tuple[Value, Value]:
        """log(x) of positive finite doubles as `log_parts`."""
        k, m = self.split_any_log(x)
        return self.log_parts(self.sub(m, 1.0), m, k)

    def log_entry(self, m: Value, name: str, index: Value) -> Value:
        """A number of the logarithms' table for each lane."""
        return self.lookup(m, f"log.{name}", LOG_TABLE[name][self.format(m).name], index)

    def log_index(self, m: Value) -> Value:
        """Where the table has m in [3/4, 3/2): `lookup` takes the lowest four bits."""
        return self.integer("lshr", self.bits(m), self.format(m).mantissa - 4)

    def reduce_log(self, f: Value, m: Value) -> tuple[Value, Value, Value]:
        """(index, r, c) of doubles: 1 + f = (1 + r) / c with -1/32 <= r <= 1/16; r rounded once. m is 1 + f rounded."""
        index = self.log_index(m)
        c = self.log_entry(m, "inverse", index)
        if self.has_fma:
            return index, self.fma(f, c, self.sub(c, 1.0)), c
        h, low = self.exact_product(f, c)
        h, rest = self.exact_sum_any(self.sub(c, 1.0), h)
        return index, self.add(h, self.add(rest, low)), c

    def log(self, x: Value) -> Value:
        """Natural logarithm: k log(2) + f - f**2 / 2 + f**3 P(f), P of degree 7; in double f is what a table leaves."""
        k, m = self.split_any_log(x)
        y = self.log_of_split(self.sub(m, 1.0), m, k)
        return y if self.fits_avx512(x) else self.log_limits(x, y)

    def log2(self, x: Value) -> Value:
        """Logarithm to base 2; exact for powers of two. log2(e) f keeps its low part; in double as in `log`."""
        kind = self.format(x)
        k, m = self.split_any_log(x)
        f = self.sub(m, 1.0)
        if kind.name == "double":
            index, f, _ = self.reduce_log(f, m)
            k = self.add(k, self.log_entry(m, "high2", index))  # exact
            tail = self.fma(f, LOG2_E_LOW(kind), self.log_entry(m, "low2", index))
        else:
            tail = self.mul(f, LOG2_E_LOW(kind))
        q = self.split_polynomial(f, [LOG2_E * c for c in self.table(x, "log")])
        tail = self.fma(self.mul(f, f), self.fma(q, f, -0.5 * LOG2_E), tail)
        y = self.add(k, self.fma(f, LOG2_E_HIGH(kind), tail))
        return y if self.fits_avx512(x) else self.log_limits(x, y)

    def log1p(self, x: Value) -> Value:
        """log(1 + x): what the rounding of 1 + x loses joins the mantissa. -0 at -0."""
        return self.log1p_of_sum(x, None)

    def log1p_of_sum(self, x: Value, low: Value | None) -> Value:
        """log(1 + x + low), low being small beside x or absent; the sign is that of x.

        y = 1 + x rounded is 2**k m, and log(y + rest) = k log(2) + log(1 + f) with f = (m - 1) + 2**-k rest.
        """
        y = self.add(x, 1.0)
        rest = self.sub(self.minimum(x, 1.0), self.sub(y, self.maximum(x, 1.0)))
        rest = rest if low is None else self.add(rest, low)
        k, m = self.split_any_log(y)
        f = self.add(self.sub(m, 1.0), self.times_power(rest, self.neg(k)))
        return self.copysign(self.log_limits(y, self.log_of_split(f, m, k)), x)
