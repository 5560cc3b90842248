"""`Tensor`, a value that a run will compute, and `Operation`, what computes it.

>>> y = tf.matmul(x, w, name="layer/y")
>>> y.name, y.op.type, y.shape.as_list(), y.op.source
('layer/y:0', 'MatMul', [None, 128], train.py:7)
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NoReturn

from graphflow.core.errors import GraphError
from graphflow.core.node import Operators
from graphflow.core.type import TensorType
from graphflow.framework.default import require_session
from graphflow.framework.shape import TensorShape

if TYPE_CHECKING:
    from graphflow.core.dtype import DType
    from graphflow.core.op import Op
    from graphflow.core.source import Source
    from graphflow.framework.graph import Graph

__all__ = ["NodeDef", "Operation", "Tensor", "TensorLike", "type_text"]

TENSORFLOW_TYPES = {"GetItem": "StridedSlice", "Concat": "ConcatV2"}
"""What TensorFlow calls the type of an operation, where that is not the name of the op."""


class TensorLike(Operators):
    """What a Tensor and a Variable have in common: operators, and refusing to be mistaken for a value."""

    __slots__ = ()

    def __bool__(self) -> bool:
        raise TypeError(
            f"{self!r} has no truth value before a run. Use `if t is not None:` to test whether it is defined, "
            "and tf.where or tf.cond to choose by its value."
        )

    def __getitem__(self, key: Any) -> Any:
        from graphflow.framework.index import getitem

        return getitem(self, key)

    def __len__(self) -> int:
        raise TypeError(f"{self!r} has no len(); t.shape[0] is the declared size and tf.shape(t)[0] the size in a run")

    def __array__(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise NotImplementedError(
            f"Cannot convert a symbolic Tensor ({self!r}) to a numpy array: Session.run computes it"
        )


class Tensor(TensorLike):
    """Output `value_index` of `op`; `==` and `hash` are identity, as in TensorFlow 1."""

    __slots__ = ("__weakref__", "op", "type_", "value_index")

    def __init__(self, op: Operation, value_index: int, type_: TensorType) -> None:
        self.op = op
        self.value_index = value_index
        self.type_ = type_

    @property
    def name(self) -> str:
        return f"{self.op.name}:{self.value_index}"

    @property
    def graph(self) -> Graph:
        return self.op.graph

    @property
    def dtype(self) -> DType:
        return self.type_.dtype

    @property
    def shape(self) -> TensorShape:
        return TensorShape(self.type_.shape)

    @property
    def device(self) -> str:
        return ""

    def get_shape(self) -> TensorShape:
        return self.shape

    def set_shape(self, shape: Any) -> None:
        """Add what the program knows of the shape; raises GraphError where it contradicts."""
        try:
            merged = self.shape.merge_with(shape)
        except ValueError as error:
            raise GraphError(f"set_shape({shape!r}) of '{self.name}': {error}", op=self.op) from None
        if merged.sizes is not None:
            prefix = self.op.name if self.op.type == "Placeholder" else f"?{self.name}"  # '?': only a run can tell
            fresh = self.op.graph.fresh_sizes(prefix, merged.sizes)
            self.type_ = TensorType(self.dtype, fresh)

    def eval(self, feed_dict: Any = None, session: Any = None) -> Any:
        """The value, computed by `session` or the default session."""
        return require_session(session, self.graph, f"evaluate '{self.name}'").run(self, feed_dict)

    def consumers(self) -> list[Operation]:
        """The operations that read this tensor, in creation order."""
        return [op for op in self.graph.get_operations() if any(x is self for x in op.inputs)]

    def __iter__(self) -> Iterator[Any]:
        shape = self.type_.shape
        if not shape or not isinstance(shape[0], int):
            raise TypeError(f"{self!r} can't be iterated: its first size is not known before a run")
        return (self[index] for index in range(shape[0]))

    def __repr__(self) -> str:
        return f"<tf.Tensor '{self.name}' shape={self.shape} dtype={self.dtype}>"

    def __str__(self) -> str:
        return f'Tensor("{self.name}", shape={self.shape}, dtype={self.dtype})'

    def __copy__(self) -> Tensor:
        return self

    def __deepcopy__(self, memo: Any) -> Tensor:
        return self


class NodeDef:
    """The little of TensorFlow's NodeDef message that programs read: name, op, input."""

    def __init__(self, op: Operation) -> None:
        self.name = op.name
        self.op = op.type
        self.device = ""
        inputs = [x.op.name if x.value_index == 0 else x.name for x in op.inputs]
        self.input = inputs + [f"^{c.name}" for c in op.control_inputs]


class Operation:
    """A step of the graph.  Made by `graph.create_operation` only; `id` is its place in creation order."""

    __slots__ = (
        "__weakref__", "attrs", "control_inputs", "graph", "id", "inputs", "name", "op", "outputs", "source", "type",
    )  # fmt: skip

    def __init__(
        self,
        graph: Graph,
        op: Op,
        name: str,
        inputs: tuple[Tensor, ...],
        attrs: dict[str, Any],
        types: tuple[TensorType, ...],
        control_inputs: tuple[Operation, ...],
        source: Source,
        id_: int,
    ) -> None:
        self.graph = graph
        self.op = op
        self.type = TENSORFLOW_TYPES.get(op.name, op.name)
        self.name = name
        self.inputs = inputs
        self.attrs = attrs
        self.control_inputs = control_inputs
        self.source = source
        self.id = id_
        self.outputs = [Tensor(self, index, type_) for index, type_ in enumerate(types)]

    @property
    def node_def(self) -> NodeDef:
        return NodeDef(self)

    @property
    def device(self) -> str:
        return ""

    def get_attr(self, name: str) -> Any:
        """The attribute; `T` and `dtype` are the dtype of the first output where the op has none of that name."""
        if name in self.attrs:
            return self.attrs[name]
        if name in ("T", "dtype") and self.outputs:
            return self.outputs[0].dtype
        raise ValueError(f"Operation named '{self.name}' has no attr named '{name}'; it has {sorted(self.attrs)}")

    def values(self) -> tuple[Tensor, ...]:
        return tuple(self.outputs)

    def run(self, feed_dict: Any = None, session: Any = None) -> None:
        """Run this operation in `session` or the default session."""
        require_session(session, self.graph, f"run '{self.name}'").run(self, feed_dict)

    def __repr__(self) -> str:
        return f"<tf.Operation '{self.name}' type={self.type}>"

    def __str__(self) -> str:
        inputs = ", ".join(x.name for x in self.inputs)
        return f"'{self.name}' = {self.type}({inputs}) at {self.source}"

    def __copy__(self) -> Operation:
        return self

    def __deepcopy__(self, memo: Any) -> Operation:
        return self


def type_text(type_: TensorType) -> str:
    """A type with `?` for unknown sizes, as in `float32[?, 784]`."""
    if type_.shape is None:
        return f"{type_.dtype} of unknown shape"
    return f"{type_.dtype}[{', '.join(str(s) if isinstance(s, int) else '?' for s in type_.shape)}]"
