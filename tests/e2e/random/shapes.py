"""Steps of random programs that compute with shapes: sizes as values, and values of the shape of another."""

from __future__ import annotations

from tests.e2e.random.drawing import NARROW, Drawing, Value, product, require
from tests.e2e.random.programs import Span


def measured(d: Drawing) -> Value:
    """Sizes as numbers."""
    x = d.pick("fib", rank=(1, 2, 3, 4))
    texts = ("tf.shape({x})", "tf.size({x})", "tf.rank({x})", "tf.shape({x}, out_type=tf.int64)", "tf.shape({x})[{a}]")
    return d.make(d.choice(texts).format(x=x.name, a=d.number(0, x.ndim - 1)), Span(20, 0))


def filled(d: Drawing) -> Value:
    """One number everywhere."""
    x = d.pick("fib")
    dtype = d.choice(("float32", "float64", "int32", "int64", d.choice(NARROW)))
    texts = (
        "tf.zeros_like({x})", "tf.ones_like({x})", "tf.ones_like({x}, dtype=tf.{t})", "tf.fill(tf.shape({x}), 0.5)",
        "tf.zeros(tf.shape({x}), tf.{t})", "tf.ones(tf.shape({x})[:1], tf.{t})", "tf.fill(tf.shape({x}), 3)",
    )  # fmt: skip
    return d.make(d.choice(texts).format(x=x.name, t=dtype), Span(2, -1))


def counted(d: Drawing) -> Value:
    """A range up to a size, or down from it."""
    x = d.pick("fib", rank=(1, 2, 3))
    n = f"tf.shape({x.name})[{d.number(0, x.ndim - 1)}]"
    by = d.choice((1, 2, 3))
    bounds = d.choice((n, f"{d.number(-3, 5)}, {n}, {by}", f"{n}, {d.number(-3, 5)}, {-by}", f"{n}, 2 * {n} + 1, {by}"))
    return d.make(f"tf.range({bounds})", Span(20, 0))


def shaped_alike(d: Drawing) -> Value:
    """A value in the shape of another, or in one that is made of its own sizes."""
    x = d.pick("fib", rank=(1, 2, 3))
    alike = [v for v in d.values if product(v.shape) == product(x.shape) and v.ndim > 0]
    y = d.choice(alike)
    a = d.number(0, x.ndim - 1)
    texts = (
        f"tf.reshape({x.name}, tf.shape({y.name}))",
        f"tf.reshape({x.name}, [-1, tf.shape({x.name})[{a}]])",
        f"tf.reshape({x.name}, tf.concat([tf.shape({x.name})[:{a}], [1, -1], tf.shape({x.name})[{a + 1}:]], 0))",
        f"tf.broadcast_to({x.name}, tf.concat([[2], tf.shape({x.name})], 0))",
        f"tf.slice({x.name}, {[min(1, n) for n in x.shape]}, {[-1] * x.ndim})",
    )
    require(product(x.shape) > 0)
    return d.make(d.choice(texts), x.span)
