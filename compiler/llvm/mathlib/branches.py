"""Code for rare arguments, which vectors without such arguments jump over.

y = k.where_rare(huge, usual, lambda: slow(x))       # slow's code runs only if some lane is huge
r = k.repeat(x, lambda r: (too_large(r), step(r)))   # steps while some lane is too large
"""

from collections.abc import Callable

from llvmlite import ir

from graphflow.compiler.llvm.mathlib.arithmetic import Arithmetic
from graphflow.compiler.llvm.mathlib.basis import Value


class Branches(Arithmetic):
    """Jumps and loops. Code goes on in another block after them."""

    def where_rare(self, condition: Value, usual: Value, rare: Callable[[], Value]) -> Value:
        """`usual`, and where the condition holds `rare()`, whose code is jumped over while no lane needs it."""
        b = self.builder
        before = b.block
        with b.if_then(self.any(condition), likely=False):
            chosen = b.select(condition, rare(), usual)
            inside = b.block
        y = b.phi(usual.type)
        y.add_incoming(chosen, inside)
        y.add_incoming(usual, before)
        return y

    def repeat(self, x: Value, step: Callable[[Value], tuple[Value, Value]]) -> Value:
        """x after `step`, which says where it is not done and what x is there then, until it is done in every lane."""
        b = self.builder
        before, body, after = b.block, b.append_basic_block("repeat"), b.append_basic_block("done")
        b.branch(body)
        b.position_at_end(body)
        current = b.phi(x.type)
        going_on, following = step(current)
        following = b.select(going_on, following, current)
        current.add_incoming(x, before)
        current.add_incoming(following, b.block)
        b.cbranch(self.any(going_on), body, after)
        b.position_at_end(after)
        return following

    def any(self, condition: Value) -> Value:
        """One i1: whether a condition holds in some lane."""
        if self.lanes(condition) == 1:
            return condition
        bits = self.builder.bitcast(condition, ir.IntType(self.lanes(condition)))
        return self.builder.icmp_unsigned("!=", bits, ir.Constant(bits.type, 0))
