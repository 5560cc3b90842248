"""Shapes as users see them: `TensorShape` and `Dimension`, with TensorFlow 1's names and answers.

    >>> x = tf.placeholder(tf.float32, [None, 784])
    >>> x.shape.as_list(), x.shape[1].value, str(x.shape)
    ([None, 784], 784, '(?, 784)')

An unknown size is None here, and a symbol inside: `Dimension.size` keeps it, so that `tf.zeros([x.shape[0], 3])`
means "as many rows as x" where TensorFlow can only refuse.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import numpy as np

from graphflow.core.dim import Dim, Size
from graphflow.core.type import same_size

__all__ = ["Dimension", "TensorShape", "as_shape", "dimension_value"]

MaybeSize: TypeAlias = "Size | None"


def _size_of(value: Any) -> MaybeSize:
    if value is None or isinstance(value, Dim):
        return value
    if isinstance(value, Dimension):
        return value.size
    if isinstance(value, bool) or (isinstance(value, float | np.floating) and value != int(value)):
        raise TypeError(f"{value!r} is not the size of a dimension")
    size = int(value)
    if size < 0:
        raise ValueError(f"a dimension can't have the negative size {size}")
    return size


class Dimension:
    """One size: `value` is an int, or None where it is not known until a run."""

    __slots__ = ("size",)

    def __init__(self, value: Any) -> None:
        self.size = _size_of(value)

    @property
    def value(self) -> int | None:
        return None if isinstance(self.size, Dim) else self.size

    def _with(self, other: Any, compute: Callable[[Any, Any], Any]) -> Dimension:
        theirs = _size_of(other)
        return Dimension(None if self.size is None or theirs is None else compute(self.size, theirs))

    def _than(self, other: Any, compute: Callable[[int, int], bool]) -> bool | None:
        theirs = Dimension(other).value
        return None if self.value is None or theirs is None else compute(self.value, theirs)

    def __add__(self, other: Any) -> Dimension:
        return self._with(other, lambda a, b: a + b)

    __radd__ = __add__

    def __sub__(self, other: Any) -> Dimension:
        return self._with(other, lambda a, b: a - b)

    def __rsub__(self, other: Any) -> Dimension:
        return self._with(other, lambda a, b: b - a)

    def __mul__(self, other: Any) -> Dimension:
        return self._with(other, lambda a, b: a * b)

    __rmul__ = __mul__

    def __floordiv__(self, other: Any) -> Dimension:
        return self._with(other, lambda a, b: a // b)

    def __rfloordiv__(self, other: Any) -> Dimension:
        return self._with(other, lambda a, b: b // a)

    __div__ = __truediv__ = __floordiv__

    def __mod__(self, other: Any) -> Dimension:
        return self._with(other, lambda a, b: a % b)

    def __eq__(self, other: object) -> bool | None:  # type: ignore[override]  # None: not known, as in TensorFlow
        try:
            theirs = Dimension(other)
        except (TypeError, ValueError):
            return NotImplemented
        if isinstance(self.size, Dim) and self.size == theirs.size:
            return True
        return self._than(theirs, lambda a, b: a == b)

    def __ne__(self, other: object) -> bool | None:  # type: ignore[override]  # None: not known, as in TensorFlow
        equal = self == other
        return None if equal is None else not equal

    def __lt__(self, other: Any) -> bool | None:
        return self._than(other, lambda a, b: a < b)

    def __le__(self, other: Any) -> bool | None:
        return self._than(other, lambda a, b: a <= b)

    def __gt__(self, other: Any) -> bool | None:
        return self._than(other, lambda a, b: a > b)

    def __ge__(self, other: Any) -> bool | None:
        return self._than(other, lambda a, b: a >= b)

    def __hash__(self) -> int:
        return hash(self.value)

    def __int__(self) -> int:
        if self.value is None:
            raise TypeError("the size of this dimension is not known until a run; tf.shape(x)[axis] is its value then")
        return self.value

    __index__ = __int__

    def __str__(self) -> str:
        return "?" if self.value is None else str(self.value)

    def __repr__(self) -> str:
        return f"Dimension({self.value})"

    def is_compatible_with(self, other: Any) -> bool:
        theirs = Dimension(other).value
        return self.value is None or theirs is None or self.value == theirs

    def assert_is_compatible_with(self, other: Any) -> None:
        if not self.is_compatible_with(other):
            raise ValueError(f"Dimensions {self} and {other} are not compatible")

    def merge_with(self, other: Any) -> Dimension:
        """What both know; raises ValueError where they differ."""
        self.assert_is_compatible_with(other)
        theirs = _size_of(other)
        if self.size is None or theirs is None:
            return Dimension(theirs if self.size is None else self.size)
        return Dimension(same_size(self.size, theirs))


def dimension_value(value: Any) -> Any:
    """The int (or None) of a Dimension; anything else unchanged."""
    return value.value if isinstance(value, Dimension) else value


class TensorShape:
    """A tuple of dimensions, or nothing but "some shape" (`TensorShape(None)`)."""

    __slots__ = ("sizes",)

    def __init__(self, dims: Any) -> None:
        self.sizes: tuple[MaybeSize, ...] | None
        if dims is None:
            self.sizes = None
        elif isinstance(dims, TensorShape):
            self.sizes = dims.sizes
        elif isinstance(dims, str | bytes):
            raise TypeError(f"{dims!r} is not a shape")
        elif np.iterable(dims):
            self.sizes = tuple(_size_of(d) for d in dims)
        else:
            self.sizes = (_size_of(dims),)

    @property
    def dims(self) -> list[Dimension] | None:
        return None if self.sizes is None else [Dimension(s) for s in self.sizes]

    @property
    def ndims(self) -> int | None:
        return None if self.sizes is None else len(self.sizes)

    rank = ndims

    def _known(self, what: str) -> tuple[MaybeSize, ...]:
        if self.sizes is None:
            raise ValueError(f"{what} of a shape of unknown rank")
        return self.sizes

    def as_list(self) -> list[int | None]:
        """Sizes, None for unknown ones; raises ValueError where the rank is unknown."""
        if self.sizes is None:
            raise ValueError("as_list() is not defined on an unknown TensorShape.")
        return [None if isinstance(s, Dim) else s for s in self.sizes]

    def num_elements(self) -> int | None:
        if self.sizes is None or not self.is_fully_defined():
            return None
        count = 1
        for size in self.sizes:
            count *= int(size)  # type: ignore[arg-type]  # fully defined: all are int
        return count

    def is_fully_defined(self) -> bool:
        return self.sizes is not None and all(isinstance(s, int) for s in self.sizes)

    def assert_is_fully_defined(self) -> None:
        if not self.is_fully_defined():
            raise ValueError(f"Shape {self} is not fully defined")

    def is_compatible_with(self, other: Any) -> bool:
        """Whether one tensor could have both shapes."""
        other = as_shape(other)
        if self.sizes is None or other.sizes is None:
            return True
        pairs = zip(self.sizes, other.sizes, strict=False)
        return len(self.sizes) == len(other.sizes) and all(Dimension(a).is_compatible_with(b) for a, b in pairs)

    def assert_is_compatible_with(self, other: Any) -> None:
        if not self.is_compatible_with(other):
            raise ValueError(f"Shapes {self} and {as_shape(other)} are incompatible")

    def merge_with(self, other: Any) -> TensorShape:
        """What both know; raises ValueError where they differ."""
        other = as_shape(other)
        self.assert_is_compatible_with(other)
        if self.sizes is None or other.sizes is None:
            return other if self.sizes is None else self
        return TensorShape([Dimension(a).merge_with(b) for a, b in zip(self.sizes, other.sizes, strict=True)])

    def concatenate(self, other: Any) -> TensorShape:
        other = as_shape(other)
        return TensorShape(None if self.sizes is None or other.sizes is None else (*self.sizes, *other.sizes))

    def with_rank(self, rank: int) -> TensorShape:
        """This shape, of that rank; raises ValueError when it has another."""
        try:
            return self.merge_with(TensorShape([None] * rank))
        except ValueError:
            raise ValueError(f"Shape {self} must have rank {rank}") from None

    def assert_has_rank(self, rank: int) -> None:
        self.with_rank(rank)

    def with_rank_at_least(self, rank: int) -> TensorShape:
        if self.sizes is not None and len(self.sizes) < rank:
            raise ValueError(f"Shape {self} must have rank at least {rank}")
        return self

    def with_rank_at_most(self, rank: int) -> TensorShape:
        if self.sizes is not None and len(self.sizes) > rank:
            raise ValueError(f"Shape {self} must have rank at most {rank}")
        return self

    def __getitem__(self, key: Any) -> Any:
        if self.sizes is None:
            return TensorShape(None) if isinstance(key, slice) else Dimension(None)
        return TensorShape(self.sizes[key]) if isinstance(key, slice) else Dimension(self.sizes[key])

    def __len__(self) -> int:
        return len(self._known("the length"))

    def __iter__(self) -> Iterator[Dimension]:
        return (Dimension(s) for s in self._known("the dimensions"))

    def __bool__(self) -> bool:
        return self.sizes is not None

    def __add__(self, other: Any) -> TensorShape:
        return self.concatenate(other)

    def __radd__(self, other: Any) -> TensorShape:
        return as_shape(other).concatenate(self)

    def __eq__(self, other: object) -> bool:
        try:
            theirs = as_shape(other)
        except (TypeError, ValueError):
            return NotImplemented
        if self.sizes is None or theirs.sizes is None:
            return self.sizes is theirs.sizes
        return self.as_list() == theirs.as_list()

    def __hash__(self) -> int:
        return hash(None if self.sizes is None else tuple(self.as_list()))

    def __str__(self) -> str:
        if self.sizes is None:
            return "<unknown>"
        inside = ", ".join(str(Dimension(s)) for s in self.sizes)
        return f"({inside},)" if len(self.sizes) == 1 else f"({inside})"

    def __repr__(self) -> str:
        return f"TensorShape({self.dims})"


def as_shape(value: Any) -> TensorShape:
    """`value` as a TensorShape: None, an int, a sequence of sizes (None, int, Dimension), an array or a TensorShape."""
    return value if isinstance(value, TensorShape) else TensorShape(value)
