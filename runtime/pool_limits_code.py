"""How a job of the pool keeps to its limits (compiler/llvm/limits.py): looks at the clock.

i64 gf_poll(ptr limits)     why the step has to stop, 0 if it need not
"""

from __future__ import annotations

import time
from typing import Any

from llvmlite import ir

from graphflow.compiler.llvm.limits import LIMIT_WORDS, LOOK, LOOK_NS, NEVER, NEXT_LOOK, STOP, THREADS
from graphflow.compiler.llvm.target import Target
from graphflow.runtime.pool_function import I64, NULL, PTR, VOID, PoolFunction
from graphflow.runtime.threads import MAX_THREADS

__all__ = ["emit_poll", "emit_unlimited", "given_limits", "units_between_looks"]

UNLIMITED = {THREADS: MAX_THREADS, NEXT_LOOK: NEVER}
LOOK_PTR = ir.FunctionType(VOID, (PTR, I64)).as_pointer()


def emit_unlimited(module: ir.Module) -> None:
    """The limits of a job that comes with none."""
    table = ir.GlobalVariable(module, ir.ArrayType(I64, LIMIT_WORDS), "gf_unlimited")
    table.linkage, table.global_constant = "internal", True
    table.initializer = ir.Constant(table.value_type, [UNLIMITED.get(word, 0) for word in range(LIMIT_WORDS)])


def given_limits(code: PoolFunction) -> Any:
    """The limits of a job, or those of one that comes with none."""
    b, (*_, limits) = code.b, code.function.args
    unlimited = ir.FormattedConstant(PTR, code.module.globals["gf_unlimited"].get_reference())
    return b.select(b.icmp_unsigned("!=", limits, NULL), limits, unlimited)


def emit_poll(module: ir.Module, target: Target) -> ir.Function:
    """`i64 gf_poll(limits)`: whether to stop; by the thread that runs the step, from time to time.

    Where there is no clock it never is.
    """
    code = PoolFunction(module, target, "gf_poll", ir.FunctionType(I64, (PTR,)))
    b, (limits,) = code.b, code.function.args
    if not hasattr(time, "CLOCK_MONOTONIC"):
        b.ret(code.limit(limits, STOP))
        return code.function
    timespec = b.alloca(ir.ArrayType(I64, 2))
    due = code.limit(limits, NEXT_LOOK)
    with b.if_then(b.icmp_signed("!=", due, I64(NEVER))):
        now = code.nanoseconds(timespec)
        with b.if_then(b.icmp_signed(">=", now, due), likely=False):
            look = b.inttoptr(code.limit(limits, LOOK), LOOK_PTR)
            b.call(look, (limits, now))
    b.ret(code.limit(limits, STOP))
    return code.function


def units_between_looks(code: PoolFunction) -> Any:
    """How many of a job's units are about LOOK_NS of work, and at least one."""
    b, (_, _, _, units, _, _, work, _, _) = code.b, code.function.args
    known = b.select(b.icmp_signed(">", work, I64(1)), work, I64(1))
    found = b.sdiv(b.mul(units, I64(LOOK_NS)), known)
    return b.select(b.icmp_signed(">", found, I64(1)), found, I64(1))
