"""Call a compiled step from Python in about a tenth of a microsecond, with its arguments checked.

    batch = Symbol(0)  # symbols are numbered
    call = make_step_caller(
        address,  # of i32 step(ptr bufs, ptr dims, ptr scratch)
        [Argument("float32", (batch, 784), slot=0), Argument("float32", (batch, 10), slot=2, written=True)],
        buffers=[0, weights.ctypes.data, 0],  # slots 0 and 2 come with each call
        dims=[UNBOUND],  # so does the size of `batch`
        owner=(code, weights),
    )
    status = call(x, y)  # the GIL is released meanwhile
    if status < 0:
        argument, fault = explain(status)  # (0, Fault.DTYPE)

`call` is a METH_FASTCALL builtin. All callers share one native function, compiled once, which reads what to check from
an int64 array that is the builtin's `__self__`; a new step costs no compilation. Tables of pointers and sizes are
copied to the C stack of each call, so that threads may call at once. What NumPy keeps where in an array is compared
with what NumPy says about some arrays before anything relies on it.
"""

import ctypes
import enum
import functools
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from llvmlite import ir

from graphflow.compiler.llvm.jit import LoadedLibrary, declare_symbol, stored_library
from graphflow.compiler.llvm.target import host_target

StepCaller = Callable[..., int]

UNBOUND = -1  # in `dims`: to be read off the arguments' shapes
SCRATCH = -1  # as a slot: the array is the step's scratch
FREE = -(1 << 62)  # as a size: any

# Where things are in a PyArrayObject, counted from the end of PyObject_HEAD (NumPy 1.x and 2.x alike).
HEAD = object.__basicsize__
DATA, NDIM, SHAPE, DESCR, FLAGS = HEAD, HEAD + 8, HEAD + 16, HEAD + 40, HEAD + 48
# The same of a PyArray_Descr: type object; kind, type, byteorder, flags (chars); type_num.
BYTEORDER, TYPE_NUM = HEAD + 10, HEAD + 12

C_CONTIGUOUS, ALIGNED, WRITEABLE = 0x1, 0x100, 0x400

# The layout of the array that describes a caller, in int64s.
STEP, ARGUMENTS, SLOTS, DIMS, FIRST = range(5)
# Then for each argument: where to put its pointer, allowed type numbers (a bit each), needed flags, ndim, shape.
MAX_RANK = 16
SLOT, DTYPES, NEEDED, RANK, SIZES = range(5)
RECORD = SIZES + MAX_RANK
# Then the template of the pointer table, then that of the dims.

MAX_WORDS = 1 << 15  # both tables are copied to the stack: a quarter of a megabyte at most

METH_FASTCALL, METH_O = 0x80, 0x08


class Fault(enum.IntEnum):
    """What is wrong with an argument, in the order in which it is looked at."""

    COUNT = 0  # the number of arguments; `argument` is 0
    TYPE = 1  # not a numpy.ndarray
    DTYPE = 2  # another dtype or byte order
    LAYOUT = 3  # not C-contiguous, misaligned, or to be written but read-only
    RANK = 4
    SHAPE = 5  # a size differs from the one declared, or from the same symbol's in an earlier argument


FAULTS = 8


@dataclass(frozen=True)
class Symbol:
    """The size of an axis that calls may choose; the same number must be the same size within a call."""

    number: int


@dataclass(frozen=True)
class Argument:
    """One array that a call takes: what it must be, and which slot of `bufs` gets its address (or SCRATCH).

    `shape` holds sizes, `Symbol`s, or FREE. Symbols count in `dims`. Arrays must be C-contiguous and aligned, and
    writeable if `written`.
    """

    dtype: str
    shape: tuple[int | Symbol, ...]
    slot: int
    written: bool = False


def make_step_caller(
    step_address: int,
    arguments: Sequence[Argument],
    *,
    buffers: Sequence[int],
    dims: Sequence[int],
    owner: object = None,
) -> StepCaller:
    """A builtin that checks its arguments, calls the step without the GIL and returns the step's status.

    `buffers` and `dims` are what every call starts from: addresses, with anything in the slots that arguments fill, and
    sizes, UNBOUND for those that the arguments' shapes tell. The step's status must not be negative: negative
    results are faults, see `explain`; the step was not called then. `owner` lives as long as the builtin: give whatever
    owns the code and the buffers. ValueError if a slot, symbol or rank is out of range.
    """
    check_arguments(arguments, len(buffers), dims)
    words = [step_address, len(arguments), len(buffers), len(dims)]
    for argument in arguments:
        words += record(argument)
    description = np.array([*words, *buffers, *dims], np.int64)
    description.flags.writeable = False
    caller: StepCaller = new_builtin("step", native_code().address("gf_call_step"), METH_FASTCALL, description, owner)
    return caller


def explain(status: int) -> tuple[int, Fault]:
    """(index of the argument, what is wrong with it) for a negative result of a step caller."""
    argument, fault = divmod(-1 - status, FAULTS)
    return argument, Fault(fault)


def check_arguments(arguments: Sequence[Argument], slots: int, dims: Sequence[int]) -> None:
    """ValueError unless all the numbers in `arguments` stay inside the tables and every unbound dim gets bound."""
    if slots + len(dims) > MAX_WORDS:
        raise ValueError(f"internal error: {slots} buffers and {len(dims)} dims are too many for a stack")
    seen = {size.number for argument in arguments for size in argument.shape if isinstance(size, Symbol)}
    for index, argument in enumerate(arguments):
        if not SCRATCH <= argument.slot < slots:
            raise ValueError(f"internal error: argument {index} goes to slot {argument.slot} of {slots}")
        if len(argument.shape) > MAX_RANK:
            raise ValueError(f"internal error: argument {index} has more than {MAX_RANK} axes")
    if not all(0 <= number < len(dims) for number in seen):
        raise ValueError(f"internal error: symbols {sorted(seen)} do not fit {len(dims)} dims")
    lost = [number for number, size in enumerate(dims) if size == UNBOUND and number not in seen]
    if lost:
        raise ValueError(f"internal error: no argument tells the size of symbol {lost[0]}")


def record(argument: Argument) -> list[int]:
    """The RECORD words of one argument. A symbol's number is stored as -1 - number."""
    sizes = [-1 - size.number if isinstance(size, Symbol) else size for size in argument.shape]
    needed = C_CONTIGUOUS | ALIGNED | (WRITEABLE if argument.written else 0)
    padding = [0] * (MAX_RANK - len(sizes))
    return [argument.slot, type_numbers(np.dtype(argument.dtype)), needed, len(sizes), *sizes, *padding]


def type_numbers(dtype: np.dtype[Any]) -> int:
    """NumPy's numbers of all types that are the same as `dtype`, as bits: C's long and long long may both be int64."""
    same = [np.dtype(char) for char in np.typecodes["All"] if np.dtype(char) == dtype]
    numbers = {found.num for found in same} | {dtype.num}
    if not all(0 <= number < 63 for number in numbers):
        raise ValueError(f"internal error: {dtype} is not one of NumPy's own dtypes")
    return sum(1 << number for number in numbers)


@functools.cache
def address_of_array() -> Callable[[Any], int]:
    """A builtin: the address of an ndarray's first element. TypeError if it is no ndarray."""
    builtin: Callable[[Any], int] = new_builtin("address", native_code().address("gf_address"), METH_O, None, None)
    return builtin


class MethodDef(ctypes.Structure):
    """CPython's PyMethodDef."""

    _fields_ = (
        ("name", ctypes.c_char_p),
        ("function", ctypes.c_void_p),
        ("flags", ctypes.c_int),
        ("doc", ctypes.c_char_p),
    )


def new_builtin(name: str, address: int, flags: int, self_: object, owner: object) -> Any:
    """A builtin function around native code. It holds references to `self_` and, as its `__module__`, to `owner`."""
    new = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.c_void_p, ctypes.py_object, ctypes.py_object)(
        ("PyCFunction_NewEx", ctypes.pythonapi)
    )
    return new(method_definition(name, address, flags), self_, owner)


@functools.cache
def method_definition(name: str, address: int, flags: int) -> int:
    """The address of a PyMethodDef that lives for ever, as CPython wants; there are two in all."""
    definition = MethodDef(name.encode(), address, flags, None)
    _definitions.append(definition)
    return ctypes.addressof(definition)


_definitions: list[MethodDef] = []


@functools.cache
def native_code() -> LoadedLibrary:
    """The native functions, compiled at first use. RuntimeError if arrays are not laid out as assumed."""
    check_layout()
    for name in ("PyEval_SaveThread", "PyEval_RestoreThread", "PyLong_FromLong", "PyLong_FromVoidPtr"):
        declare_api(name)
    for name in ("PyType_IsSubtype", "PyErr_SetString"):
        declare_api(name)
    for name, object_ in {NDARRAY: np.ndarray, TYPE_ERROR: TypeError}.items():
        declare_symbol(name, id(object_))
    code = stored_library("native call", native_module, host_target(), HEAD)
    code.keep_forever()
    return code


def declare_api(name: str) -> None:
    """Make a function of Python's C API known to compiled code."""
    address = ctypes.cast(getattr(ctypes.pythonapi, name), ctypes.c_void_p).value
    assert address is not None
    declare_symbol(name, address)


def check_layout() -> None:
    """RuntimeError unless the offsets above give what NumPy says of arrays of many kinds."""
    base = np.arange(24, dtype=np.int32).reshape(2, 3, 4)
    frozen = np.zeros((3, 2))
    frozen.flags.writeable = False
    swapped = np.zeros(2, np.dtype(np.float32).newbyteorder())
    arrays: list[np.ndarray[Any, Any]] = [
        base,
        base.T,
        base[:, ::2],
        base[0, 0, 1:],
        np.zeros(()),
        np.zeros((0, 5), np.float16),
        frozen,
        swapped,
    ]
    arrays += [np.zeros(1, char) for char in "?bBhHiIlLqQefdFD"]
    # Nothing unknown is followed: shapes are read through their pointer only after all around it was found right.
    sound = sys.implementation.name == "cpython" and all(laid_out_as_assumed(array) for array in arrays)
    if not sound or not all(shape_in_memory(array) == array.shape for array in arrays):
        raise RuntimeError(f"internal error: NumPy {np.__version__} keeps arrays in a way that is not known here")


def laid_out_as_assumed(array: np.ndarray[Any, Any]) -> bool:
    """Whether memory at the offsets above says the same about `array` as its attributes do, but for its shape."""
    address, descr = id(array), id(array.dtype)
    flags = ctypes.c_int.from_address(address + FLAGS).value
    return (
        ctypes.c_void_p.from_address(address + DESCR).value == descr
        and ctypes.c_int.from_address(address + NDIM).value == array.ndim
        and ctypes.c_void_p.from_address(address + DATA).value == array.__array_interface__["data"][0]
        and bool(flags & C_CONTIGUOUS) == array.flags.c_contiguous
        and bool(flags & ALIGNED) == array.flags.aligned
        and bool(flags & WRITEABLE) == array.flags.writeable
        and ctypes.c_int.from_address(descr + TYPE_NUM).value == array.dtype.num
        and ctypes.c_char.from_address(descr + BYTEORDER).value == array.dtype.byteorder.encode()
    )


def shape_in_memory(array: np.ndarray[Any, Any]) -> tuple[int, ...]:
    """The shape that native code will see."""
    address = ctypes.c_void_p.from_address(id(array) + SHAPE).value
    return tuple((ctypes.c_ssize_t * array.ndim).from_address(address)) if array.ndim and address else ()


I8, I32, I64, PTR, VOID = ir.IntType(8), ir.IntType(32), ir.IntType(64), ir.PointerType(), ir.VoidType()
STEP_PTR = ir.FunctionType(I32, (PTR, PTR, PTR)).as_pointer()
NDARRAY, TYPE_ERROR = "gf_ndarray", "gf_type_error"  # Python's objects, as symbols
FOREIGN_BYTEORDER = b">" if sys.byteorder == "little" else b"<"


def native_module() -> ir.Module:
    """The module with `gf_call_step` and `gf_address`."""
    module = ir.Module("gf_native_call")
    is_array = emit_is_array(module)
    emit_address(module, is_array)
    emit_call_step(module, emit_check(module, is_array))
    return module


def api(b: ir.IRBuilder, name: str, result: ir.Type, *arguments: Any) -> Any:
    """Call a function of Python's C API."""
    found = b.module.globals.get(name)
    if found is None:
        found = ir.Function(b.module, ir.FunctionType(result, [argument.type for argument in arguments]), name)
    return b.call(found, arguments)


def at(b: ir.IRBuilder, base: Any, offset: Any, kind: ir.Type) -> Any:
    """Load a `kind` that is `offset` bytes (a number or an i64) after `base`."""
    place = b.gep(base, (I64(offset) if isinstance(offset, int) else offset,), source_etype=I8)
    return b.load(place, typ=kind)


def word(b: ir.IRBuilder, base: Any, index: Any) -> Any:
    """The address of the i64 with that index."""
    return b.gep(base, (I64(index) if isinstance(index, int) else index,), source_etype=I64)


def read(b: ir.IRBuilder, base: Any, index: Any) -> Any:
    """Load the i64 with that index."""
    return b.load(word(b, base, index), typ=I64)


def external(module: ir.Module, name: str) -> Any:
    """The address of a Python object that `declare_symbol` made known: it is another one in every process."""
    found = module.globals.get(name)
    return found if found is not None else ir.GlobalVariable(module, I8, name)


def emit_is_array(module: ir.Module) -> ir.Function:
    """`i1 gf_is_array(object)`: an ndarray or an instance of a subclass."""
    function = ir.Function(module, ir.FunctionType(ir.IntType(1), (PTR,)), "gf_is_array")
    function.linkage = "internal"
    function.attributes.add("alwaysinline")
    b = ir.IRBuilder(function.append_basic_block("entry"))
    exactly, other = function.append_basic_block("exactly"), function.append_basic_block("other")
    kind = at(b, function.args[0], HEAD - 8, PTR)  # ob_type ends PyObject_HEAD
    ndarray = external(module, NDARRAY)
    b.cbranch(b.icmp_unsigned("==", kind, ndarray), exactly, other)
    b.position_at_end(exactly)
    b.ret(ir.IntType(1)(1))
    b.position_at_end(other)
    b.ret(b.icmp_signed("!=", api(b, "PyType_IsSubtype", I32, kind, ndarray), I32(0)))
    return function


def emit_address(module: ir.Module, is_array: ir.Function) -> None:
    """`PyObject *gf_address(self, array)`."""
    function = ir.Function(module, ir.FunctionType(PTR, (PTR, PTR)), "gf_address")
    b = ir.IRBuilder(function.append_basic_block("entry"))
    array = function.args[1]
    with b.if_then(b.not_(b.call(is_array, (array,))), likely=False):
        text = b"expected a numpy.ndarray\0"
        message = ir.GlobalVariable(module, ir.ArrayType(I8, len(text)), "gf_no_array")
        message.initializer = ir.Constant(message.value_type, bytearray(text))
        message.linkage = "internal"
        api(b, "PyErr_SetString", VOID, external(module, TYPE_ERROR), b.bitcast(message, PTR))
        b.ret(ir.Constant(PTR, None))
    b.ret(api(b, "PyLong_FromVoidPtr", PTR, at(b, array, DATA, PTR)))


def emit_check(module: ir.Module, is_array: ir.Function) -> ir.Function:
    """`i64 gf_check(object, record, dims)`: the fault of an argument, 0 if it has none; binds dims to its shape."""
    function = ir.Function(module, ir.FunctionType(I64, (PTR, PTR, PTR)), "gf_check")
    function.linkage = "internal"
    b, (array, expected, dims) = ir.IRBuilder(function.append_basic_block("entry")), function.args
    emit_fault(b, b.not_(b.call(is_array, (array,))), Fault.TYPE)

    descr = at(b, array, DESCR, PTR)
    number = b.zext(at(b, descr, TYPE_NUM, I32), I64)
    known = b.icmp_unsigned("<", number, I64(63))
    bit = b.lshr(read(b, expected, DTYPES), b.select(known, number, I64(63)))
    allowed = b.and_(known, b.trunc(bit, ir.IntType(1)))
    foreign = b.icmp_unsigned("==", at(b, descr, BYTEORDER, I8), I8(FOREIGN_BYTEORDER[0]))
    emit_fault(b, b.or_(b.not_(allowed), foreign), Fault.DTYPE)

    needed = read(b, expected, NEEDED)
    flags = b.zext(at(b, array, FLAGS, I32), I64)
    emit_fault(b, b.icmp_unsigned("!=", b.and_(flags, needed), needed), Fault.LAYOUT)

    rank = b.sext(at(b, array, NDIM, I32), I64)
    emit_fault(b, b.icmp_signed("!=", rank, read(b, expected, RANK)), Fault.RANK)
    emit_check_shape(b, at(b, array, SHAPE, PTR), word(b, expected, SIZES), rank, dims)
    return function


def emit_fault(b: ir.IRBuilder, wrong: Any, fault: Fault) -> None:
    """Return `fault` if `wrong`."""
    with b.if_then(wrong, likely=False):
        b.ret(I64(fault))


def emit_check_shape(b: ir.IRBuilder, shape: Any, sizes: Any, rank: Any, dims: Any) -> None:
    """Compare each axis with its size or symbol, bind unbound symbols, return the fault or 0."""
    entry = b.block
    head, look, symbol, bind, same, tail, wrong, end = (
        b.append_basic_block(name) for name in ("head", "look", "symbol", "bind", "same", "tail", "wrong", "end")
    )
    b.branch(head)

    b.position_at_end(head)
    axis = b.phi(I64)
    axis.add_incoming(I64(0), entry)
    b.cbranch(b.icmp_signed("<", axis, rank), look, end)

    b.position_at_end(look)
    actual, size = read(b, shape, axis), read(b, sizes, axis)
    b.cbranch(b.icmp_signed(">=", size, I64(0)), same, symbol)

    b.position_at_end(symbol)
    with b.if_then(b.icmp_signed("==", size, I64(FREE))):
        b.branch(tail)
    place = word(b, dims, b.sub(I64(-1), size))
    bound = b.load(place, typ=I64)
    symbol_end = b.block
    b.cbranch(b.icmp_signed("==", bound, I64(UNBOUND)), bind, same)

    b.position_at_end(bind)
    b.store(actual, place)
    b.branch(tail)

    b.position_at_end(same)
    expected = b.phi(I64)
    expected.add_incoming(size, look)
    expected.add_incoming(bound, symbol_end)
    b.cbranch(b.icmp_signed("==", actual, expected), tail, wrong)

    b.position_at_end(tail)
    axis.add_incoming(b.add(axis, I64(1)), tail)
    b.branch(head)

    b.position_at_end(wrong)
    b.ret(I64(Fault.SHAPE))
    b.position_at_end(end)
    b.ret(I64(0))


def emit_call_step(module: ir.Module, check: ir.Function) -> None:
    """`PyObject *gf_call_step(self, args, nargs)`: METH_FASTCALL; `self` is the int64 array that describes the call."""
    function = ir.Function(module, ir.FunctionType(PTR, (PTR, PTR, I64)), "gf_call_step")
    b, (self_, args, given) = ir.IRBuilder(function.append_basic_block("entry")), function.args
    description = at(b, self_, DATA, PTR)
    step, count, slots, dims_count = (read(b, description, place) for place in (STEP, ARGUMENTS, SLOTS, DIMS))
    with b.if_then(b.icmp_signed("!=", given, count), likely=False):
        b.ret(api(b, "PyLong_FromLong", PTR, I64(-1 - Fault.COUNT)))
    first = word(b, description, FIRST)
    buffers_before = word(b, first, b.mul(count, I64(RECORD)))
    # One more slot, before the first: where an argument for slot SCRATCH lands.
    table = b.alloca(I64, b.add(slots, I64(1)))
    b.store(I64(0), table)
    buffers = word(b, table, 1)
    dims = b.alloca(I64, b.add(dims_count, I64(1)))
    emit_copy(b, buffers, buffers_before, slots)
    emit_copy(b, dims, word(b, buffers_before, slots), dims_count)
    emit_take_arguments(b, check, (args, count, first, buffers, dims))
    thread = api(b, "PyEval_SaveThread", PTR)
    status = b.call(b.inttoptr(step, STEP_PTR), (buffers, dims, b.load(table, typ=PTR)))
    api(b, "PyEval_RestoreThread", VOID, thread)
    b.ret(api(b, "PyLong_FromLong", PTR, b.sext(status, I64)))


def emit_take_arguments(b: ir.IRBuilder, check: ir.Function, tables: tuple[Any, ...]) -> None:
    """Check each argument and store its address in its slot; at the first fault make the function return it."""
    args, count, records, buffers, dims = tables
    entry = b.block
    head, look, store, wrong, end = (b.append_basic_block(name) for name in ("head", "look", "store", "wrong", "end"))
    b.branch(head)

    b.position_at_end(head)
    index = b.phi(I64)
    index.add_incoming(I64(0), entry)
    b.cbranch(b.icmp_signed("<", index, count), look, end)

    b.position_at_end(look)
    array = at(b, args, b.mul(index, I64(8)), PTR)
    expected = word(b, records, b.mul(index, I64(RECORD)))
    fault = b.call(check, (array, expected, dims))
    b.cbranch(b.icmp_signed("==", fault, I64(0)), store, wrong)

    b.position_at_end(store)
    b.store(at(b, array, DATA, I64), word(b, buffers, read(b, expected, SLOT)))
    index.add_incoming(b.add(index, I64(1)), store)
    b.branch(head)

    b.position_at_end(wrong)
    status = b.sub(I64(-1), b.add(b.mul(index, I64(FAULTS)), fault))
    b.ret(api(b, "PyLong_FromLong", PTR, status))
    b.position_at_end(end)


def emit_copy(b: ir.IRBuilder, target: Any, source: Any, words: Any) -> None:
    """Copy that many i64s."""
    name = "llvm.memcpy.p0.p0.i64"
    copy = b.module.globals.get(name)
    if copy is None:
        copy = ir.Function(b.module, ir.FunctionType(VOID, (PTR, PTR, I64, ir.IntType(1))), name)
    b.call(copy, (target, source, b.mul(words, I64(8)), ir.IntType(1)(0)))
