"""The native thread pool that steps run their big launches on.

    set_thread_count(2)                 # or GRAPHFLOW_NUM_THREADS=2; else what affinity and container quota allow
    pool().address                      # of gf_parallel_for; compiled modules call it by name
    pool().parallel_for(f, units=100)   # for tests: f is the address of a launch

    void gf_parallel_for(ptr f, ptr args, ptr dims, i64 units, ptr scratch, i64 scratch_stride, i64 work,
                         i64 order, ptr limits)

calls `f(args, dims, begin, end, scratch + w * scratch_stride)` until [0, units) is covered, then returns. Which
thread takes which units next says `order` (compiler/llvm/launch_order.py). The caller
is worker w = 0 and works too; w < thread_count(), and below what the limits allow (compiler/llvm/limits.py), for
the thread count may grow while a step runs. A caller that finds the pool busy, because another Python thread's
step or a launch of its own is using it, does its work alone instead of waiting. The pool is LLVM code, without Python.

Workers exit when the thread count shrinks, are started by the first job that wants them, and also after a fork, which
leaves a child with none. They block all signals, so that Ctrl-C reaches Python, and flush denormals. At exit they are
parked or polling, which the operating system ends. On systems other than Linux on x86-64 or 64-bit ARM there are no
workers, and `gf_parallel_for` runs everything on the caller's thread: the thread count is 1 there.
"""

from __future__ import annotations

import ctypes
import functools
import os
import platform
from typing import TYPE_CHECKING, Any

from graphflow.compiler.llvm.launch_order import Order
from graphflow.compiler.llvm.target import host_target
from graphflow.core.fork import MAKING, renew_after_fork
from graphflow.runtime.cpus import available_cpus

if TYPE_CHECKING:
    from graphflow.compiler.llvm.load import LoadedLibrary

MAX_THREADS = 1024
FUTEX_CALL = {"x86_64": 202, "amd64": 202, "aarch64": 98, "arm64": 98}

# The pool's words (i64), one cache line for each that different threads write at the same time.
LINE = 8
WORDS = {
    "gate": 0,
    "bell": 2 * LINE,
    "sleepers": 3 * LINE,
    "busy": 4 * LINE,
    "wanted": 5 * LINE,  # threads, with the caller
    "running": 6 * LINE,  # workers that exist
    "f": 7 * LINE,  # the job's descriptor
    "args": 7 * LINE + 1,
    "dims": 7 * LINE + 2,
    "units": 7 * LINE + 3,
    "scratch": 7 * LINE + 4,
    "stride": 7 * LINE + 5,
    "threads": 7 * LINE + 6,
    "block": 7 * LINE + 7,
    "limits": 8 * LINE,
    "look": 8 * LINE + 1,
    "shares": 8 * LINE + 2,  # how many there are, and of how many units each but the last is
    "share": 8 * LINE + 3,
    "backward": 8 * LINE + 4,  # whether shares are taken from their backs
    "turned": 9 * LINE,  # whether the last job was done from the back; callers that work alone write it too
    "taken": 10 * LINE,  # how many units of each share are taken, MAX_THREADS words, LINE apart
    "alive": (10 + MAX_THREADS) * LINE,  # MAX_THREADS words: worker w exists
}

_chosen: int | None = None


class Pool:
    """The process' workers. Get it from `pool()`; it starts no thread before the first job."""

    def __init__(self, code: LoadedLibrary):
        self._code = code
        self.address = code.address("gf_parallel_for")
        self._resize = ctypes.CFUNCTYPE(None, ctypes.c_int64)(code.address("gf_set_threads"))
        self._forget = ctypes.CFUNCTYPE(None)(code.address("gf_forget_workers"))
        self._words = (ctypes.c_int64 * (WORDS["alive"] + MAX_THREADS)).from_address(code.address("gf_pool"))
        renew_after_fork(self)

    @property
    def threads(self) -> int:
        """How many threads a job may use, with the caller's. A step's scratch has room for that many."""
        return self._words[WORDS["wanted"]]

    @property
    def threads_address(self) -> int:
        """Where native code reads `threads`, an int64."""
        return ctypes.addressof(self._words) + 8 * WORDS["wanted"]

    @property
    def running(self) -> int:
        """How many workers exist at the moment; they start with the first job and end some time after a shrink."""
        return self._words[WORDS["running"]]

    def after_fork(self) -> None:
        """In a child after a fork: there are no workers."""
        self._forget()

    def resize(self, threads: int) -> None:
        """Use that many threads from the next job on."""
        self._resize(threads)

    def parallel_for(
        self,
        f: int,
        args: int = 0,
        dims: int = 0,
        units: int = 1,
        scratch: int = 0,
        scratch_stride: int = 0,
        work: int = 0,
        order: Order = Order.SHARES,
        limits: int = 0,
    ) -> None:
        """Call `gf_parallel_for`, all pointers given as addresses; for tests and measurements."""
        native_parallel_for(self.address)(f, args, dims, units, scratch, scratch_stride, work, order, limits)


@functools.cache
def native_parallel_for(address: int) -> Any:
    """gf_parallel_for as a Python function that releases the GIL."""
    pointer, number = ctypes.c_void_p, ctypes.c_int64
    return ctypes.CFUNCTYPE(None, pointer, pointer, pointer, number, pointer, number, number, number, pointer)(address)


def pool() -> Pool:
    """The process' only pool, compiled or loaded at the first call."""
    with MAKING:
        return make_pool()


@functools.cache
def make_pool() -> Pool:
    """Load the pool. Its code and words stay where they are until the process ends; modules loaded from now on know
    `gf_parallel_for` and `gf_poll`."""
    from graphflow.compiler.llvm.load import declare_symbol, stored_library

    code = stored_library("thread pool", _written, host_target())
    code.keep_forever()
    for name in ("gf_parallel_for", "gf_poll"):
        declare_symbol(name, code.address(name))
    made = Pool(code)
    made.resize(thread_count())
    return made


def _written() -> object:
    """The pool's module, where it is not stored."""
    from graphflow.runtime.thread_pool_code import pool_module

    return pool_module(host_target())


def thread_count() -> int:
    """Threads that a step uses: the number set, or GRAPHFLOW_NUM_THREADS, or the CPUs this process may use."""
    if not has_workers():
        return 1
    if _chosen is not None:
        return _chosen
    text = os.environ.get("GRAPHFLOW_NUM_THREADS", "").strip()
    return checked_count(text, "GRAPHFLOW_NUM_THREADS") if text else min(available_cpus(), MAX_THREADS)


def set_thread_count(threads: int) -> None:
    """Use `threads` threads for steps that start after this; more than there are CPUs is allowed, and slow.

    A step that runs meanwhile uses no more of them than it had at its start. ValueError if `threads` is not in
    1..MAX_THREADS.
    """
    global _chosen
    with MAKING:
        _chosen = checked_count(str(threads), "the thread count")
        if make_pool.cache_info().currsize:
            make_pool().resize(thread_count())


def checked_count(text: str, what: str) -> int:
    """The thread count that `text` says. ValueError, naming `what`, if it is not a possible one."""
    if not text.isdecimal() or not 1 <= int(text) <= MAX_THREADS:
        raise ValueError(f"{what} must be a whole number from 1 to {MAX_THREADS}, got {text!r}")
    return int(text)


def has_workers() -> bool:
    """Whether this system gets worker threads: Linux on an architecture whose futex call we know."""
    return platform.system() == "Linux" and platform.machine().lower() in FUTEX_CALL
