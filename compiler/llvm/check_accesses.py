"""A call before every access to memory: `check_accesses(function, check, spare, first)`.

    %x = load <8 x float>, ptr %p              %ok = call i1 @gf_check(%p, 32 bytes, read, site 7, ...)
                                               %q = select i1 %ok, ptr %p, ptr @gf_spare
                                               %x = load <8 x float>, ptr %q

Works on finished llvmlite functions, whoever wrote them.  Of a masked access the lanes from the first to the last
active one count; of a gather each active lane by itself.  An access to a local variable that can be seen to lie inside
of it has no call.  What touches memory in a way that is not known here is refused: InternalError.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from llvmlite import ir
from llvmlite.ir import instructions as code

from graphflow.compiler.llvm.code import I1, I32, I64, PTR, const, intrinsic
from graphflow.core.errors import InternalError

__all__ = ["Site", "byte_size", "check_accesses", "opaque"]


@dataclass(frozen=True)
class Site:
    """An access of the code: in which function, read or write, at most how many bytes, and its text."""

    function: str
    writes: bool
    bytes: int
    text: str


def check_accesses(function: ir.Function, check: ir.Function, spare: ir.Value, first: int) -> list[Site]:
    """Let every access of a function ask `check`, and go to `spare` if that says no; returns the sites, numbered from
    `first`.

    i1 check(i64 start, i64 bytes, i64 writes, i64 site, i64 local, i64 local bytes)
    """
    checker = _Checker(check, spare, first)
    for block in function.blocks:
        checker.rewrite(block)
    return checker.sites


class _Checker:
    def __init__(self, check: ir.Function, spare: ir.Value, first: int) -> None:
        self.check, self.spare, self.first = check, spare, first
        self.sites: list[Site] = []
        self.b: Any = None

    def rewrite(self, block: ir.Block) -> None:
        """Write the block anew, with its checks."""
        instructions, block.instructions = block.instructions, []
        self.b = ir.IRBuilder(block)
        for instruction in instructions:
            rule = self._rule(instruction)
            if rule is not None:
                rule(instruction)
            block.instructions.append(instruction)
            self.b.position_at_end(block)

    def _rule(self, instruction: Any) -> Callable[[Any], None] | None:
        """What is to be done before an instruction."""
        if isinstance(instruction, code.LoadInstr):
            return self._load
        if isinstance(instruction, code.StoreInstr):
            return self._store
        if isinstance(instruction, code.CallInstr):
            return self._rule_of_call(instruction)
        if isinstance(instruction, code.AtomicRMW | code.CmpXchg | code.LoadAtomicInstr | code.StoreAtomicInstr):
            raise _unknown(instruction)
        return None

    def _rule_of_call(self, call: Any) -> Callable[[Any], None] | None:
        callee = call.operands[0]
        for prefix, rule in self._intrinsics().items():
            if callee.name.startswith(prefix):
                return rule
        harmless = callee.name.startswith(("llvm.prefetch", "llvm.lifetime"))
        if harmless or callee.blocks or not any(_has_pointers(x.type) for x in (call, *call.operands[1:])):
            return None
        raise _unknown(call)

    def _intrinsics(self) -> dict[str, Callable[[Any], None]]:
        return {
            "llvm.masked.load": lambda call: self._masked(call, 1, call.type, call.operands[3], writes=False),
            "llvm.masked.store": lambda call: self._masked(
                call, 2, call.operands[1].type, call.operands[4], writes=True
            ),
            "llvm.masked.gather": lambda call: self._lanes(call, 1, call.type, call.operands[3], writes=False),
            "llvm.masked.scatter": lambda call: self._lanes(
                call, 2, call.operands[1].type, call.operands[4], writes=True
            ),
            "llvm.memcpy": lambda call: self._copy(call, {1: True, 2: False}),
            "llvm.memmove": lambda call: self._copy(call, {1: True, 2: False}),
            "llvm.memset": lambda call: self._copy(call, {1: True}),
        }

    # accesses

    def _load(self, load: Any) -> None:
        self._whole(load, 0, byte_size(load.type), writes=False)

    def _store(self, store: Any) -> None:
        self._whole(store, 1, byte_size(store.operands[0].type), writes=True)

    def _whole(self, access: Any, operand: int, size: int, *, writes: bool) -> None:
        pointer = access.operands[operand]
        if isinstance(pointer, code.AllocaInstr) and size <= _local_bytes(pointer):
            return
        site = self._site(access, writes, size)
        _replace(access, operand, self._checked(pointer, self._number(pointer), const(size), site))

    def _masked(self, call: Any, operand: int, vector: Any, mask: Any, *, writes: bool) -> None:
        pointer, size = call.operands[operand], byte_size(vector.element)
        bits = self._bits(mask, vector.count)
        low, high = (self._zeros(bits, end) for end in ("cttz", "ctlz"))
        lanes = self.b.sub(self.b.sub(const(64), high), low)  # negative if there is none
        start = self.b.add(self._number(pointer), self.b.mul(low, const(size)))
        site = self._site(call, writes, byte_size(vector))
        _replace(call, operand, self._checked(pointer, start, self.b.mul(lanes, const(size)), site))

    def _lanes(self, call: Any, operand: int, vector: Any, mask: Any, *, writes: bool) -> None:
        """A gather or a scatter: every lane has a pointer of its own."""
        pointers, size = call.operands[operand], byte_size(vector.element)
        site = self._site(call, writes, size)
        for n in range(vector.count):
            lane = ir.Constant(I32, n)
            pointer = self.b.extract_element(pointers, lane)
            wanted = self.b.select(self.b.extract_element(mask, lane), const(size), const(0))
            good = self._checked(pointer, self._number(pointer), wanted, site)
            pointers = self.b.insert_element(pointers, good, lane)
        _replace(call, operand, pointers)

    def _copy(self, call: Any, places: dict[int, bool]) -> None:
        """Some bytes from place to place; none of them if one is out of bounds."""
        length = call.operands[3]
        count = length if length.type == I64 else self.b.zext(length, I64)
        for operand, writes in places.items():
            pointer = call.operands[operand]
            good = self._ask(pointer, self._number(pointer), count, self._site(call, writes, 0))
            length = self.b.select(good, length, ir.Constant(length.type, 0))
        _replace(call, 3, length)

    # the call

    def _site(self, access: Any, writes: bool, size: int) -> int:
        self.sites.append(Site(self.b.function.name, writes, size, _text(access)))
        return self.first + len(self.sites) - 1

    def _checked(self, pointer: Any, start: Any, size: Any, site: int) -> Any:
        """The pointer if the access is in place, else spare memory."""
        good = self._ask(pointer, start, size, site)
        return self.b.select(good, self.b.bitcast(pointer, PTR), self.spare)

    def _ask(self, pointer: Any, start: Any, size: Any, site: int) -> Any:
        writes = const(int(self.sites[site - self.first].writes))
        return self.b.call(self.check, [start, size, writes, const(site), *self._local(pointer)])

    def _local(self, pointer: Any) -> tuple[Any, Any]:
        """Address and bytes of the local variable that a pointer may point into; zeros if there is none."""
        found = local_variables(pointer)
        if len(found) > 1:
            raise InternalError(f"internal error: a pointer into one of {len(found)} local variables: {_text(pointer)}")
        return (self.b.ptrtoint(found[0], I64), const(_local_bytes(found[0]))) if found else (const(0), const(0))

    def _number(self, pointer: Any) -> Any:
        return self.b.ptrtoint(pointer, I64)

    def _bits(self, mask: Any, lanes: int) -> Any:
        """Lane n of a mask as bit n of an i64."""
        if lanes > 64:
            raise InternalError(f"internal error: a mask of {lanes} lanes")
        bits = self.b.bitcast(mask, ir.IntType(lanes))
        return bits if lanes == 64 else self.b.zext(bits, I64)

    def _zeros(self, bits: Any, end: str) -> Any:
        """How many zeros stand at the low (cttz) or the high (ctlz) end; 64 where there are no ones."""
        function = intrinsic(self.b.module, f"llvm.{end}.i64", I64, [I64, I1])
        return self.b.call(function, [bits, ir.Constant(I1, 0)])


def local_variables(pointer: Any) -> list[Any]:
    """The local variables that a pointer may point into."""
    found: dict[Any, None] = {}
    seen: set[int] = set()
    stack = [pointer]
    while stack:
        value = stack.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, code.AllocaInstr):
            found[value] = None
        elif isinstance(value, code.GEPInstr | code.CastInstr):
            stack.append(value.operands[0])
        elif isinstance(value, code.SelectInstr):
            stack += value.operands[1:]
        elif isinstance(value, code.PhiInstr):
            stack += [x for x, _ in value.incomings]
    return list(found)


def _local_bytes(alloca: Any) -> int:
    """Bytes of a local variable; an unknown number of elements counts as one."""
    count = alloca.operands[0].constant if alloca.operands and isinstance(alloca.operands[0], ir.Constant) else 1
    return byte_size(alloca.allocated_type) * int(count)


def _replace(access: Any, operand: int, value: Any) -> None:
    operands = list(access.operands)
    operands[operand] = value
    access.operands = operands
    access._clear_string_cache()


def byte_size(kind: Any) -> int:
    """Bytes that a type takes in memory."""
    if isinstance(kind, ir.VectorType | ir.ArrayType):
        return int(kind.count) * byte_size(kind.element)
    if isinstance(kind, ir.IntType):
        return (int(kind.width) + 7) // 8
    if isinstance(kind, ir.FloatType | ir.DoubleType | ir.PointerType):
        return 4 if isinstance(kind, ir.FloatType) else 8
    raise InternalError(f"internal error: how many bytes does {kind} take?")


def opaque(value: Any) -> Any:
    """A global's address as a plain pointer."""
    return ir.FormattedConstant(PTR, value.get_reference())


def _has_pointers(kind: Any) -> bool:
    return isinstance(getattr(kind, "element", kind), ir.PointerType)


def _text(value: Any) -> str:
    return str(value).strip()


def _unknown(instruction: Any) -> InternalError:
    return InternalError(f"internal error: the bounds check does not know how to check: {_text(instruction)}")
