"""The native function behind every callable, in LLVM; `call_record.py` says what is in the tables.

    object gf_call(call, args, count, keyword names)    METH_FASTCALL | METH_KEYWORDS

looks for a record that the arguments fit, makes arrays for the results, runs the step and puts the answer together.
What no record accepts goes to the call's FALLBACK, a Python function, with all arguments as they came: it converts
them, compiles, waits for a lock, or raises.  So nothing is decided here that can fail, save for memory.

A step that was stopped for a signal (native_limits_code.py) has its handlers run here, and then goes to FALLBACK too.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir

from graphflow.compiler.llvm.limits import STOPPED
from graphflow.runtime import array_layout as layout
from graphflow.runtime import call_record as at
from graphflow.runtime.native_function import BIT, I8, I32, I64, NULL, PTR, VOID, NativeFunction
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

CARRAY = layout.C_CONTIGUOUS | layout.ALIGNED | layout.WRITEABLE
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
    emit_fits(module)
    emit_accepts_store(module)
    emit_begins(module)
    emit_ends(module)
    emit_take_out(module)
    emit_drop_results(module)
    emit_take_outs(module)
    emit_accepts(module)
    emit_new_array(module, recycled)
    emit_make_outputs(module)
    emit_run_step(module)
    emit_value(module)
    emit_sequence(module)
    emit_answer(module)
    emit_run(module)
    emit_call(module)
    return module


def data_of(f: NativeFunction, array: Any) -> Any:
    return f.field(array, layout.DATA, PTR)


def output_entry(f: NativeFunction, record: Any, number: Any) -> Any:
    """The entry of an output: they follow those of the feeds."""
    index = f.b.add(f.word(record, at.FEEDS), number)
    return f.place(f.word(record, at.ENTRIES, PTR), f.b.mul(index, I64(at.ENTRY_WORDS)))


def bind(f: NativeFunction, record: Any, entry: Any, address: Any) -> None:
    """Put the address of an array where the step looks for it."""
    f.store(address, f.word(record, at.TABLE, PTR), f.word(entry, at.SLOT))


def emit_fits(module: ir.Module) -> None:
    """`i1 gf_fits(object, entry)`: an array, or of a subclass, of the entry's dtype, layout and shape."""
    f = NativeFunction(module, "gf_fits", BIT, (PTR, PTR))
    b, (array, entry) = f.b, f.args
    kind = f.field(array, layout.OB_TYPE, PTR)
    ndarray = f.known("gf_ndarray")
    with b.if_then(b.icmp_unsigned("!=", kind, ndarray), likely=False):
        f.leave_if(f.is_zero(f.api("PyType_IsSubtype", I32, kind, ndarray)), NO)
    descr = f.field(array, layout.DESCR, PTR)
    number = b.zext(f.field(descr, layout.TYPE_NUM, I32), I64)
    f.leave_if(b.icmp_unsigned(">=", number, I64(63)), NO)
    allowed = b.trunc(b.lshr(f.word(entry, at.DTYPES), number), BIT)
    foreign = b.icmp_unsigned("==", f.field(descr, layout.BYTEORDER, I8), I8(layout.FOREIGN_BYTEORDER))
    f.leave_if(b.or_(b.not_(allowed), foreign), NO)
    needed, flags = f.word(entry, at.NEEDED), b.zext(f.field(array, layout.FLAGS, I32), I64)
    f.leave_if(b.icmp_unsigned("!=", b.and_(flags, needed), needed), NO)
    rank = b.sext(f.field(array, layout.NDIM, I32), I64)
    f.leave_if(b.icmp_unsigned("!=", rank, f.word(entry, at.RANK)), NO)
    shape, sizes = f.field(array, layout.SHAPE, PTR), f.word(entry, at.SIZES, PTR)
    with f.each(rank) as axis:
        f.leave_if(b.icmp_unsigned("!=", f.word(shape, axis), f.word(sizes, axis)), NO)
    b.ret(YES)


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


def emit_take_out(module: ir.Module) -> None:
    """`i1 gf_take_out(record, number, object)`: take an array of the caller's for an output, if it is apart from all
    feeds and from what was taken before.  The reference is not counted here."""
    f = NativeFunction(module, "gf_take_out", BIT, (PTR, I64, PTR))
    b, (record, number, array) = f.b, f.args
    f.leave_if(b.icmp_signed("<", number, I64(0)), NO)
    results, entry = f.word(record, at.RESULTS, PTR), output_entry(f, record, number)
    f.leave_if(b.not_(f.is_zero(f.word(results, number))), NO)
    f.leave_if(b.not_(f.api("gf_fits", BIT, array, entry)), NO)
    table, entries = f.word(record, at.TABLE, PTR), f.word(record, at.ENTRIES, PTR)
    feeds = f.word(record, at.FEEDS)
    start = b.ptrtoint(data_of(f, array), I64)
    end = b.add(start, f.word(entry, at.BYTES))
    with f.each(b.add(feeds, f.word(record, at.OUTPUTS))) as index:
        other = f.place(entries, b.mul(index, I64(at.ENTRY_WORDS)))
        begin = f.word(table, f.word(other, at.SLOT))
        stop = b.add(begin, f.word(other, at.BYTES))
        meets = b.and_(b.icmp_unsigned("<", start, stop), b.icmp_unsigned("<", begin, end))
        meets = b.and_(meets, b.and_(b.icmp_unsigned("<", start, end), b.icmp_unsigned("<", begin, stop)))
        with b.if_then(meets, likely=False):
            f.leave_if(b.icmp_signed("<", index, feeds), NO)
            f.leave_if(b.not_(f.is_zero(f.word(results, b.sub(index, feeds)))), NO)
    f.store(array, results, number)
    bind(f, record, entry, start)
    b.ret(YES)


def emit_drop_results(module: ir.Module) -> None:
    """`void gf_drop_results(record)`: give up the references to this call's arrays."""
    f = NativeFunction(module, "gf_drop_results", VOID, (PTR,))
    results = f.word(f.args[0], at.RESULTS, PTR)
    with f.each(f.word(f.args[0], at.OUTPUTS)) as number:
        array = f.word(results, number, PTR)
        f.store(NULL, results, number)
        with f.b.if_then(f.b.not_(f.is_zero(array))):
            f.api("Py_DecRef", VOID, array)
    f.b.ret_void()


def emit_take_outs(module: ir.Module) -> None:
    """`i1 gf_take_outs(call, record, out)`: take the arrays given as `out=`, an array or a flat list or tuple."""
    f = NativeFunction(module, "gf_take_outs", BIT, (PTR, PTR, PTR))
    b, (call, record, out) = f.b, f.args
    form, places = f.word(call, at.FORM), f.word(call, at.PLACES, PTR)
    with b.if_then(f.same(form, at.SINGLE)):
        f.leave_if(b.not_(f.api("gf_take_out", BIT, record, f.word(places, 0), out)), NO)
        f.api("Py_IncRef", VOID, out)
        b.ret(YES)
    kind = f.field(out, layout.OB_TYPE, PTR)
    plain = b.or_(f.same(kind, f.known("gf_list")), f.same(kind, f.known("gf_tuple")))
    f.leave_if(b.or_(f.same(form, at.ASSEMBLE), b.not_(plain)), NO)
    count = f.word(call, at.FETCHES)
    f.leave_if(b.not_(f.same(f.api("PySequence_Size", I64, out), count)), NO)
    with f.each(count) as fetch:
        array = f.api("PySequence_GetItem", PTR, out, fetch)
        skipped = f.same(array, f.known("gf_none"))
        taken = f.function.append_basic_block("taken")
        given = f.function.append_basic_block("given")
        refused = f.function.append_basic_block("refused")
        nothing = f.function.append_basic_block("nothing")
        b.cbranch(skipped, nothing, given)
        b.position_at_end(given)
        b.cbranch(f.api("gf_take_out", BIT, record, f.word(places, fetch), array), taken, refused)
        b.position_at_end(refused)
        f.api("Py_DecRef", VOID, array)
        f.api("gf_drop_results", VOID, record)
        b.ret(NO)
        b.position_at_end(nothing)
        f.api("Py_DecRef", VOID, array)
        b.branch(taken)
        b.position_at_end(taken)
    b.ret(YES)


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


def emit_new_array(module: ir.Module, recycled: int) -> None:
    """`object gf_new_array(entry)`: uninitialized; null, with an exception, if there is no memory."""
    f = NativeFunction(module, "gf_new_array", PTR, (PTR,))
    b, entry = f.b, f.args[0]
    descr, size = f.word(entry, at.DESCR, PTR), f.word(entry, at.BYTES)
    rank, sizes = b.trunc(f.word(entry, at.RANK), I32), f.word(entry, at.SIZES, PTR)

    def new(memory: Any, flags: int) -> Any:
        f.api("Py_IncRef", VOID, descr)  # PyArray_NewFromDescr takes one
        ndarray = f.known("gf_ndarray")
        return f.api("PyArray_NewFromDescr", PTR, ndarray, descr, rank, sizes, NULL, memory, I32(flags), NULL)

    with b.if_then(b.icmp_signed("<", size, I64(recycled))):
        b.ret(new(NULL, 0))
    memory = f.api("gf_memory_take", PTR, size)
    with b.if_then(f.is_zero(memory), likely=False):
        b.ret(f.api("PyErr_NoMemory", PTR))
    lease = f.api("PyCapsule_New", PTR, memory, NULL, f.known("gf_memory_end"))
    with b.if_then(f.is_zero(lease), likely=False):
        f.api("gf_memory_give", VOID, memory)
        b.ret(NULL)
    array = new(memory, CARRAY)
    with b.if_then(f.is_zero(array), likely=False):
        f.api("Py_DecRef", VOID, lease)
        b.ret(NULL)
    failed = b.icmp_signed("<", f.api("PyArray_SetBaseObject", I32, array, lease), I32(0))
    with b.if_then(failed, likely=False):
        f.api("Py_DecRef", VOID, array)
        b.ret(NULL)
    b.ret(array)


def emit_make_outputs(module: ir.Module) -> None:
    """`i1 gf_make_outputs(record)`: memory for every output that the caller gave none for; false if there is none."""
    f = NativeFunction(module, "gf_make_outputs", BIT, (PTR,))
    b, record = f.b, f.args[0]
    results = f.word(record, at.RESULTS, PTR)
    with f.each(f.word(record, at.OUTPUTS)) as number, b.if_then(f.is_zero(f.word(results, number))):
        entry = output_entry(f, record, number)
        scalar = f.is_zero(f.word(entry, at.RANK))
        with b.if_else(scalar) as (then, otherwise):
            with then:
                bind(f, record, entry, f.word(entry, at.CELL))
            with otherwise:
                array = f.api("gf_new_array", PTR, entry)
                f.leave_if(f.is_zero(array), NO)
                f.store(array, results, number)
                bind(f, record, entry, data_of(f, array))
    b.ret(YES)


def emit_run_step(module: ir.Module) -> None:
    """`i32 gf_run_step(record)`: the step's status. Without the GIL if the record says so."""
    f = NativeFunction(module, "gf_run_step", I32, (PTR,))
    b, record = f.b, f.args[0]
    step = b.inttoptr(f.word(record, at.STEP), STEP_PTR)
    arguments = [f.word(record, word, PTR) for word in (at.TABLE, at.DIMS, at.SCRATCH, at.LIMITS)]
    with b.if_then(f.is_zero(f.word(record, at.RELEASE))):
        b.ret(b.call(step, arguments))
    b.ret(run_limited(f, record, step, arguments))


def emit_value(module: ir.Module) -> None:
    """`object gf_value(record, place)`: a new reference to what a fetch gets; null, with an exception, on failure."""
    f = NativeFunction(module, "gf_value", PTR, (PTR, I64))
    b, (record, place) = f.b, f.args
    with b.if_then(b.icmp_signed("<", place, I64(0))):
        f.api("Py_IncRef", VOID, f.known("gf_none"))
        b.ret(f.known("gf_none"))
    array = f.word(f.word(record, at.RESULTS, PTR), place, PTR)
    with b.if_then(f.is_zero(array)):
        entry = output_entry(f, record, place)
        b.ret(f.api("PyArray_Scalar", PTR, f.word(entry, at.CELL, PTR), f.word(entry, at.DESCR, PTR), NULL))
    f.api("Py_IncRef", VOID, array)
    b.ret(array)


def emit_sequence(module: ir.Module) -> None:
    """`object gf_list_of(call, record)`, `object gf_tuple_of(call, record)`: of all fetches."""
    for kind in ("List", "Tuple"):
        f = NativeFunction(module, f"gf_{kind.lower()}_of", PTR, (PTR, PTR))
        b, (call, record) = f.b, f.args
        count, places = f.word(call, at.FETCHES), f.word(call, at.PLACES, PTR)
        sequence = f.api(f"Py{kind}_New", PTR, count)
        f.leave_if(f.is_zero(sequence), NULL)
        with f.each(count) as fetch:
            value = f.api("gf_value", PTR, record, f.word(places, fetch))
            with b.if_then(f.is_zero(value), likely=False):
                f.api("Py_DecRef", VOID, sequence)
                b.ret(NULL)
            f.api(f"Py{kind}_SetItem", I32, sequence, fetch, value)  # takes the reference
        b.ret(sequence)


def emit_answer(module: ir.Module) -> None:
    """`object gf_answer(call, record)`: the fetches as an object, a list or a tuple."""
    f = NativeFunction(module, "gf_answer", PTR, (PTR, PTR))
    b, (call, record) = f.b, f.args
    form = f.word(call, at.FORM)
    with b.if_then(f.same(form, at.SINGLE)):
        b.ret(f.api("gf_value", PTR, record, f.word(f.word(call, at.PLACES, PTR), 0)))
    with b.if_then(f.same(form, at.LIST)):
        b.ret(f.api("gf_list_of", PTR, call, record))
    b.ret(f.api("gf_tuple_of", PTR, call, record))


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
