"""The arena: nothing overlaps, little is wasted, and nothing is allocated from the second run on."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import graphflow as tf
from graphflow.bench.tf1 import Program
from graphflow.bench.workloads import select
from graphflow.compiler.arena import ALIGNMENT, least, place
from graphflow.compiler.program import TensorProgram
from graphflow.core.dim import estimate
from graphflow.core.op import OPS
from graphflow.runtime import bound
from graphflow.runtime.bound import lifetimes
from graphflow.runtime.executable import Executable
from tests.e2e.random.steps import random_program
from tests.harness import check, compile_program, feed_nodes, feed_types

LIFETIMES = st.lists(
    st.tuples(st.integers(0, 5000), st.integers(0, 12), st.integers(0, 6)).map(lambda t: (t[0], t[1], t[1] + t[2])),
    max_size=24,
)
WASTE = 1.1
"""The arena may be so many times what is alive at once."""


def rounded(size: int) -> int:
    return -(-max(size, 1) // ALIGNMENT) * ALIGNMENT


@settings(deadline=None, derandomize=True, database=None)
@given(LIFETIMES)
def test_live_buffers_never_overlap(wanted):
    offsets, total = place(wanted)
    for n, (size, first, last) in enumerate(wanted):
        assert offsets[n] % ALIGNMENT == 0
        assert offsets[n] + size <= total
        for m in range(n):
            other, begin, end = wanted[m]
            if begin <= last and first <= end:
                assert offsets[n] + size <= offsets[m] or offsets[m] + other <= offsets[n]


@settings(deadline=None, derandomize=True, database=None)
@given(LIFETIMES)
def test_least_is_the_most_that_is_alive_at_once(wanted):
    waves = range(max((last for _, _, last in wanted), default=0) + 1)
    alive = [sum(rounded(size) for size, first, last in wanted if first <= wave <= last) for wave in waves]
    assert least(wanted) == max(alive)


@settings(deadline=None, derandomize=True, database=None, max_examples=400)
@given(LIFETIMES)
def test_little_is_wasted(wanted):
    assert least(wanted) <= place(wanted)[1] <= WASTE * least(wanted)


def test_a_chain_needs_room_for_two():
    wanted = [(6400, n, n + 1) for n in range(20)]
    assert place(wanted)[1] == 2 * 6400


def test_many_buffers_are_placed_quickly():
    rng = np.random.default_rng(0)
    starts = rng.integers(0, 900, 1000)
    wanted = [(int(rng.integers(64, 1 << 20)), int(s), int(s + rng.integers(0, 30))) for s in starts]
    assert place(wanted)[1] <= WASTE * least(wanted)


# whole programs


def assert_dense(executable: Executable) -> None:
    """The arena is not much larger than what is alive at once."""
    wanted = list(lifetimes(executable.layout, estimate).values())
    assert place(wanted)[1] <= WASTE * least(wanted)


@pytest.mark.parametrize("name", ["mlp", "cnn", "lstm", "transformer"])
def test_training_wastes_little(name):
    (workload,) = select([f"{name}*"])[:1]
    program = Program(tf, workload)
    program.step(plain_run=True)()
    found = [e for p in program.session._plans.values() for e in p._executables if e.plan.reads]
    assert found
    for executable in found:
        assert_dense(executable)


@pytest.mark.parametrize("seed", range(12))
def test_random_programs_waste_little(seed):
    program = random_program(seed, "gradient")
    with tf.Graph().as_default(), tf.Session() as session:
        fed, fetches, _ = program.declare()
        session.run(fetches, dict(zip(fed, (x.values() for x in program.placeholders), strict=True)))
        assert_dense(session.compiled()[-1][1])


# values written over others


def op(name: str, *xs: Any, **attrs: Any) -> Any:
    return OPS[name](*xs, **attrs)


def arenas(body: Any, *arrays: Any) -> list[str]:
    """The types of the buffers in the arena, once the values were found right."""
    types = feed_types(arrays)
    program = TensorProgram(types, (body(*feed_nodes(types)),))
    check(program, arrays)
    return [str(b.type) for b in compile_program(program).plan.buffers if b.kind == "arena"]


SQUARE = np.random.default_rng(0).standard_normal((24, 24)) / 5


def test_an_elementwise_kernel_writes_over_its_dying_input():
    """m is summed up over columns, so it is stored; what is made of it and the sums takes its memory."""

    def body(x: Any) -> Any:
        m = op("MatMul", x, x)
        y = op("Tanh", m) * op("ReduceSum", m, axes=(0,))
        return op("MatMul", y, y)

    assert arenas(body, SQUARE).count("float64[24, 24]") == 1


def test_what_is_read_elsewhere_is_not_written_over():
    def body(x: Any) -> Any:
        m = op("MatMul", x, x)
        y = op("Tanh", m) * op("ReduceSum", m, axes=(0,)) + op("Transpose", m, perm=(1, 0))
        return op("MatMul", y, y)

    assert arenas(body, SQUARE).count("float64[24, 24]") == 2


def test_what_is_read_later_is_not_written_over():
    def body(x: Any) -> Any:
        m = op("MatMul", x, x)
        y = op("Tanh", m) * op("ReduceSum", m, axes=(0,))
        return op("MatMul", op("MatMul", y, y), m)

    assert arenas(body, SQUARE).count("float64[24, 24]") == 3


# allocations


def test_nothing_is_allocated_from_the_second_run_on(monkeypatch):
    (workload,) = select(["mlp*"])[:1]
    program = Program(tf, workload)
    step = program.step(plain_run=True)
    step()
    step()

    def fails(*args: Any) -> Any:
        raise AssertionError("memory is allocated")

    monkeypatch.setattr(bound, "aligned_empty", fails)
    monkeypatch.setattr("graphflow.runtime.memory.aligned_empty", fails)
    monkeypatch.setattr("graphflow.runtime.store.aligned_empty", fails)
    for _ in range(3):
        step()
