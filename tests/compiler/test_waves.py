"""Jobs of several launches: which units of each a thread takes, and that pieces of a whole come side by side."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from llvmlite import ir

import graphflow as tf
from graphflow.compiler.llvm.code import I64, PTR, at, const
from graphflow.compiler.llvm.jit import CompiledModule, compile_module
from graphflow.compiler.llvm.kernel import Launch
from graphflow.compiler.llvm.launch_order import Order
from graphflow.compiler.llvm.step import emit_step
from graphflow.compiler.llvm.target import host_target
from graphflow.compiler.llvm.waves import Turn, are_pieces, in_turn, order_of, side_by_side
from graphflow.runtime.threads import set_thread_count, thread_count

WAVES, LAUNCHES = "graphflow.compiler.llvm.waves", 3
WAYS = {"in_turn": in_turn, "side_by_side": side_by_side}


@pytest.fixture(scope="module", autouse=True)
def same_threads_afterwards() -> Iterator[None]:
    before = thread_count()
    yield
    set_thread_count(before)


@pytest.fixture(scope="module")
def parts() -> CompiledModule:
    """void way(ptr counts, i64 begin, i64 end, ptr parts): the begin and end of each launch's units."""
    module = ir.Module("parts")
    for name, way in WAYS.items():
        function = ir.Function(module, ir.FunctionType(ir.VoidType(), [PTR, I64, I64, PTR]), name)
        b = ir.IRBuilder(function.append_basic_block("entry"))
        counts, begin, end, found = function.args
        units = [b.load(at(b, counts, const(n), I64), typ=I64) for n in range(LAUNCHES)]
        for n, x in enumerate(x for part in way(b, units, begin, end) for x in part):
            b.store(x, at(b, found, const(n), I64))
        b.ret_void()
    return compile_module(module, host_target())


def units_of(code: CompiledModule, name: str, counts: Sequence[int], begin: int, end: int) -> list[range]:
    """The units of each launch in a part of a job."""
    call = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p)(code.address(name))
    given_, found = np.array(counts, np.int64), np.zeros(2 * LAUNCHES, np.int64)
    call(given_.ctypes.data, begin, end, found.ctypes.data)
    return [range(*pair) for pair in found.reshape(LAUNCHES, 2).tolist()]


@pytest.mark.parametrize("name", WAYS)
@settings(max_examples=100, deadline=None)
@given(counts=st.lists(st.integers(0, 40), min_size=LAUNCHES, max_size=LAUNCHES).filter(any), data=st.data())
def test_a_job_has_each_unit_of_its_launches_once(parts: CompiledModule, name: str, counts: list[int], data) -> None:
    total = sum(counts)
    cuts = sorted({0, total, *data.draw(st.lists(st.integers(0, total)))})
    seen: list[list[int]] = [[] for _ in counts]
    for begin, end in pairwise(cuts):
        for launch, units in zip(seen, units_of(parts, name, counts, begin, end), strict=True):
            launch += units
    assert seen == [list(range(count)) for count in counts]


def test_pieces_come_side_by_side(parts: CompiledModule) -> None:
    assert units_of(parts, "side_by_side", [100, 50, 10], 32, 64) == [range(20, 40), range(10, 20), range(2, 4)]
    assert units_of(parts, "in_turn", [100, 50, 10], 32, 64)[0] == range(32, 64)


def turn(unit_ns: int, order: Order, *fills: int) -> Turn:
    return Turn(Launch("kernel0", 8, unit_ns, order), 0, 0, frozenset(fills))


def test_pieces_keep_their_order_and_others_are_taken_together() -> None:
    one = turn(1000, Order.TURNING, 5)
    assert order_of([one]) == Order.TURNING
    for job, pieces, order in (
        ([one, turn(2000, Order.TURNING, 5)], True, Order.TURNING),
        ([one, turn(1000, Order.SHARES, 5)], True, Order.TOGETHER),
        ([one, turn(2001, Order.TURNING, 5)], False, Order.TOGETHER),  # long units come first
        ([one, turn(1000, Order.TURNING, 6)], False, Order.TOGETHER),  # another result
        ([one, turn(1000, Order.TURNING, 5, 6)], False, Order.TOGETHER),
    ):
        assert (are_pieces(job), order_of(job)) == (pieces, order)


def job_code(formula: Callable[..., object]) -> str:
    """The functions of jobs in the code of a formula of two arrays."""
    with patch(f"{WAVES}.PARALLEL_NS", 0), tf.Graph().as_default(), tf.Session() as session:
        xs = [tf.placeholder(tf.float32, [600, 512]) for _ in range(2)]
        session.make_callable(formula(*xs), xs)(*[np.zeros((600, 512), np.float32)] * 2)
        ((_, executable),) = session.compiled()
        plan = executable.plan
        code = emit_step(plan.steps, len(plan.buffers), plan.symbols, host_target())
    return "".join(str(f) for f in code.module.functions if f.name.startswith("job"))


def test_a_concatenation_is_a_job_of_pieces() -> None:
    assert "sdiv" in job_code(lambda x, y: tf.concat([x, y], 1))
    other = job_code(lambda x, y: (tf.exp(x), tf.sqrt(y)))
    assert "define" in other
    assert "sdiv" not in other


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 300), st.lists(st.integers(1, 90), min_size=2, max_size=5), st.integers(0, 1), st.booleans())
def test_concatenations_by_threads(rows: int, widths: list[int], axis: int, open_: bool) -> None:
    shapes = [(rows, width) if axis else (width, rows) for width in widths]
    arrays = [np.random.default_rng(n).standard_normal(shape, np.float32) for n, shape in enumerate(shapes)]
    with patch(f"{WAVES}.PARALLEL_NS", 0), tf.Graph().as_default(), tf.Session() as session:
        xs = [tf.placeholder(tf.float32, [None if open_ and n != axis else d for n, d in enumerate(s)]) for s in shapes]
        call = session.make_callable(tf.concat(xs, axis), xs)
        for count in (1, 2, 3):
            set_thread_count(count)
            np.testing.assert_array_equal(call(*arrays), np.concatenate(arrays, axis))
