#!/usr/bin/env python3
"""Every function of the compiler's mathematical library beside NumPy's, SciPy's, PyTorch's and JAX's.

    python -m benchmarks.mathlib                                       # all functions, float32 and float64
    python -m benchmarks.mathlib --only exp 'log*' --dtype float64 --rounds 9

Prints nanoseconds per element on one core, and the time of the fastest peer over ours. 16,384 elements stay in the
cache; everybody takes turns, round after round, and the shortest time counts. From each time that of the same
call on one vector is subtracted: a call costs JAX more than NumPy, and kernels call nothing. Peers are those that this
Python can import; NumPy and PyTorch write to memory allocated beforehand.
"""

import argparse
import ctypes
import fnmatch
import functools
import importlib
import importlib.util
import math
import os
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir

from graphflow.compiler.llvm.code import ELEMENTS, I64, PTR, VOID, at, const, loop
from graphflow.compiler.llvm.jit import compile_module
from graphflow.compiler.llvm.mathlib import ULP, Math
from graphflow.compiler.llvm.target import host_target

SIZE = 16_384
LEAST = 32  # elements of the call that is subtracted: two vectors of float32
SECONDS = 0.003  # of one measurement
VECTORS = 2  # at once: so many has a kernel of one function

# Ranges of the arguments, for those functions that are not measured on -4 … 4.
RANGES = {
    **{name: [(1.0, 30.0)] for name in ("log", "log2", "acosh", "sqrt", "rsqrt", "lgamma", "digamma")},
    **{name: [(-1.0, 1.0)] for name in ("asin", "acos", "atanh", "erfinv")},
    "log1p": [(-0.9, 8.0)],
    "pow": [(0.1, 10.0), (-4.0, 4.0)],
    "atan2": [(-4.0, 4.0), (-4.0, 4.0)],
    "floormod": [(-100.0, 100.0), (-4.0, 4.0)],
}

# What peers call a function, where it is not by our name.
NUMPY = {"asin": "arcsin", "acos": "arccos", "atan": "arctan", "atan2": "arctan2", "pow": "power"}
NUMPY |= {"asinh": "arcsinh", "acosh": "arccosh", "atanh": "arctanh", "floormod": "mod"}
SCIPY = {
    "sigmoid": "expit",
    "lgamma": "gammaln",
    "digamma": "digamma",
    "erf": "erf",
    "erfc": "erfc",
    "erfinv": "erfinv",
}
TORCH = {"softplus": "_C._nn.softplus", "floormod": "remainder"}
JAX = {name: f"numpy.{other}" for name, other in NUMPY.items()}
JAX |= {"sigmoid": "nn.sigmoid", "softplus": "nn.softplus", "rsqrt": "lax.rsqrt"}
JAX |= {name: f"scipy.special.{name}" for name in ("erf", "erfc", "erfinv", "digamma")}
JAX["lgamma"] = "scipy.special.gammaln"

Arrays = list[np.ndarray[Any, Any]]
Run = Callable[[], object]
Peer = Callable[[str, Arrays], Run | None]


def main() -> None:
    """Print a line for each function and dtype."""
    parser = argparse.ArgumentParser(description="Time the compiler's mathematical functions beside its peers'.")
    parser.add_argument("--only", nargs="+", default=["*"], metavar="PATTERN", help="functions, as in a shell")
    parser.add_argument("--dtype", nargs="+", default=["float32", "float64"], choices=["float32", "float64"])
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    peers = {"graphflow": ours} | {name: peer for name, peer in PEERS.items() if importlib.util.find_spec(name)}
    print(f"{'ns per element':<18}" + "".join(f"{name:>11}" for name in peers) + f"{'ratio':>8}")
    for dtype in options.dtype:
        for name in (name for name in (*ULP, "floormod") if any(fnmatch.fnmatch(name, one) for one in options.only)):
            times = measure(name, dtype, peers, options.rounds)
            own, best = (
                times["graphflow"],
                min((t for peer, t in times.items() if peer != "graphflow"), default=math.nan),
            )
            figures = "".join(f"{times[peer]:11.3f}" if peer in times else f"{'-':>11}" for peer in peers)
            print(f"{name:<10}{dtype:<8}{figures}{best / own:8.2f}", flush=True)


def measure(name: str, dtype: str, peers: dict[str, Peer], rounds: int) -> dict[str, float]:
    """Nanoseconds per element of those who have the function."""
    runs = {}
    for peer, build in peers.items():
        pair = [build(name, arguments(name, dtype, size)) for size in (LEAST, SIZE)]
        if None not in pair:
            runs[peer] = pair
    seconds = {peer: ([], []) for peer in runs}
    for _ in range(rounds):
        for peer, pair in runs.items():
            for run, found in zip(pair, seconds[peer], strict=True):
                found.append(per_run(run))
    least, most = 0, 1
    return {peer: (min(found[most]) - min(found[least])) / (SIZE - LEAST) * 1e9 for peer, found in seconds.items()}


def per_run(run: Run) -> float:
    """Seconds of one run, from as many as fill `SECONDS`."""
    start = time.perf_counter()
    run()
    count = max(1, int(SECONDS / (time.perf_counter() - start)))
    start = time.perf_counter()
    for _ in range(count):
        run()
    return (time.perf_counter() - start) / count


def arguments(name: str, dtype: str, size: int) -> Arrays:
    """An array of so many numbers for each argument."""
    rng = np.random.default_rng(0)
    return [rng.uniform(*one, size).astype(dtype) for one in RANGES.get(name, [(-4.0, 4.0)])]


def find(module: Any, path: str) -> Any:
    """`module.a.b` for "a.b"; None if there is no such."""
    return functools.reduce(lambda found, part: getattr(found, part, None), path.split("."), module)


# whom to measure


def ours(name: str, args: Arrays) -> Run:
    """Our function in a loop over vectors, as kernels have it."""
    dtype = str(args[0].dtype)
    code, out = compiled(name, dtype, len(args)), np.empty_like(args[0])
    function = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * 3, ctypes.c_int64)(code.address("f"))
    x, y = args[0].ctypes.data, args[-1].ctypes.data
    keep = (code, args, out)
    return lambda: (function(x, y, out.ctypes.data, out.size), keep)


@functools.cache
def compiled(name: str, dtype: str, arity: int) -> Any:
    """The module of `void f(x, y, out, n)`, n a multiple of `VECTORS` vectors."""
    module, target = ir.Module(), host_target()
    function = ir.Function(module, ir.FunctionType(VOID, [PTR, PTR, PTR, I64]), "f")
    b = ir.IRBuilder(function.append_basic_block())
    x, y, out, size = function.args
    lanes, element = target.lanes(dtype), ELEMENTS[dtype]
    kind = ir.VectorType(element, lanes)
    with loop(b, const(0), size, lanes * VECTORS) as i:
        places = [b.add(i, const(n * lanes)) for n in range(VECTORS)]
        for place in places:
            operands = [b.load(at(b, base, place, element), typ=kind, align=4) for base in (x, y)[:arity]]
            result = getattr(Math(b, fma=target.has_fma, avx512=target.has_avx512), name)(*operands)
            b.store(result, at(b, out, place, element), align=4)
    b.ret_void()
    return compile_module(module, target)


def numpy_run(name: str, args: Arrays) -> Run | None:
    """NumPy's function."""
    function, out = find(np, NUMPY.get(name, name)), np.empty_like(args[0])
    return None if function is None else lambda: function(*args, out=out)


def scipy_run(name: str, args: Arrays) -> Run | None:
    """SciPy's function, where NumPy has none."""
    if name not in SCIPY:
        return None
    function, out = getattr(importlib.import_module("scipy.special"), SCIPY[name]), np.empty_like(args[0])
    return lambda: function(*args, out=out)


def torch_run(name: str, args: Arrays) -> Run | None:
    """PyTorch's function."""
    torch = importlib.import_module("torch")
    torch.set_num_threads(1)
    function, tensors = find(torch, TORCH.get(name, name)), [torch.from_numpy(x) for x in args]
    out = torch.empty_like(tensors[0])
    return None if function is None else lambda: function(*tensors, out=out)


def jax_run(name: str, args: Arrays) -> Run | None:
    """JAX's function, compiled."""
    jax = importlib.import_module("jax")
    jax.config.update("jax_enable_x64", True)
    for part in ("jax.nn", "jax.scipy.special"):
        importlib.import_module(part)
    found = find(jax, JAX.get(name, f"numpy.{name}"))
    if found is None:
        return None
    function, arrays = jax.jit(found), [jax.device_put(x) for x in args]
    return lambda: function(*arrays).block_until_ready()


PEERS: dict[str, Peer] = {"numpy": numpy_run, "scipy": scipy_run, "torch": torch_run, "jax": jax_run}

if __name__ == "__main__":
    main()
