"""Which pointers of kernels are to the new values of variables: `updates_of`.

A plan lets kernels write variables in place.  Here a variable's new value gets an entry of its own in the step's table
of buffers, and it is for the runtime to put there the variable's own memory, or other memory that becomes the
variable's when the step is done (runtime/bound.py): a step that may be stopped half-way leaves the old value whole.

    step 3 (wave 2): 1, 5, 2, 2        reads variable 2 and writes it:   1, 5, 2, 2'
    step 4 (wave 3): 2, 6              reads what was written:           2', 6
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from graphflow.compiler.plan import Step

__all__ = ["updates_of"]


def updates_of(
    steps: Sequence[Step], variables: Collection[int], first: int
) -> tuple[tuple[int, ...], list[Mapping[int, int]]]:
    """The buffers that get further entries, in the order of these, which start at `first`; and for each step, by the
    numbers of its arguments, the entries that take the place of buffers.
    """
    entries: dict[int, int] = {}
    of_steps: list[Mapping[int, int]] = []
    for step in steps:
        stored = {s.buffer for s in step.kernel.stores}
        changed = {n: b for n, b in enumerate(step.arguments) if b in entries or (b in variables and n in stored)}
        for buffer in changed.values():
            entries.setdefault(buffer, first + len(entries))
        of_steps.append({n: entries[buffer] for n, buffer in changed.items()})
    return tuple(entries), of_steps
