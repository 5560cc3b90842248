"""Arguments of convolutions and pools, from TensorFlow's many forms to the one that the ops take.

Everywhere, for images with n axes of space:

strides, ksize, dilations   an int, n of them, or n + 2 of them with 1 for batch and channels
padding                     'SAME', 'VALID', or n + 2 pairs (before, after), those of batch and channels being (0, 0)
data_format                 NWC, NHWC, NDHWC (also None): channels last; NCW, NCHW, NCDHW: channels at axis 1
filters                     [*window, in, out]; `in` may be a divisor of the image's channels: then they are in groups
output_shape                of ints or tensors: tf.shape(x) is known to the compiler
"""

from __future__ import annotations

from typing import Any

from graphflow.framework.sizes import ints_of

__all__ = ["axes_of", "either", "flat_attrs", "layout_of", "space_attrs", "spatial"]

CHANNELS_LAST = ("NHWC", "NWC", "NDHWC", "N...C")
CHANNELS_FIRST = ("NCHW", "NCW", "NCDHW", "NC...")


def layout_of(data_format: str | None) -> str:
    """NHWC or NCHW, which stand for any number of axes of space here."""
    if data_format is None or data_format in CHANNELS_LAST:
        return "NHWC"
    if data_format in CHANNELS_FIRST:
        return "NCHW"
    raise ValueError(f"data_format must be one of {', '.join(CHANNELS_LAST + CHANNELS_FIRST)}, not {data_format!r}")


def spatial(values: Any, layout: str, axes: int, what: str) -> tuple[int, ...]:
    """The entries for the axes of space."""
    known = ints_of(values, what)
    if any(v < 1 for v in known):
        raise ValueError(f"{what} must be positive, not {list(known)}")
    if len(known) in (1, axes):
        return known * axes if len(known) == 1 else known
    if len(known) != axes + 2:
        allowed = f"1, {axes} or {axes + 2}" if axes > 1 else "1 or 3"
        raise ValueError(f"{what} must have {allowed} entries, not {list(known)}")
    space, rest = (known[1:-1], (known[0], known[-1])) if layout == "NHWC" else (known[2:], known[:2])
    if rest != (1, 1):
        raise ValueError(f"{what} {list(known)}: batch and channels must have 1 ({layout})")
    return space


def _padding(padding: Any, layout: str, axes: int) -> Any:
    """SAME, VALID, or pairs for the axes of space."""
    if isinstance(padding, str):
        if padding.upper() not in ("SAME", "VALID"):
            raise ValueError(f"padding must be 'SAME', 'VALID' or pairs, not {padding!r}")
        return padding.upper()
    pairs = [tuple(ints_of(list(p), "padding")) for p in padding or ()]
    if len(pairs) != axes + 2 or any(len(p) != 2 for p in pairs):
        raise ValueError(f"padding must be 'SAME', 'VALID' or {axes + 2} pairs, not {padding!r}")
    space, rest = (pairs[1:-1], (pairs[0], pairs[-1])) if layout == "NHWC" else (pairs[2:], tuple(pairs[:2]))
    if rest != ((0, 0), (0, 0)) or any(n < 0 for p in space for n in p):
        raise ValueError(
            f"padding {padding!r}: batch and channels must have (0, 0), nothing may be negative ({layout})"
        )
    return tuple(space)


def space_attrs(
    axes: int, strides: Any, padding: Any, data_format: str | None, dilations: Any = None
) -> dict[str, Any]:
    """The attributes of an op with `axes` axes of space."""
    layout = layout_of(data_format)
    return {
        "strides": spatial(strides, layout, axes, "strides"),
        "padding": _padding(padding, layout, axes),
        "dilations": spatial(1 if dilations is None else dilations, layout, axes, "dilations"),
        "data_format": layout,
    }


def either(first: Any, second: Any, what: str) -> Any:
    """An argument that goes by two names."""
    if first is not None and second is not None:
        raise ValueError(f"{what} is given twice")
    if first is None and second is None:
        raise ValueError(f"{what} is not given")
    return first if first is not None else second


def flat_attrs(strides: Any, padding: Any, data_format: str | None, dilations: Any = None) -> tuple[Any, int]:
    """The attributes of a 2-D op that does a 1-D one's work, and the axis of height that is to be put in."""
    attrs = space_attrs(1, strides, padding, data_format, dilations)
    for key in ("strides", "dilations"):
        attrs[key] = (1, *attrs[key])
    if not isinstance(attrs["padding"], str):
        attrs["padding"] = ((0, 0), *attrs["padding"])
    return attrs, 1 if attrs["data_format"] == "NHWC" else 2


def axes_of(shape: Any, what: str) -> int:
    if shape is None or len(shape) - 2 not in (1, 2, 3):
        raise ValueError(f"{what} must have 3, 4 or 5 axes, not {'unknown ones' if shape is None else len(shape)}")
    return len(shape) - 2
