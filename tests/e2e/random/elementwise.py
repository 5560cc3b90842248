"""Steps of random programs that compute element by element; `Refused` where one does not fit."""

from __future__ import annotations

from tests.e2e.random.drawing import NARROW, Drawing, Value, require, shrunk
from tests.e2e.random.programs import Span, added, multiplied, united

SMOOTH = (
    "tf.tanh({x})", "tf.sigmoid({x})", "tf.exp(tf.tanh({x}))", "tf.log(tf.square({x}) + 0.5)",
    "tf.sqrt({x} * {x} + 0.1)",
    "tf.sin({x}) * 0.5", "1.5 / ({x} * {x} + 1.0)", "tf.erf({x})", "tf.rsqrt(tf.square({x}) + 0.5)",
    "tf.nn.softplus({x})",
    "tf.nn.softsign({x})", "tf.log1p(tf.square({x}))", "tf.atan({x})", "tf.nn.elu(tf.square({x}) + 0.1)", "tf.cos({x})",
    "tf.pow(tf.square({x}) + 0.5, 1.5) * 0.1", "tf.log_sigmoid({x})", "tf.expm1(tf.tanh({x}))",
    "tf.tan(tf.tanh({x}))", "tf.asin(tf.tanh({x}) * 0.9)", "tf.acos(tf.tanh({x}) * 0.9)", "tf.sinh(tf.tanh({x}))",
    "tf.cosh(tf.tanh({x}))", "tf.erfc({x})", "tf.reciprocal(tf.square({x}) + 0.5)",
    "tf.nn.selu(tf.square({x}) + 0.1) * 0.5", "(tf.square({x}) + 0.5) ** -0.5", "tf.tanh({x}) ** 3",
    "(tf.square({x}) + 0.5) ** -1.5 * 0.3", "tf.tanh({x}) ** 6", "(tf.square({x}) + 0.5) ** -3 * 0.1",
    "(tf.square({x}) + 0.5) ** 0.5", "tf.exp(tf.tanh({x})) ** 2.5 * 0.1",
    "tf.scalar_mul(0.5, {x})", "tf.clip_by_norm({x}, 1.0)", "tf.nn.elu({x})", "tf.identity({x})",
)  # fmt: skip


def smooth(d: Drawing) -> Value:
    x = d.pick("f")
    return d.make(d.choice(SMOOTH).format(x=x.name))


def kinked(d: Drawing) -> Value:
    x = d.pick("fi", exact=True)
    op = d.choice(("abs", "negative", "sign", "maximum", "minimum", "nn.relu", "nn.relu6", "square", "clip", "leaky"))
    if op in ("maximum", "minimum"):
        y = d.partner(x)
        require(y.span is not None)
        return d.make(f"tf.{op}({x.name}, {y.name})", united(x.span, y.span))
    if op == "clip":
        return d.make(f"tf.clip_by_value({x.name}, -1, 2)", united(x.span, Span(1, 0)))
    if op == "leaky":
        require(x.kind == "f")
        return d.make(f"tf.nn.leaky_relu({x.name}, 0.25)", united(x.span, multiplied(x.span, Span(0, -2))))
    if op == "square":
        return d.make(f"tf.square({x.name})", multiplied(x.span, x.span))
    require(not op.startswith("nn") or x.kind == "f")
    return d.make(f"tf.{op}({x.name})", united(x.span, Span(3, 0)))


def rounded(d: Drawing) -> Value:
    x = d.pick("f", exact=True)
    return d.make(f"tf.{d.choice(('floor', 'ceil', 'rint', 'round'))}({x.name})", united(x.span, Span(1, 0)))


def binary(d: Drawing) -> Value:
    x = d.pick("fi")
    y = d.partner(x)
    x, y = (x, y) if d.chance(0.5) else (y, x)
    op = d.choice(("+", "-", "*", "squared"))
    if op == "squared":
        span = multiplied(added(united(x.span, y.span), 2), added(united(x.span, y.span), 2))
        return shrunk(d, d.make(f"tf.squared_difference({x.name}, {y.name})", span))
    span = multiplied(x.span, y.span) if op == "*" else added(united(x.span, y.span), 2)
    return shrunk(d, d.make(f"{x.name} {op} {y.name}", span))


def scaled(d: Drawing, x: Value | None = None) -> Value:
    x = x or d.pick("f")
    return d.make(
        d.choice(("{x} * 0.5", "1.0 - {x}", "{x} + 0.25", "-{x}")).format(x=x.name),
        added(united(x.span, Span(0, -3)), 2),
    )


def whole(d: Drawing, x: Value | None = None) -> Value:
    x = x or d.pick("i")
    text = d.choice(("{x} // 3", "{x} % 5", "{x} % 7 - 2", "tf.truncatemod({x}, 4)", "tf.floordiv({x}, -2)"))
    return d.make(text.format(x=x.name), x.span)


def divided(d: Drawing) -> Value:
    """A quotient that is rounded."""
    x = d.pick("fi")
    y = d.partner(x)
    if x.kind == "i":
        return d.make(f"tf.{d.choice(('truediv', 'divide'))}({x.name}, tf.maximum({y.name}, 1))")
    positive = f"(tf.square({y.name}) + 0.5)"
    return d.make(d.choice((f"{x.name} / {positive}", f"tf.div({x.name}, {positive})", f"0.5 / {positive}")))


def quotient(d: Drawing) -> Value:
    """A quotient or a rest of whole numbers, or of floats that are not 0."""
    x = d.pick("fi", exact=True)
    y = d.partner(x)
    require(y.span is not None)
    op = d.choice(("floordiv", "floormod", "mod", "truncatemod", *(["div"] if x.kind == "i" else [])))
    by = y.name if x.kind == "i" or d.kind.special else f"tf.maximum(tf.abs({y.name}), 0.25)"
    wide = added(united(x.span, y.span, Span(1, 0)), 16)
    return d.make(f"tf.{op}({x.name}, {by})", wide)


def classified(d: Drawing) -> Value:
    x = d.pick("f", exact=True)
    return d.make(f"tf.{d.choice(('is_nan', 'is_inf', 'is_finite'))}({x.name})", Span(0, 0))


def summed(d: Drawing) -> Value:
    x = d.pick("fi")
    terms = [x, *(y for y in (d.partner(x) for _ in range(d.number(1, 3))) if y.shape == x.shape)]
    text = f"tf.{d.choice(('add_n', 'accumulate_n'))}([{', '.join(t.name for t in terms)}])"
    return shrunk(d, d.make(text, added(united(*(t.span for t in terms)), len(terms))))


def compared(d: Drawing) -> Value:
    x = d.pick("fi", exact=True)
    y = d.partner(x)
    require(y.span is not None)
    op = d.choice(("less", "less_equal", "greater", "greater_equal", "equal", "not_equal"))
    return d.make(f"tf.{op}({x.name}, {y.name})", Span(0, 0))


def logical(d: Drawing) -> Value:
    x = d.pick("b")
    op = d.choice(("not", "and", "or", "xor"))
    text = f"tf.logical_not({x.name})" if op == "not" else f"tf.logical_{op}({x.name}, {d.partner(x).name})"
    return d.make(text, Span(0, 0))


def chosen(d: Drawing) -> Value:
    x = d.pick("fi")
    fits = [v for v in d.values if v.dtype == "bool" and v.shape in (x.shape, x.shape[:1])]
    c = d.choice(fits) if fits else d.feed(d.choice((x.shape, x.shape[:1])), "bool")
    y = d.partner(x)
    require(y.shape == x.shape)
    return d.make(f"tf.where({c.name}, {x.name}, {y.name})", united(x.span, y.span))


def converted(d: Drawing) -> Value:
    x = d.pick("fib", exact=True)
    dtype = d.choice(("float32", "float64", "int32", "int64", "bool", d.choice(NARROW)))
    return d.make(f"tf.cast({x.name}, tf.{dtype})", united(x.span, Span(0, 0)))
