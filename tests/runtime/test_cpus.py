"""How many CPUs a process may use: affinity masks and quotas."""

import math
import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from graphflow.runtime import cpus as module
from graphflow.runtime.cpus import available_cpus, cpu_quota


def test_quota_of_version_2(tmp_path: Path) -> None:
    membership, mount = tmp_path / "cgroup", tmp_path / "mount"
    inner = mount / "outer" / "inner"
    inner.mkdir(parents=True)
    membership.write_text("0::/outer/inner\n")
    assert cpu_quota(membership, mount) == math.inf
    (inner / "cpu.max").write_text("max 100000\n")
    (mount / "outer" / "cpu.max").write_text("150000 100000\n")
    assert cpu_quota(membership, mount) == 1.5
    (inner / "cpu.max").write_text("50000 100000\n")
    assert cpu_quota(membership, mount) == 0.5


@pytest.mark.parametrize("folder", ["cpu", "cpu,cpuacct"])
def test_quota_of_version_1(tmp_path: Path, folder: str) -> None:
    membership, mount = tmp_path / "cgroup", tmp_path / "mount"
    (mount / folder).mkdir(parents=True)
    membership.write_text("7:memory:/x\n3:cpu,cpuacct:/docker/abc\n")
    (mount / folder / "cpu.cfs_quota_us").write_text("250000\n")
    (mount / folder / "cpu.cfs_period_us").write_text("100000\n")
    assert cpu_quota(membership, mount) == 2.5
    (mount / folder / "cpu.cfs_quota_us").write_text("-1\n")
    assert cpu_quota(membership, mount) == math.inf


def test_available_cpus_is_the_quota_rounded_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "system", lambda: "Linux")
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: range(8), raising=False)
    for quota, cpus in [(math.inf, 8), (2.5, 3), (0.2, 1), (64.0, 8)]:
        monkeypatch.setattr(module, "cpu_quota", lambda *paths, quota=quota: quota)
        assert available_cpus() == cpus


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system does not pin processes to CPUs")
def test_threads_follow_the_affinity_mask() -> None:
    code = (
        "import os, sys; os.sched_setaffinity(0, {int(sys.argv[1])});"
        "from graphflow.runtime.threads import thread_count; assert thread_count() == 1, thread_count()"
    )
    environment = {key: value for key, value in os.environ.items() if key != "GRAPHFLOW_NUM_THREADS"}
    command = [sys.executable, "-c", code, str(max(os.sched_getaffinity(0)))]
    subprocess.run(command, cwd=Path(__file__).parents[2], env=environment, check=True, timeout=60)


def test_cpus_are_counted_without_llvm() -> None:
    code = (
        "import sys; from graphflow.runtime.cpus import available_cpus; available_cpus();"
        "assert 'llvmlite' not in sys.modules"
    )
    path = str(Path(__file__).parents[2])
    subprocess.run([sys.executable, "-c", code], cwd=path, check=True, timeout=60)
