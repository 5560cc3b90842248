"""The command `graphflow`: `graphflow demo`, `graphflow bench`, `graphflow info`, `graphflow cache info`.

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
    demo.add_argument("--seed", type=natural, default=4, metavar="N", help="decides weights and order (default: 4)")

    add_bench(commands.add_parser("bench", help="measure beside other frameworks, and each kernel beside the machine"))

    info = commands.add_parser("info", help="versions, the CPU as the compiler sees it, threads")
    info.set_defaults(command=print_info)

    cache = commands.add_parser("cache", help="the compiled programs that are kept on disk")
    cache.add_argument("action", choices=("info", "clear"), help="say where and how much; or remove them all")
    cache.set_defaults(command=run_cache)
    return parser


def add_bench(bench: argparse.ArgumentParser) -> None:
    """What may be typed after `graphflow bench`."""
    bench.set_defaults(command=run_bench)
    bench.add_argument(
        "--only", nargs="+", type=workload, metavar="NAME", help="workloads: gemm_512, 'bmm*', gemm:300x200x100"
    )
    bench.add_argument(
        "--peers", nargs="*", type=peer, metavar="NAME[=PYTHON]",
        help="whom to compare with, and the interpreter that has it (default: those that this one has)",
    )  # fmt: skip
    bench.add_argument("--rounds", type=positive, default=5, metavar="N", help="turns of each framework (default: 5)")
    bench.add_argument("--seconds", type=float, default=0.3, metavar="S", help="of a turn (default: 0.3)")
    bench.add_argument("--pin", type=cpu_list, metavar="CPUS", help="stay on these CPUs: 0 or 0,1 (default: all)")
    bench.add_argument("--out", type=Path, default=Path("graphflow-bench"), metavar="DIR", help="where files go")
    bench.add_argument(
        "--kernels", nargs="+", type=workload, metavar="NAME", help="time each kernel of these workloads instead"
    )
    bench.add_argument("--list", action="store_true", help="name the workloads and end")


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


def run_bench(arguments: argparse.Namespace) -> None:
    """`graphflow bench`."""
    from graphflow.bench.workloads import WORKLOADS

    if arguments.list:
        print("\n".join(f"{w.name:20} {w.what}  {'x'.join(map(str, w.size))}" for w in WORKLOADS))
        return
    from graphflow.bench.command import Options
    from graphflow.bench.command import run_bench as run
    from graphflow.bench.run import Timing

    options = Options(
        only=arguments.kernels or arguments.only or (),
        peers=arguments.peers,
        timing=Timing(arguments.rounds, arguments.seconds),
        pin=arguments.pin or "",
        out=arguments.out,
        kernels=arguments.kernels is not None,
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


def run_cache(arguments: argparse.Namespace) -> None:
    """`graphflow cache info`, `graphflow cache clear`."""
    from graphflow.compiler.cache import of_environment

    cache = of_environment()
    if cache is None:
        print("the compile cache is turned off (GRAPHFLOW_CACHE)")
        return
    if arguments.action == "clear":
        print(f"{cache.clear()} entries removed from {cache.folder}")
        return
    sizes = [status.st_size for _, status in cache.entries()]
    rows = {
        "folder": cache.folder,
        "entries": len(sizes),
        "size": f"{sum(sizes) / 1e6:.1f} MB of at most {cache.limit / 1e6:.0f} MB",
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


def workload(text: str) -> str:
    """A name or pattern of workloads."""
    from graphflow.bench.workloads import select

    try:
        select([text])
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return text


def peer(text: str) -> str:
    """A framework, with or without its interpreter."""
    from graphflow.bench.worker import FRAMEWORKS

    if text.partition("=")[0] not in FRAMEWORKS:
        raise argparse.ArgumentTypeError(f"no peer is called {text!r}; there are {', '.join(FRAMEWORKS)}")
    return text


def cpu_list(text: str) -> str:
    """Numbers of CPUs with commas between. ValueError tells argparse that they are none."""
    return ",".join(str(natural(part)) for part in text.split(","))


def natural(text: str) -> int:
    """An int from 0 up. ValueError tells argparse that it is none."""
    number = int(text)
    if number < 0:
        raise ValueError(text)
    return number
