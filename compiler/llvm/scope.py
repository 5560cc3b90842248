"""Where code goes: a `Scope` is a loop body (or the function itself) that is still open at its end.

An expression is computed in the outermost scope that knows its variables, so what does not change in a loop is
computed before it.  A scope's builder stands before the loops inside of it until those are closed; that is why inner
code can still ask for outer values.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from llvmlite import ir

from graphflow.compiler.llvm.code import I64, PTR, add, at, const, is_const, mul, splat
from graphflow.core.dim import Dim, FloorDiv, Size, Symbol, atoms_of, coefficient

if TYPE_CHECKING:
    from graphflow.compiler.llvm.tile_ahead import BlockAhead, RowsAhead

__all__ = ["TURN", "Aside", "Function", "Lanes", "Scope", "loop_variables", "open_loop", "root_scope"]


TURN = Symbol("turn", bound=2)
"""Which of two rows of scratch a row keeps its values in."""

TURN_VAR = Dim((((TURN,), 1),))


ZEROS = ir.Constant(ir.VectorType(I64, 8), None)
"""As many bytes as a vector has on any target."""


@dataclass(frozen=True)
class Aside:
    """Where a tile's vectors go instead of their buffer: the first of them, and elements from one to the next."""

    start: Any
    stride: int


class Lanes:
    """How a loop is vectorised: variable, lanes of a vector, vectors at once, and the masks of valid lanes if any.

    The vectors follow each other along the lanes' own loop; with `tile`, each is another turn of that row loop.
    Stores to the buffer `stream` go past the caches: the address of each is a multiple of the vector's bytes, unless
    they go `aside` first.  A tile fetches `ahead` for a later one.
    """

    def __init__(
        self,
        symbol: Symbol,
        width: int,
        vectors: int,
        mask: Any = None,
        tile: Symbol | None = None,
        stream: int | None = None,
        ahead: BlockAhead | RowsAhead | None = None,
        aside: Aside | None = None,
    ) -> None:
        self.symbol, self.width, self.vectors, self.mask, self.tile = symbol, width, vectors, mask, tile
        self.stream, self.ahead, self.aside = stream, ahead, aside

    def varies(self, variables: Collection[Symbol]) -> bool:
        """Whether something of these variables differs between lanes or vectors."""
        return self.symbol in variables or (self.tile is not None and self.tile in variables)


class Function:
    """The kernel function that is being written."""

    def __init__(self, function: ir.Function, dims: Any, arguments: Sequence[Any], symbols: dict[str, int]) -> None:
        self.function, self.dims, self.arguments, self.symbols = function, dims, list(arguments), symbols
        self.fma = True
        self.avx512 = False
        self.width = 1  # lanes of vectors along reduced axes
        self.numbers: dict[str, Any] = {}  # values of symbols that are arguments
        self.totals: dict[Any, Any] = {}  # reductions whose values lie in memory already: Totals
        self.ahead: dict[Any, Any] = {}  # what reductions, and (None) elements, fetch ahead: loads
        self.beside: dict[Any, Any] = {}  # what else is done in the loop of a reduction, block by block
        self.side_by_side = False  # whether lanes are short rows, each reduced along itself
        self.turns: dict[int, Size] = {}  # scratch with room for two rows, and the elements of one
        self.nothing: Any = None  # where zeros, a vector of them, may be read where elements may not


class Scope:
    """One nesting level of code; `variables` are the loop variables that it binds."""

    def __init__(
        self, parent: Scope | None, builder: Any, variables: dict[Symbol, Any], lanes: Lanes | None, function: Function
    ) -> None:
        self.parent, self.builder, self.variables, self.lanes, self.function = (
            parent,
            builder,
            variables,
            lanes,
            function,
        )
        self.values: dict[Any, Any] = {}
        self.sizes: dict[Size, Any] = {}
        # The condition under which this scope runs, besides the lanes' mask: one, a list of masks, or a TurnGuard.
        self.guard: Any = None
        self.guard_of: tuple[frozenset[Symbol], ...] = ()  # the variables of each part of that condition

    def guards(self, variables: frozenset[Symbol]) -> bool:
        """Whether this scope's condition may be what lets an element with an index of these variables be read.

        A condition on an axis says nothing of other axes; one without variables may be on any, of one element.
        """
        return any(not own or own & variables for own in self.guard_of)

    def child(self, builder: Any, variables: dict[Symbol, Any], lanes: Lanes | None) -> Scope:
        """A scope inside of this one."""
        return Scope(self, builder, variables, lanes, self.function)

    def home(
        self, variables: frozenset[Symbol], loads: bool = False, wide: bool = False, masked: bool = False
    ) -> Scope:
        """The outermost scope in which an expression of these variables can be computed; with `wide`, as vectors where
        it differs between them; `masked`, under the masks of this scope."""
        scope = self
        while scope.parent is not None and not variables & scope.variables.keys():
            if (loads and scope.guards(variables)) or (wide and scope._begins_lanes(variables)):
                break
            if masked and scope.guard is not None:
                break
            scope = scope.parent
        return scope

    def _begins_lanes(self, variables: frozenset[Symbol]) -> bool:
        """Whether what differs between the vectors of this scope is one value outside of it."""
        begins = self.lanes is not None and (self.parent is None or self.parent.lanes is not self.lanes)
        return begins and self.lanes is not None and self.lanes.varies(variables)

    def variable(self, symbol: Symbol) -> Any:
        """The value of a loop variable (the first lane's, for the vectorised one)."""
        scope: Scope | None = self
        while scope is not None:
            if symbol in scope.variables:
                return scope.variables[symbol]
            scope = scope.parent
        raise KeyError(symbol.key)

    # sizes

    def kept_at(self, buffer: int, index: Size) -> Size:
        """Where a row keeps an element of scratch: every other row in the second half where there is room for two."""
        return index + self.function.turns[buffer] * TURN_VAR if buffer in self.function.turns else index

    def size(self, size: Size) -> Any:
        """A size or index as an i64, computed as far out as possible."""
        if not isinstance(size, Dim):
            return const(size)
        home = self.home(frozenset(loop_variables(size)))
        if home is not self:
            return home.size(size)
        if size not in self.sizes:
            self.sizes[size] = self._size(size)
        return self.sizes[size]

    def _size(self, size: Dim) -> Any:
        own = [(m, c) for m, c in size.terms if any(self._binds(a) for a in m)]
        rest = [(m, c) for m, c in size.terms if not any(self._binds(a) for a in m)]
        total = self.size(Dim(tuple(rest)) if any(m for m, _ in rest) else sum(c for _, c in rest)) if own else const(0)
        for monomial, c in own or rest:
            total = add(self.builder, total, self._monomial(monomial, c))
        return total

    def _binds(self, atom: Any) -> bool:
        if isinstance(atom, FloorDiv):
            return any(v in self.variables for part in (atom.numerator, atom.denominator) for v in loop_variables(part))
        return atom in self.variables

    def _monomial(self, monomial: Any, c: int) -> Any:
        value = const(c)
        for atom in monomial:
            value = mul(self.builder, value, self._atom(atom))
        return value

    def _atom(self, atom: Any) -> Any:
        if isinstance(atom, FloorDiv):
            return self._quotient(self.size(atom.numerator), self.size(atom.denominator))
        if atom.bound is not None:
            return self.variable(atom)
        if atom.key in self.function.numbers:
            return self.function.numbers[atom.key]
        slot = self.function.symbols[atom.key]
        return self.builder.load(at(self.builder, self.function.dims, const(slot), I64), typ=I64)

    def _quotient(self, x: Any, y: Any) -> Any:
        """Rounded down; x may be negative (a window before the first), y is positive."""
        b = self.builder
        if isinstance(x, ir.Constant) and isinstance(y, ir.Constant):
            return const(x.constant // max(y.constant, 1))
        quotient = b.sdiv(x, y)
        rest = b.sub(x, b.mul(quotient, y))
        return b.select(b.icmp_signed("<", rest, const(0)), b.sub(quotient, const(1)), quotient)

    # lanes

    def lane_offset(self, size: Size) -> tuple[Any, Any] | None:
        """(rest, step) of an index that is linear in the vectorised variable, as sizes; None where it is not."""
        assert self.lanes is not None
        step = coefficient(size, self.lanes.symbol)
        if step is None:
            return None
        variable = Dim((((self.lanes.symbol,), 1),))
        return size - variable * step, step

    def ramp(self, base: Any, step: Any, first: int) -> Any:
        """base + step * lane for the lanes from `first` on, as a vector of i64s."""
        assert self.lanes is not None
        width = self.lanes.width
        kind = ir.VectorType(I64, width)
        lanes = ir.Constant(kind, [first + n for n in range(width)])
        scaled = lanes if is_const(step, 1) else self.builder.mul(lanes, splat(self.builder, step, width))
        return self.builder.add(splat(self.builder, base, width), scaled)


def root_scope(b: Any, buffers: int, args: Any, dims: Any, symbols: dict[str, int], skip: int = 0) -> Scope:
    """The scope of a function, with the pointers of a kernel's buffers loaded; `skip` others stand before them."""
    pointers = [b.load(at(b, args, const(n + skip), PTR), typ=PTR) for n in range(buffers)]
    function = Function(b.function, dims, pointers, symbols)
    function.nothing = b.alloca(ZEROS.type)
    b.store(ZEROS, function.nothing)
    return Scope(None, b, {}, None, function)


def loop_variables(size: Size) -> list[Symbol]:
    """The loop variables in an index."""
    return [a for a in atoms_of(size) if isinstance(a, Symbol) and a.bound is not None]


class open_loop:  # noqa: N801  (reads as a statement)
    """with open_loop(scope, start, stop, step, symbol, initial) as loop: ... loop.scope ... loop.carry(values)

    A loop that carries values: `loop.carried` inside, `loop.results` after it.  Runs while variable < stop; runs not
    at all where start >= stop.
    """

    def __init__(
        self,
        parent: Scope,
        start: Any,
        stop: Any,
        step: int,
        symbol: Symbol | None,
        initial: Sequence[Any] = (),
        lanes: Lanes | None = None,
    ) -> None:
        self.parent, self.start, self.stop, self.step = parent, start, stop, step
        function = parent.builder.function
        self.header = function.append_basic_block("loop")
        self.exit = function.append_basic_block("after")
        builder = ir.IRBuilder(self.header)
        self.index = builder.phi(I64)
        self.phis = [builder.phi(v.type) for v in initial]
        self.initial = list(initial)
        variables = {} if symbol is None else {symbol: self.index}
        self.scope = parent.child(builder, variables, lanes)
        self.carried: list[Any] = list(self.phis)
        self.next: list[Any] = []
        self.results: list[Any] = []

    def __enter__(self) -> Self:
        return self

    def carry(self, values: Sequence[Any]) -> None:
        """The carried values of the next turn."""
        self.next = list(values)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            return
        b, outer = self.scope.builder, self.parent.builder
        following = b.add(self.index, const(self.step))
        before, last = outer.block, b.block
        b.cbranch(b.icmp_signed("<", following, self.stop), self.header, self.exit)
        surely = (
            isinstance(self.start, ir.Constant)
            and isinstance(self.stop, ir.Constant)
            and self.start.constant < self.stop.constant
        )
        if surely:
            outer.branch(self.header)
        else:
            outer.cbranch(outer.icmp_signed("<", self.start, self.stop), self.header, self.exit)
        self.index.add_incoming(self.start, before)
        self.index.add_incoming(following, last)
        for phi, first, new in zip(self.phis, self.initial, self.next, strict=True):
            phi.add_incoming(first, before)
            phi.add_incoming(new, last)
        outer.position_at_end(self.exit)
        for first, new in zip(self.initial, self.next, strict=True):
            result = outer.phi(new.type)
            result.add_incoming(new, last)
            if not surely:
                result.add_incoming(first, before)
            self.results.append(result)
