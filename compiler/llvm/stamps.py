"""When launches ran: a step that is emitted `timed` writes down the first and the last moment of each.

    scratch of worker 0:  [what kernels need][begin, end of launch 0][begin, end of launch 1] ...
    scratch of worker 1:  [the same]         [...]

Moments are nanoseconds of CLOCK_MONOTONIC, 0 where a worker had no part in a launch.  Each worker writes to its own
scratch, so nothing is shared; whoever runs the step clears the stamps before and reads them after.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from llvmlite import ir

from graphflow.compiler.llvm.contract_ir import I32, I64, PTR, at, const

__all__ = ["STAMP_WORDS", "Stamps", "can_stamp"]

STAMP_WORDS = 2
CLOCK = "gf_clock"


def can_stamp() -> bool:
    """Whether this system has the clock that stamps are of."""
    return hasattr(time, "CLOCK_MONOTONIC")


class Stamps:
    """Writes the code that notes when launches begin and end; `offset` is where stamps start in a worker's scratch."""

    def __init__(self, module: ir.Module, offset: int) -> None:
        self.offset = offset
        self.clock = _clock(module)

    @contextmanager
    def around(self, b: ir.IRBuilder, scratch: Any, number: int) -> Iterator[None]:
        """The block emits a launch, or some of its units: more of them later move its end only."""
        begin = at(b, scratch, const(self.offset + 8 * STAMP_WORDS * number), ir.IntType(8))
        with b.if_then(b.icmp_signed("==", b.load(begin, typ=I64), const(0))):
            b.store(b.call(self.clock, []), begin)
        yield
        b.store(b.call(self.clock, []), at(b, begin, const(1), I64))


def _clock(module: ir.Module) -> ir.Function:
    """`i64 gf_clock()`: the nanoseconds now."""
    function = ir.Function(module, ir.FunctionType(I64, []), CLOCK)
    function.linkage = "internal"
    get = ir.Function(module, ir.FunctionType(I32, [I32, PTR]), "clock_gettime")
    b = ir.IRBuilder(function.append_basic_block("entry"))
    timespec = b.alloca(I64, 2)
    b.call(get, [I32(time.CLOCK_MONOTONIC), timespec])
    seconds, rest = b.load(timespec, typ=I64), b.load(at(b, timespec, const(1), I64), typ=I64)
    b.ret(b.add(b.mul(seconds, const(1_000_000_000)), rest))
    return function
