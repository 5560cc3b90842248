"""How an op called by a user becomes an operation of the graph: `create(op, args, attrs, name)`.

Arguments become tensors of one graph, the op's `infer` says the type, and what does not fit raises a GraphError that
names the op, its inputs, and the lines that declared them:

    GraphError: MatMul 'layer2/MatMul' at train.py:16: inner dimensions differ: 128 and 64
      a: float32[batch, 128]  'layer1/Relu' = Relu       at train.py:12
      b: float32[64, 10]      'layer2/w'    = VariableV2 at train.py:14
"""

from __future__ import annotations

import string
from typing import Any

import numpy as np

from graphflow.core.dim import Dim, Size, symbol
from graphflow.core.dtype import DType, as_dtype, float32
from graphflow.core.errors import GraphError
from graphflow.core.node import Array
from graphflow.core.op import Composite, Op, set_frontend
from graphflow.core.source import Source, user_source
from graphflow.core.type import NeedsStatic, ShapeError, TensorType
from graphflow.framework.convert import as_array, as_tensor, constant_operation, is_tensor, kind_of
from graphflow.framework.default import get_default_graph
from graphflow.framework.graph import Graph
from graphflow.framework.lookup import same_graph
from graphflow.framework.shape import Dimension
from graphflow.framework.tensor import Tensor

__all__ = ["create", "describe", "infer_types"]

OPERATOR_NAMES = {
    "Add": "add",
    "Sub": "sub",
    "Mul": "mul",
    "RealDiv": "truediv",
    "FloorDiv": "floordiv",
    "FloorMod": "mod",
    "Pow": "pow",
    "GetItem": "strided_slice",
    "LogicalAnd": "and",
    "LogicalOr": "or",
    "LogicalXor": "xor",
}
"""What TensorFlow calls an operation that came from a Python operator, where that is not the op's own name."""

INPUT_NAMES = {"MatMul": "ab", "BatchMatMul": "ab"}
TRIED_SIZES = (1, 2, 1009, 2003, 0)
TRIED_RANKS = (1, 2, 3, 4, 0)


def create(op: Op, args: tuple[Any, ...], attrs: dict[str, Any], name: str | None) -> Any:
    """Add an operation to the graph of the arguments (the default graph without any).

    The result is its output tensor; a list of them where `infer` answers a tuple of types; the Operation where that
    tuple is empty.  `name` may end with '/': then it is exact, as TensorFlow's scopes are.
    """
    source = user_source()
    tensors = [a if isinstance(a, Tensor) else as_tensor(a) for a in args if is_tensor(a)]
    graph = same_graph(tensors) or get_default_graph()
    graph.check_not_finalized()
    name = name or OPERATOR_NAMES.get(op.name, op.name)
    full = name if name.endswith("/") else graph.unique_name(name) + "/"
    inputs = tuple(tensors) if len(tensors) == len(args) else _inputs(op, args, tensors, full, graph)
    attrs = {key: _attribute(value) for key, value in attrs.items()}
    types = infer_types(op, inputs, attrs, full[:-1], source)
    operation = graph.create_operation(op, inputs, attrs, _tuple(types), full, source)
    if not isinstance(types, tuple):
        return operation.outputs[0]
    return list(operation.outputs) if types else operation


def _tuple(types: TensorType | tuple[TensorType, ...]) -> tuple[TensorType, ...]:
    return types if isinstance(types, tuple) else (types,)


def _inputs(op: Op, args: tuple[Any, ...], tensors: list[Tensor], full: str, graph: Graph) -> tuple[Tensor, ...]:
    """Every argument as a tensor; numbers take the dtype of the tensors beside them."""
    ready = iter(tensors)
    dtypes = [t.dtype for t in tensors] + [as_dtype(a.dtype) for a in args if isinstance(a, np.ndarray | np.generic)]
    if not tensors:
        dtypes += [float32 for a in args if not isinstance(a, np.ndarray | np.generic) and kind_of_plain(a) == "f"]
    letters = INPUT_NAMES.get(op.name, "xyzuvw")
    inputs = []
    with graph.as_default():
        for position, a in enumerate(args):
            if is_tensor(a):
                inputs.append(next(ready))
                continue
            letter = letters[position] if position < len(letters) else f"x_{position}"
            inputs.append(_converted(op, a, dtypes, f"{full}{letter}/", graph, full[:-1]))
    return tuple(inputs)


def kind_of_plain(value: Any) -> str:
    """`kind_of` where the value is made of numbers only; '' otherwise."""
    return "" if value is None or isinstance(value, str) else kind_of(value) if _is_plain(value) else ""


def _is_plain(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return all(_is_plain(v) for v in value)
    return isinstance(value, bool | int | float | np.ndarray | np.generic)


def _converted(op: Op, value: Any, dtypes: list[DType], name: str, graph: Graph, op_name: str) -> Tensor:
    if not _is_plain(value):
        return as_tensor(value, graph=graph)
    kind = kind_of(value)
    dtype = next((d for d in dtypes if _takes(d, kind)), None)
    if dtype is None and kind == "f" and any(d.is_integer for d in dtypes):
        integer = next(d for d in dtypes if d.is_integer)
        raise GraphError(
            f"{op.name} '{op_name}': {value!r} is a float and the other input is {integer}: tf.cast one of them"
        )
    return constant_operation(as_array(value, dtype), name, graph)


def _takes(dtype: DType, kind: str) -> bool:
    """Whether numbers of a kind become this dtype without being asked to."""
    if kind == "b":
        return dtype.is_bool
    return dtype.is_floating or (kind == "i" and dtype.is_integer)


def _attribute(value: Any) -> Any:
    """An attribute in its hashable form."""
    if isinstance(value, np.ndarray):
        return Array(value)
    if isinstance(value, np.bool_ | np.integer | np.floating):
        return value.item()
    if isinstance(value, Dimension):
        return value.size
    if isinstance(value, list | tuple):
        return tuple(_attribute(v) for v in value)
    return value


def infer_types(
    op: Op, inputs: tuple[Tensor, ...], attrs: dict[str, Any], name: str, source: Source
) -> TensorType | tuple[TensorType, ...]:
    """What `op` gives for these inputs; raises GraphError."""
    types = tuple(x.type_ for x in inputs)
    unknown = any(t.shape is None for t in types)
    if unknown and isinstance(op, Composite):
        return _infer_by_rank(op, inputs, attrs, name, source)
    try:
        return op.infer_unknown(*types, **attrs) if unknown else op.infer(*types, **attrs)
    except NeedsStatic:
        return _infer_by_trial(op, inputs, attrs, name, source)
    except ShapeError as error:
        raise GraphError(describe(op, name, source, inputs, str(error))) from None


def _infer_by_rank(
    op: Op, inputs: tuple[Tensor, ...], attrs: dict[str, Any], name: str, source: Source
) -> TensorType | tuple[TensorType, ...]:
    """The type of a composite of an input of unknown rank: its dtype, and its shape where any rank gives the same."""
    found: list[tuple[TensorType, ...]] = []
    single, reason = True, ""
    for rank in TRIED_RANKS:
        unknown = tuple(symbol(f"?{axis}") for axis in range(rank))
        try:
            result = op.infer(
                *(TensorType(x.dtype, unknown) if x.type_.shape is None else x.type_ for x in inputs), **attrs
            )
        except (ShapeError, NeedsStatic) as error:
            reason = str(error)
            continue
        single = not isinstance(result, tuple)
        found.append(_tuple(result))
    if not found:
        raise GraphError(describe(op, name, source, inputs, reason))
    agreed = tuple(
        types[0] if len(set(types)) == 1 else TensorType(types[0].dtype, None) for types in zip(*found, strict=True)
    )
    return agreed[0] if single else agreed


def _infer_by_trial(
    op: Op, inputs: tuple[Tensor, ...], attrs: dict[str, Any], name: str, source: Source
) -> TensorType | tuple[TensorType, ...]:
    """The type where the rule wants numbers: what all tried sizes agree on is known, the rest gets fresh symbols.

    At first all unknown sizes are the same: one of `TRIED_SIZES` or, where none of these is accepted, one of the known
    sizes of the inputs, with which they may have to agree.  Then each by itself is another one, beside others that were
    accepted, up to the largest that is: windows of 1 and 2 may be as many, and those of 3 fewer.
    """
    unknown = list(dict.fromkeys(s for x in inputs for s in x.type_.dims if isinstance(s, Dim)))
    known = dict.fromkeys(s for x in inputs for s in x.type_.dims if isinstance(s, int))
    trials = Trials(op, inputs, attrs)
    accepted: list[dict[Dim, int]] = []
    for tried in (TRIED_SIZES, known):
        accepted = accepted or [sizes for n in tried if trials.accept(sizes := dict.fromkeys(unknown, n))]
    if not accepted:
        raise GraphError(describe(op, name, source, inputs, trials.reason))
    for one in unknown:
        fit = [n for n in TRIED_SIZES if trials.accept(accepted[0] | {one: n})]
        trials.accept_largest(accepted[0], one, max(fit, default=accepted[0][one]))
    agreed = tuple(_agreed(types, f"?{name}:{n}") for n, types in enumerate(zip(*trials.results, strict=True)))
    return agreed if trials.several else agreed[0]


class Trials:
    """What an op makes of the inputs for sizes in place of the unknown ones: the types of its outputs, for each trial
    that it accepts, and why it did not accept the last of the others."""

    def __init__(self, op: Op, inputs: tuple[Tensor, ...], attrs: dict[str, Any]) -> None:
        self.op, self.types, self.attrs = op, [x.type_ for x in inputs], attrs
        self.results: list[tuple[TensorType, ...]] = []
        self.several = False
        self.reason = ""

    def accept(self, sizes: dict[Dim, int]) -> bool:
        """Whether the op accepts these sizes."""
        types = [t.with_shape(tuple(sizes[s] if isinstance(s, Dim) else s for s in t.dims)) for t in self.types]
        try:
            result = self.op.infer(*types, **self.attrs)
        except ShapeError as error:
            self.reason = str(error)
            return False
        self.several = isinstance(result, tuple)
        self.results.append(_tuple(result))
        return True

    def accept_largest(self, beside: dict[Dim, int], one: Dim, low: int) -> None:
        """Try the largest size that is accepted between `low`, which is, and the largest of all, by halving."""
        high = max(TRIED_SIZES)
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if self.accept(beside | {one: middle}) else (low, middle)


def _agreed(types: tuple[TensorType, ...], prefix: str) -> TensorType:
    if len({t.ndim for t in types}) > 1:
        return TensorType(types[0].dtype, None)
    sizes: list[Size] = []
    for axis, tried in enumerate(zip(*(t.dims for t in types), strict=True)):
        sizes.append(tried[0] if len(set(tried)) == 1 else symbol(f"{prefix}_{axis}"))
    return types[0].with_shape(tuple(sizes))


def describe(op: Op, name: str, source: Source, inputs: tuple[Tensor, ...], reason: str) -> str:
    """The message of an operation that can't be: op, name, line, reason, and a line for each input."""
    rows = []
    for letter, x in zip(string.ascii_lowercase, inputs, strict=False):
        origin = x.op.inputs[0].op if x.op.type == "ReadVariable" else x.op
        rows.append((f"  {letter}: {x.type_}", f"'{origin.name}'", f"= {origin.type}", f"at {origin.source}"))
    widths = [max((len(row[column]) for row in rows), default=0) for column in range(3)]
    lines = [f"{a:{widths[0]}}  {b:{widths[1]}} {c:{widths[2]}} {d}" for a, b, c, d in rows]
    return "\n".join([f"{op.name} '{name}' at {source}: {reason}", *lines])


set_frontend(create)
