"""LLVM functions that work on the thread pool's words: `PoolFunction`, and the types that they have in common.

code = PoolFunction(module, target, "gf_busy", ir.FunctionType(I64, ()))
code.b.ret(code.read("busy"))
"""

from __future__ import annotations

import time
from typing import Any

from llvmlite import ir

from graphflow.compiler.llvm.code import intrinsic
from graphflow.compiler.llvm.target import Target
from graphflow.runtime.threads import FUTEX_CALL, WORDS

__all__ = ["INSIDE", "LAUNCH_PTR", "OPEN", "PoolFunction"]

FUTEX_WAIT_PRIVATE, FUTEX_WAKE_PRIVATE = 128, 129
CLOCK_MONOTONIC = getattr(time, "CLOCK_MONOTONIC", 1)

OPEN = 1 << 16
INSIDE = OPEN - 1

I8, I32, I64, PTR, VOID = ir.IntType(8), ir.IntType(32), ir.IntType(64), ir.PointerType(), ir.VoidType()
NULL = ir.Constant(PTR, None)
LAUNCH = ir.FunctionType(VOID, (PTR, PTR, I64, I64, PTR))
LAUNCH_PTR = LAUNCH.as_pointer()  # prints as ptr; llvmlite wants to know what an indirect call calls


class PoolFunction:
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

    def add(self, name: str, value: Any, order: str = "seq_cst", index: Any = 0) -> Any:
        """Add to a word atomically; the result is the word before."""
        return self.b.atomic_rmw("add", self.word(name, index), value, order)

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
        return self.b.load_atomic(self.b.gep(limits, (I64(word),), source_etype=I64), "monotonic", 8, typ=I64)

    def pause(self) -> None:
        """Tell the core that this is a waiting loop."""
        if self.target.is_x86:
            self.b.call(intrinsic(self.b.module, "llvm.x86.sse2.pause", VOID, []), ())
        elif self.target.is_aarch64:
            self.b.call(intrinsic(self.b.module, "llvm.aarch64.hint", VOID, [I32]), (I32(1),))

    def nanoseconds(self, timespec: Any) -> Any:
        """The time now; `timespec` points to an array of two i64."""
        self.libc("clock_gettime", I32(CLOCK_MONOTONIC), timespec)
        seconds, rest = (self.b.load(self.b.gep(timespec, (I64(0), I64(field)))) for field in (0, 1))
        return self.b.add(self.b.mul(seconds, I64(1_000_000_000)), rest)

    def joinable(self, gate: Any, last: Any) -> Any:
        """Whether `gate` shows an open job other than `last`."""
        is_open = self.b.icmp_unsigned("!=", self.b.and_(gate, I64(OPEN)), I64(0))
        return self.b.and_(is_open, self.b.icmp_unsigned("!=", self.b.and_(gate, I64(~INSIDE)), last))
