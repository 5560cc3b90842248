"""What LLVM says of this machine: `host_description()`; asked once, and then found in the cache (compiler/cache.py).

The entry's key has what the system says of the processor, and the LLVM that was asked.
"""

from __future__ import annotations

import json
import platform
from pathlib import Path

from graphflow.compiler.cache import of_environment
from graphflow.compiler.cache_key import digest_of
from graphflow.compiler.llvm.load import installed_llvm

__all__ = ["Description", "host_description"]

Description = tuple[str, str, dict[str, bool]]
"""LLVM's triple, processor, and which features it has."""

CPUINFO = Path("/proc/cpuinfo")
VARYING = ("processor", "cpu MHz", "core id", "apicid", "initial apicid", "physical id", "bogomips")
"""Lines of a processor's description that tell of the one core, or of the moment."""


def host_description() -> Description:
    """What LLVM said of such a machine before, or says now."""
    processor = described_processor()
    cache = of_environment() if processor else None
    if cache is None:
        return ask_llvm()
    key = digest_of(("host", platform.machine(), processor, installed_llvm()))
    found = cache.read(key)
    if found is not None:
        triple, cpu, features = json.loads(found)
        return triple, cpu, features
    answer = ask_llvm()
    cache.write(key, json.dumps(answer).encode())
    return answer


def ask_llvm() -> Description:
    """The same from LLVM."""
    from llvmlite import binding as llvm

    return llvm.get_process_triple(), llvm.get_host_cpu_name(), dict(llvm.get_host_cpu_features())


def described_processor() -> str:
    """What Linux says of the first core; empty where nobody says anything."""
    try:
        with CPUINFO.open() as file:
            text = file.read(1 << 14).partition("\n\n")[0]
    except OSError:
        return ""
    return "\n".join(line for line in text.splitlines() if line.partition("\t")[0].strip() not in VARYING)
