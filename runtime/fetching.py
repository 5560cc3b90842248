"""Fetches of any nesting: what to compute, and how the answer is put together.

fetches = Fetches(graph, {"loss": loss, "all": [train_op, (w, loss)]})
fetches.elements            (loss, train_op, w): each once
fetches.assemble(values)    {"loss": ..., "all": [None, (..., ...)]}
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

from graphflow.core.errors import InvalidArgumentError
from graphflow.framework.graph import Graph, Operation, Tensor
from graphflow.runtime.call_record import ASSEMBLE, LIST, SINGLE, TUPLE

__all__ = ["Fetches", "structure_key"]

Assemble = Callable[[Sequence[Any]], Any]


def structure_key(fetches: Any) -> Hashable:
    """A key that is equal for the same structure of the same objects."""
    if type(fetches) is Tensor or type(fetches) is Operation:
        return fetches
    kind = type(fetches)
    if kind is list or kind is tuple or isinstance(fetches, list | tuple):
        return kind, *map(structure_key, fetches)
    if kind is dict or isinstance(fetches, Mapping):
        return kind, *fetches, *map(structure_key, fetches.values())
    return fetches  # type: ignore[no-any-return]


class Fetches:
    """Fetches of a graph; raises TypeError for what can't be one, NotFoundError and GraphError as the graph does."""

    def __init__(self, graph: Graph, fetches: Any) -> None:
        self._graph = graph
        self._places: dict[Tensor | Operation, int] = {}
        self.assemble = self._assembler(fetches)
        self.elements = tuple(self._places)
        self.form = _form(fetches)
        self.places = self._numbers(fetches)

    def _numbers(self, fetches: Any) -> tuple[int, ...]:
        """What native code puts into its answer, as numbers of elements: what was fetched, or to be assembled, all."""
        if self.form == ASSEMBLE:
            return tuple(range(len(self.elements)))
        leaves = [fetches] if self.form == SINGLE else fetches
        return tuple(self._places[self._element(leaf)] for leaf in leaves)

    def flatten_out(self, out: Any) -> list[Any]:
        """The arrays of `out=`, or None, by elements.  InvalidArgumentError if it does not go with the fetches."""
        if self.form == ASSEMBLE:
            raise InvalidArgumentError(
                "out= goes with a single fetch or a flat list or tuple of fetches, not with nested ones"
            )
        arrays = [out] if self.form == SINGLE else out
        if not isinstance(arrays, list | tuple) or len(arrays) != len(self.places):
            raise InvalidArgumentError(
                f"out= must be a list or tuple with an array or None for each of {len(self.places)} fetches, but got "
                f"{type(out)}" + (f" of {len(out)}" if isinstance(out, list | tuple) else "")
            )
        flat: list[Any] = [None] * len(self.elements)
        for place, array in zip(self.places, arrays, strict=True):
            if array is not None and flat[place] is not None:
                raise InvalidArgumentError(
                    f"'{self.elements[place].name}' is fetched twice: give one array for it in out="
                )
            flat[place] = flat[place] if array is None else array
        return flat

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


def _form(fetches: Any) -> int:
    """SINGLE, LIST, TUPLE, or ASSEMBLE for what is nested or of another type."""
    kind = type(fetches)
    if kind is list or kind is tuple:
        flat = not any(isinstance(f, list | tuple | Mapping) for f in fetches)
        return (LIST if kind is list else TUPLE) if flat else ASSEMBLE
    return ASSEMBLE if isinstance(fetches, list | tuple | Mapping) else SINGLE


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
