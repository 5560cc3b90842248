"""Native calls: right arguments arrive, wrong ones come back as faults, nothing leaks, threads do not meet."""

import ctypes
import gc
import sys
import threading
import time
import weakref
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphflow.compiler.llvm.jit import CompiledModule, compile_module
from graphflow.compiler.llvm.target import host_target
from graphflow.runtime import native_call
from graphflow.runtime.native_call import (
    FREE,
    SCRATCH,
    UNBOUND,
    Argument,
    Fault,
    StepCaller,
    Symbol,
    address_of_array,
    explain,
    make_step_caller,
)

# scale: bufs[1][i] = bufs[0][i] * bufs[2][0] for i in range(dims[0]); scratch, if any, gets dims[1].
# wait: spins until bufs[0][0], an int64, is not 0.
STEPS = """
define i32 @scale(ptr %bufs, ptr %dims, ptr %scratch) {
entry:
  %n = load i64, ptr %dims
  %x = load ptr, ptr %bufs
  %yp = getelementptr ptr, ptr %bufs, i64 1
  %y = load ptr, ptr %yp
  %fp = getelementptr ptr, ptr %bufs, i64 2
  %f = load ptr, ptr %fp
  %factor = load float, ptr %f
  %none = icmp eq ptr %scratch, null
  br i1 %none, label %head, label %note
note:
  %mp = getelementptr i64, ptr %dims, i64 1
  %m = load i64, ptr %mp
  store i64 %m, ptr %scratch
  br label %head
head:
  %i = phi i64 [0, %entry], [0, %note], [%j, %body]
  %more = icmp slt i64 %i, %n
  br i1 %more, label %body, label %done
body:
  %xi = getelementptr float, ptr %x, i64 %i
  %v = load float, ptr %xi
  %w = fmul float %v, %factor
  %yi = getelementptr float, ptr %y, i64 %i
  store float %w, ptr %yi
  %j = add i64 %i, 1
  br label %head
done:
  ret i32 0
}

define i32 @wait(ptr %bufs, ptr %dims, ptr %scratch) {
entry:
  %p = load ptr, ptr %bufs
  br label %loop
loop:
  %v = load volatile i64, ptr %p
  %zero = icmp eq i64 %v, 0
  br i1 %zero, label %loop, label %done
done:
  ret i32 5
}
"""
VECTOR = ("float32", (Symbol(0),))


@pytest.fixture(scope="module")
def steps() -> CompiledModule:
    return compile_module(STEPS, host_target())


def scaler(steps: CompiledModule, factor: np.ndarray[Any, Any], *more: Argument, dims: int = 1) -> StepCaller:
    arguments = [Argument(*VECTOR, slot=0), Argument(*VECTOR, slot=1, written=True), *more]
    buffers = [0, 0, factor.ctypes.data]
    return make_step_caller(
        steps.address("scale"), arguments, buffers=buffers, dims=[UNBOUND] * dims, owner=(steps, factor)
    )


def floats(*shape: int) -> np.ndarray[Any, Any]:
    return np.arange(np.prod(shape), dtype=np.float32).reshape(shape)


def test_a_step_is_called(steps: CompiledModule) -> None:
    call = scaler(steps, np.array([3], np.float32))
    for n in (0, 1, 5, 1000):
        x, y = floats(n), np.zeros(n, np.float32)
        assert call(x, y) == 0
        assert np.array_equal(y, 3 * x)


def test_scratch_and_free_sizes(steps: CompiledModule) -> None:
    scratch = Argument("int64", (FREE,), slot=SCRATCH, written=True)
    call = scaler(steps, np.ones(1, np.float32), scratch, Argument("int8", (Symbol(1), 2), slot=0), dims=2)
    noted = np.zeros(7, np.int64)
    assert call(floats(0), floats(0), noted, np.zeros((9, 2), np.int8)) == 0
    assert noted[0] == 9


class Subclass(np.ndarray[Any, Any]):
    """An array all the same."""


READ_ONLY = floats(4)
READ_ONLY.flags.writeable = False
UNALIGNED = np.zeros(17, np.uint8)[1:].view(np.float32)

FAULTS: list[tuple[tuple[object, ...], int, Fault]] = [
    ((), 0, Fault.COUNT),
    ((floats(4),), 0, Fault.COUNT),
    ((floats(4), floats(4), floats(4)), 0, Fault.COUNT),
    ((None, floats(4)), 0, Fault.TYPE),
    ((floats(4), [1.0] * 4), 1, Fault.TYPE),
    ((np.float32(1), floats(4)), 0, Fault.TYPE),
    ((np.ndarray, floats(4)), 0, Fault.TYPE),
    ((floats(4).astype(np.float64), floats(4)), 0, Fault.DTYPE),
    ((floats(4).astype(np.int32), floats(4)), 0, Fault.DTYPE),
    ((floats(4).astype(">f4" if sys.byteorder == "little" else "<f4"), floats(4)), 0, Fault.DTYPE),
    ((np.zeros(4, object), floats(4)), 0, Fault.DTYPE),
    ((np.zeros(4, [("a", np.float32)]), floats(4)), 0, Fault.DTYPE),
    ((np.zeros(4, "S4"), floats(4)), 0, Fault.DTYPE),
    ((np.zeros(4, np.dtypes.StringDType()), floats(4)), 0, Fault.DTYPE),
    ((floats(8)[::2], floats(4)), 0, Fault.LAYOUT),
    ((floats(4), floats(4)[::-1]), 1, Fault.LAYOUT),
    ((floats(4), READ_ONLY), 1, Fault.LAYOUT),
    ((UNALIGNED, floats(4)), 0, Fault.LAYOUT),
    ((floats(2, 2), floats(4)), 0, Fault.RANK),
    ((floats(4), np.array(1, np.float32)), 1, Fault.RANK),
    ((floats(4), floats(5)), 1, Fault.SHAPE),
]


@pytest.mark.parametrize("arguments, index, fault", FAULTS)
def test_faults(steps: CompiledModule, arguments: tuple[object, ...], index: int, fault: Fault) -> None:
    status = scaler(steps, np.ones(1, np.float32))(*arguments)
    assert status < 0
    assert explain(status) == (index, fault)


def test_fixed_sizes(steps: CompiledModule) -> None:
    call = scaler(steps, np.ones(1, np.float32), Argument("bool", (2, Symbol(0), 3), slot=0))
    assert call(floats(4), floats(4), np.zeros((2, 4, 3), bool)) == 0
    for shape in ((1, 4, 3), (2, 5, 3), (2, 4, 2)):
        assert explain(call(floats(4), floats(4), np.zeros(shape, bool))) == (2, Fault.SHAPE)


def test_dims_given_beforehand_are_checked(steps: CompiledModule) -> None:
    call = make_step_caller(steps.address("scale"), [Argument(*VECTOR, slot=0)], buffers=[0] * 3, dims=[3], owner=steps)
    assert explain(call(floats(4))) == (0, Fault.SHAPE)


def test_subclasses_and_read_only_inputs_are_welcome(steps: CompiledModule) -> None:
    y = np.zeros(4, np.float32)
    call = scaler(steps, np.array([2], np.float32))
    assert call(READ_ONLY, y.view(Subclass)) == 0
    assert np.array_equal(y, 2 * READ_ONLY)


@pytest.mark.parametrize("char", ["l", "q"])
def test_both_of_c_s_names_for_int64(steps: CompiledModule, char: str) -> None:
    if np.dtype(char) != np.int64:
        pytest.skip("long is not 64 bits wide here")
    call = scaler(steps, np.ones(1, np.float32), Argument("int64", (1,), slot=0))
    assert call(floats(1), floats(1), np.zeros(1, char)) == 0


@given(
    st.lists(
        st.sampled_from([None, 3, "x", floats(2), floats(3), floats(2, 2), floats(8)[::3], np.int64(4)]), max_size=4
    )
)
def test_any_arguments_are_survived(arguments: list[object]) -> None:
    step = compiled_steps()
    status = scaler(step, np.ones(1, np.float32))(*arguments)
    assert status <= 0


def compiled_steps() -> CompiledModule:
    """Hypothesis cannot use fixtures of a smaller scope."""
    if not _compiled:
        _compiled.append(compile_module(STEPS, host_target()))
    return _compiled[0]


_compiled: list[CompiledModule] = []


def test_keywords_are_refused(steps: CompiledModule) -> None:
    with pytest.raises(TypeError, match="no keyword arguments"):
        scaler(steps, np.ones(1, np.float32))(x=floats(1))


def test_many_threads_call_at_once(steps: CompiledModule) -> None:
    call = scaler(steps, np.array([2], np.float32))

    def work(seed: int) -> None:
        generator = np.random.default_rng(seed)
        for n in generator.integers(0, 300, 500):
            x, y = generator.random(n, np.float32), np.zeros(n, np.float32)
            assert call(x, y) == 0
            assert np.array_equal(y, 2 * x)

    with ThreadPoolExecutor(4) as workers:
        list(workers.map(work, range(4)))


def test_other_threads_run_meanwhile(steps: CompiledModule) -> None:
    call = make_step_caller(steps.address("wait"), [Argument("int64", (1,), slot=0)], buffers=[0], dims=[], owner=steps)
    flag = np.zeros(1, np.int64)
    timer = threading.Timer(0.02, lambda: flag.fill(1))
    timer.start()
    started = time.monotonic()
    assert call(flag) == 5
    assert time.monotonic() - started < 10
    timer.join()


def test_nothing_leaks(steps: CompiledModule) -> None:
    x, y, wrong = floats(4), floats(4), floats(3)
    factor = np.ones(1, np.float32)
    call = scaler(steps, factor)
    before = [sys.getrefcount(thing) for thing in (x, y, wrong, factor, call, steps)]
    for _ in range(1000):
        call(x, y)
        call(x, wrong)
        call(x)
    assert [sys.getrefcount(thing) for thing in (x, y, wrong, factor, call, steps)] == before


def test_the_owner_lives_as_long_as_the_caller(steps: CompiledModule) -> None:
    class Owner:
        pass

    owner = Owner()
    alive = weakref.ref(owner)
    call = make_step_caller(steps.address("scale"), [], buffers=[0] * 3, dims=[0], owner=owner)
    del owner
    gc.collect()
    assert alive() is not None
    del call
    gc.collect()
    assert alive() is None


@pytest.mark.parametrize(
    "arguments, message",
    [
        ([Argument(*VECTOR, slot=3)], "argument 0 goes to slot 3 of 3"),
        ([Argument(*VECTOR, slot=-2)], "argument 0 goes to slot -2 of 3"),
        ([Argument("float32", (Symbol(1),), slot=0)], r"symbols \[1\] do not fit 1 dims"),
        ([Argument("float32", (3,), slot=0)], "no argument tells the size of symbol 0"),
        ([Argument("float32", (Symbol(0),) * 17, slot=0)], "more than 16 axes"),
    ],
)
def test_impossible_callers(arguments: list[Argument], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_step_caller(1, arguments, buffers=[0] * 3, dims=[UNBOUND])


def test_addresses() -> None:
    address = address_of_array()
    for array in (floats(5), floats(4, 4)[1:, 2:], np.zeros(0), np.array(1.0)):
        assert address(array) == array.ctypes.data
    for other in (None, 1, [1.0], np.float32(1)):
        with pytest.raises(TypeError, match=r"expected a numpy\.ndarray"):
            address(other)


def test_a_foreign_layout_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    native_call.check_layout()
    monkeypatch.setattr(native_call, "laid_out_as_assumed", lambda array: False)
    with pytest.raises(RuntimeError, match="keeps arrays in a way that is not known"):
        native_call.check_layout()


@pytest.mark.parametrize(
    "name, offset",
    [
        ("DATA", native_call.SHAPE),
        ("NDIM", native_call.FLAGS),
        ("SHAPE", native_call.SHAPE + 8),  # the strides
        ("DESCR", native_call.DATA),
        ("FLAGS", native_call.NDIM),
        ("TYPE_NUM", native_call.TYPE_NUM + 4),
        ("BYTEORDER", native_call.BYTEORDER - 1),
    ],
)
def test_each_offset_is_verified(monkeypatch: pytest.MonkeyPatch, name: str, offset: int) -> None:
    monkeypatch.setattr(native_call, name, offset)
    with pytest.raises(RuntimeError):
        native_call.check_layout()


def test_ctypes_agrees(steps: CompiledModule) -> None:
    """The plain way to call a step gives the same."""
    x, y, factor = floats(6), np.zeros(6, np.float32), np.array([2], np.float32)
    bufs = (ctypes.c_void_p * 3)(x.ctypes.data, y.ctypes.data, factor.ctypes.data)
    step = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p)(steps.address("scale"))
    assert step(bufs, (ctypes.c_int64 * 1)(6), None) == 0
    assert np.array_equal(y, 2 * x)
