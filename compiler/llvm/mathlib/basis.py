"""What mathematical code is written on: formats, constants, bits, lanes and AVX-512's instructions.

    k = Basis(builder)
    i = k.integer("and_", k.bits(x), k.format(x).one_bits)
    y = k.intrinsic("fma", x, y, z)

Values are scalars or vectors of `float` or `double`.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from llvmlite import ir

from graphflow.compiler.llvm.code import splat_constant

# llvmlite carries no types: IR types and values are Any, an operand is an IR value or a number.
Value = Any
Operand = Any


@dataclass(frozen=True)
class Format:
    """What bit tricks must know of an IEEE format. `round_shift` added to |x| < 2**(mantissa - 2) rounds x to even."""

    name: str
    bits: int
    mantissa: int
    bias: int
    split: float  # Veltkamp's 2**ceil(p / 2) + 1: multiplies a number apart into halves

    @property
    def round_shift(self) -> float:
        return 1.5 * 2.0**self.mantissa

    @property
    def one_bits(self) -> int:
        return self.bias << self.mantissa


FORMATS = {
    "float": Format("float", bits=32, mantissa=23, bias=127, split=4097.0),
    "double": Format("double", bits=64, mantissa=52, bias=1023, split=134217729.0),
}


def by_format(per_float: float, per_double: float) -> Callable[[Format], float]:
    """A constant that differs between the formats: `LIMIT = by_format(88.0, 709.0)`, then `LIMIT(self.format(x))`."""
    return lambda f: per_float if f.name == "float" else per_double


SMALLEST_NORMAL = by_format(2.0**-126, 2.0**-1022)
INFINITY = math.inf
NAN = math.nan


class Basis:
    """Types, constants, bits and intrinsics at the position of `builder`.

    `fma=False` is for targets without fused multiply-add, where `llvm.fma` would be a library call: products and sums
    are rounded separately, and error-free products use Dekker's splitting. `avx512=True` (F and VL) buys shorter code
    for whole vectors, with the same results.
    """

    def __init__(self, builder: Any, *, fma: bool = True, avx512: bool = False) -> None:
        self.builder = builder
        self.has_fma = fma
        self.has_avx512 = avx512

    # types and constants

    def format(self, x: Value) -> Format:
        """The format of x's element. TypeError unless it is float or double."""
        name = str(getattr(x.type, "element", x.type))
        if name not in FORMATS:
            raise TypeError(f"internal error: a math function got {x.type}, not float, double or a vector of them")
        return FORMATS[name]

    def like(self, x: Value, element: Any) -> Any:
        """The type of x with another element type."""
        return ir.VectorType(element, x.type.count) if isinstance(x.type, ir.VectorType) else element

    def splat(self, x: Value, number: float) -> Value:
        """`number` in every lane, in the (floating or integer) type of x."""
        return self.constant(x.type, number)

    def constant(self, kind: Any, number: float) -> Value:
        """`number` in every lane of the type `kind`."""
        if isinstance(kind, ir.VectorType):
            return splat_constant(kind, self.constant(kind.element, number))
        if isinstance(kind, ir.IntType) and number >= 1 << (kind.width - 1):
            number -= 1 << kind.width  # LLVM prints and reads constants as signed
        return ir.Constant(kind, number)

    def lift(self, x: Value, operand: Operand) -> Value:
        """The operand as a value of x's type."""
        return self.splat(x, operand) if isinstance(operand, int | float) else operand

    def widen(self, x: Value) -> Value:
        """float to double, lane by lane."""
        return self.builder.fpext(x, self.like(x, ir.DoubleType()))

    def narrow(self, x: Value) -> Value:
        """double to float, lane by lane, rounded to nearest even."""
        return self.builder.fptrunc(x, self.like(x, ir.FloatType()))

    # vectors

    def lanes(self, x: Value) -> int:
        """How many elements x has; 1 for a scalar."""
        return int(x.type.count) if isinstance(x.type, ir.VectorType) else 1

    def shuffle(self, x: Value, y: Value, lanes: Sequence[int]) -> Value:
        """The lanes of these numbers of x followed by y."""
        return self.builder.shuffle_vector(x, y, ir.Constant(ir.VectorType(ir.IntType(32), len(lanes)), list(lanes)))

    # bits

    def bits(self, x: Value) -> Value:
        """The bits of x as integers of the same width."""
        return self.builder.bitcast(x, self.like(x, ir.IntType(self.format(x).bits)))

    def from_bits(self, i: Value, x: Value) -> Value:
        """Integers as the bits of values of x's type."""
        return self.builder.bitcast(i, x.type)

    def integer(self, op: str, i: Value, j: int | Value) -> Value:
        """`i op j` on integer lanes; op is a method of IRBuilder: "add", "sub", "and_", "xor", "shl", "lshr"."""
        return getattr(self.builder, op)(i, self.splat(i, j) if isinstance(j, int) else j)

    # intrinsics

    def declared(self, name: str, result: Any, operands: Sequence[Any]) -> Any:
        """The module's declaration of an intrinsic."""
        found = self.builder.module.globals.get(name)
        return found or ir.Function(self.builder.module, ir.FunctionType(result, operands), name)

    def fits_avx512(self, x: Value) -> bool:
        """Whether AVX-512's own instructions can be used on x: a whole vector, and the target has them."""
        return self.has_avx512 and self.lanes(x) * self.format(x).bits in (128, 256, 512)

    def avx512(self, op: str, x: Value, *immediate: int) -> Value:
        """AVX-512's "getexp" (the exponent as a number) or "getmant" of every lane."""
        operands = [x, *(ir.Constant(ir.IntType(32), i) for i in immediate), ir.Constant(x.type, None)]
        return self.masked_avx512(op, x, operands)

    def fixup(self, y: Value, x: Value, table: int) -> Value:
        """y, replaced where x is special by what AVX-512's fixupimm finds in `table`."""
        operands = [y, x, self.splat(self.bits(x), table), ir.Constant(ir.IntType(32), 0)]
        return self.masked_avx512("fixupimm", x, operands)

    def masked_avx512(self, op: str, x: Value, operands: Sequence[Value]) -> Value:
        """A call of AVX-512's `op` for values of x's type, in every lane."""
        f, count = self.format(x), self.lanes(x)
        bits = count * f.bits
        name = f"llvm.x86.avx512.mask.{op}.{'ps' if f.name == 'float' else 'pd'}.{bits}"
        operands = [*operands, ir.Constant(ir.IntType(max(count, 8)), -1)]
        if bits == 512:
            operands.append(ir.Constant(ir.IntType(32), 4))  # round as the thread does
        return self.builder.call(self.declared(name, x.type, [one.type for one in operands]), operands)

    def intrinsic(self, op: str, *args: Value, flags: Sequence[str] = ()) -> Value:
        """A call of `llvm.<op>`, whose operands and result all have the type of the first; `flags` as "nsz"."""
        kind = args[0].type
        element = {"float": "f32", "double": "f64"}[self.format(args[0]).name]
        name = f"llvm.{op}." + (f"v{kind.count}{element}" if isinstance(kind, ir.VectorType) else element)
        return self.builder.call(self.declared(name, kind, [kind] * len(args)), args, fastmath=flags)
