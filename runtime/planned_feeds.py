"""Feeds of which only the shape matters: what `Session.plan` takes in place of values.

    shapes_for(graph, fetches, {x: (64, 784), y: labels})     ([x, y], [arrays of these shapes without memory])

A tuple of sizes or a tf.TensorShape is a shape, everything else a value, converted as a run converts it.  Placeholders
of known shape need not be given.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from graphflow.compiler.capture import needed
from graphflow.core.errors import InvalidArgumentError
from graphflow.framework.graph import Graph, Operation, Tensor
from graphflow.framework.shape import Dimension, TensorShape
from graphflow.runtime.feeding import Feed, feed_tensor

__all__ = ["shapes_for"]

Array = np.ndarray[Any, Any]


def shapes_for(
    graph: Graph, fetches: Sequence[Tensor | Operation], feed_dict: Mapping[Any, Any] | None
) -> tuple[list[Any], list[Array]]:
    """Keys of the feeds, and for each an array of its dtype and shape that takes no memory.

    InvalidArgumentError for shapes that do not fit, and for sizes that nobody gives: it names each.
    """
    given = {key: feed_tensor(graph, key) for key in feed_dict or {}}
    fed = dict.fromkeys(given.values())
    missing = [op.outputs[0] for op in needed(fetches, fed) if op.type == "Placeholder" and op.outputs[0] not in fed]
    shapes = {key: _shape(Feed(tensor), (feed_dict or {})[key]) for key, tensor in given.items()}
    shapes |= {tensor: tensor.type_.shape for tensor in missing}
    tensors = given | {tensor: tensor for tensor in missing}
    unknown = [text for key, shape in shapes.items() if (text := _unknown(tensors[key], shape))]
    if unknown:
        raise InvalidArgumentError(f"a run's memory depends on sizes that are not given: {'; '.join(unknown)}")
    return list(shapes), [_stand_in(tensors[key], shape) for key, shape in shapes.items()]


def _shape(feed: Feed, value: Any) -> tuple[Any, ...] | None:
    """The shape that stands for a feed, checked against its declaration; sizes may be None."""
    if isinstance(value, TensorShape):
        return None if value.ndims is None else feed.fitting(tuple(value.as_list()))
    if isinstance(value, tuple) and all(v is None or isinstance(v, int | np.integer | Dimension) for v in value):
        sizes = (v.value if isinstance(v, Dimension) else v for v in value)
        return feed.fitting(tuple(None if size is None else int(size) for size in sizes))
    return tuple(feed(value).shape)


def _unknown(tensor: Tensor, shape: tuple[Any, ...] | None) -> str:
    """What is not known of a feed's shape; nothing where all is."""
    where = f"'{tensor.name}' (declared at {tensor.op.source})"
    if shape is None:
        return f"the shape of {where}"
    axes = [str(axis) for axis, size in enumerate(shape) if not isinstance(size, int)]
    return f"{'axes' if len(axes) > 1 else 'axis'} {', '.join(axes)} of {where}" if axes else ""


def _stand_in(tensor: Tensor, shape: Any) -> Array:
    try:
        return np.broadcast_to(np.zeros((), tensor.dtype.numpy), shape)
    except ValueError as error:
        raise InvalidArgumentError(f"no array has the shape {shape} given for '{tensor.name}': {error}") from None
