#!/usr/bin/env python3
"""Fit the piecewise polynomials of the compiler's mathematical library.

    python -m scripts.fit_pieces                  # writes compiler/llvm/mathlib/pieces.py: some minutes
    python -m scripts.fit_pieces erf digamma      # prints the errors of these, in units of 2**-53 (double) or 2**-24

Sixteen polynomials a function, about centres of their own, four in an octave of `x + offset`; which one serves an
argument is told by leading bits (see `Lookup.piecewise`). Each interpolates the function at Chebyshev's nodes in 40
digits, with its constant term given: the function's value at the centre. Centres were picked such that this value is a
number of the format, to some thousandths of an ulp (S. Gal, "Computing elementary functions", 1986).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import mpmath
import numpy as np

from scripts.fitting import DIGITS, FORMATS, Function, fit_and_write, value

PIECES, SPARE = 16, 4000

Row = list[float]

HEADER = '''"""Coefficients of piecewise polynomials. Written by scripts/fit_pieces.py: change that.

`PIECES[name][format]` has a row of sixteen numbers for the centres, then one for the constants, then one a power. A
piece's place in a row is told by four bits of x + offset: the last two of the exponent, the first two of the mantissa.
"""

# fmt: off
PIECES: dict[str, dict[str, tuple[tuple[float, ...], ...]]] = {
'''


@dataclass(frozen=True)
class Spec:
    """A function of x >= low, in so many coefficients a format.

    `offset` is 2**k or 1.25, 1.5 or 1.75 times that; piece number i begins where x + offset has reached the i-th
    following number of this kind. With `centre`, the first one is developed about that, and is the function less
    `linear` * x.
    """

    what: str
    function: Function
    offset: float
    low: float
    count: dict[str, int]
    centre: float | None = None
    linear: float = 0.0


def inverse_erf_ratio(w: Any) -> Any:
    """erfinv(x) / x by w = -log(1 - x**2)."""
    if w < mpmath.mpf(10) ** -20:
        return mpmath.sqrt(mpmath.pi) / 2
    x = mpmath.sqrt(-mpmath.expm1(-w))
    rest = 1 - x if w < 1 else mpmath.exp(-w) / (1 + x)  # 1 - x to all digits
    y = mpmath.sqrt(w) if w > 4 else mpmath.mpf(float(x)) * mpmath.mpf("0.9")
    for _ in range(100):  # Newton's iteration on log(erfc)
        e = mpmath.erfc(y)
        step = (e - rest) / (2 / mpmath.sqrt(mpmath.pi) * mpmath.exp(-y * y))
        step = mpmath.log(e / rest) * e / (2 / mpmath.sqrt(mpmath.pi) * mpmath.exp(-y * y)) if w > 1 else step
        y += step
        if abs(step) < abs(y) * mpmath.mpf(10) ** -38:
            return y / x
    raise ArithmeticError(f"no convergence at {w}")


def lgamma_ratio(z: Any) -> Any:
    """lgamma(z) / ((z - 1) (z - 2)), with its limits at 1 and 2."""
    if min(abs(z - 1), abs(z - 2)) < mpmath.mpf(10) ** -30:
        return mpmath.euler if z < 1.5 else 1 - mpmath.euler
    return mpmath.loggamma(z) / ((z - 1) * (z - 2))


ZERO_OF_DIGAMMA = mpmath.mpf("1.461632144968362341262659542325721328468196204006446351295988409")

SPECS = {
    "erf": Spec("erf(x)", mpmath.erf, 0.4375, 0.0, {"float": 8, "double": 14}, centre=0.0, linear=1.0),
    "erfcx": Spec("exp(x**2) erfc(x)", lambda x: mpmath.exp(x * x) * mpmath.erfc(x), 2.0, 0.0,
                  {"float": 8, "double": 15}),
    "erfinv": Spec("erfinv(x) / x by w = -log(1 - x**2)", inverse_erf_ratio, 2.5, 0.0, {"float": 7, "double": 15},
                   centre=0.0),
    "lgamma": Spec("lgamma(z) / ((z - 1) (z - 2))", lgamma_ratio, 0.25, 0.5, {"double": 14}),
    "digamma": Spec("digamma(z) / (z - z0), z0 its zero", lambda z: mpmath.digamma(z) / (z - ZERO_OF_DIGAMMA), 0.25,
                    0.5, {"double": 15}),
}  # fmt: skip


def bounds(spec: Spec) -> list[tuple[float, float]]:
    """Where the pieces begin and end."""
    step, edge, found = 2.0 ** np.floor(np.log2(spec.low + spec.offset)) / 4, spec.low + spec.offset, []
    for _ in range(PIECES):
        found.append((edge - spec.offset, edge + step - spec.offset))
        edge += step
        step = 2.0 ** np.floor(np.log2(edge)) / 4
    return found


def good_centre(function: Function, middle: float, kind: Any) -> float:
    """A number next to `middle` where the function's value is nearest to a number of the format."""
    x, f = mpmath.mpf(middle), function(mpmath.mpf(middle))
    slope = mpmath.diff(function, x, h=mpmath.mpf(10) ** -12)
    step, unit = mpmath.mpf(float(np.spacing(kind(middle)))), mpmath.mpf(float(np.spacing(kind(abs(f)))))
    start, rise = f / unit, slope * step / unit
    best = min(range(-SPARE, SPARE), key=lambda k: abs(start + k * rise - mpmath.nint(start + k * rise)))
    return float(x + best * step)


def interpolate(function: Function, centre: float, constant: float, low: float, high: float, count: int) -> list[Any]:
    """Coefficients of t**1, …, t**count: (function(centre + t) - constant) / t at Chebyshev's nodes.

    Not at the centre, where the rounding of the constant would be divided by 0: an even number of nodes has none there,
    and where that is one too many, squared errors are made least.
    """
    nodes_count = count + count % 2
    middle, radius = mpmath.mpf(low + high) / 2 - centre, mpmath.mpf(high - low) / 2
    angles = (mpmath.pi * (2 * i + 1) / (2 * nodes_count) for i in range(nodes_count))
    nodes = [middle + radius * mpmath.cos(angle) for angle in angles]
    matrix = mpmath.matrix([[t**j for j in range(count)] for t in nodes])
    values = mpmath.matrix([(function(centre + t) - constant) / t for t in nodes])
    return list(mpmath.lu_solve(matrix, values))


def fit(spec: Spec, name: str) -> list[Row]:
    """The rows of one format, in the order of the pieces: centres, constants, then a power each."""
    kind, columns = FORMATS[name], []
    for low, high in bounds(spec):
        own = spec.centre is not None and low <= spec.centre < high
        centre = spec.centre if own else good_centre(spec.function, (low + high) / 2, kind)
        constant = float(kind(spec.function(mpmath.mpf(centre))))
        function = (lambda x: spec.function(x) - spec.linear * x) if own else spec.function
        rest = interpolate(function, centre, constant, low, high, spec.count[name] - 1)
        columns.append([centre, constant, *(float(kind(c)) for c in rest)])
    return [list(row) for row in zip(*columns, strict=True)]


def errors(spec: Spec, name: str, rows: Sequence[Sequence[float]], samples: int = 24) -> list[float]:
    """The largest relative error of each piece, computed exactly, in units of the format's half epsilon."""
    unit, found = mpmath.mpf(2) ** -DIGITS[name], []
    for column, (low, high) in zip(zip(*rows, strict=True), bounds(spec), strict=True):
        centre, *coefficients = column
        worst = mpmath.mpf(0)
        for x in np.linspace(low, high, samples + 1)[1:]:
            t = mpmath.mpf(float(x)) - centre
            got = value(coefficients, t) + (spec.linear * t if centre == spec.centre else 0)
            exact = spec.function(mpmath.mpf(float(x)))
            worst = max(worst, abs(got / exact - 1))
        found.append(float(worst / unit))
    return found


def show(name: str) -> dict[str, list[Row]]:
    """Fit one function and print its errors."""
    found = {}
    for kind in SPECS[name].count:
        found[kind] = fit(SPECS[name], kind)
        print(f"{name:<9}{kind:<7}", " ".join(f"{e:.2f}" for e in errors(SPECS[name], kind, found[kind])), flush=True)
    return found


def place(spec: Spec, piece: int) -> int:
    """The four bits that tell this piece."""
    edge = bounds(spec)[piece][0] + spec.offset
    return int(np.float64(edge).view(np.int64) >> 50) % PIECES


def lines_of(spec: Spec, row: Row) -> str:
    """A row of numbers, ordered by their bits."""
    ordered = dict(sorted((place(spec, piece), number) for piece, number in enumerate(row)))
    words = [repr(number) for number in ordered.values()]
    return "".join(f"                {', '.join(words[i : i + 4])},\n" for i in range(0, PIECES, 4))


def text_of(tables: dict[str, dict[str, list[Row]]]) -> str:
    """The module."""
    lines = [HEADER]
    for name, formats in tables.items():
        lines.append(f"    # {SPECS[name].what}\n    {name!r}: {{\n".replace("'", '"'))
        for kind, rows in formats.items():
            body = "".join(f"            (\n{lines_of(SPECS[name], row)}            ),\n" for row in rows)
            lines.append(f'        "{kind}": (\n{body}        ),\n')
        lines.append("    },\n")
    return "".join([*lines, "}\n"])


if __name__ == "__main__":
    fit_and_write("pieces.py", SPECS, show, text_of)
