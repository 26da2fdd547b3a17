"""How long conversions take, as ratios to another commit, in one interleaved run.

    git worktree add ../base af11f1a
    python benchmarks/conversion_time.py MODEL --base ../base/src --target onnx-int8 --target onnx-int4 \
        --json benchmarks/results/conversion_time.json

Every build is a process of its own, `ringkas build MODEL --target ...`, from its imports to the verified
artifact. The rounds go round: one build of the base, one of this tree with nothing kept by earlier runs, and
one `again` with what that one kept, for each `--target`; with commas it is one build of several targets.
Targets that an earlier run of the same commits, model and --busy left in the file stay there. With `--busy 1`
there is another process that never rests, as on a machine that is shared.
Seconds on the clock and of processor time are both kept: on a machine that is shared the second are the
ones to compare.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

from results_file import write_result

HERE = Path(__file__).resolve().parents[1]
BUILD = "import sys; from ringkas.cli import main; sys.exit(main())"
_STAGE = re.compile(r"^ *(?P<name>\S.*): (?P<seconds>[0-9.]+) s$")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", help="a checkpoint's folder, or the name of a built-in one")
    parser.add_argument("--base", type=Path, required=True, help="the `src` folder of the other commit")
    parser.add_argument("--target", action="append", required=True, help="one, or several with commas")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--busy", type=int, default=0, help="other processes that keep a core each busy")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    trees = {"base": options.base.resolve(), "this": HERE / "src", "again": HERE / "src"}
    model = folder_of(options.model)
    runs: dict[str, dict[str, list[dict[str, Any]]]] = {
        targets: {tree: [] for tree in trees} for targets in options.target
    }
    for number in range(options.rounds):
        for targets, by_tree in runs.items():
            with tempfile.TemporaryDirectory() as cache, busy(options.busy):
                for tree, source in trees.items():
                    found = build(model, targets.split(","), source, cache)
                    by_tree[tree].append(found)
                    held = "held" if found["passed"] else "FELL SHORT"
                    print(
                        f"round {number + 1}, {targets}, {tree}: {found['wall']:.1f} s, "
                        f"{found['cpu']:.1f} s of processor, parity {held}",
                        file=sys.stderr,
                    )
    report = {
        "model": Path(options.model).name,
        "commits": {tree: commit(trees[tree]) for tree in ("base", "this")},
        "busy": options.busy,
        "targets": {targets: summary(by_tree) for targets, by_tree in runs.items()},
    }
    print(json.dumps(report, indent=1))
    if options.json:
        report["targets"] = kept(options.json, report) | report["targets"]
        write_result(options.json, report)


def kept(file: Path, report: dict[str, Any]) -> dict[str, Any]:
    """Targets that an earlier run of the same commits, model and --busy left in the file."""
    if not file.is_file():
        return {}
    earlier = json.loads(file.read_text(encoding="utf-8"))
    same = all(earlier.get(key) == report[key] for key in ("model", "commits", "busy"))
    return dict(earlier["targets"]) if same else {}


@contextmanager
def busy(count: int) -> Iterator[None]:
    """So many processes that never rest, meanwhile."""
    others = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for other in others:
            other.kill()
            other.wait()


def folder_of(model: str) -> str:
    """The folder of a built-in checkpoint, which the base may not know by name."""
    if Path(model).is_dir():
        return model
    from ringkas import open_checkpoint

    return str(open_checkpoint(model).path)


def build(model: str, targets: list[str], source: Path, cache: str) -> dict[str, Any]:
    """Seconds on the clock and of processor time, and the seconds of each stage that was announced."""
    arguments = [part for target in targets for part in ("--target", target)]
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [sys.executable, "-c", BUILD, "build", model, *arguments, "--out", folder],
            env=os.environ | {"PYTHONPATH": str(source), "RINGKAS_CACHE": cache},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    wall, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode not in (0, 1):  # 1: it was built, and its parity fell short
        raise SystemExit(f"{source} could not build {', '.join(targets)}:\n{done.stderr}")
    stages = [match for match in map(_STAGE.match, done.stderr.splitlines()) if match]
    return {
        "wall": round(wall, 2),
        "passed": done.returncode == 0,
        "cpu": round(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, 2),
        "stages": {match["name"]: float(match["seconds"]) for match in stages},
    }


def summary(by_tree: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """The medians of each tree, and the median over rounds of each round's own ratio."""
    ratios = {
        tree: {
            key: round(
                median(own[key] / base[key] for own, base in zip(found, by_tree["base"], strict=True)), 3
            )
            for key in ("cpu", "wall")
        }
        for tree, found in by_tree.items()
        if tree != "base"
    }
    seconds = {
        tree: {key: median(one[key] for one in found) for key in ("cpu", "wall")}
        | {"passed": [one["passed"] for one in found], "stages of the last": found[-1]["stages"]}
        for tree, found in by_tree.items()
    }
    return {"rounds": len(by_tree["base"]), "ratio": ratios, "seconds": seconds}


def commit(source: Path) -> str:
    done = subprocess.run(
        ["git", "-C", str(source), "describe", "--always", "--dirty"],
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    return done.stdout.strip() or "unknown"


if __name__ == "__main__":
    main()
