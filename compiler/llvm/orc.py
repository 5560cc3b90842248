"""LLVM's own linker and loader, for objects that `elf.py` does not take: other processors, other systems."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from llvmlite import binding as llvm

from graphflow.compiler.llvm.load import immortalize
from graphflow.compiler.llvm.machine import initialize

__all__ = ["link"]

_library_numbers = itertools.count()


def link(objects: Iterable[bytes], names: Collection[str], known: Mapping[str, int]) -> Any:
    """Load objects; the result's items are the addresses of `names`, and its end is the code's.

    `known` are addresses of symbols that they may use; RuntimeError for others, unless the process has them.
    """
    builder = llvm.JITLibraryBuilder().add_current_process()
    for code in objects:
        builder.add_object_img(code)
    for name, address in known.items():
        if name not in names:
            builder.import_symbol(name, address)
    for name in names:
        builder.export_symbol(name)
    # A library's name can never be used again, even after it is freed.
    return builder.link(jit(), f"graphflow{next(_library_numbers)}")


@functools.cache
def jit() -> Any:
    """The process' one linker and loader. Never disposed of: threads may be inside its code until the very end."""
    initialize()
    llvm.initialize_native_asmparser()
    engine = llvm.create_lljit_compiler(use_jit_link=True)
    immortalize(engine)
    return engine
