"""Short rows within rows: one division a run of them, no guards that always hold, no masks where lanes are known."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from graphflow.compiler.fuse import fuse
from graphflow.compiler.llvm.jit import assembly_for
from graphflow.compiler.llvm.launches import emit_launches
from graphflow.compiler.llvm.target import AVX512, SSE2, Target
from graphflow.compiler.loops.ir import Kernel, walk
from graphflow.compiler.plan import plan
from graphflow.compiler.program import TensorProgram
from graphflow.core.dim import symbol, upper_bound
from graphflow.core.dtype import as_dtype, float32
from graphflow.core.node import Node
from graphflow.core.op import OPS
from graphflow.core.type import TensorType
from tests.harness import check, feed_nodes

POOL = {"first": 1, "window": (2, 2), "strides": (2, 2), "dilations": (1, 1)}


def spread(g: Node, space: tuple[int, int]) -> Any:
    """Each window's number at all of its pixels: [b, h, w, c] -> [b, *space, c], as the gradient of a pool needs it."""
    windows = OPS["BroadcastTo"](
        OPS["Reshape"](g, shape=(*g.shape[:3], 1, 1, g.shape[3])), shape=(*g.shape[:3], 2, 2, g.shape[3])
    )
    return OPS["Unwindow"](windows, space=space, **POOL)


def unpooled(batch: Any, side: int, channels: int, dtype: Any = float32) -> TensorProgram:
    """x * spread(g): it is stored where x would be."""
    types = TensorType(dtype, (batch, 2 * side, 2 * side, channels)), TensorType(dtype, (batch, side, side, channels))
    x, g = feed_nodes(types)
    return TensorProgram(types, (x * spread(g, (2 * side, 2 * side)),))


def kernel_of(program: TensorProgram) -> Kernel:
    (step,) = plan(fuse(program)).steps
    return step.kernel


def assembly_of(kernel: Kernel, target: Target) -> str:
    module, _ = emit_launches([kernel], (), target)
    return assembly_for(str(module), target).split("kernel0:")[1].split(".Lfunc_end")[0]


@pytest.mark.parametrize("channels", [1, 2, 3, 5, 7, 10, 15, 16, 17, 20, 33])
@pytest.mark.parametrize("batch, side", [(1, 1), (3, 5), (0, 4), (40, 12)])
def test_runs_of_short_rows_are_right(batch, side, channels):
    rng = np.random.default_rng(channels)
    feeds = [rng.normal(size=(batch, s, s, channels)).astype("f") for s in (2 * side, side)]
    feeds[0].flat[::7] = np.nan
    feeds[1].flat[::5] = np.inf
    check(unpooled(batch, side, channels), feeds)


@pytest.mark.parametrize("dtype", ["float64", "int32", "int8"])
def test_runs_of_short_rows_of_every_width(dtype):
    rng = np.random.default_rng(0)
    feeds = [rng.integers(-3, 4, (3, s, s, 10)).astype(dtype) for s in (10, 5)]
    check(unpooled(3, 5, 10, as_dtype(dtype)), feeds)


def test_an_open_number_of_short_rows():
    batch = symbol("n0", hint=9)
    for count in (0, 1, 9, 100):
        check(unpooled(batch, 3, 10), [np.ones((count, s, s, 10), "f") for s in (6, 3)])


def test_windows_that_meet_need_no_guards():
    kernel = kernel_of(unpooled(2, 4, 10))
    assert not [e for e in walk([s.value for s in kernel.stores]) if e.kind == "guard"]


def test_a_remainder_is_less_than_its_divisor():
    i = symbol("i0", bound=24)
    assert upper_bound(i - 2 * (i // 2)) == 1
    assert (i - 2 * (i // 2)) // 2 == 0
    assert upper_bound(i - 2 * (i // 3)) is None
    assert upper_bound(i - 2 * (i // 2) - 1) is None


@pytest.mark.parametrize("channels, masked", [(10, False), (20, False), (15, True)])
def test_the_end_of_a_row_is_stored_in_pieces(channels, masked):
    """A masked store keeps the next row's load waiting until it is in the cache; four pieces would be too many."""
    stores = [
        line for line in assembly_of(kernel_of(unpooled(40, 12, channels)), AVX512).splitlines() if "vmov" in line
    ]
    assert any("{%k" in line and line.rstrip().endswith("{%k1}") for line in stores) == masked


def test_one_division_for_a_run_of_rows():
    """Divisions by open sizes stand before the loop over rows, none in it."""
    batch, width = symbol("n0", hint=9), symbol("n1", hint=9)
    types = TensorType(float32, (batch, width, 6)), TensorType(float32, (batch, 6))
    x, y = feed_nodes(types)
    wide = OPS["BroadcastTo"](OPS["Reshape"](y, shape=(batch, 1, 6)), shape=(batch, width, 6))
    (step,) = plan(fuse(TensorProgram(types, (x + wide,)))).steps
    module, _ = emit_launches([step.kernel], ("n0", "n1"), SSE2)
    text = str(next(f for f in module.functions if f.name == "kernel0"))
    blocks = text.split("\nloop")
    assert "udiv" in blocks[0] or "udiv" in blocks[1]
    assert "udiv" not in blocks[-1]
