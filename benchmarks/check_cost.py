"""What comparing every file's content costs when an artifact is loaded.

    ringkas build demo --target onnx-int8 --target onnx-fp32 --out dist            # some 24 and 91 MB
    ringkas build demo-e5 --target onnx-int8 --target onnx-fp32 --out dist/e5      # some 131 and 490 MB
    python benchmarks/check_cost.py dist/onnx-int8 dist/e5/onnx-int8 dist/e5/onnx-fp32 --json FILE

Each load is a process of its own, with and without the check in turn, after one that fills the file cache.
The bound is 5% of the load without it or 50 ms, whichever is more, on what the load takes longer with it (the
median over pairs): the exit status is 1 where it is passed. `alone` is all of the check by itself; files of
nothing but numbers are compared while the engine opens.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from results_file import write_result

from ringkas.artifact import open_artifact

_CODE = """
import json, sys, time
import ringkas
from ringkas.artifact import open_artifact
folder, check = sys.argv[1], sys.argv[2] == "check"
began = time.perf_counter()
encoder = ringkas.load(folder, check=check)
took = time.perf_counter() - began
encoder.close()
artifact = open_artifact(folder)
began = time.perf_counter()
artifact.check_files(quickly=True)
print(json.dumps({"load": took, "check": time.perf_counter() - began}))
"""
_SHARE, _LEAST = 0.05, 0.050


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("artifacts", nargs="+", type=Path)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--json", type=Path, required=True)
    options = parser.parse_args()
    rows = [measure(artifact, options.rounds) for artifact in options.artifacts]
    write_result(options.json, {"bound": {"share": _SHARE, "seconds": _LEAST}, "rows": rows})
    sys.exit(0 if all(row["within"] for row in rows) else 1)


def measure(artifact: Path, rounds: int) -> dict[str, Any]:
    """Medians in seconds: the load with and without the check, the difference, and the check by itself."""
    found: dict[str, list[float]] = {"check": [], "no check": [], "longer": [], "alone": []}
    load(artifact, "check")
    for _ in range(rounds):
        for way in ("check", "no check"):
            took = load(artifact, way)
            found[way].append(took["load"])
            found["alone"].append(took["check"])
        found["longer"].append(found["check"][-1] - found["no check"][-1])
    medians = {way: round(statistics.median(times), 4) for way, times in found.items()}
    bound = max(_LEAST, _SHARE * medians["no check"])
    row = {
        "artifact": artifact.name,
        "megabytes": round(open_artifact(artifact).size / 1e6, 1),
        "seconds": medians,
        "within": medians["longer"] <= bound,
    }
    print(json.dumps(row), flush=True)
    return row


def load(artifact: Path, way: str) -> dict[str, float]:
    """One load, in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", _CODE, str(artifact), way], capture_output=True, text=True, check=True
    )
    times: dict[str, float] = json.loads(done.stdout)
    return times


if __name__ == "__main__":
    main()
