"""Steps of random programs that move elements: pads, slices, joins, transposes, repetitions."""

from __future__ import annotations

from tests.e2e.random.drawing import Drawing, Value, product, require
from tests.e2e.random.programs import Span, added, united


def padded(d: Drawing, x: Value | None = None) -> Value:
    x = x or d.pick("fi", rank=(1, 2, 3, 4))
    some = (0, 0, 0, 1, 2, 5, 16) if product(x.shape) < 20_000 else (0, 0, 1, 3)
    pads = [[d.choice(some), d.choice(some)] for _ in x.shape]
    value = d.choice(("", "", ", constant_values=1", ", constant_values=-2"))
    return d.make(f"tf.pad({x.name}, {pads}{value})", united(x.span, Span(1, 0)))


def key_part(d: Drawing, size: int) -> str:
    """What takes a part of an axis."""
    begin, end = (d.choice(("", "", str(d.number(-20, 20)), str(d.number(0, 3)))) for _ in range(2))
    step = d.choice(("", "", "", ":2", ":3", ":-1", ":-2"))
    return f"{begin}:{end}{step}"


def sliced(d: Drawing, x: Value | None = None) -> Value:
    x = x or d.pick("fib", rank=(1, 2, 3, 4))
    parts = [key_part(d, n) if d.chance(0.7) else ":" for n in x.shape]
    if d.chance(0.15):
        parts[d.number(0, x.ndim - 1)] = d.choice(("0", "-1", "tf.newaxis, :"))
    return d.make(f"{x.name}[{', '.join(parts)}]", x.span)


def shifted(d: Drawing, x: Value | None = None) -> Value:
    """x without its first or last row, and with as many new ones: rows that begin or end elsewhere."""
    x = x or d.pick("fi", rank=(1, 2, 3, 4))
    axis, by = d.number(0, x.ndim - 1), d.choice((1, 2, 3))
    require(x.shape[axis] >= by)
    pads = [[0, 0] for _ in x.shape]
    pads[axis] = d.choice(([by, 0], [0, by]))
    part = f":-{by}" if pads[axis][0] else f"{by}:"
    key = ", ".join(part if a == axis else ":" for a in range(x.ndim))
    return d.make(f"tf.pad({x.name}[{key}], {pads})", united(x.span, Span(0, 0)))


def reversed_(d: Drawing, x: Value | None = None) -> Value:
    x = x or d.pick("fib", rank=(1, 2, 3, 4))
    return d.make(f"tf.reverse({x.name}, {d.some(range(x.ndim))})", x.span)


def transposed(d: Drawing) -> Value:
    x = d.pick("fib", rank=(2, 3, 4, 5))
    perm = list(range(x.ndim))
    d.rng.shuffle(perm)
    return d.make(f"tf.transpose({x.name}, {perm})", x.span)


def beside(d: Drawing) -> Value:
    """A transpose whose sides have some vectors, together with what its rows, its columns or all share, or with another
    of its shape, moved along an axis."""
    sides = [d.choice((15, 16, 17, 33, 48, 64, 65, 130)) for _ in range(2)]
    x = d.feed(
        (*(d.choice((1, 2, 3)) for _ in range(d.number(0, 1))), *sides), d.choice(("float32", "float32", "int64"))
    )
    perm = [*range(x.ndim - 2), x.ndim - 1, x.ndim - 2]
    across = d.make(f"tf.transpose({x.name}, {perm})", x.span)
    shape = [1 if d.chance(0.4) else n for n in across.shape]
    y = d.feed(shape, x.dtype)
    wide = d.make(f"tf.broadcast_to({y.name}, tf.shape({across.name}))", y.span)
    moved = d.choice((shifted, shifted, shifted, reversed_, padded_part))(d, wide)
    return d.make(f"{across.name} {d.choice('+-')} {moved.name}", added(united(x.span, moved.span), 2))


def padded_part(d: Drawing, x: Value) -> Value:
    """A part of x with as much around it as is missing."""
    missing = [d.number(0, min(n, 20)) for n in x.shape]
    key = ", ".join(f":-{by}" if by else ":" for by in missing)
    pads = [d.choice(([by, 0], [0, by], [by // 2, by - by // 2])) for by in missing]
    return d.make(f"tf.pad({x.name}[{key}], {pads})", united(x.span, Span(0, 0)))


def reshaped(d: Drawing) -> Value:
    x = d.pick("fib", rank=(1, 2, 3, 4, 5))
    sizes = list(x.shape)
    for _ in range(d.number(1, 3)):
        axis, kind = d.number(0, len(sizes) - 1), d.choice(("merge", "merge", "cut", "insert", "flat"))
        if kind == "merge" and axis + 1 < len(sizes):
            sizes[axis : axis + 2] = [sizes[axis] * sizes[axis + 1]]
        elif kind == "cut":
            factor = d.choice([n for n in (2, 3, 5, 13, 16, 1) if sizes[axis] % n == 0])
            sizes[axis : axis + 1] = d.choice(([sizes[axis] // factor, factor], [factor, sizes[axis] // factor]))
        elif kind == "insert":
            sizes.insert(axis, 1)
        elif kind == "flat":
            sizes = [product(sizes)]
    if 0 not in sizes and d.chance(0.5):
        sizes[d.number(0, len(sizes) - 1)] = -1
    return d.make(f"tf.reshape({x.name}, {sizes})", x.span)


def concatenated(d: Drawing) -> Value:
    x = d.pick("fib", rank=(1, 2, 3, 4))
    axis = d.number(0, x.ndim - 1)
    same = [
        v
        for v in d.values
        if v.dtype == x.dtype and v.ndim == x.ndim
        and all(a == axis or m == n for a, (m, n) in enumerate(zip(v.shape, x.shape, strict=True)))
    ]  # fmt: skip
    parts = [x, *(d.choice(same) for _ in range(d.number(1, 3)))]
    if d.chance(0.3):
        parts.append(d.feed([d.size() if a == axis else n for a, n in enumerate(x.shape)], x.dtype))
    d.rng.shuffle(parts)
    return d.make(f"tf.concat([{', '.join(p.name for p in parts)}], {axis})", united(*(p.span for p in parts)))


def stacked(d: Drawing) -> Value:
    x = d.pick("fib", rank=(0, 1, 2, 3))
    same = [v for v in d.values if v.dtype == x.dtype and v.shape == x.shape]
    parts = [x, *(d.choice(same) for _ in range(d.number(1, 3)))]
    text = f"tf.stack([{', '.join(p.name for p in parts)}], {d.number(0, x.ndim)})"
    return d.make(text, united(*(p.span for p in parts)))


def cut(d: Drawing) -> None:
    """The pieces of a split, or of an unstack."""
    x = d.pick("fib", rank=(1, 2, 3, 4))
    axis = d.number(0, x.ndim - 1)
    size = x.shape[axis]
    if d.chance(0.3):
        require(1 <= size <= 5)
        expression, count = f"tf.unstack({x.name}, axis={axis})", size
    elif d.chance(0.5):
        first = d.number(0, size)
        expression, count = f"tf.split({x.name}, [{first}, {size - first}], {axis})", 2
    else:
        count = d.choice([n for n in (1, 2, 3, 4, 5) if size % n == 0])
        expression = f"tf.split({x.name}, {count}, {axis})"
    for n in d.some(range(count)):
        d.make(f"{expression}[{n}]", x.span)


def repeated(d: Drawing) -> Value:
    x = d.pick("fib", rank=(0, 1, 2, 3))
    if d.chance(0.5) and x.ndim:
        return d.make(f"tf.tile({x.name}, {[d.choice((1, 1, 2, 3)) for _ in x.shape]})", x.span)
    shape = [d.size() if n == 1 else n for n in x.shape]
    lead = [d.choice((1, 2, 3, 17)) for _ in range(d.number(0, 1))]
    require(product([*lead, *shape]) <= d.kind.elements)
    return d.make(f"tf.broadcast_to({x.name}, {[*lead, *shape]})", x.span)


def hot(d: Drawing) -> Value:
    x = d.pick("i", rank=(0, 1, 2, 3))
    values = d.choice(("", "", f", 2, -1, dtype=tf.{d.choice(('float32', 'float64', 'int32', 'int8'))}"))
    axis = f", axis={d.number(-1, x.ndim)}" if d.chance(0.4) else ""
    return d.make(f"tf.one_hot({x.name}, {d.choice((1, 3, 5, 17))}{values}{axis})", Span(1, 0))


def masked_slice(d: Drawing) -> Value:
    """A slice whose bounds masks open, and whose parts they make indices, new axes or an ellipsis."""
    x = d.pick("fib", rank=(1, 2, 3, 4))
    count = d.number(1, x.ndim)
    begin, end = ([d.number(-9, 9) for _ in range(count)] for _ in range(2))
    strides = [d.choice((1, 1, 2, -1)) for _ in range(count)]
    names = d.some(("begin", "end", "shrink_axis", "new_axis", "ellipsis"), 3, 0)
    masks = "".join(f", {n}_mask={d.number(0, 2**count - 1) if n != 'ellipsis' else 1}" for n in names)
    return d.make(f"tf.strided_slice({x.name}, {begin}, {end}, {strides}{masks})", x.span)


def passed(d: Drawing) -> Value:
    """The value itself, behind an operation that hands it on."""
    x = d.pick("fib")
    text = d.choice(("tf.tuple([{x}, {y}])[0]", "tf.placeholder_with_default({x}, {x}.shape)", "tf.identity({x})"))
    return d.make(text.format(x=x.name, y=d.pick("fib").name), x.span)


def squeezed(d: Drawing) -> Value:
    x = d.pick("fib", rank=(1, 2, 3, 4, 5))
    ones = [a for a, n in enumerate(x.shape) if n == 1]
    if ones and d.chance(0.6):
        return d.make(f"tf.squeeze({x.name}, {d.some(ones)})", x.span)
    return d.make(f"tf.expand_dims({x.name}, {d.number(-1, x.ndim)})", x.span)
