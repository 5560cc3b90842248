"""What a call costs: `y = a + b` of 16 float32 numbers, beside NumPy and whatever of the peers this Python has.

    python benchmarks/calls.py
    python benchmarks/calls.py torch=~/torch/bin/python tf=~/tf/bin/python    # peers in Pythons of their own
    python benchmarks/calls.py tf:1.15=~/tf115/bin/python onnxruntime=~/ort/bin/python    # : tells two of a name apart

The processes are timed in turn, ROUNDS times; a figure is the median over the rounds of each one's median, in
microseconds a call.  `np.add` is timed in each process: ratios to it may be compared where times may not.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import timeit
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Calls = Iterator[tuple[str, Callable[[], Any]]]

ROUNDS, REPEATS, BATCH_SECONDS = 5, 7, 0.02
A, B, OUT = np.arange(16, dtype=np.float32), np.ones(16, np.float32), np.empty(16, np.float32)


def numpy_calls() -> Calls:
    yield "np.add(a, b, out=c)", lambda: np.add(A, B, out=OUT)
    yield "np.add(a, b)", lambda: np.add(A, B)


def graphflow() -> Calls:
    import graphflow as tf

    a, b = tf.placeholder(tf.float32, [16]), tf.placeholder(tf.float32, [16])
    session = tf.Session()
    call = session.make_callable(a + b, [a, b])
    doubled, fed = a * 2.0, {a: A}
    nested = {"y": [doubled, (a + b,)]}
    yield "callable(a, b)", lambda: call(A, B)
    yield "callable(a, b, out=c)", lambda: call(A, B, out=OUT)
    yield "Session.run, one feed", lambda: session.run(doubled, fed)
    yield "Session.run, two feeds, nested", lambda: session.run(nested, {a: A, b: B})


def jax() -> Calls:
    import jax as framework

    add = framework.jit(lambda a, b: a + b)
    a, b = framework.numpy.asarray(A), framework.numpy.asarray(B)
    yield "jit(a, b), arrays of its own", lambda: add(a, b).block_until_ready()
    yield "jit(a, b), NumPy in and out", lambda: np.asarray(add(A, B))


def pytensor() -> Calls:
    import pytensor as framework

    a, b = (framework.tensor.vector(name, dtype="float32") for name in "ab")
    add = framework.function([a, b], a + b)
    yield "function(a, b)", lambda: add(A, B)


def torch() -> Calls:
    import torch as framework

    a, b, out = framework.from_numpy(A), framework.from_numpy(B), framework.empty(16)
    yield "torch.add(a, b), eager", lambda: framework.add(a, b)
    yield "torch.add(a, b, out=c), eager", lambda: framework.add(a, b, out=out)


def tf() -> Calls:
    import tensorflow.compat.v1 as framework

    framework.disable_eager_execution()
    a, b = framework.placeholder("float32", [16]), framework.placeholder("float32", [16])
    session = framework.Session()
    call = session.make_callable(a + b, [a, b])
    doubled, fed = a * 2.0, {a: A}
    yield "callable(a, b)", lambda: call(A, B)
    yield "Session.run, one feed", lambda: session.run(doubled, fed)


def onnxruntime() -> Calls:
    import onnx.helper as make
    import onnxruntime as framework

    shapes = [make.make_tensor_value_info(name, 1, [16]) for name in "abc"]
    graph = make.make_graph([make.make_node("Add", ["a", "b"], ["c"])], "add", shapes[:2], shapes[2:])
    model = make.make_model(graph, opset_imports=[make.make_opsetid("", 17)], ir_version=8)
    session = framework.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    fed = {"a": A, "b": B}
    yield "InferenceSession.run", lambda: session.run(None, fed)


PEERS = {f.__name__: f for f in (graphflow, jax, pytensor, torch, tf, onnxruntime)}


def measure(name: str) -> dict[str, float]:
    """Microseconds a call, in this process."""
    calls = [*numpy_calls(), *PEERS[name]()]
    for _, call in calls:
        for _ in range(100):
            call()
    return {text: one_call(call) for text, call in calls}


def one_call(call: Callable[[], Any]) -> float:
    """Microseconds, the median of REPEATS batches of about BATCH_SECONDS."""
    count = max(int(BATCH_SECONDS * 100 / timeit.timeit(call, number=100)), 10)
    return statistics.median(timeit.repeat(call, number=count, repeat=REPEATS)) / count * 1e6


def worker(name: str, python: str) -> dict[str, float] | str:
    """The same in a process of its own; why not, where it can't be had."""
    root = str(Path(__file__).resolve().parent.parent)
    env = {**os.environ, "PYTHONPATH": root, "TF_CPP_MIN_LOG_LEVEL": "3"}
    command = [os.path.expanduser(python), __file__, "--worker", name.partition(":")[0]]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        return done.stderr.strip().splitlines()[-1] if done.stderr else f"exit code {done.returncode}"
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def main(arguments: list[str]) -> None:
    pythons = dict.fromkeys(PEERS, sys.executable) | dict(a.split("=", 1) for a in arguments)
    rounds = [{name: worker(name, python) for name, python in pythons.items()} for _ in range(ROUNDS)]
    for name in pythons:
        times = [one[name] for one in rounds if isinstance(one[name], dict)]
        if not times:
            print(f"{name:<12} {rounds[0][name]}")
            continue
        add = statistics.median(one["np.add(a, b, out=c)"] for one in times)
        for text in times[0]:
            took = statistics.median(one[text] for one in times)
            print(f"{name:<12} {text:<32} {took:8.3f} µs  {took / add:6.2f} × np.add(a, b, out=c)")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--worker"]:
        print(json.dumps(measure(sys.argv[2])))
    else:
        main(sys.argv[1:])
