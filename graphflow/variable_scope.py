"""`tf.get_variable` and `tf.variable_scope`: variables shared by name, by TensorFlow 1's rules.

def layer(x):
    with tf.variable_scope("layer", reuse=tf.AUTO_REUSE):
        return tf.matmul(x, tf.get_variable("w", [784, 10]))    # 'layer/w', one for all calls
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from graphflow.core.dtype import DType, as_dtype, float32
from graphflow.framework.convert import as_array, is_tensor
from graphflow.framework.default import get_default_graph
from graphflow.framework.graph import Graph
from graphflow.framework.keys import GraphKeys
from graphflow.framework.variables import Variable
from graphflow.shared_variables import AUTO_REUSE, SharedVariables, add_regularization

if TYPE_CHECKING:
    from types import TracebackType

__all__ = [
    "AUTO_REUSE", "VariableScope", "get_local_variable", "get_variable", "get_variable_scope", "no_regularizer",
    "variable_op_scope", "variable_scope",
]  # fmt: skip


def no_regularizer(_: Any) -> None:
    """A regularizer that adds nothing, where a scope has one."""
    return


class VariableScope:
    """The defaults of `get_variable` within a scope: name prefix, reuse, initializer, regularizer, dtype ..."""

    def __init__(
        self,
        reuse: Any,
        name: str = "",
        initializer: Any = None,
        regularizer: Any = None,
        caching_device: Any = None,
        partitioner: Any = None,
        custom_getter: Callable[..., Any] | None = None,
        name_scope: str = "",
        dtype: Any = float32,
        use_resource: bool | None = None,
        constraint: Any = None,
    ) -> None:
        self.name = name
        self.reuse = reuse
        self.initializer = initializer
        self.regularizer = regularizer
        self.custom_getter = custom_getter
        self.original_name_scope = name_scope
        self.dtype: DType = as_dtype(dtype)
        self.constraint = constraint
        self.caching_device, self.partitioner, self.use_resource = caching_device, partitioner, use_resource

    def copy(self) -> VariableScope:
        twin = VariableScope(self.reuse)
        twin.__dict__.update(self.__dict__)
        return twin

    def reuse_variables(self) -> None:
        """From now on `get_variable` in this scope shares and makes nothing new."""
        self.reuse = True

    def set_initializer(self, initializer: Any) -> None:
        self.initializer = initializer

    def set_regularizer(self, regularizer: Any) -> None:
        self.regularizer = regularizer

    def set_custom_getter(self, custom_getter: Any) -> None:
        self.custom_getter = custom_getter

    def set_dtype(self, dtype: Any) -> None:
        self.dtype = as_dtype(dtype)

    def set_caching_device(self, caching_device: Any) -> None:
        self.caching_device = caching_device

    def set_partitioner(self, partitioner: Any) -> None:
        self.partitioner = partitioner

    def set_use_resource(self, use_resource: bool | None) -> None:
        self.use_resource = use_resource

    def _listed(self, key: str) -> list[Any]:
        return get_default_graph().get_collection(key, f"{self.name}/" if self.name else None)

    def global_variables(self) -> list[Any]:
        return self._listed(GraphKeys.GLOBAL_VARIABLES)

    def local_variables(self) -> list[Any]:
        return self._listed(GraphKeys.LOCAL_VARIABLES)

    def trainable_variables(self) -> list[Any]:
        return self._listed(GraphKeys.TRAINABLE_VARIABLES)

    def get_variable(self, name: str, **options: Any) -> Any:
        """`tf.get_variable` in this scope."""
        getter: Callable[..., Any] = self._get
        if self.custom_getter is None:
            return getter(self._full(name), **options)
        return self.custom_getter(getter, self._full(name), **options)

    def _full(self, name: str) -> str:
        return f"{self.name}/{name}" if self.name else name

    def _get(
        self,
        name: str,
        shape: Any = None,
        dtype: Any = None,
        initializer: Any = None,
        regularizer: Any = None,
        reuse: Any = None,
        trainable: bool | None = None,
        collections: Any = None,
        validate_shape: bool = True,
        constraint: Any = None,
        **ignored: Any,
    ) -> Variable:
        initializer = initializer if initializer is not None else self.initializer
        regularizer = regularizer if regularizer is not None else self.regularizer
        dtype = _dtype(dtype, initializer, self.dtype)
        graph = get_default_graph()
        store = SharedVariables.of(graph)
        known = len(store.by_name)
        with graph.name_scope(None), graph.control_dependencies(None):
            variable = store.get(
                name,
                self.reuse if reuse is None else reuse,
                shape,
                dtype,
                initializer,
                trainable=trainable,
                collections=collections,
                validate_shape=validate_shape,
                constraint=constraint if constraint is not None else self.constraint,
            )
            if regularizer is not None and len(store.by_name) > known:
                add_regularization(variable, name, regularizer)
        return variable


def _dtype(dtype: Any, initializer: Any, scope_dtype: DType) -> DType:
    """What was asked for, else the dtype of an initial value, else the scope's."""
    if dtype is not None:
        return as_dtype(dtype)
    if initializer is None or callable(initializer):
        return scope_dtype
    return initializer.dtype if is_tensor(initializer) else as_dtype(as_array(initializer).dtype)


def get_variable_scope() -> VariableScope:
    """The scope in force in the default graph."""
    store = SharedVariables.of(get_default_graph())
    if store.scope is None:
        store.scope = VariableScope(False)
    return store.scope  # type: ignore[no-any-return]


def get_variable(
    name: str,
    shape: Any = None,
    dtype: Any = None,
    initializer: Any = None,
    regularizer: Any = None,
    trainable: bool | None = None,
    collections: Any = None,
    caching_device: Any = None,
    partitioner: Any = None,
    validate_shape: bool = True,
    use_resource: bool | None = None,
    custom_getter: Callable[..., Any] | None = None,
    constraint: Any = None,
    synchronization: Any = None,
    aggregation: Any = None,
) -> Any:
    """The variable `name` of the current variable scope: a new one, or the one that exists where the scope reuses.

    Without an initializer, floats are glorot_uniform and other dtypes zeros.  Raises GraphError (a ValueError) for
    sharing that was not asked for, for what does not exist, and for a shape or dtype that differs.
    """
    scope = get_variable_scope()
    options = {
        "shape": shape,
        "dtype": dtype,
        "initializer": initializer,
        "regularizer": regularizer,
        "trainable": trainable,
        "collections": collections,
        "validate_shape": validate_shape,
        "constraint": constraint,
    }
    if custom_getter is None:
        return scope.get_variable(name, **options)
    return custom_getter(lambda full, *a, **k: scope._get(full, *a, **k), scope._full(name), **options)


def get_local_variable(name: str, *args: Any, **kwargs: Any) -> Any:
    """`get_variable` for a variable that is neither trained nor kept."""
    kwargs["collections"] = kwargs.get("collections") or [GraphKeys.LOCAL_VARIABLES]
    return get_variable(name, *args, **{**kwargs, "trainable": False})


class variable_scope:  # noqa: N801  (TensorFlow's name)
    """`with tf.variable_scope("layer") as scope:` prefixes variables and operations; see TensorFlow 1.

    name_or_scope: a name, or a VariableScope to enter again; None takes `default_name` made unique.
    reuse: True shares only, tf.AUTO_REUSE shares or makes, None and False inherit.
    """

    def __init__(
        self,
        name_or_scope: Any,
        default_name: str | None = None,
        values: Any = None,
        initializer: Any = None,
        regularizer: Any = None,
        caching_device: Any = None,
        partitioner: Any = None,
        custom_getter: Callable[..., Any] | None = None,
        reuse: Any = None,
        dtype: Any = None,
        use_resource: bool | None = None,
        constraint: Any = None,
        auxiliary_name_scope: bool = True,
    ) -> None:
        if name_or_scope is None and default_name is None:
            raise TypeError("If default_name is None then name_or_scope is required")
        if name_or_scope is not None and not isinstance(name_or_scope, str | VariableScope):
            raise TypeError(f"VariableScope: name_or_scope must be a string or VariableScope, not {name_or_scope!r}")
        if name_or_scope is None and reuse:
            raise ValueError("reuse=True cannot be used without a name_or_scope")
        self._name_or_scope, self._default_name, self._values = name_or_scope, default_name, values
        self._reuse, self._with_name_scope = reuse, auxiliary_name_scope
        self._settings = {
            "initializer": initializer,
            "regularizer": regularizer,
            "caching_device": caching_device,
            "partitioner": partitioner,
            "custom_getter": custom_getter,
            "dtype": None if dtype is None else as_dtype(dtype),
            "use_resource": use_resource,
            "constraint": constraint,
        }

    def __enter__(self) -> VariableScope:
        stack = self._stack = ExitStack()
        graph = _graph_of(self._values)
        stack.enter_context(graph.as_default())
        store, outer = SharedVariables.of(graph), get_variable_scope()
        inner = self._inner(store, outer)
        if self._with_name_scope:
            last = self._last_name(inner)
            opened = stack.enter_context(graph.name_scope(last)) if last else ""
            if not isinstance(self._name_or_scope, VariableScope):
                inner.original_name_scope = opened
        stack.callback(
            _restore, store, outer, self._counts(store, inner, not isinstance(self._name_or_scope, VariableScope))
        )
        store.scope = inner
        return inner

    def __exit__(
        self, kind: type[BaseException] | None, exception: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, exception, traceback)

    def _last_name(self, inner: VariableScope) -> str:
        """The name scope that goes with the variable scope."""
        if isinstance(self._name_or_scope, str):
            return self._name_or_scope
        if isinstance(self._name_or_scope, VariableScope):
            return self._name_or_scope.name.split("/")[-1]
        return self._default_name or ""

    def _inner(self, store: SharedVariables, outer: VariableScope) -> VariableScope:
        if isinstance(self._name_or_scope, VariableScope):
            inner = self._name_or_scope.copy()
            inner.reuse = self._name_or_scope.reuse if self._reuse is None else self._reuse
        else:
            inner = outer.copy()
            name = self._name_or_scope if self._name_or_scope is not None else self._unique(store, outer)
            inner.name = f"{outer.name}/{name}" if outer.name and name else outer.name or name
            inner.reuse = self._reuse or outer.reuse
        getter = self._settings["custom_getter"]
        inner.__dict__.update({key: value for key, value in self._settings.items() if value is not None})
        if getter is not None:
            inner.custom_getter = _nested(getter, outer.custom_getter)
        return inner

    def _unique(self, store: SharedVariables, outer: VariableScope) -> str:
        """`default_name`, with `_1`, `_2` ... where such a variable scope was opened before."""
        name = self._default_name or ""
        prefix = f"{outer.name}/" if outer.name else ""
        count = 0
        unique = name
        while store.opened.get(prefix + unique):
            count += 1
            unique = f"{name}_{count}"
        return unique

    @staticmethod
    def _counts(store: SharedVariables, inner: VariableScope, count: bool) -> dict[str, int]:
        """Note that the scope is opened; what is opened inside begins to count anew when it is left."""
        before = dict(store.opened)
        store.opened[inner.name] = store.opened.get(inner.name, 0) + 1
        return dict(store.opened) if count else before


def _restore(store: SharedVariables, outer: VariableScope, opened: dict[str, int]) -> None:
    store.scope = outer
    store.opened = opened


def _nested(inner: Callable[..., Any], outer: Callable[..., Any] | None) -> Callable[..., Any]:
    """A getter that hands on to the getter of the enclosing scope."""
    if outer is None:
        return inner
    return lambda getter, *args, **kwargs: inner(lambda *a, **k: outer(getter, *a, **k), *args, **kwargs)


def variable_op_scope(
    values: Any, name_or_scope: Any, default_name: str | None = None, **options: Any
) -> variable_scope:
    """`variable_scope` with its arguments in the order of TensorFlow 0."""
    return variable_scope(name_or_scope, default_name, values, **options)


def _graph_of(values: Any) -> Graph:
    return next((v.graph for v in values or () if hasattr(v, "graph")), get_default_graph())
