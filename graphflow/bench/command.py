"""`graphflow bench`: choose frameworks and workloads, measure, print and write what was found."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TextIO

from graphflow.bench import report
from graphflow.bench.chart import roofline_svg
from graphflow.bench.kernels import kernel_table, limits_table
from graphflow.bench.roofline import Limits
from graphflow.bench.run import Client, Row, Timing, Worker, compare
from graphflow.bench.worker import FRAMEWORKS
from graphflow.bench.workloads import WORKLOADS, Workload, select

__all__ = ["Options", "run_bench"]

# What a framework is imported as, where that is not its own name. TensorFlow 1.15 can't be in this interpreter.
MODULES = {"tf": "tensorflow", "tf-xla": "tensorflow", "torch-compile": "torch"}
LABELLED = 0.03  # of a workload's time
ELSEWHERE = ("graphflow", "tf115")


@dataclass(frozen=True)
class Options:
    """What the command line may choose. peers: `jax` or `jax=PYTHON`, None for those that this interpreter has."""

    only: Sequence[str] = ()
    peers: Sequence[str] | None = None
    timing: Timing = field(default_factory=Timing)
    pin: str = ""
    out: Path = Path("graphflow-bench")
    kernels: bool = False


def run_bench(options: Options, out: TextIO) -> None:
    """Measure, print to `out` and write files. ValueError for an unknown workload, OSError if files fail."""
    workloads = select(options.only) if options.only else list(WORKLOADS)
    if options.kernels:
        return profile_kernels(workloads, options, out)
    with ExitStack() as stack:
        clients = start(frameworks(options.peers), options.pin, stack)
        compare_and_report(clients, workloads, options, out)
    return None


def frameworks(peers: Sequence[str] | None) -> dict[str, str]:
    """graphflow, then each peer, with the interpreter to run it in."""
    named = [peer.partition("=") for peer in (installed() if peers is None else peers)]
    return {"graphflow": sys.executable, **{name: python or sys.executable for name, _, python in named}}


def installed() -> Iterator[str]:
    """The peers that this interpreter could import; nothing is imported to find out."""
    for name in FRAMEWORKS:
        if name not in ELSEWHERE and find_spec(MODULES.get(name, name)) is not None:
            yield name


def start(pythons: Mapping[str, str], pin: str, stack: ExitStack) -> dict[str, Client]:
    """A worker for each framework, ended with the stack."""
    return {name: stack.enter_context(Worker(name, python, pin)) for name, python in pythons.items()}


def compare_and_report(
    clients: Mapping[str, Client], workloads: Sequence[Workload], options: Options, out: TextIO
) -> dict[str, Any]:
    """Measure the workloads in the clients; returns what is in the JSON file."""
    greetings = {name: client.hello() for name, client in clients.items()}
    for name, greeting in greetings.items():
        print(f"{name:14}{greeting.get('failed') or greeting['version']}", file=out)
    print(f"\n{report.heading(list(clients))}", file=out)

    def say(row: Row) -> None:
        print(report.line(row, list(clients)), file=out, flush=True)

    rows = compare(clients, workloads, options.timing, say)
    print("\n".join(["", report.summary(rows), *report.remarks(rows)]), file=out)
    limits = clients["graphflow"].answer({"do": "limits"}).get("limits", [])
    results = report.as_json(rows, greetings, options.timing, limits, options.pin)
    for path in report.write(options.out, results):
        print(path, file=out)
    return results


def profile_kernels(workloads: Sequence[Workload], options: Options, out: TextIO) -> None:
    """Each kernel of the workloads beside its limit, in a table, a file and a picture."""
    found = {}
    with Worker("graphflow", cpus=options.pin) as client:
        limits = client.answer({"do": "limits"})
        if "limits" not in limits:
            raise OSError(f"the machine could not be measured: {limits['failed']}")
        print(limits_table(*(Limits(**one) for one in limits["limits"])), file=out)
        for workload in workloads:
            request = {"name": workload.name, "kind": workload.kind, "size": list(workload.size)}
            answer = client.answer({"do": "kernels", **request})
            print(f"\n{workload.name}: {workload.what}", file=out)
            if "kernels" not in answer:
                print(answer.get("unavailable") or answer["failed"], file=out)
                continue
            found[workload.name] = answer["kernels"]
            print(kernel_table(answer["kernels"]), file=out, flush=True)
    write_kernels(options.out, found, limits["limits"])
    print(f"\n{options.out / 'kernels.json'}\n{options.out / 'kernels.svg'}", file=out)


def write_kernels(folder: Path, found: Mapping[str, Sequence[Any]], limits: Sequence[Any]) -> None:
    """kernels.json and kernels.svg."""
    folder.mkdir(parents=True, exist_ok=True)
    results = {"format": report.FORMAT, "limits": limits, "workloads": found}
    (folder / "kernels.json").write_text(json.dumps(results, indent=1) + "\n", "utf-8")
    kernels = [kernel for name, rows in found.items() for kernel in labelled(name, rows)]
    (folder / "kernels.svg").write_text(roofline_svg(kernels, limits), "utf-8")


def labelled(workload: str, rows: Sequence[Any]) -> Iterator[dict[str, Any]]:
    """Kernels for the picture: under their own names and the workload's, shown for those that take much of its time."""
    total = sum(row["seconds"] for row in rows)
    for row in rows:
        name = f"{workload} {row['name']}"
        yield {**row, "name": name, "label": name if row["seconds"] > LABELLED * total else ""}
