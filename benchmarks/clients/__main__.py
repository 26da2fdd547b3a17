"""Every client that people use, on artifacts of one model: a table of the least cosine with the facade.

    python benchmarks/clients DIST [--only NAME]... [--target TARGET]... [--json FILE] [--guide FILE]
    python benchmarks/clients --add FILE                  # of a run that wrote elsewhere, beside this one
    python benchmarks/clients --guide docs/clients.md     # writes the table of the results file again

DIST has an artifact in a folder of its target's name, and gets `named` and `flat` forms. Each client has
an environment under .peers, which is made on first use and kept. Rows that FILE has of other clients or
targets stay. Exit status 1: a row shows no agreement, and nothing explains it.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from results_file import made, write_result

from clients.measure import Row, Subject, measure, not_run
from clients.rows import CLIENTS, Client
from clients.table import RESULTS, read_rows, write_guide
from ringkas.errors import RingkasError


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("dist", type=Path, nargs="?")
    parser.add_argument("--only", action="append", default=[], help="clients whose name begins so")
    parser.add_argument("--target", action="append", default=[])
    parser.add_argument("--json", type=Path, default=RESULTS)
    parser.add_argument("--add", type=Path, action="append", default=[], help="rows of another run's file")
    parser.add_argument("--guide", type=Path)
    options = parser.parse_args()
    for file in options.add:
        for row in read_rows(file):
            keep(options.json, row)
    failed = False
    if options.dist is not None:
        for row in run(options):
            keep(options.json, row)
            failed |= bool(row["failed"])
            print(row["client"], row["target"], row["least"], row["differs"], row["failed"], flush=True)
    if options.guide is not None:
        write_guide(options.guide, read_rows(options.json))
    sys.exit(failed)


def run(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """A row for each client with each of its targets that is there."""
    subjects = {}
    for client in CLIENTS:
        if options.only and not any(client.name.startswith(name) for name in options.only):
            continue
        for target in client.targets:
            if (options.target and target not in options.target) or not (options.dist / target).is_dir():
                continue
            if target not in subjects:
                subjects[target] = Subject(options.dist, target)
            yield asdict(_row(client, subjects[target])) | {"commit": made()["commit"]}


def _row(client: Client, of: Subject) -> Row:
    if client.missing:
        return not_run(client, of.artifact.manifest.target, client.missing)
    try:
        return measure(client, of)
    except (RingkasError, RuntimeError, OSError, subprocess.SubprocessError) as error:
        return not_run(client, of.artifact.manifest.target, str(error)[:400])


def keep(file: Path, row: dict[str, Any]) -> None:
    """Puts a row into the results file, in place of the one that it has of this client and target."""
    found = json.loads(file.read_text(encoding="utf-8"))["rows"] if file.is_file() else []
    found = [one for one in found if (one["client"], one["target"]) != (row["client"], row["target"])]
    keys = [(client.name, target) for client in CLIENTS for target in client.targets]
    places = {key: place for place, key in enumerate(keys)}
    found = [one for one in [*found, row] if (one["client"], one["target"]) in places]
    found.sort(key=lambda one: places[one["client"], one["target"]])
    write_result(file, {"texts": "benchmarks/clients/cases.py", "rows": found})


if __name__ == "__main__":
    main()
