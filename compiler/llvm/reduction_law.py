"""The laws of reductions: how each kind starts, and how two partial results become one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from graphflow.compiler.llvm.values import Values
from graphflow.compiler.loops.ir import Condition, Expr
from graphflow.core.dtype import DType, bool_

__all__ = ["Law", "State"]

State = list[Any]
"""Running values: one for a plain reduction, (value, position) for argmax and argmin; each scalar or vector."""


@dataclass(frozen=True)
class Law:
    """How a kind of reduction starts, takes in an element at a position, and joins two partial results."""

    kind: str
    dtype: DType
    result: DType

    @property
    def is_arg(self) -> bool:
        return self.kind.startswith("arg")

    @property
    def number(self) -> float:
        """The element that changes nothing."""
        infinite = self.dtype.is_floating
        lowest = float("-inf") if infinite else 0 if self.dtype is bool_ else int(self.dtype.min)
        highest = float("inf") if infinite else 1 if self.dtype is bool_ else int(self.dtype.max)
        numbers = {
            "sum": 0,
            "any": 0,
            "prod": 1,
            "all": 1,
            "max": lowest,
            "argmax": lowest,
            "min": highest,
            "argmin": highest,
        }
        return numbers[self.kind]

    def conditions(self, body: Expr) -> tuple[Condition, ...]:
        """Those of a guard around all of a body, if an element that does not hold them changes nothing."""
        if body.kind != "guard" or self.is_arg or body.args[1].kind != "const" or body.args[1].data != self.number:
            return ()
        return tuple(body.data)

    def neutral(self, k: Values, like: Any) -> Any:
        """That element as a value."""
        return k.constant(like, self.number)

    def start(self, k: Values, like: Any, at_like: Any) -> State:
        """The state before any element."""
        first = self.neutral(k, like)
        return [first, k.constant(at_like, 0)] if self.is_arg else [first]

    def join(self, k: Values, x: State, y: State) -> State:
        """Two partial results as one; of equal extremes the earlier position wins."""
        if self.is_arg:
            return self._join_arg(k, x, y)
        combine: dict[str, Callable[[Any, Any], Any]] = {
            "sum": k.add,
            "prod": k.mul,
            "max": k.maximum,
            "min": k.minimum,
            "any": k.bit_or,
            "all": k.bit_and,
        }
        return [combine[self.kind](x[0], y[0])]

    def take(self, k: Values, x: State, y: State) -> State:
        """A result with one element more, whose position is later than all before."""
        if not self.is_arg:
            return self.join(k, x, y)
        b, relation = k.builder, ">" if self.kind == "argmax" else "<"
        better = k.compare(relation, y[0], x[0])
        if self.dtype.is_floating:  # NaN beats everything, and stays
            better = b.and_(b.fcmp_unordered(relation, y[0], x[0]), b.fcmp_ordered("ord", x[0], x[0]))
        return [b.select(better, y[0], x[0]), b.select(better, y[1], x[1])]

    def _join_arg(self, k: Values, x: State, y: State) -> State:
        """NaN beats everything, the first NaN all later ones."""
        b = k.builder
        better = k.compare(">" if self.kind == "argmax" else "<", y[0], x[0])
        same = k.compare("==", y[0], x[0])
        if self.dtype.is_floating:
            x_nan, y_nan = k.is_nan(x[0]), k.is_nan(y[0])
            better = b.or_(better, b.and_(y_nan, b.not_(x_nan)))
            same = b.or_(same, b.and_(y_nan, x_nan))
        earlier = b.icmp_signed("<", y[1], x[1])
        takes = b.or_(better, b.and_(same, earlier))
        return [b.select(takes, y[0], x[0]), b.select(takes, y[1], x[1])]
