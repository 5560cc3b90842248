"""Run a program by each op's `eval`, in NumPy: the oracle of tests and `GRAPHFLOW_INTERPRET=1`, never a normal run.

`EVALUATIONS` counts the ops evaluated so far; a normal run leaves it alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from graphflow.compiler.program import TensorProgram
from graphflow.core.dim import Dim, Symbol, evaluate
from graphflow.core.node import Node

EVALUATIONS = 0


def interpret(
    program: TensorProgram, feeds: Sequence[Any], variables: Mapping[str, Any]
) -> tuple[list[Any], dict[str, Any]]:
    """(fetched values, new values of variables)."""
    sizes = bind_sizes(program, feeds)
    values: dict[Node, Any] = {}
    for node in program.nodes():
        values[node] = evaluate_node(node, [values[x] for x in node.inputs], feeds, variables, sizes)
    return [values[n] for n in program.outputs], {name: values[n] for name, n in program.updates}


def evaluate_node(
    node: Node, inputs: list[Any], feeds: Sequence[Any], variables: Mapping[str, Any], sizes: Mapping[str, int]
) -> Any:
    """The value of one node."""
    global EVALUATIONS
    EVALUATIONS += 1
    if node.op.name == "Feed":
        return np.asarray(feeds[node.attrs["feed"]])
    if node.op.name == "Variable":
        return variables[node.attrs["variable"]]
    attrs = {key: concrete(value, sizes) for key, value in node.attrs.items()}
    return np.asarray(node.op.eval(*inputs, **attrs), dtype=node.dtype.numpy)


def concrete(value: Any, sizes: Mapping[str, int]) -> Any:
    """An attribute with its symbols replaced by this run's sizes."""
    if isinstance(value, Dim):
        return evaluate(value, sizes)
    return tuple(concrete(v, sizes) for v in value) if isinstance(value, tuple) else value


def bind_sizes(program: TensorProgram, feeds: Sequence[Any]) -> dict[str, int]:
    """The value of each symbol, read off the shapes that were fed."""
    sizes: dict[str, int] = {}
    for type_, feed in zip(program.feeds, feeds, strict=True):
        for dim, size in zip(type_.dims, np.shape(feed), strict=True):
            if isinstance(dim, Dim):
                (atom,) = dim.terms[0][0]
                assert isinstance(atom, Symbol)
                sizes.setdefault(atom.key, size)
    return sizes
