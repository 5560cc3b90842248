"""LLVM IR in, machine code out.

    module = compile_module(text, host_target())
    address = module.address("f")      # an int; the code lives as long as `module`
    print(module.assembly())           # what was generated
    print(assembly_for(text, NEON))    # what another CPU would get; nothing runs

Machine code is also had as bytes: `compile_object` makes them, `load_objects` (load.py) loads them, in this process or
another.  A large module becomes two objects, made side by side.
`cache.STATISTICS.optimized` counts what LLVM was given to compile.
"""

import functools
import itertools
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from llvmlite import binding as llvm

from graphflow.compiler.cache import STATISTICS
from graphflow.compiler.llvm.load import load_objects
from graphflow.compiler.llvm.machine import emit_object, target_machine
from graphflow.compiler.llvm.target import Target

Stopwatch = dict[str, float]
Object = tuple[bytes, tuple[str, ...]]


class CompiledModule:
    """Machine code of one module, loaded. Dropping the object frees the code: keep it while an address is in use.

    `objects` are the relocatable objects it was loaded from; `seconds` how long each stage took, by stage, where two
    ran side by side both together.
    """

    def __init__(self, module: object, target: Target, optimize: str, objects: Sequence[Object], seconds: Stopwatch):
        self.target = target
        self.optimize = optimize
        self.objects = tuple(code for code, _ in objects)
        self.seconds: Mapping[str, float] = seconds
        self._module = module
        self.names = tuple(name for _, names in objects for name in names)
        with timed(seconds, "link"):
            self._library = load_objects(self.objects, self.names)

    @property
    def text(self) -> str:
        """The IR as it was given.  Made again on demand, like `ir`."""
        return str(self._module)

    def address(self, name: str) -> int:
        """Where the function or global `name`, defined by this module, starts. KeyError if it defines none such."""
        return self._library.address(name)

    def ir(self) -> str:
        """The IR after optimization. Made again on demand, so that keeping a module costs little memory."""
        return optimized_ir(self.text, self.target, self.optimize)

    def assembly(self) -> str:
        """The assembly. Made again on demand, like `ir`."""
        return assembly_for(self.text, self.target, self.optimize)

    def keep_forever(self) -> None:
        """Never free the code, not even at exit: for code that threads we cannot stop may be running."""
        self._library.keep_forever()


def compile_module(module: object, target: Target, *, optimize: str = "light") -> CompiledModule:
    """Compile and load a module, given as LLVM IR text or as an object that prints as such (llvmlite's `ir.Module`).

    `optimize` names a row of `PIPELINES`. ValueError if the IR is malformed.
    """
    halves = halves_of(module)
    watches: list[Stopwatch] = [{} for _ in halves]
    make = functools.partial(compile_object, target=target, optimize=optimize)
    if len(halves) == 1:
        objects = [make(str(module), seconds=watches[0])]
    else:
        objects = side_by_side(make, halves, watches)
    seconds = {stage: sum(watch[stage] for watch in watches) for stage in watches[0]}
    return CompiledModule(module, target, optimize, objects, seconds)


def halves_of(module: object) -> tuple[object, ...]:
    """What to compile side by side; a text is one piece."""
    if isinstance(module, str):
        return (module,)
    from graphflow.compiler.llvm import halves

    return halves.halves_of(module)


def side_by_side(make: Callable[..., Object], halves: Iterable[object], watches: Sequence[Stopwatch]) -> list[Object]:
    """What `make` makes of their texts, each in a thread that starts while the next is printed."""
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor() as threads:
        futures = [threads.submit(make, str(half), seconds=w) for half, w in zip(halves, watches, strict=True)]
    return [future.result() for future in futures]


def compile_object(text: str, target: Target, *, optimize: str = "light", seconds: Stopwatch | None = None) -> Object:
    """(relocatable object, names of the symbols it defines). ValueError if the IR is malformed."""
    seconds = {} if seconds is None else seconds
    module = optimized(text, target, optimize, seconds)
    with timed(seconds, "codegen"):
        code = emit_object(target_machine(target), module)
    # Asked last: each question waits for llvmlite's lock, which another thread may have while it optimizes.
    return code, tuple(defined_names(module))


def assembly_for(module: object, target: Target, optimize: str = "light") -> str:
    """Assembly for any target that LLVM knows, this machine's or not."""
    return str(target_machine(target).emit_assembly(optimized(str(module), target, optimize, {})))


def optimized_ir(module: object, target: Target, optimize: str = "light") -> str:
    """The IR that code generation for `target` starts from."""
    return str(optimized(str(module), target, optimize, {}))


def optimized(text: str, target: Target, optimize: str, seconds: Stopwatch) -> Any:
    """Parse, verify and optimize; each module has its own LLVM context, freed with it. ValueError if malformed."""
    machine = target_machine(target)
    STATISTICS.optimized += 1
    with timed(seconds, "parse"):
        module = parse(text)
    # Without these two LLVM assumes a generic machine's pointers, alignments and triple.
    module.triple = machine.triple
    module.data_layout = str(machine.target_data)
    with timed(seconds, "verify"):
        verify(module, text)
    with timed(seconds, "optimize"):
        PIPELINES[optimize](module, machine)
    return module


def parse(text: str) -> Any:
    """The module that `text` is. ValueError with LLVM's message and the line it complains of."""
    try:
        return llvm.parse_assembly(text, context=llvm.create_context())
    except RuntimeError as error:
        raise ValueError(f"internal error: malformed LLVM IR: {error}") from error


def verify(module: Any, text: str) -> None:
    """ValueError with LLVM's message if the module breaks a rule of the IR."""
    try:
        module.verify()
    except RuntimeError as error:
        raise ValueError(f"internal error: invalid LLVM IR: {error}\n{text}") from error


def defined_names(module: Any) -> Iterator[str]:
    """Names of the functions and globals that `module` defines for others."""
    for value in itertools.chain(module.functions, module.global_variables):
        if not value.is_declaration and value.linkage.name == "external":
            yield value.name


def run_nothing(module: Any, machine: Any) -> None:
    """Leave the IR as written."""


def run_light(module: Any, machine: Any) -> None:
    """The passes that pay for IR that is already vectorized, unrolled and tiled.

    Measured on a step of 30 kernels (fused elementwise loops and matrix tiles): 18 ms of 250; -O1 takes 260 ms for code
    that is no faster. Loop-invariant loads are not hoisted: kernels load their pointers and sizes before the loop.
    Equal functions become one, tiles of matrix products above all: a quarter less to generate for a transformer block.
    """
    builder = pass_builder(machine, 1)
    passes = llvm.create_new_module_pass_manager()
    passes.add_always_inliner_pass()
    passes.add_sroa_pass()
    passes.add_instruction_combine_pass()
    passes.add_simplify_cfg_pass()
    passes.add_merge_functions_pass()
    passes.run(module, builder)


def run_standard(level: int) -> Callable[[Any, Any], None]:
    """LLVM's own -O`level` pipeline without its vectorizers and without unrolling."""

    def run(module: Any, machine: Any) -> None:
        builder = pass_builder(machine, level)
        builder.getModulePassManager().run(module, builder)

    return run


def run_vectorizing(module: Any, machine: Any) -> None:
    """LLVM's own -O3 pipeline with everything: what a C compiler would do."""
    options = llvm.create_pipeline_tuning_options(speed_level=3)
    options.loop_vectorization = True
    options.slp_vectorization = True
    builder = llvm.create_pass_builder(machine, options)
    builder.getModulePassManager().run(module, builder)


PIPELINES: Mapping[str, Callable[[Any, Any], None]] = {
    "none": run_nothing,
    "light": run_light,
    "O1": run_standard(1),
    "O2": run_standard(2),
    "O3": run_standard(3),
    "C": run_vectorizing,
}


def pass_builder(machine: Any, level: int) -> Any:
    """A builder of LLVM's new pass manager for `machine`, with vectorizers and unrolling off."""
    options = llvm.create_pipeline_tuning_options(speed_level=level)
    options.loop_vectorization = False
    options.slp_vectorization = False
    options.loop_interleaving = False
    options.loop_unrolling = False
    return llvm.create_pass_builder(machine, options)


@contextmanager
def timed(seconds: Stopwatch, stage: str) -> Iterator[None]:
    """Add the time that the block takes to `seconds[stage]`."""
    start = time.perf_counter()
    try:
        yield
    finally:
        seconds[stage] = seconds.get(stage, 0.0) + time.perf_counter() - start
