"""The gradient of a filter of 3 x 3 taps by Winograd's minimal filtering, and how it is cut into units: values only.

F(3x3, 2x2) of Lavin & Gray (arXiv:1509.09308): the gradients of 3 x 3 taps for a channel in and one out are a sum over
all squares of 2 x 2 results, of the correlation of a square's 4 x 4 pixels with its 2 x 2 gradients.  That takes 16
products of what both are transformed to, where 36 are needed otherwise, and since the transform back is linear only the
sums need it.  So a unit is 16 matrix products, one for each *place* of the transformed pieces: [channels, squares] by
[squares, columns].

Squares go by in blocks, whose transforms stay in L2.  A block is transformed and multiplied in *passes*, each for some
of the places, so that it can be long: sums are read and written once a block.

`gradient_choose.gradient_plan` decides.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from graphflow.compiler.llvm.winograd.plan import PLACES, apart
from graphflow.compiler.llvm.winograd.windows import Windows, whole_number
from graphflow.core.dim import Size, product

if TYPE_CHECKING:
    from graphflow.compiler.llvm.contract.contraction import Contraction
    from graphflow.compiler.llvm.contract.plan import Plan

TAPS = 9
"""Of a slice of a filter."""


@dataclass(frozen=True)
class GradientPlan:
    """A gradient and its cut into units: `channel_block` channels of a slice, `column_block` column panels, and one of
    the parts of all squares, in blocks of `squares`.

    `products` are those of a block of squares: rows are channels, k are squares, A is the transformed image in scratch
    and B the transformed gradients.  `results` is the contraction as such, which says where rows of results go and into
    how many parts its sums are split.
    """

    spec: Contraction
    products: Plan
    results: Plan
    channel_block: int
    column_block: int
    squares: int
    passes: int

    @property
    def windows(self) -> Windows:
        """Of the image."""
        return Windows(self.spec.k, self.spec.m)

    @property
    def columns(self) -> int:
        """Channels of the gradients."""
        return whole_number(self.spec.n.extent)

    @property
    def groups(self) -> Size:
        """How many gradients of the same sizes there are, of images and results of their own."""
        return product(tuple(axis.extent for axis in self.spec.batch))

    @property
    def channel_blocks(self) -> int:
        """Units beside each other that have the same slice, columns and squares."""
        return -(-self.windows.channels // self.channel_block)

    @property
    def column_blocks(self) -> int:
        """Units that have the same channels and squares."""
        return -(-whole_number(self.products.column_panels) // self.column_block)

    @property
    def units(self) -> Size:
        """All units."""
        blocks = self.windows.slice_count * self.channel_blocks * self.column_blocks
        return self.groups * (self.results.splits * blocks)

    @property
    def pass_places(self) -> int:
        """Places of a pass."""
        return PLACES // self.passes

    @property
    def image_row(self) -> int:
        """Elements from one transformed square of an image to the next."""
        return whole_number(self.products.k[0].a)

    @property
    def gradient_row(self) -> int:
        """The same of gradients."""
        return whole_number(self.products.k[0].b)

    @property
    def image_place(self) -> int:
        """Elements from one place of a block's transformed image to the next."""
        return apart(self.squares * self.image_row, self.products.bytes)

    @property
    def gradient_place(self) -> int:
        """The same of its gradients."""
        return apart(self.squares * self.gradient_row, self.products.bytes)

    @property
    def panel_elements(self) -> int:
        """Sums of a place of a column panel: [row][width], of whole tiles."""
        rows = -(-self.channel_block // self.products.rows) * self.products.rows
        return rows * self.products.width

    @property
    def sum_place(self) -> int:
        """Elements from one place of a unit's sums to the next."""
        return apart(self.column_block * self.panel_elements, self.products.bytes)
