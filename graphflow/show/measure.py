"""How large text and boxes are, without a font: widths of Arial, rounded up, so that common sans fonts fit."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass

from graphflow.show.drawing import Box


@dataclass(frozen=True)
class Font:
    """A size in pixels and how wide the average of its characters is drawn."""

    size: float
    mono: bool = False
    stretch: float = 1.0


TITLE = Font(13.0, stretch=1.1)  # semi-bold
SMALL = Font(11.0)
LABEL = MEMBER = Font(10.5, mono=True)

LINE = {TITLE: 17.0, SMALL: 15.0, MEMBER: 14.5}
PADDING_X, PADDING_Y = 13.0, 8.0
SHOWN_MEMBERS = 6
MEMBERS_GAP = 6.0  # above the first member
LONGEST = 38  # characters of a line in a box

_NARROW = "iljI.,:;'|!()[]{}/\\ftr· -"
_BROAD = "mwMW@%"


def width_of(text: str, font: Font) -> float:
    """Pixels that `text` takes."""
    if font.mono:
        return font.size * (0.602 * len(text) + 0.4 * sum(_wide(char) for char in text))
    ems = sum(_em(char) for char in text)
    return font.size * font.stretch * ems


def _em(char: str) -> float:
    if char in _NARROW:
        return 0.36
    if char in _BROAD:
        return 0.9
    if char.isupper():
        return 0.71
    return 1.0 if _wide(char) else 0.58


def _wide(char: str) -> bool:
    return not char.isascii() and unicodedata.east_asian_width(char) in "WF"


def clipped(text: str, longest: int = LONGEST) -> str:
    """At most `longest` characters, the middle left out."""
    if len(text) <= longest:
        return text
    head = longest * 2 // 3
    return f"{text[:head]}…{text[len(text) - (longest - head - 1) :]}"


def box_lines(box: Box) -> list[tuple[str, Font]]:
    """What stands in a box, line by line."""
    lines = [(clipped(box.title), TITLE)]
    lines += [(clipped(text), SMALL) for text in (box.subtitle, box.detail) if text and text != box.title]
    shown = box.members if len(box.members) <= SHOWN_MEMBERS else box.members[: SHOWN_MEMBERS - 1]
    lines += [(clipped(member), MEMBER) for member in shown]
    if len(shown) < len(box.members):
        lines.append((f"+ {len(box.members) - len(shown)} more", MEMBER))
    return lines


def box_size(box: Box) -> tuple[float, float]:
    """Width and height of a box with its lines."""
    lines = box_lines(box)
    width = max(width_of(text, font) for text, font in lines) + 2 * PADDING_X
    height = sum(LINE[font] for _, font in lines) + 2 * PADDING_Y
    return max(width, 64.0), height + (MEMBERS_GAP if box.members else 0.0)
