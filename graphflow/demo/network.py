"""What a declared network offers to the loop that trains it."""

from dataclasses import dataclass

import graphflow as tf


@dataclass(frozen=True)
class Network:
    """The ends of a graph that are fed and fetched. The batch size is open: one graph serves them all."""

    images: tf.Tensor  # fed: float32[batch, 28, 28, 1], 0 is paper and 1 is ink
    labels: tf.Tensor  # fed: int64[batch], 0 to 9
    loss: tf.Tensor  # float32[], mean cross-entropy of the batch
    correct: tf.Tensor  # int32[], how many images of the batch are recognized
    train_op: tf.Operation  # one step of the optimizer
