"""All that a run needs besides machine code: `Layout`, of a plan and its step; and both as bytes (`pack`, `unpack`).

The bytes are a length, a JSON text, and what is binary: the object code, then the constants, save for those that the
user's graph has, which are at hand where the program is wanted.  JSON and not pickle, so that reading it makes numbers,
strings and arrays and runs nothing; what is not as expected raises ValueError.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from graphflow.compiler.buffers import BufferSpec
from graphflow.core.dim import Atom, Dim, FloorDiv, Size, Symbol
from graphflow.core.dtype import as_dtype
from graphflow.core.node import Array
from graphflow.core.type import TensorType

if TYPE_CHECKING:
    from graphflow.compiler.llvm.check_report import Checked
    from graphflow.compiler.llvm.step import StepCode
    from graphflow.compiler.plan import Plan, Step

__all__ = ["Layout", "Packed", "layout_of", "pack", "unpack"]

LENGTH_BYTES = 8
FIELDS = ("symbols", "reads", "writes", "kept", "updates", "scratch_bytes", "nanoseconds")
"""What JSON holds as it is."""

STORED, KNOWN = "stored", "known"
"""Where a constant is: among what is binary, or in the graph."""

OPERATIONS_PER_NS, FLOPS_PER_NS, BYTES_PER_NS, KERNEL_NS = 2, 20, 5, 20
"""What one core does at the least; orders of magnitude will do."""


@dataclass(frozen=True)
class Layout:
    """Types of the feeds, buffers, symbols, what must be initialized and what gets a value, as a `Plan` has them;
    workspaces, kept memory, updates and bytes of scratch, as a `StepCode` has them; and about how long a step takes one
    core."""

    feeds: tuple[TensorType, ...]
    buffers: tuple[BufferSpec, ...]
    symbols: tuple[str, ...]
    reads: tuple[str, ...]
    writes: tuple[str, ...]
    workspaces: tuple[tuple[Size, int, int], ...] = ()
    kept: tuple[int, ...] = ()
    updates: tuple[int, ...] = ()
    scratch_bytes: int = 0
    nanoseconds: int = 0
    checked: Checked | None = None  # never stored

    @property
    def red_zone(self) -> int:
        """Bytes to leave free behind each buffer."""
        return 0 if self.checked is None else self.checked.red_zone

    @property
    def functions(self) -> tuple[str, ...]:
        """What the runtime calls in the machine code."""
        return ("step", "setup") if self.kept else ("step",)


def layout_of(plan: Plan, code: StepCode | None) -> Layout:
    """What a run needs of a plan and of its code; no code where it is interpreted."""
    of_code = ((), (), (), 0) if code is None else (code.workspaces, code.kept, code.updates, code.scratch_bytes)
    feeds = plan.program.feeds
    nanoseconds = sum(_nanoseconds(step) for step in plan.steps)
    checked = None if code is None else code.checked
    of_plan = feeds, plan.buffers, plan.symbols, plan.reads, plan.writes
    return Layout(*of_plan, *of_code, nanoseconds, checked)


def _nanoseconds(step: Step) -> int:
    """About how long a kernel takes one core, by the sizes that were seen when it was compiled."""
    from graphflow.compiler.loops.work import work_of

    work = work_of(step.kernel, {})
    spent = work.operations // OPERATIONS_PER_NS + work.flops // FLOPS_PER_NS + work.bytes // BYTES_PER_NS
    return spent + KERNEL_NS


@dataclass(frozen=True)
class Packed:
    """A compiled program as it is kept: where it assumed variables to have values or not, and its objects.

    Where the sizes of `static` must be numbers there is nothing else.
    """

    static: tuple[str, ...]
    layout: Layout | None = None
    assumed_initialized: Mapping[str, bool] | None = None
    objects: tuple[bytes, ...] = ()


def pack(packed: Packed, known: Sequence[Array] = ()) -> bytes:
    """The bytes of a program; those of constants that are `known` are not among them."""
    blobs: list[bytes] = list(packed.objects)
    head: dict[str, Any] = {"static": packed.static, "objects": len(blobs)}
    if packed.layout is not None:
        layout = packed.layout
        head |= {name: getattr(layout, name) for name in FIELDS}
        places = {array: n for n, array in enumerate(known)}
        head["buffers"] = [_buffer_text(b, blobs, places) for b in layout.buffers]
        head["workspaces"] = [(_size_text(size), first, last) for size, first, last in layout.workspaces]
        head["assumed"] = dict(packed.assumed_initialized or {})
    head["blobs"] = [len(blob) for blob in blobs]
    text = json.dumps(head, separators=(",", ":")).encode()
    return b"".join([len(text).to_bytes(LENGTH_BYTES, "little"), text, *blobs])


def unpack(content: bytes, feeds: Sequence[TensorType], known: Sequence[Array] = ()) -> Packed:
    """What `pack` was given, the same constants known.  ValueError for anything else."""
    try:
        return _unpack(content, tuple(feeds), known)
    except (KeyError, IndexError, TypeError, AttributeError) as error:
        raise ValueError(f"no packed program: {error!r}") from error


def _unpack(content: bytes, feeds: tuple[TensorType, ...], known: Sequence[Array]) -> Packed:
    start = LENGTH_BYTES + int.from_bytes(content[:LENGTH_BYTES], "little")
    head = json.loads(content[LENGTH_BYTES:start])
    if head["static"]:
        return Packed(tuple(map(_text, head["static"])))
    blobs = []
    for length in head["blobs"]:
        blobs.append(content[start : start + _number(length)])
        start += length
    if start != len(content):
        raise ValueError(f"{len(content)} bytes where {start} were packed")
    layout = Layout(
        feeds,
        tuple(_buffer(b, blobs, known) for b in head["buffers"]),
        tuple(map(_text, head["symbols"])),
        tuple(map(_text, head["reads"])),
        tuple(map(_text, head["writes"])),
        tuple((_size(size), _number(first), _number(last)) for size, first, last in head["workspaces"]),
        tuple(map(_number, head["kept"])),
        tuple(map(_number, head["updates"])),
        _number(head["scratch_bytes"]),
        _number(head["nanoseconds"]),
    )
    return Packed(
        (), layout, {_text(k): bool(v) for k, v in head["assumed"].items()}, tuple(blobs[: _number(head["objects"])])
    )


def _buffer_text(buffer: BufferSpec, blobs: list[bytes], places: Mapping[Array, int]) -> Any:
    key = buffer.key
    if buffer.kind == "constant":
        place = places.get(key)
        key = (KNOWN, place) if place is not None else (STORED, len(blobs))
        blobs += [buffer.key.value.tobytes()] if place is None else []
    sizes = [_size_text(size) for size in buffer.shape]
    return buffer.kind, key, buffer.dtype.name, sizes, buffer.first, buffer.last


def _buffer(row: Any, blobs: list[bytes], known: Sequence[Array]) -> BufferSpec:
    kind, key, dtype, sizes, first, last = row
    type_ = TensorType(as_dtype(_text(dtype)), tuple(map(_size, sizes)))
    if kind == "constant":
        where, place = key
        key = _stored(blobs[_number(place)], type_) if where == STORED else known[_number(place)]
        if key.value.shape != type_.dims or key.value.dtype != type_.dtype.numpy:
            raise ValueError(f"a constant {type_} is a {key.value.dtype}{key.value.shape}")
    elif kind == "variable":
        key = _text(key)
    elif kind in ("feed", "output"):
        key = _number(key)
    elif kind != "arena":
        raise ValueError(f"no kind of buffer: {kind!r}")
    return BufferSpec(kind, key, type_, _number(first), _number(last))


def _stored(data: bytes, type_: TensorType) -> Array:
    """A constant of these bytes.  ValueError if there are too many, or too few."""
    return Array(np.frombuffer(data, type_.dtype.numpy).reshape(tuple(map(_number, type_.dims))))


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{value!r} where a name should be")
    return value


def _number(value: Any) -> int:
    if type(value) is not int or value < 0:
        raise ValueError(f"{value!r} where a count should be")
    return value


# sizes: a number, or the terms of a polynomial


def _size_text(size: Size) -> Any:
    if not isinstance(size, Dim):
        return size
    return [([_atom_text(a) for a in monomial], c) for monomial, c in size.terms]


def _atom_text(atom: Atom) -> Any:
    if isinstance(atom, FloorDiv):
        return atom.key, _size_text(atom.numerator), _size_text(atom.denominator)
    if isinstance(atom, Symbol) and atom.bound is None:
        return atom.key, atom.hint
    raise ValueError(f"the atom {atom} has no place in a layout")


def _size(text: Any) -> Size:
    if isinstance(text, list):
        return Dim(tuple((tuple(map(_atom, monomial)), int(c)) for monomial, c in text))
    return _number(text)


def _atom(text: Any) -> Atom:
    if len(text) == 2:
        key, hint = text
        return Symbol(_text(key), None if hint is None else _number(hint))
    key, numerator, denominator = text
    above = _size(numerator)
    if not isinstance(above, Dim):
        raise ValueError(f"the quotient {key} is of a number")
    return FloorDiv(_text(key), above, _size(denominator))
