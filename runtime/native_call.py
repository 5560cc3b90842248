"""Calls into machine code that cost a few tenths of a microsecond, with all arguments checked: the Python side.

    record = Record(step_address, feeds=[Slot(float32, (4, 784), slot=0)], outputs=[Slot(float32, (4, 10), 2)], ...)
    call = Call(Form(SINGLE, (0,)), fallback)   # `fallback(*values, out=None)` gets whatever no record accepts
    call.serve([record])
    y = call.function(x)                        # a builtin: native code checks x, makes y and runs the step
    call.function(x, out=y)                     # the same, into an array that the caller gives

All calls share one native function (`native_call_code.py`), compiled once; what to check and where to put it stands
in tables (`call_record.py`).  Where CPython or NumPy are not what this code knows, `is_native` is false and warns:
every call then takes the Python path, and `Record.run` calls the step through ctypes.
"""

from __future__ import annotations

import ctypes
import functools
import sys
import threading
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from graphflow.compiler.llvm import limits
from graphflow.compiler.llvm.load import stored_library
from graphflow.compiler.llvm.target import host_target
from graphflow.core.fork import MAKING
from graphflow.runtime import call_record as at
from graphflow.runtime.array_layout import ALIGNED, C_CONTIGUOUS, HEAD, WRITEABLE, check_layout
from graphflow.runtime.c_api import METH_FASTCALL, METH_KEYWORDS, METH_O, declare_c_api, new_builtin
from graphflow.runtime.memory import RECYCLED, most_kept

if TYPE_CHECKING:
    from graphflow.compiler.llvm.load import LoadedLibrary

__all__ = ["Call", "Form", "Record", "Slot", "idle_output_bytes", "is_native", "table_builtin", "trim_outputs"]

Array = np.ndarray[Any, Any]
READABLE = C_CONTIGUOUS | ALIGNED
CELL_WORDS = 2  # room for one element of any dtype

CALL_DOC = """The fetches for values of the feeds, in the order of feed_list.

out: arrays to write results into, in place of new ones: one for a single fetch, else a list or tuple with an array or
None for each. They must be C-contiguous, writeable, of the right dtype and shape, and share no memory with feeds or
with each other."""


@dataclass(frozen=True)
class Slot:
    """An array of a call: what it must be, and which word of the step's table of buffers gets its address."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    slot: int


@dataclass(frozen=True)
class Form:
    """What a call answers: `kind` as in call_record.py; for each fetch the number of an output, or -1 for None."""

    kind: int
    places: tuple[int, ...]
    assemble: Callable[[Any], Any] | None = None


class Record:
    """A step bound to memory: one call at a time may use it, whose hold `claim`s it or which finds it free.

    buffers: what the step's table holds before each call, addresses with anything in the slots of feeds and outputs.
    brief: the step is so quick that it keeps the GIL.
    ValueError if a slot is out of range.
    """

    def __init__(
        self,
        step: int,
        feeds: Sequence[Slot],
        outputs: Sequence[Slot],
        buffers: Sequence[int],
        dims: Sequence[int],
        *,
        brief: bool = False,
    ) -> None:
        for slot in (*feeds, *outputs):
            if not 0 <= slot.slot < len(buffers):
                raise ValueError(f"internal error: an array goes to slot {slot.slot} of {len(buffers)}")
        self.feeds, self.outputs = tuple(feeds), tuple(outputs)
        self.words = at.new_table(at.RECORD_WORDS)
        self.buffers, self.dims = at.new_table(len(buffers)), at.new_table(len(dims))
        self.limits = at.new_table(limits.LIMIT_WORDS)
        self.buffers[: len(buffers)] = buffers
        self.dims[: len(dims)] = dims
        self.results = at.new_table(len(outputs))
        self.cells = at.new_table(CELL_WORDS * len(outputs))
        self.sizes = [_sizes(slot.shape) for slot in (*feeds, *outputs)]
        self.entries = self._entries()
        for word, table in ((at.TABLE, self.buffers), (at.DIMS, self.dims), (at.ENTRIES, self.entries)):
            self.words[word] = at.address(table)
        self.words[at.LIMITS] = at.address(self.limits)
        self.words[at.RESULTS] = at.address(self.results)
        self.words[at.STEP], self.words[at.FEEDS], self.words[at.OUTPUTS] = step, len(feeds), len(outputs)
        self.words[at.RELEASE], self.words[at.STOPS] = not brief, 1
        self.limits[limits.NEXT_LOOK] = self.limits[limits.DEADLINE] = limits.NEVER
        self.limits[limits.LOOK] = native_code().address("gf_look") if is_native() else 0
        self._one = at.new_table(1)
        self.set_threads(0, at.address(self._one), 0)
        self.claim: Callable[[at.Table], int] = _claim_of(self.words)

    def _entries(self) -> at.Table:
        entries: list[int] = []
        for n, (slot, sizes) in enumerate(zip((*self.feeds, *self.outputs), self.sizes, strict=True)):
            output = n - len(self.feeds)
            needed = READABLE | (WRITEABLE if output >= 0 else 0)
            cell = at.address(self.cells) + 8 * CELL_WORDS * output if output >= 0 else 0
            entries += at.entry(slot.dtype, slot.slot, needed, sizes, len(slot.shape), cell)
        table = at.new_table(len(entries))
        table[: len(entries)] = entries
        return table

    def set_owner(self, owner: object) -> None:
        """What must live while the step runs: whatever owns the code, the buffers and this record."""
        self.words[at.OWNER] = id(owner)

    def set_threads(self, scratch: int, threads_address: int, threads: int) -> None:
        """Scratch memory, and for how many threads; a call is refused when another number stands at the address.

        A step that runs already when that number grows goes on with the threads that it has room for.
        """
        self.words[at.SCRATCH], self.words[at.THREADS_NOW], self.words[at.THREADS] = scratch, threads_address, threads
        self.limits[limits.THREADS] = threads

    @property
    def threads(self) -> int:
        """For how many threads scratch has room."""
        return int(self.words[at.THREADS])

    def use_store(self, store: int, version: int, *, updates: bool, stops: bool) -> None:
        """The words of the variables' lock; a call is refused when the variables have another version.

        stops: the step may be stopped half-way; if it updates, then memory that is nobody's, and calls have a hold.
        """
        self.words[at.STORE], self.words[at.WRITES], self.words[at.STOPS] = store, updates, stops
        self.words[at.VERSION] = version

    def forget_store(self) -> None:
        """Until `use_store` refuse all calls."""
        self.words[at.VERSION] = -1

    @property
    def version(self) -> int:
        """Of the variables that the table points to; -1 if it is not filled."""
        return int(self.words[at.VERSION])

    def begin(self, hold: at.Table, new: dict[str, Array], deadline: int) -> None:
        """For the next call, which has a hold: it makes `new` arrays the variables' values."""
        self.words[at.HOLD], self.words[at.NEW] = at.address(hold), id(new) if new else 0
        self.limits[limits.STOP], self.limits[limits.DEADLINE] = 0, deadline

    @property
    def stop(self) -> int:
        """Why the last call was stopped; 0 if it was not."""
        return int(self.limits[limits.STOP])

    def set_log(self, log: int) -> None:
        """The words of the log that every run is written to (run_log.py)."""
        self.words[at.LOG] = log

    @property
    def words_address(self) -> int:
        """Where the record is."""
        return at.address(self.words)

    @property
    def runs(self) -> int:
        """How often the step ran."""
        return int(self.words[at.RUNS])

    def run(self, values: Sequence[Array], outs: Sequence[Array | None]) -> list[Any]:
        """The outputs, by way of ctypes: for a claimed record, with arguments that were checked."""
        made = [np.empty(s.shape, s.dtype) if o is None else o for s, o in zip(self.outputs, outs, strict=True)]
        for slot, array in zip((*self.feeds, *self.outputs), (*values, *made), strict=True):
            self.buffers[slot.slot] = array.ctypes.data
        pointer = ctypes.c_void_p
        step = ctypes.CFUNCTYPE(ctypes.c_int, pointer, pointer, pointer, pointer)(int(self.words[at.STEP]))
        step(*(int(self.words[word]) for word in (at.TABLE, at.DIMS, at.SCRATCH, at.LIMITS)))
        self.words[at.RUNS] += 1
        return [a[()] if o is None else a for a, o in zip(made, outs, strict=True)]


def _claim_of(record: at.Table) -> Callable[[at.Table], int]:
    """A function that makes a record a hold's: 1, or 0 if somebody else has it."""
    if is_native():
        claim: Callable[[at.Table], int] = table_builtin("claim", "gf_claim", record)
        return claim
    lock = threading.Lock()

    def claim_in_python(hold: at.Table) -> int:
        with lock:
            free = not record[at.BUSY]
            if free:
                record[at.BUSY], hold[at.RECORD] = 1, at.address(record)
        return int(free)

    return claim_in_python


def _sizes(shape: Sequence[int]) -> at.Table:
    table = at.new_table(len(shape))
    table[: len(shape)] = shape
    return table


class Call:
    """The builtin for one pair (fetches, feeds); `held`: whoever calls has claimed the record."""

    def __init__(self, form: Form, fallback: Callable[..., Any], *, held: bool = False) -> None:
        table = self._table = at.new_table(at.RECORDS + at.KEPT_RECORDS)
        places = _sizes(form.places)
        table[at.FALLBACK], table[at.ASSEMBLE_WITH] = id(fallback), id(form.assemble)
        table[at.HELD], table[at.FORM], table[at.FETCHES] = held, form.kind, len(form.places)
        table[at.PLACES] = at.address(places)
        self._fixed = (form, fallback, places)
        table.keep = (self._fixed, ())
        self.function: Callable[..., Any] = new_builtin(
            "call", native_code().address("gf_call"), METH_FASTCALL | METH_KEYWORDS, table, CALL_DOC
        )

    def serve(self, owners: Sequence[Any]) -> None:
        """Try these first, in order: objects with a `record`. At most KEPT_RECORDS of them. One thread at a time."""
        owners = tuple(owners)[: at.KEPT_RECORDS]
        table = self._table
        table[at.COUNT] = 0  # a call that comes while the records change takes the Python path
        for n, owner in enumerate(owners):
            table[at.RECORDS + n] = owner.record.words_address
        table.keep = (self._fixed, owners)
        table[at.COUNT] = len(owners)

    @property
    def served(self) -> tuple[Any, ...]:
        """What `serve` was given last."""
        owners: tuple[Any, ...] = self._table.keep[1]
        return owners


@functools.cache
def is_native() -> bool:
    """Whether CPython and NumPy are as native code knows them; warns, once, if not."""
    try:
        check_layout()
        native_code()
    except RuntimeError as error:
        warnings.warn(f"{error}: calls take the slower Python path", RuntimeWarning, stacklevel=2)
        return False
    return True


@functools.cache
def native_code() -> LoadedLibrary:
    """The native functions, compiled at first use. RuntimeError if NumPy's table of functions is unknown."""
    facts = (sys.hexversion, HEAD, RECYCLED)
    with MAKING:
        declare_c_api()
        code = stored_library("native call", _written, host_target(), *facts)
    code.keep_forever()
    ctypes.c_int64.from_address(code.address("gf_memory_limit")).value = most_kept()
    return code


def _written() -> object:
    """The module, where it is not stored."""
    from graphflow.runtime.native_call_code import native_module

    return native_module(RECYCLED)


def table_builtin(name: str, symbol: str, table: at.Table) -> Any:
    """A builtin of one argument around a native function of a table."""
    return new_builtin(name, native_code().address(symbol), METH_O, table)


def idle_output_bytes() -> int:
    """How much memory of freed outputs waits for the next ones."""
    return ctypes.c_int64.from_address(native_code().address("gf_memory_idle")).value if is_native() else 0


def trim_outputs() -> int:
    """Give that memory back to the system; returns how many bytes."""
    return int(ctypes.PYFUNCTYPE(ctypes.c_int64)(native_code().address("gf_memory_trim"))()) if is_native() else 0
