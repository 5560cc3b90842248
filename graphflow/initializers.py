"""How a variable begins: `tf.zeros_initializer()`, `tf.truncated_normal_initializer(stddev=0.1)`, ...

An initializer is called with a shape, and makes the tensor: `initializer([784, 10], dtype=tf.float32)`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from graphflow import constant_ops, random_ops
from graphflow.core.dtype import DType, as_dtype, float32
from graphflow.framework.convert import as_array
from graphflow.framework.tensor import Tensor

__all__ = [
    "Constant", "GlorotNormal", "GlorotUniform", "HeNormal", "HeUniform", "Initializer", "LecunNormal", "LecunUniform",
    "Ones", "RandomNormal", "RandomUniform", "TruncatedNormal", "VarianceScaling", "Zeros", "constant",
    "default_initializer", "glorot_normal", "glorot_uniform", "he_normal", "he_uniform", "lecun_normal",
    "lecun_uniform", "ones", "random_normal", "random_uniform", "truncated_normal", "variance_scaling", "zeros",
]  # fmt: skip


class Initializer:
    """A function of a shape; `dtype` is what it makes where it is not told otherwise."""

    dtype: DType = float32

    def __call__(self, shape: Sequence[int], dtype: Any = None, partition_info: Any = None) -> Tensor:
        return self.make(list(shape), self.dtype if dtype is None else as_dtype(dtype))

    def make(self, shape: list[int], dtype: DType) -> Tensor:
        """The tensor."""
        raise NotImplementedError

    def get_config(self) -> dict[str, Any]:
        return {key: value.name if isinstance(value, DType) else value for key, value in vars(self).items()}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Initializer:
        return cls(**config)


class Zeros(Initializer):
    """Zeros."""

    def __init__(self, dtype: Any = float32) -> None:
        self.dtype = as_dtype(dtype)

    def make(self, shape: list[int], dtype: DType) -> Tensor:
        return constant_ops.zeros(shape, dtype)


class Ones(Initializer):
    """Ones."""

    def __init__(self, dtype: Any = float32) -> None:
        self.dtype = as_dtype(dtype)

    def make(self, shape: list[int], dtype: DType) -> Tensor:
        return constant_ops.ones(shape, dtype)


class Constant(Initializer):
    """One value everywhere, or the elements of a list or array in row-major order."""

    def __init__(self, value: Any = 0, dtype: Any = float32, verify_shape: bool = False) -> None:
        self.value = value
        self.dtype = as_dtype(dtype)
        self.verify_shape = verify_shape

    def make(self, shape: list[int], dtype: DType) -> Tensor:
        array = as_array(np.asarray(self.value), dtype)
        return constant_ops.constant(array, dtype, shape, verify_shape=self.verify_shape)


class RandomNormal(Initializer):
    """Normally distributed."""

    def __init__(self, mean: float = 0.0, stddev: float = 1.0, seed: int | None = None, dtype: Any = float32) -> None:
        self.mean, self.stddev, self.seed = mean, stddev, seed
        self.dtype = as_dtype(dtype)

    def make(self, shape: list[int], dtype: DType) -> Tensor:
        return random_ops.random_normal(shape, self.mean, self.stddev, dtype, self.seed)


class TruncatedNormal(RandomNormal):
    """Normally distributed within two standard deviations."""

    def make(self, shape: list[int], dtype: DType) -> Tensor:
        return random_ops.truncated_normal(shape, self.mean, self.stddev, dtype, self.seed)


class RandomUniform(Initializer):
    """Uniform in [minval, maxval); maxval is 1 where not given."""

    def __init__(self, minval: Any = 0, maxval: Any = None, seed: int | None = None, dtype: Any = float32) -> None:
        self.minval, self.maxval, self.seed = minval, maxval, seed
        self.dtype = as_dtype(dtype)

    def make(self, shape: list[int], dtype: DType) -> Tensor:
        return random_ops.random_uniform(shape, self.minval, self.maxval, dtype, self.seed)


class VarianceScaling(Initializer):
    """Random with the variance scale / n: n is the number of inputs, outputs, or their mean (Glorot & Bengio 2010).

    distribution: 'normal' (truncated), 'untruncated_normal' or 'uniform'; mode: 'fan_in', 'fan_out' or 'fan_avg'.
    """

    def __init__(
        self,
        scale: float = 1.0,
        mode: str = "fan_in",
        distribution: str = "truncated_normal",
        seed: int | None = None,
        dtype: Any = float32,
    ) -> None:
        if scale <= 0.0:
            raise ValueError("`scale` must be positive float.")
        if mode not in ("fan_in", "fan_out", "fan_avg"):
            raise ValueError(f"Invalid `mode` argument: {mode!r}")
        if distribution.lower() not in ("normal", "uniform", "truncated_normal", "untruncated_normal"):
            raise ValueError(f"Invalid `distribution` argument: {distribution!r}")
        self.scale, self.mode, self.distribution, self.seed = scale, mode, distribution.lower(), seed
        self.dtype = as_dtype(dtype)

    def make(self, shape: list[int], dtype: DType) -> Tensor:
        fan_in, fan_out = fans(shape)
        count = {"fan_in": fan_in, "fan_out": fan_out, "fan_avg": (fan_in + fan_out) / 2}[self.mode]
        variance = self.scale / max(1.0, count)
        if self.distribution == "uniform":
            limit = math.sqrt(3.0 * variance)
            return random_ops.random_uniform(shape, -limit, limit, dtype, self.seed)
        if self.distribution == "untruncated_normal":
            return random_ops.random_normal(shape, 0.0, math.sqrt(variance), dtype, self.seed)
        stddev = math.sqrt(variance) / 0.87962566103423978  # the standard deviation of what truncation leaves
        return random_ops.truncated_normal(shape, 0.0, stddev, dtype, self.seed)


def fans(shape: Sequence[int]) -> tuple[float, float]:
    """How many inputs and outputs a weight of this shape connects: the last two axes, times the window before them."""
    if not shape:
        return 1, 1
    if len(shape) == 1:
        return shape[0], shape[0]
    window = math.prod(shape[:-2])
    return shape[-2] * window, shape[-1] * window


class _Scaled(VarianceScaling):
    """A VarianceScaling with its parameters fixed."""

    law: tuple[float, str, str]

    def __init__(self, seed: int | None = None, dtype: Any = float32) -> None:
        super().__init__(*self.law, seed=seed, dtype=dtype)

    def get_config(self) -> dict[str, Any]:
        return {"seed": self.seed, "dtype": self.dtype.name}


class GlorotUniform(_Scaled):
    """Uniform with the variance 2 / (inputs + outputs)."""

    law = (1.0, "fan_avg", "uniform")


class GlorotNormal(_Scaled):
    """Truncated normal with the variance 2 / (inputs + outputs)."""

    law = (1.0, "fan_avg", "truncated_normal")


class HeNormal(_Scaled):
    """Truncated normal with the variance 2 / inputs (He et al. 2015)."""

    law = (2.0, "fan_in", "truncated_normal")


class HeUniform(_Scaled):
    """Uniform with the variance 2 / inputs (He et al. 2015)."""

    law = (2.0, "fan_in", "uniform")


class LecunNormal(_Scaled):
    """Truncated normal with the variance 1 / inputs."""

    law = (1.0, "fan_in", "truncated_normal")


class LecunUniform(_Scaled):
    """Uniform with the variance 1 / inputs."""

    law = (1.0, "fan_in", "uniform")


def default_initializer(dtype: DType) -> Initializer:
    """What tf.get_variable uses where it is told nothing."""
    return GlorotUniform(dtype=dtype) if dtype.is_floating else Zeros(dtype=dtype)


# as tf.initializers calls them
zeros, ones, constant = Zeros, Ones, Constant
random_normal, random_uniform, truncated_normal = RandomNormal, RandomUniform, TruncatedNormal
variance_scaling = VarianceScaling
glorot_uniform, glorot_normal = GlorotUniform, GlorotNormal
he_uniform, he_normal = HeUniform, HeNormal
lecun_uniform, lecun_normal = LecunUniform, LecunNormal
