"""`Timeline`: the step statistics of a run as a trace for Chrome, as TensorFlow's class of that name makes it.

    with open("timeline.json", "w") as file:
        file.write(timeline.Timeline(run_metadata.step_stats).generate_chrome_trace_format())

`tf.profile` records many runs, with more about each kernel.
"""

from __future__ import annotations

import json
from typing import Any

from graphflow.framework.step_stats import StepStats

__all__ = ["Timeline"]


class Timeline:
    """A trace with a process for each device and a thread for each worker."""

    def __init__(self, step_stats: StepStats, graph: object = None) -> None:
        self._step_stats = step_stats

    def generate_chrome_trace_format(
        self, show_dataflow: bool = True, show_memory: bool = False, op_time: str = "schedule"
    ) -> str:
        """The trace as JSON text.  Kernels have no flow of data between them, nor memory of their own, to be shown."""
        events: list[dict[str, Any]] = []
        for pid, device in enumerate(self._step_stats.dev_stats):
            events.append({"name": "process_name", "ph": "M", "pid": pid, "args": {"name": device.device}})
            for node in device.node_stats:
                name, _, op = node.timeline_label.partition(" = ")
                op = op.partition("(")[0]
                at = {"pid": pid, "tid": node.thread_id, "ts": node.all_start_micros, "dur": node.all_end_rel_micros}
                events.append({"name": op, "cat": "Op", "ph": "X", **at, "args": {"name": name, "op": op}})
        return json.dumps({"traceEvents": events})
