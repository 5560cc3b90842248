"""`fill`: a recorded run as TensorFlow's `StepStats`."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from graphflow.framework.step_stats import DeviceStepStats, NodeExecStats, StepStats
from graphflow.runtime.events import kernel_events

if TYPE_CHECKING:
    from graphflow.runtime.events import KernelEvent
    from graphflow.runtime.recorder import Run

__all__ = ["CPU", "fill"]

CPU = "/job:localhost/replica:0/task:0/device:CPU:0"


def fill(stats: StepStats, run: Run) -> None:
    """Put a run in place of whatever was there: a node for each launch of a kernel and each thread that had a part."""
    epoch = time.time_ns() - time.perf_counter_ns()
    nodes = [_node(event, run, epoch) for event in kernel_events(run)]
    workers = {event.worker for event in kernel_events(run)}
    names = {w: run.thread.name if w == 0 else f"{run.thread.name} worker {w}" for w in sorted(workers)}
    stats.dev_stats[:] = [DeviceStepStats(CPU, nodes, names)]


def _node(event: KernelEvent, run: Run, epoch: int) -> NodeExecStats:
    facts = event.kernel
    name = max(facts.parts, key=lambda part: part.share).name if facts.parts else facts.name
    begin, duration = event.begin + epoch, event.end - event.begin
    label = f"{name} = {'+'.join(facts.ops) or facts.name}()"
    return NodeExecStats(
        node_name=name,
        all_start_micros=begin // 1000,
        op_start_rel_micros=0,
        op_end_rel_micros=max(duration // 1000, 1),
        all_end_rel_micros=max(duration // 1000, 1),
        timeline_label=label,
        scheduled_micros=(run.begin + epoch) // 1000,
        thread_id=event.worker,
        all_start_nanos=begin,
        op_end_rel_nanos=duration,
        all_end_rel_nanos=duration,
        scheduled_nanos=run.begin + epoch,
    )
