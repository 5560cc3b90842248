"""What the scripts share that fit the compiler's mathematical library; importing it makes mpmath work in 40 digits."""

import functools
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import mpmath
import numpy as np

MATHLIB = Path(__file__).resolve().parent.parent / "compiler" / "llvm" / "mathlib"
FORMATS = {"float": np.float32, "double": np.float64}
DIGITS = {"float": 24, "double": 53}
mpmath.mp.dps = 40

Function = Callable[[Any], Any]


def value(coefficients: Sequence[Any], x: Any) -> Any:
    """The polynomial of these coefficients, constant term first, at x."""
    return functools.reduce(lambda y, c: y * x + c, reversed(coefficients), mpmath.mpf(0))


def fit_and_write(
    file: str, names: Iterable[str], show: Callable[[str], Any], text_of: Callable[[dict[str, Any]], str]
) -> None:
    """Show the names that the command line has; where it has none, all of `names`, of which the file is written."""
    tables = {name: show(name) for name in sys.argv[1:] or names}
    if not sys.argv[1:]:
        (MATHLIB / file).write_text(text_of(tables))
