"""Compile a `TensorProgram` as a session would, run it, and compare it with the interpreter.

executable = compile_program(TensorProgram(types, outputs))
got = run(executable, feeds)
check(TensorProgram(types, outputs), feeds)             # compiled and interpreted agree
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from graphflow.compiler.fuse import fuse
from graphflow.compiler.interpret import interpret
from graphflow.compiler.pipeline import Compiled
from graphflow.compiler.plan import plan
from graphflow.compiler.program import TensorProgram, verify
from graphflow.core.dim import symbol
from graphflow.core.dtype import as_dtype
from graphflow.core.node import Node
from graphflow.core.op import OPS
from graphflow.core.type import TensorType
from graphflow.ops.state import feed_node
from graphflow.runtime.executable import Executable
from graphflow.runtime.store import VariableStore

Array = np.ndarray[Any, Any]

TOLERANCE = {"float32": (2e-5, 2e-6), "float64": (1e-11, 1e-12)}
"""Relative and absolute, by dtype; what is not here must be equal."""


def compile_program(program: TensorProgram) -> Executable:
    """Machine code for a program whose passes are done."""
    verify(program)
    executable = Executable(None, (), Compiled(plan(fuse(program)), {}, ()), 0.0)
    executable.places = list(range(len(program.outputs)))
    return executable


def run(
    executable: Executable, feeds: Sequence[Any], variables: Mapping[str, Any] | None = None
) -> tuple[list[Array], dict[str, Array]]:
    """(outputs, variables after the run)."""
    state = VariableStore()
    for name, value in (variables or {}).items():
        array = np.asarray(value)
        state.load(name, array, TensorType(as_dtype(array.dtype), array.shape))
    outputs = executable.run([np.asarray(f, order="C") for f in feeds], state)
    return [np.asarray(v) for v in outputs], dict(state.values)


def feed_types(arrays: Sequence[Any], leading: bool = False) -> tuple[TensorType, ...]:
    """The types of feeds; with `leading`, first axes of equal sizes are one symbol, as capture makes them."""
    return tuple(_feed_type(np.asarray(a), leading) for a in arrays)


def _feed_type(a: Array, leading: bool) -> TensorType:
    first = tuple(symbol(f"n{s}", hint=s) for s in a.shape[:1]) if leading else a.shape[:1]
    return TensorType(as_dtype(a.dtype), (*first, *a.shape[1:]))


def feed_nodes(types: Sequence[TensorType]) -> list[Node]:
    """Feeds 0, 1, ..."""
    return [feed_node(n, t) for n, t in enumerate(types)]


def check(
    program: TensorProgram, feeds: Sequence[Any], variables: Mapping[str, Any] | None = None, scale: float = 1.0
) -> list[Array]:
    """Assert that compiled and interpreted agree in outputs and variables; returns the outputs."""
    wanted, updates = interpret(program, feeds, variables or {})
    got, state = run(compile_program(program), feeds, variables)
    for number, (g, w) in enumerate(zip(got, wanted, strict=True)):
        assert_same(g, w, f"output {number}", scale)
    for name, value in updates.items():
        assert_same(state[name], value, name, scale)
    return got


def assert_same(got: Any, wanted: Any, what: str = "", scale: float = 1.0) -> None:
    """Equal dtype, shape and, up to `TOLERANCE` times `scale`, values; NaN and infinities at the same places."""
    got, wanted = np.asarray(got), np.asarray(wanted)
    assert got.dtype == wanted.dtype, what
    assert got.shape == wanted.shape, what
    rtol, atol = (scale * t for t in TOLERANCE.get(got.dtype.name, (0, 0)))
    np.testing.assert_allclose(got, wanted, rtol=rtol, atol=atol, err_msg=what)


def op_node(name: str, inputs: Sequence[Node], attrs: Mapping[str, Any]) -> tuple[Node, ...]:
    """The outputs of an op."""
    from graphflow.core.node import make_node

    op = OPS[name]
    made = op.node(*inputs, **attrs) if inputs else make_node(op, (), dict(attrs))
    return made if isinstance(made, tuple) else (made,)
