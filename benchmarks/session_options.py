"""What ONNX Runtime's session options are worth on a CPU, one against the default.

    python benchmarks/session_options.py ARTIFACT... [--rounds 7] [--threads 1] [--json FILE]

Each variant runs in a fresh process, the rounds go round. CPU time is counted beside wall time: on a busy
machine it is the steadier of the two; spinning shows in it as what it is, work for nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from results_file import write_result

from ringkas import open_artifact

LENGTHS = (9, 26, 163)
DEFAULT = "default"
# Configuration entries; `disabled` names graph optimizers, `arena` and `pattern` switch allocators.
VARIANTS: dict[str, dict[str, Any]] = {
    DEFAULT: {},
    "no SkipLayerNormFusion": {"disabled": ["SkipLayerNormFusion"]},
    "no spinning": {"session.intra_op.allow_spinning": "0"},
    "no arena": {"arena": False},
    "no memory pattern": {"pattern": False},
    "no prepacking": {"session.disable_prepacking": "1"},
    "denormals as zero": {"session.set_denormal_as_zero": "1"},
}
_SECONDS, _WARM_UP = 0.5, 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("artifacts", nargs="+", type=Path)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--only", action="append", help="variants beside the default")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    names = [DEFAULT, *(options.only or [name for name in VARIANTS if name != DEFAULT])]
    report = {
        "threads": options.threads, "rounds": options.rounds, "load": os.getloadavg()[0],
        "artifacts": {path.name: compare(path, names, options) for path in options.artifacts},
    }  # fmt: skip
    print(json.dumps(report, indent=1))
    if options.json:
        write_result(options.json, report)


def compare(path: Path, names: list[str], options: argparse.Namespace) -> dict[str, Any]:
    """Each variant's figures over the default's: the median over the rounds of the ratio in one round."""
    graph = open_artifact(path).model_path
    rounds = []
    for number in range(options.rounds):
        print(f"{path.name}: round {number + 1} of {options.rounds}", file=sys.stderr)
        rounds.append({name: run(name, graph, options.threads) for name in names})
    return {
        name: {
            key: round(float(np.median([one[name][key] / one[DEFAULT][key] for one in rounds])), 3)
            for key in rounds[0][name]
        }
        for name in names
        if name != DEFAULT
    } | {f"{DEFAULT}, milliseconds and MB": {
        key: round(float(np.median([one[DEFAULT][key] for one in rounds])), 3) for key in rounds[0][DEFAULT]
    }}  # fmt: skip


def run(name: str, graph: Path, threads: int) -> dict[str, float]:
    command = [sys.executable, __file__, "--measure", name, str(graph), str(threads)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def measure(name: str, graph: str, threads: int) -> dict[str, float]:
    """Loading, then for each length the least CPU time and the median wall time of a call; memory held."""
    session, load_cpu = open_variant(VARIANTS[name], graph, threads)
    found = {"load cpu": load_cpu}
    rng = np.random.default_rng(0)
    for length in LENGTHS:
        ids = rng.integers(1000, 20000, (1, length))
        feed = {"input_ids": ids, "attention_mask": np.ones_like(ids)}
        walls, cpus = [], []
        for _ in range(_WARM_UP):
            session.run(["sentence_embedding"], feed)
        until = time.perf_counter() + _SECONDS
        while time.perf_counter() < until:
            wall, cpu = time.perf_counter(), time.process_time()
            session.run(["sentence_embedding"], feed)
            walls.append(time.perf_counter() - wall)
            cpus.append(time.process_time() - cpu)
        found[f"{length} tokens, cpu"] = 1e3 * float(np.percentile(cpus, 20))
        found[f"{length} tokens, wall"] = 1e3 * float(np.median(walls))
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return found | {"resident MB": pages * os.sysconf("SC_PAGE_SIZE") / 1e6}


def open_variant(variant: dict[str, Any], graph: str, threads: int) -> tuple[Any, float]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.inter_op_num_threads = 1
    options.intra_op_num_threads = threads
    options.enable_cpu_mem_arena = variant.get("arena", True)
    options.enable_mem_pattern = variant.get("pattern", True)
    for key, value in variant.items():
        if key.startswith("session."):
            options.add_session_config_entry(key, value)
    started = time.process_time()
    session = onnxruntime.InferenceSession(
        graph, options, providers=["CPUExecutionProvider"], disabled_optimizers=variant.get("disabled")
    )
    return session, 1e3 * (time.process_time() - started)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--measure"]:
        print(json.dumps(measure(sys.argv[2], sys.argv[3], int(sys.argv[4]))))
    else:
        main()
