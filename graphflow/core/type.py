"""What is known of a tensor before a run: `TensorType(dtype, shape)`, and the rules by which shapes meet.

A shape is a tuple of sizes (`int` or symbolic `Dim`), or None where not even the rank is known.
While a user declares a graph, an unknown size is a symbol without a hint and is given the benefit of the doubt.
When a run is compiled every symbol carries the size that was fed, and shapes are decided for good.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TypeAlias

from graphflow.core.dim import Dim, Size, Symbol, atoms_of, fed, product
from graphflow.core.dtype import DType

__all__ = [
    "NeedsStatic",
    "Shape",
    "ShapeError",
    "TensorType",
    "broadcast_shapes",
    "is_static",
    "require",
    "same_shape",
    "same_size",
    "static",
]

Shape: TypeAlias = "tuple[Size, ...]"


class ShapeError(ValueError):
    """Types that do not fit; the graph adds the op's name, its inputs and the user's lines."""


class NeedsStatic(Exception):  # noqa: N818  (a request to the driver, not a failure)
    """Raised where a size must be a number: the run is then compiled for the values that were fed."""

    def __init__(self, size: Size) -> None:
        super().__init__(f"the size {size} must be known")
        self.symbols = tuple(a.key for a in atoms_of(size) if isinstance(a, Symbol))


@dataclass(frozen=True, slots=True)
class TensorType:
    """dtype and shape; `str` gives `float32[batch, 128]`."""

    dtype: DType
    shape: Shape | None

    @property
    def ndim(self) -> int:
        return len(self.dims)

    @property
    def dims(self) -> Shape:
        """The shape, where the rank must be known."""
        if self.shape is None:
            raise ShapeError("the rank of an input is unknown")
        return self.shape

    @property
    def size(self) -> Size:
        """Number of elements."""
        return product(self.dims)

    def with_shape(self, shape: Shape) -> TensorType:
        return replace(self, shape=tuple(shape))

    def with_dtype(self, dtype: DType) -> TensorType:
        return replace(self, dtype=dtype)

    def __str__(self) -> str:
        inside = "?" if self.shape is None else ", ".join(map(str, self.shape))
        return f"{self.dtype}[{inside}]"


def require(condition: bool, message: str) -> None:
    """Guard of an `infer` rule."""
    if not condition:
        raise ShapeError(message)


def has_hint(size: Size) -> bool:
    """Whether the size is a number, or had one when the run was compiled."""
    return not isinstance(size, Dim) or all(a.hint is not None for a in atoms_of(size) if isinstance(a, Symbol))


def is_static(shape: Shape | None) -> bool:
    return shape is not None and not any(isinstance(d, Dim) for d in shape)


def static(size: Size) -> int:
    """The size as a number; asks the driver to compile for it when it is symbolic."""
    if isinstance(size, Dim):
        raise NeedsStatic(size)
    return size


def same_size(x: Size, y: Size) -> Size | None:
    """The size that both are, preferring the better known one; None when they differ."""
    if x == y:
        return x
    if not isinstance(x, Dim) and not isinstance(y, Dim):
        return None
    if not (has_hint(x) and has_hint(y)):
        return x if not isinstance(x, Dim) else y
    if fed(x) != fed(y):
        return None
    raise NeedsStatic(x if isinstance(x, Dim) else y)  # equal this time: by chance or by law, nobody can tell


def same_shape(x: Shape, y: Shape) -> Shape | None:
    """The shape that both are; None when they differ."""
    if x == y:
        return x
    if len(x) != len(y):
        return None
    sizes = [same_size(a, b) for a, b in zip(x, y, strict=True)]
    return None if any(s is None for s in sizes) else tuple(s for s in sizes if s is not None)


def broadcast_shapes(*shapes: Shape) -> Shape:
    """NumPy's broadcasting; raises ShapeError when two sizes differ and neither is 1."""
    rank = max(map(len, shapes), default=0)
    result: list[Size] = [1] * rank
    for shape in shapes:
        for axis, size in enumerate(shape, rank - len(shape)):
            result[axis] = _broadcast_size(result[axis], size, shapes)
    return tuple(result)


def _broadcast_size(x: Size, y: Size, shapes: tuple[Shape, ...]) -> Size:
    if not isinstance(y, Dim) and y == 1:
        return x
    if not isinstance(x, Dim) and x == 1:
        return y
    size = same_size(x, y)
    if size is not None:
        return size
    for one in (x, y):
        if isinstance(one, Dim) and fed(one) == 1:
            raise NeedsStatic(one)  # fed as 1: this run broadcasts it
    texts = " and ".join(f"[{', '.join(map(str, s))}]" for s in shapes)
    raise ShapeError(f"shapes {texts} do not broadcast: sizes {_sized(x)} and {_sized(y)} differ and neither is 1")


def _sized(x: Size) -> str:
    return f"{x} (fed as {fed(x)})" if isinstance(x, Dim) else str(x)
