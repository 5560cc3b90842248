"""The mathematical functions against NumPy and mpmath: errors in ulps, special values, and what code they become."""

import ctypes
import functools
import itertools
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import mpmath
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from llvmlite import binding as llvm
from llvmlite import ir

from graphflow.compiler.llvm import target as targets
from graphflow.compiler.llvm.mathlib import ULP, Math
from graphflow.compiler.llvm.philox import philox4x32, philox4x32_reference

Array = npt.NDArray[Any]
Range = tuple[float, float]

INF, NAN = np.inf, np.nan
FLOATS = {"float32": ir.FloatType(), "float64": ir.DoubleType()}
HOST = targets.host_target()
SAMPLES = {"float32": 100_000, "float64": 800}


@dataclass(frozen=True)
class Case:
    """A function, its reference for numbers of mpmath, for arrays if NumPy has it, and the ranges to draw from.

    A range (a, b) is sampled linearly; with a, b > 0 and b / a > 1e3, by exponent. `mirrored` takes both signs.
    """

    exact: Callable[..., Any]
    numpy: Callable[..., Any] | None
    float32: tuple[Range, ...]
    float64: tuple[Range, ...]
    mirrored: bool = True
    second: Range | None = None  # the range of the second argument

    @property
    def arity(self) -> int:
        return 1 if self.second is None else 2


def exact_softplus(x: Any) -> Any:
    return mpmath.log1p(mpmath.exp(x))


def exact_sigmoid(x: Any) -> Any:
    return 1 / (1 + mpmath.exp(-x))


def exact_lgamma(x: Any) -> Any:
    return mpmath.re(mpmath.loggamma(x))


UNIT = ((1e-30, 1.0), (0.0, 1.0))
POSITIVE = ((1e-37, 3e38), (0.3, 3.0))
POSITIVE64 = ((1e-307, 1e308), (0.3, 3.0))
TINY = (1e-30, 1e-2)

CASES = {
    "exp": Case(mpmath.exp, np.exp, ((0.0, 87.3), TINY), ((0.0, 708.3), TINY)),
    "exp2": Case(lambda x: mpmath.mpf(2) ** x, np.exp2, ((0.0, 126.0), TINY), ((0.0, 1022.0), TINY)),
    "expm1": Case(mpmath.expm1, np.expm1, ((0.0, 88.0), (0.0, 2.0), TINY), ((0.0, 700.0), (0.0, 2.0), TINY)),
    "log": Case(mpmath.log, np.log, POSITIVE, POSITIVE64, mirrored=False),
    "log2": Case(lambda x: mpmath.log(x, 2), np.log2, POSITIVE, POSITIVE64, mirrored=False),
    "log1p": Case(mpmath.log1p, np.log1p, (*POSITIVE, (-0.999, 1.0)), (*POSITIVE64, (-0.999, 1.0)), mirrored=False),
    "tanh": Case(mpmath.tanh, np.tanh, ((0.0, 10.0), (0.0, 1.0), TINY), ((0.0, 20.0), (0.0, 1.0), TINY)),
    "sinh": Case(mpmath.sinh, np.sinh, ((0.0, 89.4), (0.0, 1.0), TINY), ((0.0, 710.4), (0.0, 1.0), TINY)),
    "cosh": Case(mpmath.cosh, np.cosh, ((0.0, 89.4), (0.0, 1.0)), ((0.0, 710.4), (0.0, 1.0))),
    "asinh": Case(mpmath.asinh, np.arcsinh, ((1e-30, 1e38), (0.0, 10.0)), ((1e-30, 1e300), (0.0, 10.0))),
    "acosh": Case(mpmath.acosh, np.arccosh, ((1.0, 1e38), (1.0, 3.0)), ((1.0, 1e300), (1.0, 3.0)), mirrored=False),
    "atanh": Case(mpmath.atanh, np.arctanh, UNIT, UNIT),
    "sigmoid": Case(
        exact_sigmoid, lambda x: 1 / (1 + np.exp(-x)), ((0.0, 87.3), (0.0, 10.0)), ((0.0, 708.0), (0.0, 10.0))
    ),
    "softplus": Case(
        exact_softplus, lambda x: np.logaddexp(x, 0), ((0.0, 87.3), (0.0, 3.0)), ((0.0, 708.0), (0.0, 3.0))
    ),
    "sin": Case(mpmath.sin, np.sin, ((0.0, 10.0), (0.0, 1e5), TINY), ((0.0, 10.0), (0.0, 1e9), TINY)),
    "cos": Case(mpmath.cos, np.cos, ((0.0, 10.0), (0.0, 1e5), TINY), ((0.0, 10.0), (0.0, 1e9), TINY)),
    "tan": Case(mpmath.tan, np.tan, ((0.0, 10.0), (0.0, 1e5), TINY), ((0.0, 10.0), (0.0, 1e9), TINY)),
    "asin": Case(mpmath.asin, np.arcsin, UNIT, UNIT),
    "acos": Case(mpmath.acos, np.arccos, UNIT, UNIT),
    "atan": Case(mpmath.atan, np.arctan, ((1e-30, 1e30), (0.0, 4.0)), ((1e-30, 1e300), (0.0, 4.0))),
    "atan2": Case(mpmath.atan2, np.arctan2, ((0.0, 4.0),), ((0.0, 4.0),), second=(-4.0, 4.0)),
    "pow": Case(
        lambda x, y: x**y, np.power, ((1e-3, 1e3), (0.5, 1.5)), ((1e-30, 1e30), (0.5, 1.5)), False, (-10.0, 10.0)
    ),
    "erf": Case(mpmath.erf, None, ((0.0, 5.0), TINY), ((0.0, 6.5), TINY)),
    "erfc": Case(mpmath.erfc, None, ((0.0, 9.1), (0.0, 1.0)), ((0.0, 26.4), (0.0, 1.0))),
    "erfinv": Case(mpmath.erfinv, None, ((1e-30, 1.0), (0.99, 1.0), (-1.0, 1.0)), ((1e-10, 1.0), (0.99, 1.0))),
    "lgamma": Case(
        exact_lgamma,
        None,
        ((1e-30, 1e30), (0.0, 12.0), (0.5, 2.5)),
        ((1e-30, 1e30), (0.0, 12.0), (0.5, 2.5)),
        mirrored=False,
    ),
    "digamma": Case(mpmath.digamma, None, ((1e-10, 1e30), (2.0, 12.0)), ((1e-10, 1e30), (2.0, 12.0)), mirrored=False),
    "sqrt": Case(mpmath.sqrt, np.sqrt, POSITIVE, POSITIVE64, mirrored=False),
    "rsqrt": Case(lambda x: 1 / mpmath.sqrt(x), lambda x: 1 / np.sqrt(x), POSITIVE, POSITIVE64, mirrored=False),
}


def power_case(exponent: float) -> Case:
    """pow of one number, up to the largest and down to the smallest results."""
    top, top64 = (2.0 ** (bits / max(abs(exponent), 1)) for bits in (125, 1020))
    return Case(
        lambda x: x**exponent,
        lambda x: np.power(x, np.full_like(x, exponent)),
        ((1 / top, top), (0.5, 2.0)),
        ((1 / top64, top64), (0.5, 2.0)),
        mirrored=exponent == round(exponent),
    )


EXPONENTS = (1, 2, 3, 4, 7, 12, 31, 32, 33, -1, -2, -3, -12, -31, 0.5, 1.5, 2.5, 15.5, -0.5, -1.5, -7.5, 0.3125)
ENDLESS = (INF, -INF, NAN)
CASES |= {f"pow_of({exponent})": power_case(exponent) for exponent in EXPONENTS}

EXACT = {"floor": np.floor, "ceil": np.ceil, "rint": np.rint, "abs": np.abs, "copysign": np.copysign}
REMAINDERS = {"floormod": np.mod, "truncatemod": np.fmod}
ARITY = {name: case.arity for name, case in CASES.items()} | dict.fromkeys(EXACT, 1) | {"copysign": 2}
ARITY |= dict.fromkeys(REMAINDERS, 2) | {f"pow_of({exponent})": 1 for exponent in ENDLESS}


# compiling


def emit_loop(module: ir.Module, name: str, dtype: str, lanes: int, *, fma: bool, avx512: bool = False) -> None:
    """Add `void name_dtype_lanes(x, y, out, n)`: out[i] = name(x[i][, y[i]]) for i < n, lanes at a time."""
    element, index = FLOATS[dtype], ir.IntType(64)
    kind = ir.VectorType(element, lanes) if lanes > 1 else element
    pointer = ir.PointerType()
    signature = ir.FunctionType(ir.VoidType(), [pointer, pointer, pointer, index])
    function = ir.Function(module, signature, f"{name}_{dtype}_{lanes}")
    for argument in function.args[:3]:
        argument.add_attribute("noalias")
    entry, body, leave = (function.append_basic_block(block) for block in ("entry", "body", "leave"))
    builder = ir.IRBuilder(entry)
    builder.branch(body)
    builder.position_at_end(body)
    i = builder.phi(index)
    align = np.dtype(dtype).itemsize
    at = [builder.gep(argument, [i], source_etype=element) for argument in function.args[:3]]
    operands = [builder.load(place, typ=kind, align=align) for place in at[: ARITY[name]]]
    math = Math(builder, fma=fma, avx512=avx512)
    function_name, _, exponent = name.rstrip(")").partition("(")
    result = getattr(math, function_name)(*operands, *([float(exponent)] if exponent else []))
    builder.store(result, at[2], align=align)
    following = builder.add(i, index(lanes))
    i.add_incoming(index(0), entry)
    i.add_incoming(following, builder.block)
    builder.cbranch(builder.icmp_unsigned("<", following, function.args[3]), body, leave)
    builder.position_at_end(leave)
    builder.ret_void()


def target_machine(target: targets.Target) -> Any:
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    found = llvm.Target.from_triple(target.triple)
    return found.create_target_machine(cpu=target.cpu, features=",".join(target.features), opt=2, jit=True)


def compiled(text: str, machine: Any) -> Any:
    """The module after a light pass pipeline, without LLVM's vectorizers."""
    module = llvm.parse_assembly(text)
    module.verify()
    tuning = llvm.create_pipeline_tuning_options(speed_level=1)
    tuning.loop_vectorization = tuning.slp_vectorization = tuning.loop_unrolling = False
    builder = llvm.create_pass_builder(machine, tuning)
    builder.getModulePassManager().run(module, builder)
    return module


@dataclass(frozen=True)
class Library:
    """Every function, for both types, as vectors of `lanes[dtype]` and as scalars; call it as `library(name, x, y)`."""

    engine: Any
    assembly: str

    def __call__(self, name: str, *args: Array, lanes: int | None = None) -> Array:
        """The function's values at arrays of one dtype; `lanes=1` for the scalar code."""
        dtype = str(args[0].dtype)
        lanes = lanes or HOST.lanes(dtype)
        size = -(-args[0].size // lanes) * lanes
        padded = [np.resize(x, size) for x in (*args, args[0])[:2]]
        out = np.empty(size, dtype)
        address = self.engine.get_function_address(f"{name}_{dtype}_{lanes}")
        function = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * 3, ctypes.c_int64)(address)
        function(padded[0].ctypes.data, padded[1].ctypes.data, out.ctypes.data, size)
        return out[: args[0].size]


@functools.cache
def library(fma: bool = HOST.has_fma) -> Library:
    module = ir.Module()
    for name, dtype in itertools.product(ARITY, FLOATS):
        for lanes in {1, HOST.lanes(dtype)}:
            emit_loop(module, name, dtype, lanes, fma=fma, avx512=fma and HOST.has_avx512)
    machine = target_machine(HOST)
    optimized = compiled(str(module), machine)
    assembly = machine.emit_assembly(optimized)
    engine = llvm.create_mcjit_compiler(optimized, machine)
    engine.finalize_object()
    return Library(engine, assembly)


# samples and errors


def sample(rng: np.random.Generator, ranges: tuple[Range, ...], count: int, dtype: str, mirrored: bool) -> Array:
    """`count` numbers, shared among the ranges; half of them negated if `mirrored`."""
    parts = []
    for low, high in ranges:
        u = rng.random(count // len(ranges))
        by_exponent = low > 0.0 and high > 1e3 * low
        parts.append(np.exp(np.log(low) + (np.log(high) - np.log(low)) * u) if by_exponent else low + (high - low) * u)
    x = np.concatenate(parts).astype(dtype)
    return np.where(rng.random(x.size) < 0.5, -x, x) if mirrored else x


def arguments(name: str, dtype: str, count: int, seed: int = 0) -> list[Array]:
    case, rng = CASES[name], np.random.default_rng(seed)
    x = sample(rng, getattr(case, dtype), count, dtype, case.mirrored)
    if case.second is None:
        return [x]
    return [x, rng.uniform(*case.second, x.size).astype(dtype)]


def ulps_against_doubles(got: Array, expected: Array) -> Array:
    """Errors of floats in ulps of the exact result; results that are denormal may be 0."""
    rounded = expected.astype(np.float32)
    with np.errstate(invalid="ignore"):  # inf - inf
        error = np.abs(got - expected) / np.spacing(np.abs(rounded)).astype(np.float64)
    return np.where((got == expected) | (np.abs(expected) < np.finfo(np.float32).tiny), 0.0, error)


def ulps_against_mpmath(got: Array, args: list[Array], exact: Callable[..., Any]) -> Array:
    """Errors of any type in ulps of the exact result, from 40 digits; as above for denormal results."""
    tiny = np.finfo(got.dtype).tiny
    errors = []
    with mpmath.workdps(40):
        for y, *xs in zip(got, *args, strict=True):
            value = exact(*(mpmath.mpf(float(x)) for x in xs))
            ulp = np.spacing(max(np.abs(got.dtype.type(value)), tiny))
            errors.append(
                0.0 if abs(value) < tiny else float(abs(mpmath.mpf(float(y)) - value) / mpmath.mpf(float(ulp)))
            )
    return np.array(errors)


def bound(name: str, dtype: str, fma: bool = HOST.has_fma) -> float:
    """Ulps that the error may have; one more where there is no FMA."""
    return ULP[name.partition("_of")[0]][dtype] + (0.0 if fma else 1.0)


def measured(name: str, dtype: str, count: int, seed: int = 0, fma: bool = HOST.has_fma) -> Array:
    """Errors in ulps at `count` samples; float32 beside NumPy's float64 or, without one, our own float64."""
    case, args = CASES[name], arguments(name, dtype, count, seed)
    got = library(fma)(name, *args)
    if dtype == "float64":
        return ulps_against_mpmath(got, args, case.exact)
    wide = [x.astype(np.float64) for x in args]
    return ulps_against_doubles(got, case.numpy(*wide) if case.numpy else library(fma)(name, *wide))


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", CASES)
def test_error_is_within_the_declared_bound(name: str, dtype: str) -> None:
    errors = measured(name, dtype, SAMPLES[dtype])
    assert np.max(errors) <= bound(name, dtype)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", CASES)
def test_error_without_fma(name: str, dtype: str) -> None:
    """Products and sums rounded apart cost at most another ulp."""
    errors = measured(name, dtype, SAMPLES[dtype] // 4, fma=False)
    assert np.max(errors) <= bound(name, dtype, fma=False)


@pytest.mark.soak
@pytest.mark.parametrize("name", CASES)
def test_error_of_many_floats_is_within_the_declared_bound(name: str) -> None:
    for seed in range(11):  # ranges share the samples, and not all divide a million
        assert np.max(measured(name, "float32", 1_000_000, seed=seed + 1)) <= bound(name, "float32")


# x87's 64 bits: enough to measure tenths of an ulp of double, at a hundred times mpmath's speed. Elsewhere long double
# is double, or is computed in software.
WIDE = np.longdouble
HAS_WIDE = np.finfo(WIDE).nmant == 63


@functools.cache
def wide_libm(name: str) -> Callable[[Array], Array]:
    """The C library's function of long doubles, for arrays."""
    text = f"""
    declare x86_fp80 @{name}(x86_fp80)
    define void @f(ptr %x, ptr %out, i64 %n) {{
    entry:
      br label %loop
    loop:
      %i = phi i64 [0, %entry], [%j, %loop]
      %from = getelementptr x86_fp80, ptr %x, i64 %i
      %value = load x86_fp80, ptr %from
      %result = call x86_fp80 @{name}(x86_fp80 %value)
      %to = getelementptr x86_fp80, ptr %out, i64 %i
      store x86_fp80 %result, ptr %to
      %j = add i64 %i, 1
      %more = icmp ult i64 %j, %n
      br i1 %more, label %loop, label %leave
    leave:
      ret void
    }}"""
    machine = target_machine(HOST)
    engine = llvm.create_mcjit_compiler(compiled(text, machine), machine)
    engine.finalize_object()
    address = engine.get_function_address("f")

    def function(x: Array, keep: Any = engine) -> Array:
        x = np.ascontiguousarray(x, WIDE)
        out = np.empty_like(x)
        ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64)(address)(
            x.ctypes.data, out.ctypes.data, x.size
        )
        return out

    return function


def wide_erfinv(x: Array) -> Array:
    """Newton's iteration on long doubles; beyond 1/2 on erfc, where 1 - |x| is exact."""
    a, y = np.abs(x), np.abs(library()("erfinv", x.astype(np.float64))).astype(WIDE)
    slope = 2 / np.sqrt(WIDE("3.14159265358979323846264338327950288"))
    for _ in range(2):
        error = np.where(a < 0.5, wide_libm("erfl")(y) - a, (1 - a) - wide_libm("erfcl")(y))
        y = y - error / (slope * np.exp(-y * y))
    return np.copysign(y, x)


WIDE_REFERENCE = {name: case.numpy for name, case in CASES.items() if case.numpy}
WIDE_REFERENCE["sigmoid"] = lambda x: 1 / (1 + np.exp(-x))
WIDE_LIBM = {name: f"{name}l" for name in ("sin", "cos", "tan", "erf", "erfc", "lgamma")}
WIDE_REFERENCE |= {
    name: functools.partial(lambda libm, x: wide_libm(libm)(x), libm) for name, libm in WIDE_LIBM.items()
}
WIDE_REFERENCE["erfinv"] = wide_erfinv


@pytest.mark.soak
@pytest.mark.skipif(not HAS_WIDE, reason="long double has no more digits than double, or is slow")
@pytest.mark.parametrize("name", WIDE_REFERENCE)
def test_error_of_ten_million_doubles_is_within_the_declared_bound(name: str) -> None:
    for seed in range(11):
        args = arguments(name, "float64", 1_000_000, seed=seed + 1)
        expected = WIDE_REFERENCE[name](*(x.astype(WIDE) for x in args))
        rounded = np.abs(expected).astype(np.float64)
        normal = (rounded >= np.finfo(np.float64).tiny) & np.isfinite(rounded)
        error = np.abs(library()(name, *args) - expected)[normal] / np.spacing(rounded[normal])
        assert np.max(error) <= bound(name, "float64") + 0.01  # the reference's own error, in ulps of double


@pytest.mark.soak
@pytest.mark.parametrize("name", CASES)
def test_error_of_many_doubles_is_within_the_declared_bound(name: str) -> None:
    assert np.max(measured(name, "float64", 20_000, seed=1)) <= bound(name, "float64")


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", CASES)
def test_scalar_code_gives_the_same_bits(name: str, dtype: str) -> None:
    args = arguments(name, dtype, 1000)
    np.testing.assert_array_equal(library()(name, *args), library()(name, *args, lanes=1))


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", EXACT)
def test_exact_functions(name: str, dtype: str) -> None:
    big = 2.0 ** np.finfo(dtype).nmant
    x = np.array([0.0, 0.3, 0.5, 1.5, 2.5, big - 0.5, big + 1.0, 3e38, np.inf, np.nan, 1e-40], dtype)
    args = [np.concatenate([x, -x])] + [np.tile(np.array([1.0, -1.0, -0.0], dtype), 8)[:22]] * (ARITY[name] - 1)
    got, expected = library()(name, *args), EXACT[name](*args)
    np.testing.assert_array_equal(got, expected)
    np.testing.assert_array_equal(np.signbit(got[~np.isnan(got)]), np.signbit(expected[~np.isnan(got)]))


def remainder_operands(kind: str, dtype: str) -> tuple[Array, Array]:
    """Operands of few and of many digits in the quotient, multiples, and every pair of special values."""
    rng, info = np.random.default_rng(0), np.finfo(dtype)
    if kind == "near":
        return (100 * rng.normal(size=20_000)).astype(dtype), rng.normal(size=20_000).astype(dtype)
    if kind == "multiples":
        y = rng.normal(size=20_000).astype(dtype)
        return (y * rng.integers(-1000, 1000, y.size)).astype(dtype), y
    if kind == "far":
        exponents = rng.uniform(np.log10(info.tiny) + 1, np.log10(info.max) - 1, (2, 20_000))
        x, y = (rng.choice([-1.0, 1.0], exponents.shape) * 10**exponents).astype(dtype)
        return x, y
    sizes = [0.0, 0.5, 1.0, 3.0, 1 / 3, 2.0**info.nmant, info.max, info.tiny, 1e30, 1e-30, INF]
    signed = np.array([*sizes, *(-v for v in sizes), NAN], dtype)
    x, y = (grid.ravel() for grid in np.meshgrid(signed, signed))
    return x, y


@pytest.mark.parametrize("fma", {HOST.has_fma, False})
@pytest.mark.parametrize("kind", ["near", "multiples", "far", "special"])
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", REMAINDERS)
def test_remainders_are_exact(name: str, dtype: str, kind: str, fma: bool) -> None:
    """The very bits of NumPy, signs of zeros too, whatever the quotient; vectors and scalars."""
    x, y = remainder_operands(kind, dtype)
    with np.errstate(invalid="ignore"):
        expected = REMAINDERS[name](x, y)
    for lanes in (None, 1):
        got = library(fma)(name, x, y, lanes=lanes)
        np.testing.assert_array_equal(got, expected)
        known = ~np.isnan(expected)
        np.testing.assert_array_equal(np.signbit(got[known]), np.signbit(expected[known]))


# special values

SPECIAL = {
    "exp": [(0, 1), (-0.0, 1), (INF, INF), (-INF, 0), (1e4, INF), (-1e4, 0)],
    "exp2": [(0, 1), (3, 8), (-2, 0.25), (INF, INF), (-INF, 0), (1e4, INF), (-1e4, 0)],
    "expm1": [(0, 0), (-0.0, -0.0), (INF, INF), (-INF, -1), (1e4, INF), (-1e4, -1), (1e-40, 1e-40)],
    "log": [(1, 0), (0, -INF), (-0.0, -INF), (INF, INF), (-1, NAN), (-INF, NAN)],
    "log2": [(1, 0), (8, 3), (0.125, -3), (2.0**-140, -140), (0, -INF), (-0.0, -INF), (INF, INF), (-1, NAN)],
    "log1p": [(0, 0), (-0.0, -0.0), (-1, -INF), (INF, INF), (-2, NAN), (-INF, NAN), (1e-40, 1e-40)],
    "sinh": [(0, 0), (-0.0, -0.0), (INF, INF), (-INF, -INF), (1e4, INF)],
    "cosh": [(0, 1), (-0.0, 1), (INF, INF), (-INF, INF), (1e4, INF)],
    "tanh": [(0, 0), (-0.0, -0.0), (INF, 1), (-INF, -1), (1e4, 1), (1e-30, 1e-30)],
    "asinh": [(0, 0), (-0.0, -0.0), (INF, INF), (-INF, -INF)],
    "acosh": [(1, 0), (INF, INF), (0.5, NAN), (-5, NAN), (-INF, NAN)],
    "atanh": [(0, 0), (-0.0, -0.0), (1, INF), (-1, -INF), (1.5, NAN), (-INF, NAN), (INF, NAN)],
    "sigmoid": [(0, 0.5), (INF, 1), (-INF, 0), (1e4, 1), (-1e4, 0)],
    "softplus": [(INF, INF), (-INF, 0), (1e30, 1e30), (-1e30, 0)],
    "sin": [(0, 0), (-0.0, -0.0), (INF, NAN), (-INF, NAN), (1e-30, 1e-30)],
    "cos": [(0, 1), (-0.0, 1), (INF, NAN), (-INF, NAN)],
    "tan": [(0, 0), (-0.0, -0.0), (INF, NAN), (-INF, NAN)],
    "asin": [(0, 0), (-0.0, -0.0), (1, np.pi / 2), (-1, -np.pi / 2), (1.5, NAN), (-INF, NAN)],
    "acos": [(1, 0), (-1, np.pi), (0, np.pi / 2), (-1.5, NAN), (INF, NAN)],
    "atan": [(0, 0), (-0.0, -0.0), (INF, np.pi / 2), (-INF, -np.pi / 2)],
    "erf": [(0, 0), (-0.0, -0.0), (INF, 1), (-INF, -1), (100, 1)],
    "erfc": [(0, 1), (INF, 0), (-INF, 2), (100, 0)],
    "erfinv": [(0, 0), (-0.0, -0.0), (1, INF), (-1, -INF), (1.5, NAN), (-INF, NAN)],
    "lgamma": [(1, 0), (2, 0), (0, INF), (-0.0, INF), (-3, INF), (INF, INF), (-INF, INF)],
    "digamma": [(0, -INF), (-0.0, INF), (-3, NAN), (INF, INF), (-INF, NAN)],
    "sqrt": [(0, 0), (-0.0, -0.0), (4, 2), (INF, INF), (-1, NAN)],
    "rsqrt": [(0, INF), (-0.0, -INF), (4, 0.5), (INF, 0), (-1, NAN)],
}


@pytest.mark.parametrize("lanes", [None, 1])
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", SPECIAL)
def test_special_values(name: str, dtype: str, lanes: int | None) -> None:
    # Two NaNs: one with payload bits, which integer tricks could turn into a number.
    nans = np.array([NAN, NAN], dtype)
    nans.view(f"u{nans.itemsize}")[1] |= 5
    x, expected = np.array(SPECIAL[name], dtype).T.copy()
    x, expected = np.concatenate([x, nans]), np.concatenate([expected, nans])
    got = library()(name, x, lanes=lanes)
    np.testing.assert_array_equal(got, expected)
    zero = expected == 0
    np.testing.assert_array_equal(np.signbit(got[zero]), np.signbit(expected[zero]))


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", ["pow", "atan2"])
def test_special_values_of_two_arguments(name: str, dtype: str) -> None:
    values = [0.0, 0.5, 1.0, 2.0, 3.0, 1e30, INF]
    signed = np.array([*values, *(-v for v in values), NAN], dtype)
    x, y = (grid.ravel() for grid in np.meshgrid(signed, signed))
    numpy = CASES[name].numpy
    assert numpy is not None
    with np.errstate(all="ignore"):
        expected = numpy(x.astype(np.float64), y.astype(np.float64)).astype(dtype)
    got = library()(name, x, y)
    np.testing.assert_allclose(got, expected, rtol=4 * float(np.finfo(dtype).eps), atol=float(np.finfo(dtype).tiny))
    known = ~np.isnan(expected)
    np.testing.assert_array_equal(np.signbit(got[known]), np.signbit(expected[known]))


@pytest.mark.parametrize("fma", [True, False])
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("exponent", [*EXPONENTS, *ENDLESS])
def test_powers_of_special_values(exponent: float, dtype: str, fma: bool) -> None:
    info = np.finfo(dtype)
    values = [0.0, 1.0, 2.0, float(info.max), float(info.tiny), INF]
    x = np.array([*values, *(-v for v in values), NAN], dtype)
    with np.errstate(all="ignore"):
        expected = np.power(x, np.full_like(x, exponent))
    got = library(fma)(f"pow_of({exponent})", x)
    np.testing.assert_allclose(got, expected, rtol=4 * float(info.eps), atol=float(info.tiny))
    known = ~np.isnan(expected)
    np.testing.assert_array_equal(np.signbit(got[known]), np.signbit(expected[known]))


@pytest.mark.parametrize("dtype", FLOATS)
def test_lgamma_below_zero(dtype: str) -> None:
    """The error is small beside the largest of 1, the result and the term that it is subtracted from: it has zeros."""
    x = -np.random.default_rng(0).uniform(0.0, 30.0, 2000).astype(dtype)
    got, beside = library()("lgamma", x), library()("lgamma", 1 - x)
    expected = np.array([float(exact_lgamma(mpmath.mpf(float(v)))) for v in x])
    unit = np.spacing(np.maximum(np.maximum(np.abs(got), np.abs(beside)), 1).astype(dtype))
    assert np.max(np.abs(got - expected) / unit) <= (3.0 if dtype == "float64" else 1.0)


@pytest.mark.parametrize("dtype", FLOATS)
def test_digamma_below_zero(dtype: str) -> None:
    """The error is small beside the larger of 1 and the result: the function has zeros there."""
    x = -np.random.default_rng(0).uniform(0.0, 30.0, 500).astype(dtype)
    expected = np.array([float(mpmath.digamma(mpmath.mpf(float(v)))) for v in x])
    bound = 1e-12 if dtype == "float64" else 1e-7
    assert np.max(np.abs(library()("digamma", x) - expected) / np.maximum(1.0, np.abs(expected))) <= bound


# float32, float64: how many quarter turns have digits enough for the bounds.
QUARTERS = {"float32": 63_661, "float64": 636_000_000}


def near_quarters(dtype: str, count: int, seed: int) -> Array:
    """Numbers next to multiples of pi / 4, where most of an angle cancels, or where tan's argument is largest."""
    rng = np.random.default_rng(seed)
    n = rng.integers(1, 2 * QUARTERS[dtype], count)
    x = (n * (WIDE("3.14159265358979323846264338327950288") / 4)).astype(dtype)
    return x + rng.integers(-3, 4, count) * np.spacing(x)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", ["sin", "cos", "tan"])
def test_angles_near_multiples_of_an_eighth_of_a_turn(name: str, dtype: str) -> None:
    x = near_quarters(dtype, SAMPLES[dtype], seed=0)
    got, case = library()(name, x), CASES[name]
    if dtype == "float64":
        errors = ulps_against_mpmath(got, [x], case.exact)
    else:
        errors = ulps_against_doubles(got, library()(name, x.astype(np.float64)))
    assert np.max(errors) <= bound(name, dtype)


@pytest.mark.soak
@pytest.mark.skipif(not HAS_WIDE, reason="long double has no more digits than double, or is slow")
@pytest.mark.parametrize("name", ["sin", "cos", "tan"])
def test_many_angles_near_multiples_of_an_eighth_of_a_turn(name: str) -> None:
    for seed in range(11):
        x = near_quarters("float64", 1_000_000, seed + 1)
        expected = wide_libm(f"{name}l")(x.astype(WIDE))
        error = np.abs(library()(name, x) - expected) / np.spacing(np.abs(expected).astype(np.float64))
        assert np.max(error) <= bound(name, "float64") + 0.01


@pytest.mark.soak
@pytest.mark.parametrize("name", ["sin", "cos", "tan"])
def test_every_float_that_is_an_angle(name: str) -> None:
    """All floats up to the range's end, of both signs."""
    end = int(np.float32(1e5).view(np.uint32))
    for first in range(0, end, 1 << 22):
        bits = np.arange(first, min(first + (1 << 22), end), dtype=np.uint32)
        for sign in (0, 1 << 31):
            x = (bits | np.uint32(sign)).view(np.float32)
            errors = ulps_against_doubles(library()(name, x), library()(name, x.astype(np.float64)))
            assert np.max(errors) <= bound(name, "float32")


@pytest.mark.parametrize("name", ["sin", "cos", "tan"])
def test_angles_beyond_the_range_stay_finite(name: str) -> None:
    for dtype in FLOATS:
        x = np.logspace(5, 38, 4096).astype(dtype)
        got = library()(name, np.concatenate([x, -x]))
        assert np.isfinite(got).all()
        assert name == "tan" or np.max(np.abs(got)) <= 1.0


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", [name for name in CASES if ARITY[name] == 1 and CASES[name].numpy])
def test_edges_are_numpys(name: str, dtype: str) -> None:
    """Denormal, smallest and largest arguments, and neighbours of 0 and 1, where functions end: NumPy's results."""
    info, numpy = np.finfo(dtype), CASES[name].numpy
    assert numpy is not None
    sizes = [info.smallest_subnormal, info.tiny / 2, info.tiny, info.max, 1 - info.epsneg, 1.0, 1 + info.eps, 1e-20]
    x = np.array([sign * size for size in sizes for sign in (1, -1)] + [0.0, -0.0], dtype)
    if name in ("sin", "cos", "tan"):
        x = x[np.abs(x) < 1e5]
    got = library()(name, x)
    with np.errstate(all="ignore"):
        expected = numpy(x.astype(WIDE)).astype(dtype)
    rtol = (bound(name, dtype) + 0.5) * float(info.eps)
    np.testing.assert_allclose(got, expected, rtol=rtol, atol=float(info.tiny))
    known = ~np.isnan(expected)
    np.testing.assert_array_equal(np.signbit(got[known]), np.signbit(expected[known]))


def piece_edges(offset: float) -> list[float]:
    """Where the next of sixteen polynomials begins: see `Lookup.piecewise`."""
    edges = sorted((1 + quarter / 4) * 2.0**power for power in range(-2, 6) for quarter in range(4))
    return [edge - offset for edge in edges if offset < edge < 16 * offset]


LOG_2 = np.log(2.0)

# Where functions go over to another formula.
SEAMS = {
    "exp": [LOG_2 / 2, 88.7, 709.7],
    "expm1": [LOG_2 / 2, 20.0, 40.0, 88.7, 709.7],
    "log": [0.75, 1.0, 1.5],
    "log2": [0.75, 1.0, 1.5],
    "log1p": [0.5, 1.0, 2.0**24, 2.0**53],
    "sinh": [1.0],
    "tanh": [LOG_2 / 4, 0.75 * LOG_2, 10.0],
    "asinh": [1.0, 2.0**30, 2.0**60],
    "acosh": [1.5, 2.0**30, 2.0**60],
    "atanh": [0.5, 0.75],
    "sigmoid": [LOG_2 / 2, 20.0, 40.0],
    "softplus": [LOG_2 / 2, LOG_2],
    "sin": [np.pi / 4, np.pi / 2, np.pi],
    "tan": [0.25, np.pi / 4, np.pi / 2],
    "asin": [0.5],
    "acos": [0.5],
    "atan": [1.0],
    "erf": [0.0625, *piece_edges(0.4375)],
    "erfc": [*piece_edges(2.0)],
    "erfinv": [np.sqrt(-np.expm1(-w)) for w in piece_edges(2.5)],
    "lgamma": [0.5, 1.0, 2.0, 11.75, *piece_edges(0.25)],
    "digamma": [0.5, 1.25, 11.75, *piece_edges(0.25)],
}


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", SEAMS)
def test_formulas_meet(name: str, dtype: str) -> None:
    """On both sides of every seam, and on the last numbers before it, the bound holds."""
    case, steps = CASES[name], np.arange(-4, 5)
    near = [x + steps * np.spacing(np.array(x, dtype)) for x in np.array(SEAMS[name], dtype)]
    x = np.concatenate([*near, *(-one for one in near)] if case.mirrored else near).astype(dtype)
    x = x[(x != 0) & ((np.abs(x) < 1) if name == "erfinv" else True) & ((x >= 1) if name == "acosh" else True)]
    x = x[np.abs(x) < 26] if name == "erfc" else x
    got = library()(name, x)
    known = np.isfinite(got)
    assert np.max(ulps_against_mpmath(got[known], [x[known]], case.exact)) <= bound(name, dtype)


@settings(max_examples=200, deadline=None)
@given(st.floats(width=32), st.sampled_from([name for name in CASES if ARITY[name] == 1]))
def test_any_float_is_close_to_the_double_result(x: float, name: str) -> None:
    """Whatever the argument: float and double code agree, within the bound and what denormals may lose."""
    if name in ("sin", "cos", "tan") and abs(x) > 1e5:
        return
    single = library()(name, np.array([x], np.float32))
    double = library()(name, np.array([x], np.float64))
    with np.errstate(over="ignore", under="ignore"):
        expected = double.astype(np.float32)
    if np.isfinite(double[0]) and np.isfinite(expected[0]):
        allowed = (bound(name, "float32") + 0.5) * np.spacing(np.abs(expected)) + np.finfo(np.float32).tiny
        assert abs(float(single[0]) - float(expected[0])) <= allowed
    else:
        np.testing.assert_array_equal(single, expected)


# the code itself


# How many jumps a function has besides its loop's: over code for rare arguments, and back in a loop of such code.
JUMPS = {
    "pow": 1,
    **{f"pow_of({exponent})": 1 for exponent in (33, 0.3125, INF, -INF)},
    "floormod": 2,
    "truncatemod": 2,
    "lgamma": 2,
    "digamma": 2,
}


def instructions_of(assembly: str) -> list[list[str]]:
    return [line.split() for line in assembly.splitlines() if line.startswith("\t") and line[1] != "."]


@pytest.mark.parametrize("target", [targets.AVX512, targets.AVX2], ids=["avx512", "avx2"])
@pytest.mark.parametrize("dtype", FLOATS)
def test_no_call_and_no_jump_but_over_what_is_rare(target: targets.Target, dtype: str) -> None:
    """A loop over vectors calls nothing; on the host and for other machines."""
    machine = target_machine(target)
    for name in ARITY:
        module = ir.Module()
        emit_loop(module, name, dtype, target.lanes(dtype), fma=target.has_fma, avx512=target.has_avx512)
        instructions = instructions_of(machine.emit_assembly(compiled(str(module), machine)))
        assert [words for words in instructions if words[0].startswith("call")] == []
        jumps = [words for words in instructions if words[0].startswith("j") and words[0] != "jmp"]
        halves = 2 if dtype == "float32" and name in ("lgamma", "digamma") else 1  # computed as two vectors of doubles
        assert len(jumps) == 1 + halves * JUMPS.get(name, 0), name


def test_only_vectors_with_rare_arguments_take_the_rare_path() -> None:
    """A NaN that the usual code would make of any lane of a vector stays out of the other lanes."""
    x = np.array([2.0, -2.0, 0.0, INF, NAN, 3.0, -0.0, 1.0] * 2, np.float64)
    y = np.array([3.0, 3.0, -1.0, 2.0, 0.0, INF, -3.0, NAN] * 2, np.float64)
    np.testing.assert_array_equal(library()("pow", x, y), [8, -8, INF, INF, 1, INF, -INF, 1] * 2)


@pytest.mark.parametrize("target", [targets.SSE2, targets.NEON], ids=["sse2", "neon"])
def test_every_function_compiles_for_short_vectors(target: targets.Target) -> None:
    """One jump each, as above; before SSE4.1 rounding to integers is a call."""
    module = ir.Module()
    for name, dtype in itertools.product(ARITY, FLOATS):
        emit_loop(module, name, dtype, target.lanes(dtype), fma=target.has_fma, avx512=target.has_avx512)
    machine = target_machine(target)
    assembly = machine.emit_assembly(compiled(str(module), machine))
    for name, dtype in itertools.product(ARITY, FLOATS):
        assert re.search(rf'^"?{re.escape(name)}_{dtype}_{target.lanes(dtype)}"?:', assembly, re.MULTILINE)
    called = set(re.findall(r"(\w+)@(?:PLT|GOTPCREL)|\tbl\t(\w+)", assembly))
    rounding = {"floorf", "floor", "ceilf", "ceil", "rintf", "rint"} if target.is_x86 else set()
    assert {name for pair in called for name in pair if name} <= rounding


def test_other_types_are_refused() -> None:
    builder = ir.IRBuilder(ir.Function(ir.Module(), ir.FunctionType(ir.VoidType(), []), "f").append_basic_block())
    with pytest.raises(TypeError, match="got i32"):
        Math(builder).exp(ir.Constant(ir.IntType(32), 1))


# Philox

# counter, key, result: from the file kat_vectors of Random123, the authors' library.
PHILOX_VECTORS = [
    ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ((0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
]


@functools.cache
def philox_library(lanes: int) -> tuple[Any, Any]:
    """(engine, function): void(words): words[6][lanes] of counter and key become words[4][lanes] of result."""
    word, module = ir.IntType(32), ir.Module()
    kind = ir.VectorType(word, lanes) if lanes > 1 else word
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), [ir.PointerType()]), "philox")
    builder = ir.IRBuilder(function.append_basic_block())
    at = [builder.gep(function.args[0], [ir.IntType(64)(lanes * i)], source_etype=word) for i in range(6)]
    c0, c1, c2, c3, k0, k1 = (builder.load(place, typ=kind, align=4) for place in at)
    for value, place in zip(philox4x32(builder, (c0, c1, c2, c3), (k0, k1)), at, strict=False):
        builder.store(value, place, align=4)
    builder.ret_void()
    machine = target_machine(HOST)
    engine = llvm.create_mcjit_compiler(compiled(str(module), machine), machine)
    engine.finalize_object()
    return engine, ctypes.CFUNCTYPE(None, ctypes.c_void_p)(engine.get_function_address("philox"))


@pytest.mark.parametrize("counter, key, expected", PHILOX_VECTORS)
def test_philox_gives_the_published_words(
    counter: tuple[int, ...], key: tuple[int, ...], expected: tuple[int, ...]
) -> None:
    assert tuple(int(word) for word in philox4x32_reference(counter, key)) == expected
    for lanes in (1, 8):
        words = np.repeat(np.array([*counter, *key], np.uint32), lanes)
        philox_library(lanes)[1](words.ctypes.data)
        np.testing.assert_array_equal(words[: 4 * lanes], np.repeat(np.array(expected, np.uint32), lanes))


@pytest.mark.parametrize("lanes", [1, 4, 8, 16])
def test_philox_as_code_is_philox_in_numpy(lanes: int) -> None:
    words = np.random.default_rng(0).integers(0, 1 << 32, (6, lanes), np.uint32)
    expected = philox4x32_reference(list(words[:4]), list(words[4:]))
    philox_library(lanes)[1](words.ctypes.data)
    np.testing.assert_array_equal(words[:4], expected)
