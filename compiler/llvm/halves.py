"""A module in two halves that LLVM may compile side by side: `halves_of(module)`.

    for half in halves_of(module):      # one, the module itself, if it is small
        compile_object(str(half), target)

Functions whose names agree up to the first dot, a kernel with its tiles and packers, stay together.  What one half
calls in the other is no longer internal; constants stand in both.  A module with variables of its own, as code with
bounds checks has, stays whole.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from typing import Any

from llvmlite import ir

__all__ = ["halves_of", "work_of_groups"]

SMALL = 1_500
"""A module of fewer instructions, some 60 ms of LLVM's time, stays whole."""

FIRST = 0.6
"""The first half's part: LLVM begins with it while Python prints the other."""

PHI = 9
"""What a phi costs, in instructions: LLVM looks for better induction variables (fitted to kernels of networks)."""

EQUAL = 4
"""A function that is like another, by its numbers of instructions and blocks, costs so many times less: no code is
generated."""


def halves_of(module: Any) -> tuple[ir.Module, ...]:
    """The halves in the order in which to begin; linkages of the module's functions change."""
    sizes = work_of_groups(module)
    room = sizes.total() * FIRST
    first: set[str] = set()
    for name, size in sizes.items():
        if size <= room:
            first.add(name)
            room -= size
    if sizes.total() < SMALL or not 0 < len(first) < len(sizes) or _has_variables(module):
        return (module,)
    for function in _called_from_other_groups(module):
        function.linkage = ""
    return _part(module, first), _part(module, sizes.keys() - first)


def work_of_groups(module: ir.Module) -> Counter[str]:
    """About what each group costs LLVM, in instructions; groups with equal functions, which LLVM makes one, follow each
    other."""
    found = [(_group(function), _work(function), len(function.blocks)) for function in _defined(module)]
    largest: Counter[str] = Counter()
    for group, work, _ in found:
        largest[group] = max(largest[group], work)
    places = {group: place for place, (group, _) in enumerate(largest.most_common())}
    seen: set[tuple[int, int]] = set()
    sizes: Counter[str] = Counter()
    for group, work, blocks in sorted(found, key=lambda one: places[one[0]]):
        sizes[group] += work // EQUAL if (work, blocks) in seen else work
        seen.add((work, blocks))
    return sizes


def _work(function: ir.Function) -> int:
    return sum(PHI if isinstance(one, ir.PhiInstr) else 1 for block in function.blocks for one in block.instructions)


def _defined(module: ir.Module) -> Iterator[ir.Function]:
    return (f for f in module.functions if not f.is_declaration)


def _has_variables(module: ir.Module) -> bool:
    found = (value for value in module.globals.values() if isinstance(value, ir.GlobalVariable))
    return any(not value.global_constant for value in found)


def _group(function: ir.Function) -> str:
    name: str = function.name
    return name.partition(".")[0]


def _called_from_other_groups(module: ir.Module) -> Iterator[ir.Function]:
    """Or handed on, as what the thread pool is to call."""
    for caller in _defined(module):
        calls = (one for block in caller.blocks for one in block.instructions if isinstance(one, ir.CallInstr))
        for function in (operand for call in calls for operand in call.operands if isinstance(operand, ir.Function)):
            if not function.is_declaration and _group(function) != _group(caller):
                yield function


def _part(module: ir.Module, groups: AbstractSet[str]) -> ir.Module:
    """The functions of some groups, those of others as declarations, and whatever else there is."""
    made = ir.Module(module.name)
    made.metadata, made.namedmetadata = module.metadata, module.namedmetadata
    for name, value in module.globals.items():
        if isinstance(value, ir.Function) and not value.is_declaration and _group(value) not in groups:
            ir.Function(made, value.ftype, name)
        else:
            made.globals[name] = value
    return made
