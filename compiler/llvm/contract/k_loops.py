"""Loops over the axes of k, with the sums in registers: `sum_over(code, element, axes, count, places, sums, inside)`.

What a step of k does is the caller's `inside`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from llvmlite import ir

from graphflow.compiler.llvm.code import Code, add, at, const, mul, sub

if TYPE_CHECKING:
    from graphflow.compiler.llvm.contract.contraction import Axis

Sums = list[ir.Value]
Places = tuple[ir.Value, ...]
Inside = Callable[..., Sums]


def sum_over(
    code: Code,
    element: ir.Type,
    axes: tuple[Axis, ...],
    count: ir.Value,
    places: Places,
    sums: Sums,
    inside: Inside,
    unroll: int = 1,
    sets: int = 1,
) -> Sums:
    """`sums` after `inside(a, b, sums)` for `count` steps of the outermost axis and all steps of the others.

    `places` are the addresses to start from: in A, in B, and perhaps in what else a tile needs.  `unroll`, a power of
    two, is how many steps of the innermost axis make a turn of its loop.  `sums` are as many `sets` of sums, which
    divide `unroll`; a step gets one of them.
    """
    if not axes:
        return inside(*places, sums)
    if len(axes) == 1 and unroll > 1:
        build = code.b
        many = build.and_(count, const(-unroll))
        all_of = several(code, element, axes[0], inside, unroll, sets)
        sums = turns(code, element, axes, many, places, sums, all_of, unroll)
        places = moved(code, element, axes[0], places, many)
        count = sub(build, count, many)
        inside = with_first(inside, sets)
    return turns(code, element, axes, count, places, sums, inside, 1, unroll, sets)


def moved(code: Code, element: ir.Type, axis: Axis, places: Places, by: ir.Value) -> Places:
    """The addresses `by` steps of an axis further on."""
    b = code.b
    strides = (axis.a, axis.b, axis.other)[: len(places)]
    return tuple(
        at(b, place, mul(b, by, code.size(stride)), element) for place, stride in zip(places, strides, strict=True)
    )


def several(code: Code, element: ir.Type, axis: Axis, inside: Inside, times: int, sets: int) -> Inside:
    """`inside` for `times` steps of an axis, which take turns with the sets of sums."""
    one = with_first(inside, sets)

    def all_of(*arguments: Any) -> Sums:
        places: Places = arguments[:-1]
        sums: Sums = arguments[-1]
        for i in range(times):
            sums = one(*moved(code, element, axis, places, const(i)), sums)
            sums = [*sums[len(sums) // sets :], *sums[: len(sums) // sets]] if sets > 1 else sums
        return sums

    return all_of


def with_first(inside: Inside, sets: int) -> Inside:
    """`inside` for the first of several sets of sums."""

    def one(*arguments: Any) -> Sums:
        *places, sums = arguments
        count = len(sums) // sets
        return [*inside(*places, sums[:count]), *sums[count:]]

    return one if sets > 1 else inside


def turns(
    code: Code,
    element: ir.Type,
    axes: tuple[Axis, ...],
    count: ir.Value,
    places: Places,
    sums: Sums,
    inside: Inside,
    steps: int,
    unroll: int = 1,
    sets: int = 1,
) -> Sums:
    """As `sum_over`; a turn of the loop is `steps` steps of the outermost axis."""
    build = code.b
    before = build.block
    body, after = build.append_basic_block("k"), build.append_basic_block("k.end")
    build.cbranch(build.icmp_signed(">", count, const(0)), body, after)
    build.position_at_end(body)
    phis = [build.phi(x.type) for x in (count, *places, *sums)]
    left, now, sums_now = phis[0], tuple(phis[1 : 1 + len(places)]), phis[1 + len(places) :]
    for phi, value in zip(phis, (count, *places, *sums), strict=True):
        phi.add_incoming(value, before)
    inner = code.size(axes[1].extent) if len(axes) > 1 else const(1)
    sums_next = sum_over(code, element, axes[1:], inner, now, list(sums_now), inside, unroll, sets)
    following = moved(code, element, axes[0], now, const(steps))
    left_next = add(build, left, const(-steps))
    for phi, value in zip(phis, (left_next, *following, *sums_next), strict=True):
        phi.add_incoming(value, build.block)
    build.cbranch(build.icmp_signed(">", left_next, const(0)), body, after)
    last = build.block
    build.position_at_end(after)
    results = []
    for begun, finished in zip(sums, sums_next, strict=True):
        result = build.phi(begun.type)
        result.add_incoming(begun, before)
        result.add_incoming(finished, last)
        results.append(result)
    return results
