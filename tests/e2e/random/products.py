"""Steps of random programs that contract: matrix products, alone and in layers."""

from __future__ import annotations

from collections.abc import Sequence

from tests.e2e.random.drawing import Drawing, Value, product, require, shrunk
from tests.e2e.random.elementwise import scaled, whole
from tests.e2e.random.programs import added, multiplied, united
from tests.e2e.random.views import reversed_

COLUMNS = (1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 32, 33, 48, 64)


def fitting(d: Drawing, shape: Sequence[int], dtype: str) -> Value:
    """A value of that shape: an old one now and then."""
    found = [v for v in d.values if v.shape == tuple(shape) and v.dtype == dtype]
    return d.choice(found) if found and d.chance(0.5) else d.feed(shape, dtype)


def matmul(d: Drawing) -> Value:
    a = d.pick("fi", rank=(2, 2, 3, 4))
    ta, tb = d.chance(0.4), d.chance(0.4)
    inner, n = a.shape[-2 if ta else -1], d.choice((*COLUMNS, d.size(), d.size()))
    b = fitting(d, (*a.shape[:-2], *((n, inner) if tb else (inner, n))), a.dtype)
    span = added(multiplied(a.span, b.span), inner)
    made = product([*a.shape[:-2], a.shape[-1 if ta else -2], n])
    require(made <= d.kind.elements and made * inner < 1e8)
    flags = (", transpose_a=True" if ta else "") + (", transpose_b=True" if tb else "")
    if d.chance(0.3):  # as the right one
        return shrunk(d, d.make(f"tf.matmul({b.name}, {a.name}, transpose_a={not tb}, transpose_b={not ta})", span))
    y = d.make(f"tf.matmul({a.name}, {b.name}{flags})", span)
    if d.chance(0.3):
        bias = fitting(d, (n,), a.dtype)
        y = d.make(f"{y.name} + {bias.name}", added(united(y.span, bias.span), 2))
    return shrunk(d, y)


def by_itself(d: Drawing) -> Value:
    """A product of a matrix with itself, or with a view of it."""
    a = d.pick("fi", rank=(2, 3))
    require(a.shape[-2] ** 2 * product(a.shape[:-2]) * a.shape[-1] < 1e7 and a.shape[-2] <= 300)
    b = d.choice((lambda d, x: x, scaled if a.kind == "f" else whole, reversed_))(d, a)
    require(b.shape == a.shape and b.dtype == a.dtype)
    span = added(multiplied(a.span, b.span), a.shape[-1])
    return shrunk(d, d.make(f"tf.matmul({a.name}, {b.name}, transpose_b=True)", span))


def tensordot(d: Drawing) -> Value:
    a = d.pick("f", rank=(1, 2, 3, 4))
    over = d.some(range(a.ndim), 2, 0)
    d.rng.shuffle(over)
    sizes = [a.shape[axis] for axis in over]
    rest = [d.choice(COLUMNS) for _ in range(d.number(0, 1))]
    behind = d.chance(0.5)
    b = fitting(d, (*rest, *sizes) if behind else (*sizes, *rest), a.dtype)
    first = len(rest) if behind else 0
    require(product(a.shape) * product(rest) < 1e7)
    span = added(multiplied(a.span, b.span), product(sizes))
    axes = f"[{over}, {[first + n for n in range(len(over))]}]"
    return shrunk(d, d.make(f"tf.tensordot({a.name}, {b.name}, {axes})", span))


def layer(d: Drawing) -> Value:
    """x @ w + b, and what is made of it."""
    x, n = d.pick("f", rank=(2, 2)), d.choice(COLUMNS)
    w, b = fitting(d, (x.shape[-1], n), x.dtype), fitting(d, (n,), x.dtype)
    span = added(united(added(multiplied(x.span, w.span), x.shape[-1]), b.span), 2)
    kind = d.choice(("xw_plus_b", "relu_layer"))
    require(kind == "xw_plus_b" or (span is not None and span.fits(x.dtype)))
    return shrunk(d, d.make(f"tf.nn.{kind}({x.name}, {w.name}, {b.name})", span))
