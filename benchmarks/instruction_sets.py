"""The vectors of an artifact across thread counts and, by qemu-user, across the processor's instruction sets.

    python benchmarks/instruction_sets.py ARTIFACT... --json FILE
    sudo .venv/bin/python benchmarks/instruction_sets.py ARTIFACT... --arm FOLDER --json FILE

Each case is a process of its own that encodes a handful of texts; the first, one thread on this processor, is
what the others are compared with. An emulated processor takes minutes. Without Debian's qemu-user those cases
say so, as does one whose library was compiled for more than it has. FOLDER holds a Python for ARM
(arm_python.py); the superuser is needed to show it an ARM's /proc/cpuinfo, in a mount namespace of its own.
"""

from __future__ import annotations

import argparse
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from results_file import write_result

import ringkas
from ringkas.artifact import open_artifact
from ringkas.machine import cpu_features

TEXTS = ("how do I reset my password?", "", "naïve café, 12,345.67 $", "한국어 東京", "the new year " * 30)
# The name of a case: the emulated processor, and threads. QEMU 7.2 emulates up to AVX2.
CASES: dict[str, tuple[str | None, int]] = {
    "1 thread": (None, 1),
    "2 threads": (None, 2),
    "4 threads": (None, 4),
    "SSE4.2 alone (Nehalem)": ("Nehalem", 1),
    "AVX2 without VNNI (Haswell)": ("Haswell", 1),
}
ARM_CASES: dict[str, tuple[str, int]] = {
    "ARM without dot products (Cortex-A72)": ("cortex-a72", 1),
    "ARM with dot products (Neoverse N1)": ("neoverse-n1", 1),
    "ARM with all that QEMU has (max)": ("max", 1),
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
    parser.add_argument("--arm", type=Path, help="a Python for ARM, made by arm_python.py")
    parser.add_argument("--json", type=Path, required=True)
    options = parser.parse_args()
    found: dict[str, Any] = {"features": cpu_features(), "artifacts": {}}
    for artifact in options.artifacts:
        found["artifacts"][open_artifact(artifact).manifest.target] = compare(artifact, options.arm)
        write_result(options.json, found)


def compare(artifact: Path, arm: Path | None) -> dict[str, Any]:
    """By case, how far its vectors are from the first's."""
    cases = [(name, threads, _runner(cpu)) for name, (cpu, threads) in CASES.items()]
    for name, (cpu, threads) in ARM_CASES.items():
        cases.append((name, threads, None if arm is None else _arm_runner(arm.resolve(), cpu)))
    rows: dict[str, Any] = {}
    first = None
    for name, threads, runner in cases:
        vectors = "no Python for ARM was given" if runner is None else vectors_of(artifact, runner, threads)
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


def _runner(cpu: str | None) -> list[str]:
    return [*([] if cpu is None else ["qemu-x86_64", "-cpu", cpu]), sys.executable]


def _arm_runner(arm: Path, cpu: str) -> list[str]:
    """Python in a mount namespace whose /proc/cpuinfo is an ARM's."""
    paths = [str(arm / "site"), str(Path(ringkas.__file__).parents[1])]
    python = [
        *("qemu-aarch64", "-cpu", cpu, "-L", str(arm / "root")),
        *("-E", f"PYTHONHOME={arm / 'root' / 'usr'}", "-E", f"PYTHONPATH={':'.join(paths)}"),
        str(arm / "root/usr/bin/python3.11"),
    ]
    shown = f"mount --bind {shlex.quote(str(arm / 'cpuinfo'))} /proc/cpuinfo && exec {shlex.join(python)}"
    return ["unshare", "--mount", "sh", "-c", f'{shown} "$@"', "sh"]


def vectors_of(artifact: Path, runner: list[str], threads: int) -> Any:
    """The vectors of one case, or why there are none."""
    if shutil.which(runner[0]) is None:
        return f"{runner[0]} is not installed"
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "vectors.npy"
        command = [*runner, "-c", _CODE, str(artifact.resolve()), str(threads), str(place), *TEXTS]
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
