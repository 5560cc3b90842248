"""A convolution by Winograd's minimal filtering and how it is cut into units: values only.

F(2x2, 3x3) of Lavin & Gray, "Fast Algorithms for Convolutional Neural Networks" (arXiv:1509.09308, equations 8 to 12):
a *square* of 2 x 2 results takes 16 products of a transformed piece of 4 x 4 pixels with a transformed filter, where 36
are needed otherwise.  The transforms are additions.  So a unit, some squares and some columns of results, is 16 matrix
products, one for each *place* of the transformed pieces: [squares, depth] by [depth, columns].  The depth is that of
the channels of one *slice*, or of several: windows of 3 x 3 x 3 are three slices, whose products are added as those of
more channels would be.  Groups are products of their own.  Where windows are dilated the pixels of a square are as far
apart as those of a window, and squares lie between each other.

`choose.winograd_plan` decides.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from graphflow.compiler.llvm.contract.contraction import Contraction
from graphflow.compiler.llvm.contract.plan import Plan
from graphflow.compiler.llvm.winograd.windows import Windows, whole_number
from graphflow.core.dim import Size, ceildiv, product

PLACES = 16
"""Elements of a transformed piece of an image, or of a transformed filter."""


@dataclass(frozen=True)
class WinogradPlan:
    """A convolution and its cut into units of `squares` squares, with all their channels, and `column_block` panels.

    `products` are those of one unit: its batch are the places, its rows squares, its A the transformed image in
    scratch, its B the transformed filter, packed as [group][column panel][place][slice][channel][width].  `taps` is the
    convolution itself for some channels of a slice, as the filter is copied before it is transformed.
    """

    spec: Contraction
    products: Plan
    taps: Plan
    squares: int
    column_block: int

    @property
    def windows(self) -> Windows:
        """Of the image."""
        return Windows(self.spec.m, self.spec.k)

    @property
    def slice_row(self) -> int:
        """Elements of one slice of a transformed square at one place: its channels, whole vectors of them."""
        return -(-self.windows.channels // self.products.lanes) * self.products.lanes

    @property
    def depth(self) -> int:
        """Channels of all slices."""
        return self.windows.slice_count * self.windows.channels

    @property
    def groups(self) -> Size:
        """How many convolutions of the same sizes there are, of images and filters of their own."""
        return product(tuple(axis.extent for axis in self.spec.batch))

    @property
    def row_blocks(self) -> Size:
        """Units beside each other that have the same columns."""
        return ceildiv(self.windows.square_count, self.squares)

    @property
    def column_blocks(self) -> Size:
        """Units that have the same squares."""
        return ceildiv(self.products.column_panels, self.column_block)

    @property
    def units(self) -> Size:
        """All units."""
        return self.groups * self.row_blocks * self.column_blocks

    @property
    def unit_flops(self) -> int:
        """Of the products of a unit."""
        return 2 * PLACES * self.squares * self.depth * self.column_block * self.products.width

    @property
    def image_place(self) -> int:
        """Elements from one place of the transformed squares of a unit to the next."""
        return whole_number(self.products.batch[0].a)

    @property
    def sum_place(self) -> int:
        """The same of their results, of one column panel."""
        return apart(self.squares * self.products.width, self.products.bytes)

    @property
    def filter_place(self) -> int:
        """The same of the transformed filter, of one column panel."""
        return apart(self.depth * self.products.width, self.products.bytes)

    @property
    def filter_group(self) -> int:
        """Elements of the transformed filter of a group."""
        return whole_number(self.products.column_panels) * PLACES * self.filter_place

    @property
    def packed_bytes(self) -> Size:
        """Of the transformed filters."""
        return self.groups * (self.filter_group * self.products.bytes)

    @property
    def tap_channels(self) -> int:
        """Channels whose taps are copied at once; they divide all."""
        return whole_number(self.taps.k[-1].extent)

    @property
    def tap_elements(self) -> int:
        """Elements of the taps that are copied at once, of one column panel."""
        return 9 * self.tap_channels * self.products.width

    @property
    def packing(self) -> tuple[object, ...]:
        """How the transformed filter lies, and where it comes from: convolutions equal in this can share it."""
        return ("winograd", *replace(self.taps, spec=self.spec, batch=self.spec.batch, k=self.spec.k).packing)


def apart(elements: int, size: int) -> int:
    """So many elements or a few more, an odd number of cache lines: what lies so far apart shares few cache sets."""
    lines = -(-elements * size // 64)
    return (lines + 1 - lines % 2) * 64 // size
