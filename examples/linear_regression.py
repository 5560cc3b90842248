"""Fit a line to noisy points: declare a graph, derive it, run it."""

import numpy as np

import graphflow as tf

rng = np.random.default_rng(0)
xs = rng.uniform(-1, 1, 200).astype(np.float32)
ys = 3 * xs + 2 + rng.normal(0, 0.1, 200).astype(np.float32)

x = tf.placeholder(tf.float32, [None], name="x")
y = tf.placeholder(tf.float32, [None], name="y")
slope = tf.Variable(0.0, name="slope")
intercept = tf.Variable(0.0, name="intercept")
loss = tf.reduce_mean(tf.square(slope * x + intercept - y))
train_op = tf.train.GradientDescentOptimizer(learning_rate=0.5).minimize(loss)

with tf.Session() as sess:
    sess.run(tf.global_variables_initializer())
    for _ in range(100):
        _, last_loss = sess.run([train_op, loss], feed_dict={x: xs, y: ys})
    a, b = sess.run([slope, intercept])

print(f"y = {a:.2f} x + {b:.2f}   loss {last_loss:.4f}")
assert abs(a - 3) < 0.05
assert abs(b - 2) < 0.05
