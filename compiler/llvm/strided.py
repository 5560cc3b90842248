"""Tiny rows side by side: vectors of a lane a row from whole vectors of memory, and back, by shuffles.

Sixteen rows of three are three vectors of memory.  `deinterleave` makes of them one vector of the first elements, one
of the second and one of the third; `interleave` is its inverse.  Even numbers are halved, as in a transposition.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir

from graphflow.compiler.llvm.code import I32

__all__ = ["deinterleave", "interleave"]


def deinterleave(b: Any, flat: list[Any]) -> list[Any]:
    """Vector n of the result holds the elements n, n + s, n + 2s, ... of the s vectors that follow each other."""
    count, width = len(flat), flat[0].type.count
    if count % 2:
        return [_picked(b, flat, [lane * count + n for lane in range(width)]) for n in range(count)]
    pairs = list(zip(flat[::2], flat[1::2], strict=True))
    halves = [
        [_shuffled(b, low, high, [2 * lane + odd for lane in range(width)]) for low, high in pairs] for odd in (0, 1)
    ]
    even, odd = (deinterleave(b, half) for half in halves)
    return [x for pair in zip(even, odd, strict=True) for x in pair]


def interleave(b: Any, columns: list[Any]) -> list[Any]:
    """The vectors of memory whose elements n, n + s, n + 2s, ... are column n."""
    count, width = len(columns), columns[0].type.count
    if count % 2:
        places = [divmod(n, count) for n in range(count * width)]
        order = [column * width + row for row, column in places]
        return [_picked(b, columns, order[n * width : (n + 1) * width]) for n in range(count)]
    even, odd = (interleave(b, columns[start::2]) for start in (0, 1))
    halves = [[half // 2 + lane // 2 + lane % 2 * width for lane in range(width)] for half in (0, width)]
    return [_shuffled(b, x, y, half) for x, y in zip(even, odd, strict=True) for half in halves]


def _picked(b: Any, sources: list[Any], order: list[int]) -> Any:
    """The elements with these numbers of the sources, taken as one long vector; a lane's source changes rarely."""
    width = len(order)
    result = sources[0]
    for n, source in enumerate(sources):
        own = [i // width == n for i in order]
        if not any(own) and n:
            continue
        if n == 0:
            result = _shuffled(b, source, source, [i if mine else 0 for i, mine in zip(order, own, strict=True)])
            continue
        lanes = [width + i % width if mine else lane for lane, (i, mine) in enumerate(zip(order, own, strict=True))]
        result = _shuffled(b, result, source, lanes)
    return result


def _shuffled(b: Any, x: Any, y: Any, lanes: list[int]) -> Any:
    return b.shuffle_vector(x, y, ir.Constant(ir.VectorType(I32, len(lanes)), lanes))
