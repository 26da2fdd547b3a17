"""This project's artifacts beside the field's engines, all in one interleaved run on the demo checkpoint.

    python benchmarks/against_peers.py [--texts FILE] [--rounds 5] [--out benchmarks/results] [--name peers]

Builds the artifacts that are not in --dist yet, prepares the peers that are not ready yet
(benchmarks/peers/prepare.py), measures everything in processes of their own, rounds interleaved, and writes
NAME.json, NAME.md and NAME.html. A peer that cannot be prepared is named on stderr and left out.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

from results_file import made_line

from ringkas import build_all, open_checkpoint
from ringkas.errors import RingkasError
from ringkas.files import write_json, write_text
from ringkas.progress import Progress
from ringkas.runtimes.measure.bench import Lineup, bench
from ringkas.runtimes.measure.cases import SCENARIOS
from ringkas.runtimes.measure.report import to_html, to_markdown
from ringkas.runtimes.measure.rounds import Procedure
from ringkas.runtimes.measure.worker import Subject
from ringkas.text_files import read_texts

_PREPARE = Path(__file__).parent / "peers" / "prepare.py"
TARGETS = (
    "onnx-fp32", "onnx-fp16", "onnx-int8", "onnx-int4",
    "gguf-f16", "gguf-q8_0", "gguf-q5_0-gptq", "gguf-iq4_nl-gptq",
)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--texts", type=Path, help="one a line  [default: the built-in English ones]")
    parser.add_argument("--only", action="append", default=[], metavar="PEER")
    parser.add_argument("--targets", nargs="*", default=TARGETS)
    parser.add_argument("--scenario", action="append", choices=SCENARIOS, dest="scenarios")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--dist", type=Path, default=Path("dist/peers"))
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    parser.add_argument("--name", default="peers")
    options = parser.parse_args()
    lineup = Lineup(
        artifacts=tuple(build_missing(options.targets, options.dist)),
        reference="demo",
        peers=tuple(prepared(options.only)),
        texts=tuple(read_texts(options.texts)) if options.texts else (),
    )
    scenarios = tuple(options.scenarios or Procedure.scenarios)
    result = bench(
        lineup, Procedure(rounds=options.rounds, threads=options.threads, scenarios=scenarios), Progress()
    )
    options.out.mkdir(parents=True, exist_ok=True)
    write_json(options.out / f"{options.name}.json", result)
    write_text(options.out / f"{options.name}.md", f"{to_markdown(result)}\n{made_line()}\n")
    write_text(options.out / f"{options.name}.html", to_html(result))
    print(to_markdown(result))


def build_missing(targets: list[str], dist: Path) -> list[Path]:
    """The demo checkpoint's artifacts, without those that this machine lacks the engine of."""
    made = []
    for target in targets:
        if not (dist / target).exists():
            try:
                build_all(open_checkpoint("demo"), [target], dist, progress=Progress())
            except RingkasError as error:
                print(f"{target} is left out: {error}", file=sys.stderr)
                continue
        made.append(dist / target)
    return made


def prepared(only: list[str]) -> list[Subject]:
    """Every peer that is ready, after preparing those that were not."""
    command = [sys.executable, str(_PREPARE), *(word for name in only for word in ("--only", name))]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    peers = map(json.loads, done.stdout.splitlines())
    return [
        Subject(peer["name"], command=tuple(peer["command"]), model=peer["model"], size=peer["size_bytes"])
        for peer in peers
    ]


if __name__ == "__main__":
    main()
