"""Arithmetic, comparison, reductions and matrix products, under TensorFlow 1's names and parameter names.

Every function takes tensors, variables, NumPy arrays, lists or numbers, broadcasts as NumPy does, never promotes
dtypes silently, and raises GraphError (a ValueError and TypeError) on the caller's line for what does not fit.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from graphflow.array_ops import reshape, transpose
from graphflow.core.dtype import DType, as_dtype, float32, float64, int8, int16, int32, int64, uint8
from graphflow.core.errors import GraphError
from graphflow.core.op import OPS
from graphflow.framework.convert import as_tensor
from graphflow.framework.scopes import name_scope
from graphflow.framework.sizes import int_of, ints_of, position_of
from graphflow.framework.tensor import Tensor

__all__ = [
    "abs", "accumulate_n", "acos", "add", "add_n", "argmax", "argmin", "asin", "atan", "cast", "ceil",
    "clip_by_global_norm", "clip_by_norm", "clip_by_value", "cos", "cosh", "div", "divide", "equal", "erf", "erfc",
    "exp", "expm1", "floor", "floordiv", "floormod", "global_norm", "greater", "greater_equal", "is_finite", "is_inf",
    "is_nan", "less", "less_equal", "log", "log1p", "log_sigmoid", "logical_and", "logical_not", "logical_or",
    "logical_xor", "matmul", "maximum", "minimum", "mod", "mul", "multiply", "neg", "negative", "not_equal", "pow",
    "realdiv", "reciprocal", "reduce_all", "reduce_any", "reduce_logsumexp", "reduce_max", "reduce_mean", "reduce_min",
    "reduce_prod", "reduce_sum", "rint", "round", "rsqrt", "scalar_mul", "sigmoid", "sign", "sin", "sinh", "sqrt",
    "square", "squared_difference", "sub", "subtract", "tan", "tanh", "tensordot", "to_double", "to_float", "to_int32",
    "to_int64", "truediv", "truncatemod",
]  # fmt: skip


def _unary(op: str, name: str = "") -> Callable[..., Tensor]:
    """The function f(x, name=None) of an op."""
    declared, default = OPS[op], name or op

    def function(x: Any, name: str | None = None) -> Tensor:
        return declared(x, name=name or default)  # type: ignore[no-any-return]

    function.__doc__ = declared.doc
    return function


def _binary(op: str, name: str = "") -> Callable[..., Tensor]:
    """The function f(x, y, name=None) of an op."""
    declared, default = OPS[op], name or op

    def function(x: Any, y: Any, name: str | None = None) -> Tensor:
        return declared(x, y, name=name or default)  # type: ignore[no-any-return]

    function.__doc__ = declared.doc
    return function


abs = _unary("Abs")  # noqa: A001  (TensorFlow's name)
negative = neg = _unary("Neg")
sign = _unary("Sign")
square = _unary("Square")
sqrt = _unary("Sqrt")
rsqrt = _unary("Rsqrt")
reciprocal = _unary("Reciprocal")
exp = _unary("Exp")
expm1 = _unary("Expm1")
log = _unary("Log")
log1p = _unary("Log1p")
sin, cos, tan = _unary("Sin"), _unary("Cos"), _unary("Tan")
asin, acos, atan = _unary("Asin"), _unary("Acos"), _unary("Atan")
sinh, cosh, tanh = _unary("Sinh"), _unary("Cosh"), _unary("Tanh")
sigmoid = _unary("Sigmoid")
erf, erfc = _unary("Erf"), _unary("Erfc")
floor, ceil, rint = _unary("Floor"), _unary("Ceil"), _unary("Rint")
is_nan, is_inf, is_finite = _unary("IsNan"), _unary("IsInf"), _unary("IsFinite")
logical_not = _unary("LogicalNot")

add = _binary("Add")
subtract = sub = _binary("Sub")
multiply = mul = _binary("Mul")
realdiv = _binary("RealDiv")
floordiv = _binary("FloorDiv", "floordiv")
mod = floormod = _binary("FloorMod")
truncatemod = _binary("TruncateMod")
pow = _binary("Pow")  # noqa: A001  (TensorFlow's name)
maximum, minimum = _binary("Maximum"), _binary("Minimum")
squared_difference = _binary("SquaredDifference")
equal, not_equal = _binary("Equal"), _binary("NotEqual")
less, less_equal = _binary("Less"), _binary("LessEqual")
greater, greater_equal = _binary("Greater"), _binary("GreaterEqual")
logical_and, logical_or = _binary("LogicalAnd"), _binary("LogicalOr")
logical_xor = _binary("LogicalXor", "LogicalXor")

_QUOTIENTS: dict[DType, DType] = {int8: float32, uint8: float32, int16: float32, int32: float64, int64: float64}


def truediv(x: Any, y: Any, name: str | None = None) -> Tensor:
    """x / y as Python 3 divides: int32 and int64 as float64, smaller integers as float32."""
    x, y = _pair(x, y)
    wide = _QUOTIENTS.get(x.dtype)
    if wide is not None and y.dtype is x.dtype:
        x, y = cast(x, wide), cast(y, wide)
    return OPS["RealDiv"](x, y, name=name or "truediv")  # type: ignore[no-any-return]


def divide(x: Any, y: Any, name: str | None = None) -> Tensor:
    """x / y as Python 3 divides."""
    return truediv(x, y, name)


def div(x: Any, y: Any, name: str | None = None) -> Tensor:
    """x / y as Python 2 divides: integers round toward minus infinity."""
    x, y = _pair(x, y)
    return OPS["FloorDiv" if x.dtype.is_integer else "RealDiv"](x, y, name=name or "div")  # type: ignore[no-any-return]


def _pair(x: Any, y: Any) -> tuple[Tensor, Tensor]:
    """Both as tensors; a number takes the dtype of the tensor beside it."""
    if hasattr(x, "dtype") or not hasattr(y, "dtype"):
        x = as_tensor(x)
        return x, as_tensor(y, None if hasattr(y, "op") else x.dtype)
    y = as_tensor(y)
    return as_tensor(x, y.dtype), y


def scalar_mul(scalar: Any, x: Any, name: str | None = None) -> Tensor:
    """scalar * x."""
    return OPS["Mul"](scalar, x, name=name or "mul")  # type: ignore[no-any-return]


def round(x: Any, name: str | None = None) -> Tensor:  # noqa: A001  (TensorFlow's name)
    """The nearest integer, halves to even; integers stay."""
    tensor = as_tensor(x)
    return tensor if tensor.dtype.is_integer else rint(tensor, name=name or "Round")


def log_sigmoid(x: Any, name: str | None = None) -> Tensor:
    """log(sigmoid(x)) = -softplus(-x)."""
    with name_scope(name, "LogSigmoid", [x]) as scope:
        return OPS["Neg"](OPS["Softplus"](OPS["Neg"](x)), name=scope)  # type: ignore[no-any-return]


def add_n(inputs: Any, name: str | None = None) -> Tensor:
    """The sum of a list of tensors of one type."""
    inputs = list(inputs) if isinstance(inputs, list | tuple) else [inputs]
    if not inputs:
        raise ValueError("inputs must be a list of at least one Tensor with the same dtype and shape")
    return OPS["AddN"](*inputs, name=name or "AddN")  # type: ignore[no-any-return]


def accumulate_n(inputs: Any, shape: Any = None, tensor_dtype: Any = None, name: str | None = None) -> Tensor:
    """`add_n`."""
    return add_n(inputs, name or "AccumulateN")


def clip_by_value(t: Any, clip_value_min: Any, clip_value_max: Any, name: str | None = None) -> Tensor:
    """t with what is smaller or larger replaced by the bounds."""
    with name_scope(name, "clip_by_value", [t]) as scope:
        return OPS["Maximum"](OPS["Minimum"](t, clip_value_max), clip_value_min, name=scope)  # type: ignore[no-any-return]


def clip_by_norm(t: Any, clip_norm: Any, axes: Any = None, name: str | None = None) -> Tensor:
    """t scaled down so that its Euclidean norm over axes is at most clip_norm: t * clip_norm / max(norm, clip_norm)."""
    with name_scope(name, "clip_by_norm", [t]) as scope:
        t = as_tensor(t)
        squares = reduce_sum(square(t), axes, keepdims=True)
        positive = greater(squares, 0)
        safe = OPS["Select"](positive, squares, OPS["Add"](OPS["Mul"](squares, 0), 1))
        norm = OPS["Select"](positive, sqrt(safe), squares)
        return OPS["RealDiv"](OPS["Mul"](t, clip_norm), maximum(norm, clip_norm), name=scope)  # type: ignore[no-any-return]


def global_norm(t_list: Sequence[Any], name: str | None = None) -> Tensor:
    """sqrt of the sum of all squares of all tensors; None is skipped."""
    with name_scope(name, "global_norm", [t for t in t_list if t is not None]) as scope:
        halves = [OPS["L2Loss"](t) for t in t_list if t is not None]
        return OPS["Sqrt"](OPS["Mul"](add_n(halves), 2), name=f"{scope}global_norm/")  # type: ignore[no-any-return]


def clip_by_global_norm(
    t_list: Sequence[Any], clip_norm: Any, use_norm: Any = None, name: str | None = None
) -> tuple[list[Any], Tensor]:
    """All tensors scaled by clip_norm / max(global norm, clip_norm), and the global norm."""
    norm = global_norm(t_list) if use_norm is None else as_tensor(use_norm)
    with name_scope(name, "clip_by_global_norm"):
        scale = OPS["RealDiv"](clip_norm, maximum(norm, clip_norm))
        return [None if t is None else OPS["Mul"](t, scale) for t in t_list], norm


# conversion


def cast(x: Any, dtype: Any, name: str | None = None) -> Tensor:
    """x as another dtype; floats are truncated toward zero.  x itself where it has that dtype."""
    tensor, wanted = as_tensor(x), as_dtype(dtype)
    if tensor.dtype is wanted:
        return tensor
    return OPS["Cast"](tensor, dtype=wanted, name=name or "Cast")  # type: ignore[no-any-return]


def to_float(x: Any, name: str = "ToFloat") -> Tensor:
    """x as float32."""
    return cast(x, float32, name)


def to_double(x: Any, name: str = "ToDouble") -> Tensor:
    """x as float64."""
    return cast(x, float64, name)


def to_int32(x: Any, name: str = "ToInt32") -> Tensor:
    """x as int32."""
    return cast(x, int32, name)


def to_int64(x: Any, name: str = "ToInt64") -> Tensor:
    """x as int64."""
    return cast(x, int64, name)


# reductions


def _reduction(op: str, name: str = "") -> Callable[..., Tensor]:
    """The function of a reduction, with the old and new names of TensorFlow's parameters."""
    declared, default = OPS[op], name or op

    def function(
        input_tensor: Any,
        axis: Any = None,
        keepdims: bool | None = None,
        name: str | None = None,
        reduction_indices: Any = None,
        keep_dims: bool | None = None,
    ) -> Tensor:
        axis = axis if axis is not None else reduction_indices
        keep = bool(keepdims if keepdims is not None else keep_dims)
        return declared(input_tensor, axis=_axes(axis), keepdims=keep, name=name or default)  # type: ignore[no-any-return]

    function.__doc__ = f"{declared.doc}\n\n    axis: an int, several, or None for all; keepdims keeps them as size 1."
    return function


def _axes(axis: Any) -> int | tuple[int, ...] | None:
    return axis if axis is None or isinstance(axis, int) else ints_of(axis, "the axis")


reduce_sum, reduce_prod = _reduction("Sum"), _reduction("Prod")
reduce_max, reduce_min = _reduction("Max"), _reduction("Min")
reduce_mean = _reduction("Mean")
reduce_all, reduce_any = _reduction("All"), _reduction("Any")
reduce_logsumexp = _reduction("LogSumExp", "ReduceLogSumExp")


def _extreme(op: str) -> Callable[..., Tensor]:
    declared = OPS[op]

    def function(
        input: Any,  # noqa: A002  (TensorFlow's name)
        axis: Any = None,
        name: str | None = None,
        dimension: Any = None,
        output_type: Any = int64,
    ) -> Tensor:
        axis = axis if axis is not None else dimension
        at = 0 if axis is None else int_of(axis, "the axis")
        return declared(input, axis=at, dtype=as_dtype(output_type), name=name or op)  # type: ignore[no-any-return]

    function.__doc__ = f"{declared.doc}\n\n    axis: one (0 where not given); output_type: int32 or int64."
    return function


argmax, argmin = _extreme("ArgMax"), _extreme("ArgMin")

# products


def matmul(
    a: Any,
    b: Any,
    transpose_a: bool = False,
    transpose_b: bool = False,
    adjoint_a: bool = False,
    adjoint_b: bool = False,
    a_is_sparse: bool = False,
    b_is_sparse: bool = False,
    name: str | None = None,
) -> Tensor:
    """The product of matrices [..., m, k] and [..., k, n], of batches of them where there are more axes."""
    ta, tb = bool(transpose_a or adjoint_a), bool(transpose_b or adjoint_b)
    return OPS["MatMul"](a, b, transpose_a=ta, transpose_b=tb, name=name or "MatMul")  # type: ignore[no-any-return]


def tensordot(a: Any, b: Any, axes: Any, name: str | None = None) -> Tensor:
    """The sum over pairs of axes: `axes` is how many (the last of a, the first of b), or a list for each."""
    with name_scope(name, "Tensordot", [a, b]) as scope:
        a, b = _pair(a, b)
        rank_a, rank_b = len(a.type_.dims), len(b.type_.dims)
        over_a, over_b = _contracted(axes, a, b)
        free_a = [k for k in range(rank_a) if k not in over_a]
        free_b = [k for k in range(rank_b) if k not in over_b]
        shape = [a.type_.dims[k] for k in free_a] + [b.type_.dims[k] for k in free_b]
        inner = _product([b.type_.dims[k] for k in over_b])
        left = reshape(transpose(a, [*free_a, *over_a]), [-1, inner])
        right = reshape(transpose(b, [*over_b, *free_b]), [inner, -1])
        return reshape(matmul(left, right), shape, name=scope)


def _contracted(axes: Any, a: Tensor, b: Tensor) -> tuple[list[int], list[int]]:
    """The positions of a and of b, in pairs."""
    if isinstance(axes, int):
        if axes < 0:
            raise GraphError(f"tensordot: the number of axes is {axes}")
        first, second = tuple(range(-axes, 0)), tuple(range(axes))
    else:
        pair = list(axes)
        if len(pair) != 2:
            raise GraphError(f"tensordot: axes must be a number, or a pair: axes of a, and axes of b, not {axes!r}")
        first, second = (ints_of(some, "the axes") for some in pair)
    if len(first) != len(second):
        raise GraphError(f"tensordot: {len(first)} axes of a and {len(second)} axes of b")
    return [position_of(k, a) for k in first], [position_of(k, b) for k in second]


def _product(sizes: list[Any]) -> Any:
    total: Any = 1
    for size in sizes:
        total = size * total
    return total


for _name in __all__:  # so that help(tf.square) says `square`
    globals()[_name].__name__ = globals()[_name].__qualname__ = _name
