"""The compiler on one screen: what runs, in which order; `compile_graph` runs it.

    compiled = compile_graph(fetches, feeds, types, is_initialized)
    print(compiled.plan)

Every pass is a pure function in the file of its name.  The driver times each, verifies what it returns, and prints it
if `GRAPHFLOW_DEBUG` asks for it (debug.py).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from graphflow.compiler.border import border
from graphflow.compiler.capture import capture
from graphflow.compiler.conditions import broken_at, conditions
from graphflow.compiler.debug import Report
from graphflow.compiler.differentiate import differentiate
from graphflow.compiler.factor import factor
from graphflow.compiler.fold import fold
from graphflow.compiler.fuse import fuse
from graphflow.compiler.join import join
from graphflow.compiler.narrow import narrow
from graphflow.compiler.plan import Plan, plan
from graphflow.compiler.program import TensorProgram, verify
from graphflow.compiler.simplify import simplify
from graphflow.compiler.split import split
from graphflow.compiler.trim import trim
from graphflow.core.node import Node
from graphflow.core.type import TensorType

__all__ = ["LOWERING", "TENSOR_PASSES", "Compiled", "Pass", "Stage", "compile_graph", "program_for_sizes"]


@dataclass(frozen=True)
class Pass:
    """A named function from one form of the program to the next."""

    name: str
    run: Callable[[Any], Any]


TENSOR_PASSES = (
    Pass("differentiate", differentiate),  # gradient promises become the graph they promise
    Pass("conditions", conditions),  # what inference took for granted of unknown sizes holds
    Pass("fold", fold),  # what is constant is computed now (splats stay splats)
    Pass("simplify", simplify),  # algebraic rules, a table, to a fixed point
    Pass("narrow", narrow),  # products only where they are read
    Pass("factor", factor),  # what products of a sum have in common, once
    Pass("join", join),  # sums of many products as one product
    Pass("split", split),  # long reductions in two stages
    Pass("trim", trim),  # no products with wide padding
    Pass("border", border),  # padding beside what is padded, where kernels store that
)
"""From program to program."""

LOWERING = (
    Pass("fuse", fuse),  # who gets a buffer; everything else is inlined
    Pass("plan", plan),  # kernels, their order, buffers, updates in place
)
"""From program to plan; machine code is made of the plan by `llvm/step.py`."""


@dataclass(frozen=True)
class Stage:
    """What a pass made of its input, how long it took, and when it began (seconds of `time.perf_counter`)."""

    name: str
    result: Any
    seconds: float
    changed: bool
    start: float = 0.0


@dataclass(frozen=True)
class Compiled:
    """A plan, what it took for granted about variables, and how it came about."""

    plan: Plan
    assumed_initialized: dict[str, bool]
    stages: tuple[Stage, ...]

    @property
    def program(self) -> TensorProgram:
        """The pure program that the plan carries out."""
        return self.plan.program

    def is_right_for(self, sizes: Mapping[str, int]) -> bool:
        """Whether sizes other than those of its first feeds make it no other program."""
        return not sizes or all(broken_at(s.result, sizes) is None for s in self.stages if s.name == "conditions")


def program_for_sizes(
    fetches: Sequence[Any], feeds: Sequence[Any], types: Sequence[TensorType], is_initialized: Callable[[str], bool]
) -> TensorProgram:
    """The program as it is when `conditions` looks at it: `broken_at` tells for which sizes it is right."""
    return differentiate(capture(fetches, feeds, types, is_initialized).program)


def compile_graph(
    fetches: Sequence[Any], feeds: Sequence[Any], types: Sequence[TensorType], is_initialized: Callable[[str], bool]
) -> Compiled:
    """The plan that computes `fetches` for feeds of the given types.

    Raises InvalidArgumentError for shapes that do not fit and missing feeds; NeedsStatic where a size must be known.
    """
    report = Report()
    start = time.perf_counter()
    captured = capture(fetches, feeds, types, is_initialized)
    stages = [Stage("capture", captured.program, time.perf_counter() - start, True, start)]
    report.stage(stages[-1])
    value: Any = captured.program
    verified: set[Node] = set()
    for one in TENSOR_PASSES + LOWERING:
        start = time.perf_counter()
        result = one.run(value)
        seconds = time.perf_counter() - start
        stages.append(Stage(one.name, result, seconds, result is not value and result != value, start))
        if isinstance(result, TensorProgram):
            verify(result, verified)
        report.stage(stages[-1])
        value = result
    return Compiled(value, captured.assumed_initialized, tuple(stages))
