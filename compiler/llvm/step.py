"""All kernels of a plan and the function that runs them, as one LLVM module.

    i32 step(ptr buffers, ptr dims, ptr scratch)

`buffers` are the plan's buffers, then one workspace for each kernel that needs one.  Kernels of equal structure are
written once.  A launch worth it goes to the thread pool (`gf_parallel_for`), any other runs where it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count, groupby
from typing import TYPE_CHECKING, Any

from llvmlite import ir

from graphflow.compiler.llvm.check import RED_ZONE, StepCheck
from graphflow.compiler.llvm.contract_ir import I32, I64, PTR, add, at, const, loop, mul
from graphflow.compiler.llvm.kernel import KernelCode, Launch, Number
from graphflow.compiler.llvm.scope import Function, Scope
from graphflow.compiler.llvm.share import emit_kernels
from graphflow.compiler.llvm.target import emit_flush_denormals, emit_restore_denormals
from graphflow.core.dim import Size

if TYPE_CHECKING:
    from graphflow.compiler.llvm.check_report import Checked
    from graphflow.compiler.llvm.target import Target
    from graphflow.compiler.plan import Plan, Step

__all__ = ["StepCode", "emit_step", "parallel_for"]

PARALLEL_NS = 12_000
"""Work of fewer nanoseconds stays on the caller's thread."""


@dataclass(frozen=True)
class StepCode:
    """A module with the function `step`; workspaces as (bytes, first wave, last wave); bytes of scratch a worker."""

    module: ir.Module
    workspaces: tuple[tuple[Size, int, int], ...]
    scratch_bytes: int
    kernels: int
    launches: int
    checked: Checked | None = None


def emit_step(
    steps: Sequence[Step],
    buffers: int,
    symbols: Sequence[str],
    target: Target,
    name: str = "step",
    checked: Plan | None = None,
) -> StepCode:
    """The module of a plan's steps; `symbols` are the entries of dims in order.

    `checked`: the plan, for code with bounds checks (check.py).
    """
    module = ir.Module(name)
    slots = {key: n for n, key in enumerate(symbols)}
    codes = emit_kernels(module, [s.kernel for s in steps], target, slots)
    workspaces = _workspaces(steps, codes, buffers)
    used = list(dict.fromkeys(workspaces[id(s)] for s in steps if id(s) in workspaces))
    stride = -(-max((c.scratch_bytes for c in codes), default=0) // 64) * 64
    check = None if checked is None else StepCheck(module, checked, used, stride, slots)
    stride += 0 if check is None else RED_ZONE
    function = ir.Function(module, ir.FunctionType(I32, [PTR, PTR, PTR]), name if check is None else check.body)
    # Thousands of calls in one block: LLVM's work on it grows with its square, and there is nothing to gain.
    function.attributes.add("optnone")
    function.attributes.add("noinline")
    b = ir.IRBuilder(function.append_basic_block("entry"))
    saved = emit_flush_denormals(b, target)
    frame = b.alloca(PTR, max(sum(len(c.arguments) for c in codes), 1))
    if check is not None:
        check.frame(b, frame, sum(len(c.arguments) for c in codes))
    prepared = [Prepared(step, code, workspaces.get(id(step))) for step, code in zip(steps, codes, strict=True)]
    places = _pass_arguments(b, prepared, frame)
    root = Scope(None, b, {}, None, Function(function, function.args[1], [], slots))
    runner = Runner(module, root, frame, stride, check)
    for _, wave in groupby(zip(prepared, places, strict=True), key=lambda pair: pair[0].step.wave):
        runner.wave(list(wave))
    emit_restore_denormals(b, target, saved)
    b.ret(ir.Constant(I32, 0))
    kept = tuple((w.bytes, w.first, w.last) for w in used)
    found = None if check is None else check.finish(name)
    return StepCode(module, kept, stride, len({c.launches[0].name for c in codes}), runner.launches, found)


@dataclass(eq=False)
class Workspace:
    """Memory of a slot of the table for a kernel's use, in the waves from `first` to `last`."""

    slot: int
    bytes: Size
    first: int
    last: int
    owner: Step  # the step that packs into it


def _workspaces(steps: Sequence[Step], codes: Sequence[KernelCode], buffers: int) -> dict[int, Workspace]:
    """The workspace of each step that needs one.  Steps that pack the same matrix share it: it is packed once."""
    found: dict[int, Workspace] = {}
    packed: dict[Any, Workspace] = {}
    writes: dict[int, int] = {}
    slots = count(buffers)
    for step, code in zip(steps, codes, strict=True):
        if code.workspace_bytes != 0:
            key = _packing(step, code, writes)
            space = packed.get(key) if key is not None else None
            if space is None:
                space = Workspace(next(slots), code.workspace_bytes, step.wave, step.wave, step)
            if key is not None:
                packed[key] = space
            space.last = step.wave
            found[id(step)] = space
        for s in step.kernel.stores:
            buffer = step.arguments[s.buffer]
            writes[buffer] = writes.get(buffer, 0) + 1
    return found


def _packing(step: Step, code: KernelCode, writes: dict[int, int]) -> Any:
    """What a workspace holds where it holds nothing but a packed matrix: equal keys mean equal contents."""
    if step.kernel.contract is None or [launch.name.rpartition(".")[2] for launch in code.launches[::2]] != ["pack"]:
        return None
    b = step.kernel.contract.b
    buffer = step.arguments[b]
    return code.launches[0].name, buffer, step.offsets[b], writes.get(buffer, 0)


@dataclass(frozen=True)
class Prepared:
    """A step of a wave, its code, and the slot of its workspace if it has one."""

    step: Step
    code: KernelCode
    workspace: Workspace | None

    def launch(self, turn: int) -> Launch | None:
        """The launch of a turn; none after the last, nor where another step has packed the same."""
        packed_before = self.workspace is not None and self.workspace.owner is not self.step
        if turn >= len(self.code.launches) or (turn == 0 and packed_before):
            return None
        return self.code.launches[turn]


NOWHERE = -1
"""As the place of a pointer in the table: there is none, the argument is a number."""


def _pass_arguments(b: ir.IRBuilder, prepared: Sequence[Prepared], frame: Any) -> list[int]:
    """Put the arguments of all kernels into the frame, in one loop over a constant table of (place, bytes behind);
    returns where each kernel's start."""
    places: list[int] = []
    rows: list[tuple[int, int]] = []
    for one in prepared:
        places.append(len(rows))
        rows += [_argument(one, argument) for argument in one.code.arguments]
    table = ir.GlobalVariable(b.module, ir.ArrayType(I64, 2 * len(rows)), "arguments")
    table.initializer = ir.Constant(table.value_type, [number for row in rows for number in row])
    table.global_constant, table.linkage = True, "internal"
    buffers = b.function.args[0]
    with loop(b, const(0), const(len(rows))) as n:
        entry = at(b, table, mul(b, n, const(2)), I64)
        place, behind = b.load(entry, typ=I64), b.load(at(b, entry, const(1), I64), typ=I64)
        there = b.icmp_signed(">", place, const(NOWHERE))
        pointer = b.load(at(b, buffers, b.select(there, place, const(0)), I64), typ=I64)
        b.store(b.add(b.select(there, pointer, const(0)), behind), at(b, frame, n, I64))
    return places


def _argument(prepared: Prepared, argument: int | Number | None) -> tuple[int, int]:
    """The slot of the table of buffers where a pointer stands, and the bytes to add to it; or a number as it is."""
    step = prepared.step
    if isinstance(argument, Number):
        return NOWHERE, argument.value
    if argument is not None:
        return step.arguments[argument], step.offsets[argument]
    return (NOWHERE, 0) if prepared.workspace is None else (prepared.workspace.slot, 0)


class Runner:
    """Writes the body of the step function: waves of launches that do not need each other.

    The n-th launches of a wave's kernels run as one job of the pool, their units side by side, if that is worth it;
    else one after the other on the caller's thread.
    """

    def __init__(self, module: ir.Module, root: Scope, frame: Any, stride: int, check: StepCheck | None) -> None:
        self.module, self.root, self.frame, self.stride, self.check = module, root, frame, stride, check
        self.jobs = 0
        self.launches = 0

    def wave(self, wave: list[tuple[Prepared, int]]) -> None:
        """Run first launches, second launches, ..., in a block of their own: LLVM takes time for long blocks."""
        block = self.root.builder.append_basic_block("wave")
        self.root.builder.branch(block)
        self.root.builder.position_at_end(block)
        if self.check is not None:
            self.check.wave(self.root.builder, [p for p, _ in wave])
        for turn in range(max(len(p.code.launches) for p, _ in wave)):
            turns = [(p.launch(turn), place) for p, place in wave]
            job = [(launch, place) for launch, place in turns if launch is not None]
            job.sort(key=lambda pair: -pair[0].unit_ns)
            self.launches += len(job)
            if job:
                self._run(job)

    def _run(self, job: list[tuple[Launch, int]]) -> None:
        b = self.root.builder
        units = [self.root.size(launch.units) for launch, _ in job]
        work: Any = const(0)
        total: Any = const(0)
        for (launch, _), u in zip(job, units, strict=True):
            work = add(b, work, mul(b, u, const(launch.unit_ns)))
            total = add(b, total, u)
        if isinstance(work, ir.Constant) and isinstance(total, ir.Constant):
            (self._pool if total.constant > 1 and work.constant >= PARALLEL_NS else self._here)(job, units, total)
            return
        many = b.and_(b.icmp_signed(">", total, const(1)), b.icmp_signed(">=", work, const(PARALLEL_NS)))
        with b.if_else(many) as (then, otherwise):
            with then:
                self._pool(job, units, total)
            with otherwise:
                self._here(job, units, total)

    def _here(self, job: list[tuple[Launch, int]], units: list[Any], total: Any) -> None:
        b = self.root.builder
        _, dims, scratch = self.root.function.function.args
        for (launch, start), u in zip(job, units, strict=True):
            arguments = at(b, self.frame, const(start), PTR)
            b.call(self.module.globals[launch.name], [arguments, dims, const(0), u, scratch])

    def _pool(self, job: list[tuple[Launch, int]], units: list[Any], total: Any) -> None:
        b = self.root.builder
        _, dims, scratch = self.root.function.function.args
        (launch, start), *rest = job
        target = self.module.globals[launch.name] if not rest else self._job(job)
        arguments = at(b, self.frame, const(0 if rest else start), PTR)
        b.call(parallel_for(self.module), [target, arguments, dims, total, scratch, const(self.stride)])

    def _job(self, job: list[tuple[Launch, int]]) -> Any:
        """A function that has the units of several launches one after the other."""
        self.jobs += 1
        kind = ir.FunctionType(ir.VoidType(), [PTR, PTR, I64, I64, PTR])
        function = ir.Function(self.module, kind, f"job{self.jobs}")
        function.linkage = "internal"
        b = ir.IRBuilder(function.append_basic_block("entry"))
        frame, dims, begin, end, scratch = function.args
        scope = Scope(None, b, {}, None, Function(function, dims, [], self.root.function.symbols))
        counts = [scope.size(launch.units) for launch, _ in job]
        first: Any = const(0)
        for (launch, start), units in zip(job, counts, strict=True):
            last = add(b, first, units)
            low = b.select(b.icmp_signed(">", begin, first), begin, first)
            high = b.select(b.icmp_signed("<", end, last), end, last)
            with b.if_then(b.icmp_signed("<", low, high)):
                own = [at(b, frame, const(start), PTR), dims, b.sub(low, first), b.sub(high, first), scratch]
                b.call(self.module.globals[launch.name], own)
            first = last
        b.ret_void()
        return function


def parallel_for(module: ir.Module) -> Any:
    """The thread pool's entry, declared once a module."""
    found = module.globals.get("gf_parallel_for")
    kind = ir.FunctionType(ir.VoidType(), [PTR, PTR, PTR, I64, PTR, I64])
    return found if found is not None else ir.Function(module, kind, "gf_parallel_for")
