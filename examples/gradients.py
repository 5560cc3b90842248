"""Gradients are graphs too: derive them again, build algorithms out of them."""

import numpy as np

import graphflow as tf

# The first, second and third derivative of x^4 at 2.
x = tf.placeholder(tf.float64, [], name="x")
y = tf.square(tf.square(x))
derivatives = [y]
for _ in range(3):
    derivatives += tf.gradients(derivatives[-1], x)

# Rosenbrock's banana; its gradient g; and its Hessian times a vector v, which is the gradient of g weighted by v.
p = tf.placeholder(tf.float64, [2], name="p")
v = tf.placeholder(tf.float64, [2], name="v")
banana = tf.square(1 - p[0]) + 100 * tf.square(p[1] - tf.square(p[0]))
(g,) = tf.gradients(banana, p)
(hessian_times_v,) = tf.gradients(g, p, grad_ys=v)

with tf.Session() as sess:
    values = sess.run(derivatives, feed_dict={x: 2.0})
    print("x^4 and its derivatives at 2:", [float(value) for value in values])
    assert np.allclose(values, [16, 32, 48, 48])

    # Newton's method: solve (Hessian) (step) = gradient, go there, repeat.
    point = np.array([-1.2, 1.0])
    for _ in range(8):
        gradient = sess.run(g, feed_dict={p: point})
        rows = [sess.run(hessian_times_v, feed_dict={p: point, v: direction}) for direction in np.eye(2)]
        point = point - np.linalg.solve(np.stack(rows), gradient)
    print("the lowest point of Rosenbrock's function:", point.round(6).tolist())
    assert np.allclose(point, [1, 1])
