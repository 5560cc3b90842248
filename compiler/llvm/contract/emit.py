"""A contraction as launches: `emit_contraction`.

    code = emit_contraction(module, "dot", spec, host_target(), size, epilogue)
    for launch in code.launches: ...        # in this order; each finishes before the next starts

Products, convolutions and their gradients are one affine contraction (`Contraction`).  Results are computed in
register tiles (tile.py), B is packed and A staged where that pays (pack.py, stage.py), and what pays is decided
beforehand (choose.py).  After the last product each vector of results goes to the caller's epilogue, which adds a bias,
applies an activation and stores.  A long k with few results is split: partial sums go to the workspace and a last
launch adds them in a fixed order.  Convolutions of 3 x 3 windows need fewer products than that form has, where it pays
(winograd/choose.py).

Every launch is `void f(ptr args, ptr dims, i64 begin, i64 end, ptr scratch)` with args[0] = A, args[1] = B,
args[2] = packed B, args[3] = workspace; later args belong to the epilogue.  Units are independent and the same bits
come out whichever thread does which.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from graphflow.compiler.llvm.contract.choose import make_plan
from graphflow.compiler.llvm.contract.contraction import Axis, Contraction
from graphflow.compiler.llvm.contract.finish import Epilogue, EpiloguePoint
from graphflow.compiler.llvm.contract.units import Emitter, Launch
from graphflow.compiler.llvm.winograd.choose import winograd_plan
from graphflow.compiler.llvm.winograd.emit import WinogradEmitter
from graphflow.compiler.llvm.winograd.gradient_choose import gradient_plan
from graphflow.compiler.llvm.winograd.gradient_emit import GradientEmitter

if TYPE_CHECKING:
    from llvmlite import ir

    from graphflow.compiler.llvm.code import SizeEmitter
    from graphflow.compiler.llvm.target import Target
    from graphflow.core.dim import Size

__all__ = ["Axis", "Contraction", "ContractionCode", "Epilogue", "EpiloguePoint", "Launch", "emit_contraction"]


@dataclass(frozen=True)
class ContractionCode:
    """What the runtime needs: launches in order, bytes of the workspace all share, bytes of each worker's scratch.

    Where the first launch packs B, or transforms it, `packing` says how and `packed_bytes` how much: it need not run
    where another's result of equal packing of the same B is given.  `kept`: B never changes, so that one run of it
    serves all steps.
    """

    launches: tuple[Launch, ...]
    workspace_bytes: Size
    scratch_bytes: int
    packed_bytes: Size = 0
    packing: tuple[object, ...] | None = None
    kept: bool = False


def emit_contraction(
    module: ir.Module,
    name: str,
    spec: Contraction,
    target: Target,
    size: SizeEmitter,
    epilogue: Epilogue,
    weight: int = 0,
) -> ContractionCode:
    """Write the launches of a contraction into `module`; their names start with `name`.

    `size(builder, size, dims)` gives a size's value and adds no blocks; numbers are handled here.  The epilogue may add
    blocks; it is written at most twice, or as often as its `weight`, about how many instructions it is, lets it pay.
    KeyError for a dtype without products.
    """
    winograd = winograd_plan(spec, target)
    if winograd is not None:
        return winograd_code(WinogradEmitter(module, name, winograd, target, size, epilogue))
    emitter = emitter_of(module, name, spec, target, size, epilogue, weight)
    plan = emitter.plan
    launches = [emitter.pack()] if plan.packs_first else []
    if plan.staged == "panels":
        launches.append(emitter.stage_panels())
    launches.append(emitter.compute())
    if plan.splits > 1:
        launches.append(emitter.reduce())
    packed, packing = emitter.packed_bytes, plan.packing if plan.packs_first else None
    kept = packing is not None and spec.is_kept and isinstance(packed, int)
    return ContractionCode(tuple(launches), emitter.workspace_bytes, emitter.scratch_bytes, packed, packing, kept)


def emitter_of(
    module: ir.Module,
    name: str,
    spec: Contraction,
    target: Target,
    size: SizeEmitter,
    epilogue: Epilogue,
    weight: int,
) -> Emitter:
    """What writes the launches of a contraction whose operands are not transformed before the first one."""
    gradient = gradient_plan(spec, target)
    if gradient is not None:
        return GradientEmitter(module, name, gradient, target, size, epilogue)
    return Emitter(module, name, make_plan(spec, target), target, size, epilogue, weight)


def winograd_code(emitter: WinogradEmitter) -> ContractionCode:
    """A convolution whose first launch transforms its filter."""
    plan, launches = emitter.winograd, (emitter.pack(), emitter.compute())
    return ContractionCode(launches, 0, emitter.scratch_bytes, emitter.packed_bytes, plan.packing, plan.spec.is_kept)
