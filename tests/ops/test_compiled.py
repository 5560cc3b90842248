"""Every case of every op, compiled by the real path, against the op's `eval`; its gradient against the interpreter.

Cases are compiled many at once, a chunk of them as one program with many outputs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np
import pytest

from graphflow.compiler.differentiate import differentiate
from graphflow.compiler.interpret import interpret
from graphflow.compiler.program import TensorProgram
from graphflow.core.node import Node
from graphflow.core.op import OPS, Case
from graphflow.core.type import NeedsStatic, ShapeError, TensorType
from graphflow.ops.gradient import mark, promise
from graphflow.ops.leaf import constant
from graphflow.ops.state import feed_node
from tests.harness import assert_same, compile_program, feed_types, op_node, run

CHUNK = 34
CASES = [(name, number, case) for name, op in OPS.items() for number, case in enumerate(op.cases)]
SHAPE_INPUTS = {"DynamicReshape": 1, "DynamicBroadcastTo": 1}  # the input that must be known while compiling
VARIANTS = ("float64", "float32", "symbolic")


@dataclass
class Batch:
    """Several cases as one program."""

    feeds: list[Any] = field(default_factory=list)
    types: list[TensorType] = field(default_factory=list)
    outputs: list[Node] = field(default_factory=list)
    wanted: list[Any] = field(default_factory=list)
    places: dict[tuple[str, int], slice] = field(default_factory=dict)
    skipped: set[tuple[str, int]] = field(default_factory=set)

    def inputs(self, name: str, arrays: Sequence[Any], leading: bool) -> list[Node]:
        """Feeds for a case's arrays."""
        nodes = []
        for n, (array, type_) in enumerate(zip(arrays, feed_types(arrays, leading), strict=True)):
            if SHAPE_INPUTS.get(name) == n:
                nodes.append(constant(array))
                continue
            nodes.append(feed_node(len(self.feeds), type_))
            self.feeds.append(array)
            self.types.append(type_)
        return nodes

    def add(self, key: tuple[str, int], nodes: Sequence[Node], wanted: Sequence[Any]) -> None:
        """A case's outputs and what they should be."""
        self.places[key] = slice(len(self.outputs), len(self.outputs) + len(nodes))
        self.outputs += nodes
        self.wanted += wanted

    def results(self) -> list[Any]:
        """What the compiled program answers."""
        program = TensorProgram(tuple(self.types), tuple(self.outputs))
        return run(compile_program(program), self.feeds)[0]


def arrays_of(case: Case, variant: str) -> list[Any]:
    """A case's inputs, in float32 for the variant of that name."""
    single = variant == "float32"
    return [x.astype(np.float32) if single and x.dtype == np.float64 else x for x in case.inputs]


def evaluated(name: str, case: Case, arrays: Sequence[Any]) -> list[Any]:
    """What `eval` says."""
    value = OPS[name].eval(*arrays, **case.attrs)
    return list(value) if isinstance(value, tuple) else [value]


@cache
def forward(variant: str, chunk: int) -> tuple[Batch, list[Any]]:
    """A chunk of all cases, compiled and run."""
    batch = Batch()
    for name, number, case in CASES[chunk * CHUNK : (chunk + 1) * CHUNK]:
        arrays = arrays_of(case, variant)
        before = len(batch.feeds)
        try:
            nodes = op_node(name, batch.inputs(name, arrays, variant == "symbolic"), case.attrs)
        except (NeedsStatic, ShapeError):
            assert variant == "symbolic"
            del batch.feeds[before:], batch.types[before:]
            batch.skipped.add((name, number))
            continue
        wanted = [np.asarray(w, n.dtype.numpy) for w, n in zip(evaluated(name, case, arrays), nodes, strict=True)]
        batch.add((name, number), nodes, wanted)
    return batch, batch.results()


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("at", range(len(CASES)), ids=[f"{name}-{number}" for name, number, _ in CASES])
def test_compiled_op_agrees_with_eval(at, variant):
    name, number, _ = CASES[at]
    batch, got = forward(variant, at // CHUNK)
    if (name, number) in batch.skipped:
        pytest.skip("its sizes must be known")
    for g, w in zip(got[batch.places[name, number]], batch.wanted[batch.places[name, number]], strict=True):
        assert_same(g, w, name)


def test_most_cases_take_unknown_sizes():
    chunks = range(-(-len(CASES) // CHUNK))
    skipped = {key for chunk in chunks for key in forward("symbolic", chunk)[0].skipped}
    assert skipped == {(name, number) for name, numbers in NEED_NUMBERS.items() for number in numbers}


NEED_NUMBERS = {
    "Add": (1, 2),  # one input broadcasts along the axis, or happens to have its size
    "Select": (1,),
    "BiasAdd": (0, 1),
    "BroadcastTo": (0,),  # the attribute says a number
    "Reshape": (0, 2),
    "DynamicReshape": (0,),
    "DynamicBroadcastTo": (0,),
    "Repeat": (1,),  # the attribute says a number
    "Squeeze": (0, 1),  # which sizes are 1?
    "MatMul": (0, 1, 3),  # the inner size is a number in one input
    "Conv2D": (0, 1, 2, 3, 4, 5, 6),  # the height of the filter
    "Conv3D": (0, 1, 2),
    "Conv2DBackpropInput": (0, 1, 2, 3),
    "Conv3DBackpropInputV2": (0,),
    "DepthwiseConv2dNative": (0, 1, 2, 3),
}
"""The cases whose leading sizes must be known, by op."""


# gradients


def has_gradient(name: str, case: Case) -> bool:
    """Whether finite differences apply to a case."""
    floats = [x for x in case.inputs if x.dtype.kind == "f"]
    return OPS[name].differentiable and case.grad and bool(floats) and case.inputs[0].dtype.kind in "fb"


GRADIENT_CASES = [(name, number, case) for name, number, case in CASES if has_gradient(name, case)]


def gradient_nodes(batch: Batch, name: str, case: Case, arrays: Sequence[Any]) -> list[Node]:
    """Promises of the derivatives with respect to a case's floats."""
    inputs = batch.inputs(name, arrays, leading=False)
    first = len(batch.feeds)
    marked = [mark(x, first * 10 + n) if x.dtype.is_floating else x for n, x in enumerate(inputs)]
    ys = [y for y in op_node(name, marked, case.attrs) if y.dtype.is_floating]
    gs = [constant(np.random.default_rng(n).standard_normal(y.shape), y.dtype) for n, y in enumerate(ys)]
    return [promise(ys, gs, first * 10 + n, x.type) for n, x in enumerate(inputs) if x.dtype.is_floating and ys]


@cache
def backward(variant: str, chunk: int) -> tuple[Batch, list[Any]]:
    """A chunk of all gradients, compiled and run."""
    batch = Batch()
    for name, number, case in GRADIENT_CASES[chunk * CHUNK : (chunk + 1) * CHUNK]:
        batch.add((name, number), gradient_nodes(batch, name, case, arrays_of(case, variant)), [])
    program = differentiate(TensorProgram(tuple(batch.types), tuple(batch.outputs)))
    batch.outputs = list(program.outputs)
    batch.wanted, _ = interpret(program, batch.feeds, {})
    return batch, batch.results()


@pytest.mark.parametrize("variant", ["float64", "float32"])
@pytest.mark.parametrize(
    "at", range(len(GRADIENT_CASES)), ids=[f"{name}-{number}" for name, number, _ in GRADIENT_CASES]
)
def test_compiled_gradient_agrees_with_interpreter(at, variant):
    name, number, _ = GRADIENT_CASES[at]
    batch, got = backward(variant, at // CHUNK)
    for g, w in zip(got[batch.places[name, number]], batch.wanted[batch.places[name, number]], strict=True):
        assert_same(g, w, name, scale=4)


def test_cases_cover_the_ops():
    assert len(CASES) > 200
    assert len(GRADIENT_CASES) > 100
