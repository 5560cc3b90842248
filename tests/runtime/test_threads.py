"""The thread pool: every unit is run exactly once whatever the number of threads, callers, forks and shrinks."""

import ctypes
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from graphflow.compiler.llvm.jit import CompiledModule, assembly_for, compile_module
from graphflow.compiler.llvm.launch_order import Order
from graphflow.compiler.llvm.limits import LIMIT_WORDS, LOOK, LOOK_NS, NEVER, NEXT_LOOK, STOP, THREADS
from graphflow.compiler.llvm.target import NEON, SSE2, host_target
from graphflow.runtime import thread_pool_code, threads
from graphflow.runtime.threads import pool, set_thread_count, thread_count

# count: args[0][unit] += dims[0] for each unit; scratch[0] += 1 for each unit.
# nested: each unit runs `count` on that unit through the pool.
# denormal: args[0][unit] = 1e-40 * 0.5 computed at run time.
LAUNCHES = """
declare void @gf_parallel_for(ptr, ptr, ptr, i64, ptr, i64, i64, i64, ptr)

define void @count(ptr %args, ptr %dims, i64 %begin, i64 %end, ptr %scratch) {
entry:
  %counts = load ptr, ptr %args
  %amount = load i64, ptr %dims
  br label %loop
loop:
  %unit = phi i64 [%begin, %entry], [%next, %loop]
  %place = getelementptr i64, ptr %counts, i64 %unit
  %old = load i64, ptr %place
  %new = add i64 %old, %amount
  store i64 %new, ptr %place
  %seen = load i64, ptr %scratch
  %more = add i64 %seen, 1
  store i64 %more, ptr %scratch
  %next = add i64 %unit, 1
  %again = icmp slt i64 %next, %end
  br i1 %again, label %loop, label %done
done:
  ret void
}

define void @nested(ptr %args, ptr %dims, i64 %begin, i64 %end, ptr %scratch) {
  call void @gf_parallel_for(ptr @count, ptr %args, ptr %dims, i64 50, ptr %scratch, i64 0, i64 0, i64 0, ptr null)
  ret void
}

define void @slow(ptr %args, ptr %dims, i64 %begin, i64 %end, ptr %scratch) {
entry:
  br label %loop
loop:
  %i = phi i64 [0, %entry], [%j, %loop]
  store volatile i64 %i, ptr %scratch
  %j = add i64 %i, 1
  %again = icmp slt i64 %j, 20000
  br i1 %again, label %loop, label %done
done:
  call void @count(ptr %args, ptr %dims, i64 %begin, i64 %end, ptr %scratch)
  ret void
}

define void @denormal(ptr %args, ptr %dims, i64 %begin, i64 %end, ptr %scratch) {
  call void @slow(ptr %args, ptr %dims, i64 %begin, i64 %end, ptr %scratch)
  %xs = getelementptr ptr, ptr %args, i64 1
  %x = load ptr, ptr %xs
  %place = getelementptr float, ptr %x, i64 %begin
  %value = load volatile float, ptr %place
  %half = fmul float %value, 0.5
  store float %half, ptr %place
  ret void
}
"""

needs_workers = pytest.mark.skipif(not threads.has_workers(), reason="this system has no worker threads")


@pytest.fixture(scope="module")
def launches() -> CompiledModule:
    pool()  # makes gf_parallel_for known
    return compile_module(LAUNCHES, host_target())


@pytest.fixture(autouse=True)
def same_threads_after() -> Iterator[None]:
    before = thread_count()
    yield
    if threads.has_workers():
        set_thread_count(before)


class Job:
    """Arrays for one caller; `run` adds `amount` to the first `units` counts."""

    def __init__(self, address: int, most_units: int):
        self.address = address
        self.counts = np.zeros(most_units, np.int64)
        self.scratch = np.zeros((threads.MAX_THREADS if most_units else 1, 8), np.int64)
        self.pointers = np.array([self.counts.ctypes.data, 0], np.uintp)
        self.work = 0
        self.order = Order.SHARES
        self.limits = np.zeros(LIMIT_WORDS, np.int64)
        self.limits[[THREADS, NEXT_LOOK]] = threads.MAX_THREADS, NEVER

    def run(self, units: int, amount: int = 1) -> None:
        dims = np.array([amount], np.int64)
        pool().parallel_for(
            self.address,
            self.pointers.ctypes.data,
            dims.ctypes.data,
            units,
            self.scratch.ctypes.data,
            scratch_stride=64,
            work=self.work,
            order=self.order,
            limits=self.limits.ctypes.data,
        )


def stress(job: Job, rounds: int, seed: int) -> None:
    """Random unit counts; sums are exact after every round."""
    generator = random.Random(seed)
    expected = np.zeros_like(job.counts)
    for amount in range(1, rounds + 1):
        units = generator.choice((1, 2, 3, 4, 5, 7, 16, 33, 100, len(expected)))
        job.run(units, amount)
        expected[:units] += amount
        assert np.array_equal(job.counts, expected), f"round {amount} of {units} units"
    assert job.scratch[:, 0].sum() > 0


ORDERS = [Order.SHARES, Order.TOGETHER, Order.TURNING, Order.TOGETHER | Order.TURNING]


@pytest.mark.parametrize("order", ORDERS, ids=str)
@pytest.mark.parametrize("count", [1, 2, 4])
def test_every_unit_runs_exactly_once(launches: CompiledModule, count: int, order: Order) -> None:
    if threads.has_workers():
        set_thread_count(count)
    job = Job(launches.address("count"), 300)
    job.order = order
    stress(job, 1000, seed=count)
    assert not job.scratch[count:].any(), "a thread beyond the count has worked"


def test_no_units_call_nothing(launches: CompiledModule) -> None:
    job = Job(launches.address("count"), 10)
    job.run(0)
    job.run(-3)
    assert not job.counts.any()


@needs_workers
def test_workers_take_part(launches: CompiledModule) -> None:
    set_thread_count(2)
    job = Job(launches.address("slow"), 400)
    deadline = time.monotonic() + 10
    while not job.scratch[1, 0] and time.monotonic() < deadline:
        job.run(400)
    assert job.scratch[1].any()
    assert job.scratch[2:].sum() == 0


def beginnings(units: int, order: Order) -> dict[int, int]:
    """Which unit each thread began a job with."""
    began: dict[int, int] = {}
    signature = ctypes.CFUNCTYPE(
        None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p
    )

    def note(args: int, dims: int, begin: int, end: int, scratch: int) -> None:
        began.setdefault(threading.get_ident(), begin)
        time.sleep(0.0001)

    launch = signature(note)
    address = ctypes.cast(launch, ctypes.c_void_p).value
    assert address is not None
    pool().parallel_for(address, units=units, order=order)
    return began


def first_of_worker(order: Order) -> Iterator[int]:
    """Which of 21 units a worker began with, job after job, where it came in time."""
    set_thread_count(2)
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        began = beginnings(21, order)
        del began[threading.get_ident()]
        yield from began.values()


@needs_workers
def test_a_thread_takes_its_own_share_first() -> None:
    """A worker begins in the second half, however late it comes: the caller has no reason to leave it the first."""
    assert all(first >= 11 for first, _ in zip(first_of_worker(Order.SHARES), range(20), strict=False))


@needs_workers
def test_units_that_are_together_are_taken_in_turn() -> None:
    assert any(first < 11 for first in first_of_worker(Order.TOGETHER))


def test_every_other_job_begins_at_the_end() -> None:
    if threads.has_workers():
        set_thread_count(1)
    begun = [beginnings(7, Order.TURNING)[threading.get_ident()] for _ in range(4)]
    assert begun in ([0, 6, 0, 6], [6, 0, 6, 0])
    assert [beginnings(7, Order.SHARES)[threading.get_ident()] for _ in range(3)] == [0, 0, 0]


@needs_workers
@pytest.mark.parametrize("order", ORDERS, ids=str)
def test_many_callers_at_once(launches: CompiledModule, order: Order) -> None:
    set_thread_count(4)
    jobs = [Job(launches.address("count"), 200) for _ in range(4)]
    for job in jobs:
        job.order = order
    with ThreadPoolExecutor(4) as callers:
        list(callers.map(stress, jobs, [400] * 4, range(4)))


@needs_workers
def test_a_job_within_a_job_does_not_turn_it_round() -> None:
    """A worker that comes late goes the way its job began, though what ran alone meanwhile went the other way."""
    set_thread_count(2)
    signature = ctypes.CFUNCTYPE(
        None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p
    )
    counts = [0] * 20
    nothing = signature(lambda args, dims, begin, end, scratch: None)

    def count(args: int, dims: int, begin: int, end: int, scratch: int) -> None:
        pool().parallel_for(ctypes.cast(nothing, ctypes.c_void_p).value or 0, units=2, order=Order.TURNING)
        for unit in range(begin, end):
            counts[unit] += 1
        time.sleep(0.0001 if threading.current_thread() is threading.main_thread() else 0.001)  # which leaves it some

    launch = signature(count)
    for n in range(1, 31):
        time.sleep(0.001)  # till the worker is parked
        pool().parallel_for(ctypes.cast(launch, ctypes.c_void_p).value or 0, units=20, order=Order.TURNING)
        assert counts == [n] * 20


@needs_workers
def test_parked_workers_wake(launches: CompiledModule) -> None:
    set_thread_count(4)
    job = Job(launches.address("count"), 50)
    for _ in range(30):
        time.sleep(random.uniform(0, 0.002))
        job.run(50)
    assert np.array_equal(job.counts, np.full(50, 30))


@needs_workers
def test_a_launch_inside_a_launch_runs_on_its_own_thread(launches: CompiledModule) -> None:
    set_thread_count(1)
    job = Job(launches.address("nested"), 50)
    job.run(1)
    assert np.array_equal(job.counts, np.full(50, 1))
    set_thread_count(2)
    pool().parallel_for(
        launches.address("nested"), job.pointers.ctypes.data, np.array([0]).ctypes.data, 8, job.scratch.ctypes.data, 64
    )


@needs_workers
def test_growing_and_shrinking(launches: CompiledModule) -> None:
    job = Job(launches.address("count"), 64)
    for round_, count in enumerate([4, 1, 2, 4, 3, 1, 4, 2] * 20):
        set_thread_count(count)
        job.scratch[:] = 0
        job.run(64)
        assert not job.scratch[count:].any()
        assert np.array_equal(job.counts, np.full(64, round_ + 1))
    set_thread_count(1)
    deadline = time.monotonic() + 5
    while pool().running and time.monotonic() < deadline:
        time.sleep(0.001)
    assert pool().running == 0


@needs_workers
def test_a_job_has_the_threads_that_its_scratch_has_room_for(launches: CompiledModule) -> None:
    """However many there are when it starts: the thread count may have grown since its caller made the scratch."""
    job = Job(launches.address("slow"), 400)
    job.limits[THREADS] = 2
    set_thread_count(4)
    deadline = time.monotonic() + 10
    while not job.scratch[1, 0] and time.monotonic() < deadline:
        job.run(400)
    assert job.scratch[1].any()
    for _ in range(20):
        job.run(400)
    assert not job.scratch[2:].any(), "a thread without scratch has worked"


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.skipif(not hasattr(time, "CLOCK_MONOTONIC"), reason="this system has no clock to look at")
def test_a_job_stops_when_its_limits_say_so(launches: CompiledModule, count: int) -> None:
    """Its caller looks, at a moment that it is told; nobody begins another block of units after that."""
    if threads.has_workers():
        set_thread_count(count)
    job = Job(launches.address("slow"), 5000)
    looks: list[tuple[int, int]] = []

    def look(table: int, now: int) -> None:
        looks.append((threading.get_ident(), now))
        job.limits[NEXT_LOOK] = now + 1
        job.limits[STOP] = len(looks) >= 3

    callback = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64)(look)
    job.limits[[NEXT_LOOK, LOOK]] = 0, ctypes.cast(callback, ctypes.c_void_p).value
    job.work = 5000 * LOOK_NS  # each unit is a block
    job.run(5000)
    assert [thread for thread, _ in looks] == [threading.get_ident()] * 3
    assert [now for _, now in looks] == sorted(now for _, now in looks)
    done = int(job.counts.sum())
    assert 0 < done < 5000
    job.limits[[NEXT_LOOK, STOP]] = NEVER, 0
    job.run(5000)
    assert job.counts.sum() == done + 5000
    assert len(looks) == 3


@needs_workers
@pytest.mark.skipif(not host_target().is_x86 and not host_target().is_aarch64, reason="no flush mode known")
def test_workers_flush_denormals(launches: CompiledModule) -> None:
    set_thread_count(2)
    job = Job(launches.address("denormal"), 64)
    values = np.full(64, 1e-40, np.float32)
    job.pointers[1] = values.ctypes.data
    deadline = time.monotonic() + 10
    while not job.scratch[1, 0] and time.monotonic() < deadline:
        values[:] = 1e-40
        job.run(64)
    assert (values == 0).any(), "no worker has flushed"
    set_thread_count(1)  # a worker may have had all units: alone, the caller has them
    values[:] = 1e-40
    job.run(64)
    assert (values != 0).all(), "the caller's mode is its own affair"


@needs_workers
def test_workers_leave_signals_to_python(launches: CompiledModule) -> None:
    set_thread_count(4)
    Job(launches.address("count"), 64).run(64)
    seen = []
    before = signal.signal(signal.SIGUSR1, lambda number, frame: seen.append(number))
    try:
        for _ in range(20):
            os.kill(os.getpid(), signal.SIGUSR1)
            time.sleep(0.0005)
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert seen
    texts = [path.read_text() for path in Path("/proc/self/task").glob("*/status")]
    masks = [int(line.split()[1], 16) for text in texts for line in text.splitlines() if line.startswith("SigBlk")]
    assert sum(bool(mask >> (signal.SIGINT - 1) & 1) for mask in masks) >= pool().running


CHILD = """
import os, sys
import numpy as np
from graphflow.compiler.llvm.jit import compile_module
from graphflow.compiler.llvm.target import host_target
from graphflow.runtime.threads import pool, set_thread_count, thread_count

set_thread_count(3)
pool()
address = compile_module('''
define void @f(ptr %args, ptr %dims, i64 %begin, i64 %end, ptr %scratch) {
entry:
  br label %loop
loop:
  %unit = phi i64 [%begin, %entry], [%next, %loop]
  %place = getelementptr i64, ptr %args, i64 %unit
  %old = load i64, ptr %place
  %new = add i64 %old, 1
  store i64 %new, ptr %place
  %next = add i64 %unit, 1
  %again = icmp slt i64 %next, %end
  br i1 %again, label %loop, label %done
done:
  ret void
}''', host_target())
f = address.address("f")

def work(rounds):
    counts = np.zeros(100, np.int64)
    for _ in range(rounds):
        pool().parallel_for(f, counts.ctypes.data, units=100)
    assert np.array_equal(counts, np.full(100, rounds)), counts

work(200)
assert pool().running == 2
child = os.fork()
if child == 0:
    assert pool().running == 0
    work(200)
    assert pool().running == 2
    os._exit(7)
work(200)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
print("fine")
"""


@needs_workers
def test_fork_and_exit() -> None:
    """A child after a fork gets workers of its own; neither process hangs or crashes at exit."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    # Python 3.12 and later warn of any fork of a process with threads.
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", CHILD]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "fine\n", "")


def test_thread_count_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "_chosen", None)
    monkeypatch.setattr(threads, "has_workers", lambda: True)
    monkeypatch.delenv("GRAPHFLOW_NUM_THREADS", raising=False)
    monkeypatch.setattr(threads, "available_cpus", lambda: 3)
    assert thread_count() == 3
    monkeypatch.setenv("GRAPHFLOW_NUM_THREADS", "5")
    assert thread_count() == 5
    monkeypatch.setenv("GRAPHFLOW_NUM_THREADS", "many")
    with pytest.raises(ValueError, match=r"GRAPHFLOW_NUM_THREADS must be a whole number from 1 to 1024, got 'many'"):
        thread_count()


@pytest.mark.parametrize("count", [0, -1, threads.MAX_THREADS + 1])
def test_impossible_thread_counts(count: int) -> None:
    with pytest.raises(ValueError, match="the thread count must be"):
        set_thread_count(count)


@needs_workers
def test_the_pool_is_valid_code_elsewhere() -> None:
    assert "yield" in assembly_for(thread_pool_code.pool_module(NEON), NEON)
    assert "pause" in assembly_for(thread_pool_code.pool_module(SSE2), SSE2)


def test_a_system_without_workers_runs_on_the_caller(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "has_workers", lambda: False)
    assert thread_count() == 1
    module = compile_module(thread_pool_code.pool_module(host_target()), host_target())
    calls = []
    signature = ctypes.CFUNCTYPE(
        None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p
    )
    launch = signature(lambda args, dims, begin, end, scratch: calls.append((begin, end)))
    address = ctypes.cast(launch, ctypes.c_void_p).value
    assert address is not None
    for units in (3, 0, 1, 3):
        threads.native_parallel_for(module.address("gf_parallel_for"))(address, 0, 0, units, 0, 0, 0, 0, 0)
    from_its_back, from_its_front = [(2, 3), (1, 2), (0, 1)], [(0, 1), (1, 2), (2, 3)]
    assert calls == [*from_its_back, (0, 1), *from_its_back] or calls == [*from_its_front, (0, 1), *from_its_front]
