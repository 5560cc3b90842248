"""pow, which needs log(x) to more digits than its own type has."""

from graphflow.compiler.llvm.mathlib.basis import INFINITY, NAN, Value, by_format
from graphflow.compiler.llvm.mathlib.exponential import Exponential
from graphflow.compiler.llvm.mathlib.logarithm import LOG_2_HIGH, LOG_2_LOW

EXP_SURELY_NORMAL = by_format(87.0, 708.0)  # exp is a normal number up to here on both sides


class Power(Exponential):
    """x**y; every method maps values of any float type to values of that type."""

    def pow(self, x: Value, y: Value) -> Value:
        """x**y with the special cases of C99 (annex F.9.4.4), as NumPy has them.

        exp(y log(|x|)), the logarithm and the product being sums of two numbers. Negative x, zeros, infinities, NaN and
        whatever comes near an overflow are looked at only if some lane has such. Results that are denormal become 0.
        """
        high, low = self.log_pair(self.abs(x))
        z, rest = self.exact_product(y, high)
        rest = self.fma(y, low, rest)
        t, r = self.reduce_exp(z)
        power = self.add_exponent(self.exp_near_zero(self.add(r, rest)), t)
        beyond = self.builder.fcmp_unordered(">=", self.abs(z), self.splat(z, EXP_SURELY_NORMAL(self.format(z))))
        rare = self.builder.or_(self.builder.not_(self.is_positive_finite(x)), beyond)
        return self.where_rare(rare, power, lambda: self.pow_anywhere(x, y, z, rest))

    def log_pair(self, x: Value) -> tuple[Value, Value]:
        """log(x) as h + l for positive finite x, with 11 or more digits than the format has.

        k log(2) - log(c) + log1p(r + r_low), see `logarithm`; l may be as large as an ulp of h.
        """
        f = self.format(x)
        k, m = self.split_any_log(x)
        index = self.log_index(m)
        product, r_low = self.exact_product(m, self.log_entry(m, "inverse", index))
        r = self.sub(product, 1.0)  # exact
        high = self.fma(k, LOG_2_HIGH(f), self.log_entry(m, "high", index))  # exact
        low = self.fma(k, LOG_2_LOW(f), self.log_entry(m, "low", index))
        square, square_low = self.exact_product(r, self.mul(r, -0.5))
        cube = self.mul(self.mul(r, r), r)
        cubic = self.fma(cube, self.split_polynomial(r, self.table(x, "log_pow")), square_low)
        low = self.add(self.add(low, cubic), self.fma(self.neg(r), r_low, r_low))
        high, l1 = self.exact_sum(high, r)
        high, l2 = self.exact_sum(high, square)
        return high, self.add(self.add(l1, l2), low)

    def is_positive_finite(self, x: Value) -> Value:
        """i1 lanes: 0 < x < inf, told by one comparison of bits."""
        infinity = (2 * self.format(x).bias + 1) << self.format(x).mantissa
        bits = self.integer("sub", self.bits(x), 1)
        return self.builder.icmp_unsigned("<", bits, self.splat(bits, infinity - 1))

    def pow_anywhere(self, x: Value, y: Value, z: Value, rest: Value) -> Value:
        """x**y for any x and y; z + rest is y log(|x|) where |x| is a positive number."""
        a = self.abs(x)
        t, r = self.reduce_exp(z)
        r = self.add(r, self.select(self.compare(self.abs(z), "<", INFINITY), rest, 0.0))
        power = self.exp_limits(z, self.add_exponent(self.exp_near_zero(r), t))
        zero, endless = self.compare(a, "==", 0.0), self.compare(a, "==", INFINITY)
        up = self.builder.xor(zero, self.compare(y, ">", 0.0))
        power = self.select(self.builder.or_(zero, endless), self.select(up, self.splat(x, INFINITY), 0.0), power)
        power = self.select(self.builder.fcmp_unordered("uno", x, y), NAN, power)
        return self.pow_sign(x, y, power)

    def pow_sign(self, x: Value, y: Value, power: Value) -> Value:
        """x**y from |x|**y: the sign, NaN for roots of negative numbers, and what is 1 whatever the other operand."""
        whole = self.compare(self.floor(y), "==", y)
        h = self.mul(y, 0.5)
        odd = self.builder.and_(whole, self.compare(self.floor(h), "!=", h))
        power = self.select(odd, self.copysign(power, x), power)
        inside = self.builder.and_(self.compare(x, "<", 0.0), self.compare(x, ">", -INFINITY))
        power = self.select(self.builder.and_(inside, self.builder.not_(whole)), NAN, power)
        minus_one = self.builder.and_(self.compare(x, "==", -1.0), self.compare(self.abs(y), "==", INFINITY))
        one = self.builder.or_(self.compare(x, "==", 1.0), self.compare(y, "==", 0.0))
        return self.select(self.builder.or_(one, minus_one), 1.0, power)
