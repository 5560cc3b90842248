"""How a contraction is cut into tiles, panels and units: values only.

A *tile* is `rows` x `vectors * lanes` results held in registers.  A row panel is what a tile covers of m, a column
panel what it covers of n.  A *unit* of work is `row_block` row panels times `column_block` column panels, for one
batch index and one part of a split k.  `choose.make_plan` decides.
"""

from __future__ import annotations

from dataclasses import dataclass

from graphflow.compiler.llvm.contract.contraction import Axis, Contraction
from graphflow.core.dim import Size, ceildiv, estimate, product

# Rows of the small tile that finishes a symbolic number of rows.
SMALL_ROWS = 4


@dataclass(frozen=True)
class Group:
    """Adjacent m axes that act as one: `extent` steps of `a` elements; `parts` are the extents of the axes merged."""

    extent: Size
    a: Size
    parts: tuple[Size, ...]


@dataclass(frozen=True)
class Prefetch:
    """At each step of k ask for the `width` elements that "a" or "b" has `steps` strides further on.

    They come to L1, or with a `locality` of 2 to L2.
    """

    operand: str
    steps: int
    stride: Size
    width: int
    locality: int = 3


@dataclass(frozen=True)
class Ask:
    """Before each row panel ask for the lines of operand 0 or 1 that lie `ahead` elements beyond its part of them.

    A row's part is `row` elements long.
    """

    operand: int
    ahead: int
    row: int


@dataclass(frozen=True)
class Plan:
    """All decisions about one contraction; see the module's docstring for the words.

    `staged`: how A reaches the tile: "" read where it is, "rows" copied row by row to scratch (k contiguous there),
    "columns" copied as [k][rows], "panels" copied as [k][rows] by a launch of its own.
    `masked`: how the tile reads B beyond n: "" never, "constant", "dynamic".
    `dots`: how many columns a block of dot products along k has, 0 where lanes run along n.
    `sweep`: how many rows of B a tile adds at once to sums that wait in L1; 0 where sums stay in registers.
    `inline`: tiles are written into the loop over units, and their vectors go to the epilogue straight from registers.
    A unit is `batch_block` batch indices, for which it packs B, or `row_block` row panels of one.
    `local`: a unit packs each block of a column panel into scratch itself, just before its row panels read it.
    `asks`: what inline code asks for before each row panel.
    `asks_ahead`: some tiles of a column panel ask for what its unit packs next.
    `asks_beside`: while a tile computes the last of its sums, memory is asked for what the epilogue reads beside them.
    `k_blocks`: blocks of k that a unit goes through one after the other, its sums staying in scratch.
    `row_table`: where each row of the only row panel starts in A, if the rows have no common stride.
    `tile_k` are the k axes as the tile sees them, with strides in the copies where A is staged or B packed.
    """

    spec: Contraction
    lanes: int
    bytes: int
    batch: tuple[Axis, ...]
    groups: tuple[Group, ...]
    k: tuple[Axis, ...]
    rows: int
    vectors: int
    staged: str
    packed: bool
    masked: str
    splits: int
    pack_splits: int
    row_block: int
    column_block: int
    tile_k: tuple[Axis, ...]
    has_fma: bool
    dots: int = 0
    sweep: int = 0
    inline: bool = False
    local: bool = False
    batch_block: int = 1
    k_blocks: int = 1
    row_table: tuple[int, ...] = ()
    prefetches: tuple[Prefetch, ...] = ()
    asks: tuple[Ask, ...] = ()
    asks_ahead: bool = False
    asks_beside: bool = False

    @property
    def width(self) -> int:
        """Columns of a tile."""
        return self.lanes * self.vectors

    @property
    def whole_columns(self) -> bool:
        """Whether it is known that all column panels are whole."""
        return isinstance(self.spec.n.extent, int) and self.spec.n.extent % self.width == 0

    @property
    def run(self) -> Group:
        """The innermost group of rows: a tile read in place lies within one run."""
        return self.groups[-1]

    @property
    def row_count(self) -> Size:
        """m as one number."""
        return product(tuple(g.extent for g in self.groups))

    @property
    def depth(self) -> Size:
        """k as one number."""
        return product(tuple(axis.extent for axis in self.k))

    @property
    def batch_count(self) -> Size:
        """How many independent products there are."""
        return product(tuple(axis.extent for axis in self.batch))

    @property
    def gathered(self) -> bool:
        """Whether staging makes all rows one run."""
        return self.staged in ("rows", "panels")

    @property
    def may_be_short(self) -> bool:
        """Whether a run may have fewer rows than a tile: small tiles take what is left."""
        return not self.gathered and not isinstance(self.run.extent, int)

    @property
    def panels_per_run(self) -> Size:
        """Row panels of one run."""
        return ceildiv(self.row_count if self.gathered else self.run.extent, self.rows)

    @property
    def row_panels(self) -> Size:
        """Row panels of one batch index."""
        if self.gathered:
            return self.panels_per_run
        return product(tuple(g.extent for g in self.groups[:-1])) * self.panels_per_run

    @property
    def column_panels(self) -> Size:
        """Column panels of one batch index."""
        return ceildiv(self.spec.n.extent, self.width)

    @property
    def edge_vectors(self) -> int:
        """Vectors of the last column panel that have columns, as far as that is known."""
        if not isinstance(self.spec.n.extent, int) or not isinstance(self.column_panels, int):
            return self.vectors
        left = self.spec.n.extent - (self.column_panels - 1) * self.width
        return -(-left // self.lanes)

    @property
    def row_blocks(self) -> Size:
        """Units along m."""
        return ceildiv(self.row_panels, self.row_block)

    @property
    def column_blocks(self) -> Size:
        """Units along n."""
        return ceildiv(self.column_panels, self.column_block)

    @property
    def packed_batch(self) -> Size:
        """How many B there are to pack: one, if it is the same for every batch index."""
        return product(tuple(axis.extent for axis in self.batch if axis.b != 0))

    @property
    def packed_elements(self) -> Size:
        """Elements of B packed by a launch of its own: [batch][column panel][k][width]."""
        if not self.packs_first:
            return 0
        return self.packed_batch * self.column_panels * self.depth * self.width

    @property
    def packs_first(self) -> bool:
        """Whether B is packed by a launch of its own."""
        return self.packed and not (self.local or self.packs_inline)

    @property
    def in_units(self) -> bool:
        """Whether each product is computed in one unit."""
        return self.row_blocks == self.column_blocks == 1

    @property
    def packs_inline(self) -> bool:
        """Whether inline code packs B before it multiplies: where one unit computes all that reads it."""
        return self.packed and self.inline and self.in_units

    @property
    def packing(self) -> tuple[object, ...]:
        """How packed B lies, and where it comes from: contractions that are equal in this can share it."""
        spec, moving = self.spec, tuple((axis.extent, axis.b) for axis in self.batch if axis.b != 0)
        k = tuple((axis.extent, axis.b) for axis in self.k)
        return spec.dtype, spec.b_offset, moving, (spec.n.extent, spec.n.b), k, self.width

    @property
    def panel_elements(self) -> Size:
        """Elements of A in the workspace: [batch][part of k][row panel][k][rows]."""
        return self.batch_count * self.row_panels * self.depth * self.rows if self.staged == "panels" else 0

    @property
    def partial_columns(self) -> Size:
        """Elements in a row of a partial result."""
        return ceildiv(self.spec.n.extent, self.lanes) * self.lanes

    @property
    def partial_elements(self) -> Size:
        """Elements of all partial results: [split][batch][row][partial_columns]."""
        rows = self.batch_count * self.row_count
        return self.splits * rows * self.partial_columns if self.splits > 1 else 0

    @property
    def k_step(self) -> int:
        """What parts and blocks of k are multiples of, so that vectors along k do not straddle cache lines."""
        return self.lanes if self.dots and len(self.tile_k) == 1 else 1

    @property
    def block_depth(self) -> int:
        """The most steps of k that a unit takes in one go; of a symbolic k it is an estimate."""
        return -(-estimate(self.depth) // (self.splits * self.k_blocks))

    @property
    def asked_lines(self) -> int:
        """Lines that a step of a column panel lies in, wherever it begins: a unit's tiles ask for the next one's."""
        return -(-self.width * self.bytes // 64) + 1

    @property
    def tile_asks(self) -> int:
        """For how many of them one tile asks; all do below the first, which packs, until none is left."""
        return -(-self.asked_lines // (self.row_block - 1)) if self.asks_ahead else 0

    @property
    def slot(self) -> int:
        """Elements for the sums of a tile, or of the small tiles that take its place."""
        return (self.rows + (SMALL_ROWS if self.may_be_short else 0)) * self.width

    @property
    def stage_stride(self) -> int:
        """Elements between rows ("rows") or between steps of k of staged A."""
        if self.staged in ("columns", "panels"):
            return self.rows
        # An odd number of cache lines, so that the rows of a panel fall into different cache sets.
        lines = -(-int(estimate(self.depth)) * self.bytes // 64)
        return (lines + 1 - lines % 2) * 64 // self.bytes

    @property
    def stage_parts(self) -> int:
        """Parts of k in which A lies in the workspace, each with all its row panels: a unit reads along them."""
        return self.splits * self.k_blocks if len(self.k) == 1 else 1

    @property
    def stage_elements(self) -> int:
        """Elements of staged A, or of B packed by inline code, in each worker's scratch."""
        if self.packs_inline:
            return int(estimate(self.column_panels * self.depth)) * self.width
        if self.local:
            return self.block_depth * self.width
        if self.staged not in ("rows", "columns"):
            return 0
        steps = self.rows if self.staged == "rows" else int(estimate(self.depth))
        return steps * self.stage_stride

    @property
    def tile_elements(self) -> int:
        """Elements of finished tiles in each worker's scratch: one, or all of a unit where k has blocks."""
        tiles = self.row_block * self.column_block if self.k_blocks > 1 else 1
        return tiles * self.slot

    @property
    def row_stride(self) -> Size:
        """Elements between rows of A as the tile reads it."""
        if self.staged == "rows":
            return self.stage_stride
        return 1 if self.staged in ("columns", "panels") else self.run.a
