"""How often what normalizes and what measures losses goes through memory: at most twice, gradients included.

A pass is all of the inputs and outputs once.  What counts is what moves between memory and a core's second cache: each
large array once for each kernel, and once more for each stage of a kernel whose rows the cache can't hold.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest

import graphflow as tf
from graphflow.compiler.capture import feed_types
from graphflow.compiler.loops.ir import Expr, Kernel, walk
from graphflow.compiler.pipeline import compile_graph
from graphflow.compiler.plan import Plan
from graphflow.core.dim import estimate, product

CACHE = 1 << 20
"""Bytes that stay near from one stage to the next; partial results of blocks are no more."""

SPLIT = "graphflow.compiler.split"

Formula = Callable[..., Any]
Shape = tuple[int, ...]


def layer_norm(x: Any, scale: Any, shift: Any) -> Any:
    mean, variance = tf.nn.moments(x, [-1], keep_dims=True)
    return (x - mean) * tf.rsqrt(variance + 1e-5) * scale + shift


def batch_norm(axes: list[int]) -> Formula:
    def formula(x: Any, scale: Any, shift: Any) -> Any:
        mean, variance = tf.nn.moments(x, axes, keep_dims=True)
        return tf.nn.batch_normalization(x, mean, variance, shift, scale, 1e-5)

    return formula


def sparse_loss(logits: Any, labels: Any) -> Any:
    return tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)


def dense_loss(logits: Any, labels: Any) -> Any:
    return tf.nn.softmax_cross_entropy_with_logits_v2(labels=labels, logits=logits)


ROWS, COLUMNS = 4096, 1024
MATRIX = (ROWS, COLUMNS)
LONG = (4, ROWS * COLUMNS // 4)
TALL = (1 << 14, 1 << 12)  # so many blocks that their results have blocks too
CASES: dict[str, tuple[Formula, list[Shape]]] = {
    "softmax": (tf.nn.softmax, [MATRIX]),
    "softmax of columns": (lambda x: tf.nn.softmax(x, 0), [MATRIX]),
    "softmax in the middle": (lambda x: tf.nn.softmax(x, 1), [(16, 1024, 256)]),
    "softmax of long rows": (tf.nn.softmax, [LONG]),
    "log softmax": (tf.nn.log_softmax, [MATRIX]),
    "log softmax of columns": (lambda x: tf.nn.log_softmax(x, 0), [MATRIX]),
    "log softmax of long rows": (tf.nn.log_softmax, [LONG]),
    "layer norm": (layer_norm, [MATRIX, (COLUMNS,), (COLUMNS,)]),
    "batch norm of a matrix": (batch_norm([0]), [MATRIX, (COLUMNS,), (COLUMNS,)]),
    "batch norm, channels last": (batch_norm([0, 1, 2]), [(96, 32, 32, 64), (64,), (64,)]),
    "batch norm, channels first": (batch_norm([0, 2, 3]), [(96, 64, 32, 32), (64, 1, 1), (64, 1, 1)]),
    "dense loss": (dense_loss, [MATRIX, MATRIX]),
    "sparse loss": (sparse_loss, [MATRIX, (ROWS,)]),
}


def planned(name: str, gradients: bool, open_: bool) -> tuple[Plan, int]:
    """The plan of a case, and the bytes of its inputs and outputs."""
    formula, shapes = CASES[name]
    with tf.Graph().as_default():
        kinds = [tf.int32 if name == "sparse loss" and n == 1 else tf.float32 for n in range(len(shapes))]
        first = shapes[0][0]
        known = [[None if open_ and s[0] == first else s[0], *s[1:]] for s in shapes]
        xs = [tf.placeholder(kind, shape) for kind, shape in zip(kinds, known, strict=True)]
        y = formula(*xs)
        fetches, feeds, fed = [y], list(xs), list(shapes)
        if gradients:
            rank = 1 if name.endswith("loss") else len(shapes[0])
            feeds.append(tf.placeholder(tf.float32, known[0][:rank]))
            fed.append(shapes[0][:rank])
            fetches = tf.gradients(y, [x for x in xs if x.dtype is tf.float32], grad_ys=feeds[-1])
        return compiled(fetches, feeds, fed)


def compiled(fetches: list[Any], feeds: list[Any], fed: list[Shape]) -> tuple[Plan, int]:
    """The plan for feeds of these shapes, and the bytes of its inputs and outputs."""
    plan = compile_graph(fetches, feeds, feed_types(feeds, fed, frozenset()), lambda _: True).plan
    once = sum(estimate(b.type.size) * b.dtype.size for b in plan.buffers if b.kind in ("feed", "output"))
    return plan, once


def moved(kernel: Kernel) -> int:
    """Bytes between memory and the caches."""
    stages: dict[int, set[Expr | None]] = {}
    for stage, loads in stages_of(kernel):
        row = estimate(product(tuple(loop.extent for loop in stage.data[1]))) if stage is not None else 0
        for load in loads:
            near = row * load.dtype.size <= CACHE
            stages.setdefault(load.data[0], set()).add(None if near else stage)
    times = {buffer: len(found) for buffer, found in stages.items()}
    for store in kernel.stores:
        times[store.buffer] = times.get(store.buffer, 0) + 1
    sizes = [estimate(buffer.size) * buffer.dtype.size for buffer in kernel.buffers]
    return sum(size * times.get(n, 0) for n, size in enumerate(sizes) if size > CACHE)


def stages_of(kernel: Kernel) -> list[tuple[Expr | None, list[Expr]]]:
    """The reductions of a kernel and, as None, its stores, with the loads of each but for those of another one."""
    values = [s.value for s in kernel.stores]
    reductions = [e for e in walk(values) if e.kind == "reduce"]
    return [(None, loads_under(values)), *((e, loads_under([e.args[0]])) for e in reductions)]


def loads_under(roots: list[Expr]) -> list[Expr]:
    found, stack = set(), list(roots)
    while stack:
        e = stack.pop()
        if e not in found and e.kind != "reduce":
            found.add(e)
            stack.extend(e.args)
    return [e for e in found if e.kind == "load"]


@pytest.mark.parametrize("open_", [False, True], ids=["", "open"])
@pytest.mark.parametrize("gradients", [False, True], ids=["", "gradients"])
@pytest.mark.parametrize("name", CASES)
def test_at_most_two_passes_over_memory(name: str, gradients: bool, open_: bool) -> None:
    plan, once = planned(name, gradients, open_)
    assert sum(moved(step.kernel) for step in plan.steps) <= 2 * once, plan


def test_rows_that_no_cache_holds_count_for_each_stage() -> None:
    plan, once = planned("softmax of long rows", False, False)
    assert once < sum(moved(step.kernel) for step in plan.steps)
    plan, once = planned("softmax", False, False)
    assert once == sum(moved(step.kernel) for step in plan.steps)


@pytest.mark.parametrize("open_", [False, True], ids=["", "open"])
@pytest.mark.parametrize("keepdims", [False, True], ids=["", "keepdims"])
@pytest.mark.parametrize(
    "shape, axis",
    [(MATRIX, 0), (TALL, 0), (MATRIX, 1), (MATRIX, None), (LONG, 1), ((16, 1024, 256), 1), ((16, 1024, 256), (0, 1))],
)
def test_the_log_of_a_sum_of_exponentials_reads_memory_once(
    shape: Shape, axis: Any, keepdims: bool, open_: bool
) -> None:
    """The maximum and the sum in one pass, but for results of blocks; the gradient in another one."""
    with tf.Graph().as_default():
        x = tf.placeholder(tf.float32, [None if open_ else shape[0], *shape[1:]])
        y = tf.reduce_logsumexp(x, axis, keepdims)
        plan, once = compiled([y], [x], [shape])
        assert sum(moved(step.kernel) for step in plan.steps) <= 1.1 * once, plan
        plan, once = compiled(tf.gradients(y, [x]), [x], [shape])
        assert sum(moved(step.kernel) for step in plan.steps) <= 1.6 * once, plan


def test_maxima_along_other_axes_are_no_shifts_of_blocks() -> None:
    """Those of rows, reshaped as if they were those of columns: a block's largest element may be above its shift."""
    x = np.zeros((64, 4, 4), np.float32)
    x[:32, 1, 0], x[32:, 0, 0] = 100, 200
    with patch(f"{SPLIT}.LONG", 0), patch(f"{SPLIT}.BLOCK", 32), tf.Graph().as_default(), tf.Session() as session:
        p = tf.placeholder(tf.float32, x.shape)
        shift = tf.reshape(tf.reduce_max(p, [0, 2]), [1, 1, 4])
        value = session.run(tf.reduce_sum(tf.exp(p - shift), [0, 1]), {p: x})
    wanted = np.exp(x.astype(np.float64) - x.max((0, 2)).reshape(1, 1, 4)).sum((0, 1))
    np.testing.assert_allclose(value, wanted, rtol=1e-5, atol=1e-37)


@pytest.mark.parametrize("shape, axis", [((3, 700), 1), ((700, 3), 0), ((2, 130, 5), 1), ((650,), 0)])
@pytest.mark.parametrize("formula", [tf.nn.softmax, tf.nn.log_softmax, tf.reduce_logsumexp])
def test_sums_of_exponentials_by_blocks_give_what_the_formula_gives(formula: Formula, shape: Shape, axis: int) -> None:
    """With infinities, missing values, and blocks of nothing but minus infinity."""
    x = np.random.default_rng(0).standard_normal(shape).astype(np.float32) * 30
    flat = np.moveaxis(x, axis, -1).reshape(-1, shape[axis])
    flat[0, :130] = -np.inf
    if len(flat) > 1:
        flat[1, 5] = np.nan
    if len(flat) > 2:
        flat[2, 200 % shape[axis] - 1] = np.inf
    x = np.moveaxis(flat.reshape(np.moveaxis(x, axis, -1).shape), -1, axis)
    with np.errstate(all="ignore"):
        e = np.exp(x.astype(np.float64) - x.max(axis, keepdims=True))
        parts = e / e.sum(axis, keepdims=True)
        total = np.logaddexp.reduce(x.astype(np.float64), axis)
        wanted = {tf.nn.softmax: parts, tf.nn.log_softmax: np.log(parts), tf.reduce_logsumexp: total}[formula]
    with patch(f"{SPLIT}.LONG", 0), patch(f"{SPLIT}.BLOCK", 64), tf.Graph().as_default(), tf.Session() as session:
        p = tf.placeholder(tf.float32, x.shape)
        value = session.run(formula(p, axis), {p: x})
        ((_, executable),) = session.compiled()
    np.testing.assert_allclose(value, wanted, rtol=1e-5, atol=1e-6)
    assert any("Repeat" in step.ops for step in executable.plan.steps)
