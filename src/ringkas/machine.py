"""The machine and the versions that a result depends on."""

from __future__ import annotations

import os
import platform
from collections.abc import MutableMapping
from importlib import metadata

from ringkas.version import __version__

# The packages whose versions a report names, when they are installed.
_TOOLS = (
    "numpy",
    "tokenizers",
    "onnxruntime",
    "onnxruntime-gpu",
    "torch",
    "transformers",
    "sentence-transformers",
    "llama-cpp-python",
    "tensorrt",
    "tensorrt_rtx_cu13_bindings",
    "tensorrt_lean_cu13_bindings",
    "cuda-bindings",
)


def tool_versions() -> dict[str, str]:
    """The versions and the machine that a result depends on."""
    found = {"ringkas": __version__, "python": platform.python_version(), "machine": platform.machine()}
    for name in _TOOLS:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def cpu_features() -> tuple[str, ...]:
    """The instruction sets that decide how fast 8-bit products are (Linux on x86 and ARM)."""
    wanted = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "amx_int8", "asimddp", "i8mm")
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as info:
            words = set(info.read().split())
    except OSError:
        return ()
    return tuple(feature for feature in wanted if feature in words)


def share_cores(environment: MutableMapping[str, str] = os.environ) -> None:
    """Has PyTorch's threads, where it is imported later, sleep soon when they wait for each other.

    By default they stay awake for milliseconds, which is right where nothing else runs. Beside other
    processes a thread that waits so keeps a core from the one that it waits for: on two cores beside one busy
    process a conversion took up to twice as long (benchmarks/conversion_time.py --busy 1). GOMP_SPINCOUNT and
    OMP_WAIT_POLICY take precedence where they are set. Only GNU's OpenMP reads them: PyTorch's on Linux.
    """
    if "OMP_WAIT_POLICY" not in environment:
        environment.setdefault("GOMP_SPINCOUNT", "1000")
