"""The native function behind every callable, in LLVM; `call_record.py` says what is in the tables.

    object gf_call(call, args, count, keyword names)    METH_FASTCALL | METH_KEYWORDS

looks for a record that the arguments fit, makes arrays for the results (native_arrays_code.py), runs the step and puts
the answer together (native_answer_code.py).
What no record accepts goes to the call's FALLBACK, a Python function, with all arguments as they came: it converts
them, compiles, waits for a lock, or raises.  So nothing is decided here that can fail, save for memory.

A step that was stopped for a signal (native_limits_code.py) has its handlers run here, and then goes to FALLBACK too.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir

from graphflow.compiler.llvm.limits import STOPPED
from graphflow.runtime import call_record as at
from graphflow.runtime.native_answer_code import emit_answers
from graphflow.runtime.native_arrays_code import bind, data_of, emit_arrays
from graphflow.runtime.native_function import BIT, I32, I64, NULL, PTR, VOID, NativeFunction
from graphflow.runtime.native_limits_code import emit_look, run_limited
from graphflow.runtime.native_lock_code import (
    call_with_one,
    emit_commit,
    emit_holds,
    emit_store_leave,
    enter,
    may_enter,
)
from graphflow.runtime.native_memory_code import emit_memory

__all__ = ["native_module"]

STEP_PTR = ir.FunctionType(I32, (PTR, PTR, PTR, PTR)).as_pointer()
BEGINS_PTR = ir.FunctionType(I64, (PTR, I64)).as_pointer()
ENDS_PTR = ir.FunctionType(VOID, (PTR, I64)).as_pointer()
NO, YES = BIT(0), BIT(1)


def native_module(recycled: int) -> ir.Module:
    """Arrays of `recycled` bytes or more live in recycled memory."""
    module = ir.Module("gf_native_call")
    emit_memory(module)
    emit_store_leave(module)
    emit_holds(module)
    emit_commit(module)
    emit_look(module)
    emit_arrays(module, recycled)
    emit_accepts_store(module)
    emit_begins(module)
    emit_ends(module)
    emit_accepts(module)
    emit_run_step(module)
    emit_answers(module)
    emit_run(module)
    emit_call(module)
    return module


def emit_accepts_store(module: ir.Module) -> None:
    """`i1 gf_accepts_store(record, held)`: the variables are where the table says, and may be used now."""
    f = NativeFunction(module, "gf_accepts_store", BIT, (PTR, I64))
    b, (record, held) = f.b, f.args
    store = f.word(record, at.STORE, PTR)
    f.leave_if(f.is_zero(store), YES)
    current = f.same(f.word(store, at.STORE_VERSION), f.word(record, at.VERSION))
    with b.if_then(b.not_(f.is_zero(held)), likely=False):
        hold = f.word(record, at.HOLD, PTR)
        good = b.and_(current, f.api("gf_may_have", BIT, store, hold))
        f.store(b.zext(b.not_(good), I64), hold, at.AGAIN)
        b.ret(good)
    f.leave_if(b.not_(current), NO)
    f.leave_if(b.not_(f.is_zero(f.word(store, at.WAITERS))), NO)  # those who wait in Python come first
    f.leave_if(is_aside(f, record), NO)
    b.ret(may_enter(f, store, b.not_(f.is_zero(f.word(record, at.WRITES)))))


def is_aside(f: NativeFunction, record: Any) -> Any:
    """Whether new values of variables go to memory that a call has to make theirs."""
    return f.b.not_(f.is_zero(f.b.and_(f.word(record, at.STOPS), f.word(record, at.WRITES))))


def emit_begins(module: ir.Module) -> None:
    """`i1 gf_begins(record, held)`: the log, if there is one, takes a run now."""
    f = NativeFunction(module, "gf_begins", BIT, (PTR, I64))
    f.function.attributes.add("alwaysinline")  # nearly all records have no log
    b, (record, held) = f.b, f.args
    log = f.word(record, at.LOG, PTR)
    with b.if_then(f.is_zero(log), likely=True):
        b.ret(YES)
    b.ret(b.not_(f.is_zero(b.call(b.inttoptr(f.word(log, at.BEGINS), BEGINS_PTR), [log, held]))))


def emit_ends(module: ir.Module) -> None:
    """`void gf_ends(record, status)`: for the log, if there is one; a step that was stopped is no run."""
    f = NativeFunction(module, "gf_ends", VOID, (PTR, I32))
    f.function.attributes.add("alwaysinline")
    b, (record, status) = f.b, f.args
    log = f.word(record, at.LOG, PTR)
    with b.if_then(b.not_(f.is_zero(log)), likely=False):
        b.call(b.inttoptr(f.word(log, at.ENDS), ENDS_PTR), [log, b.zext(f.same(status, I32(0)), I64)])
    b.ret_void()


def emit_accepts(module: ir.Module) -> None:
    """`i1 gf_accepts(call, record, args, count, out)`: whether a record may serve; then the table is filled."""
    f = NativeFunction(module, "gf_accepts", BIT, (PTR, PTR, PTR, I64, PTR))
    b, (call, record, args, count, out) = f.b, f.args
    held = f.word(call, at.HELD)
    f.leave_if(b.and_(f.is_zero(held), b.not_(f.is_zero(f.word(record, at.BUSY)))), NO)
    f.leave_if(b.not_(f.same(count, f.word(record, at.FEEDS))), NO)
    now = f.word(f.word(record, at.THREADS_NOW, PTR), 0)
    f.leave_if(b.and_(f.is_zero(held), b.not_(f.same(now, f.word(record, at.THREADS)))), NO)
    entries = f.word(record, at.ENTRIES, PTR)
    with f.each(count) as feed:
        array, entry = f.word(args, feed, PTR), f.place(entries, b.mul(feed, I64(at.ENTRY_WORDS)))
        f.leave_if(b.not_(f.api("gf_fits", BIT, array, entry)), NO)
        bind(f, record, entry, data_of(f, array))
    f.leave_if(b.not_(f.api("gf_accepts_store", BIT, record, held)), NO)
    f.leave_if(b.not_(f.api("gf_begins", BIT, record, held)), NO)
    f.leave_if(f.is_zero(out), YES)
    b.ret(f.api("gf_take_outs", BIT, call, record, out))


def emit_run_step(module: ir.Module) -> None:
    """`i32 gf_run_step(record)`: the step's status. Without the GIL if the record says so."""
    f = NativeFunction(module, "gf_run_step", I32, (PTR,))
    b, record = f.b, f.args[0]
    step = b.inttoptr(f.word(record, at.STEP), STEP_PTR)
    arguments = [f.word(record, word, PTR) for word in (at.TABLE, at.DIMS, at.SCRATCH, at.LIMITS)]
    with b.if_then(f.is_zero(f.word(record, at.RELEASE))):
        b.ret(b.call(step, arguments))
    b.ret(run_limited(f, record, step, arguments))


def emit_run(module: ir.Module) -> None:
    """`object gf_run(call, record)`: run a record that has accepted; null, with an exception, if memory is lacking, and
    without one if the step was stopped.

    The variables are given up right after the step, while no exception can be set, and before anything that may run
    Python code of others, handlers of signals too.
    """
    f = NativeFunction(module, "gf_run", PTR, (PTR, PTR))
    b, (call, record) = f.b, f.args
    owner, store = f.word(record, at.OWNER, PTR), f.word(record, at.STORE, PTR)
    held = b.not_(f.is_zero(f.word(call, at.HELD)))
    locks = b.not_(f.is_zero(store))
    f.store(1, record, at.BUSY)
    f.store(b.add(f.word(record, at.RUNS), I64(1)), record, at.RUNS)
    f.api("Py_IncRef", VOID, owner)
    with b.if_then(locks):
        enter(f, store, b.not_(f.is_zero(f.word(record, at.WRITES))), is_aside(f, record))
        with b.if_then(held, likely=False):
            f.api("gf_wait_ends", VOID, store, f.word(record, at.HOLD, PTR))
    made = f.api("gf_make_outputs", BIT, record)
    answer, status, kept = b.alloca(PTR), b.alloca(I32), b.alloca(BIT)
    b.store(NULL, answer)
    b.store(I32(0), status)
    with b.if_else(made, likely=True) as (then, otherwise):
        with then:
            b.store(f.api("gf_run_step", I32, record), status)
            f.api("gf_ends", VOID, record, b.load(status, typ=I32))
        with otherwise:
            f.api("PyErr_Clear", VOID)
    b.store(made, kept)
    finished = b.and_(made, f.same(b.load(status), I32(0)))
    with b.if_then(locks):
        with b.if_then(b.and_(held, finished), likely=False):
            b.store(f.api("gf_commit", BIT, record), kept)
        f.api("gf_store_leave", VOID, store)
    stored = b.load(kept)
    good = b.and_(stored, finished)
    with b.if_else(good, likely=True) as (then, otherwise):
        with then:
            b.store(f.api("gf_answer", PTR, call, record), answer)
        with otherwise, b.if_else(stored) as (failed, lacking):
            with failed, b.if_then(b.not_(f.same(b.load(status), I32(STOPPED)))):
                message = f.text("internal error: the step did not finish")
                f.api("PyErr_SetString", VOID, f.known("gf_runtime_error"), message)
            with lacking:
                f.api("PyErr_NoMemory", PTR)
    f.api("gf_drop_results", VOID, record)
    f.store(b.select(held, I64(1), I64(0)), record, at.BUSY)
    f.api("Py_DecRef", VOID, owner)
    b.ret(b.load(answer, typ=PTR))


def emit_call(module: ir.Module) -> None:
    f = NativeFunction(module, "gf_call", PTR, (PTR, PTR, I64, PTR), public=True)
    b, (self_, args, count, names) = f.b, f.args
    call = data_of(f, self_)
    out, chosen = b.alloca(PTR), b.alloca(PTR)
    b.store(NULL, out)
    search, serve, python = (f.function.append_basic_block(name) for name in ("search", "serve", "python"))
    named, single = f.function.append_basic_block("named"), f.function.append_basic_block("single")
    b.cbranch(f.is_zero(names), search, named)
    b.position_at_end(named)
    b.cbranch(f.same(f.api("PyTuple_Size", I64, names), 1), single, python)
    b.position_at_end(single)
    given = f.word(args, count, PTR)
    nothing = f.same(given, f.known("gf_none"))
    b.store(b.select(nothing, NULL, given), out)
    b.cbranch(f.same(f.api("PyTuple_GetItem", PTR, names, I64(0)), f.known("gf_out")), search, python)
    b.position_at_end(search)
    with f.each(f.word(call, at.COUNT)) as index:
        record = f.word(f.place(call, at.RECORDS), index, PTR)
        accepted = f.api("gf_accepts", BIT, call, record, args, count, b.load(out, typ=PTR))
        with b.if_then(accepted):
            b.store(record, chosen)
            b.branch(serve)
    b.branch(python)
    b.position_at_end(serve)
    answer = f.api("gf_run", PTR, call, b.load(chosen, typ=PTR))
    with b.if_then(f.is_zero(answer), likely=False):
        f.leave_if(b.not_(f.is_zero(f.api("PyErr_Occurred", PTR))), NULL)
        with b.if_then(f.is_zero(f.word(call, at.HELD))):
            f.leave_if(b.not_(f.is_zero(f.api("PyErr_CheckSignals", I32))), NULL)
        b.branch(python)
    incomplete = b.and_(f.same(f.word(call, at.FORM), at.ASSEMBLE), b.not_(f.is_zero(answer)))
    with b.if_then(incomplete):
        whole = call_with_one(f, f.word(call, at.ASSEMBLE_WITH, PTR), answer)
        f.api("Py_DecRef", VOID, answer)
        b.ret(whole)
    b.ret(answer)
    b.position_at_end(python)
    b.ret(f.api("PyObject_Vectorcall", PTR, f.word(call, at.FALLBACK, PTR), args, count, names))
