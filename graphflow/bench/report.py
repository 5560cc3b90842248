"""What a run found: a table for people, one JSON file for programs, two pictures.

{"format": 1, "frameworks": {"jax": {"version": …}}, "machine": {…}, "timing": {…}, "geometric_mean": 1.7,
 "rows": [{"name": "chain", "seconds": {"graphflow": 4.1e-4, "jax": 9e-4}, "ratio": 2.2, "best_peer": "jax", …}],
 "limits": [{"threads": 1, "flops": {…}, "curves": {…}}, …]}
"""

from __future__ import annotations

import json
import platform
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import graphflow
from graphflow.bench.chart import ratios_svg, roofline_svg
from graphflow.bench.run import Row, Timing
from graphflow.compiler.llvm.target import host_target
from graphflow.runtime.threads import thread_count

FORMAT = 1


def heading(frameworks: Sequence[str]) -> str:
    """The first line of the table."""
    return f"{'µs a step':20}" + "".join(f"{name:>14}" for name in frameworks) + "   ratio"


def line(row: Row, frameworks: Sequence[str]) -> str:
    """One line of the table: `-` is not available, `!` failed; what is not said here `remarks` says."""
    cells = []
    for name in frameworks:
        absent = "-" if name in row.unavailable else "!"
        cells.append(f"{row.seconds[name] * 1e6:,.1f}" if name in row.seconds else absent)
    ratio = "" if row.ratio is None else f"   {row.ratio:.2f} × {row.best_peer}"
    warning = f"   RESULTS DISAGREE: {', '.join(row.disagree)}" if row.disagree else ""
    return f"{row.name:20}" + "".join(f"{cell:>14}" for cell in cells) + ratio + warning


def remarks(rows: Sequence[Row]) -> list[str]:
    """Why there are gaps in the table, one line for each reason."""
    found: dict[tuple[str, str, str], list[str]] = {}
    for row in rows:
        for word, reasons in (("not available", row.unavailable), ("failed", row.failed)):
            for name, reason in reasons.items():
                found.setdefault((name, word, reason), []).append(row.name)
    return [f"{name}: {word}: {', '.join(names)}: {reason}" for (name, word, reason), names in found.items()]


def summary(rows: Sequence[Row]) -> str:
    """The geometric mean of the ratios, and where graphflow is behind."""
    ratios = {row.name: row.ratio for row in rows if row.ratio is not None}
    if not ratios:
        return "nothing to compare with: name peers with --peers"
    absent = [row.name for row in rows if "graphflow" not in row.seconds]
    behind = [name for name, ratio in ratios.items() if ratio < 1]
    mean = statistics.geometric_mean(ratios.values())
    where = f"behind on {', '.join(behind)}" if behind else "behind on none"
    without = f"; graphflow has no figure for {', '.join(absent)}" if absent else ""
    return f"{mean:.2f} × the best peer's speed in the geometric mean over {len(ratios)} workloads; {where}{without}"


def as_json(
    rows: Sequence[Row], frameworks: Mapping[str, Any], timing: Timing, limits: Sequence[Any], pinned: str
) -> dict[str, Any]:
    """Everything, for a file."""
    ratios = [row.ratio for row in rows if row.ratio is not None]
    return {
        "format": FORMAT,
        "graphflow": graphflow.__version__,
        "machine": machine(pinned),
        "frameworks": dict(frameworks),
        "timing": asdict(timing),
        "geometric_mean": statistics.geometric_mean(ratios) if ratios else None,
        "limits": list(limits),
        "rows": [row.as_json() for row in rows],
    }


def machine(pinned: str) -> dict[str, Any]:
    """Where it was measured."""
    target = host_target()
    return {
        "cpu": target.cpu,
        "vector_bits": target.vector_bits,
        "caches": [target.l1_bytes, target.l2_bytes, target.l3_bytes],
        "threads": len(pinned.split(",")) if pinned else thread_count(),
        "pinned": pinned,
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
    }


def write(folder: Path, results: Mapping[str, Any]) -> list[Path]:
    """bench.json, ratios.svg and, if kernels were measured, roofline.svg. OSError if the folder can't be written."""
    folder.mkdir(parents=True, exist_ok=True)
    written = {"bench.json": json.dumps(results, indent=1) + "\n", "ratios.svg": ratios_svg(results)}
    kernels = [kernel for row in results["rows"] for kernel in heaviest(row)]
    if kernels and results["limits"]:
        written["roofline.svg"] = roofline_svg(kernels, results["limits"])
    for name, text in written.items():
        (folder / name).write_text(text, "utf-8")
    return [folder / name for name in written]


def heaviest(row: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The kernel of a row that takes longest, under the workload's name: a picture of all is a cloud."""
    if not row["kernels"]:
        return []
    return [{**max(row["kernels"], key=lambda kernel: kernel["seconds"]), "name": row["name"]}]
