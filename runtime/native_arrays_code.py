"""The arrays of a native call, in LLVM: whether those that are given fit, and memory for the others.

i1 gf_fits(object, entry)                  what is fed, or given as `out=`, is as the entry of the record says
i1 gf_make_outputs(record)                 arrays for the outputs that nothing was given for
i1 gf_take_outs(call, record, out)         the arrays given as `out=`
void gf_drop_results(record)               give up this call's references to results
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir

from graphflow.runtime import array_layout as layout
from graphflow.runtime import call_record as at
from graphflow.runtime.native_function import BIT, I8, I32, I64, NULL, PTR, VOID, NativeFunction

__all__ = ["bind", "data_of", "emit_arrays", "output_entry"]

CARRAY = layout.C_CONTIGUOUS | layout.ALIGNED | layout.WRITEABLE
NO, YES = BIT(0), BIT(1)


def emit_arrays(module: ir.Module, recycled: int) -> None:
    """All of them; arrays of `recycled` bytes or more live in recycled memory."""
    emit_fits(module)
    emit_new_array(module, recycled)
    emit_make_outputs(module)
    emit_take_out(module)
    emit_drop_results(module)
    emit_take_outs(module)


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
