"""LLVM IR in, machine code out.

    module = compile_module(text, host_target())
    address = module.address("f")      # an int; the code lives as long as `module`
    print(module.assembly())           # what was generated
    print(assembly_for(text, NEON))    # what another CPU would get; nothing runs

Code that calls functions of ours by name finds those that `declare_symbol` made known, then the process' own (libc).
Machine code is also had as bytes: `compile_object` makes them, `load_objects` loads them, in this process or another.
A large module becomes two objects, made side by side.
`stored_library` keeps them in the cache on disk; `cache.STATISTICS.optimized` counts what LLVM was given to compile.
"""

import ctypes
import functools
import itertools
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import astuple
from typing import Any

import llvmlite
from llvmlite import binding as llvm

from graphflow.compiler.cache import STATISTICS, digest_of, of_environment
from graphflow.compiler.llvm.machine import CODEGEN_LEVEL, emit_object, initialize, target_machine
from graphflow.compiler.llvm.target import Target

Stopwatch = dict[str, float]
Object = tuple[bytes, tuple[str, ...]]

_symbols: dict[str, int] = {}
_library_numbers = itertools.count()


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
        self._library = load_objects(self.objects, self.names, seconds)

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


class LoadedLibrary:
    """Machine code in memory, freed with the object."""

    def __init__(self, tracker: Any, names: Collection[str]):
        self._tracker = tracker
        self._addresses: dict[str, int] = {name: tracker[name] for name in names}

    def address(self, name: str) -> int:
        """Where `name` starts. KeyError if it was not among the names asked for."""
        return self._addresses[name]

    def keep_forever(self) -> None:
        """Never free the code."""
        immortalize(self._tracker)


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
    names = tuple(defined_names(module))
    with timed(seconds, "codegen"):
        return emit_object(target_machine(target), module), names


def load_objects(objects: Iterable[bytes], names: Collection[str], seconds: Stopwatch | None = None) -> LoadedLibrary:
    """Load what `compile_object` made; objects may call each other. RuntimeError if a symbol they call is unknown."""
    with timed({} if seconds is None else seconds, "link"):
        builder = llvm.JITLibraryBuilder().add_current_process()
        for code in objects:
            builder.add_object_img(code)
        for name, address in _symbols.items():
            if name not in names:
                builder.import_symbol(name, address)
        for name in names:
            builder.export_symbol(name)
        # A library's name can never be used again, even after it is freed.
        return LoadedLibrary(builder.link(jit(), f"graphflow{next(_library_numbers)}"), names)


def stored_library(name: str, make: Callable[[], object], target: Target, *facts: int) -> LoadedLibrary:
    """The module that `make` writes, from the cache if it is there; `make` is not called then.

    `name` tells modules apart, and `facts` are all that the code depends on besides the target and our sources.
    """
    cache = of_environment()
    key = digest_of((name, facts, surroundings(target)))
    found = None if cache is None else cache.read(key)
    if found is not None:
        names, _, object_code = found.partition(b"\n")
        return load_objects((object_code,), tuple(names.decode().split()))
    object_code, exported = compile_object(str(make()), target)
    if cache is not None:
        cache.write(key, b"%s\n%s" % (" ".join(exported).encode(), object_code))
    return load_objects((object_code,), exported)


def surroundings(target: Target) -> tuple[Any, ...]:
    """What object code depends on besides the text that it is made of."""
    return (*astuple(target), llvmlite.__version__, llvm.llvm_version_info, CODEGEN_LEVEL)


def declare_symbol(name: str, address: int) -> None:
    """Let modules compiled from now on call or read `name`, which is at `address` and must stay there."""
    _symbols[name] = address


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


@functools.cache
def jit() -> Any:
    """The process' one linker and loader. Never disposed of: threads may be inside its code until the very end."""
    initialize()
    llvm.initialize_native_asmparser()
    engine = llvm.create_lljit_compiler(use_jit_link=True)
    immortalize(engine)
    return engine


def immortalize(owner: Any) -> None:
    """Never destroy `owner`, not even when the interpreter ends: one reference is given to nobody."""
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(owner))


@contextmanager
def timed(seconds: Stopwatch, stage: str) -> Iterator[None]:
    """Add the time that the block takes to `seconds[stage]`."""
    start = time.perf_counter()
    try:
        yield
    finally:
        seconds[stage] = seconds.get(stage, 0.0) + time.perf_counter() - start
