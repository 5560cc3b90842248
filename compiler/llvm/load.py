"""Machine code from objects, without LLVM where that can be: `load_objects`, `stored_library`.

    declare_symbol("gf_poll", address)                 # code that is loaded from now on may call it
    library = load_objects((code,), ("step",))         # what jit.py's `compile_object` made, here or in another process
    library.address("step")                            # an int; the code lives as long as `library`
    stored_library("pool", make, host_target())        # the module that `make` writes, from the cache if it is there

Code that calls functions of ours by name finds those that `declare_symbol` made known, then the process' own (libc).
On x86-64 with ELF, objects are linked here (elf.py); elsewhere LLVM does it (orc.py).
"""

from __future__ import annotations

import ctypes
import functools
import os
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import astuple
from typing import TYPE_CHECKING, Any

import llvmlite

from graphflow.compiler.cache import of_environment
from graphflow.compiler.cache_key import digest_of
from graphflow.compiler.llvm import elf

if TYPE_CHECKING:
    from graphflow.compiler.llvm.target import Target

__all__ = ["LoadedLibrary", "declare_symbol", "immortalize", "load_objects", "stored_library", "surroundings"]

_symbols: dict[str, int] = {}


class LoadedLibrary:
    """Machine code in memory, freed with the object: `addresses` of what was asked for, and the memory's owner."""

    def __init__(self, owner: object, addresses: Mapping[str, int]):
        self._owner = owner
        self._addresses = addresses

    def address(self, name: str) -> int:
        """Where `name` starts. KeyError if it was not among the names asked for."""
        return self._addresses[name]

    def keep_forever(self) -> None:
        """Never free the code, not even at exit: for code that threads we cannot stop may be running."""
        immortalize(self._owner)


def load_objects(objects: Iterable[bytes], names: Collection[str]) -> LoadedLibrary:
    """Load what `compile_object` made; objects may call each other. RuntimeError if a symbol they call is unknown.

    KeyError if they do not define all of `names`.
    """
    objects = tuple(objects)
    if all(map(elf.is_linked_here, objects)):
        image = elf.link(objects, address_of)
        return LoadedLibrary(image.memory, {name: image.addresses[name] for name in names})
    from graphflow.compiler.llvm import orc

    library = orc.link(objects, names, _symbols)
    return LoadedLibrary(library, {name: library[name] for name in names})


def declare_symbol(name: str, address: int) -> None:
    """Let code that is loaded from now on call or read `name`, which is at `address` and must stay there."""
    _symbols[name] = address


def address_of(name: str) -> int:
    """Where a symbol is that was declared, or that the process has. RuntimeError if there is none."""
    found = _symbols.get(name)
    if found is not None:
        return found
    try:
        address = ctypes.cast(getattr(process(), name), ctypes.c_void_p).value
    except AttributeError:
        address = None
    if not address:
        raise RuntimeError(f"internal error: machine code calls {name!r}, which nobody has")
    return address


@functools.cache
def process() -> ctypes.CDLL:
    """The symbols of this process: Python's, the C library's."""
    return ctypes.CDLL(None)


def stored_library(name: str, make: Callable[[], object], target: Target, *facts: int) -> LoadedLibrary:
    """The module that `make` writes, from the cache if it is there; `make` is not called then.

    `name` tells modules apart, and `facts` are all that the code depends on besides the target and our sources.
    """
    cache = of_environment()
    key = digest_of((name, facts, surroundings(target)))
    found = None if cache is None else cache.read(key)
    if found is not None:
        names, _, object_code = found.partition(b"\n")
        return load_objects((object_code,), tuple(names.decode().split()))
    from graphflow.compiler.llvm.jit import compile_object

    object_code, exported = compile_object(str(make()), target)
    if cache is not None:
        cache.write(key, b"%s\n%s" % (" ".join(exported).encode(), object_code))
    return load_objects((object_code,), exported)


def surroundings(target: Target) -> tuple[Any, ...]:
    """What object code depends on besides the text that it is made of."""
    return (*astuple(target), *installed_llvm())


@functools.cache
def installed_llvm() -> tuple[Any, ...]:
    """Tells one LLVM from another: llvmlite's version, and name, size and time of change of its library."""
    folder = os.path.join(os.path.dirname(llvmlite.__file__), "binding")
    found = [entry for entry in os.scandir(folder) if "llvmlite" in entry.name]
    return (llvmlite.__version__, *sorted((f.name, f.stat().st_size, f.stat().st_mtime_ns) for f in found))


def immortalize(owner: object) -> None:
    """Never destroy `owner`, not even when the interpreter ends: one reference is given to nobody."""
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(owner))
