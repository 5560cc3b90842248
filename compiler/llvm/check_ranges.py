"""Which memory a wave of a checked step may touch, as tables of its module, and the functions that look there.

    @gf_ranges    [slots x [start, end]]   buffers, workspaces, then scratch, dims, frame, and the module's constants
    @gf_waves     entries of all waves one after the other: slot << 2 | begins to live << 1 | may be written
    @gf_first, @gf_last                    where in @gf_waves the wave that runs has its entries
    @gf_hints     [sites]                  the entry that served a site last: most ask for the same again
    @gf_violation [state, site, wave, slot, address within it, bytes, bytes of the slot]    the first one

    i1 gf_check(i64 start, i64 bytes, i64 writes, i64 site, i64 local, i64 local bytes)
    void gf_wave(i64 number, i64 first, i64 last)

A thread's scratch is a range of its own: between two of them lies a red zone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from llvmlite import ir

from graphflow.compiler.llvm.check_accesses import byte_size, opaque
from graphflow.compiler.llvm.code import I1, I32, I64, PTR, VOID, at, const, intrinsic, loop

__all__ = ["LOCAL", "VIOLATION", "VIOLATION_WORDS", "Range", "Ranges"]

VIOLATION = "gf_violation"
VIOLATION_WORDS = 7
LOCAL = -1
"""As the slot of a violation: a local variable of the function."""

ALIGNMENT = 64
NOTHING = 0xFF
"""The byte that spoils memory: NaN in every floating type, -1 in every integer."""

I8 = ir.IntType(8)


@dataclass(frozen=True)
class Range:
    """A slot that a wave may read, and write if `writes`; what it held before means nothing if `born`."""

    slot: int
    writes: bool
    born: bool = False

    @property
    def entry(self) -> int:
        return self.slot << 2 | self.born << 1 | self.writes


class Ranges:
    """The tables and functions of one module."""

    def __init__(
        self, module: ir.Module, buffers: int, constants: Sequence[ir.GlobalVariable], stride: int, zone: int
    ) -> None:
        self.module, self.constants, self.stride, self.zone = module, constants, stride, zone
        self.scratch, self.dims, self.arguments = range(buffers, buffers + 3)
        self.first_constant = buffers + 3
        self.slots = self.first_constant + len(constants)
        self.entries: list[int] = []
        self.number = 0
        self.table = self._words("gf_ranges", 2 * self.slots)
        self.bounds = self._words("gf_wave_bounds", 3)  # first and last entry of the wave, and its number
        self.busy, self.count = self._words("gf_busy", 1), self._words("gf_count", 1)
        self.violation = self._words(VIOLATION, VIOLATION_WORDS, linkage="")
        self.check = self._function("gf_check", I1, 6)
        self.enter = self._function("gf_wave", VOID, 3)
        self.serves = self._function("gf_serves", I1, 4)
        self.report = self._function("gf_report", VOID, 5)
        self.spoils = self._function("gf_spoil", VOID, 1)
        self.functions = (self.check, self.enter, self.serves, self.report, self.spoils)
        self.spare = ir.FormattedConstant(PTR, "@gf_spare")

    def _words(self, name: str, count: int, linkage: str = "internal") -> Any:
        kind = ir.ArrayType(I64, max(count, 1))
        words = ir.GlobalVariable(self.module, kind, name)
        words.initializer, words.linkage = ir.Constant(kind, None), linkage
        return opaque(words)

    def _function(self, name: str, result: ir.Type, arguments: int) -> ir.Function:
        function = ir.Function(self.module, ir.FunctionType(result, [I64] * arguments), name)
        function.linkage = "internal"
        function.attributes.add("noinline")
        return function

    # for the body of the step

    def enter_wave(self, b: ir.IRBuilder, ranges: Sequence[Range]) -> None:
        """From here on the kernels may touch these, and what all kernels may."""
        first = len(self.entries)
        shared = [Range(self.scratch, True), Range(self.dims, False), Range(self.arguments, False)]
        shared += [Range(self.first_constant + n, False) for n in range(len(self.constants))]
        self.entries += [one.entry for one in (*ranges, *shared)]
        b.call(self.enter, [const(self.number), const(first), const(len(self.entries))])
        self.number += 1

    def set_frame(self, b: ir.IRBuilder, frame: ir.Value, size: int) -> None:
        """Where the pointers that kernels get stand."""
        self.set(b, self.arguments, frame, const(size))

    # for the function around it

    def set(self, b: ir.IRBuilder, slot: int, pointer: ir.Value, size: ir.Value) -> None:
        """A slot is this memory."""
        start = b.ptrtoint(pointer, I64)
        b.store(start, at(b, self.table, const(2 * slot), I64))
        b.store(b.add(start, size), at(b, self.table, const(2 * slot + 1), I64))

    def set_scratch(self, b: ir.IRBuilder, pointer: ir.Value, size: ir.Value) -> None:
        """The memory of all threads."""
        self.set(b, self.scratch, pointer, size)
        self.spoil(b, const(self.scratch))

    def set_dims(self, b: ir.IRBuilder, pointer: ir.Value, size: ir.Value) -> None:
        """The values of the symbols; and the constants, which are where they are."""
        self.set(b, self.dims, pointer, size)
        for n, constant in enumerate(self.constants):
            self.set(b, self.first_constant + n, opaque(constant), const(byte_size(constant.value_type)))

    def spoil(self, b: ir.IRBuilder, slot: ir.Value) -> None:
        """Fill a slot with what is of no use."""
        b.call(self.spoils, [slot])

    def lock(self, b: ir.IRBuilder) -> None:
        """Wait until nobody else runs the step."""
        head, taken = b.append_basic_block("wait"), b.append_basic_block("taken")
        rest = ir.Function(self.module, ir.FunctionType(I32, []), "sched_yield")
        b.branch(head)
        b.position_at_end(head)
        b.call(rest, [])
        pair = b.cmpxchg(self.busy, const(0), const(1), "acquire", "monotonic")
        b.cbranch(b.extract_value(pair, 1), taken, head)
        b.position_at_end(taken)
        b.store(const(0), self.count)

    def unlock(self, b: ir.IRBuilder, status: ir.Value) -> ir.Value:
        """Let others run it; the status: 1 if something was out of place, else what the step says."""
        bad = b.icmp_signed("!=", b.load(self.count, typ=I64), const(0))
        b.atomic_rmw("xchg", self.busy, const(0), "release")
        return b.select(bad, ir.Constant(I32, 1), status)

    # the functions

    def finish(self, widths: Sequence[int], sites: int) -> None:
        """Write the functions, when all waves and sites are known."""
        kind = ir.ArrayType(I8, max((ALIGNMENT, *widths)))
        spare = ir.GlobalVariable(self.module, kind, "gf_spare")
        spare.initializer, spare.linkage, spare.align = ir.Constant(kind, None), "internal", ALIGNMENT
        waves = ir.GlobalVariable(self.module, ir.ArrayType(I64, max(len(self.entries), 1)), "gf_waves")
        waves.initializer = ir.Constant(waves.value_type, self.entries or [0])
        waves.global_constant, waves.linkage = True, "internal"
        self.waves, self.hints = opaque(waves), self._words("gf_hints", sites)
        self._write_serves()
        self._write_report()
        self._write_check()
        self._write_spoil()
        self._write_wave()

    def _word(self, b: ir.IRBuilder, table: ir.Value, index: ir.Value) -> ir.Value:
        return b.load(at(b, table, index, I64), typ=I64)

    def _range(self, b: ir.IRBuilder, entry: ir.Value) -> tuple[ir.Value, ir.Value]:
        place = b.shl(b.lshr(entry, const(2)), const(1))
        return self._word(b, self.table, place), self._word(b, self.table, b.add(place, const(1)))

    def _write_serves(self) -> None:
        """Whether an entry of the table allows an access to [start, end)."""
        b = ir.IRBuilder(self.serves.append_basic_block("entry"))
        number, start, end, writes = self.serves.args
        entry = self._word(b, self.waves, number)
        low, high = self._range(b, entry)
        inside = b.and_(b.icmp_unsigned("<=", low, start), b.icmp_unsigned("<=", end, high))
        allowed = b.and_(inside, b.icmp_unsigned("<=", writes, b.and_(entry, const(1))))
        ends = b.add(b.urem(b.sub(start, low), const(self.stride)), b.sub(end, start))
        own = b.icmp_unsigned("<=", ends, const(self.stride - self.zone))
        other = b.icmp_unsigned("!=", b.lshr(entry, const(2)), const(self.scratch))
        b.ret(b.and_(allowed, b.or_(own, other)))

    @contextmanager
    def _each(self, b: ir.IRBuilder) -> Iterator[ir.Value]:
        """A loop over the numbers of the wave's entries."""
        with loop(b, self._word(b, self.bounds, const(0)), self._word(b, self.bounds, const(1))) as number:
            yield number

    def _write_check(self) -> None:
        b = ir.IRBuilder(self.check.append_basic_block("entry"))
        start, size, writes, site, local, local_size = self.check.args
        end = b.add(start, size)
        inside = b.and_(b.icmp_unsigned("<=", local, start), b.icmp_unsigned("<=", end, b.add(local, local_size)))
        with b.if_then(b.or_(inside, b.icmp_signed("<=", size, const(0)))):
            b.ret(ir.Constant(I1, 1))
        hint = at(b, self.hints, site, I64)
        last = b.load(hint, typ=I64)
        known = b.and_(
            b.icmp_unsigned("<=", self._word(b, self.bounds, const(0)), last),
            b.icmp_unsigned("<", last, self._word(b, self.bounds, const(1))),
        )
        with b.if_then(known), b.if_then(b.call(self.serves, [last, start, end, writes])):
            b.ret(ir.Constant(I1, 1))
        with self._each(b) as number, b.if_then(b.call(self.serves, [number, start, end, writes])):
            b.store(number, hint)
            b.ret(ir.Constant(I1, 1))
        b.call(self.report, [start, end, site, local, local_size])
        b.ret(ir.Constant(I1, 0))

    def _write_report(self) -> None:
        """Remember the first violation, with the slot that is nearest."""
        b = ir.IRBuilder(self.report.append_basic_block("entry"))
        start, end, site, local, local_size = self.report.args
        b.atomic_rmw("add", self.count, const(1), "monotonic")
        is_first = b.extract_value(b.cmpxchg(self.violation, const(0), const(1), "monotonic", "monotonic"), 1)
        with b.if_then(b.not_(is_first)):
            b.ret_void()
        for place, word in ((1, site), (2, self._word(b, self.bounds, const(2))), (5, b.sub(end, start))):
            b.store(word, at(b, self.violation, const(place), I64))
        nearest = b.alloca(I64)
        b.store(const(-1), nearest)

        def consider(slot: ir.Value, low: ir.Value, high: ir.Value) -> None:
            before = b.select(b.icmp_unsigned("<", start, low), b.sub(low, start), const(0))
            after = b.select(b.icmp_unsigned(">", end, high), b.sub(end, high), const(0))
            distance = b.add(before, after)
            with b.if_then(b.icmp_unsigned("<", distance, b.load(nearest, typ=I64))):
                b.store(distance, nearest)
                for place, word in ((3, slot), (4, b.sub(start, low)), (6, b.sub(high, low))):
                    b.store(word, at(b, self.violation, const(place), I64))

        consider(const(LOCAL), local, b.add(local, local_size))
        with self._each(b) as number:
            entry = self._word(b, self.waves, number)
            consider(b.lshr(entry, const(2)), *self._range(b, entry))
        b.ret_void()

    def _write_spoil(self) -> None:
        b = ir.IRBuilder(self.spoils.append_basic_block("entry"))
        (slot,) = self.spoils.args
        low, high = self._range(b, b.shl(slot, const(2)))
        fill = intrinsic(self.module, "llvm.memset.p0.i64", VOID, [PTR, I8, I64, I1])
        b.call(fill, [b.inttoptr(low, PTR), ir.Constant(I8, NOTHING), b.sub(high, low), ir.Constant(I1, 0)])
        b.ret_void()

    def _write_wave(self) -> None:
        b = ir.IRBuilder(self.enter.append_basic_block("entry"))
        number, first, last = self.enter.args
        for place, word in enumerate((first, last, number)):
            b.store(word, at(b, self.bounds, const(place), I64))
        with self._each(b) as n:
            entry = self._word(b, self.waves, n)
            with b.if_then(b.icmp_unsigned("!=", b.and_(entry, const(2)), const(0))):
                self.spoil(b, b.lshr(entry, const(2)))
        b.ret_void()
