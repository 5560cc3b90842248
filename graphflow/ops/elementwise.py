"""Elementwise ops, one entry each: `add`, `tanh`, `equal`, `select`, `cast`, ...

Inputs broadcast as NumPy's do and must be of one dtype; nothing is promoted silently.
Gradients never see a broadcast: below the user's graph it is a node of its own.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from graphflow.core.dtype import DType, as_dtype, bool_, float64, int32
from graphflow.core.node import OPERATORS, Node
from graphflow.core.op import Elementwise, case, common_dtype, elementwise
from graphflow.core.samples import bits, integers, normal, positive, spaced, uniform
from graphflow.core.type import require

np_errors = np.errstate(all="ignore")


def _to_bool(*dtypes: DType, **attrs: Any) -> DType:
    common_dtype(*dtypes)
    return bool_


def _quiet(f: Any) -> Any:
    """f without NumPy's warnings: a graph's NaN is the user's business."""

    def quiet(*xs: Any, **attrs: Any) -> Any:
        with np.errstate(all="ignore"):
            return f(*xs, **attrs)

    return quiet


# arithmetic

add = elementwise(
    "Add",
    doc="x + y, elementwise.",
    eval=np.add,
    grad=lambda g, z, x, y: (g, g),
    emit=lambda k, x, y: k.add(x, y),
    cases=[
        case(normal(3, 4), normal(3, 4, seed=1)),
        case(normal(3, 4), normal(4)),
        case(normal(2, 1), normal(1, 3)),
        case(integers(-9, 9, 5), integers(-9, 9, 5, seed=1)),
    ],
)
sub = elementwise(
    "Sub",
    doc="x - y, elementwise.",
    eval=np.subtract,
    grad=lambda g, z, x, y: (g, -g),
    emit=lambda k, x, y: k.sub(x, y),
    cases=[case(normal(3, 4), normal(3, 4, seed=1)), case(normal(3, 1), normal(4))],
)
mul = elementwise(
    "Mul",
    doc="x * y, elementwise.",
    eval=np.multiply,
    grad=lambda g, z, x, y: (g * y, g * x),
    emit=lambda k, x, y: k.mul(x, y),
    cases=[
        case(normal(3, 4), normal(3, 4, seed=1)),
        case(normal(3, 4), normal(3, 1)),
        case(integers(-9, 9, 5), integers(-9, 9, 5, seed=1)),
    ],
)
truediv = elementwise(
    "RealDiv",
    doc="x / y of floats, elementwise.",
    eval=_quiet(np.divide),
    grad=lambda g, z, x, y: (g / y, -g * z / y),
    emit=lambda k, x, y: k.div(x, y),
    cases=[case(normal(3, 4), positive(3, 4))],
    accepts="float",
    cost=4,
)
floordiv = elementwise(
    "FloorDiv",
    doc="x / y rounded toward minus infinity; dividing an integer by zero gives 0.",
    eval=_quiet(
        lambda x, y: (
            np.where(y == 0, 0, np.floor_divide(x, np.where(y == 0, 1, y))).astype(x.dtype)
            if x.dtype.kind in "iu"
            else np.floor(x / y)
        )
    ),
    grad=None,
    emit=lambda k, x, y: k.floordiv(x, y),
    cases=[
        case(
            integers(-9, 9, 20),
            np.where(integers(-3, 4, 20, seed=1) == 0, 2, integers(-3, 4, 20, seed=1)).astype(np.int32),
        ),
        case(normal(9), positive(9)),
    ],
    cost=8,
)
mod = elementwise(
    "FloorMod",
    doc="x - y * floordiv(x, y), with the sign of y; the rest by the integer zero is 0.",
    eval=_quiet(
        lambda x, y: (
            np.where(y == 0, 0, np.mod(x, np.where(y == 0, 1, y))).astype(x.dtype)
            if x.dtype.kind in "iu"
            else np.mod(x, y)
        )
    ),
    grad=None,
    emit=lambda k, x, y: k.floormod(x, y),
    cases=[
        case(
            integers(-9, 9, 20),
            np.where(integers(-3, 4, 20, seed=1) == 0, 2, integers(-3, 4, 20, seed=1)).astype(np.int32),
        ),
        case(normal(9), positive(9)),
    ],
    cost=8,
)
truncatemod = elementwise(
    "TruncateMod",
    doc="x - y * (x / y rounded toward zero), with the sign of x; the rest by the integer zero is 0.",
    eval=_quiet(
        lambda x, y: np.where(y == 0, 0, np.fmod(x, np.where(y == 0, 1, y))) if x.dtype.kind in "iu" else np.fmod(x, y)
    ),
    grad=None,
    emit=lambda k, x, y: k.truncatemod(x, y),
    cases=[
        case(integers(-9, 9, 20), integers(-3, 4, 20, seed=1)),
        case(normal(9), positive(9)),
    ],
    cost=8,
)
neg = elementwise(
    "Neg", doc="-x.", eval=np.negative, grad=lambda g, y, x: -g, emit=lambda k, x: k.neg(x), cases=[case(normal(3, 4))]
)
absolute = elementwise(
    "Abs",
    doc="|x|; its derivative at 0 is 0.",
    eval=np.abs,
    grad=lambda g, y, x: g * sign(x),
    emit=lambda k, x: k.abs(x),
    cases=[case(spaced(3, 4)), case(integers(-5, 5, 7))],
)
sign: Elementwise = elementwise(
    "Sign",
    doc="-1, 0 or 1.",
    eval=np.sign,
    grad=lambda g, y, x: None,
    emit=lambda k, x: k.sign(x),
    cases=[case(spaced(3, 4)), case(integers(-5, 5, 7))],
)
square = elementwise(
    "Square",
    doc="x * x.",
    eval=np.square,
    grad=lambda g, y, x: g * (x * 2),
    emit=lambda k, x: k.mul(x, x),
    cases=[case(normal(3, 4))],
)
squared_difference = elementwise(
    "SquaredDifference",
    doc="(x - y)².",
    eval=lambda x, y: np.square(x - y),
    grad=lambda g, z, x, y: ((x - y) * 2 * g, (y - x) * 2 * g),
    emit=lambda k, x, y: k.square(k.sub(x, y)),
    cases=[case(normal(3, 4), normal(3, 4, seed=1))],
)
reciprocal = elementwise(
    "Reciprocal",
    doc="1 / x.",
    eval=_quiet(np.reciprocal),
    grad=lambda g, y, x: -g * y * y,
    emit=lambda k, x: k.div(k.splat(1, x), x),
    cases=[case(positive(3, 4))],
    accepts="float",
    cost=4,
)
maximum = elementwise(
    "Maximum",
    doc="The larger of x and y; NaN if either is. Where equal, x gets the gradient.",
    eval=np.maximum,
    grad=lambda g, z, x, y: (select(greater_equal(x, y), g, 0), select(greater_equal(x, y), 0, g)),
    emit=lambda k, x, y: k.maximum(x, y),
    cases=[case(spaced(3, 4), spaced(3, 4, seed=5) + 0.03), case(integers(-9, 9, 5), integers(-9, 9, 5, seed=1))],
)
minimum = elementwise(
    "Minimum",
    doc="The smaller of x and y; NaN if either is. Where equal, x gets the gradient.",
    eval=np.minimum,
    grad=lambda g, z, x, y: (select(less_equal(x, y), g, 0), select(less_equal(x, y), 0, g)),
    emit=lambda k, x, y: k.minimum(x, y),
    cases=[case(spaced(3, 4), spaced(3, 4, seed=5) + 0.03)],
)


def _pow_grad(g: Node, z: Node, x: Node, y: Node) -> tuple[Node, Node]:
    """d(x^y) = y x^(y-1) dx + x^y log(x) dy, with log(x) taken as 0 where x <= 0, as TensorFlow does."""
    positive_x = greater(x, 0)
    safe = select(positive_x, x, 1)
    return g * y * power(x, y - 1), g * select(positive_x, z * log(safe), 0)


power = elementwise(
    "Pow",
    doc="x to the power of y.",
    eval=_quiet(np.power),
    grad=_pow_grad,
    emit=lambda k, x, y: k.pow(x, y),
    cases=[case(positive(3, 4), normal(3, 4))],
    accepts="number",
    cost=30,
)


def _pow_of_grad(g: Node, z: Node, x: Node, *, exponent: float) -> Node:
    return g * exponent * power_of(x, exponent=exponent - 1)  # type: ignore[no-any-return]


power_of = elementwise(
    "PowOf",
    doc="x to the power of one number, attr exponent; of integers a whole number, 1 or more.",
    eval=_quiet(lambda x, *, exponent: np.power(x, np.full_like(x, exponent))),  # NumPy has other zeros for a scalar
    grad=_pow_of_grad,
    emit=lambda k, x, *, exponent: k.pow_of(x, exponent),
    cases=[case(normal(3, 4), exponent=n) for n in (3, 4, 7, 16)]
    + [case(positive(3, 4), exponent=y) for y in (-1.0, 0.5, 1.5, 17.0)]
    + [case(integers(-9, 9, 5), exponent=n) for n in (1, 3, 6)],
    accepts="number",
    cost=8,
)

# functions of one float


def _float1(name: str, doc: str, eval_: Any, grad: Any, emit: Any, sample: Any, cost: int = 16) -> Elementwise:
    return elementwise(
        name, doc=doc, eval=_quiet(eval_), grad=grad, emit=emit, cases=[case(sample)], accepts="float", cost=cost
    )


def _sigmoid_eval(x: Any) -> Any:
    e = np.exp(-np.abs(x))
    return np.where(x >= 0, 1 / (1 + e), e / (1 + e)).astype(x.dtype)


def _erf_eval(x: Any) -> Any:
    return np.asarray(np.vectorize(math.erf, otypes=[np.float64])(x), dtype=np.asarray(x).dtype)


def _erfc_eval(x: Any) -> Any:
    return np.asarray(np.vectorize(math.erfc, otypes=[np.float64])(x), dtype=np.asarray(x).dtype)


TWO_OVER_SQRT_PI = 1.1283791670955126

sqrt = _float1("Sqrt", "Square root.", np.sqrt, lambda g, y, x: g * 0.5 / y, lambda k, x: k.sqrt(x), positive(3, 4), 4)
rsqrt = _float1(
    "Rsqrt",
    "1 / sqrt(x).",
    lambda x: 1 / np.sqrt(x),
    lambda g, y, x: g * -0.5 * y * y * y,
    lambda k, x: k.rsqrt(x),
    positive(3, 4),
    6,
)
exp = _float1("Exp", "e to the power of x.", np.exp, lambda g, y, x: g * y, lambda k, x: k.exp(x), normal(3, 4))
expm1 = _float1(
    "Expm1", "exp(x) - 1, exact near 0.", np.expm1, lambda g, y, x: g * (y + 1), lambda k, x: k.expm1(x), normal(3, 4)
)
log = _float1("Log", "Natural logarithm.", np.log, lambda g, y, x: g / x, lambda k, x: k.log(x), positive(3, 4))
log1p = _float1(
    "Log1p", "log(1 + x), exact near 0.", np.log1p, lambda g, y, x: g / (x + 1), lambda k, x: k.log1p(x), positive(3, 4)
)
tanh = _float1(
    "Tanh", "Hyperbolic tangent.", np.tanh, lambda g, y, x: g * (1 - y * y), lambda k, x: k.tanh(x), normal(3, 4)
)
sigmoid = _float1(
    "Sigmoid",
    "1 / (1 + exp(-x)).",
    _sigmoid_eval,
    lambda g, y, x: g * y * (1 - y),
    lambda k, x: k.sigmoid(x),
    normal(3, 4),
)
softplus = _float1(
    "Softplus",
    "log(1 + exp(x)).",
    lambda x: np.logaddexp(x, 0).astype(x.dtype),
    lambda g, y, x: g * sigmoid(x),
    lambda k, x: k.softplus(x),
    normal(3, 4),
)
sin = _float1("Sin", "Sine of radians.", np.sin, lambda g, y, x: g * cos(x), lambda k, x: k.sin(x), normal(3, 4))
cos: Elementwise = _float1(
    "Cos", "Cosine of radians.", np.cos, lambda g, y, x: -g * sin(x), lambda k, x: k.cos(x), normal(3, 4)
)
tan = _float1(
    "Tan", "Tangent of radians.", np.tan, lambda g, y, x: g * (y * y + 1), lambda k, x: k.tan(x), uniform(-1, 1, 3, 4)
)
asin = _float1(
    "Asin",
    "Arc sine, radians.",
    np.arcsin,
    lambda g, y, x: g * rsqrt(1 - x * x),
    lambda k, x: k.asin(x),
    uniform(-0.9, 0.9, 3, 4),
)
acos = _float1(
    "Acos",
    "Arc cosine, radians.",
    np.arccos,
    lambda g, y, x: -g * rsqrt(1 - x * x),
    lambda k, x: k.acos(x),
    uniform(-0.9, 0.9, 3, 4),
)
atan = _float1(
    "Atan", "Arc tangent, radians.", np.arctan, lambda g, y, x: g / (x * x + 1), lambda k, x: k.atan(x), normal(3, 4)
)
sinh = _float1("Sinh", "Hyperbolic sine.", np.sinh, lambda g, y, x: g * cosh(x), lambda k, x: k.sinh(x), normal(3, 4))
cosh: Elementwise = _float1(
    "Cosh", "Hyperbolic cosine.", np.cosh, lambda g, y, x: g * sinh(x), lambda k, x: k.cosh(x), normal(3, 4)
)
erf = _float1(
    "Erf",
    "Gauss error function.",
    _erf_eval,
    lambda g, y, x: g * TWO_OVER_SQRT_PI * exp(-x * x),
    lambda k, x: k.erf(x),
    normal(3, 4),
)
erfc = _float1(
    "Erfc",
    "1 - erf(x), exact for large x.",
    _erfc_eval,
    lambda g, y, x: -g * TWO_OVER_SQRT_PI * exp(-x * x),
    lambda k, x: k.erfc(x),
    normal(3, 4),
)
floor = _float1(
    "Floor", "Rounded toward minus infinity.", np.floor, lambda g, y, x: None, lambda k, x: k.floor(x), spaced(3, 4), 1
)
ceil = _float1(
    "Ceil", "Rounded toward plus infinity.", np.ceil, lambda g, y, x: None, lambda k, x: k.ceil(x), spaced(3, 4), 1
)
rint = _float1(
    "Rint",
    "Rounded to the nearest integer, halves to even.",
    np.rint,
    lambda g, y, x: None,
    lambda k, x: k.rint(x),
    spaced(3, 4),
    1,
)


def _erfinv_eval(x: Any) -> Any:
    """Newton's iteration on erf from Giles' single-precision start (GPU Computing Gems, ch. 10)."""
    x64 = np.asarray(x, np.float64)
    w = -np.log((1 - x64) * (1 + x64))
    guess = np.sign(x64) * np.sqrt(np.maximum(np.sqrt((4.33 + w * -0.5) ** 2 + w / 0.147) - (4.33 + w * -0.5), 0))
    for _ in range(60):
        error = _erf_eval(guess) - x64
        guess = guess - error / (TWO_OVER_SQRT_PI * np.exp(-guess * guess) + guess * error * 0)
    edge = np.where(np.abs(x64) > 1, np.nan, np.where(np.abs(x64) == 1, np.copysign(np.inf, x64), guess))
    return np.asarray(edge, dtype=np.asarray(x).dtype)


erfinv = _float1(
    "Erfinv",
    "Inverse of erf.",
    _erfinv_eval,
    lambda g, y, x: g * 0.886226925452758 * exp(y * y),
    lambda k, x: k.erfinv(x),
    uniform(-0.9, 0.9, 3, 4),
    30,
)

relu = elementwise(
    "Relu",
    doc="max(x, 0); NaN stays NaN. Its derivative at 0 is 0.",
    eval=lambda x: np.maximum(x, np.zeros((), x.dtype)),
    grad=lambda g, y, x: select(greater(y, 0), g, 0),
    emit=lambda k, x: k.maximum(x, k.splat(0, x)),
    cases=[case(spaced(3, 4)), case(integers(-5, 5, 7))],
)

# comparison and logic


def _compare(name: str, doc: str, eval_: Any, predicate: str, accepts: str = "number") -> Elementwise:
    return elementwise(
        name,
        doc=doc,
        eval=eval_,
        emit=lambda k, x, y: k.compare(predicate, x, y),
        result=_to_bool,
        accepts=accepts,
        cases=[case(integers(0, 3, 9), integers(0, 3, 9, seed=1)), case(normal(3, 4), normal(3, 4, seed=1))],
    )


equal = _compare("Equal", "x == y.", np.equal, "==", "any")
not_equal = _compare("NotEqual", "x != y.", np.not_equal, "!=", "any")
less = _compare("Less", "x < y.", np.less, "<")
less_equal: Elementwise = _compare("LessEqual", "x <= y.", np.less_equal, "<=")
greater: Elementwise = _compare("Greater", "x > y.", np.greater, ">")
greater_equal: Elementwise = _compare("GreaterEqual", "x >= y.", np.greater_equal, ">=")

logical_and = elementwise(
    "LogicalAnd",
    doc="x and y.",
    eval=np.logical_and,
    emit=lambda k, x, y: k.bit_and(x, y),
    accepts="bool",
    cases=[case(bits(9), bits(9, seed=1))],
)
logical_or = elementwise(
    "LogicalOr",
    doc="x or y.",
    eval=np.logical_or,
    emit=lambda k, x, y: k.bit_or(x, y),
    accepts="bool",
    cases=[case(bits(9), bits(9, seed=1))],
)
logical_xor = elementwise(
    "LogicalXor",
    doc="x or y, not both.",
    eval=np.logical_xor,
    emit=lambda k, x, y: k.bit_xor(x, y),
    accepts="bool",
    cases=[case(bits(9), bits(9, seed=1))],
)
logical_not = elementwise(
    "LogicalNot",
    doc="not x.",
    eval=np.logical_not,
    emit=lambda k, x: k.bit_not(x),
    accepts="bool",
    cases=[case(bits(9))],
)


def _classify(name: str, doc: str, eval_: Any, emit: Any) -> Elementwise:
    sample = np.array([1.0, np.nan, np.inf, -np.inf, 0.0])
    return elementwise(name, doc=doc, eval=eval_, emit=emit, result=_to_bool, accepts="float", cases=[case(sample)])


is_nan = _classify("IsNan", "Whether x is NaN.", np.isnan, lambda k, x: k.is_nan(x))
is_inf = _classify("IsInf", "Whether x is infinite.", np.isinf, lambda k, x: k.is_inf(x))
is_finite = _classify("IsFinite", "Whether x is a number.", np.isfinite, lambda k, x: k.is_finite(x))

# choice and conversion


def _select_result(condition: DType, x: DType, y: DType) -> DType:
    require(condition is bool_, f"the condition is {condition}, not bool")
    return common_dtype(x, y)


select: Elementwise = elementwise(
    "Select",
    doc="x where the condition is true, else y.",
    eval=lambda c, x, y: np.where(c, x, y),
    grad=lambda g, z, c, x, y: (None, select(c, g, 0), select(c, 0, g)),
    emit=lambda k, c, x, y: k.select(c, x, y),
    result=_select_result,
    accepts="any",
    cases=[case(bits(3, 4), normal(3, 4), normal(3, 4, seed=1)), case(bits(3, 1), normal(3, 4), normal(4, seed=1))],
)


def _cast_grad(g: Node, y: Node, x: Node, *, dtype: DType) -> Node | None:
    return cast(g, dtype=x.dtype) if x.dtype.is_floating and dtype.is_floating else None


cast = elementwise(
    "Cast",
    doc="x converted to dtype; floats are truncated toward zero, out of range they saturate (NaN gives 0).",
    eval=lambda x, *, dtype: _cast_eval(x, dtype),
    grad=_cast_grad,
    emit=lambda k, x, *, dtype: k.cast(x, dtype),
    result=lambda x, *, dtype: as_dtype(dtype),
    accepts="any",
    cases=[
        case(normal(7) * 5, dtype=int32),
        case(integers(-5, 5, 7), dtype=float64),
        case(integers(0, 2, 7), dtype=bool_),
        case(bits(5), dtype=int32),
    ],
)


def _cast_eval(x: Any, dtype: DType) -> Any:
    x = np.asarray(x)
    if not (x.dtype.kind == "f" and dtype.is_integer):
        with np.errstate(all="ignore"):
            return x.astype(dtype.numpy)
    info = np.iinfo(dtype.numpy)
    whole = np.nan_to_num(np.trunc(np.asarray(x, np.float64)), nan=0.0)
    inside = np.clip(whole, float(info.min), float(info.max))
    result = np.where(inside >= float(info.max), 0, inside).astype(dtype.numpy)
    return np.where(inside >= float(info.max), np.array(info.max, dtype.numpy), result)


identity = elementwise(
    "Identity",
    doc="x.",
    eval=lambda x: x,
    grad=lambda g, y, x: g,
    emit=lambda k, x: x,
    accepts="any",
    cost=0,
    cases=[case(normal(3, 4))],
)
stop_gradient = elementwise(
    "StopGradient",
    doc="x, with no derivative.",
    eval=lambda x: x,
    emit=lambda k, x: x,
    accepts="any",
    cost=0,
    cases=[case(normal(3, 4), grad=False)],
)


def _divide(x: Any, y: Any) -> Any:
    """Python's `/`: integers are divided as float64, as TensorFlow does."""
    node = x if hasattr(x, "dtype") and hasattr(x, "op") else y
    if node.dtype.is_integer:
        x, y = (cast(v, dtype=float64) if hasattr(v, "op") else v for v in (x, y))
    return truediv(x, y)


OPERATORS.update(
    {
        "add": add,
        "sub": sub,
        "mul": mul,
        "truediv": _divide,
        "floordiv": floordiv,
        "mod": mod,
        "pow": power,
        "neg": neg,
        "abs": absolute,
        "less": less,
        "less_equal": less_equal,
        "greater": greater,
        "greater_equal": greater_equal,
        "logical_and": logical_and,
        "logical_or": logical_or,
        "logical_xor": logical_xor,
        "logical_not": logical_not,
    }
)
