#!/usr/bin/env python3
"""Fit the polynomials of the compiler's mathematical library.

    python -m scripts.fit_polynomials               # writes compiler/llvm/mathlib/coefficients.py: some minutes
    python -m scripts.fit_polynomials exp log       # prints the coefficients of these

Remez' exchange in 40 digits on a grid of Chebyshev points, with the weight that makes the relative error of the
function itself least; then rounded to the format one by one, constant term first, the rest being fitted again where it
can. Errors are printed in units of 2**-53 (double) or 2**-24 (float) of the function.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import mpmath

from scripts.fitting import DIGITS, FORMATS, Function, fit_and_write, value

mp = mpmath.mpf


HEADER = '''"""Coefficients of polynomials. Written by scripts/fit_polynomials.py: change that.

`COEFFICIENTS[name][format]` are the coefficients, constant term first.
"""

COEFFICIENTS: dict[str, dict[str, tuple[float, ...]]] = {
'''


@dataclass(frozen=True)
class Spec:
    """`target` on [low, high] of each format, in so many coefficients.

    An error e of the polynomial at x is an error e * weight(x) relative to the function.
    """

    what: str
    target: Function
    weight: Function
    single: tuple[float, float, int]
    double: tuple[float, float, int]

    def interval(self, kind: str) -> tuple[float, float, int]:
        """(low, high, count) of a format."""
        return self.single if kind == "float" else self.double


def less(function: Function, power: int, *terms: Any) -> Function:
    """(function(x) - terms[0] - terms[1] x - …) / x**power, to all digits."""

    def target(x: Any) -> Any:
        with mpmath.workdps(120):
            x = x if x != 0 else mp(10) ** -25
            return (function(x) - sum(c * x**i for i, c in enumerate(terms))) / x**power

    return target


def of_root(function: Function) -> Function:
    """z -> function(sqrt(z)): even functions by their square."""
    return lambda z: function(mpmath.sqrt(z))


def odd(name: str, function: Function) -> tuple[str, Function, Function]:
    """(function(x) - x) / x**3 in z = x**2."""
    target = of_root(lambda x: less(function, 3, 0, 1)(x))
    return f"({name}(x) - x) / x**3 in z = x**2", target, of_root(lambda x: x**3 / function(x))


def exp2(x: Any) -> Any:
    return mp(2) ** x


HALF_LOG_2, REDUCED = 0.34658, 0.793  # a little beyond log(2) / 2 and pi / 4: reductions round
OCTAVE, SIXTEENTH = (-0.25, 0.5), (-1 / 32, 1 / 16)  # the m - 1 of logarithms, and what their table leaves

SPECS = {
    "exp": Spec(
        "(exp(r) - 1 - r) / r**2 for |r| <= log(2) / 2",
        less(mpmath.exp, 2, 1, 1),
        lambda x: x**2 / mpmath.exp(x),
        (-HALF_LOG_2, HALF_LOG_2, 5),
        (-HALF_LOG_2, HALF_LOG_2, 10),
    ),
    "exp2": Spec(
        "(2**r - 1) / r for |r| <= 1/2", less(exp2, 1, 1), lambda x: x / exp2(x), (-0.5, 0.5, 6), (-0.5, 0.5, 11)
    ),
    "log": Spec(
        "(log(1 + f) - f + f**2 / 2) / f**3 for -1/4 <= f <= 1/2 (float), -1/32 <= f <= 1/16 (double)",
        less(mpmath.log1p, 3, 0, 1, mp(-1) / 2),
        lambda x: x**3 / mpmath.log1p(x) if x else mp(0),
        (*OCTAVE, 8),
        (*SIXTEENTH, 8),
    ),
    "log_pow": Spec(
        "the same, further, for -1/32 <= f <= 1/16",
        less(mpmath.log1p, 3, 0, 1, mp(-1) / 2),
        lambda x: x**3 / mpmath.log1p(x) if x else mp(0),
        (*SIXTEENTH, 5),
        (*SIXTEENTH, 9),
    ),
    "sin": Spec(*odd("sin", mpmath.sin), (0.0, REDUCED**2, 3), (0.0, REDUCED**2, 6)),
    "cos": Spec(
        "(cos(r) - 1 + z / 2) / z**2 in z = r**2 for |r| <= 0.793",
        of_root(less(mpmath.cos, 4, 1, 0, mp(-1) / 2)),
        of_root(lambda x: x**4 / mpmath.cos(x)),
        (0.0, REDUCED**2, 3),
        (0.0, REDUCED**2, 6),
    ),
    "sinh": Spec(*odd("sinh", mpmath.sinh), (0.0, 1.0, 4), (0.0, 1.0, 8)),
    "tan": Spec(*odd("tan", mpmath.tan), (0.0, REDUCED**2, 6), (0.0, REDUCED**2, 14)),
    "atan": Spec(*odd("atan", mpmath.atan), (0.0, 1.0, 9), (0.0, 1.0, 20)),
    "asin": Spec(*odd("asin", mpmath.asin), (0.0, 0.25, 5), (0.0, 0.25, 13)),
}


# fitting


@dataclass(frozen=True)
class Grid:
    """Chebyshev points of an interval, with target and weight there."""

    x: list[Any]
    target: list[Any]
    weight: list[Any]


def make_grid(spec: Spec, low: float, high: float, size: int = 201) -> Grid:
    middle, radius = (mp(low) + mp(high)) / 2, (mp(high) - mp(low)) / 2
    x = [middle - radius * mpmath.cos(mpmath.pi * i / (size - 1)) for i in range(size)]
    return Grid(x, [spec.target(one) for one in x], [spec.weight(one) if abs(one) > 1e-6 else mp(0) for one in x])


def remez(grid: Grid, given: Sequence[float], count: int) -> list[Any] | None:
    """The `count` coefficients after the given ones for which the largest weighted error on the grid is least.

    None where the exchange does not end: on both sides of 0 there need not be one such set once some are given.
    """
    first, size = len(given), len(grid.x)
    rest = [f - value(given, x) for f, x in zip(grid.target, grid.x, strict=True)]
    usable = [i for i in range(size) if grid.weight[i] != 0]
    points = [usable[round(j * (len(usable) - 1) / count)] for j in range(count + 1)]
    for _ in range(30):
        rows = [
            [grid.x[i] ** (first + j) for j in range(count)] + [(-1) ** n / grid.weight[i]]
            for n, i in enumerate(points)
        ]
        solved = mpmath.lu_solve(mpmath.matrix(rows), mpmath.matrix([rest[i] for i in points]))
        found, level = list(solved[:count]), abs(solved[count])
        powers = [0] * first + found
        error = [(value(powers, x) - r) * w for x, r, w in zip(grid.x, rest, grid.weight, strict=True)]
        points = extrema(error, count + 1) or points
        if max(map(abs, error)) <= level * mp("1.001"):
            return found
    return None


def extrema(error: Sequence[Any], count: int) -> list[int] | None:
    """Where an error is extreme with alternating sign, `count` neighbours of such places; None if there are fewer."""
    best: list[int] = []
    for i, e in enumerate(error):
        if e == 0:
            continue
        if best and (error[best[-1]] > 0) == (e > 0):
            best[-1] = i if abs(e) > abs(error[best[-1]]) else best[-1]
        else:
            best.append(i)
    while len(best) > count:
        best.pop(0 if abs(error[best[0]]) < abs(error[best[-1]]) else -1)
    return best if len(best) == count else None


def fit(spec: Spec, name: str) -> tuple[list[float], float]:
    """(rounded coefficients, largest error in units of the format's half epsilon): the best of some roundings."""
    low, high, count = spec.interval(name)
    grid = make_grid(spec, low, high)
    tried = (rounded(grid, count, name, again) for again in (0, 1, 2, 3, count))
    return min(
        ((found, float(error_of(grid, found) * mp(2) ** DIGITS[name])) for found in tried), key=lambda one: one[1]
    )


def rounded(grid: Grid, count: int, name: str, again: int) -> list[float]:
    """Coefficients rounded one after the other; the rest is fitted again after each of the first `again`."""
    found: list[float] = []
    rest = remez(grid, found, count)
    assert rest is not None, "Remez' exchange did not end"
    while rest:
        found.append(float(FORMATS[name](rest.pop(0))))
        better = remez(grid, found, len(rest)) if rest and len(found) <= again else None
        rest = better or rest
    return found


def error_of(grid: Grid, coefficients: Sequence[float]) -> Any:
    """The largest weighted error of a polynomial."""
    values = (value(coefficients, x) for x in grid.x)
    return max(abs((v - f) * w) for v, f, w in zip(values, grid.target, grid.weight, strict=True))


def show(name: str) -> dict[str, list[float]]:
    """Fit one name for its formats and print what comes of it."""
    found = {}
    for kind in FORMATS:
        found[kind], error = fit(SPECS[name], kind)
        print(f"{name:<9}{kind:<7} error {error:.4f}", *(found[kind] if sys.argv[1:] else ()), flush=True)
    return found


def text_of(tables: dict[str, dict[str, list[float]]]) -> str:
    """The module."""
    lines = [HEADER]
    for name, formats in tables.items():
        lines.append(f'    # {SPECS[name].what}\n    "{name}": {{\n')
        for kind, numbers in formats.items():
            body = "".join(f"            {number!r},\n" for number in numbers)
            lines.append(f'        "{kind}": (\n{body}        ),\n')
        lines.append("    },\n")
    return "".join([*lines, "}\n"])


if __name__ == "__main__":
    fit_and_write("coefficients.py", SPECS, show, text_of)
