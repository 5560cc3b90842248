"""What TensorFlow's `RunMetadata.step_stats` holds, field for field as far as it makes sense here.

    for device in run_metadata.step_stats.dev_stats:
        for node in device.node_stats:
            print(node.node_name, node.timeline_label, node.op_end_rel_micros - node.op_start_rel_micros)

A node is a kernel, which may compute several operations: `node_name` is the one that takes most of its time,
`timeline_label` has all ops.
"""

from __future__ import annotations

from dataclasses import dataclass, field

__all__ = ["DeviceStepStats", "NodeExecStats", "StepStats"]


@dataclass
class NodeExecStats:
    """When a kernel ran on a thread: microseconds since the epoch, others relative to these; nanoseconds likewise."""

    node_name: str
    all_start_micros: int
    op_start_rel_micros: int
    op_end_rel_micros: int
    all_end_rel_micros: int
    timeline_label: str
    scheduled_micros: int
    thread_id: int
    all_start_nanos: int = 0
    op_start_rel_nanos: int = 0
    op_end_rel_nanos: int = 0
    all_end_rel_nanos: int = 0
    scheduled_nanos: int = 0
    memory: list[object] = field(default_factory=list)
    output: list[object] = field(default_factory=list)
    referenced_tensor: list[object] = field(default_factory=list)


@dataclass
class DeviceStepStats:
    """The kernels of a device in the order in which they began; there is one device."""

    device: str
    node_stats: list[NodeExecStats] = field(default_factory=list)
    thread_names: dict[int, str] = field(default_factory=dict)


@dataclass
class StepStats:
    """A run."""

    dev_stats: list[DeviceStepStats] = field(default_factory=list)
