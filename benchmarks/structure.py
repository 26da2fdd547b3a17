"""The structure in figures: files, lines and import arrows a room, and how many files a build enters.

    python benchmarks/structure.py [--root CHECKOUT] [--journey TARGET]...

A room is a folder of modules. An arrow is a pair of modules of which the one imports the other, wherever the
import stands; it is counted as inside a room or as leaving it. `--journey` builds the demo checkpoint with
the installed ringkas and counts the project's files in which a function was entered (threads too).
"""

from __future__ import annotations

import argparse
import ast
import json
import sys
import tempfile
import threading
from collections import Counter
from pathlib import Path
from types import FrameType
from typing import Any

ROOMS = ("src/ringkas", "export", "quantize", "runtimes")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--root", type=Path, default=Path(__file__).resolve().parents[1])
    parser.add_argument("--journey", action="append", default=[], metavar="TARGET")
    options = parser.parse_args()
    report: dict[str, Any] = {"rooms": rooms(options.root)}
    if options.journey:
        report["files_entered"] = {target: files_entered(target) for target in options.journey}
    print(json.dumps(report, indent=1))


def rooms(root: Path) -> dict[str, dict[str, int]]:
    """By room: its modules, their lines, the arrows inside it and those that leave it."""
    modules = {_dotted(file, root): file for file in _files(root)}
    counts: dict[str, Counter[str]] = {}
    for name, file in modules.items():
        text = file.read_text(encoding="utf-8")
        here = counts.setdefault(_room(file, root), Counter(files=0, lines=0, inside=0, leaving=0))
        here["files"] += 1
        here["lines"] += text.count("\n")
        for other in _imported(text, name, modules):
            inside = modules[other].parent == file.parent
            here["inside" if inside else "leaving"] += 1
    table = {room: dict(counts[room]) for room in sorted(counts)}
    total = sum((counts[room] for room in counts), Counter())
    return table | {"all": {key: total[key] for key in ("files", "lines", "inside", "leaving")}}


def files_entered(target: str) -> int:
    """Files of the project in which a build of the demo checkpoint enters a function."""
    import ringkas

    package = Path(ringkas.__file__).resolve().parent
    roots = [str(path.resolve()) for path in (package, *(package / room for room in ROOMS[1:]))]
    seen: set[str] = set()

    def enter(frame: FrameType, event: str, _: Any) -> None:
        if event == "call" and frame.f_code.co_name != "<module>":
            seen.add(frame.f_code.co_filename)

    with tempfile.TemporaryDirectory() as folder:
        threading.setprofile(enter)
        sys.setprofile(enter)
        try:
            ringkas.build("demo", target, folder)
        finally:
            sys.setprofile(None)
            threading.setprofile(None)  # type: ignore[arg-type]
    return sum(str(Path(file).resolve()).startswith(tuple(roots)) for file in seen)


def _files(root: Path) -> list[Path]:
    found = []
    for room in ROOMS:
        for file in sorted((root / room).rglob("*.py")):
            if room != "src/ringkas" or not {"export", "quantize", "runtimes"} & set(file.parts):
                found.append(file)
    return found


def _room(file: Path, root: Path) -> str:
    return file.parent.relative_to(root).as_posix()


def _dotted(file: Path, root: Path) -> str:
    name = file.relative_to(root).as_posix().removesuffix(".py").removesuffix("/__init__").replace("/", ".")
    return name.removeprefix("src.") if name.startswith("src.") else f"ringkas.{name}"


def _imported(text: str, name: str, modules: dict[str, Path]) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return (found & set(modules)) - {name, "ringkas"}


if __name__ == "__main__":
    main()
