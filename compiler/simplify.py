"""Constants folded and algebra applied, to a fixed point: `simplify(program)`.

Assumes: gradients are expanded (a stopped gradient would be lost).  Guarantees: no rule of `RULES` applies anywhere,
and values are the same bit for bit, with what rules.py and fold.py say about subnormal numbers and constants.

`RULES` says in which order the rules are tried: constants first, so that no rule needs to think of them.
"""

from __future__ import annotations

from graphflow.compiler.fold import FOLDING
from graphflow.compiler.program import TensorProgram
from graphflow.compiler.rewrite import Rules, rewrite
from graphflow.compiler.rules import ALGEBRA
from graphflow.compiler.rules_contract import CONTRACT
from graphflow.compiler.rules_elementwise import ELEMENTWISE
from graphflow.compiler.rules_view import VIEW

__all__ = ["RULES", "simplify"]

RULES = Rules((*FOLDING, *(row.rule() for row in ALGEBRA), *ELEMENTWISE, *VIEW, *CONTRACT))


def simplify(program: TensorProgram) -> TensorProgram:
    """The program in its simplest form that these rules know."""
    return rewrite(program, RULES, "simplify")
