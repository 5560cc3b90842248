"""`python -m benchmarks`: the same as `graphflow bench`, with results in benchmarks/results."""

import sys
from pathlib import Path

from graphflow.cli import main

RESULTS = Path(__file__).resolve().parent / "results"

if __name__ == "__main__":
    sys.exit(main(["bench", "--out", str(RESULTS), *sys.argv[1:]]))
