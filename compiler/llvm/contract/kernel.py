"""A level-2 kernel that is a contraction: its loops sorted into batch, rows and columns, its stores as the epilogue."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Any

from llvmlite import ir

from graphflow.compiler.llvm.code import first_lanes, prefetch
from graphflow.compiler.llvm.contract.emit import Axis, Contraction, EpiloguePoint, emit_contraction
from graphflow.compiler.llvm.contract.finish import FREE_ARGUMENTS
from graphflow.compiler.llvm.contract.shape import FEW_ROWS
from graphflow.compiler.llvm.contract.stream import store_streamed, streamed
from graphflow.compiler.llvm.emit import store_all, value
from graphflow.compiler.llvm.memory import address
from graphflow.compiler.llvm.scope import Function, Lanes, Scope, root_scope
from graphflow.compiler.llvm.target import Target
from graphflow.compiler.llvm.weight import weight_of
from graphflow.compiler.loops.ir import Contract, Expr, Kernel, Loop, walk
from graphflow.core.dim import Size, Symbol, coefficient, estimate, substitute

__all__ = ["Memory", "emit_contract"]

# Steps of k from which on it does not matter how results are stored.
LONG_SUM = 256
# Columns that leave most lanes empty.
FEW_COLUMNS = 4


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
    last, swapped = _contract_lane(kernel, contract, target)
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
    streams = streamed(kernel, last, target)
    exprs = walk([s.value for s in kernel.stores])
    points = frozenset(loop.symbol for loop in kernel.loops)
    loads = (e for e in exprs if e.kind == "load" and e.vars <= points)
    beside = {e.data[0]: e for e in loads if coefficient(e.data[1], last.symbol) == 1}
    spec = Contraction(
        contract.dtype.name,
        tuple(map(axis, batch)),
        tuple(map(axis, m)),
        axis(last),
        tuple(map(axis, contract.k)),
        a_offset,
        b_offset,
        contract.readers[0 if swapped else 1],
        None if streams is None else streams.buffer + FREE_ARGUMENTS,
        sum(estimate(kernel.buffers[number].size) * e.dtype.size for number, e in beside.items()),
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
        if point.asks:
            return _ask(scope, beside)
        for e in exprs:
            if e.kind == "sum":
                scope.values[e] = [point.value]
        if streams is None or not point.streams:
            return store_all(scope, list(kernel.stores))
        value(streams.value, scope)
        store_all(scope, [s for s in kernel.stores if s is not streams])
        return store_streamed(scope, streams, last)

    code = emit_contraction(module, name, spec, target, size, epilogue, sum(map(weight_of, exprs)))
    return code, (a_buffer, b_buffer, Memory.PACKED, Memory.WORKSPACE, *range(len(kernel.buffers)))


def _ask(scope: Scope, loads: Mapping[int, Expr]) -> None:
    """Ask for what is read of each buffer, by the first lane."""
    for buffer, e in loads.items():
        prefetch(scope.builder, address(scope, buffer, e.data[1], e.dtype))


def _contract_lane(kernel: Kernel, contract: Contract, target: Target) -> tuple[Loop, bool]:
    """(the loop that lanes run along, whether the operands change places for that).

    It is the last one, but where that has a single turn (a matrix times a vector) the last one that has more, if only
    one operand moves with it: results lie side by side along it too.  Where the last one has few turns and the one
    before it walks through a large operand, lanes run along that, so that it is read as it lies, for all columns at
    once; results are scattered then, which is little beside long sums.
    """
    loops = kernel.loops
    if _is_skinny(kernel, contract, target):
        return loops[-2], _moves(contract, loops[-2])[0]
    for loop in reversed(loops):
        if loop.extent == 1:
            continue
        moves = _moves(contract, loop)
        return (loops[-1], False) if all(moves) else (loop, moves[0])
    return loops[-1], False


def _moves(contract: Contract, loop: Loop) -> tuple[bool, bool]:
    """Whether each operand moves with a loop."""
    return coefficient(contract.a_index, loop.symbol) != 0, coefficient(contract.b_index, loop.symbol) != 0


def _is_skinny(kernel: Kernel, contract: Contract, target: Target) -> bool:
    """Whether the last loop has few turns, and the one before it many, through a large operand of its own."""
    if len(kernel.loops) < 2 or len(contract.k) > 1 or any(s.depth < len(kernel.loops) for s in kernel.stores):
        return False
    rows, columns = kernel.loops[-2:]
    m, k = estimate(rows.extent), estimate(contract.k[0].extent)
    if not isinstance(columns.extent, int) or not 1 < columns.extent <= FEW_ROWS:
        return False
    moves = _moves(contract, rows)
    if all(moves) or _moves(contract, columns) != moves[::-1]:
        return False
    if k < LONG_SUM or m * k * contract.dtype.size <= target.l2_bytes:
        return False
    index = contract.a_index if moves[0] else contract.b_index
    down, along = (coefficient(index, loop.symbol) for loop in (rows, contract.k[0]))
    # Rows that lie along k are read well by an ordinary tile too.
    return down == 1 or (along == 1 and columns.extent <= FEW_COLUMNS)


def _root_at(kernel: Kernel, target: Target, point: EpiloguePoint, symbols: dict[str, int]) -> Scope:
    """The scope of the function around an epilogue: its entry, where what no element changes is computed."""
    root = root_scope(point.entry, len(kernel.buffers), point.args, point.dims, symbols, skip=FREE_ARGUMENTS)
    root.function.fma, root.function.avx512 = target.has_fma, target.has_avx512
    root.function.width = point.value.type.count
    return root


def _without(index: Size, free: dict[Symbol, int]) -> Size:
    """The part of an index that no loop changes."""
    return substitute(index, lambda atom: 0 if atom in free else None)
