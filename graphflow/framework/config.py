"""Options of sessions and runs under TensorFlow's names.

Read: `ConfigProto.intra_op_parallelism_threads` (the threads of kernels, 0: as many as the machine has),
`ConfigProto.operation_timeout_in_ms` and `RunOptions.timeout_in_ms` (0: none), `RunOptions.trace_level`.  Everything
else is accepted, kept, and makes no difference.
"""

from __future__ import annotations

from typing import Any

from graphflow.framework.step_stats import StepStats

__all__ = ["ConfigProto", "GPUOptions", "GraphOptions", "OptimizerOptions", "RunMetadata", "RunOptions"]


class Options:
    """Named options; an unknown name raises AttributeError or TypeError."""

    _defaults: dict[str, Any] = {}

    def __init__(self, **options: Any) -> None:
        for name, value in options.items():
            if name not in self._defaults:
                raise TypeError(f"{type(self).__name__} has no option {name!r}; it has {', '.join(self._defaults)}")
            self.__dict__[name] = value

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name not in self._defaults:
            raise AttributeError(f"{type(self).__name__} has no option {name!r}")
        default = self._defaults[name]
        return self.__dict__.setdefault(name, default() if callable(default) else default)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{k}={v!r}' for k, v in self.__dict__.items())})"


class GPUOptions(Options):
    """There is no GPU."""

    _defaults = {
        "per_process_gpu_memory_fraction": 0.0,
        "allow_growth": False,
        "allocator_type": "",
        "visible_device_list": "",
        "force_gpu_compatible": False,
    }


class OptimizerOptions(Options):
    """What TensorFlow's optimizer may do."""

    _defaults = {
        "opt_level": 0,
        "global_jit_level": 0,
        "do_common_subexpression_elimination": True,
        "do_constant_folding": True,
        "do_function_inlining": True,
    }
    L0, L1 = -1, 0
    OFF, ON_1, ON_2 = -1, 1, 2


class GraphOptions(Options):
    """How TensorFlow treats graphs."""

    _defaults = {
        "optimizer_options": OptimizerOptions,
        "enable_recv_scheduling": False,
        "infer_shapes": False,
        "rewrite_options": None,
    }


class ConfigProto(Options):
    """Options of a session."""

    _defaults = {
        "device_count": dict,
        "intra_op_parallelism_threads": 0,
        "inter_op_parallelism_threads": 0,
        "use_per_session_threads": False,
        "allow_soft_placement": False,
        "log_device_placement": False,
        "gpu_options": GPUOptions,
        "graph_options": GraphOptions,
        "operation_timeout_in_ms": 0,
    }


class RunOptions(Options):
    """Options of a run."""

    _defaults = {
        "trace_level": 0,
        "timeout_in_ms": 0,
        "inter_op_thread_pool": 0,
        "output_partition_graphs": False,
        "report_tensor_allocations_upon_oom": False,
    }
    NO_TRACE, SOFTWARE_TRACE, HARDWARE_TRACE, FULL_TRACE = 0, 1, 2, 3


class RunMetadata(Options):
    """What a run reports: with `RunOptions(trace_level=RunOptions.FULL_TRACE)` when its kernels ran."""

    _defaults = {"step_stats": StepStats, "partition_graphs": list}
