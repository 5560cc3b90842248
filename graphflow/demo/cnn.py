"""A convolutional network: two convolutions, each halved by max-pooling, then two dense layers.

About 98.6 % on all of MNIST after two epochs.
"""

import graphflow as tf
from graphflow.demo.layers import conv, dense, max_pool_2x2
from graphflow.demo.network import Network

# Of all training pixels. Plain SGD learns faster from inputs around zero.
PIXEL_MEAN, PIXEL_DEVIATION = 0.1307, 0.3081


def build() -> Network:
    """Declare the network, its loss and its training step in the current graph."""
    images = tf.placeholder(tf.float32, [None, 28, 28, 1], name="images")
    labels = tf.placeholder(tf.int64, [None], name="labels")

    ink = (images - PIXEL_MEAN) / PIXEL_DEVIATION
    strokes = max_pool_2x2(tf.nn.relu(conv(ink, 10, size=5, name="conv1")))  # [batch, 12, 12, 10]
    shapes = max_pool_2x2(tf.nn.relu(conv(strokes, 20, size=5, name="conv2")))  # [batch, 4, 4, 20]
    hidden = tf.nn.relu(dense(tf.reshape(shapes, [-1, 4 * 4 * 20]), 50, name="hidden"))
    logits = dense(hidden, 10, name="output")

    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)
    loss = tf.reduce_mean(losses, name="loss")
    train_op = tf.train.MomentumOptimizer(learning_rate=0.01, momentum=0.9).minimize(loss)

    recognized = tf.equal(tf.argmax(logits, 1), labels)
    correct = tf.reduce_sum(tf.cast(recognized, tf.int32), name="correct")
    return Network(images, labels, loss, correct, train_op)
