"""The vectors of an artifact across thread counts and, by qemu-user, across the processor's instruction sets.

    python benchmarks/instruction_sets.py ARTIFACT... --json FILE
    sudo .venv/bin/python benchmarks/instruction_sets.py ARTIFACT... --arm FOLDER --json FILE

Each case is a process of its own that encodes a handful of texts; the first, one thread on this processor, is
what the others are compared with. An emulated processor takes minutes. Without Debian's qemu-user those cases
say so, as does one whose library was compiled for more than it has. FOLDER holds a Python for ARM
(arm_python.py). ONNX Runtime reads in /proc/cpuinfo what an ARM processor can do: it is shown that of the
emulated one, in a mount namespace of its own, which takes the superuser. With this machine's own it ends with
a segmentation fault, with another ARM's it may run instructions that are not there.
"""

from __future__ import annotations

import argparse
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
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
_BASE = "fp asimd evtstrm aes pmull sha1 sha2 crc32"
_DOT = f"{_BASE} atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp"
# The name of a case: the emulated processor, its part number, and the features that Linux would list.
ARM_CASES: dict[str, tuple[str, str, str]] = {
    "ARM without dot products (Cortex-A72)": ("cortex-a72", "0xd08", _BASE),
    "ARM with dot products (Neoverse N1)": ("neoverse-n1", "0xd0c", _DOT),
    "ARM with matrix products (QEMU's max)": ("max", "0xd0c", f"{_DOT} sve svei8mm svebf16 i8mm bf16"),
}
_CPUINFO = """processor\t: 0
BogoMIPS\t: 50.00
Features\t: {features}
CPU implementer\t: 0x41
CPU architecture: 8
CPU variant\t: 0x3
CPU part\t: {part}
CPU revision\t: 1

"""
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
    rows: dict[str, Any] = {}
    first = None
    with tempfile.TemporaryDirectory() as folder:
        for name, runner, threads in _cases(arm, Path(folder)):
            vectors = vectors_of(artifact, runner, threads, Path(folder))
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


def _cases(arm: Path | None, folder: Path) -> Iterator[tuple[str, list[str], int]]:
    """Each case by its name, what runs Python there, and how many threads."""
    for name, (cpu, threads) in CASES.items():
        yield name, _runner(cpu), threads
    if arm is None:
        return
    for name, (cpu, part, features) in ARM_CASES.items():
        shown = folder / "cpuinfo"
        shown.write_text(_CPUINFO.format(part=part, features=features), "utf-8")
        yield name, _arm_runner(arm.resolve(), cpu, shown), 1


def _runner(cpu: str | None) -> list[str]:
    return [*([] if cpu is None else ["qemu-x86_64", "-cpu", cpu]), sys.executable]


def _arm_runner(arm: Path, cpu: str, cpuinfo: Path) -> list[str]:
    """Python in a mount namespace whose /proc/cpuinfo is an ARM's."""
    paths = [str(arm / "site"), str(Path(ringkas.__file__).parents[1])]
    python = [
        *("qemu-aarch64", "-cpu", cpu, "-L", str(arm / "root")),
        *("-E", f"PYTHONHOME={arm / 'root' / 'usr'}", "-E", f"PYTHONPATH={':'.join(paths)}"),
        str(arm / "root/usr/bin/python3.11"),
    ]
    show = f"mount --bind {shlex.quote(str(cpuinfo))} /proc/cpuinfo"
    return ["unshare", "--mount", "sh", "-c", f'{show} && exec {shlex.join(python)} "$@"', "sh"]


def vectors_of(artifact: Path, runner: list[str], threads: int, folder: Path) -> Any:
    """The vectors of one case, or why there are none."""
    if shutil.which(runner[0]) is None:
        return f"{runner[0]} is not installed"
    place = folder / "vectors.npy"
    place.unlink(missing_ok=True)
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
