"""How many contractions of a step read an operand in the same way: `with_readers`.

    h1 = Tanh(MatMul(h0, w) + x0)
    h2 = Tanh(MatMul(h1, w) + x1)        w is read twice alike: one packed copy of it could serve both

What a constant holds is the same in every step, so a copy of it can serve them all.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from graphflow.compiler.loops.ir import EVERY_STEP, Contract, Kernel, Loop
from graphflow.core.dim import Dim, Size, atoms_of, coefficient

if TYPE_CHECKING:
    from graphflow.compiler.buffers import BufferSpec
    from graphflow.compiler.plan import Step

__all__ = ["with_readers"]


def with_readers(steps: Sequence[Step], buffers: Sequence[BufferSpec]) -> tuple[Step, ...]:
    """The steps with `Contract.readers` as they are; an operand that is written in between is another one."""
    keys = _keys(steps)
    readers = Counter(key for pair in keys.values() for key in pair)
    made = list(steps)
    for n, pair in keys.items():
        kernel = steps[n].kernel
        contract = kernel.contract
        assert contract is not None
        found = [readers[key] for key in pair]
        for i, (buffer, index) in enumerate(_operands(contract)):
            if buffers[steps[n].arguments[buffer]].kind == "constant" and _is_fixed(
                index, (*kernel.loops, *contract.k)
            ):
                found[i] = EVERY_STEP
        made[n] = replace(steps[n], kernel=replace(kernel, contract=replace(contract, readers=(found[0], found[1]))))
    return tuple(made)


def _operands(contract: Contract) -> tuple[tuple[int, Size], tuple[int, Size]]:
    return (contract.a, contract.a_index), (contract.b, contract.b_index)


def _keys(steps: Sequence[Step]) -> dict[int, tuple[Any, Any]]:
    """For each step with a contraction what its operands are and how it reads them."""
    writes: Counter[int] = Counter()
    found: dict[int, tuple[Any, Any]] = {}
    for n, step in enumerate(steps):
        contract = step.kernel.contract
        if contract is not None:
            first, second = (
                (step.arguments[buffer], step.offsets[buffer], writes[step.arguments[buffer]], _way(step.kernel, index))
                for buffer, index in _operands(contract)
            )
            found[n] = first, second
        writes.update(step.arguments[s.buffer] for s in step.kernel.stores)
    return found


def _way(kernel: Kernel, index: Size) -> Any:
    """Loops and how far a turn of each moves: what two kernels have in common that read alike."""
    assert kernel.contract is not None

    def moves(loops: Sequence[Loop]) -> tuple[tuple[Size, Size | None], ...]:
        return tuple((loop.extent, coefficient(index, loop.symbol)) for loop in loops)

    return moves(kernel.loops), moves(kernel.contract.k)


def _is_fixed(index: Size, loops: Sequence[Loop]) -> bool:
    """Whether the elements read depend on nothing but loops of known length."""
    known = {loop.symbol for loop in loops if isinstance(loop.extent, int)}
    return not isinstance(index, Dim) or set(atoms_of(index)) <= known
