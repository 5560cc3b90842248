"""How a step that runs without the GIL comes to hear of Ctrl-C and of its deadline: `gf_look`, and `run_limited`.

CPython's signal handler notes a signal and leaves the rest to the main thread, which may be inside a step.  There it
comes by `gf_look` every `LOOK_EVERY` nanoseconds, takes the GIL back for a moment and asks for a SIGINT, and for that
only: no handler runs inside a step, where locks are held and variables are half written.  If there is one, it is noted
again, the step stops, all locks are given up, and the handler runs where any Python code would; one that does not raise
lets the step start over.  Other signals have their handlers run when the step is done.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir

from graphflow.compiler.llvm import limits as of
from graphflow.runtime import call_record as at
from graphflow.runtime.native_function import I32, I64, PTR, VOID, NativeFunction

__all__ = ["emit_look", "run_limited"]

LOOK_EVERY = 50_000_000


def emit_look(module: ir.Module) -> None:
    """`void gf_look(limits, i64 now)`: set STOP or NEXT_LOOK."""
    f = NativeFunction(module, "gf_look", VOID, (PTR, I64), public=True)
    b, (limits, now) = f.b, f.args
    deadline = f.word(limits, of.DEADLINE)
    with b.if_then(b.icmp_signed(">=", now, deadline), likely=False):
        f.store(of.LATE, limits, of.STOP)
        b.ret_void()
    first = f.is_zero(f.word(limits, of.NEXT_LOOK))
    soon = b.add(now, I64(LOOK_EVERY))
    f.store(b.select(b.icmp_signed("<", soon, deadline), soon, deadline), limits, of.NEXT_LOOK)
    with b.if_then(b.not_(first)):
        f.api("PyEval_RestoreThread", VOID, f.word(limits, of.STATE, PTR))
        with b.if_then(b.not_(f.is_zero(f.api("PyOS_InterruptOccurred", I32))), likely=False):
            f.api("PyErr_SetInterrupt", VOID)  # asking has taken it away
            f.store(of.INTERRUPTED, limits, of.STOP)
        f.api("PyEval_SaveThread", PTR)
    b.ret_void()


def run_limited(f: NativeFunction, record: Any, step: Any, arguments: Any) -> Any:
    """Run a step without the GIL; its status."""
    b, limits = f.b, f.word(record, at.LIMITS, PTR)
    stops = b.not_(f.is_zero(f.word(record, at.STOPS)))
    f.store(0, limits, of.STOP)
    f.store(b.select(stops, I64(0), I64(of.NEVER)), limits, of.NEXT_LOOK)
    thread = f.api("PyEval_SaveThread", PTR)
    f.store(thread, limits, of.STATE)
    status = b.call(step, arguments)
    f.api("PyEval_RestoreThread", VOID, thread)
    return status
