"""Random numbers from a counter: Philox4x32-10 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3").

Element i of the n-th draw of an op depends on (graph seed, op seed, n, i) only: not on threads, fusion or other ops.
n is a hidden variable of the session, one for each seed pair.  It starts at 0; where the user gave no seed, at a number
that is another one in every session, so that programs without seeds are the same program in every process.
"""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np

from graphflow.core.dim import Size
from graphflow.core.dtype import DType, as_dtype, float32, int64
from graphflow.core.node import Node, make_node
from graphflow.core.op import Op, case
from graphflow.core.type import Shape, TensorType, require, static
from graphflow.ops.elementwise import cast, cos, erfinv, log, sqrt
from graphflow.ops.state import CaptureContext, StateOp
from graphflow.ops.view import broadcast_to, ravel

UNSEEDED = 1 << 32
"""As the graph's seed: there is none.  Seeds have 32 bits, so nobody's is this one."""

TWO_PI = 6.283185307179586


class RandomBits(Op):
    """Uniform numbers in [0, 1): input the draw number (int64 scalar); attrs seed (two ints), stream, shape, dtype.

    float32 has 24 random bits, float64 has 53; integer dtypes get 32 or 64 bits as they are.
    """

    cost = 60
    fold = False
    differentiable = False
    cases = (
        case(np.int64(3), seed=(1, 2), stream=0, shape=(3, 5), dtype=float32),
        case(np.int64(0), seed=(7, 9), stream=1, shape=(4,), dtype=as_dtype("float64")),
        case(np.int64(0), seed=(7, 9), stream=1, shape=(4,), dtype=as_dtype("uint32")),
    )

    def infer(self, draw: TensorType, *, seed: tuple[int, int], stream: int, shape: Shape, dtype: DType) -> TensorType:
        require(draw.dtype is int64 and draw.ndim == 0, f"the draw number is an int64 scalar, not {draw}")
        return TensorType(dtype, shape)

    def eval(self, draw: Any, *, seed: tuple[int, int], stream: int, shape: Shape, dtype: DType) -> Any:
        sizes = tuple(map(static, shape))
        count = int(np.prod(sizes))
        at = np.arange(count, dtype=np.uint64)
        words = philox(at, np.uint64(draw), np.uint64(stream), seed)
        return from_words(words, dtype).reshape(sizes)

    def index(
        self, k: Any, i: tuple[Size, ...], draw: Any, *, seed: tuple[int, int], stream: int, shape: Shape, dtype: DType
    ) -> Any:
        return k.random(ravel(i, shape), draw[()], seed=seed, stream=stream, dtype=dtype)


def philox(at: Any, draw: Any, stream: Any, seed: tuple[int, int]) -> list[Any]:
    """The four 32-bit words (as uint64) at counter (at mod 2^32, at / 2^32 + stream * 2^28, draw low, draw high)."""
    low = np.uint64(0xFFFFFFFF)
    zero = np.zeros_like(at)
    counter = [
        at & low,
        (at >> np.uint64(32)) + zero + (stream << np.uint64(28)),
        zero + (draw & low),
        zero + (draw >> np.uint64(32)),
    ]
    key = [np.uint64(seed[0] & 0xFFFFFFFF), np.uint64(seed[1] & 0xFFFFFFFF)]
    for _ in range(10):
        a, b = counter[0] * np.uint64(0xD2511F53), counter[2] * np.uint64(0xCD9E8D57)
        counter = [
            (b >> np.uint64(32)) ^ counter[1] ^ key[0],
            b & low,
            (a >> np.uint64(32)) ^ counter[3] ^ key[1],
            a & low,
        ]
        key = [(key[0] + np.uint64(0x9E3779B9)) & low, (key[1] + np.uint64(0xBB67AE85)) & low]
    return counter


def from_words(words: list[Any], dtype: DType) -> Any:
    """Random words as numbers of a dtype."""
    if dtype is float32:
        return ((words[0] >> np.uint64(8)).astype(np.float32) * np.float32(2.0**-24)).astype(np.float32)
    wide = (words[1] << np.uint64(32)) | words[0]
    if dtype.is_floating:
        return ((wide >> np.uint64(11)).astype(np.float64) * 2.0**-53).astype(dtype.numpy)
    return (wide if dtype.size == 8 else words[0]).astype(dtype.numpy)


random_bits = RandomBits()


class RandomOp(StateOp):
    """A random operation of the user's graph.  attrs shape, dtype, seed: two ints; inputs: parameters of the law."""

    def __init__(self, name: str, doc: str, law: Any) -> None:
        self.name, self.doc, self._law = name, doc, law
        super().__init__()

    def infer(self, *types: TensorType, shape: Shape, dtype: DType, seed: tuple[int, int]) -> TensorType:
        for t in types:
            require(t.dtype is dtype, f"a parameter is {t.dtype}, the numbers are {dtype}")
        return TensorType(dtype, shape)

    def capture(self, cx: CaptureContext, operation: Any, inputs: list[Node], **attrs: Any) -> Any:
        attrs = attrs or dict(operation.attrs)
        seed, shape, dtype = attrs["seed"], attrs["shape"], attrs["dtype"]
        draw = cx.draw(seed)

        def uniform(stream: int, as_: DType = dtype) -> Node:
            return make_node(random_bits, (draw,), {"seed": seed, "stream": stream, "shape": shape, "dtype": as_})

        return self._law(uniform, *(broadcast_to(x, shape=shape) if x.shape != shape else x for x in inputs))


def _uniform(uniform: Any, low: Node, high: Node) -> Node:
    """low + (high - low) * u; integers by the remainder of 32 random bits, or of 64 where they have as many."""
    if low.dtype.is_floating:
        return uniform(0) * (high - low) + low  # type: ignore[no-any-return]
    bits = cast(uniform(0, as_dtype("uint64" if low.dtype.size == 8 else "uint32")), dtype=int64)
    wide_low, wide_high = cast(low, dtype=int64), cast(high, dtype=int64)
    return cast(bits % (wide_high - wide_low) + wide_low, dtype=low.dtype)  # type: ignore[no-any-return]


def _normal(uniform: Any, mean: Node, stddev: Node) -> Node:
    """Box & Muller 1958: sqrt(-2 log(1 - u)) cos(2 pi v)."""
    return sqrt(log(1 - uniform(0)) * -2) * cos(uniform(1) * TWO_PI) * stddev + mean  # type: ignore[no-any-return]


ERF_SQRT2 = 0.9544997361036416  # erf(2 / sqrt 2): the mass within two standard deviations


def _truncated(uniform: Any, mean: Node, stddev: Node) -> Node:
    """Within two standard deviations, by the inverse of the distribution function: sqrt 2 erfinv(c (2 u - 1))."""
    return erfinv((uniform(0) * 2 - 1) * ERF_SQRT2) * 1.4142135623730951 * stddev + mean  # type: ignore[no-any-return]


random_uniform = RandomOp("RandomUniform", "Uniform in [low, high).  Inputs: low, high.", _uniform)
random_normal = RandomOp("RandomStandardNormal", "Normal.  Inputs: mean, stddev.", _normal)
truncated_normal = RandomOp(
    "TruncatedNormal", "Normal within two standard deviations.  Inputs: mean, stddev.", _truncated
)


def seed_of(name: str) -> int:
    """A seed from an operation's name, so that other operations do not change its numbers."""
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=4).digest(), "little")
