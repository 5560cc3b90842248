"""Imports point one way: core, ops, framework, compiler, runtime, face. A module imports from its own layer and below.

Read from the source with `ast`, so it holds for files that no test imports.
"""

import ast
import os
import platform
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import networkx as nx
import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "graphflow"

# Lowest first. Everything under graphflow/ that has no row here is the face: what users see.
LAYERS = ("core", "ops", "framework", "compiler", "runtime")
FACE = len(LAYERS)

# Who may import inside a function (or a type of a higher layer under TYPE_CHECKING), and why. Besides these, an import
# inside a function is right only where the same import at the top would close a cycle within a layer.
LAZY = {
    "graphflow": "forwards Session and the like when they are first used (PEP 562): importing graphflow loads no LLVM",
    "graphflow.runtime.session": "a session alone loads no LLVM, only its first run does",
    "graphflow.runtime.variable_lock": "so does a session's variables' lock",
    "graphflow.runtime.order": "a run that finds its program in the cache loads no pass",
    "graphflow.runtime.executable": "nor what writes kernels",
    "graphflow.compiler.layout": "nor what measures them",
    "graphflow.compiler.llvm.jit": "nor what divides them among threads",
    "graphflow.compiler.llvm.target": "the named targets need no word from LLVM",
    "graphflow.runtime.threads": "what writes the pool is loaded where it is not in the cache",
    "graphflow.runtime.native_call": "and so is what writes the native functions",
    "graphflow.runtime.recording": "what takes the time of kernels is written when somebody asks for it",
    "graphflow.cli": "--version and --help answer without loading the compiler",
}

# llvmlite is written against in these places only.
LLVM_USERS = (
    "graphflow.compiler.llvm",
    "graphflow.runtime.thread_pool_code",
    "graphflow.runtime.pool_function",
    "graphflow.runtime.pool_limits_code",
    "graphflow.runtime.pool_units_code",
    "graphflow.runtime.pool_worker_code",
    "graphflow.runtime.native_function",
    "graphflow.runtime.native_answer_code",
    "graphflow.runtime.native_arrays_code",
    "graphflow.runtime.native_call_code",
    "graphflow.runtime.native_limits_code",
    "graphflow.runtime.native_lock_code",
    "graphflow.runtime.native_memory_code",
    "graphflow.runtime.run_log_code",
)


@dataclass(frozen=True)
class Import:
    """`importer` names `imported`; `where` is "top", "function", or "types" for a block under TYPE_CHECKING."""

    importer: str
    imported: str
    where: str
    line: int

    def __str__(self) -> str:
        return f"{self.importer}:{self.line} imports {self.imported}"


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def source_files(folder: Path) -> Iterator[Path]:
    """The .py files below, through the symlinks too."""
    for path in sorted(folder.iterdir()):
        if path.is_dir():
            yield from source_files(path)
        elif path.suffix == ".py":
            yield path


def inside(module: str, *packages: str) -> bool:
    return any(module == package or module.startswith(package + ".") for package in packages)


def layer(module: str) -> int:
    part = module.split(".")[1] if "." in module else ""
    return LAYERS.index(part) if part in LAYERS else FACE


def read_imports(module: str, source: str, known: frozenset[str]) -> list[Import]:
    """Every import of a module. `from a import b` names the module a.b if there is one, else a."""
    found = []
    todo: list[tuple[ast.AST, str]] = [(ast.parse(source), "top")]
    while todo:
        node, where = todo.pop()
        if isinstance(node, ast.Import):
            found += [Import(module, alias.name, where, node.lineno) for alias in node.names]
        if isinstance(node, ast.ImportFrom):
            base = "." * node.level + (node.module or "")
            names = {f"{base}.{alias.name}" if f"{base}.{alias.name}" in known else base for alias in node.names}
            found += [Import(module, name, where, node.lineno) for name in sorted(names)]
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            where = "function"
        guarded = node.body if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test) else []
        todo += [(child, "types" if child in guarded else where) for child in ast.iter_child_nodes(node)]
    return found


MODULES = {module_name(path): path for path in source_files(PACKAGE)}
IMPORTS = [
    found
    for module, path in MODULES.items()
    for found in read_imports(module, path.read_text("utf-8"), frozenset(MODULES))
]
OURS = [found for found in IMPORTS if inside(found.imported, "graphflow")]


def ancestors(module: str) -> set[str]:
    """The packages around a module: Python runs them before it."""
    parts = module.split(".")
    return {".".join(parts[:end]) for end in range(1, len(parts))}


def loading_order() -> nx.DiGraph:
    """Who has to be loaded before whom: module -> what it imports at the top, and the packages around that."""
    graph = nx.DiGraph()
    for found in OURS:
        if found.where == "top":
            needed = {found.imported} | (ancestors(found.imported) - ancestors(found.importer) - {found.importer})
            graph.add_edges_from((found.importer, module) for module in needed)
    return graph


def none_of(found: list[Import]) -> None:
    assert not found, "\n".join(map(str, found))


def test_modules_are_found_through_the_symlinks() -> None:
    assert {"graphflow.compiler", "graphflow.runtime"} <= {".".join(name.split(".")[:2]) for name in MODULES}


def test_modules_import_from_their_own_layer_and_those_below() -> None:
    upward = [found for found in OURS if layer(found.imported) > layer(found.importer)]
    none_of([found for found in upward if found.where == "top" or found.importer not in LAZY])


def test_no_module_needs_itself_to_load() -> None:
    assert list(nx.simple_cycles(loading_order(), length_bound=6)) == []
    assert nx.is_directed_acyclic_graph(loading_order())


def test_imports_inside_functions_would_close_a_cycle_at_the_top() -> None:
    graph = loading_order()

    def closes_a_cycle(found: Import) -> bool:
        loaded = {found.imported} | (ancestors(found.imported) - ancestors(found.importer))
        return any(found.importer in nx.descendants(graph, module) for module in loaded if module in graph)

    deferred = [found for found in OURS if found.where == "function" and found.importer not in LAZY]
    none_of([found for found in deferred if not closes_a_cycle(found)])


def test_nothing_imports_the_folders_behind_the_symlinks_or_relatively() -> None:
    wrong = [found for found in IMPORTS if inside(found.imported, "compiler", "runtime") or found.imported[0] == "."]
    none_of(wrong)


def test_llvmlite_is_used_in_few_places() -> None:
    users = [found for found in IMPORTS if inside(found.imported, "llvmlite")]
    none_of([found for found in users if not inside(found.importer, *LLVM_USERS)])


def test_importing_graphflow_does_not_load_llvm() -> None:
    program = "import sys, graphflow; print([name for name in sys.modules if name.startswith('llvmlite')])"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "[]\n", "")


SESSION = """
import sys
import graphflow as tf

w = tf.Variable(tf.ones([2]))
y = tf.placeholder(tf.float32, [2]) * w
tf.gradients(y, w)
with tf.Session():
    print([name for name in sys.modules if name.startswith(("llvmlite", "networkx"))])
"""


def test_neither_graphs_nor_sessions_load_llvm_before_something_runs() -> None:
    done = subprocess.run([sys.executable, "-c", SESSION], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "[]\n", "")


RUN = """
import sys
import numpy as np
import graphflow as tf

x = tf.placeholder(tf.float32, [None, 2])
tf.Session().run(tf.matmul(x, tf.tanh(x), transpose_b=True), {x: np.ones((3, 2))})
heavy = ("graphflow.compiler.pipeline", "graphflow.compiler.llvm.kernel", "llvmlite.binding", "llvmlite.ir")
print([name for name in heavy if name in sys.modules])
"""


def test_a_run_from_the_cache_loads_neither_passes_nor_emitter_nor_llvm(tmp_path: Path) -> None:
    environment = {**os.environ, "GRAPHFLOW_CACHE": str(tmp_path), "GRAPHFLOW_DEBUG": "0"}
    command = [sys.executable, "-c", RUN]
    cold, warm = (
        subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
        for _ in range(2)
    )
    assert all(name in cold.stdout for name in ("pipeline", "kernel", "llvmlite.binding", "llvmlite.ir")), cold.stderr
    links_itself = platform.system() == "Linux" and platform.machine() == "x86_64"  # elsewhere LLVM loads the code
    assert warm.stdout == ("[]\n" if links_itself else "['llvmlite.binding', 'llvmlite.ir']\n"), warm.stderr


SAMPLE = """
import graphflow.core.dim, llvmlite.ir as ir
from graphflow.core import node, Anything
from . import near
if TYPE_CHECKING:
    from graphflow.runtime import session
else:
    import late
class C:
    import early
    def f(self):
        import graphflow.ops
"""


@pytest.mark.parametrize(
    "imported, where",
    [
        ("graphflow.core.dim", "top"),
        ("llvmlite.ir", "top"),
        ("graphflow.core.node", "top"),
        ("graphflow.core", "top"),
        (".", "top"),
        ("graphflow.runtime", "types"),
        ("late", "top"),
        ("early", "top"),
        ("graphflow.ops", "function"),
    ],
)
def test_the_reader_sees_every_kind_of_import(imported: str, where: str) -> None:
    found = read_imports("m", SAMPLE, frozenset({"graphflow.core", "graphflow.core.node"}))
    assert (imported, where) in {(item.imported, item.where) for item in found}
    assert len(found) == 9
