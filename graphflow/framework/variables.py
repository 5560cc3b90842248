"""`Variable`: state that lives in a session from run to run.

    w = tf.Variable(tf.zeros([784, 10]), name="w")
    w.name, w.op.type, w.initializer.name, w.value().name
    ('w:0', 'VariableV2', 'w/Assign', 'w/read:0')

Within one run every read and every assignment of a variable happens in the order in which they were declared.  Used in
an expression, a variable is its read `w/read`; within `tf.control_dependencies` it is a new read, which comes after
what the block waits for.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from graphflow.core.dtype import DType, as_dtype
from graphflow.core.errors import GraphError
from graphflow.core.op import OPS
from graphflow.core.type import TensorType
from graphflow.framework.convert import as_tensor
from graphflow.framework.default import get_default_graph, require_session
from graphflow.framework.graph import Graph
from graphflow.framework.keys import GraphKeys
from graphflow.framework.shape import TensorShape
from graphflow.framework.tensor import Operation, Tensor, TensorLike

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Variable", "ref_of"]


class Variable(TensorLike):
    """State with the type of its initial value; see the module.

    initial_value: anything that becomes a tensor, or a function of no arguments that makes it.  Its shape must be
    known.  collections: where the variable is listed (GraphKeys.GLOBAL_VARIABLES), `trainable` adds
    GraphKeys.TRAINABLE_VARIABLES.  Placement, locking and `use_resource` make no difference here.
    """

    def __init__(
        self,
        initial_value: Any = None,
        trainable: bool | None = None,
        collections: Sequence[Any] | None = None,
        validate_shape: bool = True,
        caching_device: Any = None,
        name: str | None = None,
        variable_def: Any = None,
        dtype: Any = None,
        expected_shape: Any = None,
        import_scope: str | None = None,
        constraint: Callable[[Tensor], Tensor] | None = None,
        use_resource: bool | None = None,
        synchronization: Any = None,
        aggregation: Any = None,
        shape: Any = None,
    ) -> None:
        if initial_value is None:
            raise ValueError("initial_value must be specified.")
        if constraint is not None and not callable(constraint):
            raise ValueError("The `constraint` argument must be a callable.")
        self.constraint = constraint
        self.trainable = True if trainable is None else bool(trainable)
        wanted = None if dtype is None else as_dtype(dtype)
        graph = _graph_of(initial_value)
        with graph.as_default(), graph.control_dependencies(None), graph.name_scope(name or "Variable") as scope:
            self._declare(graph, scope, initial_value, wanted, shape if shape is not None else expected_shape)
        keys = [GraphKeys.GLOBAL_VARIABLES] if collections is None else list(collections)
        if self.trainable and GraphKeys.TRAINABLE_VARIABLES not in keys:
            keys.append(GraphKeys.TRAINABLE_VARIABLES)
        graph.add_to_collections(keys, self)

    def _declare(self, graph: Graph, scope: str, initial_value: Any, dtype: DType | None, shape: Any) -> None:
        if callable(initial_value):
            with graph.name_scope("Initializer"):
                value = as_tensor(initial_value(), dtype, name="initial_value")
        else:
            value = as_tensor(initial_value, dtype, name="initial_value")
        merged = value.shape if shape is None else _merged(value.shape, shape, scope)
        if not merged.is_fully_defined():
            raise GraphError(
                f"Variable '{scope[:-1]}': the shape {merged} of its initial value '{value.name}' must be fully known"
            )
        self._initial_value = value
        self._ref: Tensor = OPS["VariableV2"](type=TensorType(value.dtype, _static(merged)), name=scope)
        self.initializer: Operation = OPS["Assign"](self._ref, value, name="Assign").op
        self._snapshot: Tensor = OPS["ReadVariable"](self._ref, name="read")

    # what it is

    @property
    def op(self) -> Operation:
        return self._ref.op

    @property
    def name(self) -> str:
        return self._ref.name

    @property
    def graph(self) -> Graph:
        return self._ref.graph

    @property
    def dtype(self) -> DType:
        return self._ref.dtype

    @property
    def shape(self) -> TensorShape:
        return self._ref.shape

    @property
    def device(self) -> str:
        return ""

    @property
    def initial_value(self) -> Tensor:
        return self._initial_value

    def get_shape(self) -> TensorShape:
        return self.shape

    def set_shape(self, shape: Any) -> None:
        """Check what the program claims of the shape; raises GraphError where it contradicts."""
        self._ref.set_shape(shape)

    # its value

    def value(self) -> Tensor:
        """The read that expressions use."""
        return self._snapshot

    def read_value(self) -> Tensor:
        """A read of its own, declared here and now."""
        with self.graph.name_scope(None):
            return OPS["ReadVariable"](self._ref, name=f"{self.op.name}/read")  # type: ignore[no-any-return]

    def initialized_value(self) -> Tensor:
        """The value where there is one, else the initial value: for the initial values of other variables."""
        with self.graph.name_scope(None), self.graph.control_dependencies(None):
            name = f"{self.op.name}/initialized_value"
            return OPS["InitializedValue"](self._ref, self._initial_value, name=name)  # type: ignore[no-any-return]

    def _as_tensor(self) -> Tensor:
        return self.read_value() if self.graph.has_control_dependencies() else self._snapshot

    def _as_graph_element(self) -> Tensor:
        return self._ref  # as a fetch: the state at the end of the run

    def eval(self, session: Any = None) -> Any:
        """The value in `session` or the default session."""
        return self._snapshot.eval(session=session)

    def load(self, value: Any, session: Any = None) -> None:
        """Set the value in `session` or the default session, without declaring anything."""
        session = require_session(session, self.graph, f"load '{self.op.name}'")
        session.load_variable(self._ref, value)

    # assignment

    def assign(self, value: Any, use_locking: bool = False, name: str | None = None, read_value: bool = True) -> Any:
        """Set the value; the result is the new value (the Operation without `read_value`)."""
        return self._update("Assign", value, name, read_value)

    def assign_add(
        self, delta: Any, use_locking: bool = False, name: str | None = None, read_value: bool = True
    ) -> Any:
        """Add to the value; the result is the new value (the Operation without `read_value`)."""
        return self._update("AssignAdd", delta, name, read_value)

    def assign_sub(
        self, delta: Any, use_locking: bool = False, name: str | None = None, read_value: bool = True
    ) -> Any:
        """Subtract from the value; the result is the new value (the Operation without `read_value`)."""
        return self._update("AssignSub", delta, name, read_value)

    def _update(self, op: str, value: Any, name: str | None, read_value: bool) -> Any:
        result: Tensor = OPS[op](self._ref, value, name=name or op)
        return result if read_value else result.op

    def __repr__(self) -> str:
        return f"<tf.Variable '{self.name}' shape={self.shape} dtype={self.dtype}>"

    def __iter__(self) -> Any:
        raise TypeError("'Variable' object is not iterable.")

    def __copy__(self) -> Variable:
        return self

    def __deepcopy__(self, memo: Any) -> Variable:
        return self


def _graph_of(initial_value: Any) -> Graph:
    return initial_value.graph if isinstance(initial_value, TensorLike) else get_default_graph()  # type: ignore[attr-defined]


def _static(shape: TensorShape) -> tuple[int, ...]:
    return tuple(int(d) for d in shape)


def _merged(found: TensorShape, wanted: Any, scope: str) -> TensorShape:
    try:
        return found.merge_with(wanted)
    except ValueError as error:
        raise GraphError(
            f"Variable '{scope[:-1]}': its initial value does not have the shape asked for: {error}"
        ) from None


def ref_of(variable: Any) -> Tensor:
    """The tensor `w:0` that stands for the state itself; raises TypeError for what is no variable."""
    if isinstance(variable, Variable):
        return variable._ref
    if isinstance(variable, Tensor):
        op = variable.op.inputs[0].op if variable.op.type == "ReadVariable" else variable.op
        if op.type == "VariableV2":
            return op.outputs[0]
    raise TypeError(f"a variable is needed, not {variable!r}")
