"""Steps of random programs that draw random numbers, which seeds make those that NumPy draws."""

from __future__ import annotations

from tests.e2e.random.drawing import Drawing, Value, product, require
from tests.e2e.random.programs import Span


def sampled(d: Drawing) -> Value:
    """Random numbers, of a new shape or of that of another value."""
    shape = str(list(d.shape()))
    if d.chance(0.5):
        shape = f"tf.shape({d.pick('fib').name})"
    seed, dtype = f"seed={d.number(0, 99)}", d.choice(("float32", "float64"))
    law = d.choice(("random_uniform", "random_normal", "truncated_normal", "whole"))
    require(law != "truncated_normal" or d.kind.elements <= 20_000)  # NumPy takes long
    if law == "whole":
        whole = d.choice(("int32", "int64"))
        return d.make(f"tf.random_uniform({shape}, -3, 9, tf.{whole}, {seed})", Span(4, 0))
    parameters = d.choice(("", "-1.0, 0.5, "))
    return d.make(f"tf.{law}({shape}, {parameters}dtype=tf.{dtype}, {seed})")


def dropped(d: Drawing) -> Value:
    x = d.pick("f", rank=(1, 2, 3, 4))
    require(product(x.shape) > 0)
    noise = f", noise_shape={[1 if d.chance(0.5) else n for n in x.shape]}" if d.chance(0.2) else ""
    return d.make(f"tf.nn.dropout({x.name}, {d.choice((0.5, 0.75))}{noise}, seed={d.number(0, 99)}) * 0.5")
