"""A level-2 kernel as LLVM functions: `emit_kernel`.

A plain kernel is one launch, whose loops `schedule.py` decides and `nest.py` writes.  A contraction is handed to
`contract/kernel.py`.  The value of an element is `emit.py`'s.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from llvmlite import ir

from graphflow.compiler.llvm.code import I64, PTR, at, const
from graphflow.compiler.llvm.contract.kernel import Memory, emit_contract
from graphflow.compiler.llvm.contract.units import Launch as ContractLaunch
from graphflow.compiler.llvm.cut import Schedule
from graphflow.compiler.llvm.launch_order import Order
from graphflow.compiler.llvm.memory import emit_stream_fence
from graphflow.compiler.llvm.nest import emit_nest
from graphflow.compiler.llvm.overlap import two_rows
from graphflow.compiler.llvm.schedule import make_schedule, width_of
from graphflow.compiler.llvm.scope import Scope, root_scope
from graphflow.compiler.llvm.target import Target
from graphflow.compiler.llvm.weight import touched_bytes
from graphflow.compiler.loops.ir import Buffer, Kernel
from graphflow.core.dim import Size
from graphflow.core.type import static

__all__ = ["KernelCode", "Launch", "Memory", "Number", "emit_kernel", "emit_plain", "order_of", "unit_ns"]

FLOPS_PER_NS = 80
WEIGHT_PER_NS = 16


@dataclass(frozen=True)
class Launch:
    """A function to run over [0, units), about how many nanoseconds a unit takes, and in which order to take units."""

    name: str
    units: Size
    unit_ns: int
    order: Order = Order.SHARES


@dataclass(frozen=True)
class Number:
    """An argument that is a number itself, where kernels of other extents share the function."""

    value: int


@dataclass(frozen=True)
class KernelCode:
    """Launches in order; `arguments` are buffer numbers of the kernel, other memory, or numbers.

    Of a contraction whose first launch packs: what `ContractionCode` says about it, and which buffer it packs.
    """

    launches: tuple[Launch, ...]
    arguments: tuple[int | Number | Memory, ...]
    workspace_bytes: Size = 0
    scratch_bytes: int = 0
    packed_bytes: Size = 0
    packing: tuple[object, ...] | None = None
    packs: int = 0
    kept: bool = False


def emit_kernel(module: ir.Module, name: str, kernel: Kernel, target: Target, symbols: dict[str, int]) -> KernelCode:
    """Write a kernel into a module.  `symbols`: where each symbol's value stands in the array `dims`."""
    if kernel.contract is not None:
        code, arguments = emit_contract(module, name, kernel, target, symbols)
        launches = tuple(contract_launch(one, kernel, target) for one in code.launches)
        _, packs, *_ = arguments
        assert isinstance(packs, int)
        sizes = code.workspace_bytes, code.scratch_bytes, code.packed_bytes
        return KernelCode(launches, arguments, *sizes, code.packing, packs, code.kept)
    schedule = make_schedule(kernel, target)
    scratch_bytes = emit_plain(module, name, kernel, schedule, target, symbols)
    launch = Launch(name, schedule.units, unit_ns(schedule), order_of(kernel, target))
    return KernelCode((launch,), tuple(range(len(kernel.buffers))), scratch_bytes=scratch_bytes)


def order_of(kernel: Kernel, target: Target, *, together: bool = False) -> Order:
    """Of a launch of a kernel. One that touches more than the last cache holds never turns: memory is read at its best
    one way only, and little of it would be found."""
    if together:
        return Order.TOGETHER
    return Order.TURNING if touched_bytes(kernel) <= target.l3_bytes else Order.SHARES


def contract_launch(one: ContractLaunch, kernel: Kernel, target: Target) -> Launch:
    """A launch of a contraction as one of its kernel."""
    unit_ns = max(one.unit_flops // FLOPS_PER_NS, 1)
    return Launch(one.name, one.units, unit_ns, order_of(kernel, target, together=one.together))


def unit_ns(schedule: Schedule) -> int:
    """About how many nanoseconds a unit takes."""
    return max(schedule.unit_weight // WEIGHT_PER_NS, 1)


def emit_plain(
    module: ir.Module,
    name: str,
    kernel: Kernel,
    schedule: Schedule,
    target: Target,
    symbols: dict[str, int],
    numbers: Sequence[str] = (),
) -> int:
    """Write a kernel without a contraction; returns the bytes of scratch that it needs.

    `numbers` are symbols whose values stand behind its pointers.
    """
    function = _function(module, name)
    b = ir.IRBuilder(function.append_basic_block("entry"))
    args, dims, begin, end, scratch = function.args
    root = root_scope(b, len(kernel.buffers), args, dims, symbols)
    root.function.fma, root.function.avx512 = target.has_fma, target.has_avx512
    root.function.width = width_of(kernel, target)
    root.function.side_by_side = schedule.side_by_side
    for n, key in enumerate(numbers, len(kernel.buffers)):
        root.function.numbers[key] = b.load(at(b, args, const(n), I64), typ=I64)
    root.function.ahead.update({one.stage: one.loads for one in schedule.ahead})
    kept = kernel.scratch if schedule.beside is None else two_rows(kernel.scratch)
    scratch_bytes = _add_scratch(root, (*kept, *schedule.totals), scratch)
    emit_nest(root, kernel, schedule, begin, end)
    if schedule.stream is not None:  # whoever waits for the kernel must find what went past the caches
        emit_stream_fence(b, target)
    b.ret_void()
    return scratch_bytes


def _function(module: ir.Module, name: str) -> ir.Function:
    kind = ir.FunctionType(ir.VoidType(), [PTR, PTR, I64, I64, PTR])
    function = ir.Function(module, kind, name)
    function.linkage = "internal"
    return function


def _add_scratch(root: Scope, own: Sequence[Buffer], scratch: Any) -> int:
    """The kernel's own buffers in the thread's memory, as further arguments; returns their bytes."""
    used = 0
    for row in own:
        root.function.arguments.append(at(root.builder, scratch, const(used), ir.IntType(8)))
        used += -(-static(row.size) * row.dtype.size // 64) * 64
    return used
