"""The remainder of a division, exactly: x - y * floor(x / y) as NumPy has it."""

from graphflow.compiler.llvm.mathlib.basis import INFINITY, Value, by_format
from graphflow.compiler.llvm.mathlib.branches import Branches

DROPPED = 2  # digits that a quotient is shortened by: from 2**(mantissa - 2) on it is an integer then
DROPPED_WITHOUT_FMA = by_format(13, 28)  # so many that its product with half of the divisor is exact
DIVISOR_LOW = by_format(12, 27)  # digits of the divisor's lower part there


class Remainder(Branches):
    """Remainders; every method maps values of any float type to values of that type."""

    def floormod(self, x: Value, y: Value) -> Value:
        """x - y floor(x / y) without an error, with the sign of y, as NumPy's mod: NaN where x is infinite or y 0.

        Where y is infinite it is x, or y if their signs differ. (A denormal y counts as 0.)
        """
        b = self.abs(y)
        rest = self.rest_of_positive(self.abs(x), b)
        signs = self.builder.xor(self.bits(x), self.bits(y))
        opposite = self.builder.icmp_signed("<", signs, self.splat(signs, 0))
        moved = self.builder.and_(opposite, self.compare(rest, "!=", 0.0))
        return self.copysign(self.select(moved, self.sub(b, rest), rest), y)

    def truncatemod(self, x: Value, y: Value) -> Value:
        """x - y trunc(x / y) without a rounding error, with the sign of x: C's fmod. NaN where x is infinite or y 0."""
        return self.copysign(self.rest_of_positive(self.abs(x), self.abs(y)), x)

    def rest_of_positive(self, a: Value, b: Value) -> Value:
        """a - b floor(a / b) for a, b >= 0.

        Quotients that are too large to be rounded are rare; they are brought down before.
        """
        limit = 2.0 ** (self.format(a).mantissa - self.dropped(a))
        q = self.div(a, b)
        rest = self.where_rare(
            self.compare(q, ">=", limit),
            self.rest_by_quotient(a, q, b),
            lambda: self.rest_of_far(a, b, limit),
        )
        return self.select(self.compare(a, "<", b), a, rest)

    def rest_by_quotient(self, a: Value, q: Value, b: Value) -> Value:
        """The rest in [0, b), q being a / b: a less the nearest multiple of b is a number of the format, plus b too."""
        _, n = self.shifted(q)
        rest = self.minus_product(a, n, b)
        return self.select(self.compare(rest, "<", 0.0), self.add(rest, b), rest)

    def rest_of_far(self, a: Value, b: Value, limit: float) -> Value:
        """The rest of quotients of any size."""
        near = self.bring_down(a, b, limit)
        return self.rest_by_quotient(near, self.div(near, b), b)

    def dropped(self, a: Value) -> int:
        """Digits that quotients are shortened by."""
        return DROPPED if self.has_fma else int(DROPPED_WITHOUT_FMA(self.format(a)))

    def bring_down(self, a: Value, b: Value, limit: float) -> Value:
        """a minus such multiples of b that the rest is less than b * limit; it may be below zero.

        Each step subtracts the shortened quotient, an integer, times b, which takes away as many digits as that has.
        Where the quotient overflows, b is scaled up.
        """
        f = self.format(a)

        def step(rest: Value) -> tuple[Value, Value]:
            q = self.div(rest, b)
            overflows = self.compare(self.abs(q), "==", INFINITY)
            scaled = self.select(overflows, self.mul(b, 2.0**f.bias), b)
            short = self.cleared(self.div(rest, scaled), self.dropped(a))
            return self.compare(self.abs(q), ">=", limit), self.minus_product(rest, short, scaled)

        return self.repeat(a, step)

    def minus_product(self, a: Value, q: Value, b: Value) -> Value:
        """a - q b, exactly, for q near a / b, of as few digits as `dropped` leaves."""
        if self.has_fma:
            return self.fma(self.neg(q), b, a)
        high = self.cleared(b, int(DIVISOR_LOW(self.format(a))))
        return self.sub(self.sub(a, self.mul(q, high)), self.mul(q, self.sub(b, high)))

    def cleared(self, x: Value, digits: int) -> Value:
        """x with its last digits set to 0."""
        return self.from_bits(self.integer("and_", self.bits(x), (1 << self.format(x).bits) - (1 << digits)), x)
