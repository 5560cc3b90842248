"""The two kinds of layers that the demo's networks are made of."""

import math

import graphflow as tf


def dense(x: tf.Tensor, units: int, name: str) -> tf.Tensor:
    """`x w + b`: float32[batch, n] -> float32[batch, units]."""
    inputs = int(x.shape[-1])
    with tf.variable_scope(name):
        w = tf.get_variable("w", initializer=glorot_uniform([inputs, units], inputs, units))
        b = tf.get_variable("b", initializer=tf.zeros([units]))
        return tf.nn.bias_add(tf.matmul(x, w), b)


def conv(x: tf.Tensor, channels: int, size: int, name: str) -> tf.Tensor:
    """A filter of `size` by `size`, no padding: float32[batch, h, w, n] -> [batch, h-size+1, w-size+1, channels]."""
    inputs = int(x.shape[-1])
    area = size * size
    with tf.variable_scope(name):
        w = tf.get_variable(
            "w", initializer=glorot_uniform([size, size, inputs, channels], area * inputs, area * channels)
        )
        b = tf.get_variable("b", initializer=tf.zeros([channels]))
        return tf.nn.bias_add(tf.nn.conv2d(x, w, strides=[1, 1, 1, 1], padding="VALID"), b)


def max_pool_2x2(x: tf.Tensor) -> tf.Tensor:
    """The greatest of each 2 by 2 square: half as high, half as wide."""
    return tf.nn.max_pool(x, ksize=[1, 2, 2, 1], strides=[1, 2, 2, 1], padding="VALID")


def glorot_uniform(shape: list[int], fan_in: int, fan_out: int) -> tf.Tensor:
    """Random weights that neither swell nor fade what passes through (Glorot and Bengio, AISTATS 2010, equation 16)."""
    limit = math.sqrt(6 / (fan_in + fan_out))
    return tf.random_uniform(shape, -limit, limit)
