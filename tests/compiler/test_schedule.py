"""When kernels run: side by side where that costs no memory, by turns where it saves much."""

from __future__ import annotations

from itertools import count
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from graphflow.compiler.arena import least
from graphflow.compiler.program import TensorProgram
from graphflow.compiler.schedule import FULL, SMALL, Task, peak, schedule
from graphflow.core.dim import estimate
from graphflow.core.op import OPS
from tests.harness import check, compile_program, feed_nodes, feed_types

BRANCHES = 8


def branches(size: int, work: int) -> tuple[list[Task], dict[Any, int]]:
    """Large values, each of which is at once reduced to a small one."""
    tasks = [Task(frozenset(), (f"large{n}",), work) for n in range(BRANCHES)]
    tasks += [Task(frozenset((n,)), (f"large{n}", f"small{n}"), work) for n in range(BRANCHES)]
    tasks.append(Task(frozenset(range(BRANCHES, 2 * BRANCHES)), tuple(f"small{n}" for n in range(BRANCHES))))
    return tasks, {f"{kind}{n}": size if kind == "large" else 4 for n in range(BRANCHES) for kind in ("large", "small")}


def test_large_values_take_turns():
    tasks, sizes = branches(SMALL, FULL)
    assert peak(tasks, schedule(tasks, sizes), sizes) <= 2 * SMALL + 4 * BRANCHES


def test_small_values_do_not():
    tasks, sizes = branches(1000, FULL)
    assert schedule(tasks, sizes) == [0] * BRANCHES + [1] * BRANCHES + [2]


def test_where_no_order_is_better_kernels_run_side_by_side():
    tasks = [Task(frozenset(), (n,), FULL) for n in range(BRANCHES)]
    tasks.append(Task(frozenset(range(BRANCHES)), tuple(range(BRANCHES)), FULL))
    assert schedule(tasks, dict.fromkeys(range(BRANCHES), SMALL)) == [0] * BRANCHES + [1]


TASKS = st.lists(
    st.tuples(st.sets(st.integers(0, 30), max_size=3), st.integers(0, 3 * SMALL), st.integers(0, 2 * FULL)), max_size=24
)


@settings(deadline=None, derandomize=True, database=None)
@given(TASKS)
def test_any_schedule_is_right_and_no_worse_than_the_soonest(drawn):
    needs = [frozenset(x for x in wanted if x < n) for n, (wanted, _, _) in enumerate(drawn)]
    tasks = [Task(before, (n, *before), work) for n, before, (_, _, work) in zip(count(), needs, drawn)]
    sizes = {n: size for n, (_, size, _) in enumerate(drawn)}
    waves = schedule(tasks, sizes)
    soon: list[int] = []
    for before in needs:
        soon.append(1 + max((soon[x] for x in before), default=-1))
    assert all(waves[x] < wave for before, wave in zip(needs, waves, strict=True) for x in before)
    assert peak(tasks, waves, sizes) <= peak(tasks, soon, sizes)
    assert set(waves) == set(range(max(waves, default=-1) + 1))


def test_a_program_of_large_branches_needs_room_for_few():
    """Each output is a sum over a product of its own."""
    side = 640
    arrays = [np.full((side, side), n / side, np.float32) for n in range(6)]

    def column_sums(x: Any) -> Any:
        m = OPS["MatMul"](x, x)
        return OPS["ReduceSum"](OPS["Tanh"](m) * OPS["ReduceSum"](m, axes=(0,)), axes=(0,))

    types = feed_types(arrays)
    program = TensorProgram(types, tuple(column_sums(x) for x in feed_nodes(types)))
    check(program, arrays, scale=100)
    plan = compile_program(program).plan
    alive = [(estimate(b.type.size) * b.dtype.size, b.first, b.last) for b in plan.buffers if b.kind == "arena"]
    assert len([size for size, _, _ in alive if size == 4 * side * side]) == len(arrays)
    assert least(alive) <= 3 * 4 * side * side
