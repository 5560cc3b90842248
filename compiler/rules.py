"""The algebra of elementwise ops as a table: a graph with holes, and what it is equal to.

    _row("x * 1", NUMBER, lambda x: x * 1, lambda x: x)

reads: where the graph x * 1 is found, for any x of a number type and of any shape, x replaces it.  In a pattern

    x, y, z   match any node, the same name the same node
    c, d      match any node of bool
    a, b      match constant splats only
    a number  matches a constant splat of that value, the sign of a zero included

A rule must be exact for every value: NaN stays NaN (its payload is nobody's), infinities and the signs of zeros are
what they were.  That is why x + 0 is x for integers only, while x - 0 is x for all.  The one liberty: compiled code
flushes subnormal numbers where it computes, so that a rule which computes less may keep one.
Each row is proven by example in tests/compiler/test_simplify.py.  Rules that need code are in rules_elementwise.py and
rules_view.py.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from graphflow.compiler.fold import constant_splat, number
from graphflow.compiler.rewrite import Rule
from graphflow.core.dtype import DType, bool_, float32, int32
from graphflow.core.node import Node
from graphflow.core.op import constant_like
from graphflow.core.type import TensorType
from graphflow.ops.elementwise import (
    absolute,
    ceil,
    equal,
    floor,
    floordiv,
    greater,
    greater_equal,
    less,
    less_equal,
    maximum,
    minimum,
    mod,
    neg,
    not_equal,
    power,
    relu,
    rint,
    select,
    sign,
    square,
    squared_difference,
    truediv,
)
from graphflow.ops.leaf import hole

__all__ = ["ALGEBRA", "Algebra", "Kind"]


@dataclass(frozen=True)
class Kind:
    """The dtypes that a row holds for, and one of them, to write its pattern in."""

    name: str
    holds: Callable[[DType], bool]
    sample: DType


FLOAT = Kind("float", lambda d: d.is_floating, float32)
INT = Kind("int", lambda d: d.is_integer, int32)
SIGNED = Kind("signed", lambda d: d.kind in ("float", "int"), float32)
NUMBER = Kind("number", lambda d: not d.is_bool, float32)
BOOL = Kind("bool", lambda d: d.is_bool, bool_)
ANY = Kind("any", lambda d: True, float32)

CONDITIONS, CONSTANTS = "cd", "ab"
COMMUTATIVE = frozenset({"Add", "Mul", "LogicalAnd", "LogicalOr", "LogicalXor", "Equal", "NotEqual"})


@dataclass(frozen=True)
class Algebra:
    """A row: `left` is `right` for values of a kind; both are functions of the holes."""

    name: str
    kind: Kind
    left: Callable[..., Any]
    right: Callable[..., Any]

    @cached_property
    def holes(self) -> tuple[str, ...]:
        """The names of the holes in the pattern."""
        return tuple(inspect.signature(self.left).parameters)

    @cached_property
    def used(self) -> tuple[str, ...]:
        """The names of the holes that the result uses."""
        return tuple(inspect.signature(self.right).parameters)

    @cached_property
    def pattern(self) -> Node:
        """The left side as a graph over holes; they are scalars of the kind's sample type, which matches any type."""
        types = [TensorType(bool_ if name in CONDITIONS else self.kind.sample, ()) for name in self.holes]
        return self.left(*(hole(n, t) for n, t in enumerate(types)))  # type: ignore[no-any-return]  # lambdas

    def rule(self) -> Rule:
        """The row as a rule for the driver."""
        return Rule(self.name, f"{self.kind.name}: {self.name}", (self.pattern.op.name,), self.apply)

    def apply(self, node: Node) -> Node | None:
        """What `node` is equal to, by this row."""
        found: dict[str, Node] = {}
        if not _match(self.pattern, node, found, self.holes):
            return None
        if not all(self.kind.holds(x.dtype) for name, x in found.items() if name not in CONDITIONS):
            return None
        result = self.right(**{name: found[name] for name in self.used})
        return result if isinstance(result, Node) else number(result, node.type)


def _match(pattern: Node, node: Node, found: dict[str, Node], names: tuple[str, ...]) -> bool:
    """Whether the node has the pattern's form; puts into `found` what stands in its holes."""
    if pattern.op.name == "Hole":
        return _fill(names[pattern.attrs["number"]], node, found)
    if pattern.op.name == "Const":
        return _same_number(pattern, node)
    if pattern.op is not node.op:
        return False
    orders = [node.inputs, node.inputs[::-1]] if node.op.name in COMMUTATIVE else [node.inputs]
    for inputs in orders:
        trial = dict(found)
        if all(_match(p, x, trial, names) for p, x in zip(pattern.inputs, inputs, strict=True)):
            found.update(trial)
            return True
    return False


def _fill(name: str, node: Node, found: dict[str, Node]) -> bool:
    if name in CONSTANTS and constant_splat(node) is None:
        return False
    if name in CONDITIONS and not node.dtype.is_bool:
        return False
    return found.setdefault(name, node) is node


def _same_number(pattern: Node, node: Node) -> bool:
    value = constant_splat(node)
    if value is None or node.dtype.is_bool != pattern.dtype.is_bool:
        return False
    expected, actual = pattern.attrs["value"].value.item(), value.item()
    return bool(expected == actual and math.copysign(1, expected) == math.copysign(1, actual))


def true(c: Node) -> Node:
    """The constant True beside c."""
    return constant_like(True, c)


def false(c: Node) -> Node:
    """The constant False beside c."""
    return constant_like(False, c)


def _row(name: str, kind: Kind, left: Callable[..., Any], right: Callable[..., Any]) -> Algebra:
    return Algebra(name, kind, left, right)


# fmt: off
ALGEBRA = (
    # addition, multiplication
    _row("x - 0",          NUMBER, lambda x: x - 0,                        lambda x: x),
    _row("x + 0",          INT,    lambda x: x + 0,                        lambda x: x),
    _row("x + -0.0",       FLOAT,  lambda x: x + -0.0,                     lambda x: x),
    _row("x - x",          INT,    lambda x: x - x,                        lambda x: 0),
    _row("x + -y",         NUMBER, lambda x, y: x + (-y),                  lambda x, y: x - y),
    _row("x - -y",         NUMBER, lambda x, y: x - (-y),                  lambda x, y: x + y),
    _row("(x + a) + b",    INT,    lambda x, a, b: (x + a) + b,            lambda x, a, b: x + (a + b)),
    _row("(x + a) - b",    INT,    lambda x, a, b: (x + a) - b,            lambda x, a, b: x + (a - b)),
    _row("(x - a) + b",    INT,    lambda x, a, b: (x - a) + b,            lambda x, a, b: x + (b - a)),
    _row("(x - a) - b",    INT,    lambda x, a, b: (x - a) - b,            lambda x, a, b: x - (a + b)),
    _row("x * 1",          NUMBER, lambda x: x * 1,                        lambda x: x),
    _row("x * 0",          INT,    lambda x: x * 0,                        lambda x: 0),
    _row("x * -1",         SIGNED, lambda x: x * -1,                       lambda x: -x),
    _row("-x * -y",        NUMBER, lambda x, y: -x * -y,                   lambda x, y: x * y),
    _row("(x * a) * b",    INT,    lambda x, a, b: (x * a) * b,            lambda x, a, b: x * (a * b)),
    _row("-(-x)",          NUMBER, lambda x: neg(-x),                      lambda x: x),
    _row("-x * a",         FLOAT,  lambda x, a: -x * a,                    lambda x, a: x * -a),
    # division
    _row("x / 1",          FLOAT,  lambda x: truediv(x, 1),                lambda x: x),
    _row("x / -1",         FLOAT,  lambda x: truediv(x, -1),               lambda x: -x),
    _row("-x / -y",        FLOAT,  lambda x, y: truediv(-x, -y),           lambda x, y: truediv(x, y)),
    _row("-x / a",         FLOAT,  lambda x, a: truediv(-x, a),            lambda x, a: truediv(x, -a)),
    _row("x // 1",         INT,    lambda x: floordiv(x, 1),               lambda x: x),
    _row("x % 1",          INT,    lambda x: mod(x, 1),                    lambda x: 0),
    # powers
    _row("x ** 0",         NUMBER, lambda x: power(x, 0),                  lambda x: 1),
    _row("x ** 1",         NUMBER, lambda x: power(x, 1),                  lambda x: x),
    _row("x ** 2",         NUMBER, lambda x: power(x, 2),                  lambda x: square(x)),
    _row("(-x)²",          NUMBER, lambda x: square(-x),                   lambda x: square(x)),
    _row("|x|²",           NUMBER, lambda x: square(absolute(x)),          lambda x: square(x)),
    _row("(x - 0)²",       NUMBER, lambda x: squared_difference(x, 0),     lambda x: square(x)),
    _row("(0 - x)²",       NUMBER, lambda x: squared_difference(0, x),     lambda x: square(x)),
    # magnitude and rounding
    _row("|-x|",           SIGNED, lambda x: absolute(-x),                 lambda x: absolute(x)),
    _row("||x||",          NUMBER, lambda x: absolute(absolute(x)),        lambda x: absolute(x)),
    _row("|x²|",           FLOAT,  lambda x: absolute(square(x)),          lambda x: square(x)),
    _row("sign of sign",   NUMBER, lambda x: sign(sign(x)),                lambda x: sign(x)),
    _row("relu of relu",   NUMBER, lambda x: relu(relu(x)),                lambda x: relu(x)),
    _row("floor of floor", FLOAT,  lambda x: floor(floor(x)),              lambda x: floor(x)),
    _row("ceil of ceil",   FLOAT,  lambda x: ceil(ceil(x)),                lambda x: ceil(x)),
    _row("rint of rint",   FLOAT,  lambda x: rint(rint(x)),                lambda x: rint(x)),
    _row("max(x, x)",      NUMBER, lambda x: maximum(x, x),                lambda x: x),
    _row("min(x, x)",      NUMBER, lambda x: minimum(x, x),                lambda x: x),
    # comparison: what NaN answers is what it answered
    _row("x == x",         INT,    lambda x: equal(x, x),                  lambda x: True),
    _row("x <= x",         INT,    lambda x: less_equal(x, x),             lambda x: True),
    _row("x >= x",         INT,    lambda x: greater_equal(x, x),          lambda x: True),
    _row("x != x",         INT,    lambda x: not_equal(x, x),              lambda x: False),
    _row("x < x",          NUMBER, lambda x: less(x, x),                   lambda x: False),
    _row("x > x",          NUMBER, lambda x: greater(x, x),                lambda x: False),
    _row("not x == y",     ANY,    lambda x, y: ~equal(x, y),              lambda x, y: not_equal(x, y)),
    _row("not x != y",     ANY,    lambda x, y: ~not_equal(x, y),          lambda x, y: equal(x, y)),
    _row("not x < y",      INT,    lambda x, y: ~less(x, y),               lambda x, y: greater_equal(x, y)),
    _row("not x <= y",     INT,    lambda x, y: ~less_equal(x, y),         lambda x, y: greater(x, y)),
    _row("not x > y",      INT,    lambda x, y: ~greater(x, y),            lambda x, y: less_equal(x, y)),
    _row("not x >= y",     INT,    lambda x, y: ~greater_equal(x, y),      lambda x, y: less(x, y)),
    # logic
    _row("not not c",      BOOL,   lambda c: ~(~c),                        lambda c: c),
    _row("c and True",     BOOL,   lambda c: c & true(c),                  lambda c: c),
    _row("c and False",    BOOL,   lambda c: c & false(c),                 lambda c: False),
    _row("c or False",     BOOL,   lambda c: c | false(c),                 lambda c: c),
    _row("c or True",      BOOL,   lambda c: c | true(c),                  lambda c: True),
    _row("c xor False",    BOOL,   lambda c: c ^ false(c),                 lambda c: c),
    _row("c xor True",     BOOL,   lambda c: c ^ true(c),                  lambda c: ~c),
    _row("c and c",        BOOL,   lambda c: c & c,                        lambda c: c),
    _row("c or c",         BOOL,   lambda c: c | c,                        lambda c: c),
    _row("c xor c",        BOOL,   lambda c: c ^ c,                        lambda c: False),
    _row("c and not c",    BOOL,   lambda c: c & ~c,                       lambda c: False),
    _row("c or not c",     BOOL,   lambda c: c | ~c,                       lambda c: True),
    # choice
    _row("x if True",      ANY,    lambda x, y: select(true(x), x, y),     lambda x: x),
    _row("x if False",     ANY,    lambda x, y: select(false(x), x, y),    lambda y: y),
    _row("x either way",   ANY,    lambda c, x: select(c, x, x),           lambda x: x),
    _row("x if not c",     ANY,    lambda c, x, y: select(~c, x, y),       lambda c, x, y: select(c, y, x)),
    _row("c if c again",   ANY,    lambda c, x, y, z: select(c, select(c, x, y), z), lambda c, x, z: select(c, x, z)),
    _row("else c again",   ANY,    lambda c, x, y, z: select(c, x, select(c, y, z)), lambda c, x, z: select(c, x, z)),
    _row("True if c",      BOOL,   lambda c: select(c, true(c), false(c)), lambda c: c),
    _row("False if c",     BOOL,   lambda c: select(c, false(c), true(c)), lambda c: ~c),
)
# fmt: on
