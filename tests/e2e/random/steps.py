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
    classified,
    compared,
    converted,
    divided,
    kinked,
    logical,
    quotient,
    rounded,
    scaled,
    smooth,
    summed,
    whole,
)
from tests.e2e.random.products import by_itself, layer, matmul, tensordot
from tests.e2e.random.programs import MACHINES, Program, names_in, needed
from tests.e2e.random.reductions import batch_normalized, crossed, normalized, reduced, reduced_together
from tests.e2e.random.sampled import dropped, sampled
from tests.e2e.random.shapes import counted, filled, measured, shaped_alike
from tests.e2e.random.updates import assigned, derived, gradients, updates
from tests.e2e.random.views import (
    beside,
    concatenated,
    cut,
    hot,
    masked_slice,
    padded,
    passed,
    repeated,
    reshaped,
    reversed_,
    shifted,
    sliced,
    squeezed,
    stacked,
    transposed,
)
from tests.e2e.random.windows import convolution, convolution_derivative, pool

__all__ = ["random_program"]

Step = Callable[[Drawing], Any]

STEPS: tuple[tuple[Step, int], ...] = (
    (smooth, 4), (kinked, 3), (rounded, 1), (binary, 4), (scaled, 2), (whole, 1), (compared, 1), (logical, 1),
    (chosen, 2), (converted, 2), (reduced, 4), (reduced_together, 4), (normalized, 3), (crossed, 1), (matmul, 4),
    (by_itself, 1), (tensordot, 1), (convolution, 4), (pool, 2), (padded, 3), (sliced, 4), (shifted, 2),
    (reversed_, 1), (transposed, 3), (reshaped, 3), (concatenated, 3), (stacked, 2), (cut, 2), (repeated, 2),
    (hot, 1), (squeezed, 1), (divided, 1), (quotient, 2), (classified, 1), (summed, 1), (layer, 1),
    (convolution_derivative, 1), (sampled, 1), (dropped, 1), (measured, 1), (filled, 1), (counted, 1),
    (shaped_alike, 1), (masked_slice, 1), (passed, 1), (beside, 4), (batch_normalized, 1), (derived, 2), (assigned, 2),
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
    between = drawing.some([v.name for v in made], 2) if drawing.chance(0.2) else []
    whole = Program(tuple(drawing.feeds), tuple(drawing.lines), tuple(names), exact, machine(drawing), tuple(between))
    return needed(whole)


def machine(drawing: Drawing) -> str:
    """What a program is compiled for."""
    kind = drawing.choice(MACHINES)
    if kind != "some":
        return str(kind)
    return f"some {drawing.number(0, 999)}{drawing.choice(('', '', ' avx2', ' sse2'))}"
