"""Recycled memory for large arrays, in LLVM: what a freed output leaves, the next one of its size gets.

    ptr gf_memory_take(i64 bytes)      aligned to 64 bytes; null if there is none
    void gf_memory_give(ptr memory)    to whoever asks next, if idle memory stays below the limit
    void gf_memory_end(ptr capsule)    a capsule's destructor: gives the memory that it points to
    i64 gf_memory_trim()               idle memory goes back to the system; how many bytes

Blocks of `HUGE` bytes or more ask Linux for huge pages, as arrays of NumPy do, to be touched with fewer page faults.

Idle blocks are kept in `BUCKETS` lists by a hash of their size.  When there are more bytes than `gf_memory_limit` all
of them go: they are of sizes that nobody asks for any more.  Before a block's 64-aligned memory stand its header's
words.  Whoever calls holds the GIL, destructors too, so there is no lock.
"""

from __future__ import annotations

import sys
from typing import Any

from llvmlite import ir

from graphflow.runtime.native_function import I32, I64, NULL, PTR, VOID, NativeFunction

__all__ = ["emit_memory"]

ALIGNMENT = 64
BUCKETS = 64
RAW, BYTES, NEXT = -8, -7, -6  # a block's header, in words before its memory
HUGE = 1 << 22
PAGE = 1 << 12
MADV_HUGEPAGE = 14
GOLDEN = 0x9E3779B97F4A7C15  # 2^64 over the golden ratio: a multiplicative hash (Knuth)


def emit_memory(module: ir.Module) -> None:
    """Define the four functions, `gf_memory_idle` (bytes) and `gf_memory_limit`, which is 0 until somebody sets it."""
    for name in ("gf_memory_idle", "gf_memory_limit"):
        counter = ir.GlobalVariable(module, I64, name)
        counter.initializer = I64(0)
    buckets = ir.GlobalVariable(module, ir.ArrayType(PTR, BUCKETS), "gf_memory_buckets")
    buckets.initializer = ir.Constant(buckets.value_type, None)
    buckets.linkage = "internal"
    emit_take(module)
    emit_trim(module)
    emit_give(module)
    emit_end(module)


def bucket_of(f: NativeFunction, size: Any) -> Any:
    """Where the first block of the list for a size stands."""
    number = f.b.lshr(f.b.mul(size, I64(GOLDEN)), I64(58))
    return f.place(f.known("gf_memory_buckets"), number)


def change_idle(f: NativeFunction, by: Any) -> None:
    """Count idle bytes."""
    counter = f.module.globals["gf_memory_idle"]
    f.b.store(f.b.add(f.b.load(counter), by), counter)


def emit_take(module: ir.Module) -> None:
    f = NativeFunction(module, "gf_memory_take", PTR, (I64,), public=True)
    b, size = f.b, f.args[0]
    link = b.alloca(PTR)  # the address of the pointer to the block that is looked at
    b.store(bucket_of(f, size), link)
    look, check, found, further, fresh = (
        f.function.append_basic_block(name) for name in ("look", "check", "found", "further", "fresh")
    )
    b.branch(look)
    b.position_at_end(look)
    before = b.load(link, typ=PTR)
    block = b.load(before, typ=PTR)
    b.cbranch(f.is_zero(block), fresh, check)
    b.position_at_end(check)
    b.cbranch(f.same(f.word(block, BYTES), size), found, further)
    b.position_at_end(further)
    b.store(f.place(block, NEXT), link)
    b.branch(look)
    b.position_at_end(found)
    b.store(f.word(block, NEXT, PTR), before)
    change_idle(f, b.neg(size))
    b.ret(block)
    b.position_at_end(fresh)
    raw = f.api("PyMem_RawMalloc", PTR, b.add(size, I64(2 * ALIGNMENT)))
    f.leave_if(f.is_zero(raw), NULL)
    start = b.and_(b.add(b.ptrtoint(raw, I64), I64(2 * ALIGNMENT - 1)), I64(-ALIGNMENT))
    if sys.platform == "linux":
        with b.if_then(b.icmp_signed(">=", size, I64(HUGE)), likely=False):
            first = b.and_(start, I64(-PAGE))
            length = b.and_(b.sub(b.add(start, size), first), I64(-PAGE))
            f.api("madvise", I32, b.inttoptr(first, PTR), length, I32(MADV_HUGEPAGE))  # refused, nothing is lost
    memory = b.inttoptr(start, PTR)
    f.store(raw, memory, RAW)
    f.store(size, memory, BYTES)
    b.ret(memory)


def emit_give(module: ir.Module) -> None:
    f = NativeFunction(module, "gf_memory_give", VOID, (PTR,), public=True)
    b, memory = f.b, f.args[0]
    size = f.word(memory, BYTES)
    limit = b.load(module.globals["gf_memory_limit"])
    idle = b.add(b.load(module.globals["gf_memory_idle"]), size)
    with b.if_then(b.icmp_signed(">", idle, limit), likely=False):
        f.api("gf_memory_trim", I64)
    with b.if_then(b.icmp_signed(">", size, limit), likely=False):
        f.api("PyMem_RawFree", VOID, f.word(memory, RAW, PTR))
        b.ret_void()
    bucket = bucket_of(f, size)
    f.store(b.load(bucket, typ=PTR), memory, NEXT)
    b.store(memory, bucket)
    change_idle(f, size)
    b.ret_void()


def emit_end(module: ir.Module) -> None:
    f = NativeFunction(module, "gf_memory_end", VOID, (PTR,), public=True)
    f.api("gf_memory_give", VOID, f.api("PyCapsule_GetPointer", PTR, f.args[0], NULL))
    f.b.ret_void()


def emit_trim(module: ir.Module) -> None:
    f = NativeFunction(module, "gf_memory_trim", I64, (), public=True)
    b = f.b
    idle = b.load(module.globals["gf_memory_idle"])
    with f.each(I64(BUCKETS)) as number:
        bucket = f.place(f.known("gf_memory_buckets"), number)
        free, done = (f.function.append_basic_block(name) for name in ("free", "done"))
        block = b.load(bucket, typ=PTR)
        b.cbranch(f.is_zero(block), done, free)
        b.position_at_end(free)
        one = b.load(bucket, typ=PTR)
        following = f.word(one, NEXT, PTR)
        b.store(following, bucket)
        f.api("PyMem_RawFree", VOID, f.word(one, RAW, PTR))
        b.cbranch(f.is_zero(following), done, free)
        b.position_at_end(done)
    b.store(I64(0), module.globals["gf_memory_idle"])
    b.ret(idle)
