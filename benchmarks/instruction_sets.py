"""The vectors of an artifact across thread counts and, by qemu-user, across the processor's instruction sets.

    python benchmarks/instruction_sets.py ARTIFACT... --json FILE

Each case is a process of its own that encodes a handful of texts; the first, one thread on this processor, is
what the others are compared with. An emulated processor takes minutes. Without qemu-x86_64 (Debian's
qemu-user) those cases say so, as does one whose library was compiled for more than it has.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from results_file import write_result

from ringkas.artifact import open_artifact
from ringkas.machine import cpu_features

TEXTS = ("how do I reset my password?", "", "naïve café, 12,345.67 $", "한국어 東京", "the new year " * 30)
# The name of a case: what to run Python with, and threads. QEMU 7.2 emulates up to AVX2.
CASES: dict[str, tuple[tuple[str, ...], int]] = {
    "1 thread": ((), 1),
    "2 threads": ((), 2),
    "4 threads": ((), 4),
    "SSE4.2 alone (Nehalem)": (("qemu-x86_64", "-cpu", "Nehalem"), 1),
    "AVX2 without VNNI (Haswell)": (("qemu-x86_64", "-cpu", "Haswell"), 1),
}
_CODE = """
import sys, numpy, ringkas
with ringkas.load(sys.argv[1], threads=int(sys.argv[2])) as encoder:
    numpy.save(sys.argv[3], encoder.encode(sys.argv[4:]))
"""
_PATIENCE = 1800


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("artifacts", nargs="+", type=Path)
    parser.add_argument("--json", type=Path, required=True)
    options = parser.parse_args()
    found: dict[str, Any] = {"features": cpu_features(), "artifacts": {}}
    for artifact in options.artifacts:
        found["artifacts"][open_artifact(artifact).manifest.target] = compare(artifact)
        write_result(options.json, found)


def compare(artifact: Path) -> dict[str, Any]:
    """By case, how far its vectors are from the first's."""
    rows: dict[str, Any] = {}
    first = None
    for name, (wrapper, threads) in CASES.items():
        vectors = vectors_of(artifact, wrapper, threads)
        if isinstance(vectors, str):
            rows[name] = {"not executed": vectors}
        else:
            first = vectors if first is None else first
            rows[name] = {
                "least cosine": round(float((first * vectors).sum(axis=1).min()), 8),
                "largest difference": float(np.abs(first - vectors).max()),
                "same bits": bool((first == vectors).all()),
            }
        print(f"{artifact.name}, {name}: {rows[name]}", flush=True)
    return rows


def vectors_of(artifact: Path, wrapper: tuple[str, ...], threads: int) -> Any:
    """The vectors of one case, or why there are none."""
    if wrapper and shutil.which(wrapper[0]) is None:
        return f"{wrapper[0]} is not installed"
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "vectors.npy"
        command = [*wrapper, sys.executable, "-c", _CODE, str(artifact), str(threads), str(place), *TEXTS]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=_PATIENCE, check=False)
        except subprocess.TimeoutExpired:
            return f"no answer in {_PATIENCE} s"
        if done.returncode or not place.is_file():
            lines = done.stderr.strip().splitlines()
            return f"status {done.returncode}: {lines[-1][:200] if lines else ''}"
        return np.load(place)


if __name__ == "__main__":
    main()
