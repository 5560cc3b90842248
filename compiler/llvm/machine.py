"""LLVM's code generators: `emit_object(target_machine(target), module)`, in as many threads as you like.

LLVM asks for no more than that threads share neither context nor generator.  llvmlite lets one thread at a time into
LLVM all the same; what takes long goes past that.
"""

from __future__ import annotations

import ctypes
import functools
import threading
from typing import Any

from llvmlite import binding as llvm

from graphflow.compiler.llvm.target import Target

__all__ = ["CODEGEN_LEVEL", "emit_object", "initialize", "target_machine"]

CODEGEN_LEVEL = 2  # 1, 2 and 3 were measured on kernels: the same time, size and speed; 0 is 2 to 10 times slower code

_of_thread = threading.local()


def target_machine(target: Target) -> Any:
    """The calling thread's `new_target_machine`: two threads must not use one at the same time."""
    machines: dict[Target, Any] = _of_thread.__dict__.setdefault("machines", {})
    if target not in machines:
        machines[target] = new_target_machine(target)
    return machines[target]


def new_target_machine(target: Target) -> Any:
    """LLVM's code generator for `target`. Position-independent small-model code: short addressing, movable."""
    initialize()
    backend = llvm.Target.from_triple(target.triple)
    return backend.create_target_machine(
        cpu=target.cpu, features=",".join(target.features), opt=CODEGEN_LEVEL, reloc="pic", codemodel="small"
    )


@functools.cache
def initialize() -> None:
    """Register all of LLVM's backends, once."""
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()


def emit_object(machine: Any, module: Any) -> bytes:
    """What `machine.emit_object(module)` answers, but for llvmlite's lock, which lets one thread at a time into LLVM.

    LLVM asks for no more than that threads share neither context nor machine.
    """
    library, failure = unlocked_library(), ctypes.c_char_p()
    buffer = library.LLVMPY_TargetMachineEmitToMemory(pointer_of(machine), pointer_of(module), 1, ctypes.byref(failure))
    if not buffer:
        raise RuntimeError(f"internal error: no machine code: {(failure.value or b'').decode()}")
    try:
        return ctypes.string_at(library.LLVMPY_GetBufferStart(buffer), library.LLVMPY_GetBufferSize(buffer))
    finally:
        library.LLVMPY_DisposeMemoryBuffer(buffer)


def pointer_of(owner: Any) -> Any:
    """LLVM's object behind one of llvmlite's."""
    return ctypes.cast(owner._as_parameter_, ctypes.c_void_p)


@functools.cache
def unlocked_library() -> Any:
    """llvmlite's library once more, without its lock: loading it again gives the same one."""
    library = ctypes.CDLL(llvm.ffi.lib._name)
    pointer, number = ctypes.c_void_p, ctypes.c_int
    for name, result, arguments in (
        ("TargetMachineEmitToMemory", pointer, (pointer, pointer, number, ctypes.POINTER(ctypes.c_char_p))),
        ("GetBufferStart", pointer, (pointer,)),
        ("GetBufferSize", ctypes.c_size_t, (pointer,)),
        ("DisposeMemoryBuffer", None, (pointer,)),
    ):
        function = getattr(library, f"LLVMPY_{name}")
        function.restype, function.argtypes = result, arguments
    return library
