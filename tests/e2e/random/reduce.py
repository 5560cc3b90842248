"""`reduced(program, fails)`: the smallest program found that still fails, by leaving out and cutting off."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import graphflow as tf
from tests.e2e.random.programs import Fed, Program, needed

__all__ = ["reduced"]


def reduced(program: Program, fails: Callable[[Program], bool]) -> Program:
    """Takes the first smaller program that fails too, until there is none."""
    while True:
        smaller = next((p for p in smaller_programs(program) if fails(p)), None)
        if smaller is None:
            return program
        program = smaller


def smaller_programs(program: Program) -> Iterator[Program]:
    """Each a little smaller: a fetch less, a step fed instead of computed, feeds in plain memory."""
    for name in program.fetches:
        if len(program.fetches) > 1:
            yield needed(replace(program, fetches=(name,)))
    for name in program.fetches:
        if len(program.fetches) > 2:
            yield needed(replace(program, fetches=tuple(f for f in program.fetches if f != name)))
    for number in reversed(range(len(program.lines))):
        cut = fed_instead(program, number)
        if cut is not None:
            yield cut
    if program.between:
        yield replace(program, between=())
        yield from (replace(program, between=(name,)) for name in program.between if len(program.between) > 1)
    for machine in ("host", "tight"):
        if program.machine not in ("host", machine):
            yield replace(program, machine=machine)
    for number, x in enumerate(program.feeds):
        plain = {"memory": "end", "special": False, "open": (False,) * len(x.shape), "role": "placeholder"}
        for plainer in (replace(x, **{key: value}) for key, value in plain.items()):  # type: ignore[arg-type]
            if plainer != x:
                yield replace(program, feeds=(*program.feeds[:number], plainer, *program.feeds[number + 1 :]))


def fed_instead(program: Program, number: int) -> Program | None:
    """The program with a placeholder in place of a step; None if the step is fetched, or makes no tensor."""
    name = program.lines[number].split(" = ", 1)[0]
    if name in program.fetches:
        return None
    with tf.Graph().as_default():
        closed = tuple(replace(x, open=(False,) * len(x.shape)) for x in program.feeds)
        _, (made,), _ = replace(program, feeds=closed, fetches=(name,), between=()).declare()
    if not isinstance(made, tf.Tensor):
        return None
    shape = tuple(made.shape.as_list())
    sizes = {n for x in program.feeds for n, o in zip(x.shape, x.open, strict=True) if o}
    fed = Fed(name, made.dtype.name, shape, tuple(n in sizes for n in shape))
    lines = (*program.lines[:number], *program.lines[number + 1 :])
    return needed(replace(program, feeds=(*program.feeds, fed), lines=lines))
