"""The pool's workers: `gf_worker` is a thread from its start to its end, and `gf_start_workers` makes them.

What they do within a job is `gf_drain` (pool_units_code.py); thread_pool_code.py says why it is right.
"""

from __future__ import annotations

from llvmlite import ir

from graphflow.compiler.llvm.float_mode import emit_flush_denormals
from graphflow.compiler.llvm.target import Target
from graphflow.runtime.pool_function import (
    FUTEX_WAIT_PRIVATE,
    I32,
    I64,
    INSIDE,
    NULL,
    PTR,
    VOID,
    PoolFunction,
)

__all__ = ["emit_start_workers", "emit_worker"]

SPIN_NANOSECONDS = 30_000  # about what parking and waking cost together
STACK_BYTES = 4 << 20
SIG_BLOCK, SIG_SETMASK = 0, 2
PTHREAD_CREATE_DETACHED = 1


def emit_worker(module: ir.Module, target: Target, drain: ir.Function) -> ir.Function:
    """`gf_worker(w)`, a thread's body: poll, work or park, until the pool has shrunk below w."""
    code = PoolFunction(module, target, "gf_worker", ir.FunctionType(PTR, (PTR,)), linkage="internal")
    b = code.b
    worker = b.ptrtoint(code.function.args[0], I64)
    timespec, last, deadline = b.alloca(ir.ArrayType(I64, 2)), b.alloca(I64), b.alloca(I64)
    b.store(I64(0), last)
    emit_flush_denormals(b, target)
    start, poll, enter, inside, work, leave, idle, late, park, listen, wait, rise, end = code.blocks(
        "start", "poll", "enter", "inside", "work", "leave", "idle", "late", "park", "listen", "wait", "rise", "end"
    )
    b.branch(start)

    b.position_at_end(start)
    b.store(b.add(code.nanoseconds(timespec), I64(SPIN_NANOSECONDS)), deadline)
    b.cbranch(b.icmp_signed(">=", worker, code.read("wanted")), end, poll)

    b.position_at_end(poll)
    gate = code.read("gate")
    b.cbranch(code.joinable(gate, b.load(last)), enter, idle)

    b.position_at_end(enter)
    b.cbranch(code.swap_if("gate", gate, b.add(gate, I64(1))), inside, poll)

    # The pool may have shrunk since this worker looked: the job's scratch has room for the job's own threads only.
    b.position_at_end(inside)
    b.store(b.and_(gate, I64(~INSIDE)), last)
    b.cbranch(b.icmp_signed("<", worker, b.load(code.word("threads"))), work, leave)

    b.position_at_end(work)
    b.call(drain, (worker,))
    b.branch(leave)

    b.position_at_end(leave)
    code.add("gate", I64(-1), "release")
    b.branch(start)

    b.position_at_end(idle)
    for _ in range(4):
        code.pause()
    b.branch(late)

    b.position_at_end(late)
    b.cbranch(b.icmp_signed("<", code.nanoseconds(timespec), b.load(deadline)), poll, park)

    b.position_at_end(park)
    code.add("sleepers", I64(1))
    bell = code.read("bell", "seq_cst")
    b.branch(listen)

    b.position_at_end(listen)
    awaited = code.joinable(code.read("gate", "seq_cst"), b.load(last))
    surplus = b.icmp_signed(">=", worker, code.read("wanted", "seq_cst"))
    b.cbranch(b.or_(awaited, surplus), rise, wait)

    b.position_at_end(wait)
    code.futex(FUTEX_WAIT_PRIVATE, bell)
    b.branch(rise)

    b.position_at_end(rise)
    code.add("sleepers", I64(-1))
    b.branch(start)

    b.position_at_end(end)
    code.add("running", I64(-1))
    code.write("alive", I64(0), "release", worker)
    b.ret(NULL)
    return code.function


def emit_start_workers(module: ir.Module, target: Target, worker: ir.Function) -> ir.Function:
    """`gf_start_workers()`: create those of the wanted workers that do not exist. Only while owning the pool."""
    code = PoolFunction(module, target, "gf_start_workers", ir.FunctionType(VOID, ()), linkage="internal")
    b = code.b
    # All three types are opaque; 128 bytes is a signal set's size on Linux and more than the others take.
    attributes, blocked, before, thread = (b.alloca(ir.ArrayType(I64, 16)) for _ in range(4))
    code.libc("pthread_attr_init", attributes)
    code.libc("pthread_attr_setdetachstate", attributes, I32(PTHREAD_CREATE_DETACHED))
    code.libc("pthread_attr_setstacksize", attributes, I64(STACK_BYTES))
    code.libc("sigfillset", blocked)
    code.libc("pthread_sigmask", I32(SIG_BLOCK), blocked, before)  # threads inherit the mask
    entry = b.block
    head, look, create, failed, tail, end = code.blocks("head", "look", "create", "failed", "tail", "end")
    b.branch(head)

    b.position_at_end(head)
    number = b.phi(I64)
    number.add_incoming(I64(1), entry)
    b.cbranch(b.icmp_signed("<", number, code.read("wanted")), look, end)

    b.position_at_end(look)
    b.cbranch(b.icmp_signed("==", code.read("alive", "acquire", number), I64(0)), create, tail)

    b.position_at_end(create)
    code.write("alive", I64(1), index=number)
    code.add("running", I64(1))
    status = code.libc("pthread_create", thread, attributes, worker, b.inttoptr(number, PTR))
    b.cbranch(b.icmp_signed("==", status, I32(0)), tail, failed)

    # No more threads to be had: go on with those that exist, and do not try again with every job.
    b.position_at_end(failed)
    code.write("alive", I64(0), index=number)
    code.add("running", I64(-1))
    code.write("wanted", number)
    b.branch(end)

    b.position_at_end(tail)
    number.add_incoming(b.add(number, I64(1)), tail)
    b.branch(head)

    b.position_at_end(end)
    code.libc("pthread_sigmask", I32(SIG_SETMASK), before, NULL)
    code.libc("pthread_attr_destroy", attributes)
    b.ret_void()
    return code.function
