"""Random graphs: what is compiled agrees with the interpreter, gradients and unknown sizes included, on any threads."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from graphflow.compiler.differentiate import differentiate
from graphflow.compiler.interpret import interpret
from graphflow.compiler.llvm import waves
from graphflow.compiler.pipeline import TENSOR_PASSES
from graphflow.compiler.program import TensorProgram, verify
from graphflow.core.dim import Dim
from graphflow.core.node import Node
from graphflow.ops.gradient import mark, promise
from graphflow.ops.leaf import constant
from graphflow.ops.state import feed_node
from graphflow.runtime.threads import set_thread_count, thread_count
from tests.e2e.random_graphs import RandomGraph
from tests.harness import compile_program, run

ROUNDING = {"float32": 3e-5, "float64": 1e-12}
"""Allowed difference, relative to the largest number that the graph computes (at least 1); the coarsest dtype rules."""

QUICK = settings(
    max_examples=40, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
)
LONG = settings(max_examples=1500, deadline=None, database=None, suppress_health_check=list(HealthCheck))


def check_graph(graph: RandomGraph, outputs: list[Node]) -> None:
    """Compile by all passes, run, compare; with unknown sizes, once more with other sizes."""
    program = differentiate(TensorProgram(tuple(graph.types), tuple(outputs)))
    optimized = program
    for one in TENSOR_PASSES:
        optimized = one.run(optimized)
        verify(optimized)
    executable = compile_program(optimized)
    compare(program, executable, graph.feeds)
    if graph.symbolic:
        feeds = [resized(f, t.dims[:1]) for f, t in zip(graph.feeds, graph.types, strict=True)]
        compare(program, executable, feeds)


def compare(program: TensorProgram, executable: Any, feeds: list[Any]) -> None:
    """Assert that both give the same."""
    everything = TensorProgram(program.feeds, tuple(program.nodes()))
    with np.errstate(all="ignore"):
        values = dict(zip(everything.outputs, interpret(everything, feeds, {})[0], strict=True))
    largest = max([1.0, *(greatest(v) for v in values.values())])
    rounding = max((ROUNDING.get(n.dtype.name, 0.0) for n in values), default=0.0)
    got, _ = run(executable, feeds)
    for g, node in zip(got, program.outputs, strict=True):
        wanted = values[node]
        assert g.dtype == wanted.dtype
        assert g.shape == wanted.shape
        atol = largest * rounding if g.dtype.kind == "f" else 0
        np.testing.assert_allclose(g, wanted, rtol=0, atol=atol, err_msg=str(program))


def greatest(value: Any) -> float:
    """The largest finite magnitude of an array of floats."""
    if value.dtype.kind != "f":
        return 1.0
    finite = np.abs(value[np.isfinite(value)])
    return float(finite.max()) if finite.size else 1.0


def resized(feed: Any, first: tuple[Any, ...]) -> Any:
    """A feed whose unknown first size is another one: sizes that were equal stay so."""
    if not first or not isinstance(first[0], Dim):
        return feed
    rows = [n % max(feed.shape[0], 1) for n in range(2 * feed.shape[0] + 3)]
    return feed[rows] if feed.shape[0] else np.ones((3, *feed.shape[1:]), feed.dtype)


def forward(data: Any, symbolic: bool, special: bool) -> None:
    """One random graph."""
    graph = RandomGraph(data.draw, symbolic=symbolic, special=special)
    graph.grow(data.draw(st.integers(1, 10)))
    check_graph(graph, graph.outputs())


def backward(data: Any) -> None:
    """One random graph with its gradients with respect to the fed floats."""
    graph = RandomGraph(data.draw)
    feeds = [feed_node(n, t) for n, t in enumerate(graph.types)]
    graph.nodes = [mark(f, n) if f.dtype.is_floating else f for n, f in enumerate(feeds)]
    graph.exact = set(graph.nodes)
    graph.grow(data.draw(st.integers(1, 8)))
    ys = [n for n in graph.nodes[-3:] if n.dtype.is_floating]
    gs = [constant(np.random.default_rng(n).uniform(-1, 1, y.shape), y.dtype) for n, y in enumerate(ys)]
    promises = [promise(ys, gs, n, f.type) for n, f in enumerate(feeds) if ys and f.dtype.is_floating]
    check_graph(graph, [*ys[:1], *promises] or graph.nodes[-1:])


@QUICK
@given(st.data())
def test_compiled_agrees_with_interpreted(data):
    forward(data, symbolic=False, special=False)


@QUICK
@given(st.data())
def test_nan_and_infinity_come_out_where_they_should(data):
    forward(data, symbolic=False, special=True)


@QUICK
@given(st.data())
def test_unknown_sizes(data):
    forward(data, symbolic=True, special=False)


@QUICK
@given(st.data())
def test_gradients(data):
    backward(data)


def threaded(data: Any) -> None:
    """One random graph, whose launches all go to the pool, on one thread and on several."""
    graph = RandomGraph(data.draw)
    graph.grow(data.draw(st.integers(1, 10)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(waves, "PARALLEL_NS", 0)
        executable = compile_program(TensorProgram(tuple(graph.types), tuple(graph.outputs())))
    before = thread_count()
    try:
        results = []
        for count in (1, 2, 4):
            set_thread_count(count)
            results.append([v.tobytes() for v in run(executable, graph.feeds)[0]])
    finally:
        set_thread_count(before)
    assert results[0] == results[1] == results[2]


@QUICK
@given(st.data())
def test_threads_change_no_bit(data):
    threaded(data)


KINDS = {
    "plain": lambda data: forward(data, symbolic=False, special=False),
    "special": lambda data: forward(data, symbolic=False, special=True),
    "symbolic": lambda data: forward(data, symbolic=True, special=False),
    "gradient": backward,
    "threaded": threaded,
}


@pytest.mark.soak
@pytest.mark.parametrize("kind", KINDS)
@LONG
@given(data=st.data())
def test_many_graphs(kind, data):
    KINDS[kind](data)
