"""Each kernel of a workload beside what the machine allows: `graphflow bench --kernels mlp_train`.

rows = kernel_rows(profile(workload), one, all_)
print(kernel_table(rows))
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import graphflow as tf
from graphflow.bench.chart import cores
from graphflow.bench.roofline import Limits, measure_all
from graphflow.bench.tf1 import Program
from graphflow.bench.workloads import Workload
from graphflow.runtime.profile import KernelTime, time_kernels

Row = dict[str, Any]
_measured: list[Limits] = []


def limits() -> Sequence[Limits]:
    """(one core, all), measured once in a process."""
    if not _measured:
        _measured.extend(measure_all())
    return tuple(_measured)


def profile(workload: Workload, seconds: float = 0.02) -> list[KernelTime]:
    """The kernels of the workload's step, timed one by one. KeyError or AttributeError if graphflow lacks something."""
    program = Program(tf, workload)
    program.step(plain_run=True)()
    fetched = tuple(program.fetches) if isinstance(program.fetches, list) else (program.fetches,)
    executable = next(one for fetches, one in program.session.compiled() if fetches == fetched)
    return time_kernels(executable, program.values, program.session._state.values, seconds)


def kernel_rows(kernels: Sequence[KernelTime], one: Limits, all_: Limits) -> list[Row]:
    """What a table, a file and a plot say of kernels; the limit is that of the cores that a kernel may use."""
    rows = []
    for kernel in kernels:
        limits = one if kernel.threads == 1 else all_
        computing, moving = limits.compute_seconds(kernel.work, kernel.dtype), limits.memory_seconds(kernel.work)
        rows.append(
            {
                "name": kernel.name,
                "ops": list(kernel.ops),
                "sources": list(kernel.sources),
                "dtype": kernel.dtype,
                "threads": kernel.threads,
                "units": sum(launch.units for launch in kernel.launches),
                "launches": {launch.name: launch.seconds for launch in kernel.launches},
                "flops": kernel.work.flops,
                "operations": kernel.work.operations,
                "read": kernel.work.read,
                "written": kernel.work.written,
                "seconds": kernel.seconds,
                "bound": "computing" if computing > moving else "memory",
                "limit_seconds": max(computing, moving),
                "share": max(computing, moving) / kernel.seconds,
            }
        )
    return rows


def kernel_table(rows: Sequence[Row]) -> str:
    """The kernels in order, for people."""
    right = f"{'cores':>5} {'units':>6} {'Mflop':>9} {'Mop':>8} {'MB':>8}  ops, lines"
    lines = [f"{'kernel':8} {'µs':>9} {'limit':>6} {'by':9} {right}"]
    for row in rows:
        moved = (row["read"] + row["written"]) / 1e6
        lines.append(
            f"{row['name']:8} {row['seconds'] * 1e6:9.2f} {row['share']:6.0%} {row['bound']:9} {row['threads']:5} "
            f"{row['units']:6} {row['flops'] / 1e6:9.2f} {row['operations'] / 1e6:8.2f} {moved:8.2f}  "
            f"{shortened(row['ops'], 6)}  {shortened(row['sources'], 3)}"
        )
    total, least = (sum(row[key] for row in rows) for key in ("seconds", "limit_seconds"))
    share = least / total if total else 0.0
    return "\n".join([*lines, f"{'all':8} {total * 1e6:9.2f} {share:6.0%}"])


def shortened(words: Sequence[str], most: int) -> str:
    """Some words, and how many more there are."""
    return " ".join(words[:most]) + (f" +{len(words) - most}" if len(words) > most else "")


def limits_table(one: Limits, all_: Limits) -> str:
    """What was measured of the machine, for people."""
    lines = []
    for found in {limits.threads: limits for limits in (one, all_)}.values():
        peak = ", ".join(f"{dtype} {rate / 1e9:,.0f} Gflop/s" for dtype, rate in found.flops.items())
        lines.append(f"{cores(found.threads)}: {peak}")
        for name, curve in found.curves.items():
            rates = ", ".join(f"{size / 2**20:,.3g} MiB {rate / 1e9:,.1f}" for size, rate in curve)
            lines.append(f"  {name:5} GB/s at {rates}")
    return "\n".join(lines)


def answer(request: Row) -> Row:
    """A worker's answer to {"do": "limits"} or {"do": "kernels", name, kind, size}."""
    one, all_ = limits()
    if request["do"] == "limits":
        return {"limits": [one.as_json(), all_.as_json()]}
    workload = Workload(request["name"], request["kind"], tuple(request["size"]))
    return {"kernels": kernel_rows(profile(workload), one, all_)}
