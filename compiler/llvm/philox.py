"""Philox4x32-10, the counter-based random generator, as LLVM code and as NumPy code that gives the same bits.

A counter of 128 bits and a key of 64 bits become four independent words of 32 random bits: no state, so any element of
a random tensor can be computed by any thread. (J. K. Salmon, M. A. Moraes, R. O. Dror, D. E. Shaw, "Parallel random
numbers: as easy as 1, 2, 3", SC 2011.)

    >>> [hex(word) for word in philox4x32_reference((0, 0, 0, 0), (0, 0))]
    ['0x6627e8d5', '0xe169c58d', '0xbc57ac4c', '0x9b00dbd8']
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from llvmlite import ir

from graphflow.compiler.llvm.mathlib.basis import Value

ROUNDS = 10
MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
# What the key grows by each round: the golden ratio and sqrt(3) - 1.
KEY_STEPS = (0x9E3779B9, 0xBB67AE85)

Words = tuple[Value, Value, Value, Value]
WordArray = npt.NDArray[np.uint32]
WordArrays = tuple[WordArray, WordArray, WordArray, WordArray]


def philox4x32(builder: Any, counter: Words, key: tuple[Value, Value]) -> Words:
    """Emit ten rounds: four random words for a counter (lowest word first) and a key, all `i32` or all `<N x i32>`."""
    (x0, x1, x2, x3), (k0, k1) = counter, key
    for round_number in range(ROUNDS):
        if round_number > 0:
            k0 = builder.add(k0, constant(k0.type, KEY_STEPS[0]))
            k1 = builder.add(k1, constant(k1.type, KEY_STEPS[1]))
        high0, low0 = wide_product(builder, x0, MULTIPLIERS[0])
        high1, low1 = wide_product(builder, x2, MULTIPLIERS[1])
        x0, x1 = builder.xor(builder.xor(high1, x1), k0), low1
        x2, x3 = builder.xor(builder.xor(high0, x3), k1), low0
    return x0, x1, x2, x3


def wide_product(builder: Any, x: Value, factor: int) -> tuple[Value, Value]:
    """The high and the low word of the 64-bit product."""
    wide = with_width(x.type, 64)
    product = builder.mul(builder.zext(x, wide), constant(wide, factor))
    high = builder.trunc(builder.lshr(product, constant(wide, 32)), x.type)
    return high, builder.trunc(product, x.type)


def with_width(kind: Any, bits: int) -> Any:
    """`kind`, an integer or a vector of integers, with integers of `bits`."""
    element = ir.IntType(bits)
    return ir.VectorType(element, kind.count) if isinstance(kind, ir.VectorType) else element


def constant(kind: Any, number: int) -> Any:
    """The unsigned `number`, in every lane if `kind` is a vector."""
    if isinstance(kind, ir.VectorType):
        return ir.Constant(kind, [constant(kind.element, number)] * kind.count)
    # LLVM prints and reads constants as signed.
    return ir.Constant(kind, number - (1 << kind.width) if number >> (kind.width - 1) else number)


def philox4x32_reference(counter: Sequence[npt.ArrayLike], key: Sequence[npt.ArrayLike]) -> WordArrays:
    """What `philox4x32` computes, in NumPy: four words of counter, two of key, uint32 arrays that broadcast."""
    x0, x1, x2, x3 = (np.asarray(word, np.uint32) for word in counter)
    k0, k1 = (np.asarray(word, np.uint32) for word in key)
    for round_number in range(ROUNDS):
        if round_number > 0:
            k0, k1 = wrapping_sum(k0, KEY_STEPS[0]), wrapping_sum(k1, KEY_STEPS[1])
        product0, product1 = x0.astype(np.uint64) * MULTIPLIERS[0], x2.astype(np.uint64) * MULTIPLIERS[1]
        x0, x1 = high_word(product1) ^ x1 ^ k0, low_word(product1)
        x2, x3 = high_word(product0) ^ x3 ^ k1, low_word(product0)
    return x0, x1, x2, x3


def wrapping_sum(x: WordArray, step: int) -> WordArray:
    """x + step modulo 2**32; in 64 bits, because NumPy warns when a scalar wraps."""
    return low_word(x.astype(np.uint64) + np.uint64(step))


def high_word(x: npt.NDArray[np.uint64]) -> WordArray:
    return np.asarray(x >> np.uint64(32), np.uint32)


def low_word(x: npt.NDArray[np.uint64]) -> WordArray:
    return np.asarray(x & np.uint64(0xFFFFFFFF), np.uint32)
