"""Native functions that say who may use what: variables (`variable_lock.py`) and records (`bound.py`).

    object gf_ask(store, hold)      1 if the hold may have the variables now, 0 if it waits for them from now on
    object gf_enter(store, hold)    the same, and it has them if it may
    object gf_claim(record, hold)   1 if the record was free and is now the hold's
    object gf_leave(store, hold)    gives up whatever the hold has, and wakes one of those who wait

Taking something and noting in the hold that it was taken is one action, which no signal can part: whoever leaves in a
`finally` leaves nothing behind, wherever Ctrl-C may have struck.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir

from graphflow.runtime import array_layout as layout
from graphflow.runtime import call_record as at
from graphflow.runtime.native_function import BIT, I32, I64, NULL, PTR, VOID, NativeFunction

__all__ = ["call_with_one", "emit_commit", "emit_holds", "emit_store_leave", "enter", "may_enter"]


def may_enter(f: NativeFunction, store: Any, updates: Any) -> Any:
    """One step that updates variables, or any number that read them."""
    b, users = f.b, f.word(store, at.USERS)
    shared = b.and_(b.not_(updates), b.icmp_signed(">", users, I64(0)))
    return b.or_(f.is_zero(users), shared)


def enter(f: NativeFunction, store: Any, updates: Any, aside: Any) -> None:
    how = f.b.select(aside, I64(at.UPDATING_ASIDE), I64(at.UPDATING))
    f.store(f.b.select(updates, how, f.b.add(f.word(store, at.USERS), I64(1))), store, at.USERS)


def call_with_one(f: NativeFunction, function: Any, argument: Any) -> Any:
    """Call a Python function; null, with an exception, if it raises."""
    with f.b.goto_entry_block():
        arguments = f.b.alloca(PTR)
    f.b.store(argument, arguments)
    return f.api("PyObject_Vectorcall", PTR, function, arguments, I64(1), NULL)


def emit_store_leave(module: ir.Module) -> None:
    """`void gf_wake(store)`, `void gf_store_leave(store)`: no longer a user; wakes one of those who wait. With no
    exception set."""
    f = NativeFunction(module, "gf_wake", VOID, (PTR,))
    b, store = f.b, f.args[0]
    with b.if_then(b.not_(f.is_zero(f.word(store, at.WAITERS))), likely=False):
        wake = f.word(store, at.WAKE, PTR)
        result = call_with_one(f, wake, f.known("gf_none"))
        failed = f.is_zero(result)
        with b.if_else(failed, likely=False) as (then, otherwise):
            with then:
                f.api("PyErr_WriteUnraisable", VOID, wake)
            with otherwise:
                f.api("Py_DecRef", VOID, result)
    b.ret_void()
    f = NativeFunction(module, "gf_store_leave", VOID, (PTR,))
    b, store = f.b, f.args[0]
    users = f.word(store, at.USERS)
    f.store(b.select(b.icmp_signed("<=", users, I64(0)), I64(0), b.sub(users, I64(1))), store, at.USERS)
    f.api("gf_wake", VOID, store)
    b.ret_void()


def emit_commit(module: ir.Module) -> None:
    """`i1 gf_commit(record)`: the new arrays of a record become its variables' values. False if memory is lacking.

    The version changes first: what is bound to the old arrays is not used again, whatever happens.
    """
    f = NativeFunction(module, "gf_commit", BIT, (PTR,))
    b, (record,) = f.b, f.args
    new = f.word(record, at.NEW, PTR)
    f.leave_if(f.is_zero(new), BIT(1))
    store = f.word(record, at.STORE, PTR)
    version = b.add(f.word(store, at.STORE_VERSION), I64(1))
    f.store(version, store, at.STORE_VERSION)
    with b.if_then(f.is_zero(f.word(record, at.STOPS))):  # what is new is where the step reads the old, too
        f.store(version, record, at.VERSION)
    f.store(0, record, at.NEW)
    done = f.api("PyDict_Update", I32, f.word(store, at.VALUES, PTR), new)
    with b.if_then(b.icmp_signed("<", done, I32(0)), likely=False):
        f.api("PyErr_Clear", VOID)
        b.ret(BIT(0))
    b.ret(BIT(1))


def emit_holds(module: ir.Module) -> None:
    emit_wait_ends(module)
    emit_may_have(module)
    emit_ask_and_enter(module)
    emit_leave_and_claim(module)


def emit_wait_ends(module: ir.Module) -> None:
    """`void gf_wait_ends(store, hold)`: the hold waits no more; whoever waits behind it may be next."""
    f = NativeFunction(module, "gf_wait_ends", VOID, (PTR, PTR))
    b, (store, hold) = f.b, f.args
    f.leave_if_void(f.is_zero(f.word(hold, at.WAITING)))
    f.store(0, hold, at.WAITING)
    f.store(b.sub(f.word(store, at.WAITERS), I64(1)), store, at.WAITERS)
    f.store(b.sub(f.word(store, at.UPDATERS), f.word(hold, at.UPDATES)), store, at.UPDATERS)
    f.api("gf_wake", VOID, store)
    b.ret_void()


def emit_may_have(module: ir.Module) -> None:
    """`i1 gf_may_have(store, hold)`: who comes new waits behind those who do already; who waits to read lets those pass
    who wait to update."""
    f = NativeFunction(module, "gf_may_have", BIT, (PTR, PTR))
    b, (store, hold) = f.b, f.args
    waits = b.not_(f.is_zero(f.word(hold, at.WAITING)))
    updates = b.not_(f.is_zero(f.word(hold, at.UPDATES)))
    in_turn = b.or_(waits, f.is_zero(f.word(store, at.WAITERS)))
    unused, unasked = f.is_zero(f.word(store, at.USERS)), f.is_zero(f.word(store, at.UPDATERS))
    b.ret(b.and_(b.and_(in_turn, b.or_(unused, unasked)), may_enter(f, store, updates)))


def emit_ask_and_enter(module: ir.Module) -> None:
    for name in ("gf_ask", "gf_enter"):
        f = NativeFunction(module, name, PTR, (PTR, PTR), public=True)
        b, store, hold = f.b, f.field(f.args[0], layout.DATA, PTR), f.field(f.args[1], layout.DATA, PTR)
        allowed = f.api("gf_may_have", BIT, store, hold)
        if name == "gf_enter":
            with b.if_then(allowed):
                enter(f, store, b.not_(f.is_zero(f.word(hold, at.UPDATES))), BIT(0))
                f.store(1, hold, at.USING)
                f.api("gf_wait_ends", VOID, store, hold)
        with b.if_then(b.and_(b.not_(allowed), f.is_zero(f.word(hold, at.WAITING)))):
            f.store(1, hold, at.WAITING)
            f.store(b.add(f.word(store, at.WAITERS), I64(1)), store, at.WAITERS)
            f.store(b.add(f.word(store, at.UPDATERS), f.word(hold, at.UPDATES)), store, at.UPDATERS)
        b.ret(f.api("PyLong_FromLongLong", PTR, b.zext(allowed, I64)))


def emit_leave_and_claim(module: ir.Module) -> None:
    f = NativeFunction(module, "gf_leave", PTR, (PTR, PTR), public=True)
    store, hold = f.field(f.args[0], layout.DATA, PTR), f.field(f.args[1], layout.DATA, PTR)
    record = f.word(hold, at.RECORD, PTR)
    with f.b.if_then(f.b.not_(f.is_zero(record))):
        f.store(0, hold, at.RECORD)
        f.store(0, record, at.BUSY)
    f.api("gf_wait_ends", VOID, store, hold)
    with f.b.if_then(f.b.not_(f.is_zero(f.word(hold, at.USING)))):
        f.store(0, hold, at.USING)
        f.api("gf_store_leave", VOID, store)
    f.api("Py_IncRef", VOID, f.known("gf_none"))
    f.b.ret(f.known("gf_none"))
    f = NativeFunction(module, "gf_claim", PTR, (PTR, PTR), public=True)
    record, hold = f.field(f.args[0], layout.DATA, PTR), f.field(f.args[1], layout.DATA, PTR)
    free = f.is_zero(f.word(record, at.BUSY))
    with f.b.if_then(free):
        f.store(1, record, at.BUSY)
        f.store(record, hold, at.RECORD)
    f.b.ret(f.api("PyLong_FromLongLong", PTR, f.b.zext(free, I64)))
