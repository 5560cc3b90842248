"""A level-2 kernel that is a contraction: its loops sorted into batch, rows and columns, its stores as the epilogue."""

from __future__ import annotations

from enum import Enum
from typing import Any

from llvmlite import ir

from graphflow.compiler.llvm.contract import Axis, Contraction, EpiloguePoint, emit_contraction
from graphflow.compiler.llvm.contract_finish import FREE_ARGUMENTS
from graphflow.compiler.llvm.contract_ir import first_lanes
from graphflow.compiler.llvm.nest import store_all
from graphflow.compiler.llvm.schedule import weight_of
from graphflow.compiler.llvm.scope import Function, Lanes, Scope, root_scope
from graphflow.compiler.llvm.target import Target
from graphflow.compiler.loops.ir import Contract, Kernel, Loop, walk
from graphflow.core.dim import Size, Symbol, coefficient, substitute

__all__ = ["Memory", "emit_contract"]


class Memory(Enum):
    """An argument that is no buffer of the kernel."""

    PACKED = "packed"
    WORKSPACE = "workspace"


def emit_contract(
    module: ir.Module, name: str, kernel: Kernel, target: Target, symbols: dict[str, int]
) -> tuple[Any, tuple[int | Memory, ...]]:
    """The contraction's code, and which buffers of the kernel its arguments are or what memory."""
    contract = kernel.contract
    assert contract is not None
    last, swapped = _contract_lane(kernel.loops, contract)
    operands = [(contract.a, contract.a_index), (contract.b, contract.b_index)]
    (a_buffer, a_index), (b_buffer, b_index) = reversed(operands) if swapped else operands
    outer = [loop for loop in kernel.loops if loop is not last]
    batch = [loop for loop in outer if coefficient(b_index, loop.symbol) != 0]
    m = [loop for loop in outer if loop not in batch]
    index_of = a_index, b_index

    def axis(loop: Loop) -> Axis:
        a, b = (coefficient(index, loop.symbol) for index in index_of)
        assert a is not None
        assert b is not None
        return Axis(loop.extent, a, b)

    free = {loop.symbol: 0 for loop in (*kernel.loops, *contract.k)}
    a_offset, b_offset = (_without(index, free) for index in index_of)
    spec = Contraction(
        contract.dtype.name,
        tuple(map(axis, batch)),
        tuple(map(axis, m)),
        axis(last),
        tuple(map(axis, contract.k)),
        a_offset,
        b_offset,
        contract.readers[0 if swapped else 1],
    )

    def size(b: Any, s: Size, dims: Any) -> Any:
        return Scope(None, b, {}, None, Function(b.function, dims, [], symbols)).size(s)

    def epilogue(b: Any, point: EpiloguePoint) -> None:
        root = _root_at(kernel, target, point, symbols)
        variables = {loop.symbol: i for loop, i in zip((*batch, *m), point.index, strict=True)}
        variables[last.symbol] = point.lane
        width = point.value.type.count
        mask = None if point.count is None else [first_lanes(b, point.count, width)]
        scope = root.child(b, variables, Lanes(last.symbol, width, 1, mask))
        for e in exprs:
            if e.kind == "sum":
                scope.values[e] = [point.value]
        store_all(scope, list(kernel.stores))

    exprs = walk([s.value for s in kernel.stores])
    code = emit_contraction(module, name, spec, target, size, epilogue, sum(map(weight_of, exprs)))
    return code, (a_buffer, b_buffer, Memory.PACKED, Memory.WORKSPACE, *range(len(kernel.buffers)))


def _contract_lane(loops: tuple[Loop, ...], contract: Contract) -> tuple[Loop, bool]:
    """(the loop that lanes run along, whether the operands change places for that).

    It is the last one, but where that has a single turn (a matrix times a vector) the last one that has more, if only
    one operand moves with it: results lie side by side along it too.
    """
    for loop in reversed(loops):
        if loop.extent == 1:
            continue
        moves = [coefficient(index, loop.symbol) != 0 for index in (contract.a_index, contract.b_index)]
        return (loops[-1], False) if all(moves) else (loop, moves[0])
    return loops[-1], False


def _root_at(kernel: Kernel, target: Target, point: EpiloguePoint, symbols: dict[str, int]) -> Scope:
    """The scope of the function around an epilogue: its entry, where what no element changes is computed."""
    root = root_scope(point.entry, len(kernel.buffers), point.args, point.dims, symbols, skip=FREE_ARGUMENTS)
    root.function.fma, root.function.avx512 = target.has_fma, target.has_avx512
    root.function.width = point.value.type.count
    return root


def _without(index: Size, free: dict[Symbol, int]) -> Size:
    """The part of an index that no loop changes."""
    return substitute(index, lambda atom: 0 if atom in free else None)
