"""Random programs: what is compiled agrees with the interpreter, on any threads, however it is called and fed.

Each share runs in a process of its own, which a read past the end of a feed ends.  What fails is told with the number
of the program: `python -m tests.e2e.random KIND NUMBER 1` runs it again.
"""

from __future__ import annotations

import os
import secrets
import subprocess
import sys

import pytest

from tests.e2e.random.drawing import KINDS

FEW = 4
MANY = {kind: 100 if kind.startswith("large") else 500 for kind in KINDS}


def check_programs(kind: str, first: int, count: int) -> None:
    """Assert that a process which checks so many programs ends well."""
    command = [sys.executable, "-W", "error", "-m", "tests.e2e.random", kind, str(first), str(count)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"status {done.returncode}\n{done.stdout[-6000:]}\n{done.stderr[-6000:]}"


@pytest.mark.parametrize("kind", [kind for kind in KINDS if not kind.startswith("large")])
def test_random_programs(kind: str) -> None:
    check_programs(kind, 0, FEW)


@pytest.mark.soak
@pytest.mark.parametrize("kind", KINDS)
def test_many_random_programs(kind: str) -> None:
    check_programs(kind, secrets.randbits(30), MANY[kind])
