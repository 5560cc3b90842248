"""Bounds checks in generated code: whatever a kernel does out of place is found, named, and does no harm.

The kernels of these tests are written by hand: they do what two feeds tell them, at any offset.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from llvmlite import ir

import graphflow as tf
from graphflow.compiler.cache import STATISTICS
from graphflow.compiler.debug import is_checked
from graphflow.compiler.llvm import step as step_module
from graphflow.compiler.llvm.check import RED_ZONE
from graphflow.compiler.llvm.check_accesses import byte_size
from graphflow.compiler.llvm.code import I1, I32, I64, PTR, at, const, intrinsic, masked_load, splat
from graphflow.core.errors import InternalError

Write = Callable[[ir.IRBuilder, Any, Any, Any], None]

COUNT = 10
LANES = 8
FLOAT, I8 = ir.FloatType(), ir.IntType(8)
VECTOR, MASK = ir.VectorType(FLOAT, LANES), ir.VectorType(I1, LANES)
EVERY_LANE = 255


@pytest.fixture(autouse=True)
def checked(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("GRAPHFLOW_CHECK", "2")
    with tf.Graph().as_default():
        yield


# kernels by hand


def spare_x(b: Any, x: Any) -> Any:
    """Memory for what is loaded, so that nothing is loaded in vain."""
    place = b.alloca(x.type)
    b.store(x, place)
    return place


def scalar_load(b: Any, place: Any, mask: Any, _: Any) -> None:
    spare_x(b, b.load(place, typ=FLOAT, align=4))


def scalar_store(b: Any, place: Any, mask: Any, _: Any) -> None:
    b.store(ir.Constant(FLOAT, 7.0), place, align=4)


def vector_load(b: Any, place: Any, mask: Any, _: Any) -> None:
    spare_x(b, b.load(place, typ=VECTOR, align=4))


def vector_store(b: Any, place: Any, mask: Any, _: Any) -> None:
    b.store(ir.Constant(VECTOR, [7.0] * LANES), place, align=4)


def load_of_lanes(b: Any, place: Any, mask: Any, _: Any) -> None:
    spare_x(b, masked_load(b, place, VECTOR, mask, 4))


def store_of_lanes(b: Any, place: Any, mask: Any, _: Any) -> None:
    function = intrinsic(b.module, "llvm.masked.store.v8f32.p0", ir.VoidType(), [VECTOR, PTR, I32, MASK])
    b.call(function, [ir.Constant(VECTOR, [7.0] * LANES), place, I32(4), mask])


def places_of_lanes(b: Any, place: Any) -> Any:
    """Every other element."""
    start = splat(b, b.ptrtoint(place, I64), LANES)
    wide = ir.VectorType(I64, LANES)
    return b.inttoptr(b.add(start, ir.Constant(wide, [8 * n for n in range(LANES)])), ir.VectorType(PTR, LANES))


def gather(b: Any, place: Any, mask: Any, _: Any) -> None:
    pointers = places_of_lanes(b, place)
    function = intrinsic(b.module, "llvm.masked.gather.v8f32.v8p0", VECTOR, [pointers.type, I32, MASK, VECTOR])
    spare_x(b, b.call(function, [pointers, I32(4), mask, ir.Constant(VECTOR, None)]))


def scatter(b: Any, place: Any, mask: Any, _: Any) -> None:
    pointers = places_of_lanes(b, place)
    function = intrinsic(b.module, "llvm.masked.scatter.v8f32.v8p0", ir.VoidType(), [VECTOR, pointers.type, I32, MASK])
    b.call(function, [ir.Constant(VECTOR, [7.0] * LANES), pointers, I32(4), mask])


def fill(b: Any, place: Any, mask: Any, bits: Any) -> None:
    """As many bytes as the mask says, taken for a number."""
    function = intrinsic(b.module, "llvm.memset.p0.i64", ir.VoidType(), [PTR, I8, I64, I1])
    b.call(function, [place, I8(1), bits, I1(0)])


def copy_out(b: Any, place: Any, mask: Any, bits: Any) -> None:
    target = b.alloca(I8, 256)
    function = intrinsic(b.module, "llvm.memcpy.p0.p0.i64", ir.VoidType(), [PTR, PTR, I64, I1])
    b.call(function, [target, place, bits, I1(0)])


READS: dict[str, Write] = {
    "load": scalar_load, "vector load": vector_load, "masked load": load_of_lanes, "gather": gather, "memcpy": copy_out,
}  # fmt: skip
WRITES: dict[str, Write] = {
    "store": scalar_store, "vector store": vector_store, "masked store": store_of_lanes, "scatter": scatter,
    "memset": fill,
}  # fmt: skip
WIDTHS = {"load": 4, "store": 4, "vector load": 32, "vector store": 32}


def touched(kind: str, bits: int) -> list[range]:
    """The bytes that an access touches, from where it starts; a masked one as a whole."""
    lanes = [n for n in range(LANES) if bits >> n & 1]
    if kind in WIDTHS:
        return [range(WIDTHS[kind])]
    if kind in ("memcpy", "memset"):
        return [range(bits)]
    if kind in ("gather", "scatter"):
        return [range(8 * n, 8 * n + 4) for n in lanes]
    return [range(4 * lanes[0], 4 * lanes[-1] + 4)] if lanes else []


def rewritten(body: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the first kernel of a program do something else: body(builder, arguments of the launch, kernel)."""
    emit = step_module.emit_kernels

    def emit_other(module: ir.Module, kernels: Any, *rest: Any) -> Any:
        kernels = list(kernels)
        codes = emit(module, kernels, *rest)
        function = module.globals["kernel0"]
        function.blocks.clear()
        b = ir.IRBuilder(function.append_basic_block("entry"))
        body(b, function.args, kernels[0])
        b.ret_void()
        return codes

    monkeypatch.setattr(step_module, "emit_kernels", emit_other)


def pointer(b: Any, args: Any, number: int) -> Any:
    return b.load(at(b, args, const(number), PTR), typ=PTR)


class Told:
    """A program whose kernel makes one access, to a fed array or to its result, where `run` says."""

    def __init__(self, kind: str, read_only: bool, monkeypatch: pytest.MonkeyPatch) -> None:
        def body(b: Any, launch: Any, kernel: Any) -> None:
            control = next(n for n, x in enumerate(kernel.buffers) if x.dtype.name == "int64")
            out = kernel.stores[0].buffer
            fed = next(n for n in range(3) if n not in (control, out))
            told = pointer(b, launch[0], control)
            offset, bits = (b.load(at(b, told, const(n), I64), typ=I64) for n in range(2))
            place = at(b, pointer(b, launch[0], fed if read_only else out), offset, I8)
            mask = b.bitcast(b.trunc(bits, I8), MASK)
            (READS | WRITES)[kind](b, place, mask, bits)

        rewritten(body, monkeypatch)
        self.x = tf.placeholder(tf.float32, [COUNT], name="x")
        self.told = tf.placeholder(tf.int64, [2], name="told")
        self.y = tf.add(tf.exp(self.x), tf.cast(self.told[0], tf.float32), name="y")
        self.session = tf.Session()

    def run(self, offset: int, bits: int) -> Any:
        # Far from each other: what lies beyond the one must not be the other.
        room = np.zeros(4096, np.float32)
        numbers = np.zeros(1024, np.int64)
        fed, told = room[1024 : 1024 + COUNT], numbers[512:514]
        told[:] = offset, bits
        try:
            return self.session.run(self.y, {self.x: fed, self.told: told})
        finally:
            assert not room.any(), "a feed was written to"


@pytest.mark.parametrize("kind", [*READS, *WRITES])
def test_an_access_is_refused_if_and_only_if_it_leaves_its_buffer(kind, monkeypatch):
    program = Told(kind, kind in READS, monkeypatch)

    @settings(max_examples=60, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
    @given(st.integers(-64, 4 * COUNT + 40), st.integers(0, EVERY_LANE))
    @example(4 * COUNT - 4, 1)
    @example(4 * COUNT, 1)
    @example(4 * COUNT - 32, EVERY_LANE)
    @example(4 * COUNT - 28, EVERY_LANE)
    @example(-4, 1)
    @example(-4, 2)
    def agrees(offset: int, bits: int) -> None:
        places = [range(offset + r.start, offset + r.stop) for r in touched(kind, bits) if r]
        if all(r.start >= 0 and r.stop <= 4 * COUNT for r in places):
            program.run(offset, bits)
            return
        with pytest.raises(InternalError, match="internal error: kernel0"):
            program.run(offset, bits)

    agrees()


@pytest.mark.parametrize("kind", WRITES)
def test_a_feed_is_not_written_to(kind, monkeypatch):
    with pytest.raises(InternalError, match=r"writes \d+ bytes at byte 8 of buffer \d, feed 0 .*read only"):
        Told(kind, True, monkeypatch).run(
            8, 4 if kind == "memset" else 1 if "masked" in kind or kind == "scatter" else EVERY_LANE
        )


def test_the_message_names_kernel_ops_and_line(monkeypatch):
    program = Told("store", False, monkeypatch)
    with pytest.raises(InternalError) as caught:
        program.run(4 * COUNT, 0)
    first, *rest = str(caught.value).splitlines()
    assert first.startswith("internal error: kernel0 (")
    assert "Exp" in first
    assert "writes 4 bytes at byte 40 of buffer" in first
    assert "output 0 float32[10] (40 bytes)" in first
    line = program.y.op.source
    assert any(f"Add 'y' at {line}" in text for text in rest)
    assert rest[-1].endswith("in kernel0")
    assert "store float" in rest[-1]


def test_a_run_after_a_violation_is_judged_by_itself(monkeypatch):
    program = Told("load", True, monkeypatch)
    for _ in range(2):
        program.run(0, 0)
        with pytest.raises(InternalError):
            program.run(-4, 0)


def test_a_result_that_was_never_written_is_nan(monkeypatch):
    result = Told("load", True, monkeypatch).run(0, 0)
    assert np.isnan(result).all()


def test_what_a_kernel_does_not_write_is_nan_to_others(monkeypatch):
    rewritten(lambda b, launch, kernel: None, monkeypatch)
    x = tf.placeholder(tf.float32, [None])
    y = tf.exp(x)
    w = tf.Variable(tf.ones([5], tf.float32))
    count = tf.Variable(tf.ones([5], tf.int32))
    with tf.Session() as sess:
        for _ in range(2):  # the second run would find the values of the first
            assert np.isnan(sess.run(y / tf.reduce_sum(y), {x: np.ones(300)})).all()
        sess.run(w.initializer)
        sess.run(count.initializer)
        ((fresh,), (whole,)) = ([sess._state.values[v.op.name]] for v in (w, count))
        assert np.isnan(fresh).all()
        assert (whole == -1).all()


@pytest.mark.parametrize("place, reason", [
    (lambda b, launch: launch[4], "writes 4 bytes at byte 0 of"),  # scratch that nobody asked for
    (lambda b, launch: launch[1], "sizes"),
    (lambda b, launch: launch[0], "pointers to arguments"),
    (lambda b, launch: at(b, b.alloca(FLOAT, 2), const(2), FLOAT), "byte 8 of a local variable"),
])  # fmt: skip
def test_other_memory_is_not_for_everybody(place, reason, monkeypatch):
    def body(b: Any, launch: Any, kernel: Any) -> None:
        b.store(ir.Constant(FLOAT, 7.0), place(b, launch), align=4)

    rewritten(body, monkeypatch)
    x = tf.placeholder(tf.float32, [None])
    with tf.Session() as sess, pytest.raises(InternalError, match=reason):
        sess.run(tf.exp(x), {x: np.ones(5)})


def test_local_variables_and_constants_are_in_bounds(monkeypatch):
    def body(b: Any, launch: Any, kernel: Any) -> None:
        local = b.alloca(FLOAT, 4)
        for n in range(4):
            b.store(ir.Constant(FLOAT, n), at(b, local, b.zext(I32(n), I64), FLOAT))
        table = ir.GlobalVariable(b.module, ir.ArrayType(FLOAT, 4), "table")
        table.initializer, table.global_constant = ir.Constant(table.value_type, [5.0] * 4), True
        out = pointer(b, launch[0], kernel.stores[0].buffer)
        for n in range(4):
            y = b.fadd(
                b.load(at(b, local, const(n), FLOAT), typ=FLOAT), b.load(at(b, table, const(n), FLOAT), typ=FLOAT)
            )
            b.store(y, at(b, out, const(n), FLOAT))

    rewritten(body, monkeypatch)
    x = tf.placeholder(tf.float32, [None])
    with tf.Session() as sess:
        assert sess.run(tf.exp(x), {x: np.ones(4)}).tolist() == [5, 6, 7, 8]


def test_an_instruction_that_nobody_can_check_is_refused(monkeypatch):
    def body(b: Any, launch: Any, kernel: Any) -> None:
        place = b.alloca(I64)
        b.atomic_rmw("add", place, const(1), "monotonic")

    rewritten(body, monkeypatch)
    x = tf.placeholder(tf.float32, [None])
    with tf.Session() as sess, pytest.raises(InternalError, match=r"does not know how to check: .*atomicrmw"):
        sess.run(tf.exp(x), {x: np.ones(4)})


# the switch


@pytest.mark.parametrize("text, wanted", [("", False), ("0", False), ("1", False), ("2", True)])
def test_levels(text, wanted, monkeypatch):
    monkeypatch.setenv("GRAPHFLOW_CHECK", text)
    assert is_checked() is wanted


def test_a_level_that_there_is_not(monkeypatch):
    monkeypatch.setenv("GRAPHFLOW_CHECK", "3")
    with pytest.raises(ValueError, match="GRAPHFLOW_CHECK='3' is not a level from 0 to 2"):
        is_checked()


def test_only_checked_code_has_checks(monkeypatch):
    x = tf.placeholder(tf.float32, [None, 40])
    y = tf.matmul(tf.exp(x), tf.ones([40, 30]))
    codes = []
    for level in ("1", "2"):
        monkeypatch.setenv("GRAPHFLOW_CHECK", level)
        with tf.Session() as sess:
            sess.run(y, {x: np.ones((3, 40))})
            ((_, executable),) = sess.compiled()
            codes.append(executable.code)
    plain, checked = codes
    assert "gf_check" not in str(plain.module)
    assert plain.checked is None
    assert checked.checked.red_zone == RED_ZONE
    assert checked.checked.sites
    # Every function but the step's own asks.
    functions = {f.name for f in plain.module.functions if f.blocks and "load" in str(f)} - {"step"}
    assert functions <= {site.function for site in checked.checked.sites}


@pytest.mark.parametrize(
    "kind, wanted",
    [(I1, 1), (I32, 4), (FLOAT, 4), (PTR, 8), (VECTOR, 32), (ir.ArrayType(ir.DoubleType(), 3), 24)],
)
def test_bytes_of_types(kind, wanted):
    assert byte_size(kind) == wanted


def test_bytes_of_a_type_that_nobody_knows():
    with pytest.raises(InternalError, match="how many bytes"):
        byte_size(ir.VoidType())


def test_checked_code_is_neither_stored_nor_read(tmp_path, monkeypatch):
    monkeypatch.setenv("GRAPHFLOW_CACHE", str(tmp_path))
    x = tf.placeholder(tf.float32, [None])
    traffic = []
    for level in ("2", "2", "1"):
        monkeypatch.setenv("GRAPHFLOW_CHECK", level)
        before = STATISTICS.writes, STATISTICS.hits
        with tf.Session() as sess:
            sess.run(tf.exp(x), {x: np.ones(3)})
        traffic.append((STATISTICS.writes - before[0], STATISTICS.hits - before[1]))
    assert traffic == [(0, 0), (0, 0), (1, 0)]
