"""Where the time went, added up: rows as data, and printed.

kernel_rows(recorder, "line", limits)       # by "op", "scope", "line" or "kernel", the most time first
pass_rows(recorder)                         # by compiler pass
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from graphflow.profiling.limits import limit_seconds
from graphflow.runtime.kernel_facts import KernelFacts, Part
from graphflow.runtime.recorder import Recorder

if TYPE_CHECKING:
    from graphflow.bench.roofline import Limits

__all__ = ["kernel_rows", "pass_rows", "printed_kernels", "printed_passes"]

Row = dict[str, Any]
KEYS: dict[str, Callable[[Part], str]] = {
    "op": lambda part: part.op,
    "scope": lambda part: part.scope or "(top)",
    "line": lambda part: part.source,
}
WIDEST = 60


def kernel_rows(recorder: Recorder, by: str, limits: Sequence[Limits] | None) -> list[Row]:
    """A row for each key: calls, seconds, its share, flop, bytes, rates, and the share of the limit if there are any.

    calls: runs of kernels that have a part of the key.  The rows' seconds add up to those of all kernels.
    """
    if by != "kernel" and by not in KEYS:
        raise ValueError(f"a table is by one of {', '.join((*KEYS, 'kernel', 'pass'))}, and not by {by!r}")
    rows: dict[str, Row] = {}
    for totals in list(recorder.totals.values()):
        for kernel, seconds, threads in zip(totals.program.kernels, totals.seconds, totals.threads, strict=True):
            limit = 0.0 if limits is None else limit_seconds(kernel, int(threads), limits)
            for key, share, flop in _parts(kernel, by):
                amounts = (float(seconds) * share, flop * totals.runs, kernel.work.bytes * share * totals.runs)
                _add(rows.setdefault(key, _nothing(key)), totals.runs, *amounts, limit * share * totals.runs)
    whole = sum(row["seconds"] for row in rows.values())
    return [_finished(row, whole, limits is not None) for row in sorted(rows.values(), key=lambda r: -r["seconds"])]


def _parts(kernel: KernelFacts, by: str) -> list[tuple[str, float, float]]:
    """(key, its part of the kernel's time, its operations), a key once."""
    if by == "kernel":
        return [(" ".join((kernel.label, *kernel.sources[:1])), 1.0, float(kernel.flop))]
    found: dict[str, tuple[float, float]] = {}
    for part in kernel.parts:
        share, flop = found.get(KEYS[by](part), (0.0, 0.0))
        found[KEYS[by](part)] = share + part.share, flop + part.flop
    return [(key, share, flop) for key, (share, flop) in found.items()]


def _nothing(key: str) -> Row:
    return {"name": key, "calls": 0, "seconds": 0.0, "flop": 0.0, "bytes": 0.0, "limit_seconds": 0.0}


def _add(row: Row, calls: int, seconds: float, flop: float, size: float, limit: float) -> None:
    row["calls"] += calls
    for name, amount in (("seconds", seconds), ("flop", flop), ("bytes", size), ("limit_seconds", limit)):
        row[name] += amount


def _finished(row: Row, whole: float, limited: bool) -> Row:
    seconds, limit = row["seconds"], row.pop("limit_seconds")
    rates = {"share": _ratio(seconds, whole), "GFLOP/s": _ratio(row["flop"], seconds) * 1e-9}
    row |= rates | {"GB/s": _ratio(row["bytes"], seconds) * 1e-9}
    return row | ({"share_of_limit": _ratio(limit, seconds)} if limited else {})


def _ratio(x: float, y: float) -> float:
    return x / y if y else 0.0


def printed_kernels(rows: Sequence[Row], by: str, runs: int, seconds: float) -> str:
    """A table for people."""
    limited = any("share_of_limit" in row for row in rows)
    name = min(max((len(row["name"]) for row in rows), default=0), WIDEST)
    head = f"{by:<{name}} {'ms':>10} {'share':>6} {'calls':>8} {'MFLOP':>11} {'GFLOP/s':>8} {'GB/s':>7}"
    lines = [head + (f" {'of limit':>8}" if limited else "")]
    for row in rows:
        line = (
            f"{_cut(row['name']):<{max(name, len(by))}} {row['seconds'] * 1e3:10.3f} {row['share']:6.1%} "
            f"{row['calls']:8} {row['flop'] * 1e-6:11.2f} {row['GFLOP/s']:8.2f} {row['GB/s']:7.2f}"
        )
        lines.append(line + (f" {row['share_of_limit']:8.0%}" if limited else ""))
    kernels = sum(row["seconds"] for row in rows)
    lines.append(f"{runs} runs, {seconds * 1e3:.3f} ms, of which kernels {kernels * 1e3:.3f} ms")
    return "\n".join(lines)


def _cut(name: str) -> str:
    return name if len(name) <= WIDEST else name[: WIDEST - 3] + "..."


def pass_rows(recorder: Recorder) -> list[Row]:
    """A row for each pass in the order of the pipeline: how often it ran, seconds, its share."""
    rows: dict[str, Row] = {}
    for one in list(recorder.compilations):
        for name, begin, end, _ in one.passes:
            row = rows.setdefault(name, {"name": name, "calls": 0, "seconds": 0.0})
            row["calls"] += 1
            row["seconds"] += (end - begin) * 1e-9
    whole = sum(row["seconds"] for row in rows.values())
    return [row | {"share": _ratio(row["seconds"], whole)} for row in rows.values()]


def printed_passes(rows: Sequence[Row]) -> str:
    """A table for people."""
    lines = [f"{'pass':<14} {'ms':>10} {'share':>6} {'calls':>8}"]
    for row in rows:
        lines.append(f"{row['name']:<14} {row['seconds'] * 1e3:10.3f} {row['share']:6.1%} {row['calls']:8}")
    return "\n".join([*lines, f"{'all':<14} {sum(row['seconds'] for row in rows) * 1e3:10.3f}"])
