"""python -m tests.e2e.random KIND FIRST COUNT: check COUNT random programs, from the FIRST on.

Prints the number of each before it runs, so that it is known which one ends the process; a program that fails is
printed as small as it can be made, and the exit status is 1.
"""

from __future__ import annotations

import faulthandler
import sys

from tests.e2e.random.check import check
from tests.e2e.random.programs import Program
from tests.e2e.random.reduce import reduced
from tests.e2e.random.steps import random_program
from tests.e2e.random.ways import WAYS


def failure(program: Program, way: str) -> type[Exception] | None:
    """How a program fails, if it does."""
    try:
        check(program, way)
    except Exception as error:  # noqa: BLE001  (whatever it is, it is a finding)
        return type(error)
    return None


def smallest(program: Program, way: str, found: type[Exception]) -> Program:
    """The program as small as it still fails in this way."""
    return reduced(program, lambda p: failure(p, way) is found)


def main(kind: str, first: int, count: int) -> int:
    """Check programs until one fails; the exit status."""
    faulthandler.enable()
    for seed in range(first, first + count):
        print(kind, seed, flush=True)
        program, way = random_program(seed, kind), WAYS[seed % len(WAYS)]
        found = failure(program, way)
        if found is not None:
            program = smallest(program, way, found)
            print(program, flush=True)
            check(program, way)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
