"""The native functions of a log (run_log.py), in LLVM: `log_code()` has their addresses; whoever calls holds the GIL.

i64 gf_log_begins(ptr log, i64 held)    a run begins; 0 if the log is full, or the thread has no number yet
void gf_log_ends(ptr log, i64 runs)     1: it has ended, its row is written, with the stamps of its launches; 0: it
                                        was stopped, and is forgotten
"""

from __future__ import annotations

import functools
import sys
from typing import TYPE_CHECKING, Any

from llvmlite import ir

from graphflow.compiler.llvm.code import intrinsic
from graphflow.compiler.llvm.load import stored_library
from graphflow.compiler.llvm.stamps import counts_cycles, emit_clock, emit_ticks
from graphflow.compiler.llvm.target import host_target
from graphflow.runtime import call_record as at
from graphflow.runtime.c_api import declare_c_api
from graphflow.runtime.native_function import BIT, I8, I64, PTR, VOID, NativeFunction
from graphflow.runtime.recorded_threads import IDENT, NUMBER, THREAD_WORDS
from graphflow.runtime.run_log import BEGIN, END, FIRST_TICK, LAST_TICK, ROW_HEAD, THREAD

if TYPE_CHECKING:
    from graphflow.compiler.llvm.load import LoadedLibrary

__all__ = ["log_code"]


@functools.cache
def log_code() -> LoadedLibrary:
    """The functions, compiled when somebody records for the first time."""
    declare_c_api()
    code = stored_library("run log", run_log_module, host_target(), sys.hexversion, counts_cycles())
    code.keep_forever()
    return code


def run_log_module() -> ir.Module:
    module = ir.Module("gf_run_log")
    emit_clock(module)
    emit_ticks(module)
    emit_number_of_thread(module)
    emit_begins(module)
    emit_ends(module)
    return module


def row_of(f: NativeFunction, log: Any) -> Any:
    """The row that is written next."""
    number = f.b.urem(f.word(log, at.WRITTEN), f.word(log, at.CAPACITY))
    return f.place(f.word(log, at.ROWS, PTR), f.b.mul(number, f.word(log, at.ROW_WORDS)))


def emit_number_of_thread(module: ir.Module) -> None:
    """`i64 gf_number_of_thread(known)`: the calling thread's, 0 if it has none."""
    f = NativeFunction(module, "gf_number_of_thread", I64, (PTR,))
    known = f.args[0]
    ident = f.api("PyThread_get_thread_ident", I64)
    with f.each(f.word(known, 0)) as index:
        entry = f.place(known, f.b.add(I64(1), f.b.mul(index, I64(THREAD_WORDS))))
        with f.b.if_then(f.same(f.word(entry, IDENT), ident)):
            f.b.ret(f.word(entry, NUMBER))
    f.b.ret(I64(0))


def emit_begins(module: ir.Module) -> None:
    f = NativeFunction(module, "gf_log_begins", I64, (PTR, I64), public=True)
    b, (log, held) = f.b, f.args
    number = b.alloca(I64)
    b.store(f.word(log, at.CALLER), number)
    f.leave_if(f.same(b.sub(f.word(log, at.WRITTEN), f.word(log, at.TAKEN)), f.word(log, at.CAPACITY)), I64(0))
    with b.if_then(f.is_zero(held), likely=True):
        found = f.api("gf_number_of_thread", I64, f.word(log, at.KNOWN, PTR))
        f.leave_if(f.is_zero(found), I64(0))
        b.store(found, number)
    row = row_of(f, log)
    f.store(b.load(number, typ=I64), row, THREAD)
    f.store(f.api("gf_ticks", I64), row, FIRST_TICK)
    f.store(f.api("gf_clock", I64), row, BEGIN)
    b.ret(I64(1))


def emit_ends(module: ir.Module) -> None:
    f = NativeFunction(module, "gf_log_ends", VOID, (PTR, I64), public=True)
    b, (log, runs) = f.b, f.args
    row, size = row_of(f, log), f.word(log, at.STAMP_BYTES)
    f.store(f.api("gf_ticks", I64), row, LAST_TICK)
    f.store(f.api("gf_clock", I64), row, END)
    copy = intrinsic(b.module, "llvm.memcpy.p0.p0.i64", VOID, [PTR, PTR, I64, BIT])
    fill = intrinsic(b.module, "llvm.memset.p0.i64", VOID, [PTR, I8, I64, BIT])
    stamps, rest = f.word(log, at.STAMPS, PTR), f.place(row, ROW_HEAD)
    with f.each(f.word(log, at.WORKERS)) as worker:
        of_worker = b.gep(stamps, (b.mul(worker, f.word(log, at.STRIDE)),), source_etype=I8)
        b.call(copy, [b.gep(rest, (b.mul(worker, size),), source_etype=I8), of_worker, size, BIT(0)])
        b.call(fill, [of_worker, I8(0), size, BIT(0)])
    f.store(b.add(f.word(log, at.WRITTEN), runs), log, at.WRITTEN)
    b.ret_void()
