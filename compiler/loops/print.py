"""Kernels as text, for dumps and golden tests."""

from __future__ import annotations

from graphflow.compiler.loops.ir import EVERY_STEP, Condition, Contract, Expr, Kernel, Store

__all__ = ["print_expr", "print_kernel"]


def print_kernel(kernel: Kernel) -> str:
    """A loop nest, one line a loop and one a store."""
    buffers = ", ".join(f"b{n}: {b.dtype}[{b.size}]" for n, b in enumerate(kernel.buffers))
    lines = [f"kernel {kernel.name}({buffers})"]
    first = len(kernel.buffers)
    lines += [f"  b{first + n}: {b.dtype}[{b.size}] of the thread" for n, b in enumerate(kernel.scratch)]
    if kernel.contract is not None:
        c = kernel.contract
        over = ", ".join(f"{k.symbol.key} < {k.extent}" for k in c.k)
        lines.append(f"  sum = contract({over}: b{c.a}[{c.a_index}] * b{c.b}[{c.b_index}]){_readers(c)}")
    for depth in range(len(kernel.loops) + 1):
        lines += ["  " * (depth + 1) + _store(s) for s in kernel.stores if s.depth == depth]
        if depth < len(kernel.loops):
            loop = kernel.loops[depth]
            lines.append("  " * (depth + 1) + f"for {loop.symbol.key} in {loop.extent}:")
    return "\n".join(lines)


def _readers(contract: Contract) -> str:
    """Which operands have other readers, or are the same in every step."""
    found = zip((contract.a, contract.b), contract.readers, strict=True)
    notes = [f"b{b} {'constant' if n == EVERY_STEP else f'read {n} times'}" for b, n in found if n > 1]
    return "".join(f", {note}" for note in notes)


def _store(store: Store) -> str:
    return f"b{store.buffer}[{store.index}] = {print_expr(store.value)}"


def print_expr(e: Expr, depth: int = 0) -> str:
    """An expression on one line; what is nested deeper than 12 levels is cut."""
    if depth > 12:
        return "..."
    inside = [print_expr(a, depth + 1) for a in e.args] if e.kind != "kept" else []
    match e.kind:
        case "load":
            return f"b{e.data[0]}[{e.data[1]}]"
        case "keep":
            return f"b{e.data[0]}[{e.data[1]}] := {inside[0]}"
        case "kept":
            return f"b{e.data[0]}[{e.data[1]}]"
        case "const":
            return str(e.data)
        case "position":
            return f"{e.dtype}({e.data})"
        case "guard":
            return f"({inside[0]} if {' and '.join(map(_condition, e.data))} else {inside[1]})"
        case "reduce":
            loops = ", ".join(f"{loop.symbol.key} < {loop.extent}" for loop in e.data[1])
            return f"{e.data[0]}({loops}: {inside[0]})"
        case "random":
            return f"philox({e.data[0]}, {inside[0]}, seed={e.data[1]}, stream={e.data[2]})"
        case "apply":
            attrs = [f"{k}={v}" for k, v in e.data[1]]
            return f"{e.data[0].name}({', '.join(inside + attrs)})"
        case _:
            return e.kind


def _condition(c: Condition) -> str:
    return f"{c.at} % {c.high} == 0" if c.low is None else f"{c.low} <= {c.at} < {c.high}"
