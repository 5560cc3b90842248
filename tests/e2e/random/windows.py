"""Steps of random programs that work on the windows of series, images and volumes: convolutions and pools."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tests.e2e.random.drawing import Drawing, Value, product, require, shrunk
from tests.e2e.random.products import fitting
from tests.e2e.random.programs import Span, added, multiplied

LAYOUTS = {1: ("NWC", "NCW"), 2: ("NHWC", "NCHW"), 3: ("NDHWC", "NCDHW")}
SPACE = {1: (1, 2, 3, 5, 9, 17, 33, 130), 2: (1, 2, 3, 4, 5, 6, 8, 9, 14, 17), 3: (1, 2, 3, 4, 5, 8)}
CHANNELS = (1, 1, 1, 2, 3, 4, 8, 15, 16, 17, 32, 33, 64)
WORK = 3e6
"""Products of a convolution, at most: NumPy computes them too."""


@dataclass(frozen=True)
class Image:
    """A value as an image with so many axes of space."""

    value: Value
    axes: int
    layout: str

    @property
    def space(self) -> tuple[int, ...]:
        return self.value.shape[2:] if self.first else self.value.shape[1:-1]

    @property
    def channels(self) -> int:
        return self.value.shape[1 if self.first else -1]

    @property
    def first(self) -> bool:
        """Whether channels come before space."""
        return self.layout.startswith("NC")

    def shape(self, space: Sequence[int], channels: int) -> tuple[int, ...]:
        """That of an image like this one."""
        batch = self.value.shape[0]
        return (batch, channels, *space) if self.first else (batch, *space, channels)

    def around(self, space: Sequence[object], rest: object = 1) -> list[object]:
        """Values for the axes of space among those of batch and channels."""
        return [rest, rest, *space] if self.first else [rest, *space, rest]


def image(d: Drawing) -> Image:
    """An image: a value of as many axes, one of three with another, or a new one."""
    axes = d.choice((1, 2, 2, 2, 2, 3))
    layout = LAYOUTS[axes][d.chance(0.2)]
    if d.chance(0.5):
        x = d.pick("f", rank=(axes + 2, 3) if axes == 2 else (axes + 2,))
        x = x if x.ndim == axes + 2 else d.make(f"tf.expand_dims({x.name}, {d.choice((0, 3))})", x.span)
        return Image(x, axes, layout)
    space, channels = [d.choice(SPACE[axes]) for _ in range(axes)], d.choice(CHANNELS)
    shape = (d.choice((0, 1, 1, 1, 2, 3)), *([channels, *space] if layout.startswith("NC") else [*space, channels]))
    x = d.feed(shape, d.choice(("float32", "float32", "float64")))
    return Image(d.make(f"tf.tanh({x.name})") if d.chance(0.3) else x, axes, layout)


@dataclass(frozen=True)
class Windows:
    """How windows lie: their sizes, and what says so in the text of a call."""

    window: list[int]
    strides: list[int]
    dilations: list[int]
    padding: str


def windows(d: Drawing, x: Image, explicit: bool = True) -> Windows:
    usual = d.chance(0.4)  # 3 x 3, one pixel further each time
    window = [3 if usual else d.choice((0, *[1, 2, 3, 3, 4, 5, 7] * 4)) for _ in range(x.axes)]
    dilations = [1 if usual or d.chance(0.7) else d.choice((2, 2, 3, 7, 12)) for _ in range(x.axes)]
    plain = usual or max(dilations) > 1
    strides = [1 if plain else d.choice((1, 1, 2, 3)) for _ in range(x.axes)]
    padding = d.choice(('"SAME"', '"SAME"', '"VALID"'))
    if explicit and d.chance(0.2):
        pairs = [(d.choice((0, 1, 2)), d.choice((0, 1, 3))) for _ in range(x.axes)]
        padding = str(x.around(pairs, (0, 0)))
    return Windows(window, strides, dilations, padding)


def filter_of(d: Drawing, x: Image, window: Sequence[int], out: int, groups: int = 1) -> Value:
    require(product(x.value.shape) * product(window) * out // groups < WORK and x.channels > 0)
    return fitting(d, (*window, x.channels // groups, out), x.value.dtype)


def convolved(x: Value, f: Value, terms: int) -> Span | None:
    """The span of sums of so many products, also of those that Winograd's filtering makes of them: sums of four numbers
    times sums of nine halves of halves, nine of which are added up."""
    return multiplied(added(multiplied(x.span, f.span), terms), Span(4, -2))


def convolution(d: Drawing) -> Value:
    x = image(d)
    made = {1: series, 2: picture, 3: volume}[x.axes]
    return shrunk(d, made(d, x))


def series(d: Drawing, x: Image) -> Value:
    w = windows(d, x)
    f = filter_of(d, x, w.window, d.choice(CHANNELS))
    span = convolved(x.value, f, product(f.shape[:-1]))
    rest = f'data_format="{x.layout}", dilations={w.dilations}'
    return d.make(f"tf.nn.conv1d({x.value.name}, {f.name}, {w.strides}, {w.padding}, {rest})", span)


def volume(d: Drawing, x: Image) -> Value:
    w = windows(d, x)
    f = filter_of(d, x, w.window, d.choice((1, 2, 3, 16, 17)))
    span = convolved(x.value, f, product(f.shape[:-1]))
    rest = f'data_format="{x.layout}", dilations={x.around(w.dilations)}'
    return d.make(f"tf.nn.conv3d({x.value.name}, {f.name}, {x.around(w.strides)}, {w.padding}, {rest})", span)


def picture(d: Drawing, x: Image) -> Value:
    """A convolution in two axes: plain, in groups, by channels, or separable."""
    kind = d.choice(("conv2d", "conv2d", "groups", "depthwise", "separable"))
    w = windows(d, x, explicit=kind in ("conv2d", "groups"))
    strides, form = x.around(w.strides), f'data_format="{x.layout}"'
    if kind in ("conv2d", "groups"):
        groups = d.choice([n for n in (1, 2, 3, 4, 8, 16) if x.channels % n == 0]) if kind == "groups" else 1
        f = filter_of(d, x, w.window, groups * d.choice((1, 2, 3, 16) if groups > 1 else CHANNELS), groups)
        span = convolved(x.value, f, product(f.shape[:-1]))
        rest = f"{form}, dilations={x.around(w.dilations)}"
        return d.make(f"tf.nn.conv2d({x.value.name}, {f.name}, {strides}, {w.padding}, {rest})", span)
    require(min(w.window) > 0 and len(set(w.strides)) == 1)
    rate = f", rate={w.dilations}" if max(w.dilations) > 1 else ""
    f = filter_of(d, x, w.window, d.choice((1, 1, 2)))
    if kind == "depthwise":
        span = convolved(x.value, f, product(w.window))
        return d.make(f"tf.nn.depthwise_conv2d({x.value.name}, {f.name}, {strides}, {w.padding}{rate}, {form})", span)
    g = fitting(d, (1, 1, x.channels * f.shape[-1], d.choice((1, 3, 16))), x.value.dtype)
    inputs = f"{x.value.name}, {f.name}, {g.name}"
    return d.make(f"tf.nn.separable_conv2d({inputs}, {strides}, {w.padding}{rate}, {form})")


def convolution_derivative(d: Drawing) -> Value:
    """The transpose of a convolution, or the gradient of its filter."""
    x = image(d)
    w = windows(d, x, explicit=False)
    out = d.choice((1, 2, 3, 16, 17))
    reach = [(n - 1) * by + 1 for n, by in zip(w.window, w.dilations, strict=True)]
    if w.padding == '"SAME"':
        space = [n * s - d.number(0, s - 1) for n, s in zip(x.space, w.strides, strict=True)]
    else:
        space = [(n - 1) * s + r + d.number(0, s - 1) for n, s, r in zip(x.space, w.strides, reach, strict=True)]
    require(min(space) > 0 and min(x.space) > 0)
    shape = x.shape(space, out)
    form = f'data_format="{x.layout}", dilations={w.dilations if x.axes == 1 else x.around(w.dilations)}'
    strides = w.strides if x.axes == 1 else x.around(w.strides)
    require(product(x.value.shape) * product(w.window) * out < WORK and x.channels > 0)
    if x.axes == 2 and d.chance(0.4):
        whole = fitting(d, shape, x.value.dtype)
        sizes = [*w.window, out, x.channels]
        span = convolved(x.value, whole, x.value.shape[0] * product(x.space))
        inputs = f"{whole.name}, {sizes}, {x.value.name}"
        return shrunk(d, d.make(f"tf.nn.conv2d_backprop_filter({inputs}, {strides}, {w.padding}, {form})", span))
    f = fitting(d, (*w.window, out, x.channels), x.value.dtype)
    span = convolved(x.value, f, product(w.window) * x.channels)
    inputs = f"{x.value.name}, {f.name}, {list(shape)}"
    text = f"tf.nn.conv{x.axes}d_transpose({inputs}, {strides}, {w.padding}, {form})"
    return shrunk(d, d.make(text, span))


def pool(d: Drawing) -> Value:
    x = image(d)
    w = windows(d, x, explicit=False)
    kind = d.choice(("max", "avg"))
    require(kind == "avg" or x.value.span is not None)
    span = x.value.span if kind == "max" else None
    if max(w.dilations) > 1:
        rest = f'{w.padding}, {w.dilations}, data_format="{x.layout}"'
        return d.make(f'tf.nn.pool({x.value.name}, {w.window}, "{kind.upper()}", {rest})', span)
    window, strides = (v if x.axes == 1 else x.around(v) for v in (w.window, w.strides))
    name = {1: f"{kind}_pool1d", 2: f"{kind}_pool", 3: f"{kind}_pool3d"}[x.axes]
    return d.make(f'tf.nn.{name}({x.value.name}, {window}, {strides}, {w.padding}, data_format="{x.layout}")', span)
