"""Transcendental functions as LLVM code, inline and branch-free, for scalars and vectors of float and double.

    k = Math(builder, fma=target.has_fma)
    y = k.tanh(x)                  # x: float, double, <N x float> or <N x double>; so is y

No call leaves the code, so a loop over vectors stays one; selections replace branches. NaN, infinities and zeros are
treated as NumPy does; denormal arguments are taken as they are (unless the thread's mode flushes them), denormal
results may become 0. x86 before SSE4.1 has no floor, ceil and rint: there they, pow, lgamma, digamma call the C
library.
Each function's docstring names its method and its error bounds, which are those of `ULP`; the tests enforce them.
"""

from graphflow.compiler.llvm.mathlib.error_function import ErrorFunction
from graphflow.compiler.llvm.mathlib.gamma import Gamma
from graphflow.compiler.llvm.mathlib.power import Power
from graphflow.compiler.llvm.mathlib.remainder import Remainder

# Bounds on the error, in units in the last place of the exact result, over the ranges of the tests; 1e7 floats and as
# many doubles stay below (2e4 doubles, where NumPy has no long double function). 900 ulps, for lgamma and digamma of
# float64, are 1e-13 to 2e-13 of the result.
ULP: dict[str, dict[str, float]] = {
    "exp": {"float32": 1.0, "float64": 1.0},
    "exp2": {"float32": 1.0, "float64": 1.0},
    "expm1": {"float32": 1.8, "float64": 2.3},
    "log": {"float32": 1.1, "float64": 1.0},
    "log2": {"float32": 2.0, "float64": 1.2},
    "log1p": {"float32": 1.7, "float64": 1.5},
    "pow": {"float32": 0.6, "float64": 1.2},
    "sinh": {"float32": 1.8, "float64": 1.8},
    "cosh": {"float32": 1.5, "float64": 1.5},
    "tanh": {"float32": 2.0, "float64": 2.4},
    "asinh": {"float32": 2.0, "float64": 2.0},
    "acosh": {"float32": 2.2, "float64": 2.3},
    "atanh": {"float32": 2.3, "float64": 2.2},
    "sigmoid": {"float32": 2.1, "float64": 2.1},
    "softplus": {"float32": 2.0, "float64": 2.0},
    "sin": {"float32": 1.7, "float64": 1.6},
    "cos": {"float32": 1.7, "float64": 1.6},
    "tan": {"float32": 3.1, "float64": 2.8},
    "asin": {"float32": 2.2, "float64": 2.2},
    "acos": {"float32": 1.3, "float64": 1.3},
    "atan": {"float32": 1.5, "float64": 1.6},
    "atan2": {"float32": 1.7, "float64": 1.7},
    "erf": {"float32": 2.0, "float64": 1.3},
    "erfc": {"float32": 5.0, "float64": 4.5},
    "erfinv": {"float32": 2.8, "float64": 2.8},
    "lgamma": {"float32": 0.6, "float64": 900.0},
    "digamma": {"float32": 0.6, "float64": 900.0},
    "sqrt": {"float32": 0.5, "float64": 0.5},
    "rsqrt": {"float32": 1.5, "float64": 1.5},
}


class Math(ErrorFunction, Gamma, Power, Remainder):
    """Every function of this library, at the position of `builder`.

    exp exp2 expm1 log log2 log1p pow · sinh cosh tanh asinh acosh atanh · sigmoid softplus · sin cos tan asin acos atan
    atan2 · erf erfc erfinv lgamma digamma · floor ceil rint sqrt rsqrt abs copysign, besides `Arithmetic`'s operations.
    """


def _state_bounds() -> None:
    """Add each function's error bounds to its docstring: `help(Math.exp)` tells them."""
    for name, bounds in ULP.items():
        function = getattr(Math, name)
        stated = ", ".join(f"{bound:g} ulp in {dtype}" for dtype, bound in bounds.items())
        function.__doc__ = f"{function.__doc__.rstrip()}\n\n        Error: at most {stated}.\n"


_state_bounds()
