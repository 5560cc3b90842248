"""Which units of a job a thread takes: `gf_drain` takes them among others, `emit_alone` all of them.

Units are cut into *shares*, one after the other, and each share is taken block by block: from its front or, in every
other job of those that turn, from its back, as an ox ploughs. What was touched last is nearest when the next job
begins, which otherwise would begin with what the caches have lost first: arrays of one to a few times a cache's size
are found there in part, where the same way each time finds nothing of them.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir

from graphflow.compiler.llvm.code import maximum, minimum
from graphflow.compiler.llvm.launch_order import Order
from graphflow.compiler.llvm.limits import NEVER, STOP
from graphflow.compiler.llvm.target import Target
from graphflow.runtime.pool_function import I8, I64, LAUNCH_PTR, PTR, VOID, PoolFunction
from graphflow.runtime.pool_limits_code import units_between_looks
from graphflow.runtime.threads import LINE

__all__ = ["emit_alone", "emit_drain", "emit_shares"]

BLOCKS = 64  # of a thread's share: so small that the last one hardly delays


def emit_shares(code: PoolFunction, threads: Any, order: Any) -> dict[str, Any]:
    """Cut the job that `code`'s function is called for: the words of its descriptor that say how. Nothing is taken."""
    b, units = code.b, code.function.args[3]
    look = units_between_looks(code)
    block = block_of(b, units, threads, look)
    blocks = ceildiv(b, units, block)
    most = b.select(b.icmp_signed("!=", b.and_(order, I64(Order.TOGETHER)), I64(0)), I64(1), threads)
    shares = minimum(b, blocks, most)
    emit_untaken(code, shares)
    share = b.mul(ceildiv(b, blocks, shares), block)
    return {
        "units": units,
        "look": look,
        "block": block,
        "shares": shares,
        "share": share,
        "backward": turn(code, order),
    }


def emit_untaken(code: PoolFunction, shares: Any) -> None:
    """No unit of any share is taken yet."""
    b = code.b
    entry = b.block
    again, end = code.blocks("untaken", "untouched")
    b.branch(again)

    b.position_at_end(again)
    share = b.phi(I64)
    share.add_incoming(I64(0), entry)
    code.write("taken", I64(0), index=b.mul(share, I64(LINE)))
    following = b.add(share, I64(1))
    share.add_incoming(following, again)
    b.cbranch(b.icmp_signed("<", following, shares), again, end)

    b.position_at_end(end)


def emit_drain(module: ir.Module, target: Target, poll: ir.Function) -> ir.Function:
    """`gf_drain(w)`: take blocks of units, of worker w's own share first, and run them until none are left or the step
    has to stop. Only while inside the gate. Who called the step, w = 0, is also the one to look for a reason to stop,
    every `look` units.
    """
    code = PoolFunction(module, target, "gf_drain", ir.FunctionType(VOID, (I64,)), linkage="internal")
    b, worker = code.b, code.function.args[0]
    f, args, dims, base, limits = (
        b.load(code.word(name), typ=kind)
        for name, kind in (("f", LAUNCH_PTR), ("args", PTR), ("dims", PTR), ("scratch", PTR), ("limits", PTR))
    )
    units, block, stride, shares, share, backward = (
        b.load(code.word(name)) for name in ("units", "block", "stride", "shares", "share", "backward")
    )
    scratch = b.gep(base, (b.mul(worker, stride),), source_etype=I8)
    look = b.select(b.icmp_signed("==", worker, I64(0)), b.load(code.word("look")), I64(NEVER))
    own = b.urem(worker, shares)
    entry = b.block
    take, run, go_on, due, other, end = code.blocks("take", "run", "go_on", "due", "other", "end")
    b.branch(take)

    b.position_at_end(take)
    number, unseen = b.phi(I64), b.phi(I64)
    taken = code.add("taken", block, "monotonic", index=b.mul(number, I64(LINE)))
    first = b.mul(number, share)
    size = minimum(b, share, b.sub(units, first))
    b.cbranch(b.icmp_signed("<", taken, size), run, other)

    b.position_at_end(run)
    begin, stop = piece(b, taken, block, size, backward)
    b.call(f, (args, dims, b.add(first, begin), b.add(first, stop), scratch))
    done = b.add(unseen, b.sub(stop, begin))
    b.cbranch(b.icmp_signed(">=", done, look), due, go_on)

    b.position_at_end(due)
    b.call(poll, (limits,))
    b.branch(go_on)

    b.position_at_end(go_on)
    since = b.phi(I64)
    since.add_incoming(done, run)
    since.add_incoming(I64(0), due)
    b.cbranch(b.icmp_signed("==", code.limit(limits, STOP), I64(0)), take, end)

    b.position_at_end(other)
    after = b.add(number, I64(1))
    after = b.select(b.icmp_signed("<", after, shares), after, I64(0))
    b.cbranch(b.icmp_signed("==", after, own), end, take)

    for block_, following, count in ((entry, own, I64(0)), (go_on, number, since), (other, after, unseen)):
        number.add_incoming(following, block_)
        unseen.add_incoming(count, block_)

    b.position_at_end(end)
    b.ret_void()
    return code.function


def emit_alone(code: PoolFunction, limits: Any, poll: ir.Function) -> None:
    """All units on the caller's thread, in blocks, until none are left or the step has to stop."""
    b, (f, args, dims, units, scratch, _, _, order, _) = code.b, code.function.args
    look = units_between_looks(code)
    block = block_of(b, units, I64(1), look)
    backward = turn(code, order)
    entry = b.block
    run, left, due, end = code.blocks("run_alone", "left_alone", "look_alone", "end_alone")
    b.branch(run)

    b.position_at_end(run)
    taken, unseen = b.phi(I64), b.phi(I64)
    begin, stop = piece(b, taken, block, units, backward)
    b.call(f, (args, dims, begin, stop, scratch))
    count = b.sub(stop, begin)
    after, done = b.add(taken, count), b.add(unseen, count)
    b.cbranch(b.icmp_signed("<", after, units), left, end)

    b.position_at_end(left)
    b.cbranch(b.icmp_signed(">=", done, look), due, run)

    b.position_at_end(due)
    b.cbranch(b.icmp_signed("==", b.call(poll, (limits,)), I64(0)), run, end)

    for block_, following, since in ((entry, I64(0), I64(0)), (left, after, done), (due, after, I64(0))):
        taken.add_incoming(following, block_)
        unseen.add_incoming(since, block_)

    b.position_at_end(end)


def piece(b: ir.IRBuilder, taken: Any, block: Any, size: Any, backward: Any) -> tuple[Any, Any]:
    """The next block where so many units are taken of `size`: (begin, end), counted from the front."""
    left = b.sub(size, taken)
    count = minimum(b, block, left)
    begin = b.select(b.icmp_signed("!=", backward, I64(0)), b.sub(left, count), taken)
    return begin, b.add(begin, count)


def block_of(b: ir.IRBuilder, units: Any, threads: Any, look: Any) -> Any:
    """How many units are taken at once: a part of a share, no more than are between two looks, and at least one."""
    part = b.sdiv(units, b.mul(threads, I64(BLOCKS)))
    return minimum(b, maximum(b, part, I64(1)), look)


def turn(code: PoolFunction, order: Any) -> Any:
    """Whether this job is done from the back: if it turns, and the one before was not. Callers that work alone may meet
    here, and go either way."""
    b = code.b
    turning = b.lshr(b.and_(order, I64(Order.TURNING)), I64(1))
    backward = b.and_(b.xor(code.read("turned"), I64(1)), turning)
    code.write("turned", backward)
    return backward


def ceildiv(b: ir.IRBuilder, units: Any, size: Any) -> Any:
    """How many pieces of a size units make, both positive."""
    return b.sdiv(b.add(units, b.sub(size, I64(1))), size)
