"""Sizes and indices that may be unknown until a run: integer polynomials in symbols.

    >>> batch = symbol("batch")
    >>> batch * 320 // 320
    Dim(batch)
    >>> (batch * 4 + 3) // 4
    Dim(batch)

A size is an `int` or a `Dim` (`Size`).  Arithmetic folds to `int` as soon as no symbol is left, so that code
which computes sizes reads the same for both.  The loop compiler uses the same algebra for indices: a loop variable is
a symbol with a `bound` (0 <= i < bound), which is what lets `(i * n + j) // n` become `i`.
Division rounds toward minus infinity, as Python's does; `x % n` is `x - n * (x // n)`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeAlias

__all__ = [
    "Atom",
    "Dim",
    "FloorDiv",
    "Size",
    "Symbol",
    "atoms_of",
    "ceildiv",
    "coefficient",
    "estimate",
    "estimate_large",
    "evaluate",
    "fed",
    "product",
    "substitute",
    "symbol",
    "upper_bound",
]

Size: TypeAlias = "int | Dim"

UNSEEN, LEAST = 64, 8
"""What a symbol is taken for where cost decides: the first for one that has no hint; the second at the least, since a
batch that was 1 at first will not stay so, and code for 8 serves 1 as well as code for 1 serves 8 badly."""


@dataclass(frozen=True)
class Atom:
    """What a polynomial is made of; ordered and identified by `key`."""

    key: str


@dataclass(frozen=True)
class Symbol(Atom):
    """A number known at run time only: a dimension, or a loop variable when it has a `bound`.

    `hint` is the value seen when the graph was compiled; None while the user is still declaring the graph.
    Both are part of its identity: interned nodes and expressions of another program must not bring theirs along.
    """

    hint: int | None = None
    bound: int | Dim | None = None


@dataclass(frozen=True)
class FloorDiv(Atom):
    """A quotient that the algebra could not simplify; the denominator is not negative."""

    numerator: Dim
    denominator: int | Dim


Monomial = tuple[Atom, ...]


def _monomial_key(monomial: Monomial) -> tuple[int, str]:
    return -len(monomial), "*".join(a.key for a in monomial)


class Dim:
    """An immutable polynomial with integer coefficients and at least one symbol."""

    __slots__ = ("_hash", "terms")

    def __init__(self, terms: tuple[tuple[Monomial, int], ...]) -> None:
        self.terms = terms
        self._hash = hash(terms)

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Dim) and self._hash == other._hash and self.terms == other.terms

    def __add__(self, other: int | Dim) -> int | Dim:
        return _add(self, other, 1)

    __radd__ = __add__

    def __sub__(self, other: int | Dim) -> int | Dim:
        return _add(self, other, -1)

    def __rsub__(self, other: int | Dim) -> int | Dim:
        return _add(_multiply(self, -1), other, 1)

    def __neg__(self) -> int | Dim:
        return _multiply(self, -1)

    def __mul__(self, other: int | Dim) -> int | Dim:
        return _multiply(self, other)

    __rmul__ = __mul__

    def __floordiv__(self, other: int | Dim) -> int | Dim:
        return _floordiv(self, other)

    def __rfloordiv__(self, other: int | Dim) -> int | Dim:
        return _floordiv(other, self)

    def __mod__(self, other: int | Dim) -> int | Dim:
        return self - other * _floordiv(self, other)

    def __rmod__(self, other: int | Dim) -> int | Dim:
        return other - self * _floordiv(other, self)

    def __str__(self) -> str:
        parts: list[str] = []
        for monomial, coefficient_ in self.terms:
            sign = "-" if coefficient_ < 0 else "+"
            factors = [a.key for a in monomial]
            if abs(coefficient_) != 1 or not factors:
                factors.insert(0, str(abs(coefficient_)))
            text = "*".join(factors)
            parts += [sign, text] if parts or sign == "-" else [text]
        return " ".join(parts).replace("- ", "-", 1) if parts[0] == "-" else " ".join(parts)

    def __repr__(self) -> str:
        return f"Dim({self})"

    def __bool__(self) -> bool:
        raise TypeError(f"the size {self} is not known yet, so it has no truth value")

    def estimate(self) -> int:
        """A number for cost decisions."""
        return evaluate(self, {}, default=True)


def symbol(name: str, hint: int | None = None, bound: int | Dim | None = None) -> Dim:
    """A size of one symbol."""
    return Dim(((((Symbol(name, hint, bound)),), 1),))


def _of_atom(atom: Atom) -> Dim:
    return Dim((((atom,), 1),))


def _make(terms: Mapping[Monomial, int]) -> int | Dim:
    kept = [(m, c) for m, c in terms.items() if c]
    if not kept:
        return 0
    if len(kept) == 1 and not kept[0][0]:
        return kept[0][1]
    kept.sort(key=lambda term: _monomial_key(term[0]))
    return Dim(tuple(kept))


def _terms(x: int | Dim) -> tuple[tuple[Monomial, int], ...]:
    return x.terms if isinstance(x, Dim) else (((), int(x)),)


def _add(x: int | Dim, y: int | Dim, sign: int) -> int | Dim:
    if not isinstance(y, Dim) and y == 0:
        return x
    total = dict(_terms(x))
    for monomial, c in _terms(y):
        total[monomial] = total.get(monomial, 0) + sign * c
    return _make(total)


def _multiply(x: int | Dim, y: int | Dim) -> int | Dim:
    if not isinstance(y, Dim):
        if y == 1:
            return x
        return _make({m: c * int(y) for m, c in _terms(x)})
    total: dict[Monomial, int] = {}
    for mx, cx in _terms(x):
        for my, cy in y.terms:
            monomial = tuple(sorted((*mx, *my), key=lambda a: a.key)) if mx and my else (mx or my)
            total[monomial] = total.get(monomial, 0) + cx * cy
    return _make(total)


def _divide_monomial(monomial: Monomial, divisor: Monomial) -> Monomial | None:
    left = list(monomial)
    for atom in divisor:
        if atom not in left:
            return None
        left.remove(atom)
    return tuple(left)


def _floordiv(x: int | Dim, y: int | Dim) -> int | Dim:
    if not isinstance(x, Dim) and not isinstance(y, Dim):
        return x // y
    if not isinstance(y, Dim) and y == 1:
        return x
    if x == y:
        return 1
    if not isinstance(x, Dim) and x == 0:
        return 0
    divisor = _terms(y)
    if len(divisor) == 1 and divisor[0][1] < 0:
        return _floordiv(-x, -y)
    if len(divisor) != 1:
        return 0 if _below(x, y) else _quotient_atom(x, y)
    (dm, dc), exact, rest = divisor[0], {}, {}
    for monomial, c in _terms(x):
        left = _divide_monomial(monomial, dm)
        if left is None or (c % dc and c // dc == 0):
            rest[monomial] = c
            continue
        whole, remainder = divmod(c, dc)
        exact[left] = whole
        if remainder:
            rest[monomial] = remainder
    remaining = _make(rest)
    if not isinstance(remaining, Dim) and not isinstance(y, Dim):
        return _make(exact) + remaining // y
    if (not isinstance(remaining, Dim) and remaining == 0) or _below(remaining, y):
        return _make(exact)
    return _make(exact) + _quotient_atom(remaining, y)


def _quotient_atom(x: int | Dim, y: int | Dim) -> int | Dim:
    numerator = x if isinstance(x, Dim) else Dim((((), x),))
    return _of_atom(FloorDiv(f"({x})//({y})" if isinstance(y, Dim) else f"({x})//{y}", numerator, y))


def _below(x: int | Dim, y: int | Dim) -> bool:
    """Whether 0 <= x < y can be proven from the bounds of x's loop variables."""
    top = upper_bound(x)
    if top is None:
        return False
    gap = _add(y, top, -1)
    return not isinstance(gap, Dim) and gap > 0


def upper_bound(x: int | Dim) -> int | Dim | None:
    """The largest value of a non-negative polynomial of bounded variables; None when it can't be told."""
    divisor = _divisor(x)
    if divisor is not None:
        return divisor - 1
    total: int | Dim = 0
    for monomial, c in _terms(x):
        if c < 0:
            return None
        factor: int | Dim = c
        for atom in monomial:
            top = _atom_bound(atom)
            if top is None:
                return None
            factor = factor * top
        total = total + factor
    return total


def _divisor(x: int | Dim) -> int | None:
    """The n of a remainder, y - n * (y // n)."""
    for monomial, c in _terms(x):
        if len(monomial) == 1 and isinstance(q := monomial[0], FloorDiv) and q.denominator == -c:
            return -c if _add(x, _multiply(_of_atom(q), c), -1) == q.numerator else None
    return None


def _atom_bound(atom: Atom) -> int | Dim | None:
    if isinstance(atom, Symbol):
        return None if atom.bound is None else atom.bound - 1 if atom.bound != 0 else 0
    if isinstance(atom, FloorDiv):
        top = upper_bound(atom.numerator)
        return None if top is None else top // atom.denominator
    return None


def ceildiv(x: int | Dim, y: int | Dim) -> int | Dim:
    """x / y rounded up."""
    return (x + (y - 1)) // y


def product(sizes: tuple[int | Dim, ...]) -> int | Dim:
    """The product of sizes; 1 for none."""
    total: int | Dim = 1
    for size in sizes:
        total = size * total
    return total


def estimate(x: int | Dim) -> int:
    """A number for cost decisions: the value itself; for symbols what was fed, and `LEAST` at the least."""
    return x.estimate() if isinstance(x, Dim) else x


def estimate_large(x: int | Dim) -> int:
    """The same where too little costs more than too much, as in cutting work into parts: symbols are `UNSEEN` at the
    least, whatever the first run had."""
    if not isinstance(x, Dim):
        return x
    known = {a.key: max(a.hint or 0, UNSEEN) for a in atoms_of(x) if isinstance(a, Symbol)}
    return evaluate(x, known, default=True)


def fed(x: int | Dim) -> int:
    """The value itself, or the one seen at compile time: what this run's types are decided by."""
    if not isinstance(x, Dim):
        return x
    return evaluate(x, {a.key: a.hint for a in atoms_of(x) if isinstance(a, Symbol) and a.hint is not None}, True)


def evaluate(x: int | Dim, values: Mapping[str, int], default: bool = False) -> int:
    """The value of x with its symbols bound by name; `default`: as `estimate` for what `values` lacks."""
    if not isinstance(x, Dim):
        return x
    total = 0
    for monomial, c in x.terms:
        for atom in monomial:
            c *= _atom_value(atom, values, default)
        total += c
    return total


def _atom_value(atom: Atom, values: Mapping[str, int], default: bool) -> int:
    if isinstance(atom, FloorDiv):
        denominator = evaluate(atom.denominator, values, default)
        return evaluate(atom.numerator, values, default) // max(denominator, 1)
    if atom.key in values:
        return values[atom.key]
    if not default:
        raise KeyError(atom.key)
    hint = atom.hint if isinstance(atom, Symbol) else None
    return UNSEEN if hint is None else max(hint, LEAST)


def atoms_of(x: int | Dim) -> Iterator[Atom]:
    """Every atom in x, those inside quotients too."""
    for monomial, _ in _terms(x):
        for atom in monomial:
            yield atom
            if isinstance(atom, FloorDiv):
                yield from atoms_of(atom.numerator)
                yield from atoms_of(atom.denominator)


def coefficient(x: int | Dim, atom: Atom) -> int | Dim | None:
    """c such that x = c * atom + rest with no atom in c or rest; None where x is not linear in it."""
    total: dict[Monomial, int] = {}
    for monomial, c in _terms(x):
        rest = list(monomial)
        if atom in rest:
            rest.remove(atom)
            total[tuple(rest)] = c
        elif any(atom in atoms_of(_of_atom(a)) for a in rest):
            return None
        if any(atom in atoms_of(_of_atom(a)) for a in rest):
            return None
    return _make(total)


def substitute(x: int | Dim, replace: Callable[[Atom], int | Dim | None]) -> int | Dim:
    """x with atoms replaced; `replace` answers None for what stays."""
    total: int | Dim = 0
    for monomial, c in _terms(x):
        factor: int | Dim = c
        for atom in monomial:
            factor = factor * _replaced(atom, replace)
        total = total + factor
    return total


def _replaced(atom: Atom, replace: Callable[[Atom], int | Dim | None]) -> int | Dim:
    new = replace(atom)
    if new is not None:
        return new
    if isinstance(atom, FloorDiv):
        return substitute(atom.numerator, replace) // substitute(atom.denominator, replace)
    return _of_atom(atom)
