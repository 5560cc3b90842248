"""Many values divided by the same number: one division, then three multiplications and a correction for each.

A vector division takes as long as some sixteen multiplications.  With y = 1/d and q = x*y the remainder r = x - q*d is
exact in one fused operation, and q + r*y is x/d rounded once, to within 1e-6 of half a unit in the last place
(P. Markstein, "Computation of elementary functions on the IBM RISC System/6000 processor", 1990).  |d| is
brought to [1, 4), if it is less than 1 to [1/2, 1): q then leaves the range of floats only where x/d does.  Where x
or d is zero, infinite or NaN, or q infinite, the correction may give NaN, and q is already right.  Where |x| < 2^-100
(float64: 2^-960) the remainder is flushed to zero and q stays off by two units at most.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir

from graphflow.compiler.llvm.code import splat
from graphflow.compiler.llvm.values import Values

__all__ = ["Divisor", "divisor", "quotient"]

Divisor = tuple[Any, Any, Any]
"""d * s, 1 / (d * s) and the power of two s, all scalars."""


def divisor(k: Values, d: Any) -> Divisor:
    """What dividing by d needs."""
    b = k.builder
    word, digits, bias = (ir.IntType(32), 23, 127) if isinstance(d.type, ir.FloatType) else (ir.IntType(64), 52, 1023)
    exponent = b.and_(b.bitcast(d, word), ir.Constant(word, (2 * bias + 1) << digits))
    largest = ir.Constant(word, (2 * bias - 1) << digits)
    exponent = b.select(b.icmp_unsigned("<", exponent, largest), exponent, largest)
    small = b.icmp_unsigned("<", exponent, ir.Constant(word, bias << digits))
    exponent = b.select(small, b.add(exponent, ir.Constant(word, 1 << digits)), exponent)
    scale = b.bitcast(b.sub(ir.Constant(word, (2 * bias) << digits), exponent), d.type)
    scaled = b.fmul(d, scale)
    return scaled, b.fdiv(ir.Constant(d.type, 1.0), scaled), scale


def quotient(k: Values, x: Any, by: Divisor) -> Any:
    """x / d for a vector x."""
    b = k.builder
    d, y, scale = (splat(b, v, x.type.count) for v in by)
    q = b.fmul(x, y)
    rest = k.fma(b.fneg(q), d, x)
    better = k.fma(rest, y, q)
    return b.fmul(b.select(b.fcmp_ordered("ord", better, better), better, q), scale)
