"""Every claim about GPUs as a figure, in ten minutes: staged, bounded, written after each stage.

    python benchmarks/gpu/prove.py --carried FOLDER --out FILE.json       # where there is a GPU
    python benchmarks/gpu/prove.py --rehearse                             # anywhere, under three minutes

Each stage runs in a process of its own with a limit of its own: one that hangs or crashes costs its own
figures and no others. A stage whose library or artifact is absent says so and is skipped. The rehearsal runs
every stage on the CPU, on models of two narrow layers, and prints what it would have measured.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path
from typing import Any

_HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(_HERE), str(_HERE.parents[1] / "src")]

from stages import STAGES, Absent, Setting  # noqa: E402

_REHEARSED_LIMIT = 120


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rehearse", action="store_true", help="on the CPU, small")
    parser.add_argument("--carried", type=Path, default=Path("dist/gpu"), help="artifacts that travelled")
    parser.add_argument("--out", type=Path, default=Path("dist/gpu/proof.json"))
    parser.add_argument("--only", action="append", choices=STAGES, metavar="STAGE")
    parser.add_argument("--seconds", type=float, default=560, help="of the whole run")
    parser.add_argument("--stage", choices=STAGES, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.stage:
        print(json.dumps(run_here(options)))
        return
    report = prove(options)
    failed = [name for name, stage in report["stages"].items() if "failed" in stage]
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


def prove(options: argparse.Namespace) -> dict[str, Any]:
    """Runs the stages one after another; the file holds what is known after each."""
    until = time.monotonic() + options.seconds
    report: dict[str, Any] = {
        "made": {
            "commit": _commit(),
            "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "machine": {"cores": os.cpu_count(), "system": platform.platform()},
        },
        "rehearsal": options.rehearse,
        "stages": {},
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    for name in options.only or STAGES:
        stage = STAGES[name]
        left = until - time.monotonic()
        limit = min(left, _REHEARSED_LIMIT if options.rehearse else stage.limit)
        began = time.monotonic()
        found = run_apart(name, options, limit) if limit > 5 else {"absent": "no time was left"}
        found = {"seconds": round(time.monotonic() - began, 1)} | found
        report["stages"][name] = found
        partial = options.out.with_suffix(".partial")
        partial.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
        os.replace(partial, options.out)
        print(line_of(name, found, rehearsal=options.rehearse), flush=True)
    return report


def run_apart(name: str, options: argparse.Namespace, limit: float) -> dict[str, Any]:
    """A stage in a process of its own."""
    command = [sys.executable, str(_HERE / "prove.py"), "--stage", name, "--carried", str(options.carried)]
    command += ["--rehearse"] if options.rehearse else []
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=limit, check=False)
    except subprocess.TimeoutExpired:
        return {"failed": f"it took longer than {limit:.0f} s and was ended"}
    try:
        answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    except (IndexError, ValueError):
        said = done.stderr.strip().splitlines() or ["it said nothing"]
        return {"failed": f"exit status {done.returncode}: {said[-1][:300]}"}
    return answer


def run_here(options: argparse.Namespace) -> dict[str, Any]:
    """A stage in this process, whose last line of output is the answer."""
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    with tempfile.TemporaryDirectory() as scratch:
        device = "cpu" if options.rehearse else "cuda"
        setting = Setting(device, options.rehearse, options.carried, Path(scratch))
        try:
            return {"measured": STAGES[options.stage].run(setting)}
        except Absent as reason:
            return {"absent": str(reason)}
        except Exception as error:
            return {
                "failed": f"{type(error).__name__}: {error}"[:500],
                "trace": traceback.format_exc()[-1500:],
            }


def line_of(name: str, found: dict[str, Any], *, rehearsal: bool) -> str:
    """One line on the screen for a stage; its figures are in the file."""
    what = " ".join((STAGES[name].run.__doc__ or "").split())
    head = f"{name} ({found['seconds']} s): "
    if "absent" in found:
        return f"{head}skipped, {found['absent']}"
    if "failed" in found:
        return f"{head}FAILED, {found['failed']}"
    return head + (f"rehearsed. Would measure: {what}" if rehearsal else what)


def _commit() -> str:
    """The commit, or what travelled in its place."""
    named = os.environ.get("RINGKAS_COMMIT")
    command = ["git", "-C", str(_HERE), "rev-parse", "--short", "HEAD"]
    try:
        return named or subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


if __name__ == "__main__":
    main()
