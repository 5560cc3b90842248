"""A level-2 kernel as LLVM functions: how its points are cut into units, rows and lanes, and the code of each.

A plain kernel is one launch: units are blocks of rows (or, for one long row, chunks of it); the last loop is vectorised
with a masked tail, unless its reductions are better read along their own axis.
A contraction is handed to `contract.py`, with the kernel's stores as its epilogue.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from llvmlite import ir

from graphflow.compiler.llvm.contract import Axis, Contraction, EpiloguePoint, emit_contraction
from graphflow.compiler.llvm.contract_ir import I64, PTR, at, const, divmod_, first_lanes
from graphflow.compiler.llvm.emit import store, value
from graphflow.compiler.llvm.scope import Function, Lanes, Scope, open_loop
from graphflow.compiler.llvm.target import Target
from graphflow.compiler.loops.ir import Contract, Expr, Kernel, Loop, Store, sizes_in, walk
from graphflow.core.dim import Size, Symbol, atoms_of, ceildiv, coefficient, estimate, product, substitute

__all__ = ["KernelCode", "Launch", "Number", "Schedule", "emit_kernel", "emit_plain", "make_schedule", "unit_ns"]

UNIT_WEIGHT = 65_536
"""About how much work a unit is, in scalar operations; a few microseconds."""

FLOPS_PER_NS = 80
WEIGHT_PER_NS = 16
WEIGHTS = {"load": 2, "const": 0, "position": 1, "guard": 3, "random": 60, "reduce": 1, "sum": 0}


@dataclass(frozen=True)
class Launch:
    """A function to run over [0, units), and about how many nanoseconds a unit takes."""

    name: str
    units: Size
    unit_ns: int


@dataclass(frozen=True)
class Number:
    """An argument that is a number itself, where kernels of other extents share the function."""

    value: int


@dataclass(frozen=True)
class KernelCode:
    """Launches in order; `arguments` are buffer numbers of the kernel, None for the workspace, or numbers."""

    launches: tuple[Launch, ...]
    arguments: tuple[int | Number | None, ...]
    workspace_bytes: Size = 0
    scratch_bytes: int = 0


def emit_kernel(module: ir.Module, name: str, kernel: Kernel, target: Target, symbols: dict[str, int]) -> KernelCode:
    """Write a kernel into a module.  `symbols`: where each symbol's value stands in the array `dims`."""
    if kernel.contract is not None:
        return _emit_contract(module, name, kernel, target, symbols)
    schedule = make_schedule(kernel, target)
    emit_plain(module, name, kernel, schedule, target, symbols)
    return KernelCode((Launch(name, schedule.units, unit_ns(schedule)),), tuple(range(len(kernel.buffers))))


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
) -> None:
    """Write a kernel without a contraction.  `numbers` are symbols whose values stand behind its pointers."""
    function = _function(module, name)
    b = ir.IRBuilder(function.append_basic_block("entry"))
    args, dims, begin, end, _ = function.args
    root = _root(b, kernel, target, args, dims, symbols, 0)
    for n, key in enumerate(numbers, len(kernel.buffers)):
        root.function.numbers[key] = b.load(at(b, args, const(n), I64), typ=I64)
    if schedule.tile is not None:
        _emit_tiles(root, kernel, schedule, schedule.tile, begin, end)
    elif schedule.chunk != 0:
        _emit_chunks(root, kernel, schedule, begin, end)
    else:
        _emit_rows(root, kernel, schedule, begin, end)
    b.ret_void()


def _function(module: ir.Module, name: str) -> ir.Function:
    kind = ir.FunctionType(ir.VoidType(), [PTR, PTR, I64, I64, PTR])
    function = ir.Function(module, kind, name)
    function.linkage = "internal"
    return function


def _root(b: Any, kernel: Kernel, target: Target, args: Any, dims: Any, symbols: dict[str, int], skip: int) -> Scope:
    """The scope of a function, with the pointers of the kernel's buffers loaded."""
    pointers = [b.load(at(b, args, const(n + skip), PTR), typ=PTR) for n in range(len(kernel.buffers))]
    nothing = b.alloca(I64)
    b.store(const(0), nothing)
    function = Function(b.function, dims, pointers, symbols)
    function.fma, function.avx512 = target.has_fma, target.has_avx512
    function.nothing, function.width = nothing, width_of(kernel, target)
    return Scope(None, b, {}, None, function)


def width_of(kernel: Kernel, target: Target) -> int:
    """Lanes: as many as the widest element type computed with has in a vector."""
    exprs = walk([s.value for s in kernel.stores])
    wide = any(e.dtype.size == 8 for e in exprs if e.kind not in ("position", "const"))
    return target.lanes("float64" if wide else "float32")


# schedule


@dataclass(frozen=True)
class Schedule:
    """Row loops, the vectorised loop if any, vectors at once, and what a unit is: rows, or a chunk of the one row.

    With `tile`, vectors at once are turns of that row loop, which `rows` holds no more.
    """

    rows: tuple[Loop, ...]
    lane: Loop | None
    vectors: int
    rows_per_unit: Size
    chunk: Size
    units: Size
    unit_weight: int
    tile: Loop | None = None


def make_schedule(kernel: Kernel, target: Target) -> Schedule:
    """Follows from sizes (their hints, where symbolic) only."""
    exprs = walk([s.value for s in kernel.stores])
    lane = _lane(kernel, exprs)
    rows = kernel.loops[:-1] if lane is not None else kernel.loops
    count = product(tuple(loop.extent for loop in rows))
    weight = max(_weight(kernel, exprs, rows), 1)
    width = width_of(kernel, target)
    tile = _tile(kernel, exprs, lane, width)
    if tile is not None:
        rows = tuple(loop for loop in rows if loop is not tile)
        blocks = product(tuple(loop.extent for loop in rows)) * ceildiv(tile.extent, width)
        per_unit = max(UNIT_WEIGHT // (weight * width), 1)
        return Schedule(rows, lane, width, per_unit, 0, ceildiv(blocks, per_unit), weight * width * per_unit, tile)
    vectors = _vectors(exprs, lane, width)
    if lane is not None and weight > 2 * UNIT_WEIGHT and not _row_work(kernel, exprs, lane):
        per_element = max(weight // max(estimate(lane.extent), 1), 1)
        block = width * vectors
        chunk = max(UNIT_WEIGHT // per_element // block, 1) * block
        units = count * ceildiv(lane.extent, chunk)
        return Schedule(rows, lane, vectors, 1, chunk, units, per_element * chunk)
    per_unit = max(UNIT_WEIGHT // weight, 1)
    return Schedule(rows, lane, vectors, per_unit, 0, ceildiv(count, per_unit), weight * per_unit)


def _lane(kernel: Kernel, exprs: list[Expr]) -> Loop | None:
    """The loop to vectorise: the last one, unless reductions over it are read along their own axis."""
    if not kernel.loops:
        return None
    last = kernel.loops[-1].symbol
    across = along = 0
    for e in exprs:
        if e.kind != "reduce" or last not in e.vars:
            continue
        indices = [x.data[1] for x in walk([e.args[0]]) if x.kind == "load"]
        across += sum(coefficient(i, last) == 1 for i in indices)
        along += max(sum(coefficient(i, loop.symbol) == 1 for i in indices) for loop in e.data[1])
    return kernel.loops[-1] if across >= along else None


def _tile(kernel: Kernel, exprs: list[Expr], lane: Loop | None, width: int) -> Loop | None:
    """The row loop along which data that is strided along the lanes lies contiguous; None where tiles do not serve."""
    if (
        lane is None
        or any(e.kind == "reduce" for e in exprs)
        or any(s.depth < len(kernel.loops) or coefficient(s.index, lane.symbol) != 1 for s in kernel.stores)
    ):
        return None
    indices = [e.data[1] for e in exprs if e.kind == "load"]
    strided = [i for i in indices if coefficient(i, lane.symbol) not in (0, 1)]
    candidates = {loop: sum(coefficient(i, loop.symbol) == 1 for i in strided) for loop in kernel.loops[:-1]}
    best = max(candidates, key=lambda loop: candidates[loop], default=None)
    if best is None or not candidates[best] or 2 * min(estimate(best.extent), estimate(lane.extent)) < width:
        return None
    sizes = [size for e in exprs for size in sizes_in(e.kind, e.data)] + [s.index for s in kernel.stores]
    linear = all(coefficient(size, loop.symbol) is not None for size in sizes for loop in (best, lane))
    return best if linear else None


def _row_work(kernel: Kernel, exprs: list[Expr], lane: Loop) -> bool:
    """Whether a row computes something before its elements that chunks would repeat."""
    shallow = any(s.depth < len(kernel.loops) for s in kernel.stores)
    return shallow or any(e.kind == "reduce" and lane.symbol not in e.vars for e in exprs)


def _weight(kernel: Kernel, exprs: list[Expr], rows: tuple[Loop, ...]) -> int:
    """Scalar operations of one row."""
    row_symbols = {loop.symbol for loop in rows}
    extents: dict[Symbol, int] = {loop.symbol: estimate(loop.extent) for loop in kernel.loops}
    for e in exprs:
        if e.kind == "reduce":
            extents.update({loop.symbol: estimate(loop.extent) for loop in e.data[1]})
    total = sum(2 * _times(s.index, extents, row_symbols) for s in kernel.stores)
    for e in exprs:
        weight = e.data[0].cost if e.kind == "apply" else WEIGHTS[e.kind]
        turns = weight
        for v in e.vars:
            turns *= 1 if v in row_symbols else extents.get(v, 1)
        total += turns
    return total


def _times(index: Size, extents: dict[Symbol, int], row_symbols: set[Symbol]) -> int:
    turns = 1
    for atom in set(atoms_of(index)):
        if isinstance(atom, Symbol) and atom in extents and atom not in row_symbols:
            turns *= extents[atom]
    return turns


def _vectors(exprs: list[Expr], lane: Loop | None, width: int) -> int:
    """Vectors at once: several where the body is small, to hide latencies."""
    if lane is None:
        return 1
    heavy = sum(e.data[0].cost if e.kind == "apply" else WEIGHTS[e.kind] for e in exprs)
    most = 4 if heavy <= 12 else 2 if heavy <= 40 else 1
    while most > 1 and estimate(lane.extent) < most * width:
        most //= 2
    return most


# plain kernels


def _emit_rows(root: Scope, kernel: Kernel, schedule: Schedule, begin: Any, end: Any) -> None:
    """for row in the units' rows: decode it, then the lanes."""
    b = root.builder
    total = root.size(product(tuple(loop.extent for loop in schedule.rows)))
    per_unit = root.size(schedule.rows_per_unit)
    first = b.mul(begin, per_unit)
    last = b.mul(end, per_unit)
    stop = b.select(b.icmp_signed("<", last, total), last, total)
    with open_loop(root, first, stop, 1, None) as loop:
        scope = _decode(loop.scope, schedule.rows, loop.index)
        _emit_points(scope, kernel, schedule.lane, schedule.vectors, const(0), None)


def _emit_chunks(root: Scope, kernel: Kernel, schedule: Schedule, begin: Any, end: Any) -> None:
    """for unit: its row, and its part of the lanes."""
    assert schedule.lane is not None
    chunk = root.size(schedule.chunk)
    per_row = root.size(ceildiv(schedule.lane.extent, schedule.chunk))
    extent = root.size(schedule.lane.extent)
    with open_loop(root, begin, end, 1, None) as loop:
        b = loop.scope.builder
        row, part = divmod_(b, loop.index, per_row)
        scope = _decode(loop.scope, schedule.rows, row)
        start = b.mul(part, chunk)
        stop = b.add(start, chunk)
        stop = b.select(b.icmp_signed("<", stop, extent), stop, extent)
        _emit_points(scope, kernel, schedule.lane, schedule.vectors, start, stop)


def _emit_tiles(root: Scope, kernel: Kernel, schedule: Schedule, tile: Loop, begin: Any, end: Any) -> None:
    """for block of rows in the units' blocks: the lanes, in tiles of as many rows as a vector has lanes."""
    assert schedule.lane is not None
    b, lane, width = root.builder, schedule.lane, schedule.vectors
    rows, lanes = root.size(tile.extent), root.size(lane.extent)
    per_column = root.size(ceildiv(tile.extent, width))
    total = b.mul(root.size(product(tuple(loop.extent for loop in schedule.rows))), per_column)
    first, last = (b.mul(x, root.size(schedule.rows_per_unit)) for x in (begin, end))
    stop = b.select(b.icmp_signed("<", last, total), last, total)
    with open_loop(root, first, stop, 1, None) as loop:
        inner = loop.scope.builder
        row, block = divmod_(inner, loop.index, per_column)
        scope = _decode(loop.scope, schedule.rows, row)
        start = inner.mul(block, const(width))
        left = inner.sub(rows, start)
        whole = inner.select(
            inner.icmp_signed(">=", left, const(width)), _whole(scope, const(0), lanes, width), const(0)
        )
        with open_loop(scope, const(0), whole, width, lane.symbol) as main:
            main.scope.variables[tile.symbol] = start
            main.scope.lanes = Lanes(lane.symbol, width, width, None, tile.symbol)
            _store_all(main.scope, list(kernel.stores))
        with open_loop(scope, whole, lanes, width, lane.symbol) as rest:
            rest.scope.variables[tile.symbol] = start
            mask = first_lanes(rest.scope.builder, rest.scope.builder.sub(lanes, rest.index), width)
            masks = [_if_row(rest.scope.builder, mask, left, n) for n in range(width)]
            rest.scope.lanes = Lanes(lane.symbol, width, width, masks, tile.symbol)
            _store_all(rest.scope, list(kernel.stores))


def _if_row(b: Any, mask: Any, left: Any, row: int) -> Any:
    """The mask where the tile has the row, else nothing."""
    there = b.icmp_signed(">", left, const(row))
    return b.select(there, mask, ir.Constant(mask.type, None))


def _decode(scope: Scope, rows: tuple[Loop, ...], row: Any) -> Scope:
    """The row loops' variables from a row-major row number."""
    variables: dict[Symbol, Any] = {}
    for loop in reversed(rows[1:]):
        row, index = divmod_(scope.builder, row, scope.size(loop.extent))
        variables[loop.symbol] = index
    if rows:
        variables[rows[0].symbol] = row
    return scope.child(scope.builder, variables, None)


def _emit_points(scope: Scope, kernel: Kernel, lane: Loop | None, vectors: int, start: Any, stop: Any) -> None:
    """The stores of one row: its elements, then what stands above them (whose values are computed first)."""
    depth = len(kernel.loops)
    inner = [s for s in kernel.stores if s.depth == depth and lane is not None]
    outer = [s for s in kernel.stores if s not in inner]
    for s in outer:
        value(s.value, scope)
    if lane is not None and inner:
        _emit_lanes(scope, inner, lane, vectors, start, stop)
    _store_all(scope, outer)


def _store_all(scope: Scope, stores: list[Store]) -> None:
    """Store values that were all computed before: a result may lie where another's operand did."""
    for s in stores:
        value(s.value, scope)
    for s in stores:
        store(scope, s.buffer, s.index, s.value)


def _emit_lanes(scope: Scope, inner: list[Store], lane: Loop, vectors: int, start: Any, stop: Any) -> None:
    """The elements of one row: blocks of vectors, then single ones under a mask."""
    width = scope.function.width
    stop = scope.size(lane.extent) if stop is None else stop
    block = width * vectors
    whole = _whole(scope, start, stop, block)
    if not (isinstance(whole, ir.Constant) and whole.constant == 0):
        with open_loop(scope, start, whole, block, lane.symbol, (), Lanes(lane.symbol, width, vectors)) as main:
            _store_all(main.scope, inner)
    if isinstance(whole, ir.Constant) and isinstance(stop, ir.Constant) and whole.constant == stop.constant:
        return
    with open_loop(scope, whole, stop, width, lane.symbol) as tail:
        mask = first_lanes(tail.scope.builder, tail.scope.builder.sub(stop, tail.index), width)
        tail.scope.lanes = Lanes(lane.symbol, width, 1, [mask])
        _store_all(tail.scope, inner)


def _whole(scope: Scope, start: Any, stop: Any, block: int) -> Any:
    """Where the whole blocks between start and stop end."""
    if isinstance(start, ir.Constant) and isinstance(stop, ir.Constant):
        return const(start.constant + (stop.constant - start.constant) // block * block)
    b = scope.builder
    length = b.sub(stop, start)
    return b.sub(stop, b.urem(length, const(block)))


# contractions


def _emit_contract(module: ir.Module, name: str, kernel: Kernel, target: Target, symbols: dict[str, int]) -> KernelCode:
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
    offsets = [_without(index, free) for index in index_of]
    spec = Contraction(
        contract.dtype.name,
        tuple(map(axis, batch)),
        tuple(map(axis, m)),
        axis(last),
        tuple(map(axis, contract.k)),
        *offsets,
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
        _store_all(scope, list(kernel.stores))

    exprs = walk([s.value for s in kernel.stores])
    weight = sum(e.data[0].cost if e.kind == "apply" else WEIGHTS[e.kind] for e in exprs)
    code = emit_contraction(module, name, spec, target, size, epilogue, weight)
    launches = tuple(Launch(one.name, one.units, max(one.unit_flops // FLOPS_PER_NS, 1)) for one in code.launches)
    arguments = (a_buffer, b_buffer, None, *range(len(kernel.buffers)))
    return KernelCode(launches, arguments, code.workspace_bytes, code.scratch_bytes)


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
    root = _root(point.entry, kernel, target, point.args, point.dims, symbols, 3)
    root.function.width = point.value.type.count
    return root


def _without(index: Size, free: dict[Symbol, int]) -> Size:
    """The part of an index that no loop changes."""
    return substitute(index, lambda atom: 0 if atom in free else None)
