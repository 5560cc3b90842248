"""The coefficients of the mathematical functions: they are what their scripts say, and as good."""

import importlib
from typing import Any

import mpmath
import numpy as np
import pytest

from graphflow.compiler.llvm.mathlib.coefficients import COEFFICIENTS
from graphflow.compiler.llvm.mathlib.log_table import LOG_TABLE
from graphflow.compiler.llvm.mathlib.logarithm import LOG_2_HIGH
from graphflow.compiler.llvm.mathlib.pieces import PIECES

MANTISSA = {"float": 23, "double": 52}


def script(name: str) -> Any:
    """A script as a module; it works in 40 digits, which others here do not."""
    with mpmath.workdps(40):
        return importlib.import_module(f"scripts.{name}")


def test_every_table_has_a_specification() -> None:
    assert set(COEFFICIENTS) == set(script("fit_polynomials").SPECS)
    assert set(PIECES) == set(script("fit_pieces").SPECS)


@pytest.mark.parametrize("kind", ["float", "double"])
@pytest.mark.parametrize("name", COEFFICIENTS)
def test_polynomials_err_by_less_than_half_an_epsilon(name: str, kind: str) -> None:
    """Relative to the function, in units of 2**-24 or 2**-53."""
    fit = script("fit_polynomials")
    with mpmath.workdps(40):
        grid = fit.make_grid(fit.SPECS[name], *fit.SPECS[name].interval(kind)[:2], size=61)
        error = fit.error_of(grid, COEFFICIENTS[name][kind]) * 2 ** fit.DIGITS[kind]
    assert 0 < error < 0.4


@pytest.mark.parametrize("name", PIECES)
def test_pieces_err_by_less_than_an_epsilon(name: str) -> None:
    fit = script("fit_pieces")
    spec = fit.SPECS[name]
    for kind, rows in PIECES[name].items():
        with mpmath.workdps(40):
            ordered = [[row[fit.place(spec, piece)] for piece in range(fit.PIECES)] for row in rows]
            assert max(fit.errors(spec, kind, ordered, samples=5)) < 0.9


@pytest.mark.parametrize("kind", ["float", "double"])
def test_log_table(kind: str) -> None:
    """high + low is the logarithm of 1 / inverse, and high has room for a multiple of log(2)."""
    unit = 2.0 ** (-16 if kind == "float" else -42)
    precision = 2.0 ** (-40 if kind == "float" else -113)
    with mpmath.workdps(50):
        columns = zip(*(LOG_TABLE[row][kind] for row in ("inverse", "high", "low")), strict=True)
        for inverse, high, low in columns:
            assert high % unit == 0
            assert abs(-mpmath.log(mpmath.mpf(inverse)) - high - mpmath.mpf(low)) < precision
    assert (LOG_2_HIGH(type("F", (), {"name": kind})) * 2.0 ** (MANTISSA[kind] - 8)) % 1 == 0


def test_log2_table() -> None:
    with mpmath.workdps(50):
        columns = zip(*(LOG_TABLE[row]["double"] for row in ("inverse", "high2", "low2")), strict=True)
        for inverse, high, low in columns:
            assert high % 2.0**-42 == 0
            assert abs(-mpmath.log(mpmath.mpf(inverse), 2) - high - mpmath.mpf(low)) < 2.0**-96


def test_rows_are_numbers_of_their_format() -> None:
    for table in (COEFFICIENTS, LOG_TABLE):
        for formats in table.values():
            for number in formats.get("float", ()):
                assert float(np.float32(number)) == number
