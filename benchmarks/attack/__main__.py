"""The campaign of attacks: files, texts, kills, threads. It goes on from its results file.

python benchmarks/attack files --hours 1
python benchmarks/attack files --tries 2000
python benchmarks/attack files --replay 1234      # one try again, with what became of it
python benchmarks/attack table                    # what the results files hold, a line a kind
"""

from __future__ import annotations

import argparse
import json
import sys
from importlib import import_module
from pathlib import Path

_BENCHMARKS = Path(__file__).resolve().parents[1]
sys.path[:1] = [str(_BENCHMARKS), str(_BENCHMARKS.parent / "src")]

from attack.record import Budget, Record, rows, run  # noqa: E402

KINDS = ("files", "texts", "kills", "threads")
RESULTS = _BENCHMARKS / "results" / "attack"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("kind", choices=(*KINDS, "table"))
    parser.add_argument("--hours", type=float, default=float("inf"))
    parser.add_argument("--tries", type=int, help="stop after so many more")
    parser.add_argument("--results", type=Path, help="the file to go on from")
    parser.add_argument(
        "--work", type=Path, default=Path("dist/attack"), help="what is attacked is kept here"
    )
    parser.add_argument("--anew", action="store_true", help="forget what the results file holds")
    parser.add_argument("--replay", type=int, metavar="NUMBER", help="one try again, and nothing recorded")
    options = parser.parse_args()
    if options.kind == "table":
        files = [RESULTS / f"{kind}.json" for kind in KINDS]
        print(rows([Record.resume(file.stem, file) for file in files if file.is_file()]))
        return
    file = options.results or RESULTS / f"{options.kind}.json"
    if options.anew:
        file.unlink(missing_ok=True)
    campaign = import_module(f"attack.{options.kind}")
    record = Record.resume(options.kind, file)
    with campaign.open_campaign(options.work.absolute(), record) as batch:
        if options.replay is not None:
            print(json.dumps(vars(next(iter(batch(options.replay)))), indent=1))
            return
        tries = float("inf") if options.tries is None else options.tries
        run(record, batch, Budget(options.hours * 3600, tries))
    print(record.table())
    for name, tally in record.tallies.items():
        for example in tally.examples:
            print(f"BAD {name}: {example}")
    sys.exit(1 if record.bad else 0)


if __name__ == "__main__":
    main()
