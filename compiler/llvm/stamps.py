"""When launches ran: a step that is emitted `timed` writes down the first and the last moment of each.

    scratch of worker 0:  [what kernels need][begin, end of launch 0][of launch 1] ... [of the first shared job] ...
    scratch of worker 1:  [the same]         [...]

Moments are ticks, 0 where a worker had no part in a launch.  Behind launches come the jobs that were handed to the
thread pool, from there until all threads have done their part, which only worker 0 writes down.  Each worker writes to
its own scratch, so nothing is shared; whoever runs the step clears the stamps before or after.

A tick is one of the processor's counter where Linux trusts that to be the same on all cores, which costs a third of
asking for the time; elsewhere it is a nanosecond of CLOCK_MONOTONIC.  Who needs the time reads both once a run.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

from llvmlite import ir

from graphflow.compiler.llvm.code import I32, I64, PTR, at, const

__all__ = ["STAMP_WORDS", "TICKS", "Stamps", "Untimed", "can_stamp", "counts_cycles", "emit_clock", "emit_ticks"]

STAMP_WORDS = 2
CLOCK, TICKS = "gf_clock", "gf_ticks"
CLOCK_SOURCE = Path("/sys/devices/system/clocksource/clocksource0/current_clocksource")


def can_stamp() -> bool:
    """Whether this system has the clock that stamps are of."""
    return hasattr(time, "CLOCK_MONOTONIC")


@functools.cache
def counts_cycles() -> bool:
    """Whether ticks are those of an x86 processor's counter: Linux then takes its own time from that."""
    try:
        return CLOCK_SOURCE.read_text().strip() == "tsc"
    except OSError:
        return False


class Untimed:
    """Of a step that writes nothing down; what `Stamps` has, doing nothing."""

    is_timed = False

    def start(self, b: ir.IRBuilder) -> None:
        """The first launch comes next."""

    def part(self, b: ir.IRBuilder, scratch: Any, number: int) -> AbstractContextManager[None]:
        """The block emits some units of a launch, on any thread."""
        return nullcontext()

    def whole(self, b: ir.IRBuilder, scratch: Any, number: int) -> AbstractContextManager[None]:
        """The block emits a launch, or a job, on the thread that runs the step."""
        return nullcontext()


class Stamps(Untimed):
    """Writes the code that notes when launches begin and end; `offset` is where stamps start in a worker's scratch."""

    is_timed = True

    def __init__(self, module: ir.Module, offset: int) -> None:
        self.offset = offset
        self.ticks = emit_ticks(module)
        self.moment: Any = None  # a variable of the step: when what runs on its own thread has come so far

    def start(self, b: ir.IRBuilder) -> None:
        with b.goto_entry_block():
            self.moment = b.alloca(I64)
        b.store(b.call(self.ticks, []), self.moment)

    @contextmanager
    def part(self, b: ir.IRBuilder, scratch: Any, number: int) -> Iterator[None]:
        begin = self._place(b, scratch, number)
        with b.if_then(b.icmp_signed("==", b.load(begin, typ=I64), const(0))):
            b.store(b.call(self.ticks, []), begin)
        yield
        b.store(b.call(self.ticks, []), at(b, begin, const(1), I64))  # more units move the end only

    @contextmanager
    def whole(self, b: ir.IRBuilder, scratch: Any, number: int) -> Iterator[None]:
        # It begins when the one before it ended: of short launches a second look at the clock would take a part.
        begin = self._place(b, scratch, number)
        b.store(b.load(self.moment, typ=I64), begin)
        yield
        end = b.call(self.ticks, [])
        b.store(end, at(b, begin, const(1), I64))
        b.store(end, self.moment)

    def _place(self, b: ir.IRBuilder, scratch: Any, number: int) -> Any:
        return at(b, scratch, const(self.offset + 8 * STAMP_WORDS * number), ir.IntType(8))


def emit_ticks(module: ir.Module) -> ir.Function:
    """`i64 gf_ticks()`: how many there were up to now."""
    if not counts_cycles():
        return emit_clock(module, TICKS)
    function = ir.Function(module, ir.FunctionType(I64, []), TICKS)
    b = ir.IRBuilder(function.append_basic_block("entry"))
    b.ret(b.call(ir.Function(module, ir.FunctionType(I64, []), "llvm.readcyclecounter"), []))
    return function


def emit_clock(module: ir.Module, name: str = CLOCK) -> ir.Function:
    """`i64 gf_clock()`: the nanoseconds of CLOCK_MONOTONIC now."""
    get = module.globals.get("clock_gettime")
    if get is None:
        get = ir.Function(module, ir.FunctionType(I32, [I32, PTR]), "clock_gettime")
    function = ir.Function(module, ir.FunctionType(I64, []), name)
    b = ir.IRBuilder(function.append_basic_block("entry"))
    timespec = b.alloca(I64, 2)
    b.call(get, [I32(time.CLOCK_MONOTONIC), timespec])
    seconds, rest = b.load(timespec, typ=I64), b.load(at(b, timespec, const(1), I64), typ=I64)
    b.ret(b.add(b.mul(seconds, const(1_000_000_000)), rest))
    return function
