"""pow, which needs log(x) to more digits than its own type has."""

from graphflow.compiler.llvm.mathlib.arithmetic import INFINITY, NAN, Value
from graphflow.compiler.llvm.mathlib.coefficients import LOOKUP
from graphflow.compiler.llvm.mathlib.exponential import Exponential
from graphflow.compiler.llvm.mathlib.logarithm import LOG_2_HIGH, LOG_2_LOW


class Power(Exponential):
    """x**y; every method maps values of any float type to values of that type."""

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
        """a**y for floats a >= 0."""
        return self.in_double(self.pow_of_floats, a, y)

    def pow_of_floats(self, a: Value, y: Value) -> Value:
        """a**y as doubles: relative errors of 2**-40 in log2 and 2**-29 in exp2 vanish in the rounding to float."""
        k, m = self.split_any_log(a)
        index = self.integer("lshr", self.bits(m), 48)
        r = self.fma(m, self.lookup(m, LOOKUP["log_inverse"], index), -1.0)
        high = self.add(k, self.lookup(m, LOOKUP["log2_high"], index))
        log = self.fma(self.polynomial(r, self.table(a, "log2_pow")), r, high)
        log = log if self.has_getexp(a) else self.log_extremes(a, log)
        z = self.maximum(self.minimum(self.mul(y, log), 200.0), -200.0)
        t, n = self.shifted(z)
        r = self.sub(z, n)
        p = self.fma(self.polynomial(r, self.table(r, "exp2_pow")), r, 1.0)
        return self.add_exponent(p, t)

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
        """log(x) as h + l to about 2**-65: k log(2) - log(c) + log1p(r + r_low), see `logarithm`."""
        k, m = self.split_any_log(x)
        index = self.integer("lshr", self.bits(m), 48)
        product, r_low = self.exact_product(m, self.lookup(m, LOOKUP["log_inverse"], index))
        r = self.sub(product, 1.0)  # exact
        f = self.format(x)
        high = self.fma(k, LOG_2_HIGH(f), self.lookup(m, LOOKUP["log_high"], index))  # exact
        low = self.fma(k, LOG_2_LOW(f), self.lookup(m, LOOKUP["log_low"], index))
        square, square_low = self.exact_product(r, self.mul(r, -0.5))
        cubic = self.fma(self.mul(self.mul(r, r), r), self.split_polynomial(r, self.table(x, "log_pow")), square_low)
        low = self.add(self.add(low, cubic), self.fma(self.neg(r), r_low, r_low))
        high, l1 = self.exact_sum(high, r)
        high, l2 = self.exact_sum(high, square)
        return self.exact_sum(high, self.add(self.add(l1, l2), low))
