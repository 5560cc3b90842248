"""Objects linked without LLVM's help: calls, data, pages, and what is refused."""

import ctypes
import gc
import platform
import struct
from pathlib import Path

import pytest

from graphflow.compiler.llvm import elf
from graphflow.compiler.llvm.jit import compile_object
from graphflow.compiler.llvm.load import address_of, load_objects
from graphflow.compiler.llvm.target import host_target

pytestmark = pytest.mark.skipif(
    platform.system() != "Linux" or platform.machine() != "x86_64", reason="LLVM links objects on other machines"
)
UNARY = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int)

CALLER = """
@calls = global i32 0
@table = internal constant [2 x ptr] [ptr @once, ptr @calls]

declare i32 @twice(i32)
declare i32 @abs(i32)

define i32 @once(i32 %x) noinline {
  %n = load i32, ptr @calls
  %m = add i32 %n, 1
  store i32 %m, ptr @calls
  ret i32 %x
}

define i32 @f(i32 %x) {
  %once = load ptr, ptr @table
  %a = call i32 %once(i32 %x)
  %b = call i32 @twice(i32 %a)
  %c = call i32 @abs(i32 %b)
  ret i32 %c
}

define ptr @where() {
  ret ptr @twice
}
"""
CALLED = """
@factor = constant i32 2

define i32 @twice(i32 %x) noinline {
  %f = load volatile i32, ptr @factor
  %y = mul i32 %x, %f
  ret i32 %y
}
"""


def objects() -> list[bytes]:
    return [compile_object(text, host_target())[0] for text in (CALLER, CALLED)]


def test_objects_call_each_other_and_the_process() -> None:
    library = load_objects(objects(), ("f", "calls", "where", "twice"))
    assert [UNARY(library.address("f"))(x) for x in (3, -5)] == [6, 10]
    assert ctypes.c_int.from_address(library.address("calls")).value == 2
    assert ctypes.CFUNCTYPE(ctypes.c_void_p)(library.address("where"))() == library.address("twice")


def permissions(address: int) -> str:
    """What may be done with memory: "r-xp"."""
    for line in Path("/proc/self/maps").read_text().splitlines():
        span, flags, *_ = line.split()
        first, last = (int(end, 16) for end in span.split("-"))
        if first <= address < last:
            return flags
    return ""


def test_no_page_is_both_written_and_run() -> None:
    library = load_objects(objects(), ("f", "calls", "factor"))
    assert permissions(library.address("f")) == "r-xp"
    assert permissions(library.address("factor")) == "r-xp"
    assert permissions(library.address("calls")) == "rw-p"


def test_memory_is_freed_with_the_library() -> None:
    code = objects()
    library = load_objects(code, ("f",))
    address = library.address("f")
    before = len(Path("/proc/self/maps").read_text().splitlines())
    for _ in range(50):
        load_objects(code, ("f",))
    gc.collect()
    assert abs(len(Path("/proc/self/maps").read_text().splitlines()) - before) < 10
    assert permissions(address) == "r-xp"


def test_a_symbol_that_nobody_has_is_named() -> None:
    with pytest.raises(RuntimeError, match="'twice', which nobody has"):
        load_objects(objects()[:1], ("f",))


def test_a_name_that_is_not_defined() -> None:
    with pytest.raises(KeyError, match="absent"):
        load_objects(objects(), ("absent",))


def test_relocations_of_other_kinds_are_refused() -> None:
    """Code for the large model has 64-bit differences, and so on; none is passed over in silence."""
    code = bytearray(objects()[1])
    file = elf.ObjectFile(bytes(code))
    section = file.sections[file.sections["kind"] == elf.RELOCATIONS][0]
    struct.pack_into("<I", code, int(section["offset"]) + 8, 24)
    with pytest.raises(RuntimeError, match=r"relocations of the kinds \[24\] are not known"):
        elf.link([bytes(code)], address_of)


def test_other_machines_objects_are_left_to_llvm() -> None:
    code = bytearray(objects()[1])
    assert elf.is_linked_here(bytes(code))
    struct.pack_into("<H", code, 18, 183)  # 64-bit ARM
    assert not elf.is_linked_here(bytes(code))
    assert not elf.is_linked_here(b"\xcf\xfa\xed\xfe" + bytes(64))  # a Mach-O object
    with pytest.raises(ValueError, match="no 64-bit little-endian ELF"):
        elf.ObjectFile(b"MZ" + bytes(64))


def test_llvm_links_the_same() -> None:
    """What other machines use."""
    from graphflow.compiler.llvm import orc

    library = orc.link(objects(), ("f", "twice"), {})
    assert UNARY(library["f"])(-4) == 8
