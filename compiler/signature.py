"""What a compilation depends on, as a key: `signature(fetches, feeds, types, is_initialized, surroundings)`.

The key is known before anything is compiled: it is a hash of the part of the user's graph that the fetches need (ops,
how they are connected, attributes with the bytes of constants, names of variables), of the types that are fed with
the hints of their symbols, of which variables have a value, of the package's sources and of the surroundings: the
processor, the version of LLVM, options.  Names of operations and the user's lines make no other code and are left out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from graphflow.compiler.cache_key import digest_of
from graphflow.compiler.capture import needed
from graphflow.core.dim import Atom, Dim, FloorDiv, Symbol
from graphflow.core.dtype import DType
from graphflow.core.node import Array
from graphflow.core.type import TensorType
from graphflow.framework.tensor import Operation, Tensor

__all__ = ["arrays_of", "signature"]


class UnknownError(TypeError):
    """Something that has no text to be hashed."""


def signature(
    fetches: Sequence[Tensor | Operation],
    feeds: Sequence[Tensor],
    types: Sequence[TensorType],
    is_initialized: Callable[[str], bool],
    surroundings: Any,
) -> str | None:
    """The key, 64 hexadecimal digits; None for what can't be told from something else by its text: an op that was
    declared outside of the package, or an attribute of an unknown kind."""
    try:
        return digest_of((_graph(fetches, feeds, is_initialized), tuple(map(_plain, types)), surroundings))
    except UnknownError:
        return None


def arrays_of(fetches: Sequence[Tensor | Operation], feeds: Sequence[Tensor]) -> tuple[Array, ...]:
    """The constants of that part of the graph, in order: graphs of one signature have equal ones."""
    operations = needed(fetches, dict.fromkeys(feeds))
    found = (value for operation in operations for value in operation.attrs.values() if type(value) is Array)
    return tuple(dict.fromkeys(found))


def _graph(
    fetches: Sequence[Tensor | Operation], feeds: Sequence[Tensor], is_initialized: Callable[[str], bool]
) -> tuple[Any, ...]:
    """Feeds, then operations in order, then fetches; each refers to what stands before it by number."""
    places: dict[Tensor, int] = {}
    types: dict[TensorType, Any] = {}
    rows: list[Any] = []
    for tensor in feeds:
        places[tensor] = len(places)
        rows.append(_type(tensor.type_, types))
    for operation in needed(fetches, dict.fromkeys(feeds)):
        rows.append(_row(operation, places, types, is_initialized))
        for tensor in operation.outputs:
            places.setdefault(tensor, len(places))
    ends = tuple(places[f] if isinstance(f, Tensor) else None for f in fetches)
    return len(feeds), tuple(rows), ends


def _row(
    operation: Operation, places: dict[Tensor, int], types: dict[TensorType, Any], is_initialized: Callable[[str], bool]
) -> tuple[Any, ...]:
    if not operation.op.built_in:
        raise UnknownError(operation.op.name)
    inputs = tuple([places[x] for x in operation.inputs])
    attrs = tuple([(key, _plain(value)) for key, value in operation.attrs.items()])
    outputs = tuple([_type(x.type_, types) for x in operation.outputs])
    if operation.op.name != "VariableV2":
        return operation.op.name, inputs, attrs, outputs
    return operation.op.name, inputs, attrs, outputs, operation.name, is_initialized(operation.name)


def _type(type_: TensorType, known: dict[TensorType, Any]) -> Any:
    found = known.get(type_)
    if found is None:
        found = known[type_] = _plain(type_)
    return found


def _plain(value: Any) -> Any:
    """The value in terms of tuples, strings, bytes and numbers; raises `UnknownError`."""
    kind = type(value)
    if kind in (int, str, float, bool, bytes, type(None)):
        return value
    if kind is tuple:
        return tuple([_plain(v) for v in value])
    if value is Ellipsis:
        return ("...",)
    if kind is DType:
        return "dtype", value.name
    if kind is Array:
        return "array", value.key
    if kind is TensorType:
        return "type", value.dtype.name, _plain(value.shape)
    if kind is Dim:
        return "size", tuple([(tuple([_atom(a) for a in monomial]), c) for monomial, c in value.terms])
    raise UnknownError(kind.__name__)


def _atom(atom: Atom) -> Any:
    if isinstance(atom, FloorDiv):
        return "quotient", _plain(atom.numerator), _plain(atom.denominator)
    if isinstance(atom, Symbol):
        return "symbol", atom.key, atom.hint, _plain(atom.bound)
    raise UnknownError(type(atom).__name__)
