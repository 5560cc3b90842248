"""Arrays for the cases of op declarations: deterministic, small, away from the kinks of functions."""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["bits", "integers", "normal", "positive", "spaced", "uniform"]

FloatArray = np.ndarray[Any, np.dtype[np.float64]]


def normal(*shape: int, seed: int = 0) -> FloatArray:
    """Standard normal numbers."""
    return np.random.default_rng(seed + 17).standard_normal(shape)


def positive(*shape: int, seed: int = 0) -> FloatArray:
    """Numbers in [0.2, 2.2)."""
    return np.random.default_rng(seed + 23).random(shape) * 2 + 0.2


def uniform(low: float, high: float, *shape: int, seed: int = 0) -> FloatArray:
    """Numbers in [low, high)."""
    return np.random.default_rng(seed + 29).random(shape) * (high - low) + low


def spaced(*shape: int, seed: int = 0) -> FloatArray:
    """Different numbers at least 0.1 apart and 0.05 from zero: no ties, so maxima have derivatives."""
    count = int(np.prod(shape))
    order: FloatArray = np.random.default_rng(seed + 31).permutation(count).astype(np.float64)
    return ((order - count // 2) * 0.1 + 0.05).reshape(shape)


def integers(low: int, high: int, *shape: int, seed: int = 0) -> np.ndarray[Any, np.dtype[np.int32]]:
    """int32 numbers in [low, high)."""
    return np.random.default_rng(seed + 37).integers(low, high, shape).astype(np.int32)


def bits(*shape: int, seed: int = 0) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """True and False."""
    return np.random.default_rng(seed + 41).random(shape) < 0.5
