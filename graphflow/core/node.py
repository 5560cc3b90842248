"""Level 1 of the compiler: a `Node` is an op applied to nodes, immutable and interned.

    >>> x = parameter("x", TensorType(float32, (2, 3)))
    >>> tanh(x) is tanh(x)
    True

Equal nodes are the same object, so common subexpressions never exist twice.  Nodes have no names; what the user
called them, and on which line, rides beside the graph (`compiler/program.py`, origins).
Inputs are positional, attributes are keywords; an attribute is hashable (`Array` wraps NumPy data).
"""

from __future__ import annotations

import hashlib
import itertools
import weakref
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from graphflow.core.type import Shape, TensorType

if TYPE_CHECKING:
    from graphflow.core.dtype import DType
    from graphflow.core.op import Op

__all__ = ["OPERATORS", "Array", "Node", "Operators", "make_node", "topological"]

OPERATORS: dict[str, Callable[..., Any]] = {}
"""What `+`, `*`, `[]` ... do; filled by the op declarations, shared by nodes and the user's tensors."""


class Operators:
    """Python's operators in terms of `OPERATORS`."""

    __slots__ = ()
    __array_priority__ = 100  # so that numpy_array * tensor comes to the tensor

    def __add__(self, other: Any) -> Any:
        return OPERATORS["add"](self, other)

    def __radd__(self, other: Any) -> Any:
        return OPERATORS["add"](other, self)

    def __sub__(self, other: Any) -> Any:
        return OPERATORS["sub"](self, other)

    def __rsub__(self, other: Any) -> Any:
        return OPERATORS["sub"](other, self)

    def __mul__(self, other: Any) -> Any:
        return OPERATORS["mul"](self, other)

    def __rmul__(self, other: Any) -> Any:
        return OPERATORS["mul"](other, self)

    def __truediv__(self, other: Any) -> Any:
        return OPERATORS["truediv"](self, other)

    def __rtruediv__(self, other: Any) -> Any:
        return OPERATORS["truediv"](other, self)

    def __floordiv__(self, other: Any) -> Any:
        return OPERATORS["floordiv"](self, other)

    def __rfloordiv__(self, other: Any) -> Any:
        return OPERATORS["floordiv"](other, self)

    def __mod__(self, other: Any) -> Any:
        return OPERATORS["mod"](self, other)

    def __rmod__(self, other: Any) -> Any:
        return OPERATORS["mod"](other, self)

    def __pow__(self, other: Any) -> Any:
        return OPERATORS["pow"](self, other)

    def __rpow__(self, other: Any) -> Any:
        return OPERATORS["pow"](other, self)

    def __matmul__(self, other: Any) -> Any:
        return OPERATORS["matmul"](self, other)

    def __rmatmul__(self, other: Any) -> Any:
        return OPERATORS["matmul"](other, self)

    def __neg__(self) -> Any:
        return OPERATORS["neg"](self)

    def __abs__(self) -> Any:
        return OPERATORS["abs"](self)

    def __lt__(self, other: Any) -> Any:
        return OPERATORS["less"](self, other)

    def __le__(self, other: Any) -> Any:
        return OPERATORS["less_equal"](self, other)

    def __gt__(self, other: Any) -> Any:
        return OPERATORS["greater"](self, other)

    def __ge__(self, other: Any) -> Any:
        return OPERATORS["greater_equal"](self, other)

    def __and__(self, other: Any) -> Any:
        return OPERATORS["logical_and"](self, other)

    def __rand__(self, other: Any) -> Any:
        return OPERATORS["logical_and"](other, self)

    def __or__(self, other: Any) -> Any:
        return OPERATORS["logical_or"](self, other)

    def __ror__(self, other: Any) -> Any:
        return OPERATORS["logical_or"](other, self)

    def __xor__(self, other: Any) -> Any:
        return OPERATORS["logical_xor"](self, other)

    def __rxor__(self, other: Any) -> Any:
        return OPERATORS["logical_xor"](other, self)

    def __invert__(self) -> Any:
        return OPERATORS["logical_not"](self)

    def __getitem__(self, key: Any) -> Any:
        return OPERATORS["getitem"](self, key)


class Array:
    """NumPy data as an attribute: hashable by content, read-only."""

    __slots__ = ("key", "value")

    def __init__(self, value: np.ndarray[Any, Any]) -> None:
        value = np.array(value, order="C", copy=True)
        value.setflags(write=False)
        self.value = value
        data = value.tobytes()
        content = data if len(data) <= 64 else hashlib.blake2b(data, digest_size=16).digest()
        self.key = (value.dtype.str, value.shape, content)  # equal for equal data

    def __hash__(self) -> int:
        return hash(self.key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Array) and self.key == other.key

    def __repr__(self) -> str:
        if self.value.size <= 4:
            return np.array2string(self.value, separator=", ", threshold=8)
        return f"<{self.value.dtype}{list(self.value.shape)}>"


_INTERNED: weakref.WeakValueDictionary[Any, Node] = weakref.WeakValueDictionary()
_SERIALS = itertools.count()


class Node(Operators):
    """op(*inputs, **attrs) : type.  Made by `make_node` only."""

    __slots__ = ("__weakref__", "_attrs", "inputs", "op", "serial", "type")

    def __init__(self, op: Op, inputs: tuple[Node, ...], attrs: dict[str, Any], type_: TensorType) -> None:
        self.op = op
        self.inputs = inputs
        self._attrs = attrs
        self.type = type_
        self.serial = next(_SERIALS)  # inputs have smaller serials: a topological order for free

    @property
    def attrs(self) -> Mapping[str, Any]:
        return MappingProxyType(self._attrs)

    @property
    def shape(self) -> Shape:
        return self.type.dims

    @property
    def dtype(self) -> DType:
        return self.type.dtype

    @property
    def ndim(self) -> int:
        return len(self.type.dims)

    def __repr__(self) -> str:
        attrs = "".join(f", {k}={v}" for k, v in self._attrs.items())
        return f"{self.type} = {self.op.name}({', '.join(str(x.type) for x in self.inputs)}{attrs})"


def make_node(op: Op, inputs: Iterable[Node], attrs: dict[str, Any]) -> Node:
    """The one node for these; its type comes from `op.infer`, which raises ShapeError for what does not fit."""
    inputs = tuple(inputs)
    key = (op.name, inputs, tuple(sorted(attrs.items(), key=lambda item: item[0])))
    found = _INTERNED.get(key)
    if found is not None:
        return found
    node = Node(op, inputs, attrs, op.infer(*(x.type for x in inputs), **attrs))
    return _INTERNED.setdefault(key, node)


def topological(roots: Iterable[Node]) -> list[Node]:
    """All nodes under `roots`, inputs first; deterministic, and not recursive."""
    seen: set[Node] = set()
    stack = list(roots)
    while stack:
        node = stack.pop()
        if node in seen:
            continue
        seen.add(node)
        stack.extend(x for x in node.inputs if x not in seen)
    return sorted(seen, key=lambda node: node.serial)
