"""The stores of one row of a plain kernel: `emit_points(scope, kernel, schedule, start, stop)`."""

from __future__ import annotations

from typing import Any

from graphflow.compiler.llvm.cut import Schedule
from graphflow.compiler.llvm.emit import store_all, value
from graphflow.compiler.llvm.lane_loop import emit_lanes
from graphflow.compiler.llvm.memory import fetch_ahead
from graphflow.compiler.llvm.scope import Scope
from graphflow.compiler.loops.ir import Kernel, Store

__all__ = ["emit_points"]


def emit_points(scope: Scope, kernel: Kernel, schedule: Schedule, start: Any, stop: Any) -> None:
    """The stores of one row: its elements, then what stands above them (whose values are computed first)."""
    depth, lane = len(kernel.loops), schedule.lane
    inner = [s for s in kernel.stores if s.depth == depth and lane is not None]
    outer = [s for s in kernel.stores if s not in inner]
    for s in outer:
        value(s.value, scope)
    if lane is not None and inner:
        emit_lanes(scope, lambda s: _emit_elements(s, inner), lane, schedule.vectors, start, stop, schedule.stream)
    store_all(scope, outer)


def _emit_elements(scope: Scope, stores: list[Store]) -> None:
    """The stores of some lanes, and what whole vectors of them fetch ahead."""
    if scope.lanes is not None and scope.lanes.mask is None:
        fetch_ahead(scope, scope.function.ahead.get(None, ()))
    store_all(scope, stores)
