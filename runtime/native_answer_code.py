"""What a native call answers, in LLVM: `object gf_answer(call, record)`, once the step has run."""

from __future__ import annotations

from llvmlite import ir

from graphflow.runtime import call_record as at
from graphflow.runtime.native_arrays_code import output_entry
from graphflow.runtime.native_function import I32, I64, NULL, PTR, VOID, NativeFunction

__all__ = ["emit_answers"]


def emit_answers(module: ir.Module) -> None:
    """The function, and what it is made of."""
    emit_value(module)
    emit_sequence(module)
    emit_answer(module)


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
