"""Random numbers as code: words of Philox, made into uniform floats or integers."""

from __future__ import annotations

from typing import Any

from llvmlite import ir

from graphflow.compiler.llvm.code import I32, I64
from graphflow.compiler.llvm.philox import philox4x32
from graphflow.compiler.llvm.scope import Scope
from graphflow.compiler.llvm.values import Values
from graphflow.core.dtype import DType, float32

__all__ = ["random_number"]


def random_number(scope: Scope, index: Any, draw: Any, seed: tuple[int, int], stream: int, dtype: DType) -> Any:
    """The number at an index (or a vector of them) of a draw; ops/random.py has the layout of the counter."""
    b = scope.builder
    k = Values(b, fma=scope.function.fma, avx512=scope.function.avx512)
    word = k.like(index, I32)
    (at_low, at_high), (draw_low, draw_high) = (_words(k, x, word) for x in (index, draw))
    second = b.add(at_high, k.constant(word, (stream << 28) & 0xFFFFFFFF))
    key = (k.constant(word, seed[0] & 0xFFFFFFFF), k.constant(word, seed[1] & 0xFFFFFFFF))
    words = philox4x32(b, (at_low, second, draw_low, draw_high), key)
    if dtype is float32:
        kind = k.like(index, ir.FloatType())
        return b.fmul(b.uitofp(b.lshr(words[0], k.constant(word, 8)), kind), k.constant(kind, 2.0**-24))
    if not dtype.is_floating and dtype.size <= 4:
        return words[0]
    whole = k.like(index, I64)
    wide = b.or_(b.shl(b.zext(words[1], whole), k.constant(whole, 32)), b.zext(words[0], whole))
    if not dtype.is_floating:
        return wide
    kind = k.like(index, ir.DoubleType())
    return b.fmul(b.uitofp(b.lshr(wide, k.constant(whole, 11)), kind), k.constant(kind, 2.0**-53))


def _words(k: Values, x: Any, word: Any) -> tuple[Any, Any]:
    """The low and the high half of an i64."""
    return k.builder.trunc(x, word), k.builder.trunc(k.builder.lshr(x, k.constant(x.type, 32)), word)
