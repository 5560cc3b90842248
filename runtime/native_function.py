"""LLVM functions that read tables of words and call CPython's and NumPy's C functions.

f = NativeFunction(module, "gf_first", PTR, (PTR, I64))
f.b.ret(f.word(f.args[0], 0))
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from llvmlite import ir

__all__ = ["BIT", "I8", "I32", "I64", "NULL", "PTR", "VOID", "NativeFunction"]

BIT, I8, I32, I64 = ir.IntType(1), ir.IntType(8), ir.IntType(32), ir.IntType(64)
PTR, VOID = ir.PointerType(), ir.VoidType()
NULL = ir.Constant(PTR, None)


def opaque(value: Any) -> Any:
    """A global's address as a plain pointer: llvmlite takes its own typed ones for something else."""
    return ir.FormattedConstant(PTR, value.get_reference())


class NativeFunction:
    """A function under construction; `b` is its builder."""

    def __init__(
        self, module: ir.Module, name: str, result: ir.Type, arguments: Sequence[ir.Type], *, public: bool = False
    ) -> None:
        self.module = module
        self.function = ir.Function(module, ir.FunctionType(result, arguments), name)
        if not public:
            self.function.linkage = "internal"
        self.args = self.function.args
        self.b = ir.IRBuilder(self.function.append_basic_block("entry"))

    def api(self, name: str, result: ir.Type, *arguments: Any) -> Any:
        """Call a C function."""
        found = self.module.globals.get(name)
        if found is None:
            kind = ir.FunctionType(result, [argument.type for argument in arguments])
            found = ir.Function(self.module, kind, name)
        return self.b.call(found, arguments)

    def known(self, name: str) -> Any:
        """The address of an object, known to the linker."""
        found = self.module.globals.get(name)
        return opaque(ir.GlobalVariable(self.module, I8, name) if found is None else found)

    def text(self, value: str) -> Any:
        """A C string."""
        data = bytearray(value.encode() + b"\0")
        constant = ir.GlobalVariable(self.module, ir.ArrayType(I8, len(data)), self.module.get_unique_name("text"))
        constant.initializer = ir.Constant(constant.value_type, data)
        constant.linkage = "internal"
        constant.global_constant = True
        return opaque(constant)

    def field(self, base: Any, offset: int, kind: ir.Type) -> Any:
        """Load a `kind` that is `offset` bytes after `base`."""
        return self.b.load(self.b.gep(base, (I64(offset),), source_etype=I8), typ=kind)

    def place(self, table: Any, index: Any) -> Any:
        """The address of a word of a table; `index` is a number or an i64."""
        return self.b.gep(table, (I64(index) if isinstance(index, int) else index,), source_etype=I64)

    def word(self, table: Any, index: Any, kind: ir.Type = I64) -> Any:
        """Load a word, or the pointer in it."""
        return self.b.load(self.place(table, index), typ=kind)

    def store(self, value: Any, table: Any, index: Any) -> None:
        """Store an i64, a number or a pointer."""
        self.b.store(I64(value) if isinstance(value, int) else value, self.place(table, index))

    def is_zero(self, value: Any) -> Any:
        """Whether an integer or a pointer is 0."""
        return self.b.icmp_unsigned("==", value, ir.Constant(value.type, None if value.type == PTR else 0))

    def same(self, one: Any, other: Any) -> Any:
        """Whether integers or pointers are equal."""
        return self.b.icmp_unsigned("==", one, I64(other) if isinstance(other, int) else other)

    def leave_if(self, condition: Any, result: Any) -> None:
        """Return `result` in the unlikely case of `condition`."""
        with self.b.if_then(condition, likely=False):
            self.b.ret(result)

    def leave_if_void(self, condition: Any) -> None:
        """Return, in the case of `condition`."""
        with self.b.if_then(condition):
            self.b.ret_void()

    @contextmanager
    def each(self, count: Any) -> Iterator[Any]:
        """A loop: the block is its body, for 0 <= index < count."""
        b = self.b
        with b.goto_entry_block():
            place = b.alloca(I64)
        head, body, end = (self.function.append_basic_block(name) for name in ("head", "body", "end"))
        b.store(I64(0), place)
        b.branch(head)
        b.position_at_end(head)
        index = b.load(place, typ=I64)
        b.cbranch(b.icmp_signed("<", index, count), body, end)
        b.position_at_end(body)
        yield index
        b.store(b.add(index, I64(1)), place)
        b.branch(head)
        b.position_at_end(end)
