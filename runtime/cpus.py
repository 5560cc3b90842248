"""How many CPUs this process may keep busy: `available_cpus()`, by its affinity mask and its container's quota."""

import math
import os
import platform
from collections.abc import Iterable, Iterator
from pathlib import Path

__all__ = ["available_cpus", "cpu_quota"]


def available_cpus() -> int:
    """How many CPUs this process may keep busy: its affinity mask, cut by the container's CPU quota; at least 1."""
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if platform.system() != "Linux":
        return cpus
    quota = cpu_quota(Path("/proc/self/cgroup"), Path("/sys/fs/cgroup"))
    return max(1, math.ceil(min(cpus, quota)))


def cpu_quota(membership: Path, mount: Path) -> float:
    """CPUs' worth of time that cgroups allow, infinity if unlimited: the smallest quota on the way to the root."""
    try:
        lines = membership.read_text().splitlines()
    except OSError:
        return math.inf
    return min(quotas(lines, mount), default=math.inf)


def quotas(lines: Iterable[str], mount: Path) -> Iterator[float]:
    """Every quota that binds a process with these lines in /proc/self/cgroup (`id:controllers:path`)."""
    for line in lines:
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controllers == "":
            yield from (quota_v2(folder) for folder in upward(mount, path))
        elif "cpu" in controllers.split(","):
            yield from (
                quota_v1(folder) for root in (mount / "cpu", mount / controllers) for folder in upward(root, path)
            )


def upward(root: Path, path: str) -> Iterator[Path]:
    """The folder of a cgroup and of each of its parents. Inside a container only the root may be visible."""
    folder = root / path.strip("/")
    while folder != root and root in folder.parents:
        yield folder
        folder = folder.parent
    yield root


def quota_v2(folder: Path) -> float:
    """CPUs allowed by a version 2 cgroup: "max 100000" or "150000 100000" (1.5 CPUs)."""
    try:
        quota, period = (folder / "cpu.max").read_text().split()
        return math.inf if quota == "max" else int(quota) / int(period)
    except (OSError, ValueError, ZeroDivisionError):
        return math.inf


def quota_v1(folder: Path) -> float:
    """CPUs allowed by a version 1 cgroup; a quota of -1 means unlimited."""
    try:
        quota = int((folder / "cpu.cfs_quota_us").read_text())
        period = int((folder / "cpu.cfs_period_us").read_text())
        return quota / period if quota > 0 else math.inf
    except (OSError, ValueError, ZeroDivisionError):
        return math.inf
