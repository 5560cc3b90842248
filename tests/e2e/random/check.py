"""`check(program)`: a random program, compiled, gives what the interpreter gives, however it is run.

The oracle is the program as captured and differentiated for the very sizes that are fed, before any other pass, run by
each op's NumPy `eval`.  What is compiled gets feeds between pages that nobody may touch, writes to such memory, and
gives the same bits on 1, 2 and 4 threads, called twice, by `Session.run`, with a deadline, and in one of the ways of
ways.py.  What operations are
declared to compute (declared.py) is compared with the oracle.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from math import prod
from typing import Any

import numpy as np

import graphflow as tf
from graphflow.compiler.capture import RANDOM_DRAWS
from graphflow.compiler.interpret import interpret
from graphflow.compiler.pipeline import program_for_sizes
from graphflow.compiler.program import TensorProgram
from graphflow.core.dtype import as_dtype, int64
from graphflow.core.node import Node
from graphflow.core.type import TensorType
from graphflow.framework.tensor import Tensor
from graphflow.runtime.threads import set_thread_count
from tests.e2e.random.declared import declared_values
from tests.e2e.random.machines import compiled_for
from tests.e2e.random.memory import PLACES, guarded_empty
from tests.e2e.random.programs import Program
from tests.e2e.random.ways import other_ways

__all__ = ["check"]

Array = np.ndarray[Any, Any]
Feeds = Sequence[Array]

ROUNDING = {"float32": 5e-5, "float64": 1e-12}
"""Allowed difference, relative to the largest number on the way to a value (at least 1); the coarsest dtype rules."""


def check(program: Program, way: str) -> None:
    """AssertionError if anything about it is wrong; memory faults end the process.  `way`: one of WAYS."""
    with ExitStack() as stack:
        stack.enter_context(compiled_for(program.machine))
        stack.enter_context(tf.Graph().as_default())
        stack.enter_context(np.errstate(all="ignore"))
        fed, fetches, between = program.declare()
        with tf.Session() as session:
            session.run(tf.global_variables_initializer())
            call = session.make_callable(fetches, fed)
            feeds = [x.values() for x in program.placeholders]
            for _ in range(STEPS if program.updates else 1):
                check_run(program, session, call, fed, fetches, feeds)
                restore(session, exact_again(program, variables_of(session)))
            if between:
                check_cut(program, session, fed, fetches, between, feeds)
            if any(any(x.open) for x in program.placeholders):
                for resize in RESIZES:
                    other = resized(program, resize)
                    if other and not refused(program, session, call, fed, fetches, other):
                        check_run(program, session, call, fed, fetches, other)
        if not os.environ.get("GRAPHFLOW_CHECK"):
            check_way(way, fed, fetches, feeds)


MOST = 1 << 22
"""Elements of a feed of other sizes."""

LONG = 10**8
"""Milliseconds that no run takes."""

STEPS = 2
"""Runs of a program that updates variables."""

RESIZES: tuple[Callable[[int], int], ...] = (lambda n: 2 * n + 3, lambda n: n + 1, lambda n: min(n, 1))


def resized(program: Program, resize: Callable[[int], int]) -> list[Array]:
    """Feeds whose open sizes are others: those that were equal stay so; none where one would be too large."""
    shapes = [[resize(n) if o else n for n, o in zip(x.shape, x.open, strict=True)] for x in program.placeholders]
    if any(prod(shape) > MOST for shape in shapes):
        return []
    return [x.values(shape) for x, shape in zip(program.placeholders, shapes, strict=True)]


def check_cut(
    program: Program, session: Any, fed: list[Any], fetches: list[Any], between: list[Any], feeds: Feeds
) -> None:
    """The program when tensors on the way are fed too: what they are, the other way round."""
    values = oracle(session, fed, between, feeds, variables_of(session))[0]
    call = session.make_callable(fetches, [*fed, *between])
    check_run(program, session, call, [*fed, *between], fetches, [*feeds, *map(np.flip, values)])


def check_run(program: Program, session: Any, call: Any, fed: list[Any], fetches: list[Any], feeds: Feeds) -> None:
    """One set of feeds, in every way to run it."""
    memories = [*(x.memory for x in program.placeholders), *("end" for _ in program.between)]
    placed = [PLACES[memory](v) for memory, v in zip(memories, feeds, strict=False)]
    before = variables_of(session)
    wanted = oracle(session, fed, fetches, feeds, before)
    set_thread_count(1)
    first = call(*placed)
    after = variables_of(session)
    compare(program, first, wanted[0], wanted[2])
    if not any(x.special for x in program.feeds):  # some references are not made for infinities
        declared = declared_values(fetches, dict(zip(fed, feeds, strict=True)), before)
        compare(program, wanted[0] if declared is None else declared, wanted[0], wanted[2])
    compare_variables(after, wanted[1], wanted[3])
    check_static(fetches, first)
    for value, source in zip(placed, feeds, strict=True):
        np.testing.assert_array_equal(value, source, err_msg="a feed was changed")

    def again(what: str, run: Callable[[], Any]) -> None:
        restore(session, before)
        same_bits(run(), first, what)
        for name, value in variables_of(session).items():
            same_bits([value], [after[name]], f"{what}: {name}")

    again("a second run", lambda: call(*placed))
    for count in (2, 4):
        set_thread_count(count)
        again(f"{count} threads", lambda: call(*placed))
    by_name = dict(zip(fed, placed, strict=True))
    again("Session.run", lambda: session.run(fetches, by_name))
    again("a deadline", lambda: session.run(fetches, by_name, tf.RunOptions(timeout_in_ms=LONG)))
    if len({id(f) for f in fetches}) == len(fetches):
        for at_end in (True, False):
            outs = [None if v is None else guarded_empty(np.shape(v), np.asarray(v).dtype, at_end) for v in first]
            again("out=", lambda outs=outs: call(*placed, out=outs))  # type: ignore[misc]
    restore(session, after)


def check_way(way: str, fed: list[Any], fetches: list[Any], feeds: Feeds) -> None:
    """The same bits in another way."""
    answers = []
    with other_ways(way) as contexts:
        for context in contexts:
            with context, tf.Session() as session:
                session.run(tf.global_variables_initializer())
                answer = session.run(fetches, dict(zip(fed, feeds, strict=True)))
                answers.append([*answer, *variables_of(session).values()])
    same_bits(answers[1], answers[0], way)


def refused(program: Program, session: Any, call: Any, fed: list[Any], fetches: list[Any], feeds: Feeds) -> bool:
    """Whether capture refuses these sizes; then a run does, by an error of the same kind, unless it is differentiated
    and the derivative does not need what is refused."""
    known = refusal_of(lambda: program_of(session, fed, fetches, feeds))
    if known is None:
        return False
    assert program.differentiates or refusal_of(lambda: call(*feeds)), f"it ran, although {known}"
    return True


def refusal_of(run: Callable[[], Any]) -> Exception | None:
    """The error that tells a user what is wrong, if there is one."""
    try:
        run()
    except tf.errors.InternalError:
        raise
    except (tf.errors.OpError, ValueError) as refusal:
        return refusal
    return None


def program_of(session: Any, fed: list[Any], fetches: list[Any], feeds: Feeds) -> TensorProgram:
    """What is fetched for the very sizes that are fed, as captured and differentiated."""
    elements = [f.op if isinstance(f, tf.Variable) else f for f in fetches]
    types = [TensorType(as_dtype(v.dtype), v.shape) for v in feeds]
    return program_for_sizes(elements, fed, types, lambda name: name in session._state.values)


def oracle(session: Any, fed: list[Any], fetches: list[Any], feeds: Feeds, variables: Mapping[str, Array]) -> Any:
    """(values of the fetches, new values of variables, allowed differences of both)."""
    plain = program_of(session, fed, fetches, feeds)
    variables = {**counters_of(plain), **variables}
    everything = TensorProgram(plain.feeds, tuple(plain.nodes()))
    values = dict(zip(everything.outputs, interpret(everything, feeds, variables)[0], strict=True))
    allowed = allowances(everything.outputs, values)
    outputs = iter(plain.outputs)
    nodes = [next(outputs) if isinstance(f, Tensor) else None for f in fetches]
    updates = dict(plain.updates)
    return (
        [None if n is None else values[n] for n in nodes],
        {name: values[n] for name, n in updates.items()},
        [0.0 if n is None else allowed[n] for n in nodes],
        {name: allowed[n] for name, n in updates.items()},
    )


def counters_of(program: TensorProgram) -> dict[str, Array]:
    """How often each of its random streams was drawn from in a session that begins."""
    read = [node.attrs["variable"] for node in program.nodes() if node.op.name == "Variable"]
    return {name: np.int64(0) for name in read if name.startswith(RANDOM_DRAWS)}


def allowances(nodes: Sequence[Node], values: Mapping[Node, Array]) -> dict[Node, float]:
    """By how much each may differ: the rounding of the coarsest dtype, times the largest number, on the way to it."""
    largest: dict[Node, float] = {}
    coarsest: dict[Node, float] = {}
    for node in nodes:
        largest[node] = max([1.0, greatest(values[node]), *(largest[x] for x in node.inputs)])
        coarsest[node] = max([rounding(node, values), *(coarsest[x] for x in node.inputs)])
    return {n: largest[n] * coarsest[n] for n in nodes}


def rounding(node: Node, values: Mapping[Node, Array]) -> float:
    """By how much a node may differ, for its largest number: NumPy adds rows one after the other, so that equal numbers
    are rounded the same way each time."""
    known = ROUNDING.get(node.dtype.name, 0.0)
    if node.op.form != "reduction" or not known:
        return known
    terms = values[node.inputs[0]].size / max(1, values[node].size)
    return float(max(known, terms * np.finfo(node.dtype.name).eps))


def greatest(value: Array) -> float:
    """The largest finite magnitude of an array of floats."""
    if value.dtype.kind != "f":
        return 1.0
    finite = np.abs(value[np.isfinite(value)])
    return float(finite.max()) if finite.size else 1.0


def compare(program: Program, got: Any, wanted: Any, allowed: Sequence[float]) -> None:
    """Each fetch is what the oracle has, exactly so where nobody rounds."""
    for name, g, w, atol in zip(program.fetches, got, wanted, allowed, strict=True):
        if w is None:
            assert g is None, name
            continue
        g = np.asarray(g)
        assert (g.dtype, g.shape) == (w.dtype, w.shape), f"{name}: {g.dtype}{g.shape} for {w.dtype}{w.shape}"
        if name in program.exact or w.dtype.kind != "f":
            np.testing.assert_array_equal(g, w, err_msg=name)
        else:
            np.testing.assert_allclose(g, w, rtol=0, atol=atol, err_msg=name)


def compare_variables(got: Mapping[str, Array], wanted: Mapping[str, Array], allowed: Mapping[str, float]) -> None:
    for name, value in wanted.items():
        np.testing.assert_allclose(got[name], value, rtol=0, atol=allowed[name], err_msg=name)


def check_static(fetches: Sequence[Any], got: Sequence[Any]) -> None:
    """What was declared of shapes and dtypes is true."""
    for fetch, value in zip(fetches, got, strict=True):
        if value is not None:
            assert fetch.dtype.numpy == np.asarray(value).dtype, fetch
            assert fetch.shape.ndims == np.ndim(value), fetch
            assert fetch.shape.is_compatible_with(np.shape(value)), f"{fetch} is {np.shape(value)}"


def same_bits(got: Sequence[Any], wanted: Sequence[Any], what: str) -> None:
    for n, (g, w) in enumerate(zip(got, wanted, strict=True)):
        if w is not None:
            assert one_nan(g).tobytes() == one_nan(w).tobytes(), f"{what}: fetch {n}:\n{g}\n{w}"


def one_nan(value: Any) -> Array:
    """The value with one kind of NaN: its sign and payload depend on which elements are computed together, and that on
    where memory begins, which is another place in each run."""
    value = np.asarray(value)
    return np.where(np.isnan(value), value.dtype.type(np.nan), value) if value.dtype.kind == "f" else value


def variables_of(session: Any) -> dict[str, Array]:
    """Copies of the session's variables."""
    return {name: np.array(value) for name, value in session._state.values.items()}


def exact_again(program: Program, values: Mapping[str, Array]) -> dict[str, Array]:
    """The values of variables with those that the program declares rounded to what sums and products of are exact."""
    own = {f"Variable_{n}" if n else "Variable" for n in range(sum(f.role == "Variable" for f in program.feeds))}
    return {n: np.clip(np.rint(v * 4) / 4, -2, 2).astype(v.dtype) if n in own else v for n, v in values.items()}


def restore(session: Any, values: Mapping[str, Array]) -> None:
    """Give the session's variables these values."""
    for variable in session.graph.get_collection(tf.GraphKeys.GLOBAL_VARIABLES):
        variable.load(values[variable.op.name], session)
    for name in variables_of(session):
        if name.startswith(RANDOM_DRAWS):
            session._state.load(name, values.get(name, 0), TensorType(int64, ()))
