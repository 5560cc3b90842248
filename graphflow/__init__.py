"""graphflow: declare a dataflow graph with TensorFlow 1's names; LLVM compiles it; a session runs it.

    import graphflow as tf

    x = tf.placeholder(tf.float32, [None, 784])
    w = tf.Variable(tf.zeros([784, 10]))
    y = tf.matmul(x, w)
    with tf.Session() as sess:
        sess.run(tf.global_variables_initializer())
        print(sess.run(y, {x: images}))

Declaring needs NumPy only: the compiler is imported by the first Session, networkx by `to_networkx` and `show`.
"""

# Stars, because each module says itself what is public (`__all__`); F403: that is the intention.
from importlib import import_module as _import_module
from typing import TYPE_CHECKING
from typing import Any as _Any

from graphflow import array_ops, constant_ops, control_ops, initializers, math_ops, nn, random_ops, state_ops, train
from graphflow.array_ops import *  # noqa: F403
from graphflow.constant_ops import *  # noqa: F403
from graphflow.control_ops import *  # noqa: F403
from graphflow.core import errors
from graphflow.core.dtype import DType, as_dtype, float32, float64, int8, int16, int32, int64, uint8, uint32, uint64
from graphflow.core.dtype import bool_ as bool  # noqa: A004  (TensorFlow's name)
from graphflow.core.errors import GraphError, OpError
from graphflow.framework import collection as _collection
from graphflow.framework.collection import *  # noqa: F403
from graphflow.framework.config import ConfigProto, GPUOptions, GraphOptions, OptimizerOptions, RunMetadata, RunOptions
from graphflow.framework.default import get_default_graph, get_default_session, reset_default_graph
from graphflow.framework.gradients import AggregationMethod, gradients
from graphflow.framework.graph import Graph, Operation, Tensor
from graphflow.framework.keys import GraphKeys
from graphflow.framework.scopes import name_scope, op_scope
from graphflow.framework.shape import Dimension, TensorShape, dimension_value
from graphflow.framework.variables import Variable
from graphflow.initializers import Constant as constant_initializer  # noqa: N813  (TensorFlow's names)
from graphflow.initializers import GlorotNormal as glorot_normal_initializer  # noqa: N813
from graphflow.initializers import GlorotUniform as glorot_uniform_initializer  # noqa: N813
from graphflow.initializers import Ones as ones_initializer  # noqa: N813
from graphflow.initializers import RandomNormal as random_normal_initializer  # noqa: N813
from graphflow.initializers import RandomUniform as random_uniform_initializer  # noqa: N813
from graphflow.initializers import TruncatedNormal as truncated_normal_initializer  # noqa: N813
from graphflow.initializers import VarianceScaling as variance_scaling_initializer  # noqa: N813
from graphflow.initializers import Zeros as zeros_initializer  # noqa: N813
from graphflow.math_ops import *  # noqa: F403
from graphflow.random_ops import *  # noqa: F403
from graphflow.state_ops import *  # noqa: F403
from graphflow.variable_scope import (
    AUTO_REUSE,
    VariableScope,
    get_local_variable,
    get_variable,
    get_variable_scope,
    no_regularizer,
    variable_op_scope,
    variable_scope,
)

if TYPE_CHECKING:
    from graphflow.profiling import profile
    from graphflow.runtime.session import InteractiveSession, Session
    from graphflow.show import show

__version__ = "0.1.0"
VERSION = __version__
double = float64
math = math_ops

_LAZY = {
    "Session": "graphflow.runtime.session",
    "InteractiveSession": "graphflow.runtime.session",
    "profile": "graphflow.profiling",
    "show": "graphflow.show",
}
"""What is imported when it is first used."""

__all__ = [
    "AUTO_REUSE",
    "VERSION",
    "AggregationMethod",
    "ConfigProto",
    "DType",
    "Dimension",
    "GPUOptions",
    "Graph",
    "GraphError",
    "GraphKeys",
    "GraphOptions",
    "InteractiveSession",
    "OpError",
    "Operation",
    "OptimizerOptions",
    "RunMetadata",
    "RunOptions",
    "Session",
    "Tensor",
    "TensorShape",
    "Variable",
    "VariableScope",
    "__version__",
    "as_dtype",
    "bool",
    "constant_initializer",
    "dimension_value",
    "double",
    "errors",
    "float32",
    "float64",
    "get_default_graph",
    "get_default_session",
    "get_local_variable",
    "get_variable",
    "get_variable_scope",
    "glorot_normal_initializer",
    "glorot_uniform_initializer",
    "gradients",
    "initializers",
    "int8",
    "int16",
    "int32",
    "int64",
    "math",
    "name_scope",
    "nn",
    "no_regularizer",
    "ones_initializer",
    "op_scope",
    "profile",
    "random_normal_initializer",
    "random_uniform_initializer",
    "reset_default_graph",
    "show",
    "train",
    "truncated_normal_initializer",
    "uint8",
    "uint32",
    "uint64",
    "variable_op_scope",
    "variable_scope",
    "variance_scaling_initializer",
    "zeros_initializer",
]  # fmt: skip
__all__ += array_ops.__all__
__all__ += constant_ops.__all__
__all__ += control_ops.__all__
__all__ += math_ops.__all__
__all__ += random_ops.__all__
__all__ += state_ops.__all__
__all__ += _collection.__all__


def __getattr__(name: str) -> _Any:
    if name in _LAZY:
        return getattr(_import_module(_LAZY[name]), name)
    if name.startswith("__"):
        raise AttributeError(name)
    from graphflow.framework.lookup import nearest

    raise AttributeError(f"module 'graphflow' has no attribute '{name}'.{nearest(name, __all__)}")


def __dir__() -> list[str]:
    return sorted(__all__)
