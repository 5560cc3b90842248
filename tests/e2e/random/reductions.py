"""Steps of random programs that reduce: sums, extremes, norms and entropies, alone and several at once."""

from __future__ import annotations

from collections.abc import Sequence

from tests.e2e.random.drawing import Drawing, Value, product, require, shrunk
from tests.e2e.random.elementwise import scaled, whole
from tests.e2e.random.programs import Span, added, multiplied
from tests.e2e.random.views import padded, reversed_, shifted, sliced


def reduction_of(d: Drawing, x: Value, axes: Sequence[int], keep: bool) -> Value:
    """One of x over axes."""
    count = product([x.shape[a] for a in axes])
    axes = [a - x.ndim for a in axes] if d.chance(0.2) else axes
    axis, keepdims = (axes[0] if len(axes) == 1 else list(axes)), ", keepdims=True" if keep else ""
    if x.dtype == "bool":
        return d.make(f"tf.reduce_{d.choice(('any', 'all'))}({x.name}, {axis}{keepdims})", Span(0, 0))
    op = d.choice(
        ("sum", "sum", "mean", "max", "min", "prod", "squares", "argmax", "argmin", "logsumexp", "any", "half")
    )
    floating = x.kind == "f"
    if op == "sum":
        return shrunk(d, d.make(f"tf.reduce_sum({x.name}, {axis}{keepdims})", added(x.span, count)))
    if op == "squares":
        span = added(multiplied(x.span, x.span), count)
        return shrunk(d, d.make(f"tf.reduce_sum(tf.square({x.name}), {axis}{keepdims})", span))
    if op == "half":
        require(floating)
        return shrunk(d, d.make(f"tf.nn.l2_loss({x.name})"))
    if op == "mean":
        require(count > 0)
        return d.make(f"tf.reduce_mean({x.name}, {axis}{keepdims})", x.span if not floating else None)
    if op == "logsumexp":
        require(floating and count > 0)
        return d.make(f"tf.reduce_logsumexp({x.name}, {axis}{keepdims})")
    if op == "prod":
        inner = f"tf.sign({x.name})" if x.span else f"tf.tanh({x.name})"
        return d.make(f"tf.reduce_prod({inner}, {axis}{keepdims})", x.span and Span(0, 0))
    if op in ("max", "min"):
        require(count > 0)
        text = f"tf.reduce_{op}({x.name}, {axis}{keepdims})"
        return d.make(text if x.span else f"tf.stop_gradient({text})", x.span)
    require(x.span is not None)
    if op == "any":
        return d.make(f"tf.reduce_{d.choice(('any', 'all'))}({x.name} > 1, {axis}{keepdims})", Span(0, 0))
    require(count > 0)
    dtype = d.choice(("", ", output_type=tf.int32"))
    return d.make(f"tf.{op}({x.name}, {axes[0]}{dtype})", Span(40, 0))


def axes_of(d: Drawing, x: Value) -> list[int]:
    require(x.ndim > 0)
    return d.some(range(x.ndim), d.choice((1, 1, 4)))


def reduced(d: Drawing) -> Value:
    x = d.pick("fib", rank=(1, 2, 3, 4, 5))
    return reduction_of(d, x, axes_of(d, x), d.chance(0.3))


def reduced_together(d: Drawing) -> None:
    """Several reductions of one value and of a view of it, over the same axes."""
    x = d.pick("fi", rank=(1, 2, 3, 4))
    axes, keep = axes_of(d, x), d.chance(0.3)
    view = d.choice((padded, padded, sliced, reversed_, scaled if x.kind == "f" else whole, shifted))
    of = d.choice(([x], [view(d, x)], [x, view(d, x)]))
    for _ in range(d.number(2, 4)):
        y = d.choice(of)
        require(y.ndim == x.ndim)
        reduction_of(d, y, axes, keep)


def normalized(d: Drawing) -> Value:
    x = d.pick("f", rank=(1, 2, 3, 4))
    axis = d.number(0, x.ndim - 1)
    require(x.shape[axis] > 0)
    text = d.choice(
        (
            "tf.nn.softmax({x}, {a})", "tf.nn.log_softmax({x}, {a})", "tf.nn.l2_normalize({x}, {a}, epsilon=0.1)",
            "tf.nn.moments({x}, [{a}])[0]", "tf.nn.moments({x}, [{a}], keep_dims=True)[1]",
            "({x} - tf.reduce_mean({x}, {a}, keepdims=True))"
            " * tf.rsqrt(tf.nn.moments({x}, [{a}], keep_dims=True)[1] + 0.1)",
            "{x} - tf.reduce_logsumexp({x}, {a}, keepdims=True)",
            "{x} / (tf.reduce_sum(tf.square({x}), {a}, keepdims=True) + 1.0)",
        )
    )  # fmt: skip
    return d.make(text.format(x=x.name, a=axis))


def batch_normalized(d: Drawing) -> Value:
    """By the moments over all axes but the last, or by those given."""
    x = d.pick("f", rank=(2, 3, 4))
    require(product(x.shape) > 0)
    axes = list(range(x.ndim - 1)) if d.chance(0.7) else axes_of(d, x)
    keep = f", {d.choice(('keep_dims', 'keepdims'))}=True" if axes != list(range(x.ndim - 1)) or d.chance(0.3) else ""
    mean, variance = (d.make(f"tf.nn.moments({x.name}, {axes}{keep})[{n}]") for n in range(2))
    offset, scale = (d.choice(("None", d.feed(x.shape[-1:], x.dtype).name)) for _ in range(2))
    inputs = f"{x.name}, {mean.name}, {variance.name}, {offset}, {scale}"
    return shrunk(d, d.make(f"tf.nn.batch_normalization({inputs}, 0.1)"))


def crossed(d: Drawing) -> Value:
    """A cross-entropy."""
    x = d.pick("f", rank=(2, 3))
    require(x.shape[-1] > 0)
    if d.chance(0.5):
        labels = d.feed(x.shape[:-1], d.choice(("int32", "int64")))
        name = d.make(f"{labels.name} % {x.shape[-1]}").name
        return d.make(f"tf.nn.sparse_softmax_cross_entropy_with_logits(labels={name}, logits={x.name})")
    y = d.partner(x)
    require(y.shape == x.shape)
    kind = d.choice(("softmax_cross_entropy_with_logits", "softmax_cross_entropy_with_logits_v2", "sigmoid"))
    axis = d.number(0, x.ndim - 1)
    require(x.shape[axis] > 0)
    labels = d.make(f"tf.nn.softmax({y.name}, {axis})")
    if kind == "sigmoid":
        return d.make(f"tf.nn.sigmoid_cross_entropy_with_logits(labels={labels.name}, logits={x.name})")
    return d.make(f"tf.nn.{kind}(labels={labels.name}, logits={x.name}, dim={axis})")
