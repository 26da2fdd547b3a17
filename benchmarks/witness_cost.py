"""What the witness costs: a build's comparison with the checkpoint's own library, beyond importing that.

    python benchmarks/witness_cost.py [MODEL] [--rounds 3] [--json FILE]

Each round is a fresh process, for the library opens its model once. `import` is what sentence-transformers
takes to be imported after ringkas's own reference has run, `claim` what the reference is asked besides a
build's probe set, `hear` the library's opening of the folder, its ids and vectors.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

from results_file import write_result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", nargs="?", default="demo")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--once", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.once:
        print(json.dumps(once(options.model)))
        return
    command = [sys.executable, __file__, options.model, "--once"]
    rounds = [
        json.loads(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout)
        for _ in range(options.rounds)
    ]
    report = {
        "model": options.model,
        "rounds": rounds,
        "median": {key: round(median(one[key] for one in rounds), 2) for key in rounds[0]},
    }
    print(json.dumps(report, indent=1))
    if options.json:
        write_result(options.json, report)


def once(model: str) -> dict[str, float]:
    """Seconds of each step in this process."""
    from ringkas import texts
    from ringkas.checkpoint import open_checkpoint
    from ringkas.runtimes.encoder import load_reference_encoder
    from ringkas.runtimes.parity.witness import claim, hear

    checkpoint = open_checkpoint(model)
    groups = texts.probe(checkpoint.languages)
    with load_reference_encoder(checkpoint) as encoder:
        encoder.encode(["What any build does first."])
        started = time.perf_counter()
        claimed = claim(checkpoint, encoder, groups)
        claim_seconds = time.perf_counter() - started
    started = time.perf_counter()
    import sentence_transformers  # noqa: F401

    import_seconds = time.perf_counter() - started
    started = time.perf_counter()
    hear(checkpoint, claimed)
    hear_seconds = time.perf_counter() - started
    return {
        "import": import_seconds,
        "claim": claim_seconds,
        "hear": hear_seconds,
        "beyond the import": claim_seconds + hear_seconds,
    }


if __name__ == "__main__":
    main()
