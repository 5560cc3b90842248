"""What native calls read and write: tables of int64 words, filled by Python, kept alive by the objects around them.

    call      one for each (fetches, feeds) pair: what to do with results, and which records may serve
    record    one for each program bound to sizes and memory (`_Bound`): what feeds must be, where everything is
    entry     one for each feed and output of a record: dtype, layout, shape, slot in the table of buffers
    store     one for each session: who uses the variables, and in which version they are
    hold      one for each run by way of Python: what it has or waits for
    log       one for each record whose runs somebody wants to know of (run_log.py)

All words are read and written by threads that hold the GIL, and by no others: that is the only lock there is, and the
reason why a claim (`BUSY`, `USERS`) is a plain store.  A step that runs without the GIL touches none of them but the
table of buffers of its own record, which is its own until `BUSY` is 0 again.
"""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["Table", "address", "entry", "new_table", "type_numbers"]

# call
(
    FALLBACK,  # a function that gets every call that no record serves, with all of its arguments
    COUNT,  # how many records
    HELD,  # 1: who calls has claimed the record, and has a hold
    FORM,  # what becomes of results: SINGLE, LIST, TUPLE or ASSEMBLE
    FETCHES,  # how many
    PLACES,  # for each fetch the number of an output, or -1: None
    ASSEMBLE_WITH,  # a function of the tuple of fetches
    RECORDS,  # the first of KEPT_RECORDS addresses
) = range(8)
KEPT_RECORDS = 8

SINGLE, LIST, TUPLE, ASSEMBLE = range(4)

# record
(
    BUSY,  # 1: a call is using its memory
    RUNS,  # how often it was used
    OWNER,  # the object to keep alive meanwhile
    STEP,  # address of the machine code
    TABLE,  # its four arguments
    DIMS,
    SCRATCH,
    LIMITS,  # a table (compiler/llvm/limits.py)
    THREADS,  # for how many threads scratch has room,
    THREADS_NOW,  # and where it stands how many there are
    RELEASE,  # 1: release the GIL while the step runs
    STOPS,  # 1: it may be stopped half-way
    STORE,  # the store's words, 0 if the program has nothing to do with variables
    VERSION,  # the version of the variables that the table points to
    WRITES,  # 1: it updates variables; with STOPS, in other memory than theirs, which none but a held call may do
    NEW,  # a dict of arrays that become variables' values when the step is done; 0 between calls
    HOLD,  # of a call by way of Python, which has the record
    FEEDS,
    OUTPUTS,
    ENTRIES,  # those of feeds, then those of outputs
    LOG,  # the words of its log, 0 if nobody wants to know of its runs
    RESULTS,  # for each output the array of this call; 0 between calls
) = range(22)
RECORD_WORDS = RESULTS + 1

# entry
(
    SLOT,  # of the table
    DTYPES,  # allowed type numbers, a bit each
    NEEDED,  # flags
    RANK,
    SIZES,  # where they are
    DESCR,  # the dtype, for new arrays
    BYTES,
    CELL,  # memory for an output without axes, which becomes a scalar
) = range(8)
ENTRY_WORDS = CELL + 1

# store
(
    USERS,  # UPDATING, UPDATING_ASIDE, or how many are reading the variables
    WAITERS,  # threads that wait in Python; nobody overtakes them
    UPDATERS,  # how many of these are about to update
    STORE_VERSION,
    WAKE,  # a function of one argument that wakes one of them
    VALUES,  # the dict of the variables' arrays
) = range(6)
STORE_WORDS = VALUES + 1

UPDATING, UPDATING_ASIDE = -1, -2
"""A step is updating variables: in place, or in other memory that becomes theirs when it is done."""

# hold
(
    UPDATES,  # 1: it is for a step that updates variables
    WAITING,  # 1: it waits for the variables
    USING,  # 1: it has them
    RECORD,  # the record that it has
    AGAIN,  # 1: its call was refused because the variables were in use, or others than those in the table
) = range(5)
HOLD_WORDS = AGAIN + 1

# log
(
    BEGINS,  # a function of the log and of HELD: a run begins, or, if it answers 0, must go through Python
    ENDS,  # a function of the log and 1: the run has ended, and is written down; with 0 it is not
    WRITTEN,  # how many rows were written so far
    TAKEN,  # and how many were read: their places may be written to
    ROWS,  # where they are, CAPACITY of them
    CAPACITY,
    ROW_WORDS,
    CALLER,  # the number of the thread that holds the record
    KNOWN,  # the numbers of other threads (recorded_threads.py)
    STAMPS,  # where worker 0 writes those of its launches
    STRIDE,  # bytes from there to those of the next worker
    STAMP_BYTES,  # of a worker
    WORKERS,
) = range(13)
LOG_WORDS = WORKERS + 1


class Table(np.ndarray[tuple[int], np.dtype[np.int64]]):
    """Words, with the objects whose addresses are in them."""

    keep: Any


def new_table(count: int) -> Table:
    """That many zeros, and at least one."""
    return np.zeros(max(count, 1), np.int64).view(Table)


def address(table: Table) -> int:
    """Where a table is."""
    return int(table.ctypes.data)


def entry(dtype: np.dtype[np.generic], slot: int, needed: int, sizes: Table, rank: int, cell: int = 0) -> list[int]:
    """The words of a feed or an output; `sizes` and `dtype` must stay."""
    size = dtype.itemsize * int(np.prod(sizes[:rank]))
    return [slot, type_numbers(dtype), needed, rank, address(sizes), id(dtype), size, cell]


def type_numbers(dtype: np.dtype[np.generic]) -> int:
    """NumPy's numbers of all types that are the same as `dtype`, as bits: C's long and long long may both be int64."""
    same = [np.dtype(char) for char in np.typecodes["All"] if np.dtype(char) == dtype]
    numbers = {found.num for found in same} | {dtype.num}
    if not all(0 <= number < 63 for number in numbers):
        raise ValueError(f"internal error: {dtype} is not one of NumPy's own dtypes")
    return sum(1 << number for number in numbers)
