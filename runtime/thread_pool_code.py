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

**Why no wakeup is lost.** Workers poll the gate for some 30 µs, then park in a futex on the bell. A worker counts
itself as a sleeper, reads the bell, looks at the gate once more, and parks if the bell has not changed. The caller
opens the gate, rings (increments) the bell, and looks for sleepers. All six are sequentially consistent: if the worker
did not see the gate open, the caller sees the sleeper and the futex sees the changed bell. (A lost wakeup would cost
time only: the caller does what nobody else does.)
"""

from typing import Any

from llvmlite import ir

from graphflow.compiler.llvm.jit import LoadedLibrary, declare_symbol, stored_library
from graphflow.compiler.llvm.limits import LIMIT_WORDS, THREADS
from graphflow.compiler.llvm.target import Target, emit_flush_denormals, host_target, intrinsic
from graphflow.runtime.threads import FUTEX_CALL, MAX_THREADS, WORDS, has_workers

SPIN_NANOSECONDS = 30_000  # about what parking and waking cost together
PAUSES_BEFORE_YIELD = 100
BLOCKS_PER_THREAD = 64  # units are taken in blocks, so small that the last one hardly delays
STACK_BYTES = 4 << 20

FUTEX_WAIT_PRIVATE, FUTEX_WAKE_PRIVATE = 128, 129
SIG_BLOCK, SIG_SETMASK = 0, 2
PTHREAD_CREATE_DETACHED = 1
CLOCK_MONOTONIC = 1

UNLIMITED = {THREADS: MAX_THREADS}

OPEN = 1 << 16
INSIDE = OPEN - 1
NEXT_JOB = OPEN << 1

I32, I64, PTR, VOID = ir.IntType(32), ir.IntType(64), ir.PointerType(), ir.VoidType()
LAUNCH = ir.FunctionType(VOID, (PTR, PTR, I64, I64, PTR))
LAUNCH_PTR = LAUNCH.as_pointer()  # prints as ptr; llvmlite wants to know what an indirect call calls
PARALLEL_FOR = ir.FunctionType(VOID, (LAUNCH_PTR, PTR, PTR, I64, PTR, I64, PTR))


def load_pool() -> LoadedLibrary:
    """The pool's code, loaded for good; modules loaded from now on know `gf_parallel_for`."""
    target = host_target()
    code = stored_library("thread pool", lambda: pool_module(target), target)
    code.keep_forever()
    declare_symbol("gf_parallel_for", code.address("gf_parallel_for"))
    return code


def pool_module(target: Target) -> ir.Module:
    """The pool's LLVM module: the words, `gf_parallel_for`, `gf_set_threads`, `gf_forget_workers` and the worker."""
    module = ir.Module("gf_pool")
    words = ir.GlobalVariable(module, ir.ArrayType(I64, WORDS["alive"] + MAX_THREADS), "gf_pool")
    words.initializer = ir.Constant(words.value_type, None)
    words.align = 64
    emit_unlimited(module)
    if has_workers():
        drain = emit_drain(module, target)
        start = emit_start_workers(module, target, emit_worker(module, target, drain))
        emit_parallel_for(module, target, drain, start)
    else:
        emit_serial_for(module, target)
    emit_set_threads(module, target)
    emit_forget_workers(module, target)
    return module


def emit_unlimited(module: ir.Module) -> None:
    """The limits of a job that comes with none."""
    table = ir.GlobalVariable(module, ir.ArrayType(I64, LIMIT_WORDS), "gf_unlimited")
    table.linkage, table.global_constant = "internal", True
    table.initializer = ir.Constant(table.value_type, [UNLIMITED[word] for word in range(LIMIT_WORDS)])


class Code:
    """A function under construction, with the pool's words at hand."""

    def __init__(
        self, module: ir.Module, target: Target, name: str, signature: ir.FunctionType, *, linkage: str = "external"
    ):
        self.module = module
        self.target = target
        self.function = ir.Function(module, signature, name)
        self.function.attributes.add("nounwind")
        self.function.linkage = linkage
        self.b = ir.IRBuilder(self.function.append_basic_block("entry"))

    def blocks(self, *names: str) -> list[ir.Block]:
        """New, empty blocks."""
        return [self.function.append_basic_block(name) for name in names]

    def word(self, name: str, index: Any = 0) -> Any:
        """The address of a word of the pool; `index`, a number or an i64, counts from it."""
        place = I64(WORDS[name] + index) if isinstance(index, int) else self.b.add(index, I64(WORDS[name]))
        return self.b.gep(self.module.globals["gf_pool"], (I64(0), place), inbounds=True)

    def read(self, name: str, order: str = "monotonic", index: Any = 0) -> Any:
        """Load a word atomically."""
        return self.b.load_atomic(self.word(name, index), order, 8)

    def write(self, name: str, value: Any, order: str = "monotonic", index: Any = 0) -> None:
        """Store a word atomically."""
        self.b.store_atomic(value, self.word(name, index), order, 8)

    def add(self, name: str, value: Any, order: str = "seq_cst") -> Any:
        """Add to a word atomically; the result is the word before."""
        return self.b.atomic_rmw("add", self.word(name), value, order)

    def swap_if(self, name: str, old: Any, new: Any) -> Any:
        """Make a word `new` if it is `old`, acquiring; the result is whether it was."""
        pair = self.b.cmpxchg(self.word(name), old, new, "acquire", "monotonic")
        return self.b.extract_value(pair, 1)

    def libc(self, name: str, *arguments: Any, result: ir.Type = I32) -> Any:
        """Call a function of the C library."""
        signature = ir.FunctionType(result, [argument.type for argument in arguments])
        return self.b.call(self.module.globals.get(name) or ir.Function(self.module, signature, name), arguments)

    def futex(self, operation: int, value: Any) -> None:
        """Wait on the bell while it is `value`, or wake up to `value` sleepers."""
        syscall = self.module.globals.get("syscall")
        if syscall is None:
            syscall = ir.Function(self.module, ir.FunctionType(I64, (I64,), var_arg=True), "syscall")
        number = FUTEX_CALL[self.target.arch]
        # The kernel looks at 32 bits: the low half of the bell on these little-endian machines.
        self.b.call(syscall, (I64(number), self.word("bell"), I64(operation), value, I64(0), I64(0), I64(0)))

    def limit(self, limits: Any, word: int) -> Any:
        """Load a word of a job's limits."""
        given = self.b.icmp_unsigned("!=", limits, ir.Constant(PTR, None))
        table = self.b.select(given, limits, self.b.bitcast(self.module.globals["gf_unlimited"], PTR))
        return self.b.load_atomic(self.b.gep(table, (I64(word),), source_etype=I64), "monotonic", 8, typ=I64)

    def pause(self) -> None:
        """Tell the core that this is a waiting loop."""
        if self.target.is_x86:
            self.b.call(intrinsic(self.b, "llvm.x86.sse2.pause", VOID), ())
        elif self.target.is_aarch64:
            self.b.call(intrinsic(self.b, "llvm.aarch64.hint", VOID, I32), (I32(1),))

    def nanoseconds(self, timespec: Any) -> Any:
        """The time now; `timespec` points to an array of two i64."""
        self.libc("clock_gettime", I32(CLOCK_MONOTONIC), timespec)
        seconds, rest = (self.b.load(self.b.gep(timespec, (I64(0), I64(field)))) for field in (0, 1))
        return self.b.add(self.b.mul(seconds, I64(1_000_000_000)), rest)

    def joinable(self, gate: Any, last: Any) -> Any:
        """Whether `gate` shows an open job other than `last`."""
        is_open = self.b.icmp_unsigned("!=", self.b.and_(gate, I64(OPEN)), I64(0))
        return self.b.and_(is_open, self.b.icmp_unsigned("!=", self.b.and_(gate, I64(~INSIDE)), last))


def emit_drain(module: ir.Module, target: Target) -> ir.Function:
    """`gf_drain(w)`: take blocks of units and run them until none are left. Only while inside the gate."""
    code = Code(module, target, "gf_drain", ir.FunctionType(VOID, (I64,)), linkage="internal")
    b, worker = code.b, code.function.args[0]
    f, args, dims, base = (
        b.load(code.word(name), typ=kind)
        for name, kind in (("f", LAUNCH_PTR), ("args", PTR), ("dims", PTR), ("scratch", PTR))
    )
    units, block, stride = (b.load(code.word(name)) for name in ("units", "block", "stride"))
    scratch = b.gep(base, (b.mul(worker, stride),), source_etype=ir.IntType(8))
    take, run, end = code.blocks("take", "run", "end")
    b.branch(take)

    b.position_at_end(take)
    begin = code.add("next", block, "monotonic")
    b.cbranch(b.icmp_signed("<", begin, units), run, end)

    b.position_at_end(run)
    stop = b.add(begin, block)
    stop = b.select(b.icmp_signed("<", stop, units), stop, units)
    b.call(f, (args, dims, begin, stop, scratch))
    b.branch(take)

    b.position_at_end(end)
    b.ret_void()
    return code.function


def emit_worker(module: ir.Module, target: Target, drain: ir.Function) -> ir.Function:
    """`gf_worker(w)`, a thread's body: poll, work or park, until the pool has shrunk below w."""
    code = Code(module, target, "gf_worker", ir.FunctionType(PTR, (PTR,)), linkage="internal")
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
    b.ret(ir.Constant(PTR, None))
    return code.function


def emit_start_workers(module: ir.Module, target: Target, worker: ir.Function) -> ir.Function:
    """`gf_start_workers()`: create those of the wanted workers that do not exist. Only while owning the pool."""
    code = Code(module, target, "gf_start_workers", ir.FunctionType(VOID, ()), linkage="internal")
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
    code.libc("pthread_sigmask", I32(SIG_SETMASK), before, ir.Constant(PTR, None))
    code.libc("pthread_attr_destroy", attributes)
    b.ret_void()
    return code.function


def emit_parallel_for(module: ir.Module, target: Target, drain: ir.Function, start: ir.Function) -> None:
    """`gf_parallel_for`: own the pool and share the work out, or do it all here."""
    code = Code(module, target, "gf_parallel_for", PARALLEL_FOR)
    b, (f, args, dims, units, scratch, *_) = code.b, code.function.args
    some, several, own, share, alone, end = code.blocks("some", "several", "own", "share", "alone", "end")
    b.cbranch(b.icmp_signed(">", units, I64(0)), some, end)

    b.position_at_end(some)
    worth = b.and_(b.icmp_signed(">", units, I64(1)), b.icmp_signed(">", code.read("wanted"), I64(1)))
    b.cbranch(worth, several, alone)

    b.position_at_end(several)
    b.cbranch(code.swap_if("busy", I64(0), I64(1)), own, alone)

    b.position_at_end(own)
    with b.if_then(b.icmp_signed("<", b.add(code.read("running"), I64(1)), code.read("wanted")), likely=False):
        b.call(start, ())
    b.branch(share)

    b.position_at_end(share)
    emit_open(code)
    b.call(drain, (I64(0),))
    emit_close(code)
    code.write("busy", I64(0), "release")
    b.branch(end)

    b.position_at_end(alone)
    b.call(f, (args, dims, I64(0), units, scratch))
    b.branch(end)

    b.position_at_end(end)
    b.ret_void()


def emit_open(code: Code) -> None:
    """Write the job's descriptor, open the gate, ring the bell and wake as many sleepers as there is work for."""
    b, (f, args, dims, units, scratch, stride, limits) = code.b, code.function.args
    wanted, room = code.read("wanted"), code.limit(limits, THREADS)
    threads = b.select(b.icmp_signed("<", room, wanted), room, wanted)
    block = b.sdiv(units, b.mul(threads, I64(BLOCKS_PER_THREAD)))
    block = b.select(b.icmp_signed(">", block, I64(1)), block, I64(1))
    descriptor = {"args": args, "dims": dims, "units": units, "scratch": scratch, "stride": stride}
    for name, value in {"f": f, **descriptor, "threads": threads, "block": block}.items():
        b.store(value if value.type == I64 else b.ptrtoint(value, I64), code.word(name))
    code.write("next", I64(0))
    gate = b.and_(b.add(code.read("gate"), I64(NEXT_JOB)), I64(~(OPEN | INSIDE)))
    b.atomic_rmw("xchg", code.word("gate"), b.or_(gate, I64(OPEN)), "seq_cst")
    code.add("bell", I64(1))
    with b.if_then(b.icmp_signed(">", code.read("sleepers", "seq_cst"), I64(0)), likely=False):
        fewer = b.select(b.icmp_signed("<", units, threads), units, threads)
        code.futex(FUTEX_WAKE_PRIVATE, b.sub(fewer, I64(1)))


def emit_close(code: Code) -> None:
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


def emit_serial_for(module: ir.Module, target: Target) -> None:
    """`gf_parallel_for` of a system without workers."""
    code = Code(module, target, "gf_parallel_for", PARALLEL_FOR)
    b, (f, args, dims, units, scratch, *_) = code.b, code.function.args
    with b.if_then(b.icmp_signed(">", units, I64(0))):
        b.call(f, (args, dims, I64(0), units, scratch))
    b.ret_void()


def emit_set_threads(module: ir.Module, target: Target) -> None:
    """`gf_set_threads(i64 threads)`: surplus workers are woken to end, missing ones start with the next job."""
    code = Code(module, target, "gf_set_threads", ir.FunctionType(VOID, (I64,)))
    code.write("wanted", code.function.args[0], "seq_cst")
    if has_workers():
        code.add("bell", I64(1))
        code.futex(FUTEX_WAKE_PRIVATE, I64(MAX_THREADS))
    code.b.ret_void()


def emit_forget_workers(module: ir.Module, target: Target) -> None:
    """`gf_forget_workers()`: the state of a pool without workers, for a child after a fork."""
    code = Code(module, target, "gf_forget_workers", ir.FunctionType(VOID, ()))
    for name in ("gate", "bell", "sleepers", "busy", "running"):
        code.write(name, I64(0))
    memset = intrinsic(code.b, "llvm.memset.p0.i64", VOID, PTR, ir.IntType(8), I64, ir.IntType(1))
    code.b.call(memset, (code.word("alive"), ir.IntType(8)(0), I64(8 * MAX_THREADS), ir.IntType(1)(0)))
    code.b.ret_void()
