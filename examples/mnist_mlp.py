"""Recognize handwritten digits with one hidden layer: the whole program, nothing hidden."""

import graphflow as tf
from graphflow.data import mnist

digits = mnist.load()  # 10,000 training and 2,000 test images; mnist.load("folder") reads the full set
tf.set_random_seed(1)

images = tf.placeholder(tf.float32, [None, 28, 28, 1], name="images")
labels = tf.placeholder(tf.int64, [None], name="labels")

with tf.name_scope("hidden"):
    w1 = tf.Variable(tf.truncated_normal([784, 128], stddev=0.05), name="w")
    b1 = tf.Variable(tf.zeros([128]), name="b")
    hidden = tf.nn.relu(tf.matmul(tf.reshape(images, [-1, 784]), w1) + b1)

with tf.name_scope("output"):
    w2 = tf.Variable(tf.truncated_normal([128, 10], stddev=0.1), name="w")
    b2 = tf.Variable(tf.zeros([10]), name="b")
    logits = tf.matmul(hidden, w2) + b2

loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits))
train_op = tf.train.AdamOptimizer(learning_rate=0.001).minimize(loss)
accuracy = tf.reduce_mean(tf.cast(tf.equal(tf.argmax(logits, 1), labels), tf.float32))

with tf.Session() as sess:
    sess.run(tf.global_variables_initializer())
    for epoch in range(3):
        for batch_images, batch_labels in digits.train.batches(32, seed=1, epoch=epoch):
            sess.run(train_op, feed_dict={images: batch_images, labels: batch_labels})
        result = sess.run(accuracy, feed_dict={images: digits.test.images, labels: digits.test.labels})
        print(f"epoch {epoch + 1}: {result:.1%} of the test images recognized")

assert result > 0.9
