"""How a result is written: what was measured, and by which commit, when, on which machine, with what."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from ringkas.machine import tool_versions
from ringkas.runtimes.measure.machine import describe_machine

MADE = "made"


def made() -> dict[str, Any]:
    """The commit (with a + where tracked files differ), the time in UTC, the machine, the versions."""
    return {
        "commit": _commit(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": msgspec.to_builtins(describe_machine()),
        "versions": tool_versions(),
    }


def write_result(file: Path, result: Any) -> None:
    """Writes JSON: a mapping gets `made` as its first key, anything else stands under `rows` beside it."""
    document = result if isinstance(result, Mapping) else {"rows": result}
    file.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps({MADE: made(), **document}, indent=1, ensure_ascii=False)
    file.write_text(text + "\n", encoding="utf-8")


def made_line() -> str:
    """The same as one line for the end of a Markdown table."""
    one = made()
    machine, versions = one["machine"], one["versions"]
    listed = ", ".join(f"{name} {version}" for name, version in versions.items() if name != "machine")
    return f"Commit {one['commit']}, {one['date']}; {machine['cpu']}, {machine['cores']} cores; {listed}."


def _commit() -> str:
    root = Path(__file__).resolve().parent
    try:
        done = subprocess.run(
            ["git", "describe", "--always", "--dirty=+", "--exclude=*"],
            cwd=root, capture_output=True, text=True, check=True,
        )  # fmt: skip
    except (OSError, subprocess.CalledProcessError):
        return "unknown: not a git checkout"
    return done.stdout.strip()
