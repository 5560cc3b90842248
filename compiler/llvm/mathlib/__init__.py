"""Mathematical functions as LLVM code, inline, for scalars and vectors of float and double.

    k = Math(builder, fma=target.has_fma)
    y = k.tanh(x)                  # x: float, double, <N x float> or <N x double>; so is y

No call leaves the code, so a loop over vectors stays one; selections replace branches, save where few arguments need
much code, which vectors without such arguments jump over (`branches.py`). NaN, infinities and zeros are treated as
NumPy does; denormal arguments are taken as they are (unless the thread's mode flushes them), denormal results may
become 0. x86 before SSE4.1 has no floor, ceil and rint: there they, pow, lgamma, digamma call the C library.

| function | file |
|---|---|
| exp exp2 expm1 sigmoid softplus tanh sinh cosh asinh acosh atanh | `exponential.py` |
| log log2 log1p | `logarithm.py` |
| pow, pow_of (one exponent) | `power.py` |
| floormod truncatemod | `remainder.py` |
| sin cos tan asin acos atan atan2 | `trigonometric.py` |
| erf erfc erfinv | `error_function.py` |
| lgamma digamma | `gamma.py` |
| floor ceil rint sqrt rsqrt abs copysign | `arithmetic.py`, what all are written in |

Coefficients are in `coefficients.py` and `pieces.py`, which scripts write, and `log_table.py`.
Each function's docstring names its method and its error bounds, which are those of `ULP`; the tests enforce them.
"""

from graphflow.compiler.llvm.mathlib.error_function import ErrorFunction
from graphflow.compiler.llvm.mathlib.gamma import Gamma
from graphflow.compiler.llvm.mathlib.power import Power
from graphflow.compiler.llvm.mathlib.remainder import Remainder

# Bounds on the error, in units in the last place of the exact result, over the ranges of the tests. `make soak` holds
# them for 1.1e7 floats and as many doubles beside the C library's long doubles, and for 2e4 doubles beside mpmath
# (digamma of doubles: these only); those of sin, cos and tan for every float of their range, and for 1.1e7 doubles next
# to multiples of pi / 4. lgamma and digamma: of positive arguments.
ULP: dict[str, dict[str, float]] = {
    "exp": {"float32": 1.0, "float64": 1.0},
    "exp2": {"float32": 0.9, "float64": 0.9},
    "expm1": {"float32": 1.4, "float64": 1.4},
    "log": {"float32": 1.1, "float64": 1.1},
    "log2": {"float32": 2.0, "float64": 1.2},
    "log1p": {"float32": 1.1, "float64": 1.1},
    "pow": {"float32": 1.1, "float64": 1.1},
    "sinh": {"float32": 1.6, "float64": 1.5},
    "cosh": {"float32": 1.4, "float64": 1.4},
    "tanh": {"float32": 2.0, "float64": 1.9},
    "asinh": {"float32": 1.8, "float64": 1.8},
    "acosh": {"float32": 1.6, "float64": 1.7},
    "atanh": {"float32": 1.6, "float64": 2.0},
    "sigmoid": {"float32": 2.0, "float64": 2.0},
    "softplus": {"float32": 1.7, "float64": 1.9},
    "sin": {"float32": 1.6, "float64": 1.5},
    "cos": {"float32": 1.6, "float64": 1.5},
    "tan": {"float32": 1.9, "float64": 1.8},
    "asin": {"float32": 1.6, "float64": 1.6},
    "acos": {"float32": 1.2, "float64": 1.2},
    "atan": {"float32": 1.4, "float64": 1.6},
    "atan2": {"float32": 1.6, "float64": 1.6},
    "erf": {"float32": 1.7, "float64": 1.6},
    "erfc": {"float32": 1.9, "float64": 1.7},
    "erfinv": {"float32": 1.4, "float64": 1.3},
    "lgamma": {"float32": 0.6, "float64": 1.6},
    "digamma": {"float32": 0.6, "float64": 2.0},
    "sqrt": {"float32": 0.5, "float64": 0.5},
    "rsqrt": {"float32": 1.5, "float64": 1.5},
}


class Math(ErrorFunction, Gamma, Power, Remainder):
    """Every function of this library, at the position of `builder`."""


def _state_bounds() -> None:
    """Add each function's error bounds to its docstring: `help(Math.exp)` tells them."""
    for name, bounds in ULP.items():
        function = getattr(Math, name)
        stated = ", ".join(f"{bound:g} ulp in {dtype}" for dtype, bound in bounds.items())
        function.__doc__ = f"{function.__doc__.rstrip()}\n\n        Error: at most {stated}.\n"


_state_bounds()
