"""Rewrite a program by rules, bottom-up, until none applies: `rewrite(program, rule, "simplify")`.

A rule is a function from a node to another node of the same type, or to None where it does not apply.  It may look at
the node and at what is below it, never at who uses it: so one sweep from the inputs up reaches the fixed point.
`Rules` is a rule made of many, found by the op of the node; each has a name, which errors and dumps show.

`substitute` is for passes that choose what to replace by who uses it.

Origins are the driver's business: what a rule builds inherits the origin of what it replaces.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from graphflow.compiler.program import Origins, TensorProgram, inherit
from graphflow.core.errors import InternalError
from graphflow.core.node import Node, make_node, topological

__all__ = ["Rule", "Rules", "rewrite", "substitute"]

PATIENCE = 10_000
"""How many replacements may follow from one node of a program before the rules are called endless."""

Rewrite = Callable[[Node], Node | None]


@dataclass(frozen=True)
class Rule:
    """A named rule for nodes of some ops (none: of any op)."""

    name: str
    doc: str
    ops: tuple[str, ...]
    apply: Rewrite

    @classmethod
    def of(cls, ops: str, apply: Rewrite) -> Rule:
        """The row of a table of rules: the ops that a function is for, whose name and docstring are the rule's."""
        return cls(apply.__name__, apply.__doc__ or "", tuple(ops.split()), apply)


class Rules:
    """Many rules as one; the first that applies wins, in the order in which they were given."""

    def __init__(self, rules: Iterable[Rule]) -> None:
        self.rules = tuple(rules)
        self._general = [r for r in self.rules if not r.ops]
        named = {op for r in self.rules for op in r.ops}
        self._by_op = {op: [r for r in self.rules if not r.ops or op in r.ops] for op in named}

    def applied(self, node: Node) -> tuple[str, Node] | None:
        """(name of the rule, replacement), or None where no rule applies."""
        for rule in self._by_op.get(node.op.name, self._general):
            replacement = rule.apply(node)
            if replacement is not None:
                return rule.name, replacement
        return None

    def __call__(self, node: Node) -> Node | None:
        found = self.applied(node)
        return None if found is None else found[1]


def rewrite(program: TensorProgram, rule: Rewrite, name: str = "rule") -> TensorProgram:
    """The program with `rule` applied everywhere until it applies nowhere; the same object if that changes nothing.

    `name` stands for a rule that is a plain function.  Takes time linear in the nodes and replacements.
    Raises InternalError for a rule that changes a type and for rules that never come to an end; it names them.
    """
    nodes = program.nodes()
    rewriter = _Rewriter(rule, name, {node: program.origins.get(node, ()) for node in nodes})
    for node in nodes:
        rewriter.normalise(node)
    roots = tuple(rewriter.normal[root] for root in program.roots)
    if roots == program.roots:
        return program
    return program.with_roots(roots, {node: rewriter.origins[node] for node in topological(roots)})


class _Rewriter:
    """The normal forms found so far, and the stack of what is being worked on (no recursion: graphs are deep)."""

    def __init__(self, rule: Rewrite, name: str, origins: Origins) -> None:
        self.rule, self.name, self.origins = rule, name, origins
        self.normal: dict[Node, Node] = {}
        self.became: dict[Node, tuple[str, Node]] = {}  # (rule, replacement); "" where only inputs changed
        self.stack: list[Node] = []
        self.trail: list[str] = []  # the rules applied since the program's last node

    def normalise(self, root: Node) -> None:
        """Find the normal form of `root`."""
        self.stack = [root]
        self.trail = []
        while self.stack:
            node = self.stack[-1]
            if node in self.normal:
                self.stack.pop()
            elif node in self.became:  # its replacement lay above it on the stack and is done
                self.normal[node] = self.normal[self.became[node][1]]
            else:
                self.advance(node)

    def advance(self, node: Node) -> None:
        """Put on the stack what must be known first: inputs, or the node that replaces this one."""
        missing = [x for x in node.inputs if x not in self.normal]
        if missing:
            for x in reversed(missing):
                self.push(x)
            return
        name, replacement = self.replace(node)
        if replacement is node:
            self.normal[node] = node
            return
        inherit(self.origins, [replacement], self.origins.get(node, ()))
        self.became[node] = (name, replacement)
        if replacement not in self.normal:
            self.push(replacement)

    def replace(self, node: Node) -> tuple[str, Node]:
        """(rule, what the node becomes next); the node itself where nothing is left to do."""
        inputs = tuple(self.normal[x] for x in node.inputs)
        if inputs != node.inputs:
            return "", make_node(node.op, inputs, dict(node.attrs))
        if isinstance(self.rule, Rules):
            found = self.rule.applied(node)
        else:
            replacement = self.rule(node)
            found = None if replacement is None else (self.name, replacement)
        if found is None or found[1] is node:
            return "", node
        self.trail.append(found[0])
        if found[1].type != node.type:
            raise InternalError(
                f"internal error: rule {found[0]} changes a type: {node!r} became {found[1]!r}; inputs: "
                f"{'; '.join(map(repr, node.inputs))}"
            )
        return found

    def push(self, node: Node) -> None:
        """Work on `node` next; raises InternalError if its normal form is what is being looked for already."""
        if node in self.became:
            below = self.stack[self.stack.index(node) :]
            names = [self.became[n][0] for n in below if n in self.became]
            raise _endless(node, [name for name in names if name])
        if len(self.trail) > PATIENCE:
            raise _endless(node, sorted(set(self.trail[-50:])))
        self.stack.append(node)


def _endless(node: Node, names: list[str]) -> InternalError:
    return InternalError(f"internal error: these rules form an endless cycle: {' -> '.join(names)}; at {node!r}")


def substitute(program: TensorProgram, replacements: Mapping[Node, Node]) -> TensorProgram:
    """The program with some nodes replaced; the same object where there are none.

    Replacements are made of nodes of the program, replaced ones too: those are replaced in them as everywhere else.
    """
    if not replacements:
        return program
    origins = dict(program.origins)
    new: dict[Node, Node] = {}
    sources = program.with_roots((replacements.get(r, r) for r in program.roots), origins).nodes()
    for node in sources + program.nodes():
        _rebuild(node, replacements, new)
        inherit(origins, [new[node]], origins.get(node, ()))
    return program.with_roots((new[r] for r in program.roots), origins)


def _rebuild(root: Node, replacements: Mapping[Node, Node], new: dict[Node, Node]) -> None:
    """The node with everything under it replaced; not recursive."""
    stack = [root]
    while stack:
        node = stack[-1]
        source = replacements.get(node, node)
        waiting = [x for x in source.inputs if x not in new]
        if node in new or not waiting:
            stack.pop()
            if node not in new:
                inputs = tuple(new[x] for x in source.inputs)
                new[node] = source if inputs == source.inputs else make_node(source.op, inputs, dict(source.attrs))
        else:
            stack.extend(waiting)
