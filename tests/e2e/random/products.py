"""Steps of random programs that contract: matrix products, convolutions and pools."""

from __future__ import annotations

from collections.abc import Sequence

from tests.e2e.random.drawing import Drawing, Value, product, require, shrunk
from tests.e2e.random.elementwise import scaled, whole
from tests.e2e.random.programs import added, multiplied, united
from tests.e2e.random.views import reversed_


def fitting(d: Drawing, shape: Sequence[int], dtype: str) -> Value:
    """A value of that shape: an old one now and then."""
    found = [v for v in d.values if v.shape == tuple(shape) and v.dtype == dtype]
    return d.choice(found) if found and d.chance(0.5) else d.feed(shape, dtype)


def matmul(d: Drawing) -> Value:
    a = d.pick("fi", rank=(2, 2, 3, 4))
    ta, tb = d.chance(0.4), d.chance(0.4)
    inner, n = a.shape[-2 if ta else -1], d.choice((1, 2, 5, 16, 17, d.size()))
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
    b = d.choice((lambda d, x: x, scaled if a.dtype.startswith("float") else whole, reversed_))(d, a)
    require(b.shape == a.shape and b.dtype == a.dtype)
    span = added(multiplied(a.span, b.span), a.shape[-1])
    return shrunk(d, d.make(f"tf.matmul({a.name}, {b.name}, transpose_b=True)", span))


def tensordot(d: Drawing) -> Value:
    a = d.pick("f", rank=(1, 2, 3, 4))
    axis, n = d.number(0, a.ndim - 1), d.choice((1, 2, 5, 16, 17))
    b = fitting(d, d.choice(((a.shape[axis], n), (n, a.shape[axis]))), a.dtype)
    other = 0 if b.shape[0] == a.shape[axis] else 1
    require(product(a.shape) * n < 1e7)
    span = added(multiplied(a.span, b.span), a.shape[axis])
    return shrunk(d, d.make(f"tf.tensordot({a.name}, {b.name}, [[{axis}], [{other}]])", span))


def as_image(d: Drawing) -> Value:
    """An image: a value of four axes, one of three with another, or a new one."""
    if d.chance(0.5):
        x = d.pick("f", rank=(3, 4))
        return x if x.ndim == 4 else d.make(f"tf.expand_dims({x.name}, {d.choice((0, 3))})", x.span)
    few = (1, 2, 3, 5, 9, 17)
    image = d.feed(
        (d.choice((0, 1, 1, 3)), d.choice(few), d.choice(few), d.choice((1, 2, 3, 16, 17))),
        d.choice(("float32", "float64")),
    )
    return d.make(f"tf.tanh({image.name})") if d.chance(0.3) else image


def convolution(d: Drawing) -> Value:
    x = as_image(d)
    kh, kw, c, dilation = d.number(1, 3), d.number(1, 3), x.shape[-1], d.choice((1, 1, 1, 2))
    stride = d.choice((1, 1, 2, 3)) if dilation == 1 else 1
    padding = d.choice(("SAME", "VALID"))
    require(product(x.shape) * kh * kw < 1e6 and c <= 300)
    kind = d.choice(("conv2d", "conv2d", "depthwise", "transpose"))
    o = d.choice((1, 2, 16, 17)) if kind != "depthwise" else d.choice((1, 1, 2))
    w = fitting(d, (kh, kw, c, o) if kind != "transpose" else (kh, kw, o, c), x.dtype)
    span = added(multiplied(x.span, w.span), kh * kw * (1 if kind == "depthwise" else c))
    if kind == "conv2d":
        dilations = f", dilations=[1, {dilation}, {dilation}, 1]" if dilation > 1 else ""
        y = d.make(f'tf.nn.conv2d({x.name}, {w.name}, [1, {stride}, {stride}, 1], "{padding}"{dilations})', span)
    elif kind == "depthwise":
        rate = f", rate=[{dilation}, {dilation}]" if dilation > 1 else ""
        y = d.make(f'tf.nn.depthwise_conv2d({x.name}, {w.name}, [1, {stride}, {stride}, 1], "{padding}"{rate})', span)
    else:
        n, h, v, _ = x.shape
        shape = (
            [n, h * stride, v * stride, o]
            if padding == "SAME"
            else [n, (h - 1) * stride + kh, (v - 1) * stride + kw, o]
        )
        y = d.make(
            f'tf.nn.conv2d_transpose({x.name}, {w.name}, {shape}, [1, {stride}, {stride}, 1], "{padding}")', span
        )
    return shrunk(d, y)


def pool(d: Drawing) -> Value:
    x = as_image(d)
    window, stride = [1, d.number(1, 3), d.number(1, 3), 1], d.number(1, 3)
    strides = [1, stride, d.number(1, 3), 1]
    kind = d.choice(("max", "avg"))
    require(kind == "avg" or (x.span is not None))
    text = f'tf.nn.{kind}_pool({x.name}, {window}, {strides}, "{d.choice(("SAME", "VALID"))}")'
    return d.make(text, x.span if kind == "max" else None)
