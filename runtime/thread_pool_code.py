"""The thread pool as LLVM code, and why it is right; `threads.py` is its Python side.

**Why a late worker is harmless.** One word, the gate, holds the number of the job, whether it is open, and how many
workers are inside:   `job number | open (1 bit) | inside (16 bits)`.

* A worker enters by compare-and-swap of the whole word, `inside + 1`, and only if it is open. It reads the job's
  descriptor after that, and leaves by `inside - 1` after its last unit is done.
* The caller writes the descriptor while it owns the pool and the gate is closed with nobody inside; then it opens.
  When no units are left to take it closes the gate, waits until nobody is inside, and gives the pool up.

So the descriptor changes only while nobody can read it: a worker that slept through the job finds the gate closed,
its swap fails, and nobody ever waits for it. If the gate has opened again meanwhile, it enters *that* job, whose
descriptor it then reads. All units are done when the caller returns: each was taken by the caller, who has finished,
or by a worker who was inside and has left. (The swap is acquire, leaving is release, closing and waiting are acquire:
the caller sees what the units wrote, the workers see what the caller wrote.)

**Who takes what.** Units are cut into as many shares as threads, one after the other. A thread takes blocks of its own
share, and of the others' in turn when that is done: so nobody waits for a slow thread, and yet each thread mostly works
on what it did in the step before, and on what the launch before left in its caches (E. Markatos & T. LeBlanc, Using
Processor Affinity in Loop Scheduling on Shared-Memory Multiprocessors, IEEE TPDS 5(4), 1994). Where units that follow
each other read the same, as blocks of a large product do, there is one share, from which all threads take in turn.
pool_units_code.py says in which order a share is taken.

**Why no wakeup is lost.** Workers poll the gate for some 30 µs, then park in a futex on the bell. A worker counts
itself as a sleeper, reads the bell, looks at the gate once more, and parks if the bell has not changed. The caller
opens the gate, rings (increments) the bell, and looks for sleepers. All six are sequentially consistent: if the worker
did not see the gate open, the caller sees the sleeper and the futex sees the changed bell. (A lost wakeup would cost
time only: the caller does what nobody else does.)
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir

from graphflow.compiler.llvm.code import intrinsic
from graphflow.compiler.llvm.limits import THREADS
from graphflow.compiler.llvm.target import Target
from graphflow.runtime.pool_function import (
    FUTEX_WAKE_PRIVATE,
    I8,
    I64,
    INSIDE,
    LAUNCH_PTR,
    OPEN,
    PTR,
    VOID,
    PoolFunction,
)
from graphflow.runtime.pool_limits_code import (
    emit_poll,
    emit_unlimited,
    given_limits,
)
from graphflow.runtime.pool_units_code import emit_alone, emit_drain, emit_shares
from graphflow.runtime.pool_worker_code import emit_start_workers, emit_worker
from graphflow.runtime.threads import MAX_THREADS, WORDS, has_workers

__all__ = ["pool_module"]

PAUSES_BEFORE_YIELD = 100
NEXT_JOB = OPEN << 1
PARALLEL_FOR = ir.FunctionType(VOID, (LAUNCH_PTR, PTR, PTR, I64, PTR, I64, I64, I64, PTR))


def pool_module(target: Target) -> ir.Module:
    """The pool's LLVM module: its words and functions."""
    module = ir.Module("gf_pool")
    words = ir.GlobalVariable(module, ir.ArrayType(I64, WORDS["alive"] + MAX_THREADS), "gf_pool")
    words.initializer = ir.Constant(words.value_type, None)
    words.align = 64
    emit_unlimited(module)
    poll = emit_poll(module, target)
    if has_workers():
        drain = emit_drain(module, target, poll)
        start = emit_start_workers(module, target, emit_worker(module, target, drain))
        emit_parallel_for(module, target, drain, start, poll)
    else:
        emit_serial_for(module, target, poll)
    emit_set_threads(module, target)
    emit_forget_workers(module, target)
    return module


def emit_parallel_for(
    module: ir.Module, target: Target, drain: ir.Function, start: ir.Function, poll: ir.Function
) -> None:
    """`gf_parallel_for`: own the pool and share the work out, or do it all here."""
    code = PoolFunction(module, target, "gf_parallel_for", PARALLEL_FOR)
    b, units = code.b, code.function.args[3]
    some, several, own, share, alone, end = code.blocks("some", "several", "own", "share", "alone", "end")
    b.cbranch(b.icmp_signed(">", units, I64(0)), some, end)

    b.position_at_end(some)
    limits = given_limits(code)
    worth = b.and_(b.icmp_signed(">", units, I64(1)), b.icmp_signed(">", code.read("wanted"), I64(1)))
    b.cbranch(worth, several, alone)

    b.position_at_end(several)
    b.cbranch(code.swap_if("busy", I64(0), I64(1)), own, alone)

    b.position_at_end(own)
    with b.if_then(b.icmp_signed("<", b.add(code.read("running"), I64(1)), code.read("wanted")), likely=False):
        b.call(start, ())
    b.branch(share)

    b.position_at_end(share)
    emit_open(code, limits)
    b.call(drain, (I64(0),))
    emit_close(code)
    code.write("busy", I64(0), "release")
    b.branch(end)

    b.position_at_end(alone)
    emit_alone(code, limits, poll)
    b.branch(end)

    b.position_at_end(end)
    b.ret_void()


def emit_open(code: PoolFunction, limits: Any) -> None:
    """Write the job's descriptor, open the gate, ring the bell and wake as many sleepers as there is work for."""
    b, (f, args, dims, units, scratch, stride, _, order, _) = code.b, code.function.args
    wanted, room = code.read("wanted"), code.limit(limits, THREADS)
    threads = b.select(b.icmp_signed("<", room, wanted), room, wanted)
    descriptor = {"f": f, "args": args, "dims": dims, "scratch": scratch, "stride": stride, "threads": threads}
    descriptor |= {"limits": limits, **emit_shares(code, threads, order)}
    for name, value in descriptor.items():
        b.store(value if value.type == I64 else b.ptrtoint(value, I64), code.word(name))
    gate = b.and_(b.add(code.read("gate"), I64(NEXT_JOB)), I64(~(OPEN | INSIDE)))
    b.atomic_rmw("xchg", code.word("gate"), b.or_(gate, I64(OPEN)), "seq_cst")
    code.add("bell", I64(1))
    with b.if_then(b.icmp_signed(">", code.read("sleepers", "seq_cst"), I64(0)), likely=False):
        fewer = b.select(b.icmp_signed("<", units, threads), units, threads)
        code.futex(FUTEX_WAKE_PRIVATE, b.sub(fewer, I64(1)))


def emit_close(code: PoolFunction) -> None:
    """Close the gate and wait until nobody is inside: a moment of polling, then letting others have the CPU."""
    b = code.b
    entry = b.block
    again, wait, polite, brief, end = code.blocks("again", "wait", "polite", "brief", "gone")
    b.atomic_rmw("and", code.word("gate"), I64(~OPEN), "acq_rel")
    b.branch(again)

    b.position_at_end(again)
    polls = b.phi(I64)
    polls.add_incoming(I64(0), entry)
    inside = b.and_(code.read("gate", "acquire"), I64(INSIDE))
    b.cbranch(b.icmp_unsigned("==", inside, I64(0)), end, wait)

    b.position_at_end(wait)
    more = b.add(polls, I64(1))
    b.cbranch(b.icmp_unsigned("<", polls, I64(PAUSES_BEFORE_YIELD)), brief, polite)

    for block in (brief, polite):
        b.position_at_end(block)
        code.pause() if block is brief else code.libc("sched_yield")
        polls.add_incoming(more, block)
        b.branch(again)

    b.position_at_end(end)


def emit_serial_for(module: ir.Module, target: Target, poll: ir.Function) -> None:
    """`gf_parallel_for` of a system without workers."""
    code = PoolFunction(module, target, "gf_parallel_for", PARALLEL_FOR)
    b, units = code.b, code.function.args[3]
    with b.if_then(b.icmp_signed(">", units, I64(0))):
        emit_alone(code, given_limits(code), poll)
    b.ret_void()


def emit_set_threads(module: ir.Module, target: Target) -> None:
    """`gf_set_threads(i64 threads)`: surplus workers are woken to end, missing ones start with the next job."""
    code = PoolFunction(module, target, "gf_set_threads", ir.FunctionType(VOID, (I64,)))
    code.write("wanted", code.function.args[0], "seq_cst")
    if has_workers():
        code.add("bell", I64(1))
        code.futex(FUTEX_WAKE_PRIVATE, I64(MAX_THREADS))
    code.b.ret_void()


def emit_forget_workers(module: ir.Module, target: Target) -> None:
    """`gf_forget_workers()`: the state of a pool without workers, for a child after a fork."""
    code = PoolFunction(module, target, "gf_forget_workers", ir.FunctionType(VOID, ()))
    for name in ("gate", "bell", "sleepers", "busy", "running"):
        code.write(name, I64(0))
    memset = intrinsic(code.b.module, "llvm.memset.p0.i64", VOID, [PTR, I8, I64, ir.IntType(1)])
    code.b.call(memset, (code.word("alive"), I8(0), I64(8 * MAX_THREADS), ir.IntType(1)(0)))
    code.b.ret_void()
