"""Windows of 3 x 3 over an image, and the squares of 2 x 2 of their places: values only.

    windows = Windows(pixels=spec.m, window=spec.k)         # of a convolution
    windows = Windows(pixels=spec.k, window=spec.m)         # of the gradient of its filter
    windows.square_extents, windows.spacing

Windows of 3 x 3 x 3 are three *slices*.  Where windows are dilated the pixels of a square are as far apart as those of
a window, and squares lie between each other.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from graphflow.core.dim import Size, ceildiv, product

if TYPE_CHECKING:
    from graphflow.compiler.llvm.contract.contraction import Axis


@dataclass(frozen=True)
class Windows:
    """Where windows are and what they cover: [..., down, across] and [slices..., down, across, channels]."""

    pixels: tuple[Axis, ...]
    window: tuple[Axis, ...]

    @property
    def are_square(self) -> bool:
        """Whether they are of 3 x 3, one pixel of theirs apart, over channels that lie side by side in A."""
        if len(self.pixels) < 2 or len(self.window) < 3:
            return False
        *slices, down, across, channels = self.window
        if not all(isinstance(axis.extent, int) for axis in (*slices, channels)) or channels.a != 1:
            return False
        return down.extent == across.extent == 3 and all(self.spacing)

    @property
    def channels(self) -> int:
        """Of the image."""
        return whole_number(self.window[-1].extent)

    @property
    def slices(self) -> tuple[Axis, ...]:
        """The axes of a window around those of 3 x 3."""
        return self.window[:-3]

    @property
    def slice_count(self) -> int:
        """How many slices a window has."""
        return math.prod(whole_number(axis.extent) for axis in self.slices)

    @property
    def spacing(self) -> tuple[int, int]:
        """How many pixels further down, and across, the second pixel of a square is."""
        down, across = zip(self.pixels[-2:], self.window[-3:-1], strict=True)
        return spacing(*down), spacing(*across)

    @property
    def square_extents(self) -> tuple[Size, ...]:
        """How many squares there are along each axis of the pixels; the last ones may be halves or quarters."""
        *outer, down, across = (axis.extent for axis in self.pixels)
        return (*outer, squares_along(down, self.spacing[0]), squares_along(across, self.spacing[1]))

    @property
    def square_count(self) -> Size:
        """All squares."""
        return product(self.square_extents)


def spacing(pixels: Axis, window: Axis) -> int:
    """How many pixels are from one tap of a window to the next, 0 where that is no number known to divide them."""
    if pixels.a == window.a:
        return 1
    if not isinstance(pixels.extent, int) or not isinstance(pixels.a, int) or not isinstance(window.a, int):
        return 0
    return max(0, window.a // pixels.a) if pixels.a and window.a % pixels.a == 0 else 0


def squares_along(extent: Size, spacing: int) -> Size:
    """How many squares cover an axis, whose pixels are `spacing` apart."""
    if spacing == 1:
        return ceildiv(extent, 2)
    whole, left = divmod(whole_number(extent), 2 * spacing)
    return whole * spacing + min(left, spacing)


def whole_number(size: Size) -> int:
    """A size that is known."""
    assert isinstance(size, int)
    return size
