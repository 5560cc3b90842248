"""Products of integers of every width: those of 32 and 64 bits by register-blocked code, the others by plain loops."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import graphflow as tf

DTYPES = ["int8", "int16", "int32", "int64", "uint8", "uint32", "uint64"]


def values(*shape: int, dtype: str, seed: int) -> Any:
    return np.random.default_rng(seed).integers(0, 120, shape).astype(dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("m, k, n", [(3, 3, 3), (40, 33, 17), (1, 300, 5), (64, 64, 64)])
def test_products_of_integers_wrap_around(dtype: str, m: int, k: int, n: int) -> None:
    """And what is computed from them takes them as integers of that width, with or without a sign."""
    a, b, c = values(m, k, dtype=dtype, seed=0), values(k, n, dtype=dtype, seed=1), values(n, dtype=dtype, seed=2)
    with tf.Graph().as_default(), tf.Session() as session:
        x, y, z = (tf.placeholder(dtype, v.shape) for v in (a, b, c))
        found = session.run(tf.matmul(x, y) // (z + 1), {x: a, y: b, z: c})
        ((_, executable),) = session.compiled()
    np.testing.assert_array_equal(found, (a @ b) // (c + 1).astype(dtype))
    contracts = [s.kernel.contract is not None for s in executable.plan.steps]
    assert any(contracts) == (np.dtype(dtype).itemsize >= 4)
