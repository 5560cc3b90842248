"""Fetches of any nesting: what to compute, and how the answer is put together.

fetches = Fetches(graph, {"loss": loss, "all": [train_op, (w, loss)]})
fetches.elements            (loss, train_op, w): each once
fetches.assemble(values)    {"loss": ..., "all": [None, (..., ...)]}
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

from graphflow.framework.graph import Graph, Operation, Tensor

__all__ = ["Fetches", "structure_key"]

Assemble = Callable[[Sequence[Any]], Any]


def structure_key(fetches: Any) -> Hashable:
    """A key that is equal for the same structure of the same objects."""
    if type(fetches) is Tensor or type(fetches) is Operation:
        return fetches
    if isinstance(fetches, list | tuple):
        return type(fetches), *map(structure_key, fetches)
    if isinstance(fetches, Mapping):
        return type(fetches), *fetches, *map(structure_key, fetches.values())
    return fetches  # type: ignore[no-any-return]


class Fetches:
    """Fetches of a graph; raises TypeError for what can't be one, NotFoundError and GraphError as the graph does."""

    def __init__(self, graph: Graph, fetches: Any) -> None:
        self._graph = graph
        self._places: dict[Tensor | Operation, int] = {}
        self.assemble = self._assembler(fetches)
        self.elements = tuple(self._places)

    def _assembler(self, fetches: Any) -> Assemble:
        if isinstance(fetches, list | tuple):
            return _of_sequence(fetches, [self._assembler(f) for f in fetches])
        if isinstance(fetches, Mapping):
            return _of_mapping(fetches, [self._assembler(f) for f in fetches.values()])
        place = self._places.setdefault(self._element(fetches), len(self._places))
        return lambda values: values[place]

    def _element(self, fetch: Any) -> Tensor | Operation:
        if fetch is None:
            raise TypeError(
                "Fetch argument None has invalid type <class 'NoneType'>: there is nothing to compute "
                "(tf.gradients answers None where no path leads from ys to xs)"
            )
        try:
            return self._graph.as_graph_element(fetch, allow_tensor=True, allow_operation=True)  # type: ignore[no-any-return]
        except TypeError as error:
            if isinstance(error, ValueError):
                raise
            raise TypeError(
                f"Fetch argument {fetch!r} has invalid type {type(fetch)}, must be a string or Tensor. ({error})"
            ) from None


def _of_sequence(like: Any, parts: list[Assemble]) -> Assemble:
    if isinstance(like, list):
        return lambda values: [part(values) for part in parts]
    if hasattr(like, "_make"):
        return lambda values: like._make(part(values) for part in parts)
    return lambda values: tuple([part(values) for part in parts])


def _of_mapping(like: Mapping[Any, Any], parts: list[Assemble]) -> Assemble:
    keys = list(like)
    kind: Any = type(like)
    if hasattr(like, "default_factory"):
        return lambda values: kind(like.default_factory, zip(keys, [part(values) for part in parts], strict=True))
    return lambda values: kind(zip(keys, [part(values) for part in parts], strict=True))
