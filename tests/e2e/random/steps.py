"""`random_program(seed, kind)`: the program of a number.

    print(random_program(7, "open"))

Steps take what was made before, the latest most often, so that chains, and several readers of one value, are frequent.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from tests.e2e.random.drawing import DTYPES, KINDS, Drawing, Kind, Refused
from tests.e2e.random.elementwise import (
    binary,
    chosen,
    compared,
    converted,
    kinked,
    logical,
    rounded,
    scaled,
    smooth,
    whole,
)
from tests.e2e.random.products import by_itself, convolution, matmul, pool, tensordot
from tests.e2e.random.programs import MACHINES, Program, names_in, needed
from tests.e2e.random.reductions import crossed, normalized, reduced, reduced_together
from tests.e2e.random.updates import gradients, updates
from tests.e2e.random.views import (
    concatenated,
    cut,
    hot,
    padded,
    repeated,
    reshaped,
    reversed_,
    shifted,
    sliced,
    squeezed,
    stacked,
    transposed,
)

__all__ = ["random_program"]

Step = Callable[[Drawing], Any]

STEPS: tuple[tuple[Step, int], ...] = (
    (smooth, 4), (kinked, 3), (rounded, 1), (binary, 4), (scaled, 2), (whole, 1), (compared, 1), (logical, 1),
    (chosen, 2), (converted, 2), (reduced, 4), (reduced_together, 4), (normalized, 3), (crossed, 1), (matmul, 4),
    (by_itself, 1), (tensordot, 1), (convolution, 2), (pool, 2), (padded, 3), (sliced, 4), (shifted, 2),
    (reversed_, 1), (transposed, 3), (reshaped, 3), (concatenated, 3), (stacked, 2), (cut, 2), (repeated, 2),
    (hot, 1), (squeezed, 1),
)  # fmt: skip
"""Each with how often it is taken."""


def steps(d: Drawing) -> list[Step]:
    """What a program takes: now and then few kinds of steps, so that these meet often."""
    table = STEPS if d.chance(0.6) else tuple(d.some(STEPS, 8, 4))
    return d.rng.choices([s for s, _ in table], [n for _, n in table], k=d.number(2, d.kind.steps))


def final_steps(kind: Kind) -> list[Step]:
    """What comes behind all others."""
    return ([gradients] if kind.gradients else []) + ([updates] if kind.training else [])


def random_program(seed: int, kind: str) -> Program:
    """The program of a number."""
    drawing = Drawing(random.Random(f"{kind} {seed}"), KINDS[kind])
    for _ in range(drawing.number(1, 3)):
        drawing.feed(drawing.shape(), drawing.choice(DTYPES))
    for step in [*steps(drawing), *final_steps(drawing.kind)]:
        attempt(drawing, step)
    return finished(drawing)


def attempt(drawing: Drawing, step: Any) -> None:
    """One step; nothing where it does not fit."""
    try:
        step(drawing)
    except Refused:
        return


def finished(drawing: Drawing) -> Program:
    """What was drawn, with some of its values as fetches, in any order, the last one always."""
    made = [v for v in drawing.values if v.name.startswith("t")] or drawing.values
    used = {name for line in drawing.lines for name in names_in(line.split(" = ", 1)[1])}
    fetched = {v.name: v for v in made if drawing.chance(0.15 if v.name in used else 0.7)} | {made[-1].name: made[-1]}
    names = [*fetched, *drawing.operations]
    drawing.rng.shuffle(names)
    exact = frozenset(v.name for v in fetched.values() if v.span)
    whole = Program(tuple(drawing.feeds), tuple(drawing.lines), tuple(names), exact, drawing.choice(MACHINES))
    return needed(whole)
