"""The body of a step: launches in waves, each on the caller's thread or shared among those of the pool (`Runner`).

Launches of one wave do not need each other.  After each job of the pool, and after as much other work, stands a look
whether the step has to stop (limits.py).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial, reduce
from itertools import groupby
from typing import TYPE_CHECKING, Any, NamedTuple

from llvmlite import ir

from graphflow.compiler.llvm.code import I64, PTR, add, at, const, maximum, minimum, mul
from graphflow.compiler.llvm.kernel import KernelCode, Launch, Memory
from graphflow.compiler.llvm.launch_order import Order
from graphflow.compiler.llvm.limits import LOOK_NS
from graphflow.compiler.llvm.scope import Function, Scope
from graphflow.compiler.llvm.stamps import Untimed

if TYPE_CHECKING:
    from graphflow.compiler.llvm.check import StepCheck
    from graphflow.compiler.llvm.spaces import Space
    from graphflow.compiler.plan import Step

__all__ = ["PARALLEL_NS", "Launched", "Prepared", "Runner", "parallel_for"]

PARALLEL_NS = 12_000
"""Work of fewer nanoseconds stays on the caller's thread."""

ALIKE = 2
"""Units of which none takes more than so many times as long as another take about equally long."""


class Launched(NamedTuple):
    """A launch of a step: the number of the plan's step, the function, and the number of its job.

    Launches of one job may run side by side; jobs run one after the other.
    """

    step: int
    function: str
    job: int


@dataclass(frozen=True)
class Prepared:
    """A step of a wave by its number, its code, the memory that it has beside buffers, and the entries of updates."""

    number: int
    step: Step
    code: KernelCode
    spaces: Mapping[Memory, Space]
    updates: Mapping[int, int]

    @property
    def fills(self) -> frozenset[int]:
        """The buffers to which its kernel stores."""
        return frozenset(self.step.arguments[s.buffer] for s in self.step.kernel.stores)

    def launch(self, turn: int) -> Launch | None:
        """The launch of a turn; none after the last, nor where another step, or the set-up, has packed the same."""
        packed = self.spaces.get(Memory.PACKED)
        packed_before = packed is not None and (packed.kept or packed.owner != self.number)
        if turn >= len(self.code.launches) or (turn == 0 and packed_before):
            return None
        return self.code.launches[turn]


class Turn(NamedTuple):
    """A launch as part of a job: where its arguments start in the frame, its number among the step's launches, and the
    buffers to which its kernel stores."""

    launch: Launch
    start: int
    number: int
    fills: frozenset[int]


class Runner:
    """Writes the body of a function, wave by wave.

    The n-th launches of a wave's kernels run as one job of the pool, their units side by side, if that is worth it;
    else one after the other on the caller's thread.
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
            self._here([Turn(launch, place, n, one.fills)], [self.root.size(launch.units)])

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
            turns = [(p.launch(turn), place, p) for p, place in wave]
            found = [(launch, place, p) for launch, place, p in turns if launch is not None]
            found.sort(key=lambda one: -one[0].unit_ns)
            job: list[Turn] = []
            number = self.launched[-1].job + 1 if self.launched else 0
            for launch, place, p in found:
                job.append(Turn(launch, place, len(self.launched), p.fills))
                self.launched.append(Launched(p.number, launch.name, number))
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
        stride, order = const(self.stride), const(int(order_of(job)))
        with self.stamps.whole(b, scratch, self.launches + len(self.shared)):
            b.call(parallel_for(self.module), [target, arguments, dims, total, scratch, stride, work, order, limits])
        self.shared.append(self.launched[-1].job)
        self._look()

    def _job(self, job: list[Turn]) -> Any:
        """A function that has the units of several launches one after the other, or those of pieces side by side."""
        self.jobs += 1
        kind = ir.FunctionType(ir.VoidType(), [PTR, PTR, I64, I64, PTR])
        function = ir.Function(self.module, kind, f"job{self.jobs}")
        function.linkage = "internal"
        b = ir.IRBuilder(function.append_basic_block("entry"))
        frame, dims, begin, end, scratch = function.args
        scope = Scope(None, b, {}, None, Function(function, dims, [], self.root.function.symbols))
        counts = [scope.size(turn.launch.units) for turn in job]
        parts = side_by_side(b, counts, begin, end) if are_pieces(job) else in_turn(b, counts, begin, end)
        for turn, (low, high) in zip(job, parts, strict=True):
            with b.if_then(b.icmp_signed("<", low, high)):
                own = [at(b, frame, const(turn.start), PTR), dims, low, high, scratch]
                with self.stamps.part(b, scratch, turn.number):
                    b.call(self.module.globals[turn.launch.name], own)
        b.ret_void()
        return function


def are_pieces(job: Sequence[Turn]) -> bool:
    """Whether launches fill one buffer together, by units that take about equally long."""
    lengths = [turn.launch.unit_ns for turn in job]
    return len(frozenset().union(*(turn.fills for turn in job))) == 1 and max(lengths) <= ALIKE * min(lengths)


def order_of(job: Sequence[Turn]) -> Order:
    """The order in which threads take the units of a job."""
    return Order.of_job([turn.launch.order for turn in job], pieces=are_pieces(job))


def in_turn(b: ir.IRBuilder, counts: Sequence[Any], begin: Any, end: Any) -> list[tuple[Any, Any]]:
    """Which units of each launch, of so many, are those of a job from begin to end: one launch after the other."""
    first, found = const(0), []
    for units in counts:
        last = add(b, first, units)
        found.append((b.sub(maximum(b, begin, first), first), b.sub(minimum(b, end, last), first)))
        first = last
    return found


def side_by_side(b: ir.IRBuilder, counts: Sequence[Any], begin: Any, end: Any) -> list[tuple[Any, Any]]:
    """The same where a part of a job is as large a part of each launch: neighbours in memory belong to one thread."""
    total = reduce(partial(add, b), counts)
    return [(b.sdiv(mul(b, begin, units), total), b.sdiv(mul(b, end, units), total)) for units in counts]


def parallel_for(module: ir.Module) -> Any:
    """The thread pool's entry, declared once a module."""
    found = module.globals.get("gf_parallel_for")
    kind = ir.FunctionType(ir.VoidType(), [PTR, PTR, PTR, I64, PTR, I64, I64, I64, PTR])
    return found if found is not None else ir.Function(module, kind, "gf_parallel_for")


def poll(module: ir.Module) -> Any:
    """`i64 gf_poll(ptr limits)`, the thread pool's: why to stop, after a look if it is time; declared once a module."""
    found = module.globals.get("gf_poll")
    return found if found is not None else ir.Function(module, ir.FunctionType(I64, [PTR]), "gf_poll")
