"""Talks to every peer that is ready, and compares its vectors with the PyTorch reference's.

    python benchmarks/peers/check.py [--only NAME] [--json benchmarks/results/peers_parity.json]

No times: those come from `make bench-peers`. A table of speeds means nothing beside vectors that are wrong.
"""

from __future__ import annotations

import argparse
import base64
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

from ringkas import load_reference_encoder, texts
from ringkas.runtimes.parity.judge import cosine

# Over the demo checkpoint's limit: all must truncate alike. The probe set has such texts too.
LONG = "a sentence that goes on and on " * 60


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", action="append", default=[], metavar="NAME")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    sample = list(texts.probe(["en"])["en"])
    with load_reference_encoder("demo", threads=options.threads) as encoder:
        expected = encoder.encode([*sample, LONG])
        lengths = np.array([len(ids) for ids in encoder.tokenizer.encode([*sample, LONG])])
        cut = lengths == encoder.spec.max_length
    rows = {}
    for peer in ready(options.only):
        try:
            rows[peer["name"]] = compare(peer, [*sample, LONG], (expected, cut), options.threads)
        except RuntimeError as error:
            rows[peer["name"]] = {"error": str(error)}
        print(peer["name"], json.dumps(rows[peer["name"]]), flush=True)
    if options.json:
        sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
        from results_file import write_result

        report = {"texts": int((~cut).sum()), "texts_over_the_limit": int(cut.sum()), "peers": rows}
        write_result(options.json, report)


def ready(only: list[str]) -> list[dict[str, Any]]:
    chosen = [argument for name in only for argument in ("--only", name)]
    command = [sys.executable, str(Path(__file__).with_name("prepare.py")), "--list", *chosen]
    lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    return [json.loads(line) for line in lines]


def compare(
    peer: dict[str, Any], sample: list[str], expected: tuple[np.ndarray, np.ndarray], threads: int
) -> dict[str, Any]:
    """Cosines with the expected vectors, those of the texts that were cut apart from the others.

    Raises:
        RuntimeError: the peer ended early; the last line that it said.
    """
    requests = [
        {"do": "encode", "texts": sample},
        {"do": "warm_up", "case": "one", "texts": sample[:1], "each": True},
        {"do": "time", "case": "one", "seconds": 0, "each": True},
        {"do": "memory"},
    ]
    argument = json.dumps({"model": peer["model"], "threads": threads})
    done = subprocess.run(
        [*peer["command"], argument],
        input="".join(json.dumps(request) + "\n" for request in requests),
        capture_output=True,
        text=True,
        check=False,
    )
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    if len(answers) != len(requests) + 1:
        raise RuntimeError(done.stderr.strip().splitlines()[-1] if done.stderr else "it said nothing")
    loaded, encoded, _, timed, memory = answers
    vectors = np.frombuffer(base64.b64decode(encoded["vectors"]), dtype="<f4").reshape(encoded["shape"])
    reference, cut = expected
    cosines = cosine(reference, vectors)
    assert len(timed["samples"]) >= 3
    assert memory["peak_bytes"] > 0
    return {
        "cosine_min": round(float(cosines[~cut].min()), 6),
        "cosine_mean": round(float(cosines[~cut].mean()), 6),
        "cosine_min_over_the_limit": round(float(cosines[cut].min()), 6),
        "largest_deviation_from_length_1": float(np.abs(np.linalg.norm(vectors, axis=1) - 1).max().round(7)),
        "size_bytes": peer["size_bytes"],
        "versions": loaded["versions"],
    }


if __name__ == "__main__":
    main()
