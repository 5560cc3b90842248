"""Random tensors; the same program with the same seeds gives the same numbers, on any machine and number of threads.

With `tf.set_random_seed`, an operation's numbers follow from that seed, its own `seed` or else its name, and the number
of the run in its session: adding other operations does not change them.  Without any seed they differ every time.
"""

from __future__ import annotations

from typing import Any

from graphflow.core.dtype import as_dtype, float32
from graphflow.core.op import OPS
from graphflow.framework.convert import as_tensor, is_tensor
from graphflow.framework.default import get_default_graph
from graphflow.framework.scopes import name_scope
from graphflow.framework.sizes import sizes_of
from graphflow.framework.tensor import Tensor
from graphflow.ops.random import UNSEEDED, seed_of

__all__ = ["get_seed", "random_normal", "random_uniform", "set_random_seed", "truncated_normal"]

DEFAULT_GRAPH_SEED = 87654321  # TensorFlow's


def set_random_seed(seed: int) -> None:
    """The seed of the default graph."""
    get_default_graph().seed = int(seed)


def get_seed(op_seed: int | None, name: str = "") -> tuple[int, int]:
    """The two seeds of an operation: the graph's and its own; without either, every session has numbers of its own."""
    graph_seed = get_default_graph().seed
    own = seed_of(name) if op_seed is None else int(op_seed)
    if graph_seed is None and op_seed is None:
        return UNSEEDED, own
    return (DEFAULT_GRAPH_SEED if graph_seed is None else graph_seed), own


def _random(op: str, shape: Any, dtype: Any, seed: int | None, scope: str, *parameters: Any) -> Tensor:
    wanted = as_dtype(dtype)
    values = [as_tensor(p, wanted) for p in parameters]
    seeds = get_seed(seed, scope[:-1])
    return OPS[op](*values, shape=sizes_of(shape), dtype=wanted, seed=seeds, name=scope)  # type: ignore[no-any-return]


def _scaled(op: str, shape: Any, dtype: Any, seed: int | None, scope: str, mean: Any, stddev: Any) -> Tensor:
    """Numbers of a law with that mean and deviation; where one of them is a tensor, gradients go to it."""
    if not (is_tensor(mean) or is_tensor(stddev)):
        return _random(op, shape, dtype, seed, scope, mean, stddev)
    standard = _random(op, shape, dtype, seed, f"{scope}{op}/", 0.0, 1.0)
    return OPS["Add"](OPS["Mul"](standard, stddev), mean, name=scope)  # type: ignore[no-any-return]


def random_normal(
    shape: Any,
    mean: Any = 0.0,
    stddev: Any = 1.0,
    dtype: Any = float32,
    seed: int | None = None,
    name: str | None = None,
) -> Tensor:
    """Normally distributed numbers."""
    with name_scope(name, "random_normal") as scope:
        return _scaled("RandomStandardNormal", shape, dtype, seed, scope, mean, stddev)


def truncated_normal(
    shape: Any,
    mean: Any = 0.0,
    stddev: Any = 1.0,
    dtype: Any = float32,
    seed: int | None = None,
    name: str | None = None,
) -> Tensor:
    """Normally distributed numbers within two standard deviations of the mean."""
    with name_scope(name, "truncated_normal") as scope:
        return _scaled("TruncatedNormal", shape, dtype, seed, scope, mean, stddev)


def random_uniform(
    shape: Any,
    minval: Any = 0,
    maxval: Any = None,
    dtype: Any = float32,
    seed: int | None = None,
    name: str | None = None,
) -> Tensor:
    """Uniformly distributed numbers in [minval, maxval); maxval is 1 for floats and must be given for integers."""
    wanted = as_dtype(dtype)
    if maxval is None:
        if wanted.is_integer:
            raise ValueError(f"Must specify maxval for integer dtype {wanted}")
        maxval = 1
    with name_scope(name, "random_uniform") as scope:
        return _random("RandomUniform", shape, wanted, seed, scope, minval, maxval)
