"""The guide's table of clients, made of the results file and of nothing else."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).resolve().parents[1] / "results" / "clients.json"
_BEGIN, _END = "<!-- clients: begin -->", "<!-- clients: end -->"


def read_rows(file: Path = RESULTS) -> list[dict[str, Any]]:
    """The rows of a results file, in its order."""
    rows: list[dict[str, Any]] = json.loads(file.read_text(encoding="utf-8"))["rows"]
    return rows


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """A line for each client: its least cosine with each target, and whose behaviour differs where."""
    lines = ["| client | version | call | least cosine | remark |", "|---|---|---|---|---|"]
    for name, group in groupby(rows, lambda row: row["client"]):
        own = list(group)
        version = next((row["version"] for row in own if row["version"]), "")
        cells = [name, version, _code(own[0]["call"]), "<br>".join(map(_least, own)), _remarks(own)]
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def _code(text: str) -> str:
    return "`" + text.replace("`", "") + "`"


def _least(row: Mapping[str, Any]) -> str:
    return f"{row['target']}: " + ("-" if row["least"] is None else f"{row['least']:.6f}")


def _remarks(rows: Sequence[Mapping[str, Any]]) -> str:
    found: dict[str, list[str]] = {}
    for row in rows:
        if row["remark"]:
            found.setdefault(row["remark"], [])
        for kind, what in row["differs"].items():
            number, _, why = what.partition(": ")
            found.setdefault(f"{kind}: {why}", []).append(number)
        if row["failed"]:
            what = "not run" if row["least"] is None else f"{row['target']} did not agree"
            found.setdefault(f"{what}: {row['failed']}", [])
    return "; ".join(text + _range(numbers) for text, numbers in found.items())


def _range(numbers: Sequence[str]) -> str:
    if not numbers:
        return ""
    low, high = min(numbers), max(numbers)
    return f" ({low})" if low == high else f" ({low} to {high})"


def write_guide(page: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Puts the table into the page, between its two marks."""
    text = page.read_text(encoding="utf-8")
    page.write_text(
        text.replace(f"{_BEGIN}\n{stated(page)}", f"{_BEGIN}\n\n{table(rows)}\n"), encoding="utf-8"
    )


def stated(page: Path) -> str:
    """What the page has between its marks.

    Raises:
        ValueError: it has no marks.
    """
    found = re.search(f"{_BEGIN}\n(.*?){_END}", page.read_text(encoding="utf-8"), re.DOTALL)
    if found is None:
        raise ValueError(f"{page} has no place for the table: {_BEGIN} … {_END}")
    return found[1]
