"""All kernels of a plan and the function that runs them, as one LLVM module.

    i32 step(ptr buffers, ptr dims, ptr scratch, ptr limits)
    i32 setup(ptr buffers, ptr dims, ptr scratch, ptr limits)

`buffers` are the plan's buffers, then what else kernels need (`spaces.py`); `limits` says what a run is held to
(`limits.py`).  `setup` is there if some of that memory is kept from step to step: it fills it, reads constants only,
and runs once before any step.  Kernels of equal structure are written once.  A launch worth it goes to the thread pool
(`gf_parallel_for`), any other runs where it is.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any, NamedTuple

from llvmlite import ir

from graphflow.compiler.llvm.check import RED_ZONE, StepCheck
from graphflow.compiler.llvm.contract_ir import I32, I64, PTR, add, at, const, loop, mul
from graphflow.compiler.llvm.kernel import KernelCode, Launch, Memory, Number
from graphflow.compiler.llvm.limits import LOOK_NS, STOPPED
from graphflow.compiler.llvm.scope import Function, Scope
from graphflow.compiler.llvm.share import emit_kernels
from graphflow.compiler.llvm.spaces import Space, spaces_of
from graphflow.compiler.llvm.stamps import STAMP_WORDS, Stamps, Untimed
from graphflow.compiler.llvm.target import emit_flush_denormals, emit_restore_denormals
from graphflow.compiler.llvm.updates import updates_of
from graphflow.core.dim import Size

if TYPE_CHECKING:
    from graphflow.compiler.llvm.check_report import Checked
    from graphflow.compiler.llvm.target import Target
    from graphflow.compiler.plan import Plan, Step

__all__ = ["Launched", "StepCode", "emit_step", "parallel_for"]

PARALLEL_NS = 12_000
"""Work of fewer nanoseconds stays on the caller's thread."""


class Launched(NamedTuple):
    """A launch of a step: the number of the plan's step, the function, and the number of its job.

    Launches of one job may run side by side; jobs run one after the other.
    """

    step: int
    function: str
    job: int


@dataclass(frozen=True)
class StepCode:
    """A module with the function `step`; workspaces as (bytes, first wave, last wave); bytes of scratch a worker.

    `kept` are the bytes of the memory, behind the workspaces, that the function `setup`, there for that only, fills.
    `updates` are the variables' buffers whose new values have entries behind that (updates.py).
    `launched` are all launches in the order of their stamps, which start at `stamps` in a worker's scratch (stamps.py)
    if the step is timed; `shared` are the numbers of the jobs whose stamps come after these.
    """

    module: ir.Module
    workspaces: tuple[tuple[Size, int, int], ...]
    kept: tuple[int, ...]
    updates: tuple[int, ...]
    scratch_bytes: int
    kernels: int
    launched: tuple[Launched, ...]
    stamps: int | None = None
    shared: tuple[int, ...] = ()
    checked: Checked | None = None

    @property
    def launches(self) -> int:
        """How many launches a step is."""
        return len(self.launched)


def emit_step(
    steps: Sequence[Step],
    buffers: int,
    symbols: Sequence[str],
    target: Target,
    name: str = "step",
    checked: Plan | None = None,
    timed: bool = False,
    variables: Collection[int] = (),
) -> StepCode:
    """The module of a plan's steps; `symbols` are the entries of dims in order, `variables` the buffers whose new
    values have entries of their own (updates.py).

    `checked`: the plan, for code with bounds checks (check.py).  `timed`: write down when each launch ran (stamps.py);
    such code has no checks.
    """
    module = ir.Module(name)
    slots = {key: n for n, key in enumerate(symbols)}
    codes = emit_kernels(module, [s.kernel for s in steps], target, slots)
    spaces, of_steps = spaces_of(steps, codes, buffers, keep=checked is None)
    stride = -(-max((c.scratch_bytes for c in codes), default=0) // 64) * 64
    check = None if checked is None else StepCheck(module, checked, spaces, stride, slots)
    stride += 0 if check is None else RED_ZONE
    updates, changed = updates_of(steps, variables, buffers + len(spaces))
    prepared = [Prepared(n, *one) for n, one in enumerate(zip(steps, codes, of_steps, changed, strict=True))]
    kept = [space for space in spaces if space.kept]
    if kept:
        packers = [prepared[space.owner] for space in kept]
        with _step_function(module, "setup", packers, slots, target, stride, None, Untimed()) as runner:
            runner.setup()
    stamps = Stamps(module, stride) if timed else Untimed()
    # Each job that may be shared has a launch of its own at the least.
    stride += -(-8 * STAMP_WORDS * 2 * sum(len(code.launches) for code in codes) // 64) * 64 if timed else 0
    body = name if check is None else check.body
    with _step_function(module, body, prepared, slots, target, stride, check, stamps) as runner:
        runner.waves()
    workspaces = tuple((s.bytes, s.first, s.last) for s in spaces if not s.kept)
    sizes = tuple(s.bytes for s in kept if isinstance(s.bytes, int))
    kernels = len({c.launches[0].name for c in codes})
    found = None if check is None else check.finish(name)
    first = stamps.offset if isinstance(stamps, Stamps) else None
    launched, shared = tuple(runner.launched), tuple(runner.shared)
    return StepCode(module, workspaces, sizes, updates, stride, kernels, launched, first, shared, found)


@contextmanager
def _step_function(
    module: ir.Module,
    name: str,
    prepared: Sequence[Prepared],
    slots: dict[str, int],
    target: Target,
    stride: int,
    check: StepCheck | None,
    stamps: Untimed,
) -> Iterator[Runner]:
    """A function that the runtime calls, with the arguments of kernels in its frame; gives what writes its body."""
    function = ir.Function(module, ir.FunctionType(I32, [PTR, PTR, PTR, PTR]), name)
    # Thousands of calls in one block: LLVM's work on it grows with its square, and there is nothing to gain.
    function.attributes.add("optnone")
    function.attributes.add("noinline")
    b = ir.IRBuilder(function.append_basic_block("entry"))
    saved = emit_flush_denormals(b, target)
    pointers = sum(len(one.code.arguments) for one in prepared)
    frame = b.alloca(PTR, max(pointers, 1))
    if check is not None:
        check.frame(b, frame, pointers)
    places = _pass_arguments(b, prepared, frame)
    scope = Scope(None, b, {}, None, Function(function, function.args[1], [], slots))
    stopped = function.append_basic_block("stopped")
    yield Runner(module, scope, frame, stride, list(zip(prepared, places, strict=True)), stopped, check, stamps)
    for block, status in ((b.block, 0), (stopped, STOPPED)):
        b.position_at_end(block)
        emit_restore_denormals(b, target, saved)
        b.ret(ir.Constant(I32, status))


@dataclass(frozen=True)
class Prepared:
    """A step of a wave by its number, its code, the memory that it has beside buffers, and the entries of updates."""

    number: int
    step: Step
    code: KernelCode
    spaces: Mapping[Memory, Space]
    updates: Mapping[int, int]

    def launch(self, turn: int) -> Launch | None:
        """The launch of a turn; none after the last, nor where another step, or the set-up, has packed the same."""
        packed = self.spaces.get(Memory.PACKED)
        packed_before = packed is not None and (packed.kept or packed.owner != self.number)
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
    table = ir.GlobalVariable(b.module, ir.ArrayType(I64, 2 * len(rows)), f"{b.function.name}.arguments")
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


def _argument(prepared: Prepared, argument: int | Number | Memory) -> tuple[int, int]:
    """The slot of the table of buffers where a pointer stands, and the bytes to add to it; or a number as it is."""
    step = prepared.step
    if isinstance(argument, Number):
        return NOWHERE, argument.value
    if isinstance(argument, Memory):
        space = prepared.spaces.get(argument)
        return (NOWHERE, 0) if space is None else (space.slot, 0)
    return prepared.updates.get(argument, step.arguments[argument]), step.offsets[argument]


class Turn(NamedTuple):
    """A launch as part of a job: where its arguments start in the frame, and its number among the step's launches."""

    launch: Launch
    start: int
    number: int


class Runner:
    """Writes the body of a function: waves of launches that do not need each other.

    The n-th launches of a wave's kernels run as one job of the pool, their units side by side, if that is worth it;
    else one after the other on the caller's thread.  After each job of the pool, and after as much other work, stands a
    look whether the step has to stop.
    """

    def __init__(
        self,
        module: ir.Module,
        root: Scope,
        frame: Any,
        stride: int,
        prepared: Sequence[tuple[Prepared, int]],
        stopped: ir.Block,
        check: StepCheck | None,
        stamps: Untimed,
    ) -> None:
        self.module, self.root, self.frame, self.stride = module, root, frame, stride
        self.prepared, self.stopped, self.check, self.stamps = prepared, stopped, check, stamps
        self.launches = sum(one.launch(n) is not None for one, _ in prepared for n in range(len(one.code.launches)))
        self.jobs = 0
        self.unseen = 0  # nanoseconds of work since the last look at the limits
        self.launched: list[Launched] = []
        self.shared: list[int] = []

    def setup(self) -> None:
        """The launches that pack, here: they come once, and their sizes are numbers."""
        for n, (one, place) in enumerate(self.prepared):
            launch = one.code.launches[0]
            self._here([Turn(launch, place, n)], [self.root.size(launch.units)])

    def waves(self) -> None:
        """All launches."""
        self.stamps.start(self.root.builder)
        for _, wave in groupby(self.prepared, key=lambda pair: pair[0].step.wave):
            self.wave(list(wave))

    def wave(self, wave: list[tuple[Prepared, int]]) -> None:
        """Run first launches, second launches, ..., in a block of their own: LLVM takes time for long blocks."""
        block = self.root.builder.append_basic_block("wave")
        self.root.builder.branch(block)
        self.root.builder.position_at_end(block)
        if self.check is not None:
            self.check.wave(self.root.builder, [p for p, _ in wave])
        for turn in range(max(len(p.code.launches) for p, _ in wave)):
            turns = [(p.launch(turn), place, p.number) for p, place in wave]
            found = [(launch, place, number) for launch, place, number in turns if launch is not None]
            found.sort(key=lambda one: -one[0].unit_ns)
            job: list[Turn] = []
            number = self.launched[-1].job + 1 if self.launched else 0
            for launch, place, step in found:
                job.append(Turn(launch, place, len(self.launched)))
                self.launched.append(Launched(step, launch.name, number))
            if job:
                self._run(job)

    def _run(self, job: list[Turn]) -> None:
        b = self.root.builder
        units = [self.root.size(turn.launch.units) for turn in job]
        work: Any = const(0)
        total: Any = const(0)
        for turn, u in zip(job, units, strict=True):
            work = add(b, work, mul(b, u, const(turn.launch.unit_ns)))
            total = add(b, total, u)
        if isinstance(work, ir.Constant) and isinstance(total, ir.Constant):
            if total.constant > 1 and work.constant >= PARALLEL_NS:
                self._pool(job, total, work)
            else:
                self._here(job, units)
                self._pass(work.constant)
            return
        many = b.and_(b.icmp_signed(">", total, const(1)), b.icmp_signed(">=", work, const(PARALLEL_NS)))
        with b.if_else(many) as (then, otherwise):
            with then:
                self._pool(job, total, work)
            with otherwise:
                self._here(job, units)
        self._pass(PARALLEL_NS)

    def _pass(self, nanoseconds: int) -> None:
        """Take note of work on the caller's thread, and look at the limits if there was much of it."""
        self.unseen += nanoseconds
        if self.unseen >= LOOK_NS:
            self._look()
            self.unseen = 0

    def _look(self) -> None:
        b = self.root.builder
        reason = b.call(poll(self.module), [self.root.function.function.args[3]])
        with b.if_then(b.icmp_signed("!=", reason, const(0)), likely=False):
            b.branch(self.stopped)

    def _here(self, job: list[Turn], units: list[Any]) -> None:
        b = self.root.builder
        _, dims, scratch, _ = self.root.function.function.args
        for turn, u in zip(job, units, strict=True):
            arguments = at(b, self.frame, const(turn.start), PTR)
            with self.stamps.whole(b, scratch, turn.number):
                b.call(self.module.globals[turn.launch.name], [arguments, dims, const(0), u, scratch])

    def _pool(self, job: list[Turn], total: Any, work: Any) -> None:
        b = self.root.builder
        _, dims, scratch, limits = self.root.function.function.args
        alone = len(job) == 1 and not self.stamps.is_timed
        target = self.module.globals[job[0].launch.name] if alone else self._job(job)
        arguments = at(b, self.frame, const(job[0].start if alone else 0), PTR)
        stride = const(self.stride)
        with self.stamps.whole(b, scratch, self.launches + len(self.shared)):
            b.call(parallel_for(self.module), [target, arguments, dims, total, scratch, stride, work, limits])
        self.shared.append(self.launched[-1].job)
        self._look()

    def _job(self, job: list[Turn]) -> Any:
        """A function that has the units of several launches one after the other."""
        self.jobs += 1
        kind = ir.FunctionType(ir.VoidType(), [PTR, PTR, I64, I64, PTR])
        function = ir.Function(self.module, kind, f"job{self.jobs}")
        function.linkage = "internal"
        b = ir.IRBuilder(function.append_basic_block("entry"))
        frame, dims, begin, end, scratch = function.args
        scope = Scope(None, b, {}, None, Function(function, dims, [], self.root.function.symbols))
        counts = [scope.size(turn.launch.units) for turn in job]
        first: Any = const(0)
        for turn, units in zip(job, counts, strict=True):
            last = add(b, first, units)
            low = b.select(b.icmp_signed(">", begin, first), begin, first)
            high = b.select(b.icmp_signed("<", end, last), end, last)
            with b.if_then(b.icmp_signed("<", low, high)):
                own = [at(b, frame, const(turn.start), PTR), dims, b.sub(low, first), b.sub(high, first), scratch]
                with self.stamps.part(b, scratch, turn.number):
                    b.call(self.module.globals[turn.launch.name], own)
            first = last
        b.ret_void()
        return function


def parallel_for(module: ir.Module) -> Any:
    """The thread pool's entry, declared once a module."""
    found = module.globals.get("gf_parallel_for")
    kind = ir.FunctionType(ir.VoidType(), [PTR, PTR, PTR, I64, PTR, I64, I64, PTR])
    return found if found is not None else ir.Function(module, kind, "gf_parallel_for")


def poll(module: ir.Module) -> Any:
    """`i64 gf_poll(ptr limits)`, the thread pool's: why to stop, after a look if it is time; declared once a module."""
    found = module.globals.get("gf_poll")
    return found if found is not None else ir.Function(module, ir.FunctionType(I64, [PTR]), "gf_poll")
