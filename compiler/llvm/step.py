"""All kernels of a plan and the function that runs them, as one LLVM module.

    i32 step(ptr buffers, ptr dims, ptr scratch, ptr limits)
    i32 setup(ptr buffers, ptr dims, ptr scratch, ptr limits)

`buffers` are the plan's buffers, then what else kernels need (`spaces.py`); `limits` says what a run is held to
(`limits.py`).  `setup` is there if some of that memory is kept from step to step: it fills it, reads constants only,
and runs once before any step.  Kernels of equal structure are written once (`share.py`); `waves.py` writes the body.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from llvmlite import ir

from graphflow.compiler.llvm.check import RED_ZONE, StepCheck
from graphflow.compiler.llvm.code import I32, I64, PTR, at, const, loop, mul
from graphflow.compiler.llvm.float_mode import emit_flush_denormals, emit_restore_denormals
from graphflow.compiler.llvm.kernel import Memory, Number
from graphflow.compiler.llvm.limits import STOPPED
from graphflow.compiler.llvm.scope import Function, Scope
from graphflow.compiler.llvm.share import emit_kernels
from graphflow.compiler.llvm.spaces import spaces_of
from graphflow.compiler.llvm.stamps import STAMP_WORDS, Stamps, Untimed
from graphflow.compiler.llvm.updates import updates_of
from graphflow.compiler.llvm.waves import Launched, Prepared, Runner
from graphflow.core.dim import Size

if TYPE_CHECKING:
    from graphflow.compiler.llvm.check_report import Checked
    from graphflow.compiler.llvm.target import Target
    from graphflow.compiler.plan import Plan, Step

__all__ = ["StepCode", "emit_step"]


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
