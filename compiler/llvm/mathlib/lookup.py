"""Small tables in registers, and polynomials whose coefficients depend on the argument.

c = k.lookup(x, LOOKUP["log_inverse"], index)          # of sixteen numbers, one a lane
constant, rest = k.piecewise(x, "erf", offset=0.4375)  # erf(x), by the polynomial that serves x
y = k.where_rare(huge, usual, lambda: slow(x))         # slow's code runs only if some lane is huge
"""

from collections.abc import Sequence

from llvmlite import ir

from graphflow.compiler.llvm.code import undefined
from graphflow.compiler.llvm.mathlib.basis import Value
from graphflow.compiler.llvm.mathlib.branches import Branches
from graphflow.compiler.llvm.mathlib.pieces import PIECES

PERMUTES = {
    ("float", 16): "llvm.x86.avx512.permvar.sf.512",
    ("double", 8): "llvm.x86.avx512.vpermi2var.pd.512",
}


class Lookup(Branches):
    """Lookups and piecewise polynomials, for values of any float type."""

    def lookup(self, x: Value, name: str, numbers: Sequence[float], index: Value) -> Value:
        """`numbers[index & 15]` in each lane, of x's type; sixteen numbers, which `name` tells from others.

        AVX-512 holds them in one register or two; elsewhere each lane loads from memory.
        """
        kind = self.format(x).name, self.lanes(x)
        if self.has_avx512 and kind in PERMUTES:
            size = kind[1]
            parts = [ir.Constant(x.type, list(numbers[start : start + size])) for start in range(0, 16, size)]
            operands = [parts[0], index, *parts[1:]]
            return self.builder.call(self.declared(PERMUTES[kind], x.type, [one.type for one in operands]), operands)
        index = self.integer("and_", index, 15)
        if self.lanes(x) == 1:
            return self.entry(x, name, numbers, index)
        y = undefined(x.type)
        for lane in range(self.lanes(x)):
            place = ir.Constant(ir.IntType(32), lane)
            one = self.entry(x, name, numbers, self.builder.extract_element(index, place))
            y = self.builder.insert_element(y, one, place)
        return y

    def entry(self, x: Value, name: str, numbers: Sequence[float], index: Value) -> Value:
        """The number at one index, of x's element type, from a constant of the module."""
        element = getattr(x.type, "element", x.type)
        module, kind = self.builder.module, ir.ArrayType(element, len(numbers))
        name = f"{name}.{self.format(x).name}"
        place = module.globals.get(name)
        if place is None:
            place = ir.GlobalVariable(module, kind, name)
            place.initializer, place.global_constant, place.linkage = (
                ir.Constant(kind, list(numbers)),
                True,
                "internal",
            )
        return self.builder.load(self.builder.gep(place, [index], source_etype=element), typ=element)

    def piecewise(self, x: Value, name: str, offset: float) -> tuple[Value, Value]:
        """(c, r): the function `name` of `PIECES` at x is c + r; c is one of sixteen numbers and has no error.

        `offset` is the one of scripts/fit_pieces.py; beyond the last piece results have no meaning.
        """
        f = self.format(x)
        index = self.integer("lshr", self.bits(self.add(x, offset)), f.mantissa - 2)
        rows = enumerate(PIECES[name][f.name])
        centre, constant, *powers = (self.lookup(x, f"{name}.{n}", row, index) for n, row in rows)
        t = self.sub(x, centre)
        return constant, self.mul(self.split_polynomial(t, powers), t)
