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

__all__ = ["halves_of"]

SMALL = 1_500
"""A module of fewer instructions, some 60 ms of LLVM's time, stays whole."""

FIRST = 0.55
"""The first half's part: LLVM begins with it while Python prints the other."""


def halves_of(module: Any) -> tuple[ir.Module, ...]:
    """The halves in the order in which to begin; linkages of the module's functions change."""
    sizes: Counter[str] = Counter()
    for function in _defined(module):
        sizes[_group(function)] += sum(len(block.instructions) for block in function.blocks)
    room = sizes.total() * FIRST
    first: set[str] = set()
    for name, size in sizes.most_common():
        if size <= room:
            first.add(name)
            room -= size
    if sizes.total() < SMALL or not 0 < len(first) < len(sizes) or _has_variables(module):
        return (module,)
    for function in _called_from_other_groups(module):
        function.linkage = ""
    return _part(module, first), _part(module, sizes.keys() - first)


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
