"""The command `graphflow`: `graphflow demo`, `graphflow info`, `graphflow --version`.

Exit codes: 0 done, 1 failed (one line on stderr says why), 2 wrong usage, 130 interrupted, 141 nobody reads the output.
"""

import argparse
import os
import platform
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import graphflow
from graphflow.core.errors import OpError
from graphflow.data.mnist import DataError

FAILED, INTERRUPTED, NOBODY_READS = 1, 130, 141
NETWORKS = {"mlp": ("mlp",), "cnn": ("cnn",), "both": ("mlp", "cnn")}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code. Wrong usage raises SystemExit(2), as argparse does."""
    arguments = make_parser().parse_args(argv)
    try:
        arguments.command(arguments)
        sys.stdout.flush()
    except KeyboardInterrupt:
        print("graphflow: interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        # Python flushes stdout once more at exit; give it somewhere to write.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return NOBODY_READS
    except (OSError, DataError, OpError) as error:
        print(f"graphflow: {error}", file=sys.stderr)
        return FAILED
    return 0


def make_parser() -> argparse.ArgumentParser:
    """What may be typed."""
    parser = argparse.ArgumentParser(prog="graphflow", description="Static dataflow graphs, compiled to native code.")
    parser.add_argument("--version", action="version", version=f"graphflow {graphflow.__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    demo = commands.add_parser("demo", help="train two networks on handwritten digits and draw them")
    demo.set_defaults(command=run_demo)
    demo.add_argument("--net", choices=NETWORKS, default="both", help="which network (default: both)")
    demo.add_argument("--data", type=Path, metavar="DIR", help="the four MNIST files, plain or .gz (default: embedded)")
    demo.add_argument("--epochs", type=positive, metavar="N", help="times through the training set (default: 5 and 2)")
    demo.add_argument(
        "--html", type=html_file, default=Path("graph.html"), metavar="FILE", help="where to draw the graph"
    )
    demo.add_argument("--threads", type=positive, metavar="N", help="threads to compute with (default: all allowed)")
    demo.add_argument("--seed", type=natural, default=1, metavar="N", help="decides weights and order (default: 1)")

    info = commands.add_parser("info", help="versions, the CPU as the compiler sees it, threads")
    info.set_defaults(command=print_info)
    return parser


def run_demo(arguments: argparse.Namespace) -> None:
    """`graphflow demo`."""
    # The compiler is loaded by the commands that need it, so that --version and --help answer at once.
    from graphflow.demo.run import Options
    from graphflow.demo.run import run_demo as run
    from graphflow.runtime.threads import set_thread_count

    if arguments.threads is not None:
        set_thread_count(arguments.threads)
    options = Options(
        networks=NETWORKS[arguments.net],
        data=arguments.data,
        epochs=arguments.epochs,
        html=arguments.html,
        seed=arguments.seed,
    )
    run(options, sys.stdout)


def print_info(arguments: argparse.Namespace) -> None:
    """`graphflow info`."""
    from graphflow.compiler.llvm.target import host_target
    from graphflow.runtime.threads import thread_count

    target = host_target()
    fma = "with" if target.has_fma else "without"
    rows = {
        "graphflow": graphflow.__version__,
        "python": f"{platform.python_version()} on {platform.system()}",
        **{package: version(package) for package in ("numpy", "networkx", "llvmlite")},
        "cpu": f"{target.cpu} ({target.triple})",
        "vectors": f"{target.vector_registers} registers of {target.vector_bits} bits, {fma} FMA",
        "caches": ", ".join(f"{size // 1024:,} KiB" for size in (target.l1_bytes, target.l2_bytes, target.l3_bytes)),
        "threads": thread_count(),
    }
    for name, value in rows.items():
        print(f"{name:10} {value}")


def html_file(text: str) -> Path:
    """A path that ends in .html."""
    path = Path(text)
    if path.suffix.lower() != ".html":
        raise argparse.ArgumentTypeError(f"{text!r} does not end in .html")
    return path


def positive(text: str) -> int:
    """An int from 1 up. ValueError tells argparse that it is none."""
    number = int(text)
    if number < 1:
        raise ValueError(text)
    return number


def natural(text: str) -> int:
    """An int from 0 up. ValueError tells argparse that it is none."""
    number = int(text)
    if number < 0:
        raise ValueError(text)
    return number
