"""pow, which needs log(x) to more digits than its own type has, and powers whose exponent is known beforehand."""

import functools

from graphflow.compiler.llvm.mathlib.basis import INFINITY, NAN, Value, by_format
from graphflow.compiler.llvm.mathlib.exponential import Exponential
from graphflow.compiler.llvm.mathlib.logarithm import LOG_2_HIGH, LOG_2_LOW

Pair = tuple[Value, Value | None]  # h + l; None for no l

SCALE = by_format(96, 960)  # 2**SCALE times the smallest number has as many digits below as a pair has
LARGEST_BY_PRODUCTS = 32  # products of at most nine pairs take less time than log and exp
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

    def pow_of(self, x: Value, exponent: float) -> Value:
        """x**exponent for one exponent, with the bounds and the special cases of `pow`.

        Whole numbers and halves of odd ones take a quarter of its instructions, or fewer: products, a root, a division.
        """
        if exponent == -1:
            return self.div(1.0, x)
        if exponent == 0.5:
            return self.root(x)
        n = exponent if float(exponent).is_integer() else 2 * exponent
        if abs(n) not in range(1, LARGEST_BY_PRODUCTS + 1):
            return self.pow(x, self.lift(x, exponent))
        base: Pair = (x, None) if n == exponent else self.root_pair(x)
        return self.pair_power(self.inverse_pair(base) if n < 0 else base, abs(int(n)))

    def root(self, x: Value) -> Value:
        """x**0.5, which is 0.0 for -0.0 and infinite for -inf."""
        root = self.add(self.sqrt(x), 0.0)
        return self.select(self.compare(x, "==", -INFINITY), INFINITY, root)

    def root_pair(self, x: Value) -> Pair:
        """x**0.5 as h + l with twice the digits: Newton's step from the rounded root; l is NaN where h is 0."""
        high = self.root(x)
        return high, self.div(self.exact_rest(x, high, high), self.mul(high, 2.0))

    def inverse_pair(self, x: Pair) -> Pair:
        """1 / x as h + l with twice the digits: Newton's step from the rounded quotient; l is NaN where h is 0."""
        high = self.div(1.0, x[0])
        rest = self.exact_rest(1.0, high, x[0])
        if x[1] is not None:
            rest = self.fma(self.neg(high), x[1], rest)
        return high, self.mul(high, rest)

    def pair_power(self, x: Pair, n: int) -> Value:
        """x**n for n >= 1, by squares and products of pairs, from the highest bit of n down; rounded once.

        Numbers below 1 are scaled, so that low parts do not vanish. Above, what overflows on the way overflows at the
        end, too: where low parts are not finite the product of the high parts is the answer.
        """
        small, shift = self.compare(self.abs(x[0]), "<", 1.0), SCALE(self.format(x[0])) // n
        up, down = (self.select(small, self.lift(x[0], 2.0**s), 1.0) for s in (shift, -shift * n))
        x = (self.mul(x[0], up), None if x[1] is None else self.mul(x[1], up))
        power = x
        steps = "".join("sx" if bit == "1" else "s" for bit in f"{n:b}"[1:]) or "1"
        for step in steps[:-1]:
            power = self.pair_product(power, power if step == "s" else x)
        other: Pair = {"s": power, "x": x, "1": (self.lift(x[0], 1.0), None)}[steps[-1]]
        plain = self.mul(power[0], other[0])
        mixed = self.mixed_product(power, other)
        exact = plain if mixed is None else self.fma(power[0], other[0], mixed)
        return self.mul(self.select(self.compare(self.abs(exact), "<", INFINITY), exact, plain), down)

    def pair_product(self, a: Pair, b: Pair) -> Pair:
        """a * b, without the product of the low parts."""
        high, rest = self.exact_product(a[0], b[0])
        mixed = self.mixed_product(a, b)
        return high, rest if mixed is None else self.add(rest, mixed)

    def mixed_product(self, a: Pair, b: Pair) -> Value | None:
        """a's high part times b's low one and the other way round; None for two numbers."""
        products = [self.mul(x[0], y[1]) for x, y in ((a, b), (b, a)) if y[1] is not None]
        return functools.reduce(self.add, products) if products else None

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
