"""Memory that kernels need beside the plan's buffers: `spaces_of`.

A contraction may need a workspace, alive in its wave, and a packed copy of an operand.  Contractions that pack the same
operand in the same way share the copy: the first one packs it, or the set-up where the operand never changes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from graphflow.compiler.llvm.kernel import KernelCode, Memory
from graphflow.core.dim import Size

if TYPE_CHECKING:
    from graphflow.compiler.plan import Step

__all__ = ["Space", "spaces_of"]


@dataclass(eq=False)
class Space:
    """Memory for a kernel's use, in the waves from `first` to `last`, or `kept` from step to step.

    `slot`: where it stands in the table of buffers; those that are kept stand last.
    """

    bytes: Size
    first: int
    last: int
    owner: int  # the number of the step that packs into it
    kept: bool = False
    slot: int = -1


def spaces_of(
    steps: Sequence[Step], codes: Sequence[KernelCode], buffers: int, *, keep: bool = True
) -> tuple[list[Space], list[dict[Memory, Space]]]:
    """All spaces in the order of their slots, which start at `buffers`; and those of each step.

    Without `keep` each step packs what never changes, too: nothing is filled where it is not checked.
    """
    made: list[Space] = []
    packed: dict[Any, Space] = {}
    writes: dict[int, int] = {}
    of_steps: list[dict[Memory, Space]] = []
    for n, (step, code) in enumerate(zip(steps, codes, strict=True)):
        mine: dict[Memory, Space] = {}
        if code.workspace_bytes != 0:
            mine[Memory.WORKSPACE] = Space(code.workspace_bytes, step.wave, step.wave, n)
            made.append(mine[Memory.WORKSPACE])
        if code.packing is not None:
            buffer = step.arguments[code.packs]
            key = code.packing, buffer, step.offsets[code.packs], writes.get(buffer, 0), code.kept
            if key not in packed:
                packed[key] = Space(code.packed_bytes, step.wave, step.wave, n, code.kept and keep)
                made.append(packed[key])
            mine[Memory.PACKED] = packed[key]
            packed[key].last = step.wave
        of_steps.append(mine)
        for s in step.kernel.stores:
            buffer = step.arguments[s.buffer]
            writes[buffer] = writes.get(buffer, 0) + 1
    made.sort(key=lambda space: space.kept)
    for slot, space in enumerate(made, buffers):
        space.slot = slot
    return made, of_steps
