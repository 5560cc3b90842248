"""A linker for x86-64 ELF objects, so that stored machine code runs without LLVM: `link(objects, address_of)`.

    image = link((code,), address_of)   # address_of(name): where a symbol is that no object defines
    image.addresses["step"]             # of the functions and globals that the objects define

Objects are position-independent code of the small model (machine.py).  They are laid out one after the other: first
what is read or run; then an *entry* for each symbol that may be far away, its address and a jump there, since a call
reaches two gigabytes only; then, on pages of its own, what is written.

The formats are those of the System V ABI and its AMD64 supplement, whose letters are S, A and P.
"""

from __future__ import annotations

import ctypes
import functools
import mmap
import struct
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

__all__ = ["Image", "ObjectFile", "is_linked_here", "link"]

Table = np.ndarray[Any, Any]

ELF64_LITTLE, X86_64 = b"\x7fELF\x02\x01", 62
SECTION = np.dtype(
    {
        "names": ["kind", "flags", "offset", "size", "link", "target", "alignment"],
        "formats": ["<u4", "<u8", "<i8", "<i8", "<u4", "<u4", "<i8"],
        "offsets": [4, 8, 24, 32, 40, 44, 48],
        "itemsize": 64,
    }
)
SYMBOL = np.dtype(
    [("name", "<u4"), ("info", "u1"), ("other", "u1"), ("section", "<u2"), ("value", "<i8"), ("size", "<i8")]
)
RELOCATION = np.dtype([("offset", "<i8"), ("kind", "<u4"), ("symbol", "<u4"), ("addend", "<i8")])

SYMBOLS, RELOCATIONS, ZEROS, UNWINDING = 2, 4, 8, 0x70000001  # kinds of sections
WRITTEN, LOADED = 1, 2  # flags of sections
FUNCTION, GLOBAL = 2, 1  # a symbol's type and binding
FIRST_RESERVED = 0xFF00  # from here on a symbol's section is none

ABSOLUTE = (1,)  # R_X86_64_64: S + A
NEAR = (2, 4)  # R_X86_64_PC32 and PLT32: S + A - P, where S may be a jump to the symbol
BY_ADDRESS = (9, 41, 42)  # R_X86_64_GOTPCREL and two more: the same, where S holds the symbol's address

JUMP = b"\xff\x25\x02\x00\x00\x00\xcc\xcc"  # jmp [rip + 2], to the address behind these eight bytes
ENTRY_BYTES = 16
REACH = 1 << 30
"""An address so near to an image, which is far smaller, is near to all of it."""


class ObjectFile:
    """The tables of a relocatable object.  ValueError for what is no 64-bit little-endian ELF object."""

    def __init__(self, code: bytes) -> None:
        if not code.startswith(ELF64_LITTLE):
            raise ValueError("this code is no 64-bit little-endian ELF object")
        self.code = code
        start, count = struct.unpack_from("<Q", code, 40)[0], struct.unpack_from("<H", code, 60)[0]
        self.sections = np.frombuffer(code, SECTION, count, start)
        symbols = self.sections[np.flatnonzero(self.sections["kind"] == SYMBOLS)[0]]
        self.symbols = self.table(symbols, SYMBOL)
        self._strings = int(self.sections[symbols["link"]]["offset"])

    def table(self, section: Any, row: np.dtype[Any]) -> Table:
        """What stands in a section, as rows."""
        return np.frombuffer(self.code, row, int(section["size"]) // row.itemsize, int(section["offset"]))

    def name(self, symbol: int) -> str:
        """What a symbol is called."""
        start = self._strings + int(self.symbols[symbol]["name"])
        return self.code[start : self.code.index(b"\0", start)].decode()

    def functions(self) -> Iterable[int]:
        """The symbols that are functions of this object."""
        is_function = (self.symbols["info"] & 15 == FUNCTION) & (self.symbols["section"] != 0)
        return map(int, np.flatnonzero(is_function))


@dataclass(frozen=True)
class Image:
    """Objects in memory, which is freed with `memory`, and where they have what others may use."""

    memory: mmap.mmap
    addresses: Mapping[str, int]


def is_linked_here(code: bytes) -> bool:
    """Whether an object is of the kind that `link` takes."""
    return code.startswith(ELF64_LITTLE) and struct.unpack_from("<H", code, 18)[0] == X86_64


def link(objects: Iterable[bytes], address_of: Callable[[str], int]) -> Image:
    """Load objects, which may call each other.  Raises what `address_of` does for a symbol that nobody defines."""
    parts = [_Part(ObjectFile(code)) for code in objects]
    constant = functools.reduce(lambda end, part: part.place(end, written=False), parts, 0)
    constant = functools.reduce(lambda end, part: part.place_entries(end), parts, constant)
    first_written = _aligned(constant, mmap.PAGESIZE)
    end = functools.reduce(lambda end, part: part.place(end, written=True), parts, first_written)
    memory = mmap.mmap(-1, max(end, 1), mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    image = np.frombuffer(memory, np.uint8)
    base = image.ctypes.data
    defined: dict[str, int] = {}
    for part in parts:
        defined |= part.defined(base)
    for part in parts:
        part.load(image, base, lambda name: defined[name] if name in defined else address_of(name))
    _make_executable(base, first_written)
    return Image(memory, defined)


class _Part:
    """An object on its way into memory: `places` are the offsets of its sections in the image, `entries` those of
    its symbols' entries; -1 for what has none."""

    def __init__(self, file: ObjectFile) -> None:
        self.file = file
        self.places = np.full(len(file.sections), -1, np.int64)
        self.entries = np.full(len(file.symbols), -1, np.int64)
        self.relocations = [
            (int(section["target"]), file.table(section, RELOCATION))
            for section in file.sections[file.sections["kind"] == RELOCATIONS]
        ]
        self.undefined = np.flatnonzero((file.symbols["section"] == 0) & (file.symbols["name"] != 0))

    def place(self, end: int, *, written: bool) -> int:
        """Give the sections that are written, or those that are not, places from `end` on; returns where they end."""
        sections = self.file.sections
        wanted = (sections["flags"] & (LOADED | WRITTEN)) == (LOADED | WRITTEN if written else LOADED)
        for number in np.flatnonzero(wanted & (sections["kind"] != UNWINDING)):
            end = _aligned(end, int(sections[number]["alignment"]))
            self.places[number] = end
            end += int(sections[number]["size"])
        return end

    def place_entries(self, end: int) -> int:
        """The same for entries: of all symbols that are not of this object, or whose address is read."""
        is_wanted = np.zeros(len(self.entries), bool)
        is_wanted[self.undefined] = True
        for _, rows in self.relocations:
            is_wanted[rows["symbol"][_is_one_of(rows["kind"], BY_ADDRESS)]] = True
        wanted = np.flatnonzero(is_wanted)
        end = _aligned(end, ENTRY_BYTES)
        self.entries[wanted] = end + ENTRY_BYTES * np.arange(len(wanted))
        return end + ENTRY_BYTES * len(wanted)

    def defined(self, base: int) -> dict[str, int]:
        """Where symbols for others are."""
        symbols = self.file.symbols
        is_ours = (symbols["section"] != 0) & (symbols["section"] < FIRST_RESERVED) & (symbols["info"] >> 4 == GLOBAL)
        addresses = self._addresses(base)
        return {self.file.name(int(n)): int(addresses[n]) for n in np.flatnonzero(is_ours)}

    def _addresses(self, base: int) -> Table:
        """Of the symbols of this object."""
        symbols = self.file.symbols
        inside = symbols["section"] < FIRST_RESERVED
        return np.where(inside, base + self.places[np.where(inside, symbols["section"], 0)] + symbols["value"], 0)

    def load(self, image: Table, base: int, address_of: Callable[[str], int]) -> None:
        """Copy the sections, write the entries, and put in what depends on addresses."""
        for section, place in zip(self.file.sections, self.places, strict=True):
            if place >= 0 and section["kind"] != ZEROS:
                image[place : place + section["size"]] = self.file.table(section, np.dtype(np.uint8))
        addresses = self._addresses(base)
        addresses[self.undefined] = [address_of(self.file.name(int(n))) for n in self.undefined]
        self._write_entries(image, addresses)
        near = np.where(abs(addresses - base) < REACH, addresses, base + self.entries)
        for target, rows in self.relocations:
            if self.places[target] >= 0:
                self._relocate(image, base, self.places[target] + rows["offset"], rows, addresses, near)

    def _write_entries(self, image: Table, addresses: Table) -> None:
        wanted = np.flatnonzero(self.entries >= 0)
        _scatter(image, self.entries[wanted], np.full(len(wanted), np.frombuffer(JUMP, "<i8")))
        _scatter(image, self.entries[wanted] + len(JUMP), addresses[wanted].astype("<i8"))

    def _relocate(self, image: Table, base: int, places: Table, rows: Table, addresses: Table, near: Table) -> None:
        kinds, symbols, addends = rows["kind"], rows["symbol"], rows["addend"]
        unknown = set(map(int, kinds)) - {*ABSOLUTE, *NEAR, *BY_ADDRESS}
        if unknown:
            raise RuntimeError(f"internal error: relocations of the kinds {sorted(unknown)} are not known")
        whole = _is_one_of(kinds, ABSOLUTE)
        _scatter(image, places[whole], (addresses[symbols] + addends)[whole].astype("<i8"))
        s = np.where(_is_one_of(kinds, BY_ADDRESS), base + self.entries[symbols] + len(JUMP), near[symbols])
        distances = (s + addends - (base + places))[~whole]
        if (abs(distances) >= 2 * REACH).any():
            raise RuntimeError("internal error: an address does not fit into 32 bits")
        _scatter(image, places[~whole], distances.astype("<i4"))


def _is_one_of(kinds: Table, some: tuple[int, ...]) -> Table:
    """For each whether it is among some.  NumPy's `isin` loads much of NumPy that nothing else here needs."""
    found: Table = (kinds[:, None] == some).any(axis=1)
    return found


def _aligned(offset: int, alignment: int) -> int:
    return -(-offset // max(alignment, 1)) * max(alignment, 1)


def _scatter(image: Table, places: Table, values: Table) -> None:
    """Write each value at its place, which need not be aligned."""
    size = values.dtype.itemsize
    image[places[:, None] + np.arange(size)] = values.view(np.uint8).reshape(-1, size)


def _make_executable(base: int, length: int) -> None:
    """Of memory what is not written is run or read from now on."""
    if length == 0:
        return
    protect = ctypes.CDLL(None, use_errno=True).mprotect
    protect.argtypes = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int
    if protect(base, length, mmap.PROT_READ | mmap.PROT_EXEC):
        raise OSError(ctypes.get_errno(), "this system does not let machine code be loaded into memory")
